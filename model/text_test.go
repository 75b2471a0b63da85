package model

import (
	"context"
	"fmt"
	"testing"

	"pumice/checkpoint"
	"pumice/model/pages"
	"pumice/pipeline"
)

// A subject is a model under test and a text in its cache.
type subject struct {
	*Model
	text *pages.Sequence
}

// loadOn opens a checkpoint on the devices of managers, which are closed after it.
func loadOn(t *testing.T, path string, o Options, managers ...*pipeline.Manager) *subject {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, c.Close()) }()
	m, err := Load(context.Background(), c, o, managers...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, m.Close()) })
	return &subject{m, newText(t, m)}
}

// newText is a sequence without tokens.
func newText(t *testing.T, x *Model) *pages.Sequence {
	t.Helper()
	q, err := x.Pages().Acquire(t.Context(), nil, 0, pages.Batched)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Release)
	return q
}

// goTo gives up the text from a position on, which it must have reached. Nobody has that afterwards: what is evaluated
// again is evaluated.
func (x *subject) goTo(position int) error {
	n, err := x.text.Truncate(position)
	if err == nil && n != position {
		err = fmt.Errorf("the text goes on at %d, not at %d", n, position)
	}
	x.Pages().Clear()
	return err
}

// forward evaluates tokens, which continue the text at a position.
func (x *subject) forward(ctx context.Context, tokens []int, position int, tail Tail) (Output, error) {
	if err := x.goTo(position); err != nil {
		return Output{}, err
	}
	return kept(x.Run(ctx, []Span{{Sequence: x.text, Tokens: tokens}}, tail))
}

// kept copies an output, which the next evaluation overwrites.
func kept(out Output, err error) (copied Output, _ error) {
	out.CopyTo(&copied)
	return copied, err
}

// decode evaluates a token at a position, and those that the device chooses after it.
func (x *subject) decode(ctx context.Context, token, position, steps int, draw *pipeline.Draw) (Output, error) {
	if err := x.goTo(position); err != nil {
		return Output{}, err
	}
	out, err := kept(x.Decode(ctx, x.text, token, steps, draw))
	if err != nil {
		return out, err
	}
	for _, c := range out.Choices[:steps-1] {
		if err := x.text.Commit(c.ID); err != nil {
			return out, err
		}
	}
	return out, nil
}

// score evaluates tails, each of which continues the text at a position.
func (x *subject) score(ctx context.Context, tails [][]int, position int, tail Tail) (Output, error) {
	if err := x.goTo(position); err != nil {
		return Output{}, err
	}
	return kept(x.Score(ctx, x.text, tails, tail))
}
