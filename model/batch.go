package model

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"pumice/pipeline"
)

// A Span is the tokens of a sequence that a step evaluates, after those that the cache has of it.
type Span struct {
	Sequence *Sequence
	Tokens   []int
}

// Run evaluates tokens of several sequences in one step, which reads the weights once. Spans of one token come first.
// With LastRows there is a row of results for each span, in order, with EveryRow one for each token. At most
// MaxSpans spans are possible, and Options.Chunk tokens together. After an error the sequences are as they were.
//
// Errors are those of Forward, and pages.ErrFull if there are too few pages.
func (x *Model) Run(ctx context.Context, spans []Span, t Tail) (Output, error) {
	if err := errors.Join(x.checkSpans(spans), t.check()); err != nil {
		return Output{}, err
	}
	x.pool.step++
	var s pipeline.Step
	out := Output{}
	reserve := func() error {
		for _, span := range spans {
			q := span.Sequence
			if err := q.reserve(ctx, len(span.Tokens)); err != nil {
				return err
			}
			s.Sequences = append(s.Sequences, pipeline.Sequence{Table: x.cache.Table(q.table), Position: q.Len(), Tokens: span.Tokens})
		}
		return nil
	}
	err := reserve()
	if err == nil {
		out = x.output(t, s)
		err = x.evaluatePlan(ctx, x.batchKey(spans, t), s, 0, &out)
	}
	for _, span := range spans {
		p := span.Sequence.pages
		if err != nil { // nothing was added
			_, e := p.Truncate(p.Len())
			err = errors.Join(err, e)
			continue
		}
		if e := p.Commit(span.Tokens...); e != nil {
			return out, fmt.Errorf("model: %w", e)
		}
	}
	return out, err
}

// MaxSpans is how many spans a step can have.
const MaxSpans = pipeline.MaxSequences

// checkSpans checks spans before anything is evaluated.
func (x *Model) checkSpans(spans []Span) error {
	if x.pool == nil {
		return errNoPages
	}
	if len(spans) == 0 || len(spans) > MaxSpans {
		return fmt.Errorf("model: %d spans in a step; 1 to %d are possible", len(spans), MaxSpans)
	}
	total := 0
	for i, span := range spans {
		if err := x.checkTokens(span.Tokens, span.Sequence.Len()); err != nil {
			return fmt.Errorf("span %d: %w", i, err)
		}
		if len(span.Tokens) == 1 && i > 0 && len(spans[i-1].Tokens) > 1 {
			return fmt.Errorf("model: span %d has one token and comes after one of several", i)
		}
		if slices.ContainsFunc(spans[:i], func(other Span) bool { return other.Sequence == span.Sequence }) {
			return fmt.Errorf("model: span %d is of a sequence that the step has already", i)
		}
		total += len(span.Tokens)
	}
	singles, others := singleSpans(spans)
	if most := x.opts.Chunk - roomFor(singles, others) + singles; total > most {
		return fmt.Errorf("model: %d tokens in a step; at most %d are possible", total, most)
	}
	return nil
}

// batchKey is the key of the plan that evaluates spans. There are few, since a plan with new constants is compiled: a
// power of two of single tokens, and of other tokens 32, 128 or as many as there is room for.
func (x *Model) batchKey(spans []Span, t Tail) planKey {
	singles, others := singleSpans(spans)
	tokens := 0
	for _, span := range spans[singles:] {
		tokens += len(span.Tokens)
	}
	if singles == 1 && others == 0 { // as alone
		return x.key(1, false, t)
	}
	k := planKey{tail: t, singles: roomFor(singles, others)}
	k.tokens = k.singles
	if others > 0 {
		k.sequences = 1
		if others > 1 {
			k.sequences = MaxSpans - k.singles
		}
		k.tokens = min(x.opts.Chunk, k.singles+x.piece(tokens))
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
func (x *Model) pieces() []int {
	var list []int
	for _, n := range []int{32, 128} {
		if n < x.opts.Chunk {
			list = append(list, n)
		}
	}
	return append(list, x.opts.Chunk)
}

// piece is the least of pieces that so many tokens fit.
func (x *Model) piece(tokens int) int {
	list := x.pieces()
	for _, n := range list {
		if tokens <= n {
			return n
		}
	}
	return list[len(list)-1]
}

// batchKeys lists plans of the most rows that Run may come to have, for the memory plan.
func (x *Model) batchKeys() []planKey {
	if x.opts.Pages == 0 || !x.weights.layerRange.hasHead(x.cfg) {
		return nil
	}
	var keys []planKey
	for _, p := range planned {
		if p.tail.Rows == EveryRow {
			continue
		}
		for _, singles := range []int{2, 4, 8, MaxSpans} {
			if singles > x.opts.Chunk {
				break
			}
			keys = append(keys, planKey{tokens: singles, rows: p.tail.lastRows(singles), tail: p.tail, singles: singles})
			for _, n := range x.pieces() {
				k := planKey{tokens: min(x.opts.Chunk, singles+n), tail: p.tail, singles: min(singles, MaxSpans-1)}
				k.sequences = MaxSpans - k.singles
				k.rows = p.tail.lastRows(MaxSpans)
				keys = append(keys, k)
			}
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
