package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/internal/atomicfile"
	"pumice/tokenizer"
)

func (p *program) logitsCommand() *cli.Command {
	flags := []cli.Flag{
		stringFlag("prompt", "", "evaluate `TEXT`", "p"),
		stringFlag("prompt-file", "", "evaluate the text in `FILE`; - is standard input", "file", "f"),
		stringFlag("tokens", "", "evaluate the token ids `IDS`, such as 1,2,3; needs no tokenizer"),
		boolFlag("all", false, "compute the logits of every position, not only the last"),
		stringFlag("output", "",
			"write the logits to `FILE`: little-endian float32, one row of the vocabulary's size for each position"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "logits",
		Category:  ofTokens,
		Usage:     "evaluate a prompt and show the likeliest next tokens, or write all logits",
		ArgsUsage: "[MODEL]",
		Description: "What is piped into standard input comes after the text of -p or --prompt-file, with an empty line between them, or is the\n" +
			"prompt alone.",
		Flags:  slices.Concat(flags, modelFlags(), splitFlags()),
		Action: p.logits,
	}
}

// logitsResult is what --json writes.
type logitsResult struct {
	N      int           `json:"n"` // rows
	Vocab  int           `json:"vocab"`
	Argmax []int         `json:"argmax"` // of each row
	Top    []likelyToken `json:"top"`    // the likeliest tokens after the last position, likeliest first
}

// A likelyToken is one of the next tokens.
type likelyToken struct {
	ID          int     `json:"id"`
	Text        string  `json:"text"` // the token by itself, special tokens too; "" without a tokenizer
	Logit       float32 `json:"logit"`
	Probability float64 `json:"probability"`
}

func (p *program) logits(c *cli.Context) error {
	ctx := c.Context
	engine, ids, err := p.openWithPrompt(ctx, c)
	if err != nil {
		return err
	}
	defer engine.Close()
	argmax, last, err := logitsTo(ctx, c.String("output"), engine, ids, c.Bool("all"))
	if err != nil {
		return err
	}
	result := logitsResult{len(argmax), len(last), argmax, likeliest(engine.Tokenizer(), ids[len(ids)-1], last)}
	if c.Bool("json") {
		return p.writeJSON(result)
	}
	return p.printLogits(result)
}

// logitsTo calls eachRow and writes the rows to the file called name, or nowhere if name is "".
func logitsTo(ctx context.Context, name string, engine *pumice.Engine, ids []int, all bool) (argmax []int, last []float32, err error) {
	if name == "" {
		return eachRow(ctx, engine, ids, all, func([]float32) error { return nil })
	}
	err = atomicfile.Write(name, func(f *os.File) error {
		w := bufio.NewWriter(f)
		argmax, last, err = eachRow(ctx, engine, ids, all, func(row []float32) error { return binary.Write(w, binary.LittleEndian, row) })
		if err != nil {
			return err
		}
		return w.Flush()
	})
	return argmax, last, err
}

// eachRow evaluates ids and passes each row of logits to write. It returns the token with the largest logit of each
// row, and the last row.
func eachRow(ctx context.Context, engine *pumice.Engine, ids []int, all bool, write func([]float32) error) (argmax []int, last []float32, err error) {
	for row, err := range engine.NewSession().Logits(ctx, ids, all) {
		if err != nil {
			return nil, nil, err
		}
		best := 0
		for id, l := range row {
			if l > row[best] {
				best = id
			}
		}
		argmax = append(argmax, best)
		last = append(last[:0], row...)
		if err := write(row); err != nil {
			return nil, nil, err
		}
	}
	return argmax, last, nil
}

// likeliest returns the ten likeliest tokens of a row of logits, after a token. tok may be nil.
func likeliest(tok *tokenizer.Tokenizer, before int, row []float32) []likelyToken {
	ids := make([]int, len(row))
	for id := range row {
		ids[id] = id
	}
	slices.SortStableFunc(ids, func(a, b int) int { return cmp.Compare(row[b], row[a]) })
	sum, top := 0.0, row[ids[0]]
	for _, l := range row {
		sum += math.Exp(float64(l - top))
	}
	list := []likelyToken{}
	for _, id := range ids[:min(10, len(ids))] {
		list = append(list, likelyToken{id, spell(tok, before, id), row[id], math.Exp(float64(row[id]-top)) / sum})
	}
	return list
}

func (p *program) printLogits(r logitsResult) error {
	if r.N > 1 {
		if err := p.printf("largest at each of %d positions: %v\n", r.N, r.Argmax); err != nil {
			return err
		}
	}
	for _, t := range r.Top {
		text := ""
		if t.Text != "" {
			text = fmt.Sprintf("  %q", t.Text)
		}
		if err := p.printf("%7d  %10.4f  %6.2f %%%s\n", t.ID, t.Logit, 100*t.Probability, text); err != nil {
			return err
		}
	}
	return nil
}
