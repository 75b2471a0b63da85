package pumice

import (
	"cmp"
	"context"
	"slices"
	"time"

	"pumice/model"
	"pumice/pipeline"
)

// step does what it can of jobs in one step, and marks those that are done.
func (x *executor) step(jobs []*job) (s Step) {
	if jobs[0].call != nil {
		x.call(jobs[0])
		return Step{Calls: 1}
	}
	for pieces := x.fill(jobs); len(pieces) > 0; s.Retracted++ {
		err := x.evaluate(pieces, &s)
		if pieces = x.makeRoom(err, pieces); pieces == nil {
			break
		}
	}
	return s
}

// ready reports whether there is something to evaluate for a job, of which its session then holds what the cache has.
// Otherwise the job is done.
func (x *executor) ready(j *job) bool {
	if err := x.resume(j); err != nil {
		j.fail(err)
	}
	j.done = j.done || j.left() == 0
	return !j.done
}

func (j *job) fail(err error) { j.done, j.err = true, err }

// A piece is the tokens of a job that a step evaluates: those after job.end.
type piece struct {
	*job
	n int
}

// left is how many tokens of the text are to be evaluated.
func (j *job) left() int { return len(j.tokens) - j.end }

// last reports whether the piece has the text's last token.
func (p piece) last() bool { return p.n == p.left() }

// A prompt beside sessions that go on comes in pieces of one of these sizes, few since each is a plan to record: the largest
// that takes less than pieceTime.
var pieceSizes = []int{128, PromptChunk}

const (
	smallestPiece = 32
	pieceTime     = 250 * time.Millisecond
)

// budget is how many tokens of prompts a step may have that others wait for, in this Engine or in another on its devices.
func (x *executor) budget() int {
	n := smallestPiece
	for _, size := range pieceSizes {
		if x.perToken > 0 && time.Duration(size)*x.perToken <= pieceTime {
			n = size
		}
	}
	return n
}

// fill decides what a step has of jobs: texts of which a token is left, then pieces of prompts, the oldest first. A prompt by
// itself gets a whole chunk. New sessions get pages only with a place in the step.
func (x *executor) fill(jobs []*job) []piece {
	step, prompts := x.pieces[:0], x.prompts[:0]
	for _, j := range jobs {
		switch {
		case j.s.hold.sequence == nil:
			prompts = append(prompts, j)
		case !x.ready(j):
		case j.left() > 1:
			prompts = append(prompts, j)
		default:
			step = append(step, piece{j, 1})
		}
	}
	x.pieces, x.prompts = step, prompts
	most := model.MaxSpans
	if len(prompts) > 0 {
		most-- // one of them has a place
	}
	singles := min(len(step), most)
	for singles > x.model.MaxTokens(singles, 0) {
		singles--
	}
	step = step[:singles]
	slices.SortStableFunc(prompts, func(a, b *job) int { return cmp.Compare(a.s.hold.age(), b.s.hold.age()) })
	budget := PromptChunk
	if singles > 0 || x.contended {
		budget = x.budget()
	}
	for _, j := range prompts {
		if len(step) == model.MaxSpans {
			break
		}
		if j.s.hold.sequence == nil && !x.ready(j) {
			continue
		}
		if len(step) == 0 && (len(prompts) == 1 || j.left() >= PromptChunk) {
			return append(step, piece{j, min(j.left(), x.chunk(j))})
		}
		n := min(j.left(), budget, x.room(append(step, piece{j, j.left()})))
		if n < min(2, j.left()) { // one token of several would be no piece of a prompt
			break
		}
		step, budget = append(step, piece{j, n}), budget-n
	}
	return sortSingles(step)
}

// room is how many tokens the last of pieces can have.
func (x *executor) room(pieces []piece) int {
	singles, total := 0, 0
	for i, p := range pieces {
		if p.n == 1 {
			singles++
		}
		if i+1 < len(pieces) {
			total += p.n
		}
	}
	return x.model.MaxTokens(singles, len(pieces)-singles) - total
}

// chunk is how many tokens of a text's rest a step takes that it has to itself. Rows of every token begin where they are
// wanted.
func (x *executor) chunk(j *job) int {
	n := PromptChunk
	if !j.solo && (x.contended || x.othersThan(j.s)) {
		n = x.budget()
	}
	if j.what.tail.Rows == model.EveryRow && j.end < j.what.from {
		n = min(n, j.what.from-j.end)
	}
	return n
}

// othersThan reports whether sessions besides s are at work that may share its steps.
func (x *executor) othersThan(s *Session) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	for other := range x.sessions {
		if other != s && !other.Alone {
			return true
		}
	}
	return false
}

