package model

import (
	"context"
	"errors"
	"fmt"

	"pumice/pipeline"
)

// ErrContextFull says that the KV cache has too few positions for the tokens to evaluate.
var ErrContextFull = errors.New("the context is full")

// A TokenError reports a token id that the model does not have.
type TokenError struct {
	Index     int // position in the list of tokens
	ID        int
	VocabSize int
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("model: token %d is %d, the vocabulary has ids 0 to %d", e.Index, e.ID, e.VocabSize-1)
}

// Forward evaluates tokens at cache positions position, position+1, ..., and writes their keys and values there. The
// positions before must hold the keys and values of the tokens before. Tokens are evaluated in chunks of at most
// Options.Chunk. ctx is checked before each chunk; when it ends, a chunk that the device is working on is abandoned
// after half a second. After an error any of the tokens' positions may have been written.
//
// Errors are ErrContextFull, *TokenError, *NotFiniteError and those of the device, and one for a Tail that makes no
// sense or that the memory plan has no room for.
func (x *Model) Forward(ctx context.Context, tokens []int, position int, t Tail) (Output, error) {
	if err := errors.Join(x.checkTokens(tokens, position), t.check()); err != nil {
		return Output{}, err
	}
	out := x.output(t, one(position, tokens))
	for done := 0; done < len(tokens); {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(len(tokens)-done, x.bucket(len(tokens)-done, t))
		now := t
		if done+n < len(tokens) {
			now = t.before()
		}
		chunk := chunkOf(tokens, position, done, n)
		if err := x.evaluate(ctx, chunk, now, done, &out); err != nil {
			return out, err
		}
		done += n
	}
	return out, nil
}

// one is a step of one sequence.
func one(position int, tokens []int) pipeline.Step {
	return pipeline.Step{Sequences: []pipeline.Sequence{{Position: position, Tokens: tokens}}}
}

// chunkOf is a step of n of the tokens that begin at position, after those that are done.
func chunkOf(tokens []int, position, done, n int) pipeline.Step {
	s := one(position+done, tokens[done:done+n])
	if done+n < len(tokens) {
		s.Next = &tokens[done+n]
	}
	return s
}

// evaluateOne evaluates a chunk by itself.
func (x *Model) evaluateOne(ctx context.Context, s pipeline.Step, t Tail) (Output, error) {
	out := x.output(t, s)
	err := x.evaluate(ctx, s, t, 0, &out)
	return out, err
}

// evaluate evaluates a chunk, before which done tokens were evaluated, and adds its results to out.
func (x *Model) evaluate(ctx context.Context, s pipeline.Step, t Tail, done int, out *Output) error {
	return x.evaluatePlan(ctx, x.key(s.Len(), s.Sequences[0].Endings != nil, t), s, done, out)
}

// evaluatePlan is evaluate by the plan of a key.
func (x *Model) evaluatePlan(ctx context.Context, k planKey, s pipeline.Step, done int, out *Output) error {
	n := s.Len()
	p, err := x.plan(ctx, k)
	if err != nil {
		return err
	}
	if k.draws() { // the caller chooses
		s.Draw = &pipeline.Draw{Temperature: 1, TopK: 1, TopP: 1, Uniform: make([]float32, 1)}
	}
	var sent int64
	if !x.weights.layerRange.hasEmbedding() {
		size := x.cfg.HiddenSize
		if sent, err = p.Input(ctx, x.stream[done*size:(done+n)*size]); err != nil {
			return err
		}
	}
	x.last = p
	c, err := p.Run(ctx, s)
	if err != nil {
		return err
	}
	c.HostToDeviceBytes += sent
	if c.DeviceToHostBytes, err = x.read(p, k, s, done, out); err != nil {
		return err
	}
	out.Counters.Add(c)
	return nil
}

// checkTokens checks tokens and their positions before anything is evaluated.
func (x *Model) checkTokens(tokens []int, position int) error {
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

// Sequences returns how many sequences ForwardSequences takes at most, and how many tokens they may have together.
func (x *Model) Sequences() (n, tokens int) { return maxSequences(x.opts.Chunk), x.opts.Chunk }

// ForwardSequences evaluates several sequences at once; with LastRows there is a row of results for each. Each sequence
// continues the tokens that the cache holds before position, and does not see the others. Their keys and values are
// written from position on, one sequence behind another, so those positions are not valid afterwards. Errors are those
// of Forward.
func (x *Model) ForwardSequences(ctx context.Context, sequences [][]int, position int, t Tail) (Output, error) {
	s, err := x.sequences(sequences, position, t)
	if err != nil {
		return Output{}, err
	}
	return x.evaluateOne(ctx, s, t)
}

// sequences checks sequences and puts them into one chunk.
func (x *Model) sequences(sequences [][]int, position int, t Tail) (s pipeline.Step, err error) {
	q := pipeline.Sequence{Position: position}
	for i, tail := range sequences {
		if len(tail) == 0 {
			return s, fmt.Errorf("model: sequence %d has no tokens", i)
		}
		q.Tokens, q.Endings = append(q.Tokens, tail...), append(q.Endings, len(tail))
	}
	s.Sequences = []pipeline.Sequence{q}
	if err := errors.Join(x.checkTokens(q.Tokens, position), t.check()); err != nil {
		return s, err
	}
	n, most := x.Sequences()
	if most = min(most, x.maxTokens(t)); len(sequences) > n || s.Len() > most {
		return s, fmt.Errorf("model: %d sequences of %d tokens together; at most %d of %d are possible", len(sequences), s.Len(), n, most)
	}
	return s, nil
}

// MaxSteps returns how many tokens one call of Decode can evaluate. It is 1 if the device cannot choose a token and
// evaluate it without the host: if it has not both embedding and head, and with Options.Taps.
func (x *Model) MaxSteps() int {
	if !x.weights.layerRange.hasEmbedding() || x.opts.Taps {
		return 1
	}
	return pipeline.MaxBurst
}

// Decode evaluates token at position and then steps - 1 tokens, each of which the device chooses from the logits of the
// one before. Output.Choices has one choice for each step: with a nil draw the token with the largest logit, else
// pipeline.TopLogits tokens and the one that was drawn from them. A draw has a random number for each step. Errors are
// those of Forward.
func (x *Model) Decode(ctx context.Context, token, position, steps int, draw *pipeline.Draw) (Output, error) {
	var out Output
	tokens := []int{token}
	if err := x.checkTokens(tokens, position); err != nil {
		return out, err
	}
	if steps < 1 || steps > x.MaxSteps() || position+steps > x.opts.Context {
		return out, fmt.Errorf("model: %d tokens in one go at position %d of a context of %d; at most %d are possible: %w",
			steps, position, x.opts.Context, x.MaxSteps(), ErrContextFull)
	}
	k := x.key(1, false, decodeTail(draw))
	p, err := x.plan(ctx, k)
	if err != nil {
		return out, err
	}
	x.last = p
	s := one(position, tokens)
	s.Burst, s.Draw = steps, draw
	if out.Counters, err = p.Run(ctx, s); err != nil {
		return out, err
	}
	for step := range steps {
		n, err := x.readChosen(p, k, step, position+step, &out)
		if err != nil {
			return out, err
		}
		out.Counters.DeviceToHostBytes += n
	}
	return out, nil
}

// decodeTail is what Decode leaves.
func decodeTail(draw *pipeline.Draw) Tail {
	if draw != nil {
		return Tail{Rows: LastRows, Top: pipeline.TopLogits}
	}
	return Tail{Rows: LastRows, Top: 1}
}
