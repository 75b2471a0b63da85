package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/chat"
	"pumice/tokenizer"
)

func (p *program) tokenizeCommand() *cli.Command {
	return &cli.Command{
		Name:      "tokenize",
		Category:  ofTokens,
		Usage:     "turn text or a conversation into token ids",
		ArgsUsage: "MODEL [TEXT...]",
		Description: "The text comes from TEXT, --file or standard input. MODEL may be a file or directory that holds only a tokenizer.\n" +
			"With --jsonl each line of standard input is {\"text\":...} or {\"messages\":[{\"role\":...,\"content\":...},...]}.",
		Flags: []cli.Flag{
			stringFlag("file", "", "read the text from `FILE`; - is standard input"),
			stringFlag("messages", "",
				"encode the conversation in `FILE`, [{\"role\":...,\"content\":...},...]; - is standard input"),
			chatTemplateFlag(),
			boolFlag("add-special", true, "add the tokens that the tokenizer puts around a text, such as BOS"),
			boolFlag("parse-special", false, "turn special tokens that the text spells out into those tokens"),
			boolFlag("jsonl", false, "read and write one JSON object a line"),
			jsonFlag(),
		},
		Action: p.tokenize,
	}
}

// encoding is what --json writes.
type encoding struct {
	IDs    []int    `json:"ids"`
	Pieces []string `json:"pieces"` // as the vocabulary spells them
}

// encoder turns text and conversations into token ids.
type encoder struct {
	ctx       context.Context
	tokenizer *tokenizer.Tokenizer
	options   tokenizer.EncodeOptions
	format    func() (*chat.Format, error) // opened when first needed
}

func (p *program) tokenize(c *cli.Context) error {
	name := c.Args().First()
	if name == "" {
		return &usageError{"tokenize: give a MODEL"}
	}
	tok, err := pumice.OpenTokenizer(c.Context, name)
	if err != nil {
		return err
	}
	var format *chat.Format
	e := &encoder{c.Context, tok, tokenizer.EncodeOptions{AddSpecial: c.Bool("add-special"), ParseSpecial: c.Bool("parse-special")}, func() (*chat.Format, error) {
		if format != nil {
			return format, nil
		}
		var err error
		format, err = pumice.OpenChatFormat(c.Context, name, c.String("chat-template"))
		return format, err
	}}
	if c.Bool("jsonl") {
		return p.eachLine(e.line)
	}
	ids, err := p.encodeInput(c, e)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.writeJSON(e.encoding(ids))
	}
	for _, id := range ids {
		text := tok.Piece(id)
		if b, ok := tok.TokenBytes(id); ok { // byte-level vocabularies spell bytes as other characters
			text = string(b)
		}
		if err := p.printf("%d\t%q\n", id, text); err != nil {
			return err
		}
	}
	return nil
}

// encodeInput encodes what the command line names: a conversation, arguments, a file, or standard input.
func (p *program) encodeInput(c *cli.Context, e *encoder) ([]int, error) {
	if name := c.String("messages"); name != "" {
		messages, err := p.readMessages(name)
		if err != nil {
			return nil, err
		}
		return e.conversation(messages)
	}
	text, err := p.inputText(c)
	if err != nil {
		return nil, err
	}
	return e.text(text)
}

// inputText is the text of the arguments after the model, of --file, or of standard input.
func (p *program) inputText(c *cli.Context) (string, error) {
	switch name := c.String("file"); {
	case c.NArg() > 1 && name != "":
		return "", &usageError{c.Command.Name + ": give a text or --file, not both"}
	case c.NArg() > 1:
		return strings.Join(c.Args().Slice()[1:], " "), nil
	case name != "":
		return p.readFile(name)
	}
	return p.readFile("-")
}

func (e *encoder) text(text string) ([]int, error) { return e.tokenizer.TryEncode(text, e.options) }

func (e *encoder) conversation(messages []chat.Message) ([]int, error) {
	format, err := e.format()
	if err != nil {
		return nil, err
	}
	return format.Encode(e.ctx, e.tokenizer, messages)
}

func (e *encoder) encoding(ids []int) encoding {
	out := encoding{IDs: ids, Pieces: make([]string, len(ids))}
	if ids == nil {
		out.IDs = []int{}
	}
	for i, id := range ids {
		out.Pieces[i] = e.tokenizer.Piece(id)
	}
	return out
}

// line is one line of --jsonl.
func (e *encoder) line(line []byte) (any, error) {
	var in struct {
		Text     *string       `json:"text"`
		Messages []jsonMessage `json:"messages"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return nil, plainJSONError(err)
	}
	var ids []int
	var err error
	switch {
	case in.Text != nil && in.Messages == nil:
		ids, err = e.text(*in.Text)
	case in.Messages != nil && in.Text == nil:
		var messages []chat.Message
		if messages, err = conversation(in.Messages); err == nil {
			ids, err = e.conversation(messages)
		}
	default:
		err = fmt.Errorf(`want {"text":...} or {"messages":...}`)
	}
	return e.encoding(ids), err
}

// eachLine writes f's answer to each line of standard input at once: another program may wait for it.
func (p *program) eachLine(f func(line []byte) (any, error)) error {
	in := bufio.NewReader(p.input("-"))
	out := bufio.NewWriter(p.stdout)
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	for n := 1; ; n++ {
		line, readErr := in.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			v, err := f(line)
			if err == nil {
				err = e.Encode(v)
			}
			if err != nil {
				out.Flush()
				return fmt.Errorf("line %d: %w", n, err)
			}
		}
		if in.Buffered() == 0 || readErr != nil {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}
