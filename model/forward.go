package model

import (
	"context"
	"errors"
	"fmt"

	"pumice/pipeline"
)

// ErrContextFull is a run that does not fit the KV cache.
var ErrContextFull = errors.New("the context is full")

// A TokenError is a token id that the model does not have.
type TokenError struct {
	Index, ID, VocabSize int
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("model: token %d is %d, the vocabulary has ids 0 to %d", e.Index, e.ID, e.VocabSize-1)
}

// Forward evaluates tokens at cache positions position, position+1, ..., writing their keys
// and values; positions before must hold what came before. Long runs go in pieces, between
// which ctx is looked at; what is under way when it ends is given up after half a second. After an
// error any of the run's positions may have been written. Errors: ErrContextFull, *TokenError,
// those of the device.
func (x *Model) Forward(ctx context.Context, tokens []int, position int, want Want) (Output, error) {
	var out Output
	if err := x.checkRun(tokens, position); err != nil {
		return out, err
	}
	if want.everyRow() && want != AllArgmax {
		x.logits = resize(x.logits, len(tokens)*x.rowSize(want))
		out.Logits = x.logits
	}
	for done := 0; done < len(tokens); {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(len(tokens)-done, x.bucket(len(tokens)-done, want))
		now := want
		if done+n < len(tokens) && !want.everyRow() {
			now = Nothing
		}
		step := pipeline.Step{Position: position + done, Tokens: tokens[done : done+n]}
		if now == Candidates && x.bucket(n, now) == 1 {
			step.Draw = &pipeline.Draw{Temperature: 1, TopK: 1, TopP: 1, Uniform: make([]float32, 1)} // the caller chooses
		}
		if err := x.run(ctx, step, now, done, &out); err != nil {
			return out, err
		}
		done += n
	}
	return out, nil
}

// run evaluates a run, the first token of which is number done, and adds what it leaves to out.
func (x *Model) run(ctx context.Context, s pipeline.Step, want Want, done int, out *Output) error {
	n := len(s.Tokens)
	p, err := x.Plan(ctx, n, want)
	if err != nil {
		return err
	}
	var hidden int64
	if !x.weights.layerRange.hasEmbedding() {
		size := x.cfg.HiddenSize
		if hidden, err = p.Input(ctx, x.hidden[done*size:(done+n)*size]); err != nil {
			return err
		}
	}
	x.last = p
	c, err := p.Run(ctx, s)
	if err != nil {
		return err
	}
	c.HostToDeviceBytes += hidden
	rows := n
	if want == SequenceLogits {
		rows = len(s.Lengths)
	}
	if c.DeviceToHostBytes, err = x.read(p, s, want, done, rows, out); err != nil {
		return err
	}
	out.Counters.Add(c)
	return nil
}

// checkRun finds what is wrong with a run before anything is evaluated.
func (x *Model) checkRun(tokens []int, position int) error {
	if len(tokens) == 0 {
		return errors.New("model: no tokens to evaluate")
	}
	for i, id := range tokens {
		if id < 0 || id >= x.cfg.VocabSize {
			return &TokenError{Index: i, ID: id, VocabSize: x.cfg.VocabSize}
		}
	}
	if position < 0 || position+len(tokens) > x.opts.Context {
		return fmt.Errorf("model: %d tokens at position %d of a context of %d: %w", len(tokens), position, x.opts.Context, ErrContextFull)
	}
	return nil
}

// Sequences is how many sequences ForwardSequences takes at once, and how many tokens they may have together.
func (x *Model) Sequences() (n, tokens int) { return maxSequences(x.opts.Chunk), x.opts.Chunk }

// ForwardSequences evaluates several sequences at once, each of which goes on from what the cache holds before position as if it
// were the only one, and leaves the logits at the end of each. Together they take the positions from there on, whose keys and
// values are of no use afterwards. Errors are those of Forward.
func (x *Model) ForwardSequences(ctx context.Context, sequences [][]int, position int) (Output, error) {
	s, err := x.sequences(sequences, position)
	if err != nil {
		return Output{}, err
	}
	return x.runSequences(ctx, s, SequenceLogits)
}

func (x *Model) runSequences(ctx context.Context, s pipeline.Step, want Want) (out Output, err error) {
	if want.everyRow() {
		x.logits = resize(x.logits, len(s.Tokens)*x.rowSize(want))
		out.Logits = x.logits
	}
	err = x.run(ctx, s, want, 0, &out)
	return out, err
}

// sequences puts sequences into one run, unless something is wrong with them.
func (x *Model) sequences(sequences [][]int, position int) (s pipeline.Step, err error) {
	s.Position = position
	for i, q := range sequences {
		if len(q) == 0 {
			return s, fmt.Errorf("model: sequence %d has no tokens", i)
		}
		s.Tokens, s.Lengths = append(s.Tokens, q...), append(s.Lengths, len(q))
	}
	if err := x.checkRun(s.Tokens, position); err != nil {
		return s, err
	}
	if n, most := x.Sequences(); len(sequences) > n || len(s.Tokens) > most {
		return s, fmt.Errorf("model: %d sequences of %d tokens together; at most %d of %d are possible", len(sequences), len(s.Tokens), n, most)
	}
	return s, nil
}

// MaxRuns is how many tokens Decode can be asked for: the device goes on by itself where the embedding and the head are on it.
func (x *Model) MaxRuns() int {
	if !x.weights.layerRange.hasEmbedding() || x.opts.Taps {
		return 1
	}
	return pipeline.MaxRuns
}

// Decode evaluates token at position, and after it runs - 1 tokens that the device chooses and the host hears of at the end. want is
// Argmax, or Candidates, which draw says how to choose from. Errors are those of Forward.
func (x *Model) Decode(ctx context.Context, token, position, runs int, want Want, draw *pipeline.Draw) (Output, error) {
	var out Output
	tokens := []int{token}
	if err := x.checkRun(tokens, position); err != nil {
		return out, err
	}
	if runs < 1 || runs > x.MaxRuns() || position+runs > x.opts.Context {
		return out, fmt.Errorf("model: %d tokens in one go at position %d of a context of %d; at most %d are possible: %w", runs, position, x.opts.Context, x.MaxRuns(), ErrContextFull)
	}
	p, err := x.Plan(ctx, 1, want)
	if err != nil {
		return out, err
	}
	x.last = p
	if out.Counters, err = p.Run(ctx, pipeline.Step{Position: position, Tokens: tokens, Runs: runs, Draw: draw}); err != nil {
		return out, err
	}
	for run := range runs {
		n, err := x.chosen(p, run, position+run, want, &out)
		if err != nil {
			return out, err
		}
		out.Counters.DeviceToHostBytes += n
	}
	return out, nil
}
