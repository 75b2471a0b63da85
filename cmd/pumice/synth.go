package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice/internal/dtype"
	"pumice/internal/synth"
)

// synthCommand is for developers of the program, so the list of commands hides it.
func (p *program) synthCommand() *cli.Command {
	sizeFlag := func(name, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, EnvVars: env(name), Usage: usage, DefaultText: "that of --size"}
	}
	return &cli.Command{
		Name:   "synth",
		Hidden: true,
		Usage:  "write a checkpoint with random weights, for tests of loading and memory",
		Description: "The models have no real tokenizer: run them with --tokens. Families: " + strings.Join(synth.Families(), ", ") + ".\n" +
			"--size names a published model's size, or is " + synth.Tiny + "; the flags after --output change one number of it each.",
		Flags: []cli.Flag{
			stringFlag("family", "", "write a model of the family `NAME`"),
			stringFlag("size", synth.Tiny, "start from `SIZE`, such as 7b"),
			stringFlag("type", "bf16", "store the matrices as `TYPE`, such as f32, bf16, q8_0 or q4_k"),
			&cli.StringFlag{Name: "format", EnvVars: env("format"), Usage: "write `FORMAT`: safetensors or gguf", DefaultText: "gguf for quantised types, else safetensors"},
			&cli.Uint64Flag{Name: "seed", EnvVars: env("seed"), Usage: "start random numbers from `SEED`; the same seed gives the same weights"},
			stringFlag("output", "", "write to `PATH`, a new directory or a new .gguf file", "o"),
			sizeFlag("hidden", "use hidden size `N`"),
			sizeFlag("layers", "use `N` layers"),
			sizeFlag("heads", "use `N` attention heads"),
			sizeFlag("kv-heads", "use `N` key-value heads"),
			sizeFlag("head-dim", "use head dimension `N`"),
			sizeFlag("intermediate", "use intermediate size `N` of the MLP"),
			sizeFlag("vocab", "use a vocabulary of `N` tokens"),
			sizeFlag("context", "use a context of `N` positions"),
		},
		Action: p.synth,
	}
}

func (p *program) synth(c *cli.Context) error {
	if err := noMoreArgs(c, 0); err != nil {
		return err
	}
	for _, name := range []string{"family", "output"} {
		if c.String(name) == "" {
			return &usageError{fmt.Sprintf("synth: --%s is missing", name)}
		}
	}
	s, err := synth.Lookup(c.String("family"), c.String("size"))
	if err != nil {
		return &usageError{err.Error()}
	}
	s = s.Resized(synth.Shape{
		Hidden: c.Int("hidden"), Layers: c.Int("layers"), Heads: c.Int("heads"), KVHeads: c.Int("kv-heads"), HeadDim: c.Int("head-dim"),
		Intermediate: c.Int("intermediate"), Vocab: c.Int("vocab"), Context: c.Int("context"),
	})
	parameters, err := s.Parameters()
	if err != nil {
		return &usageError{err.Error()}
	}
	o := synth.Options{Seed: c.Uint64("seed")}
	if o.DType, err = dtype.Parse(c.String("type")); err != nil {
		return &usageError{err.Error()}
	}
	if o.DType.BlockSize() > 1 {
		o.Format = synth.GGUF
	}
	if c.IsSet("format") {
		if o.Format, err = synth.ParseFormat(c.String("format")); err != nil {
			return &usageError{err.Error()}
		}
	}
	bar := p.newBar("writing")
	defer bar.close()
	ctx := c.Context
	o.Progress = bar.set
	err = synth.Write(ctx, c.String("output"), s, o)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("%w: nothing is overwritten", err)
	}
	bar.close()
	if err == nil {
		p.note("%s: %d parameters of %s %s as %s", c.String("output"), parameters, s.Family, c.String("size"), o.DType)
	}
	return err
}
