// Package monitor shows what an engine does: a State takes in its events and counts, a View is what there is to see of it at a
// moment, and Draw draws one. With the build tag window, Show opens a window. The events come from an Engine of the process
// (Follow) or from a server (State.Receive).
package monitor

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"pumice"
	"pumice/server"
)

const (
	// spanTime is the time that a point of a plot stands for, and spans how many points there are: a minute.
	spanTime = 500 * time.Millisecond
	spans    = 120
	// nowSpans is how many spans the rate of now is over.
	nowSpans = 4
	// textTokens is how much of a text is kept.
	textTokens = 600
	// maxSessions is how many sessions are kept, those that have worked last.
	maxSessions = 64
)

// A State is what an engine has done. It is safe for concurrent use.
type State struct {
	mu       sync.Mutex
	about    server.Engine
	pieces   func(ids []int) []string // what each token adds to a text; nil: texts are not known
	metrics  pumice.Metrics
	points   [spans]point // by span, modulo spans
	sessions map[int]*session
	missed   int
	last     time.Time // of a step
	kernels  []pumice.Timing
	copied   float64
	ended    error // why nothing more comes; nil while something may

	attention attention
}

// A point is what was evaluated in one span of time.
type point struct {
	span           int64
	tokens, prompt int
}

// A session is one of the engine's.
type session struct {
	Session
	ids []int // the last tokens
	at  int   // position of the first of ids
}

// Receive takes in an event of the server's stream, GET /watch. Events that it does not know are left out.
func (s *State) Receive(name string, data []byte) error {
	var err error
	switch name {
	case "engine":
		var about server.Engine
		if err = json.Unmarshal(data, &about); err == nil {
			s.mu.Lock()
			s.begin(about)
			s.mu.Unlock()
		}
	case "metrics":
		var m pumice.Metrics
		if err = json.Unmarshal(data, &m); err == nil {
			s.Count(m)
		}
	case "attention":
		var a server.Attention
		if err = json.Unmarshal(data, &a); err == nil {
			s.weights(a)
		}
	case "":
		var e pumice.Event
		if err = json.Unmarshal(data, &e); err == nil {
			s.Event(e)
		}
	}
	if err != nil {
		return fmt.Errorf("monitor: an event %q of the server: %w", name, err)
	}
	return nil
}

