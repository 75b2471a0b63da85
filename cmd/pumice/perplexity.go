package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/eval"
	"pumice/internal/atomicfile"
)

func (p *program) perplexityCommand() *cli.Command {
	flags := []cli.Flag{
		stringFlag("file", "", "read the text from `FILE`; - is standard input", "f"),
		stringFlag("tokens", "",
			"use the token ids `IDS` instead of a text; needs no tokenizer, and no BOS precedes a window"),
		intFlag("window", 512, "evaluate windows of `N` tokens (-c of llama-perplexity)"),
		intFlag("stride", 0,
			"begin a window every `N` tokens and score its last N; 0: side by side, scoring the second half of "+
				"each (--ppl-stride)"),
		intFlag("chunks", 0, "evaluate at most `N` windows; 0 is all"),
		stringFlag("kl-base", "",
			"write the log-probabilities to `FILE`, in llama-perplexity's format; --kl reads it instead"),
		boolFlag("kl", false, "compare with the log-probabilities in --kl-base, on the tokens in that file"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "perplexity",
		Category:  ofQuality,
		Usage:     "measure a model's perplexity on a text, and its divergence from another model",
		ArgsUsage: "[MODEL]",
		Flags:     slices.Concat(flags, modelFlags(), splitFlags()),
		Action:    p.perplexity,
	}
}

func (p *program) perplexity(c *cli.Context) error {
	given := 0
	for _, name := range []string{"file", "tokens"} {
		if c.String(name) != "" {
			given++
		}
	}
	switch kl := c.Bool("kl"); {
	case kl && (c.String("kl-base") == "" || given > 0 || c.IsSet("window") || c.IsSet("stride")):
		return &usageError{"--kl takes text and windows from the file of --kl-base: leave out --file, --tokens, --window and --stride"}
	case !kl && given != 1:
		return &usageError{"want one of --file and --tokens"}
	case c.Int("window") < 4 || c.Int("stride") < 0 || c.Int("chunks") < 0:
		return &usageError{"want --window of at least 4, and no negative --stride or --chunks"}
	case c.Int("stride") > 0 && c.String("kl-base") != "":
		return &usageError{"--kl-base takes windows side by side: leave out --stride"}
	}
	ctx := c.Context
	o := eval.PerplexityOptions{Context: c.Int("window"), Stride: c.Int("stride"), Chunks: c.Int("chunks"), BOS: -1}
	if o.Stride > 0 {
		o.Context += o.Stride / 2 // as llama-perplexity does
	}
	if c.Bool("kl") {
		f, err := os.Open(c.String("kl-base"))
		if err != nil {
			return err
		}
		defer f.Close()
		if o.Compare, err = eval.NewBaseReader(f); err != nil {
			return err
		}
		o.Context = o.Compare.Context
	}
	result, err := p.measurePerplexity(ctx, c, o)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.writeJSON(result)
	}
	if err := p.printf("PPL = %.4f +/- %.5f (%d tokens in %d windows of %d)\n", result.Perplexity, result.Error, result.Tokens, result.Chunks, result.Context); err != nil {
		return err
	}
	if kl := result.KL; kl != nil {
		return p.printf("base PPL = %.4f, ratio %.6f\nKL divergence = %.6f +/- %.6f, greatest %.6f\nsame top token: %.3f %%\nprobability of the right token: RMS difference %.3f %%, greatest %.3f %%\n",
			kl.BasePerplexity, kl.Ratio, kl.Mean, kl.Error, kl.Greatest, 100*kl.SameTop, 100*kl.ProbRMS, 100*kl.ProbGreatest)
	}
	return nil
}

// measurePerplexity loads the model with the context of a window.
func (p *program) measurePerplexity(ctx context.Context, c *cli.Context, o eval.PerplexityOptions) (result eval.PerplexityResult, err error) {
	name, err := onlyModel(c)
	if err != nil {
		return result, err
	}
	if !c.IsSet("context") {
		if err := c.Set("context", fmt.Sprint(o.Context)); err != nil {
			return result, err
		}
	}
	engine, err := p.open(ctx, c, name)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	ids, err := p.perplexityTokens(c, engine, &o)
	if err != nil {
		return result, err
	}
	o.Progress = func(r eval.PerplexityResult, of int) {
		p.note("[%d/%d] %.4f", r.Chunks, of, r.Perplexity)
	}
	base := c.String("kl-base")
	if base == "" || o.Compare != nil {
		return eval.Perplexity(ctx, engine, ids, o)
	}
	err = atomicfile.Write(base, func(f *os.File) error {
		o.Base = eval.NewBaseWriter(f, engine.Config().VocabSize)
		if result, err = eval.Perplexity(ctx, engine, ids, o); err != nil {
			return err
		}
		return o.Base.Flush()
	})
	return result, err
}

// perplexityTokens returns the tokens to evaluate and sets o.BOS.
func (p *program) perplexityTokens(c *cli.Context, engine *pumice.Engine, o *eval.PerplexityOptions) (ids []int, err error) {
	if text := c.String("tokens"); text != "" {
		return idArgument(text)
	}
	tok := engine.Tokenizer()
	if tok == nil && o.Compare != nil {
		return nil, nil
	}
	if tok == nil {
		return nil, &pumice.NoTokenizerError{Path: engine.Source().Path}
	}
	text := ""
	if o.Compare == nil {
		if text, err = p.readFile(c.String("file")); err != nil {
			return nil, err
		}
		text = strings.TrimSuffix(text, "\n") // as llama-perplexity does with a file
	}
	ids, o.BOS, err = eval.PerplexityTokens(tok, text)
	return ids, err
}
