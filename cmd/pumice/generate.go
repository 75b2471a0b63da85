package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
)

func (p *program) generateCommand() *cli.Command {
	flags := []cli.Flag{
		stringFlag("prompt", "", "continue `TEXT`; it may spell out special tokens, unlike in a chat", "p"),
		stringFlag("prompt-file", "", "continue the text in `FILE`; - is standard input"),
		stringFlag("tokens", "", "continue the token ids `IDS`, such as 1,2,3; needs no tokenizer"),
		intFlag("max-tokens", 256, "generate at most `N` tokens; 0 is no limit but the context", "n"),
		boolFlag("ignore-eos", false, "continue after a token that ends the text"),
		boolFlag("verbose", false, "report the speed on standard error"),
		&cli.IntFlag{Name: "logprobs", EnvVars: env("logprobs"), DefaultText: "off",
			Usage: "add to --json the log-probability of each token and of the `N` likeliest in its place; 0 adds no others"},
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "generate",
		Usage:     "continue a text or token ids",
		ArgsUsage: "MODEL",
		Flags:     slices.Concat(flags, samplingFlags(), speedFlags(), modelFlags(), []cli.Flag{splitFlag()}),
		Action:    p.generate,
	}
}

func (p *program) generate(c *cli.Context) error {
	if err := noMoreArgs(c, 1); err != nil {
		return err
	}
	if err := checkSampling(c); err != nil {
		return err
	}
	if err := checkLogProbs(c); err != nil {
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
	options.LogProbs, options.TopLogProbs = c.IsSet("logprobs"), c.Int("logprobs")
	closeDraft, err := p.openDraft(ctx, c, engine, &options)
	defer closeDraft()
	if err != nil {
		return err
	}
	session := engine.NewSession()
	var probs []*pumice.LogProb
	result := func() answer { return answer{session.Result(), spellProbs(engine.Tokenizer(), ids, probs)} }
	spinner := p.spin()
	defer spinner.stop()
	for token, err := range session.Generate(ctx, ids, options) {
		spinner.stop()
		if err != nil {
			return p.broken(c, result(), err)
		}
		if token.Prob != nil {
			probs = append(probs, token.Prob)
		}
		if c.Bool("json") {
			continue
		}
		text := token.Text
		if engine.Tokenizer() == nil {
			text = fmt.Sprint(token.ID, " ")
		}
		if err := p.prose(text); err != nil {
			return err
		}
	}
	return p.finish(c, result())
}

// An answer is what --json writes.
type answer struct {
	pumice.Result
	LogProbs []tokenProb `json:"logprobs,omitempty"` // of each token, with --logprobs
}

// finish writes what comes after the text of an answer, or the answer itself with --json.
func (p *program) finish(c *cli.Context, r answer) error {
	defer p.reportDraft(r.Result)
	if c.Bool("verbose") {
		defer p.note("%s", statsLine(r.Result))
	}
	if c.Bool("json") {
		return p.writeJSON(r)
	}
	if !strings.HasSuffix(r.Text, "\n") {
		if err := p.printf("\n"); err != nil {
			return err
		}
	}
	if n := c.Int("n"); r.FinishReason == pumice.FinishLength && n > 0 && len(r.Tokens) >= n {
		p.note("(cut off after %d tokens, the limit of -n)", n)
	} else if r.FinishReason == pumice.FinishLength {
		p.note("(cut off: the context is full)")
	}
	return nil
}

// broken is finish for an answer that err ended. After a signal, the answer so far is still written.
func (p *program) broken(c *cli.Context, r answer, err error) error {
	if errors.Is(err, context.Canceled) && len(r.Tokens) > 0 {
		return errors.Join(err, p.finish(c, r))
	}
	return err
}

// openWithPrompt reads the prompt that the flags give, loads the model and finds the prompt's tokens. The caller closes the engine.
func (p *program) openWithPrompt(ctx context.Context, c *cli.Context) (engine *pumice.Engine, ids []int, err error) {
	prompt, err := p.prompt(c)
	if err != nil {
		return nil, nil, err
	}
	if engine, err = p.open(ctx, c, modelName(c)); err != nil {
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

// prompt reads the one prompt that the flags give.
func (p *program) prompt(c *cli.Context) (prompt, error) {
	given := 0
	for _, name := range []string{"prompt", "prompt-file", "tokens"} {
		if c.IsSet(name) {
			given++
		}
	}
	if given != 1 {
		return prompt{}, &usageError{fmt.Sprintf("%s: give one of -p, --prompt-file and --tokens", c.Command.Name)}
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
	if text == "" {
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

// readFile reads a whole file, standard input for "-".
func (p *program) readFile(name string) (string, error) {
	text, err := io.ReadAll(p.input(name))
	return string(text), err
}