// Follow takes in what an engine of this process does, until ctx ends or the engine is closed. name is the model's. With
// profile, that of its Options, it first measures how fast the device copies its memory.
func (s *State) Follow(ctx context.Context, e *pumice.Engine, name string, profile bool) {
	s.mu.Lock()
	s.begin(server.Describe(e, name))
	if t := e.Tokenizer(); t != nil {
		s.pieces = func(ids []int) (list []string) {
			stream := t.StreamSpecial()
			for _, id := range ids {
				list = append(list, stream.Next(id))
			}
			return list
		}
	}
	s.mu.Unlock()
	defer s.follow(e)()
	if profile {
		if rate, err := e.CopyBandwidth(ctx); err == nil {
			s.mu.Lock()
			s.copied = rate
			s.mu.Unlock()
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wait sync.WaitGroup
	wait.Go(func() {
		tick := time.NewTicker(spanTime)
		defer tick.Stop()
		for {
			s.Count(e.Metrics())
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	for event := range e.Watch(ctx) {
		s.Event(event)
	}
	cancel()
	wait.Wait()
}

// begin forgets what is known of an engine before this one, but for its plots. The caller has the lock.
func (s *State) begin(about server.Engine) {
	s.about, s.pieces, s.sessions, s.kernels, s.copied = about, nil, nil, nil, 0
	s.attention.Known = false
}

// End says why nothing more comes.
func (s *State) End(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = cmp.Or(err, error(errEnded))
}

var errEnded = fmt.Errorf("monitor: the engine is closed")

// Count takes in an engine's counts.
func (s *State) Count(m pumice.Metrics) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics = m
}

// Event takes in what an engine has done.
func (s *State) Event(e pumice.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missed += e.Missed
	if e.Step == nil {
		return
	}
	s.last = e.Time
	if e.Step.PromptTokens == 0 && len(e.Step.Kernels) > 0 {
		s.kernels = e.Step.Kernels
	}
	if span := e.Time.UnixNano() / int64(spanTime); span >= 0 {
		p := &s.points[span%spans]
		if p.span != span {
			*p = point{span: span}
		}
		p.tokens += e.Step.Tokens
		p.prompt += e.Step.PromptTokens
	}
	for _, piece := range e.Step.Pieces {
		s.piece(e.Time, piece)
	}
}

// piece takes in what of a session was evaluated.
func (s *State) piece(now time.Time, p pumice.Piece) {
	x := s.sessions[p.Session]
	if x == nil {
		if s.sessions == nil {
			s.sessions = map[int]*session{}
		}
		x = &session{Session: Session{Number: p.Session, Since: now, Last: now}}
		s.sessions[p.Session] = x
		if len(s.sessions) > maxSessions {
			oldest := slices.MinFunc(slices.Collect(maps.Values(s.sessions)), func(a, b *session) int { return a.Last.Compare(b.Last) })
			if oldest != x {
				delete(s.sessions, oldest.Number)
			}
		}
	}
	x.Last, x.Pages, x.Shared = now, p.Pages, p.Shared
	x.Tokens = p.Position + len(p.Tokens)
	if known := p.Position - x.at; known < 0 || known > len(x.ids) {
		x.ids, x.at = nil, p.Position
	} else {
		x.ids = x.ids[:known]
	}
	x.ids = append(x.ids, p.Tokens...)
	if over := len(x.ids) - textTokens; over > 0 {
		x.ids, x.at = slices.Delete(x.ids, 0, over), x.at+over
	}
}

// A Session is what there is to see of one.
type Session struct {
	Number int
	Tokens int // in its text; 0: not known
	Pages  int // of the KV cache
	Shared int // of these, that others have too
	Since  time.Time
	Last   time.Time // that something of it was evaluated
}

// A View is what there is to see at a moment.
type View struct {
	Now      time.Time
	About    server.Engine
	Metrics  pumice.Metrics
	Decode   []float64 // tokens a second that were generated, in each of the last spans, the oldest first
	Prompt   []float64 // the same of prompts
	Rate     float64   // of Decode now: over the last two seconds
	Sessions []Session // those that have worked last first
	Text     string    // of the first session; "": not known
	Ends     []int     // where each token of Text ends, in bytes
	First    int       // position of the first token of Text
	Last     time.Time // when something was evaluated

	Kernels   []pumice.Timing // of the last step without prompts; nil: not known
	Bandwidth float64         // at which the device copies its memory, in bytes a second, as read and written; 0: not known
	Attention Attention
	Missed    int   // events that came too fast
	Ended     error // why nothing more comes; nil while something may
}

// Idle reports whether nothing was evaluated lately.
func (v View) Idle() bool { return v.Metrics.Queued == 0 && v.Now.Sub(v.Last) > time.Second }

// View returns what there is to see.
func (s *State) View(now time.Time) View {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := View{Now: now, About: s.about, Metrics: s.metrics, Missed: s.missed, Last: s.last, Kernels: s.kernels, Bandwidth: s.copied, Ended: s.ended, Attention: s.attention.Attention}
	last := now.UnixNano() / int64(spanTime) // under way, and not shown
	perSecond := 1 / spanTime.Seconds()
	for span := last - spans + 1; span < last; span++ {
		p := s.points[span%spans]
		if p.span != span {
			p = point{}
		}
		v.Decode = append(v.Decode, float64(p.tokens)*perSecond)
		v.Prompt = append(v.Prompt, float64(p.prompt)*perSecond)
	}
	for _, r := range v.Decode[len(v.Decode)-nowSpans:] {
		v.Rate += r / nowSpans
	}
	for _, x := range s.sessions {
		v.Sessions = append(v.Sessions, x.Session)
	}
	slices.SortFunc(v.Sessions, func(a, b Session) int { return cmp.Or(b.Last.Compare(a.Last), b.Number-a.Number) })
	if len(v.Sessions) > 0 && s.pieces != nil {
		x := s.sessions[v.Sessions[0].Number]
		var text strings.Builder
		v.First = x.at
		for _, piece := range s.pieces(x.ids) {
			text.WriteString(strings.ReplaceAll(piece, "\t", "    "))
			v.Ends = append(v.Ends, text.Len())
		}
		v.Text = text.String()
	}
	return v
}
