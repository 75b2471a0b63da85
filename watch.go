package pumice

import (
	"context"
	"iter"
	"slices"
	"time"

	"pumice/model/pages"
)

// Metrics are counts of an Engine, from Open on unless they say otherwise.
type Metrics struct {
	Steps        int64    `json:"steps"`         // evaluations, each of one or more sequences
	SharedSteps  int64    `json:"shared_steps"`  // of these, those of several sequences
	Sequences    int64    `json:"sequences"`     // sum over steps: Sequences/Steps are evaluated together on average
	PromptTokens int64    `json:"prompt_tokens"` // evaluated in pieces of prompts
	Tokens       int64    `json:"tokens"`        // evaluated one by one or in bursts
	Counters     Counters `json:"counters"`      // of all steps; calls such as Embed are not in it

	Queued   int `json:"queued"`   // now: sessions that wait for a step
	Sessions int `json:"sessions"` // now: sessions that hold pages of the KV cache

	Lookups      int64 `json:"lookups"`       // of a text in the KV cache
	LookupTokens int64 `json:"lookup_tokens"` // that texts had
	HitTokens    int64 `json:"hit_tokens"`    // of these, that were there

	Retractions int64 `json:"retractions"` // times that a session lost its pages to an older one, and evaluates again what is gone by then

	Evicted int64 `json:"evicted"` // pages that were given up because there was no room

	// Of all layers that see everything, and of those that see a window.
	Pages      Pages `json:"pages"`
	LocalPages Pages `json:"local_pages"`
}

// Pages count the pages of the KV cache, 64 tokens each.
type Pages struct {
	InUse  int `json:"in_use"` // of sessions at work
	Cached int `json:"cached"` // kept for texts that begin alike
	Free   int `json:"free"`
	Host   int `json:"host"` // in host memory
}

// A Step says what the executor has done in one go.
type Step struct {
	Sequences    int           `json:"sequences"`       // evaluated together
	PromptTokens int           `json:"prompt_tokens"`   // in pieces of prompts
	Tokens       int           `json:"tokens"`          // others
	Calls        int           `json:"calls,omitempty"` // 1: an evaluation that has no tokens of a session, such as those of Embed
	Queued       int           `json:"queued"`          // sessions that waited meanwhile
	Retracted    int           `json:"retracted"`       // sessions that lost their pages before it
	Took         time.Duration `json:"nanoseconds"`     // with what it waited for
	Counters     Counters      `json:"counters"`        // dispatches and bytes
	Pieces       []Piece       `json:"pieces"`          // of texts, one a sequence; for watchers alone

	// Kernels are those of the step, or of the last token of a burst; for watchers of an Engine with Options.Profile.
	Kernels []Timing `json:"kernels,omitempty"`
}

// A Piece says what of a session's text a Step has evaluated, and what the session has of the KV cache then.
type Piece struct {
	Session  int   `json:"session"`          // counted from 1, in the order in which they were first seen
	Position int   `json:"position"`         // of the first of Tokens in the text
	Tokens   []int `json:"tokens,omitempty"` // ids; guesses and the end of a burst among them, which may turn out wrong
	Pages    int   `json:"pages"`            // of the KV cache
	Shared   int   `json:"shared_pages"`     // of these, that other sessions have too
}

// A Lookup says what of a text the KV cache had.
type Lookup struct {
	Tokens  int `json:"tokens"`  // of the text
	Held    int `json:"held"`    // of these, that are not evaluated again
	Differs int `json:"differs"` // the first token that differs from everything in the cache; Tokens if none does
}

// An Event is something that an Engine has done: one of its fields but Time is not nil.
type Event struct {
	Time   time.Time `json:"time"`
	Step   *Step     `json:"step,omitempty"`
	Lookup *Lookup   `json:"lookup,omitempty"`

	Missed int `json:"missed,omitempty"` // events before this one that the watcher was too slow for
}

// watch counts and tells. The executor's lock guards it.
type watch struct {
	metrics  Metrics
	watchers map[*watcher]struct{}
}

