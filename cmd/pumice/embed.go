package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
)

func (p *program) embedCommand() *cli.Command {
	flags := []cli.Flag{
		&cli.StringFlag{Name: "pooling", EnvVars: env("pooling"), DefaultText: "the model's, else last",
			Usage: "take the hidden row of the last token, the mean of all, or that of the first: `POOLING` is last, mean or cls"},
		intFlag("dimensions", 0, "keep the first `N` components, of a model that was trained for it; 0 keeps all"),
		boolFlag("no-normalize", false, "leave the length of vectors as it is, instead of making it 1"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "embed",
		Category:  ofTokens,
		Usage:     "turn texts into embeddings: vectors to compare and search texts by",
		ArgsUsage: "MODEL [TEXT...]",
		Description: "Each TEXT, or each line of standard input, becomes a line with a JSON array of numbers. Words that a model was\n" +
			"trained to see before a question, such as \"Instruct: ...\", are part of TEXT.",
		Flags:  slices.Concat(flags, modelFlags(), splitFlags()),
		Action: p.embed,
	}
}

// embedResult is what --json writes.
type embedResult struct {
	Model      string     `json:"model"`
	Embeddings []embedded `json:"embeddings"`
}

type embedded struct {
	Index     int       `json:"index"`
	Embedding []float32 `json:"embedding"`
	Tokens    int       `json:"tokens"`
}

func (p *program) embed(c *cli.Context) error {
	if c.NArg() == 0 && !c.IsSet("model") && !c.IsSet("hf-repo") {
		return &usageError{"embed: give a MODEL"}
	}
	name, texts, err := modelArgs(c)
	if err != nil {
		return err
	}
	o := pumice.EmbedOptions{Pooling: pumice.Pooling(c.String("pooling")), Dimensions: c.Int("dimensions")}
	if o.Pooling != "" && !slices.Contains(pumice.Poolings(), o.Pooling) {
		return &usageError{fmt.Sprintf("--pooling %q: want last, mean or cls", o.Pooling)}
	}
	if c.Bool("no-normalize") {
		o.Normalization = pumice.NormalizeNone
	}
	engine, err := p.open(c.Context, c, name)
	if err != nil {
		return err
	}
	defer engine.Close()
	e := &embedder{program: p, engine: engine, o: o}
	e.all.Model = name
	e.together = c.Bool("json")
	if len(texts) > 0 {
		err = e.embed(c.Context, texts)
	} else {
		err = e.lines(c.Context, p.input("-"))
	}
	if err != nil || !e.together {
		return err
	}
	return p.writeJSON(e.all)
}

// An embedder embeds texts and writes their vectors, or keeps them to be written together.
type embedder struct {
	*program
	engine   *pumice.Engine
	o        pumice.EmbedOptions
	together bool
	all      embedResult
	n        int // texts before
}

// maxLines is how many lines of standard input are embedded at a time.
const maxLines = 64

// lines embeds the lines that are there at a time: another program may wait for their vectors.
func (e *embedder) lines(ctx context.Context, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var texts []string
	for {
		line, err := in.ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if line != "" {
			texts = append(texts, strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
		}
		if len(texts) == maxLines || len(texts) > 0 && in.Buffered() == 0 {
			if err := e.embed(ctx, texts); err != nil {
				return err
			}
			texts = texts[:0]
		}
		if err == io.EOF {
			break
		}
	}
	if e.n == 0 {
		return errors.New("embed: no texts on standard input")
	}
	return nil
}

func (e *embedder) embed(ctx context.Context, texts []string) error {
	spinner := e.spin()
	result, err := e.engine.Embed(ctx, texts, e.o)
	spinner.stop()
	if err != nil {
		if about := (*pumice.TextError)(nil); errors.As(err, &about) {
			about.Index += e.n
		}
		return err
	}
	for i, vector := range result.Vectors {
		if e.together {
			e.all.Embeddings = append(e.all.Embeddings, embedded{e.n + i, vector, result.Tokens[i]})
		} else if err := e.writeJSON(vector); err != nil {
			return err
		}
	}
	e.n += len(texts)
	return nil
}
