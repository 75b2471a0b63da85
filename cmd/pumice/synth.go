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

// synthCommand is for those who try the program itself, and not on the first page of the help.
func (p *program) synthCommand() *cli.Command {
	sizeFlag := func(name, usage string) cli.Flag {
		return &cli.IntFlag{Name: name, EnvVars: env(name), Usage: usage, DefaultText: "that of --size"}
	}
	return &cli.Command{
		Name:   "synth",
		Hidden: true,
		Usage:  "write a checkpoint with random weights, for tests of loading and memory",
		Description: "A directory has no tokenizer, a GGUF file a vocabulary that stands in for one: use --tokens. Families: " + strings.Join(synth.Families(), ", ") + ".\n" +
			"Sizes are those of published models, or " + synth.Tiny + "; flags change single numbers of them.",
		Flags: []cli.Flag{
			stringFlag("family", "", "`NAME` of the architecture"),
			stringFlag("size", synth.Tiny, "`SIZE` to start from, such as 7b"),
			stringFlag("type", "bf16", "`TYPE` of the matrices: f32, f16, bf16, q8_0, q4_0, q4_k, ..."),
			&cli.StringFlag{Name: "format", EnvVars: env("format"), Usage: "`FORMAT`: safetensors or gguf", DefaultText: "gguf for quantised types, else safetensors"},
			&cli.Uint64Flag{Name: "seed", EnvVars: env("seed"), Usage: "`SEED`: the same one gives the same weights"},
			stringFlag("output", "", "`PATH`: a directory that is made, or a .gguf file", "o"),
			sizeFlag("hidden", "`N` of the hidden size"),
			sizeFlag("layers", "`N` layers"),
			sizeFlag("heads", "`N` attention heads"),
			sizeFlag("kv-heads", "`N` key-value heads"),
			sizeFlag("head-dim", "`N` components of a head"),
			sizeFlag("intermediate", "`N` of the MLP's width"),
			sizeFlag("vocab", "`N` tokens of the vocabulary"),
			sizeFlag("context", "`N` positions"),
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