type watcher struct {
	events chan Event
	missed int
}

// watcherEvents is how many events wait for a watcher.
const watcherEvents = 256

func (w *watch) tell(e Event) {
	if len(w.watchers) == 0 {
		return
	}
	e.Time = time.Now()
	for x := range w.watchers {
		e.Missed = x.missed
		select {
		case x.events <- e:
			x.missed = 0
		default:
			x.missed++
		}
	}
}

// describe says what a step has evaluated, to those who watch.
func (x *executor) describe(s *Step, step []piece) {
	if x.watched() == 0 {
		return
	}
	for _, p := range step {
		h, from := &p.s.hold, p.end-p.n
		d := Piece{Session: x.number(p.s), Position: from, Tokens: slices.Concat(p.tokens[from:p.end], h.pending)}
		d.Pages, d.Shared = h.sequence.Pages()
		s.Pieces = append(s.Pieces, d)
	}
	if x.profile {
		s.Kernels, _ = x.model.Profile() // a device that is lost says so in the next step
	}
}

// number is a session's number for watchers.
func (x *executor) number(s *Session) int {
	if s.seen == 0 {
		x.seen++
		s.seen = x.seen
	}
	return s.seen
}

// count adds what a step has evaluated.
func (s *Step) count(step []piece, c Counters) {
	s.Sequences, s.Counters = len(step), c
	for _, p := range step {
		if p.n > 1 {
			s.PromptTokens += p.n
		} else {
			s.Tokens += 1 + len(p.s.hold.pending)
		}
	}
}

// pool takes the state of the pages into account.
func (w *watch) pool(p pages.Metrics) {
	m := &w.metrics
	m.Lookups, m.LookupTokens, m.HitTokens, m.Evicted = p.Lookups, p.LookupTokens, p.HitTokens, p.Dropped+p.Saved
	state := func(g pages.Group) Pages {
		x := p.Groups[g]
		return Pages{InUse: x.InUse, Cached: x.Cached, Free: x.Free, Host: x.Host}
	}
	m.Pages, m.LocalPages = state(pages.Global), state(pages.Local)
}

// step takes a step into account.
func (w *watch) step(s Step) {
	m := &w.metrics
	if s.Sequences > 0 {
		m.Steps++
		m.Sequences += int64(s.Sequences)
	}
	if s.Sequences > 1 {
		m.SharedSteps++
	}
	m.PromptTokens += int64(s.PromptTokens)
	m.Tokens += int64(s.Tokens)
	m.Retractions += int64(s.Retracted)
	m.Counters.Add(s.Counters)
	if len(w.watchers) > 0 {
		told := s
		w.tell(Event{Step: &told})
	}
}

// watched is how many watchers there are.
func (x *executor) watched() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.watch.watchers)
}

func (w *watch) close() {
	for x := range w.watchers {
		close(x.events)
	}
	w.watchers = nil
}

// Metrics returns the engine's counts.
func (e *Engine) Metrics() Metrics {
	x := e.work
	x.mu.Lock()
	defer x.mu.Unlock()
	m := x.watch.metrics
	m.Queued, m.Sessions = len(x.waiting), len(x.sessions)
	return m
}

// Watch yields what the engine does, until ctx ends or the engine is closed. Events wait for a slow loop, but not for ever:
// Event.Missed says how many it has missed.
func (e *Engine) Watch(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		x, w := e.work, &watcher{events: make(chan Event, watcherEvents)}
		x.mu.Lock()
		if x.closed {
			x.mu.Unlock()
			return
		}
		if x.watch.watchers == nil {
			x.watch.watchers = map[*watcher]struct{}{}
		}
		x.watch.watchers[w] = struct{}{}
		x.mu.Unlock()
		defer func() {
			x.mu.Lock()
			delete(x.watch.watchers, w)
			x.mu.Unlock()
		}()
		for {
			select {
			case event, ok := <-w.events:
				if !ok || !yield(event) {
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}
}
