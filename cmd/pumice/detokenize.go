package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/tokenizer"
)

func (p *program) detokenizeCommand() *cli.Command {
	return &cli.Command{
		Name:      "detokenize",
		Category:  ofTokens,
		Usage:     "turn token ids into text",
		ArgsUsage: "MODEL [IDS...]",
		Description: "The ids, such as 1,2,3, come from IDS, --file or standard input. MODEL may be a file or directory that holds only a\n" +
			"tokenizer. With --jsonl each line of standard input is {\"ids\":[...]}. In the JSON output, \"stream\" has the text that\n" +
			"each token completes, without special tokens; an incomplete character at the end is one more element.",
		Flags: []cli.Flag{
			stringFlag("file", "", "read the ids from `FILE`; - is standard input"),
			boolFlag("skip-special", false, "leave special tokens out of the text"),
			boolFlag("jsonl", false, "read and write one JSON object a line"),
			jsonFlag(),
		},
		Action: p.detokenize,
	}
}

// decoding is what --json writes.
type decoding struct {
	Text   string   `json:"text"`
	Stream []string `json:"stream"`
}

func (p *program) detokenize(c *cli.Context) error {
	name := c.Args().First()
	if name == "" {
		return &usageError{"detokenize: give a MODEL"}
	}
	tok, err := pumice.OpenTokenizer(c.Context, name)
	if err != nil {
		return err
	}
	skip := c.Bool("skip-special")
	if c.Bool("jsonl") {
		return p.eachLine(func(line []byte) (any, error) {
			var in struct {
				IDs []int `json:"ids"`
			}
			if err := json.Unmarshal(line, &in); err != nil {
				return nil, err
			}
			if in.IDs == nil {
				return nil, errors.New(`want {"ids":[...]}`)
			}
			return decode(tok, in.IDs, skip)
		})
	}
	text, err := p.inputText(c)
	if err != nil {
		return err
	}
	parse := parseIDs
	if c.NArg() > 1 {
		parse = idArgument
	}
	ids, err := parse(text)
	if err != nil {
		return err
	}
	d, err := decode(tok, ids, skip)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.writeJSON(d)
	}
	return p.prose(d.Text + "\n")
}

func decode(tok *tokenizer.Tokenizer, ids []int, skipSpecial bool) (decoding, error) {
	d := decoding{Stream: make([]string, 0, len(ids))}
	stream := tok.Stream()
	for i, id := range ids {
		if id < 0 || id >= tok.VocabSize() {
			return d, fmt.Errorf("detokenize: %w", &pumice.TokenError{Index: i, ID: id, VocabSize: tok.VocabSize()})
		}
		d.Stream = append(d.Stream, stream.Next(id))
	}
	if rest := stream.Flush(); rest != "" {
		d.Stream = append(d.Stream, rest)
	}
	d.Text = tok.Decode(ids, skipSpecial)
	return d, nil
}
