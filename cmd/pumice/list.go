package main

import (
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/humanize"
	"pumice/store"
)

func (p *program) listCommand() *cli.Command {
	return &cli.Command{
		Name:     "list",
		Category: ofModels,
		Usage:    "list the models on this machine that have a name",
		Description: "These are the models in the Hugging Face Hub's cache, whatever program fetched them, those of ollama, and " + pumice.DefaultModel + ".\n" +
			"Other commands take each NAME as MODEL.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.list,
	}
}

// listed is what list --json writes for each model.
type listed struct {
	Name       string    `json:"name"`
	Bytes      int64     `json:"bytes"`
	Modified   time.Time `json:"modified"`
	Source     string    `json:"source"` // hub, ollama or pumice
	Path       string    `json:"path"`
	Incomplete bool      `json:"incomplete"`
}

// ownSource is the source of the models that pumice itself names.
const ownSource = "pumice"

func (p *program) list(c *cli.Context) error {
	if err := noMoreArgs(c, 0); err != nil {
		return err
	}
	found, err := store.List()
	if err != nil {
		return err
	}
	all := []listed{}
	if path, err := pumice.Resolve(pumice.DefaultModel); err == nil {
		if info, err := os.Stat(path); err == nil {
			source := ownSource
			if slices.ContainsFunc(found, func(m store.Model) bool { return m.Path == path }) {
				source = "hub"
			}
			all = append(all, listed{Name: pumice.DefaultModel, Bytes: info.Size(), Modified: info.ModTime(), Source: source, Path: path})
		}
	}
	for _, m := range found {
		all = append(all, listed(m))
	}
	if c.Bool("json") {
		return p.writeJSON(all)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSIZE\tMODIFIED\tFROM")
	for _, m := range all {
		from := m.Source
		if m.Incomplete {
			from += ", incomplete"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", m.Name, humanize.Bytes(m.Bytes), m.Modified.Format("2006-01-02 15:04"), from)
	}
	return w.Flush()
}

func (p *program) rmCommand() *cli.Command {
	return &cli.Command{
		Name:      "rm",
		Category:  ofModels,
		Usage:     "remove models from the Hugging Face Hub's cache",
		ArgsUsage: "NAME...",
		Description: "hf:owner/name removes all of a repository, hf:owner/name:file one model of it, hf:owner/name@revision one snapshot. Files that\n" +
			"another snapshot has stay. It does not ask. ollama's models are not removed: ollama rm does that.",
		Flags:  []cli.Flag{jsonFlag()},
		Action: p.rm,
	}
}

// removed is what rm --json writes for each model.
type removed struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
	Bytes int64  `json:"freed_bytes"`
}

func (p *program) rm(c *cli.Context) error {
	if c.NArg() == 0 {
		return &usageError{"rm: want the name of a model; pumice list lists them"}
	}
	all := []removed{}
	for _, name := range c.Args().Slice() {
		done, err := remove(name)
		if err != nil {
			return err
		}
		all = append(all, removed{name, done.Files, done.Bytes})
		if !c.Bool("json") {
			if err := p.printf("%s: %s freed\n", name, humanize.Bytes(done.Bytes)); err != nil {
				return err
			}
		}
	}
	if c.Bool("json") {
		return p.writeJSON(all)
	}
	return nil
}

func remove(name string) (store.Removed, error) {
	if name != pumice.DefaultModel {
		return store.Remove(name)
	}
	path, err := pumice.Resolve(name)
	if err != nil {
		return store.Removed{}, err
	}
	if path == name {
		return store.Removed{}, fmt.Errorf("%s is a file or directory here, and not the model of that name", name)
	}
	if found, err := store.Find(pumice.DefaultModelSource); err == nil && found == path {
		return store.Remove(pumice.DefaultModelSource)
	}
	info, err := os.Stat(path)
	if err != nil {
		return store.Removed{}, err
	}
	return store.Removed{Files: 1, Bytes: info.Size()}, os.Remove(path)
}