// evaluate evaluates a step, and marks the jobs that are done with it. The error is pages.ErrFull, which changes nothing.
func (x *executor) evaluate(step []piece, s *Step) error {
	if len(step) == 1 {
		return x.evaluateOne(step[0], s)
	}
	var tail model.Tail
	x.spans = x.spans[:0]
	for _, p := range step {
		span := model.Span{Sequence: p.s.hold.sequence, Tokens: p.tokens[p.end : p.end+p.n]}
		if p.last() {
			tail, span.Adjust = union(tail, p.what.tail), p.what.adjust
		}
		x.spans = append(x.spans, span)
	}
	ctx := x.begin(step)
	watcher, of := x.capture(step)
	begun := time.Now()
	out, err := x.model.Run(ctx, x.spans, tail)
	x.captured(watcher, of, err == nil, 0)
	x.begin(nil)
	switch {
	case isFull(err):
		return err
	case err != nil: // whose fault it is shows when each is evaluated by itself
		for _, p := range step {
			if p.solo = true; ctx.Err() != nil {
				p.fail(p.ctx.Err())
			}
		}
		return nil
	}
	share := mean(out.Counters, int64(len(step)))
	for i, p := range step {
		p.end += p.n
		p.out, p.done = p.s.keep(out.Row(i, len(step))), true
		p.out.Counters = share
	}
	s.count(step, out.Counters)
	x.describe(s, step)
	x.measure(s.PromptTokens, time.Since(begun), out.Counters)
	return nil
}

// begin notes which pieces share the step that begins; nil: none does. The context ends when those of all have.
func (x *executor) begin(step []piece) context.Context {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.stepping = step
	if x.together.Err() != nil {
		x.together, x.abandon = context.WithCancel(context.Background())
	}
	x.abandonIfAllGone()
	return x.together
}

// union leaves what both tails ask for, or more from which that follows: few unions are enough, since each is a plan to record.
func union(a, b model.Tail) model.Tail {
	t := model.Tail{Rows: max(a.Rows, b.Rows)}
	switch {
	case a.Logits || b.Logits:
		t.Logits = true
	case a.LogProbs || b.LogProbs:
		t.Top, t.LogProbs, t.Adjusted = pipeline.TopLogits, true, a.Adjusted || b.Adjusted
	default:
		t.Top, t.Adjusted = max(a.Top, b.Top), a.Adjusted || b.Adjusted
	}
	return t
}

// shares reports whether a step can leave what the evaluation asks for beside what others do.
func (e evaluation) shares() bool {
	t := e.tail
	return t.Rows != model.EveryRow && !t.Hidden && !t.Margin && !t.Stream
}

// evaluateOne evaluates a step of one piece: the next chunk of a prompt, or a token with the guesses or the burst of tokens that
// may follow it.
func (x *executor) evaluateOne(p piece, s *Step) error {
	q, what, next := p.s.hold.sequence, p.what, p.tokens[p.end:p.end+p.n]
	alone := p.n == 1 && p.last()
	var draft []int
	if room := p.s.engine.context - p.end - 1; alone {
		draft = what.draft[:min(len(what.draft), room)]
	}
	var watcher *attentionWatcher
	if len(draft) == 0 {
		watcher, _ = x.capture([]piece{p})
	}
	begun := time.Now()
	var out model.Output
	var err error
	pending, span, tail := p.s.hold.pending[:0], model.Span{Sequence: q, Tokens: next}, what.tail
	switch {
	case !p.last():
		tail = model.Tail{}
	case len(draft) > 0:
		pending, tail = append(pending, draft...), what.draftTail
		span.Tokens, span.Guesses = slices.Concat(next, draft), len(draft)
	default:
		span.Next, span.Adjust = what.next, what.adjust
	}
	switch {
	case alone && len(draft) == 0 && tail.Top > 0 && !tail.LogProbs && !tail.Adjusted:
		steps := max(1, min(what.steps, x.model.MaxSteps(), p.s.engine.context-p.end))
		var draw *pipeline.Draw
		if what.tail.Top > 1 {
			draw = what.draw(steps)
		}
		if out, err = x.model.Decode(p.ctx, q, next[0], steps, draw); err == nil {
			for _, c := range out.Choices[:steps-1] {
				pending = append(pending, c.ID)
			}
		}
	default:
		if what.progress != nil {
			span.Progress = p.tell
		}
		x.spans = append(x.spans[:0], span)
		out, err = x.model.Run(p.ctx, x.spans, tail)
	}
	x.captured(watcher, p, err == nil, len(pending))
	if isFull(err) {
		if q.Len() > p.end { // in the middle of its rows, which begin again
			x.retract(p.s)
			if !x.takePages(p.s, nil) {
				p.fail(err)
			}
			return nil
		}
		return err
	}
	p.out, p.draft = p.s.keep(out), draft
	if err != nil {
		p.fail(err)
		return nil
	}
	p.done, p.end = true, p.end+p.n
	p.s.hold.pending = pending
	s.count([]piece{p}, out.Counters)
	x.describe(s, []piece{p})
	x.measure(s.PromptTokens, time.Since(begun), out.Counters)
	return nil
}

// tell says how far the evaluation of the piece is, but for its end.
func (p piece) tell(tokens int) {
	if tokens < p.n {
		p.what.progress(p.end+tokens-p.cached, len(p.tokens)-p.cached)
	}
}

// keep copies an output into memory of the session.
func (s *Session) keep(out model.Output) model.Output {
	out.CopyTo(&s.output)
	return s.output
}

// measure notes how long a step took that had so many tokens of prompts, unless it compiled kernels.
func (x *executor) measure(prompt int, took time.Duration, c pipeline.Counters) {
	if prompt == 0 || c.Records > 0 {
		return
	}
	each := took / time.Duration(prompt)
	if x.perToken == 0 {
		x.perToken = each
	}
	x.perToken += (each - x.perToken) / 4
}
