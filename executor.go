package pumice

import (
	"context"
	"slices"
	"sync"
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
	Profile() ([]pipeline.Timing, error)
	Capture(c *model.Capture, span int)

	Fingerprint() string
	PageBytes(g pages.Group) int64
	ReadPage(ctx context.Context, e pages.Extent, dst []byte) error
	WritePage(ctx context.Context, e pages.Extent, src []byte) error
}

// An executor evaluates what sessions ask for. One goroutine at a time uses the model: that of a session which finds nobody at
// work, or one of the executor's own. It puts into a step what is ready: the next token of each session that has one, and pieces of prompts (continuous
// batching: Yu et al. 2022, Orca, sec. 4). What can't share a step takes turns with these.
type executor struct {
	model   evaluator
	turns   []*turn // of the devices, in the order in which they are taken
	profile bool    // the model takes timestamps

	mu        sync.Mutex
	idle      sync.Cond             // signalled when running ends
	waiting   []*job                // in order of arrival
	sessions  map[*Session]struct{} // that may hold pages
	returning map[*Session]struct{} // of these, that were served by the last step and will come back
	released  []*Session            // that are to give up what they hold
	arrived   chan struct{}         // signalled when a job or a release has come
	running   bool                  // a goroutine works
	closed    bool
	watch     watch
	attentive []*attentionWatcher

	// Of the goroutine that works.
	contended bool          // for the last step or this one somebody had to wait: another Engine is at work on a device
	soloTurn  bool          // what shares no step is next
	full      bool          // pages were taken from a session, and none has given up its own since: nobody else gets any
	took      time.Duration // the last step
	perToken  time.Duration // of prompts, lately; 0: not known
	starts    int           // counts holds
	seen      int           // counts sessions that watchers were told of
	asked     int           // counts steps that were to leave weights of attention

	provenances pages.Provenance // that were given to what sessions evaluate alone

	stepping []piece // those that share the step under way; nil: none. The lock guards it
	together context.Context
	abandon  context.CancelFunc // ends together

	// Memory that is used again, so that a step allocates nothing.
	loop                  func() // work
	timer                 *time.Timer
	solo, shared, prompts []*job
	pieces                []piece
	spans                 []model.Span
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
	gone  bool          // its context has ended meanwhile
	over  bool          // it is done, and does not wait any more
	ended chan struct{} // has an element when it is done

	// What came of it.
	done   bool
	err    error
	cached int // tokens that the cache had of the text at first; -1: not known yet
	end    int // and has now
	out    model.Output
	draft  []int // guesses that were evaluated behind the last token
}

func newExecutor(m evaluator, turns ...*turn) *executor {
	x := &executor{
		model: m, turns: turns, sessions: map[*Session]struct{}{}, returning: map[*Session]struct{}{}, arrived: make(chan struct{}, 1),
		timer: time.NewTimer(time.Hour), pieces: make([]piece, 0, model.MaxSpans),
	}
	x.timer.Stop()
	x.watch.pool(m.Pages().Metrics())
	x.idle.L = &x.mu
	x.loop = x.work
	x.together, x.abandon = context.WithCancel(context.Background())
	return x
}

// do has a job done and waits for it. A job that waits, or that has a step to itself, ends when its context does; a step that
// it shares is waited for.
func (x *executor) do(j *job) error {
	if err := j.ctx.Err(); err != nil {
		return err
	}
	*j = job{ctx: j.ctx, s: j.s, tokens: j.tokens, what: j.what, call: j.call, cached: j.cached, ended: j.ended}
	if j.ended == nil {
		j.ended = make(chan struct{}, 1)
	}
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
	if x.running {
		x.wake()
	} else { // without a change of goroutines, which would cost a token a tenth of a millisecond on a machine that is busy
		x.running = true
		x.run(j)
	}
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
	j.gone = true
	x.abandonIfAllGone()
	x.mu.Unlock()
	<-j.ended
	return j.err
}

// abandonIfAllGone ends a shared step that nobody waits for any more. The caller has the lock.
func (x *executor) abandonIfAllGone() {
	if len(x.stepping) > 0 && !slices.ContainsFunc(x.stepping, func(p piece) bool { return !p.gone }) {
		x.abandon()
	}
}

// alone has a call done that has the model to itself; s is nil or the session whose hold it uses.
func (x *executor) alone(ctx context.Context, s *Session, call func(ctx context.Context) error) error {
	return x.do(&job{ctx: ctx, s: s, call: call})
}

