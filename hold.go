package pumice

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"pumice/model/pages"
)

// A hold is what a session has of the KV cache while it works. It is the executor's.
type hold struct {
	sequence *pages.Sequence // nil: nothing, so that what there is of the tokens is looked up
	pending  []int           // tokens behind it that were evaluated, but may turn out wrong
	start    int             // its place in the order of holds; 0: none yet
}

// age orders holds, those that are yet to begin last.
func (h *hold) age() int { return cmp.Or(h.start, math.MaxInt) }

// resume makes sure that the job's session holds as much of the text as the cache has, and sets what is held: j.end.
func (x *executor) resume(j *job) error {
	s, h := j.s, &j.s.hold
	most := min(j.what.from, len(j.tokens))
	if s.limit >= 0 {
		most = min(most, s.limit)
	}
	if q := h.sequence; q != nil {
		if n := q.Len(); n <= most && slices.Equal(q.Tokens(), j.tokens[:n]) {
			h.confirm(j.tokens, most)
			j.found(q.Len())
			return nil
		}
		if s.Alone { // goes on where the texts part, and keeps apart what it makes from what it has made
			n, err := q.Truncate(min(commonPrefix(q.Tokens(), j.tokens), most))
			if err != nil {
				return err
			}
			q.Remake(x.provenance())
			h.pending = h.pending[:0]
			j.found(n)
			return nil
		}
		h.sequence, h.pending = nil, nil
		q.Release()
	}
	made := pages.Batched
	if s.Alone {
		made, most = x.provenance(), 0
	}
	q, err := x.model.Pages().Acquire(j.ctx, j.tokens, most, made)
	if err != nil {
		return err
	}
	if h.start == 0 {
		x.starts++
		h.start = x.starts
	}
	h.sequence = q
	j.found(q.Len())
	m := q.Match()
	x.mu.Lock()
	x.watch.tell(Event{Lookup: &Lookup{Tokens: m.Tokens, Held: m.Held, Differs: m.Differs}})
	x.mu.Unlock()
	return nil
}

// provenance is a new one.
func (x *executor) provenance() pages.Provenance {
	x.provenances++
	return x.provenances
}

// found notes how many tokens of the text the session holds.
func (j *job) found(n int) {
	j.end, j.s.limit = n, -1
	if j.cached < 0 {
		j.cached = n
	}
}

// confirm commits those of the pending tokens that the text has in their places, at most up to a length.
func (h *hold) confirm(text []int, most int) {
	n := h.sequence.Len()
	if n <= min(most, len(text)) && slices.Equal(h.sequence.Tokens(), text[:n]) {
		right := min(commonPrefix(h.pending, text[n:]), most-n)
		_ = h.sequence.Commit(h.pending[:right]...) // they were reserved
	}
	h.pending = h.pending[:0]
}

func isFull(err error) bool { return errors.Is(err, pages.ErrFull) }

// call does a call, again after somebody has given up pages if there are too few.
func (x *executor) call(j *job) {
	for {
		err := j.call(j.ctx)
		if !isFull(err) || !x.takePages(j.s, nil) {
			j.done, j.err = true, err
			return
		}
	}
}

// makeRoom takes a session's pages away if a step found too few, and returns what of the step is left to evaluate.
func (x *executor) makeRoom(err error, step []piece) []piece {
	if err == nil {
		return nil
	}
	if x.takePages(nil, step) {
		return step
	}
	if len(step) > 1 { // the youngest waits until others have ended
		slices.SortStableFunc(step, func(a, b piece) int { return a.s.hold.start - b.s.hold.start })
		last := len(step) - 1
		x.retract(step[last].s)
		return sortSingles(step[:last])
	}
	step[0].fail(err)
	return nil
}

// sortSingles puts pieces of one token first.
func sortSingles(step []piece) []piece {
	slices.SortStableFunc(step, func(a, b piece) int { return min(a.n, 2) - min(b.n, 2) })
	return step
}

// takePages takes its pages from the youngest session that is neither s nor in the step. It reports whether there was one.
func (x *executor) takePages(s *Session, step []piece) bool {
	x.mu.Lock()
	var youngest *Session
	for other := range x.sessions {
		used := other == s || slices.ContainsFunc(step, func(p piece) bool { return p.s == other })
		if !used && other.hold.sequence != nil && (youngest == nil || other.hold.start > youngest.hold.start) {
			youngest = other
		}
	}
	x.mu.Unlock()
	if youngest == nil {
		return false
	}
	x.retract(youngest)
	return true
}

// retract takes a session's pages away. Its tokens stay in the cache as long as there is room, and are evaluated again where
// there is none.
func (x *executor) retract(s *Session) {
	s.hold.sequence.Release()
	s.hold.sequence, s.hold.pending = nil, nil
	x.full = true
}
