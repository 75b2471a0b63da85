package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
)

func (p *program) generateCommand() *cli.Command {
	flags := []cli.Flag{
		stringFlag("prompt", "", "continue `TEXT`; it may spell out special tokens, unlike in a chat", "p"),
		stringFlag("prompt-file", "", "continue the text in `FILE`, as it is; - is standard input", "file", "f"),
		stringFlag("tokens", "", "continue the token ids `IDS`, such as 1,2,3; needs no tokenizer"),
		intFlag("max-tokens", 256, "generate at most `N` tokens; 0 or -1 is no limit but the context", "n"),
		boolFlag("ignore-eos", false, "continue after a token that ends the text"),
		boolFlag("verbose", false, "report the speed on standard error"),
	}
	return &cli.Command{
		Name:      "generate",
		Category:  ofTalk,
		Usage:     "continue a text or token ids",
		ArgsUsage: "[MODEL]",
		Description: "What is piped into standard input comes after the text of -p or --prompt-file, with an empty line between them, or is the\n" +
			"prompt alone.",
		Flags:  slices.Concat(flags, answerFlags(), samplingFlags(), speedFlags(), modelFlags(), splitFlags()),
		Action: p.generate,
	}
}

func (p *program) generate(c *cli.Context) error {
	if err := checkAnswer(c); err != nil {
		return err
	}
	schema, err := p.schema(c)
	if err != nil {
		return err
	}
	ctx := c.Context
	engine, ids, err := p.openWithPrompt(ctx, c)
	if err != nil {
		return err
	}
	defer engine.Close()
	options, err := generateOptions(c, engine.SamplingDefaults())
	if err != nil {
		return err
	}
	options.IgnoreEOS = c.Bool("ignore-eos")
	closeDraft, err := p.openDraft(ctx, c, engine, &options)
	defer closeDraft()
	if err != nil {
		return err
	}
	return p.writeAnswers(c, engine, ids, options, schema, nil)
}

// openWithPrompt reads the prompt that the flags give, loads the model and finds the prompt's tokens. The caller closes the engine.
func (p *program) openWithPrompt(ctx context.Context, c *cli.Context) (engine *pumice.Engine, ids []int, err error) {
	name, err := onlyModel(c)
	if err != nil {
		return nil, nil, err
	}
	prompt, err := p.prompt(c)
	if err != nil {
		return nil, nil, err
	}
	if engine, err = p.open(ctx, c, name); err != nil {
		return nil, nil, err
	}
	if ids, err = prompt.tokens(engine); err != nil {
		return nil, nil, errors.Join(err, engine.Close())
	}
	return engine, ids, nil
}

// A prompt is text or token ids.
type prompt struct {
	text string
	ids  []int // nil for text
}

// prompt reads the prompt that the flags and standard input give.
func (p *program) prompt(c *cli.Context) (prompt, error) {
	given := 0
	for _, name := range []string{"prompt", "prompt-file", "tokens"} {
		if c.IsSet(name) {
			given++
		}
	}
	piped := p.piped(c) && !c.IsSet("tokens")
	missing := &usageError{fmt.Sprintf("%s: give one of -p, --prompt-file and --tokens, or text on standard input", c.Command.Name)}
	if given > 1 || given == 0 && !piped {
		return prompt{}, missing
	}
	if c.IsSet("tokens") {
		ids, err := idArgument(c.String("tokens"))
		if err == nil && len(ids) == 0 {
			err = pumice.ErrEmptyPrompt
		}
		return prompt{ids: ids}, err
	}
	text := c.String("prompt")
	if c.IsSet("prompt-file") {
		var err error
		if text, err = p.readFile(c.String("prompt-file")); err != nil {
			return prompt{}, err
		}
	}
	if piped {
		more, err := p.readFile("-")
		if err != nil {
			return prompt{}, err
		}
		switch more = strings.TrimSuffix(more, "\n"); {
		case text == "":
			text = more
		case more != "":
			text = strings.TrimSuffix(text, "\n") + "\n\n" + more
		}
	}
	switch {
	case text == "" && given == 0:
		return prompt{}, missing
	case text == "":
		return prompt{}, pumice.ErrEmptyPrompt
	}
	return prompt{text: text}, nil
}

func (q prompt) tokens(engine *pumice.Engine) ([]int, error) {
	if q.ids != nil {
		return q.ids, nil
	}
	return engine.Encode(q.text)
}