// release gives up what a session holds, and notes its text. What it has evaluated of that stays in the cache as long as
// there is room.
func (x *executor) release(s *Session, text []int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s.text = append(s.text[:0], text...)
	if _, ok := x.sessions[s]; !ok || x.closed {
		return
	}
	if !s.Alone || s.closed {
		delete(x.sessions, s)
	}
	delete(x.returning, s)
	x.released = append(x.released, s)
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
		go x.loop()
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
	for _, w := range x.attentive {
		close(w.events)
	}
	x.attentive = nil
	if x.running {
		x.wake()
	}
	for x.running {
		x.idle.Wait()
	}
	x.abandon()
}

// work works until nothing is left to do.
func (x *executor) work() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.run(nil)
}

// run works until nothing is left to do. With own it works in steps for that job, and leaves others to another goroutine. The caller
// has the lock.
func (x *executor) run(own *job) {
	for {
		x.settle()
		if own != nil && own.over && len(x.waiting) > 0 {
			go x.loop()
			return
		}
		x.linger()
		if len(x.waiting) == 0 {
			if len(x.released) > 0 {
				continue
			}
			break
		}
		if own != nil && slices.ContainsFunc(x.turns, (*turn).isTaken) { // whoever waits may leave
			go x.loop()
			return
		}
		if x.takeTurns() {
			x.settle()
		}
		jobs := x.choose()
		if own != nil && !slices.Contains(jobs, own) { // the same
			x.giveTurns()
			go x.loop()
			return
		}
		if len(jobs) == 0 {
			x.giveTurns()
			continue
		}
		for _, j := range jobs {
			j.busy = true
		}
		queued := len(x.waiting) - len(jobs)
		x.mu.Unlock()
		begun := time.Now()
		s := x.step(jobs)
		x.took = time.Since(begun)
		x.giveTurns()
		s.Queued, s.Took = queued, x.took
		pool := x.model.Pages().Metrics()
		x.mu.Lock()
		x.watch.pool(pool)
		x.watch.step(s)
		clear(x.returning)
		for _, j := range jobs {
			j.busy = false
			if j.done {
				if _, ok := x.sessions[j.s]; ok && !j.solo {
					x.returning[j.s] = struct{}{}
				}
				x.end(j)
			}
		}
	}
	x.running = false
	x.idle.Broadcast()
}

// end takes a job that is done out of those that wait. The caller has the lock.
func (x *executor) end(j *job) {
	if at := slices.Index(x.waiting, j); at >= 0 {
		x.waiting = slices.Delete(x.waiting, at, at+1)
	}
	j.over = true
	j.ended <- struct{}{}
}

// settle gives up what was released, and ends jobs whose context has ended, or all if the engine is closed.
func (x *executor) settle() {
	for _, s := range x.released {
		h := &s.hold
		if h.sequence != nil {
			h.confirm(s.text, len(s.text)-1)
			if s.Alone && !s.closed { // it can go on nowhere else
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
	for i := 0; i < len(x.waiting); {
		j := x.waiting[i]
		if j.err = j.ctx.Err(); x.closed {
			j.err = ErrClosed
		}
		if j.err == nil {
			i++
		} else {
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
	x.timer.Reset(min(x.took/lingerShare, lingerMost))
	defer x.timer.Stop()
	for waiting := true; waiting && len(x.returning) > 0 && !x.closed; {
		x.mu.Unlock()
		select {
		case <-x.arrived:
		case <-x.timer.C:
			waiting = false
		}
		x.mu.Lock()
	}
	clear(x.returning)
	x.settle()
}

// choose returns the jobs that the next step may serve: one that shares no step, or all others. The caller has the lock.
func (x *executor) choose() []*job {
	x.solo, x.shared = x.solo[:0], x.shared[:0]
	for _, j := range x.waiting {
		switch {
		case x.full && j.s != nil && j.s.hold.sequence == nil: // until somebody gives up pages
		case j.solo:
			x.solo = append(x.solo, j)
		default:
			x.shared = append(x.shared, j)
		}
	}
	if len(x.solo) > 0 && (x.soloTurn || len(x.shared) == 0) {
		x.soloTurn = false
		return x.solo[:1]
	}
	x.soloTurn = true
	if len(x.shared) == 0 { // sessions that hold pages let them lie
		x.full = false
	}
	return x.shared
}
