package pumice

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pumice/model"
	"pumice/model/pages"
	"pumice/pipeline"
)

// An evaluator is a *model.Model; tests have one without a device.
type evaluator interface {
	Pages() *pages.Pool
	Run(ctx context.Context, spans []model.Span, t model.Tail) (model.Output, error)
	Score(ctx context.Context, q *pages.Sequence, tails [][]int, t model.Tail) (model.Output, error)
	Decode(ctx context.Context, q *pages.Sequence, token, steps int, draw *pipeline.Draw) (model.Output, error)
	MaxTails() (n, tokens int)
	MaxTokens(singles, others int) int
	MaxRows(t model.Tail) int
	MaxSteps() int

	Fingerprint() string
	PageBytes(g pages.Group) int64
	ReadPage(ctx context.Context, e pages.Extent, dst []byte) error
	WritePage(ctx context.Context, e pages.Extent, src []byte) error
}

// An executor evaluates what sessions ask for. One goroutine at a time uses the model: while there is work, the executor's.
// It puts into a step what is ready: the next token of each session that has one, and pieces of prompts (continuous
// batching: Yu et al. 2022, Orca, sec. 4). What can't share a step takes turns with these.
type executor struct {
	model evaluator

	mu        sync.Mutex
	idle      sync.Cond             // signalled when the goroutine ends
	waiting   []*job                // in order of arrival
	sessions  map[*Session]struct{} // that may hold pages
	returning map[*Session]struct{} // of these, that were served by the last step and will come back
	released  []release
	arrived   chan struct{} // signalled when a job or a release has come
	running   bool          // there is a goroutine
	closed    bool
	watch     watch

	// The goroutine's.
	soloTurn bool          // what shares no step is next
	full     bool          // pages were taken from a session, and none has given up its own since: nobody else gets any
	took     time.Duration // the last step
	perToken time.Duration // of prompts, lately; 0: not known
	starts   int           // counts holds

	provenances pages.Provenance // that were given to what sessions evaluate alone
}

// A hold is what a session has of the KV cache while it works. It is the executor's.
type hold struct {
	sequence *pages.Sequence // nil: nothing, so that what there is of the tokens is looked up
	pending  []int           // tokens behind it that were evaluated, but may turn out wrong
	start    int             // its place in the order of holds
}

// A release gives up what a session holds; of the pending tokens those that the text has stay in the cache.
type release struct {
	s    *Session
	text []int
}

// A job is what a session asks for at a time: to evaluate the next piece of a text, or a call.
type job struct {
	ctx    context.Context
	s      *Session // nil: none
	tokens []int    // the text
	what   evaluation

	call func(ctx context.Context) error // instead: to have the model to itself

	solo  bool          // shares no step
	busy  bool          // a step is under way that may be its own
	ended chan struct{} // closed when it is done

	// What came of it.
	done   bool
	err    error
	cached int // tokens that the cache had of the text at first; -1: not known yet
	end    int // and has now
	out    model.Output
	draft  []int // guesses that were evaluated behind the last token
}

func newExecutor(m evaluator) *executor {
	x := &executor{
		model: m, sessions: map[*Session]struct{}{}, returning: map[*Session]struct{}{}, arrived: make(chan struct{}, 1),
	}
	x.idle.L = &x.mu
	return x
}

// do has a job done and waits for it. A job that waits, or that has a step to itself, ends when its context does; a step that
// it shares is waited for.
func (x *executor) do(j *job) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	*j = job{ctx: j.ctx, s: j.s, tokens: j.tokens, what: j.what, call: j.call, cached: j.cached, ended: make(chan struct{})}
	j.solo = j.call != nil || j.s.Alone || !j.what.shares()
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return ErrClosed
	}
	if j.s != nil {
		x.sessions[j.s] = struct{}{}
		delete(x.returning, j.s)
	}
	x.waiting = append(x.waiting, j)
	x.wake()
	x.mu.Unlock()
	select {
	case <-j.ended:
		return j.err
	case <-j.ctx.Done():
	}
	x.mu.Lock()
	if at := slices.Index(x.waiting, j); at >= 0 && !j.busy {
		x.waiting = slices.Delete(x.waiting, at, at+1)
		x.mu.Unlock()
		return j.ctx.Err()
	}
	x.mu.Unlock()
	<-j.ended
	return j.err
}

