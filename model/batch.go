package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// runBatch is Run for several spans.
func (x *Model) runBatch(ctx context.Context, spans []Span, t Tail) (Output, error) {
	if err := errors.Join(x.checkSpans(spans), t.check()); err != nil {
		return Output{}, err
	}
	out := Output{}
	s, err := x.step(ctx, spans)
	if t.Adjusted {
		s.Adjust = x.adjust(spans)
	}
	if err == nil {
		out = x.head().output(t, s)
		err = x.evaluate(ctx, x.batchKey(spans, t), s, 0, &out)
	}
	for _, span := range spans {
		q := span.Sequence
		if err != nil { // nothing was added
			err = errors.Join(err, giveBack(q))
			continue
		}
		if e := q.Commit(span.Tokens[:len(span.Tokens)-span.Guesses]...); e != nil {
			return out, fmt.Errorf("model: %w", e)
		}
	}
	return out, err
}

// checkSpans checks spans before anything is evaluated.
func (x *Model) checkSpans(spans []Span) error {
	if len(spans) == 0 || len(spans) > MaxSpans {
		return fmt.Errorf("model: %d spans in a step; 1 to %d are possible", len(spans), MaxSpans)
	}
	total := 0
	for i, span := range spans {
		if err := errors.Join(x.checkTokens(span.Tokens, span.Sequence.Len()), span.checkGuesses(x.opts.Chunk)); err != nil {
			return fmt.Errorf("span %d: %w", i, err)
		}
		if span.Next != nil && len(spans) > 1 {
			return fmt.Errorf("model: span %d of %d says what follows, which only one by itself can", i, len(spans))
		}
		if len(span.Tokens) == 1 && i > 0 && len(spans[i-1].Tokens) > 1 {
			return fmt.Errorf("model: span %d has one token and comes after one of several", i)
		}
		if slices.ContainsFunc(spans[:i], func(other Span) bool { return other.Sequence == span.Sequence }) {
			return fmt.Errorf("model: span %d is of a sequence that the step has already", i)
		}
		total += len(span.Tokens)
	}
	if most := x.MaxTokens(singleSpans(spans)); total > most {
		return fmt.Errorf("model: %d tokens in a step; at most %d are possible", total, most)
	}
	return nil
}

// MaxTokens is how many tokens a step can have, with so many spans of one token and others of several.
func (x *Model) MaxTokens(singles, others int) int {
	return x.opts.Chunk - roomFor(singles, others) + singles
}

// batchKey is the key of the plan that evaluates spans. There are few, since a plan with new constants is compiled: a
// power of two of single tokens, and of other tokens 32, 128 or as many as there is room for.
func (x *Model) batchKey(spans []Span, t Tail) planKey {
	singles, others := singleSpans(spans)
	tokens := 0
	for _, span := range spans[singles:] {
		tokens += len(span.Tokens)
	}
	k := planKey{tail: t, singles: roomFor(singles, others)}
	k.tokens = k.singles
	if others > 0 {
		k.sequences = 1
		if others > 1 {
			k.sequences = MaxSpans - k.singles
		}
		k.tokens = min(x.opts.Chunk, k.singles+x.head().piece(tokens))
	}
	switch t.Rows {
	case EveryRow:
		k.rows = k.tokens
	case LastRows:
		k.rows = maxSequences(k.tokens) // as many as products of them may write
	}
	return k
}

// singleSpans counts the spans of one token, and the others.
func singleSpans(spans []Span) (singles, others int) {
	for singles < len(spans) && len(spans[singles].Tokens) == 1 {
		singles++
	}
	return singles, len(spans) - singles
}

// roomFor is how many single tokens a plan takes that has to take some: a power of two, or what others leave.
func roomFor(singles, others int) int {
	n := min(singles, 1)
	for n < singles {
		n *= 2
	}
	return min(n, MaxSpans-others)
}

// pieces are the numbers of tokens of a piece of a prompt that a batch is recorded for.
func (g *stage) pieces() []int {
	var list []int
	for _, n := range []int{32, 128} {
		if n < g.opts.Chunk {
			list = append(list, n)
		}
	}
	return append(list, g.opts.Chunk)
}

// piece is the least of pieces that so many tokens fit.
func (g *stage) piece(tokens int) int {
	list := g.pieces()
	for _, n := range list {
		if tokens <= n {
			return n
		}
	}
	return list[len(list)-1]
}

// batchKeys lists, for the memory plan, the plans of Run for several spans that take most: of as many single tokens as
// possible, and of as many tokens as possible with single ones among them. What others take of the arena is less, since
// partial sums of attention grow with the single tokens, and all else with the tokens.
func (g *stage) batchKeys() []planKey {
	chunk := g.opts.Chunk
	if chunk < 2 || g.cfg.Encoder {
		return nil
	}
	singles := MaxSpans
	for singles > chunk {
		singles /= 2
	}
	mixed := maxSequences(chunk) - 1
	var keys []planKey
	for _, p := range planned {
		if t := p.tail; t.Rows != EveryRow {
			keys = append(keys,
				planKey{tokens: singles, rows: t.lastRows(singles), tail: t, singles: singles},
				planKey{tokens: chunk, rows: t.lastRows(maxSequences(chunk)), tail: t, singles: mixed, sequences: MaxSpans - mixed})
		}
	}
	return keys
}

// lastRows is n if t has rows of last tokens.
func (t Tail) lastRows(n int) int {
	if t.Rows == LastRows {
		return n
	}
	return 0
}
