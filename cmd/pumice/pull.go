package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/hub"
	"pumice/internal/humanize"
	"pumice/store"
)

func (p *program) pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Category:  ofModels,
		Usage:     "fetch models from the Hugging Face Hub",
		ArgsUsage: "hf:owner/name[:file][@revision]|smollm2...",
		Description: "Without a file it fetches what a model needs: safetensors, else torch weights, with configuration and tokenizer, else the GGUF\n" +
			"file, of several the " + store.DefaultQuantisation + " one. A file is a name, a pattern such as '*Q8_0*', or a quantisation such as Q8_0. All files of a\n" +
			"split GGUF are fetched. They go into the Hub's cache (HF_HUB_CACHE, HF_HOME), where other programs find them too, and each\n" +
			"is compared with its hash. What was interrupted goes on where it ended.\n" +
			"HF_ENDPOINT names another server, and HF_TOKEN gives a token. Other commands use the network only with -hf, and serve listens.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.pull,
	}
}

// pulled is what pull --json writes for each model.
type pulled struct {
	Name    string   `json:"name"`
	Models  []string `json:"models"` // names that other commands take
	Commit  string   `json:"commit"`
	Files   []string `json:"files"`
	Bytes   int64    `json:"bytes"`
	Fetched int64    `json:"fetched_bytes"`
}

func (p *program) pull(c *cli.Context) error {
	if c.NArg() == 0 {
		return &usageError{"pull: want the name of a model, such as hf:owner/name:Q4_K_M"}
	}
	var refs []store.Ref
	for _, name := range c.Args().Slice() {
		source := name
		if name == pumice.DefaultModel {
			source = pumice.DefaultModelSource
		}
		r, err := store.ParseRef(source)
		if ollama, ok := strings.CutPrefix(name, "ollama:"); ok {
			return &usageError{fmt.Sprintf("pull %s: ollama fetches its models (ollama pull %s), and pumice reads them where they are", name, ollama)}
		}
		if err != nil {
			return &usageError{"pull: " + strings.TrimPrefix(err.Error(), "store: ")}
		}
		refs = append(refs, r)
	}
	all := []pulled{}
	for _, r := range refs {
		done, err := p.pullOne(c.Context, r)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			all = append(all, *done)
			continue
		}
		for _, name := range done.Models {
			if err := p.printf("%s\n", name); err != nil {
				return err
			}
		}
		p.note("%s: %s, of which %s were fetched", r, humanize.Bytes(done.Bytes), humanize.Bytes(done.Fetched))
	}
	if c.Bool("json") {
		return p.writeJSON(all)
	}
	return nil
}

// pullOne fetches a model. Of the default one the contents are known.
func (p *program) pullOne(ctx context.Context, r store.Ref) (*pulled, error) {
	o, err := hub.Environment()
	if err != nil {
		return nil, err
	}
	bar := p.newBar("fetching")
	defer bar.close()
	o.Agent, o.Progress = "pumice", bar.set
	o.Note = func(text string) {
		bar.close()
		p.note("%s", strings.TrimPrefix(text, "hub: "))
	}
	client, err := hub.New(o)
	if err != nil {
		return nil, err
	}
	got, err := client.Pull(ctx, r)
	if err != nil {
		return nil, err
	}
	if r.String() == pumice.DefaultModelSource {
		if err := checkDefault(); err != nil {
			return nil, err
		}
		got.Models = []string{pumice.DefaultModel}
	}
	done := &pulled{Name: r.String(), Models: got.Models, Commit: got.Commit, Bytes: got.Bytes, Fetched: got.Fetched}
	for _, f := range got.Files {
		done.Files = append(done.Files, f.Name)
	}
	return done, nil
}

// checkDefault compares the default model with the hash that this program knows: whatever server it came from, it is that file. Another
// one is removed.
func checkDefault() error {
	path, err := store.Find(pumice.DefaultModelSource)
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) == pumice.DefaultModelSHA256 {
		return nil
	}
	_, err = store.Remove(pumice.DefaultModelSource)
	return errors.Join(fmt.Errorf("%s is not the file that %s stands for, and is removed", path, pumice.DefaultModel), err)
}

// fetchMissing fetches a model that is not on this machine: one of -hf, and the default one if a person at the terminal wants it. What
// it does not fetch, opening the model complains about.
func (p *program) fetchMissing(c *cli.Context, name string) error {
	_, err := pumice.Resolve(name)
	var absent *pumice.ModelError
	if !errors.As(err, &absent) || !absent.Hub {
		return nil
	}
	source := name
	switch {
	case name == hubModel(c):
	case name != pumice.DefaultModel || p.quiet || !isTerminal(p.stdin) || !p.stderr.terminal:
		return nil
	default:
		if yes, err := p.offerDefault(); err != nil || !yes {
			return err
		}
		source = pumice.DefaultModelSource
	}
	r, err := store.ParseRef(source)
	if err == nil {
		_, err = p.pullOne(c.Context, r)
	}
	return err
}

// offerDefault asks whether to fetch the default model.
func (p *program) offerDefault() (yes bool, err error) {
	fmt.Fprintf(p.stderr, "%s (SmolLM2-135M-Instruct, 94 MiB, Apache-2.0) is not on this machine. Fetch it from the Hugging Face Hub? [Y/n] ", pumice.DefaultModel)
	answer, err := p.readLine()
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "", "y", "yes":
		return err == nil, err
	}
	return false, err
}

// readLine reads a line that a person types.
func (p *program) readLine() (string, error) {
	in := p.input("-")
	var line []byte
	for b := make([]byte, 1); ; line = append(line, b[0]) {
		if n, err := in.Read(b); n == 0 || b[0] == '\n' {
			if err == io.EOF {
				err = nil
			}
			return string(line), err
		}
	}
}