// alone has a call done that has the model to itself; s is nil or the session whose hold it uses.
func (x *executor) alone(ctx context.Context, s *Session, call func(ctx context.Context) error) error {
	return x.do(&job{ctx: ctx, s: s, call: call})
}

// release gives up what a session holds. What it has evaluated of the text stays in the cache as long as there is room.
func (x *executor) release(s *Session, text []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.sessions[s]; !ok || x.closed {
		return
	}
	if !s.Alone || s.closed {
		delete(x.sessions, s)
	}
	delete(x.returning, s)
	x.released = append(x.released, release{s, text})
	if x.running {
		x.wake()
	} else {
		x.settle()
	}
}

// wake has the goroutine look at what has come. The caller has the lock.
func (x *executor) wake() {
	if !x.running {
		x.running = true
		go x.run()
		return
	}
	select {
	case x.arrived <- struct{}{}:
	default:
	}
}

// close ends jobs that wait with ErrClosed, and waits for the one that is under way.
func (x *executor) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	x.watch.close()
	if x.running {
		x.wake()
	}
	for x.running {
		x.idle.Wait()
	}
}

// run works until nothing is left to do.
func (x *executor) run() {
	x.mu.Lock()
	defer x.mu.Unlock()
	defer x.idle.Broadcast()
	defer func() { x.running = false }()
	for {
		x.settle()
		x.linger()
		jobs := x.choose()
		if len(jobs) == 0 {
			if len(x.waiting)+len(x.released) > 0 {
				continue
			}
			return
		}
		for _, j := range jobs {
			j.busy = true
		}
		queued := len(x.waiting) - len(jobs)
		x.mu.Unlock()
		begun := time.Now()
		s := x.step(jobs)
		x.took = time.Since(begun)
		s.Queued, s.Took = queued, x.took
		pool := x.model.Pages().Metrics()
		x.mu.Lock()
		x.watch.pool(pool)
		x.watch.step(s)
		clear(x.returning)
		for _, j := range jobs {
			j.busy = false
			if j.done {
				if _, ok := x.sessions[j.s]; ok {
					x.returning[j.s] = struct{}{}
				}
				x.end(j)
			}
		}
	}
}

// end takes a job that is done out of those that wait. The caller has the lock.
func (x *executor) end(j *job) {
	if at := slices.Index(x.waiting, j); at >= 0 {
		x.waiting = slices.Delete(x.waiting, at, at+1)
	}
	close(j.ended)
}

// settle gives up what was released, and ends jobs whose context has ended, or all if the engine is closed.
func (x *executor) settle() {
	for _, r := range x.released {
		h := &r.s.hold
		if h.sequence != nil {
			h.confirm(r.text, len(r.text)-1)
			if r.s.Alone && !r.s.closed { // it can go on nowhere else
				continue
			}
			h.sequence.Release()
			x.full = false
		}
		*h = hold{}
	}
	if len(x.released) > 0 {
		x.watch.pool(x.model.Pages().Metrics())
	}
	x.released = x.released[:0]
	for _, j := range slices.Clone(x.waiting) {
		if j.err = j.ctx.Err(); x.closed {
			j.err = ErrClosed
		}
		if j.err != nil {
			x.end(j)
		}
	}
}

// Sessions that were served together soon come back together. A step waits for them, but not long.
const (
	lingerShare = 4 // of the time of the last step
	lingerMost  = 20 * time.Millisecond
)

