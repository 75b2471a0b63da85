package pipeline

import (
	"context"
	"errors"
	"testing"

	"pumice/internal/dtype"
)

// endsAfter is a context that has ended after its Err was asked so many times.
type endsAfter struct {
	context.Context
	left int
}

func (c *endsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestABurstThatFailsLeavesTheNextOneRight breaks a burst off before each of its submissions. The device has moved its step on by
// then, and the host has not.
func TestABurstThatFailsLeavesTheNextOneRight(t *testing.T) {
	const vocab, runs = 64, 5
	next := func(token int) int { return (5*token + 3) % vocab }
	table := make([]float64, vocab*vocab)
	for token := range vocab {
		table[token*vocab+next(token)] = 1
	}
	for _, profile := range []bool{false, true} { // each run is a submission of its own, or all but the first are one
		b := newBench(t, newManager(t, Options{Profile: profile}))
		w := b.store(dtype.F32, table, vocab)
		failed := 0
		for end := 0; ; end++ {
			builder := b.m.NewBuilder("burst", 1)
			builder.Advance(builder.Embed(w.matrix, 1))
			p := b.build(builder)
			s := Step{Position: 3, Tokens: []int{9}, Burst: runs}
			_, err := p.Run(&endsAfter{context.Background(), end}, s)
			if err == nil {
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			failed++
			for range 2 { // the second goes on from the first
				run(t, p, s)
				for i := range runs {
					s.Tokens = []int{next(s.Tokens[0])}
					if got := p.Chosen(i); got != s.Tokens[0] {
						t.Errorf("profile %t, broken off at %d: token %d of the next burst is %d, want %d", profile, end, i, got, s.Tokens[0])
					}
				}
				s.Position += runs
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if failed < 3 {
			t.Errorf("profile %t: broken off at %d places", profile, failed)
		}
	}
}
