package pumice

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"pumice/model"
)

// Logits evaluates tokens and yields rows of logits, one logit for each token of the vocabulary. It yields the row of
// the last position, or, if all is set, that of every position, starting from an empty cache. A row is valid until the
// iteration continues. An error is the last element: *NotFiniteError if a logit is NaN or infinite. Breaking out
// of the iteration leaves the session usable; until then it is in use.
func (s *Session) Logits(ctx context.Context, tokens []int, all bool) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		if err := s.logits(ctx, tokens, all, yield); err != nil {
			yield(nil, err)
		}
	}
}

// logitsChunk bounds the memory for logits at every position: 64 rows of 100534 tokens are 26 MB.
const logitsChunk = 64

// logitsTail leaves the logits at the end of each sequence.
var logitsTail = model.Tail{Rows: model.LastRows, Logits: true}

// errBreak ends an evaluation whose caller broke out of the iteration.
var errBreak = errors.New("iteration ended by the caller")

func (s *Session) logits(ctx context.Context, tokens []int, all bool, yield func([]float32, error) bool) error {
	if err := s.engine.checkPrompt(tokens); err != nil {
		return err
	}
	if err := s.use(); err != nil {
		return err
	}
	defer s.free(tokens)
	rows := func(out model.Output, _ []int) error {
		for vocab := s.engine.vocab; len(out.Logits) > 0; out.Logits = out.Logits[vocab:] {
			if !yield(out.Logits[:vocab:vocab], nil) {
				return errBreak
			}
		}
		return nil
	}
	chunk, tail := len(tokens), logitsTail
	if all {
		s.Reset()
		chunk, tail.Rows = logitsChunk, model.EveryRow
	}
	for end := 0; end < len(tokens); {
		from := end
		if end = min(end+chunk, len(tokens)); !all {
			from = end - 1
		}
		_, _, err := s.evaluate(ctx, tokens[:end], evaluation{tail: tail, from: from, use: rows})
		if err == errBreak {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Score evaluates prefix followed by each of tails, and yields the row of logits at the end of each, in order. No tail
// may be empty. As many tails are evaluated together as the device takes. The cache keeps prefix, so that another Score
// with the same prefix evaluates only its tails; without tails, Score only brings prefix into the cache. A tail that is
// evaluated by itself, such as the only one, stays in the cache too. A row is valid until the iteration continues. An
// error is the last element. Breaking out of the iteration leaves the session usable; until then it is in use.
func (s *Session) Score(ctx context.Context, prefix []int, tails [][]int) iter.Seq2[[]float32, error] {
	return func(yield func([]float32, error) bool) {
		if err := s.score(ctx, prefix, tails, yield); err != nil && err != errBreak {
			yield(nil, err)
		}
	}
}

func (s *Session) score(ctx context.Context, prefix []int, tails [][]int, yield func([]float32, error) bool) error {
	e := s.engine
	if len(tails) == 0 {
		if err := e.checkPrompt(prefix); err != nil {
			return err
		}
	}
	for i, tail := range tails {
		if len(tail) == 0 {
			return fmt.Errorf("pumice: tail %d is empty", i)
		}
		if err := e.checkPrompt(slices.Concat(prefix, tail)); err != nil {
			return fmt.Errorf("tail %d: %w", i, err)
		}
	}
	if err := s.use(); err != nil {
		return err
	}
	defer s.free(prefix)
	for first := true; first || len(tails) > 0; first = false {
		n, err := s.scoreBatch(ctx, prefix, tails, yield)
		if err != nil {
			return err
		}
		tails = tails[n:]
	}
	return nil
}

// errRetracted says that the session has lost its pages since it evaluated the prefix.
var errRetracted = errors.New("the prefix is not held any more")

// scoreBatch evaluates as many of the first tails together as possible, and returns their number.
func (s *Session) scoreBatch(ctx context.Context, prefix []int, tails [][]int,
	yield func([]float32, error) bool) (n int, err error) {
	e := s.engine
	if _, _, err := s.evaluate(ctx, prefix, evaluation{from: len(prefix)}); err != nil || len(tails) == 0 {
		return 0, err
	}
	most, tokens := e.work.model.MaxTails()
	tokens = min(tokens, e.context-len(prefix))
	total := 0
	for n < min(len(tails), most) && total+len(tails[n]) <= tokens {
		total += len(tails[n])
		n++
	}
	var out model.Output
	if n > 1 {
		err = e.work.alone(ctx, s, func(ctx context.Context) (err error) {
			q := s.hold.sequence
			if q == nil || q.Len() != len(prefix) {
				return errRetracted
			}
			out, err = e.work.model.Score(ctx, q, tails[:n], logitsTail)
			out = s.keep(out)
			return err
		})
		if err == errRetracted {
			return 0, nil // once more
		}
	} else {
		n = 1
		text := slices.Concat(prefix, tails[0])
		_, _, err = s.evaluate(ctx, text, evaluation{tail: logitsTail, from: len(text) - 1, use: func(o model.Output, _ []int) error {
			out = o
			return nil
		}})
	}
	if err != nil {
		return 0, err
	}
	for i := range n {
		if !yield(out.Logits[i*e.vocab:(i+1)*e.vocab:(i+1)*e.vocab], nil) {
			return 0, errBreak
		}
	}
	return n, nil
}