// linger waits for the sessions that were served by the last step, if others could share the next one. The caller has the
// lock.
func (x *executor) linger() {
	if len(x.returning) == 0 || !slices.ContainsFunc(x.waiting, func(j *job) bool { return !j.solo }) {
		return
	}
	timer := time.NewTimer(min(x.took/lingerShare, lingerMost))
	defer timer.Stop()
	for waiting := true; waiting && len(x.returning) > 0 && !x.closed; {
		x.mu.Unlock()
		select {
		case <-x.arrived:
		case <-timer.C:
			waiting = false
		}
		x.mu.Lock()
	}
	clear(x.returning)
	x.settle()
}

// choose returns the jobs that the next step may serve: one that shares no step, or all others. The caller has the lock.
func (x *executor) choose() []*job {
	var solo, shared []*job
	for _, j := range x.waiting {
		switch {
		case x.full && j.s != nil && j.s.hold.sequence == nil: // until somebody gives up pages
		case j.solo:
			solo = append(solo, j)
		default:
			shared = append(shared, j)
		}
	}
	if len(solo) > 0 && (x.soloTurn || len(shared) == 0) {
		x.soloTurn = false
		return solo[:1]
	}
	x.soloTurn = true
	if len(shared) == 0 { // sessions that hold pages let them lie
		x.full = false
	}
	return shared
}

