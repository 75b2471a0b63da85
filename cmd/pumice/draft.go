package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"pumice"
)

// checkDraft finds mistakes in the flags that guess tokens before a model is loaded.
func checkDraft(c *cli.Context) error {
	lookup, tokens, model := c.Int("lookup"), c.Int("draft-tokens"), c.String("draft-model")
	switch {
	case lookup < 0 || lookup > pumice.MaxDraft:
		return &usageError{fmt.Sprintf("--lookup %d: want 0 (off) to %d", lookup, pumice.MaxDraft)}
	case c.IsSet("draft-tokens") && (tokens < 1 || tokens > pumice.MaxDraft):
		return &usageError{fmt.Sprintf("--draft-tokens %d: want 1 to %d", tokens, pumice.MaxDraft)}
	case c.IsSet("draft-tokens") && model == "":
		return &usageError{"--draft-tokens needs --draft-model"}
	case lookup > 0 && model != "":
		return &usageError{"--lookup and --draft-model: give one of them"}
	}
	return nil
}

// openDraft loads the model of --draft-model to the first device of target, and makes it the Drafter of o. The caller calls
// closeDraft, whatever the error.
func (p *program) openDraft(ctx context.Context, c *cli.Context, target *pumice.Engine,
	o *pumice.GenerateOptions) (closeDraft func() error, err error) {
	closeDraft = func() error { return nil }
	name := c.String("draft-model")
	if name == "" {
		return closeDraft, nil
	}
	open := p.options(c)
	open.Device, open.Devices, open.On = "", nil, target.Devices()[:1]
	open.Context, open.DType, open.LoRA, open.ChatTemplate, open.Profile = target.Context(), "", nil, "", false
	bar := p.newBar("loading the draft model")
	defer bar.close()
	open.Progress = bar.set
	draft, err := pumice.Open(ctx, name, open)
	if err != nil {
		return closeDraft, fmt.Errorf("--draft-model: %w", err)
	}
	closeDraft = draft.Close
	d, err := pumice.NewEngineDrafter(target, draft)
	if err != nil {
		return closeDraft, err
	}
	_, seeded := seed(c)
	o.Drafter, o.DraftTokens, o.DraftAlways = d, c.Int("draft-tokens"), seeded && o.Sampling.Temperature > 0
	return closeDraft, nil
}

// reportDraft says that guessing was given up.
func (p *program) reportDraft(r pumice.Result) {
	if reason := r.Stats.DraftError; reason != "" {
		p.note("(no more tokens were guessed: %s)", reason)
	}
}
