package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice/hub"
	"pumice/internal/humanize"
	"pumice/store"
)

func (p *program) pullCommand() *cli.Command {
	return &cli.Command{
		Name:      "pull",
		Category:  ofModels,
		Usage:     "fetch models from the Hugging Face Hub",
		ArgsUsage: "hf:owner/name[:file][@revision]...",
		Description: "Without a file it fetches what a model needs: safetensors, else torch weights, with configuration and tokenizer, else the GGUF\n" +
			"file, of several the " + store.DefaultQuantisation + " one. A file is a name, a pattern such as '*Q8_0*', or a quantisation such as Q8_0. All files of a\n" +
			"split GGUF are fetched. They go into the Hub's cache (HF_HUB_CACHE, HF_HOME), where other programs find them too, and each\n" +
			"is compared with its hash. What was interrupted goes on where it ended.\n" +
			"HF_ENDPOINT names another server, and HF_TOKEN gives a token. No other command uses the network, but serve, which listens.",
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
		r, err := store.ParseRef(name)
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
		done, err := p.pullOne(c, r)
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

func (p *program) pullOne(c *cli.Context, r store.Ref) (*pulled, error) {
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
	got, err := client.Pull(c.Context, r)
	if err != nil {
		return nil, err
	}
	done := &pulled{Name: r.String(), Models: got.Models, Commit: got.Commit, Bytes: got.Bytes, Fetched: got.Fetched}
	for _, f := range got.Files {
		done.Files = append(done.Files, f.Name)
	}
	return done, nil
}