// step does what it can of jobs in one step, and marks those that are done.
func (x *executor) step(jobs []*job) (s Step) {
	if jobs[0].call != nil {
		x.call(jobs[0])
		return Step{Calls: 1}
	}
	var ready []*job
	for _, j := range jobs {
		if err := x.resume(j); err != nil {
			j.fail(err)
		} else if j.end < len(j.tokens) {
			ready = append(ready, j)
		} else {
			j.done = true
		}
	}
	spans := x.fill(ready)
	for len(spans) > 0 {
		err := x.evaluate(spans, &s)
		if spans = x.makeRoom(err, spans); spans == nil {
			break
		}
		s.Retracted++
	}
	return s
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

// budget is how many tokens of prompts a step may have that others wait for.
func (x *executor) budget() int {
	n := smallestPiece
	for _, size := range pieceSizes {
		if x.perToken > 0 && time.Duration(size)*x.perToken <= pieceTime {
			n = size
		}
	}
	return n
}

// fill decides what a step has of the jobs that are ready: texts of which a token is left, then pieces of prompts, the oldest
// first. A prompt by itself gets a whole chunk.
func (x *executor) fill(ready []*job) (step []piece) {
	var prompts []*job
	for _, j := range ready {
		if j.left() > 1 {
			prompts = append(prompts, j)
		} else {
			step = append(step, piece{j, 1})
		}
	}
	if len(prompts) == 0 {
		return step[:min(len(step), model.MaxSpans)]
	}
	slices.SortStableFunc(prompts, func(a, b *job) int { return a.s.hold.start - b.s.hold.start })
	step = step[:min(len(step), model.MaxSpans-1)]
	if len(step) == 0 && (len(prompts) == 1 || prompts[0].left() >= PromptChunk) {
		j := prompts[0]
		return []piece{{j, min(j.left(), x.chunk(j))}}
	}
	singles := len(step)
	room := x.model.MaxTokens(singles, 1) - singles
	if singles > 0 {
		room = min(room, x.budget())
	}
	for _, j := range prompts {
		n := min(j.left(), room)
		if n < 2 || len(step) == model.MaxSpans {
			break
		}
		step, room = append(step, piece{j, n}), room-n
	}
	return step
}

// chunk is how many tokens of a text's rest a step takes that it has to itself. Rows of every token begin where they are
// wanted.
func (x *executor) chunk(j *job) int {
	n := PromptChunk
	if !j.solo && x.othersThan(j.s) {
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

// evaluate evaluates a step, and marks the jobs that are done with it. The error is pages.ErrFull, which changes nothing.
func (x *executor) evaluate(step []piece, s *Step) error {
	if len(step) == 1 {
		return x.evaluateOne(step[0], s)
	}
	spans, tail := make([]model.Span, len(step)), model.Tail{}
	for i, p := range step {
		spans[i] = model.Span{Sequence: p.s.hold.sequence, Tokens: p.tokens[p.end : p.end+p.n]}
		if p.last() {
			tail = union(tail, p.what.tail)
		}
	}
	ctx, cancel := untilAllEnd(step)
	defer cancel()
	begun := time.Now()
	out, err := x.model.Run(ctx, spans, tail)
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
	prompt := 0
	share := mean(out.Counters, int64(len(step)))
	for i, p := range step {
		p.end += p.n
		p.out, p.done = p.s.row(out, i, len(step)), true
		p.out.Counters = share
		if p.n > 1 {
			prompt += p.n
		}
	}
	x.measure(prompt, time.Since(begun), out.Counters)
	s.count(step, out.Counters)
	return nil
}

func isFull(err error) bool { return errors.Is(err, pages.ErrFull) }

// untilAllEnd is a context that ends when those of all jobs have.
func untilAllEnd(step []piece) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	var left atomic.Int64
	left.Store(int64(len(step)))
	stops := make([]func() bool, len(step))
	for i, p := range step {
		stops[i] = context.AfterFunc(p.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// union leaves what both tails ask for, or more from which that follows: few unions are enough, since each is a plan to record.
func union(a, b model.Tail) model.Tail {
	t := model.Tail{Rows: max(a.Rows, b.Rows)}
	switch {
	case a.Logits || b.Logits:
		t.Logits = true
	case a.LogProbs || b.LogProbs:
		t.Top, t.LogProbs = pipeline.TopLogits, true
	default:
		t.Top = max(a.Top, b.Top)
	}
	return t
}

// shares reports whether a step can leave what the evaluation asks for beside what others do.
func (e evaluation) shares() bool {
	t := e.tail
	return t.Rows != model.EveryRow && !t.Hidden && !t.Margin && !t.Stream
}

// row is what one of the rows of a step leaves, in memory of the session.
func (s *Session) row(out model.Output, i, rows int) (one model.Output) {
	if n := len(out.Logits) / rows; n > 0 {
		s.logitRows = append(s.logitRows[:0], out.Logits[i*n:(i+1)*n]...)
		one.Logits = s.logitRows
	}
	if out.Choices != nil {
		one.Choices = out.Choices[i : i+1]
	}
	if out.LogProbs != nil {
		one.LogProbs = out.LogProbs[i : i+1]
	}
	return one
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
	begun := time.Now()
	var out model.Output
	var err error
	var pending []int
	switch {
	case !p.last():
		out, err = x.model.Run(p.ctx, []model.Span{{Sequence: q, Tokens: next}}, model.Tail{})
	case len(draft) > 0:
		pending = draft
		tokens := slices.Concat(next, draft)
		out, err = x.model.Run(p.ctx, []model.Span{{Sequence: q, Tokens: tokens, Guesses: len(draft)}}, what.draftTail)
	case alone && what.tail.Top > 0 && !what.tail.LogProbs:
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
		out, err = x.model.Run(p.ctx, []model.Span{{Sequence: q, Tokens: next, Next: what.next}}, what.tail)
	}
	if isFull(err) {
		if q.Len() > p.end { // in the middle of its rows: they begin again
			p.s.hold.sequence = nil
			q.Release()
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
	p.s.hold.pending = append(p.s.hold.pending[:0], pending...)
	prompt := 0
	if p.n > 1 {
		prompt = p.n
	}
	x.measure(prompt, time.Since(begun), out.Counters)
	s.count([]piece{p}, out.Counters)
	return nil
}

// keep copies the rows of an output into memory of the session.
func (s *Session) keep(out model.Output) model.Output {
	if out.Logits != nil {
		s.logitRows = append(s.logitRows[:0], out.Logits...)
		out.Logits = s.logitRows
	}
	if out.Hidden != nil {
		s.hiddenRows = append(s.hiddenRows[:0], out.Hidden...)
		out.Hidden = s.hiddenRows
	}
	return out
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
