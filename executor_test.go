package pumice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pumice/model"
	"pumice/model/pages"
	"pumice/pipeline"
)

// A counter is a fake whose next token is that before it plus one, so that texts of different sessions stay apart. It takes
// a moment for each step, so that sessions come together.
type counter struct {
	*fake
	took time.Duration                  // a step
	each time.Duration                  // a token
	fail func(spans []model.Span) error // nil: never
}

func newCounter(t *testing.T) *counter {
	f := newFake(t, nil)
	f.context = 400
	return &counter{fake: f, took: time.Millisecond}
}

// engine returns an engine on the counter.
func (c *counter) engine() *Engine {
	e := fakeEngine(c.fake, nil)
	e.work.model = c
	return e
}

func (c *counter) Run(ctx context.Context, spans []model.Span, t model.Tail) (out model.Output, err error) {
	time.Sleep(c.took)
	for _, span := range spans {
		time.Sleep(time.Duration(len(span.Tokens)) * c.each)
	}
	if c.fail != nil {
		if err := c.fail(spans); err != nil {
			return out, err
		}
	}
	if out, err = c.fake.Run(ctx, spans, model.Tail{}); err != nil {
		return out, err
	}
	for _, span := range spans {
		if t.Rows == model.LastRows {
			out.Choices = append(out.Choices, model.Choice{ID: span.Tokens[len(span.Tokens)-1] + 1})
		}
	}
	return out, nil
}

func (c *counter) Decode(ctx context.Context, q *pages.Sequence, token, _ int, _ *pipeline.Draw) (model.Output, error) {
	return c.Run(ctx, []model.Span{{Sequence: q, Tokens: []int{token}}}, model.Tail{Rows: model.LastRows, Top: 1})
}

// count generates n tokens, of which each must be the one before plus one.
func count(ctx context.Context, s *Session, prompt []int, n int) error {
	last := prompt[len(prompt)-1]
	for token, err := range s.Generate(ctx, prompt, GenerateOptions{MaxTokens: n}) {
		if err != nil {
			return err
		}
		if token.ID != last+1 {
			return fmt.Errorf("token %d after %d", token.ID, last)
		}
		last = token.ID
	}
	return nil
}

// together runs calls at the same time and returns their errors.
func together(calls ...func() error) []error {
	errs := make([]error, len(calls))
	var wait sync.WaitGroup
	for i, call := range calls {
		wait.Go(func() { errs[i] = call() })
	}
	wait.Wait()
	return errs
}

// checkIdle checks that nothing holds pages.
func checkIdle(t *testing.T, e *Engine) {
	t.Helper()
	if n := settled(e).Metrics().Groups[pages.Global].InUse; n > 0 {
		t.Errorf("%d pages are in use, and nobody works", n)
	}
	if m := e.Metrics(); m.Queued+m.Sessions > 0 {
		t.Errorf("%d jobs wait, %d sessions hold pages", m.Queued, m.Sessions)
	}
}

// TestSessionsShareSteps has eight sessions generate at the same time, from prompts of different lengths.
func TestSessionsShareSteps(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	var calls []func() error
	for i := range 8 {
		prompt := make([]int, 1+10*i)
		for j := range prompt {
			prompt[j] = 500*i + j
		}
		calls = append(calls, func() error { return count(t.Context(), e.NewSession(), prompt, 60) })
	}
	if err := errors.Join(together(calls...)...); err != nil {
		t.Fatal(err)
	}
	checkIdle(t, e)
	m := e.Metrics()
	if average := float64(m.Sequences) / float64(m.Steps); average < 4 || slices.Max(c.batches) < 7 {
		t.Errorf("%.1f sequences a step, at most %d: %+v", average, slices.Max(c.batches), m)
	}
	if m.PromptTokens+m.Tokens != int64(sum(c.calls)) || m.Counters.Submits < m.Steps/2 {
		t.Errorf("%+v, evaluated %d", m, sum(c.calls))
	}
}

// TestManySessions has a hundred sessions at once on few pages: steps are full, and all come to an end.
func TestManySessions(t *testing.T) {
	c := newCounter(t)
	c.context, c.kv.pages = 100, 300
	e := c.engine()
	var calls []func() error
	for i := range 100 {
		calls = append(calls, func() error {
			return count(t.Context(), e.NewSession(), slices.Repeat([]int{50 * i}, 1+i%20), 30)
		})
	}
	if err := errors.Join(together(calls...)...); err != nil {
		t.Fatal(err)
	}
	checkIdle(t, e)
	if m := e.Metrics(); float64(m.Sequences)/float64(m.Steps) < 12 {
		t.Errorf("%.1f sequences a step", float64(m.Sequences)/float64(m.Steps))
	}
}

// TestShortContexts has sessions at work where a step has room for few tokens.
func TestShortContexts(t *testing.T) {
	for _, n := range []int{2, 3, 5, 9, 16, 17, 33} {
		c := newCounter(t)
		c.context = n
		e := c.engine()
		var calls []func() error
		for i := range 20 {
			calls = append(calls, func() error {
				prompt := slices.Repeat([]int{100 * i}, 1+i%(n-1))
				return count(t.Context(), e.NewSession(), prompt, n-len(prompt))
			})
		}
		if err := errors.Join(together(calls...)...); err != nil {
			t.Errorf("a context of %d: %v", n, err)
		}
		checkIdle(t, e)
	}
}

func sum(list []int) (n int) {
	for _, x := range list {
		n += x
	}
	return n
}

// TestAPromptStopsNobody has a long prompt arrive while four sessions generate: between two tokens of a session there are at
// most two steps.
func TestAPromptStopsNobody(t *testing.T) { synctest.Test(t, testAPromptStopsNobody) }

func testAPromptStopsNobody(t *testing.T) {
	c := newCounter(t)
	c.each = 3 * time.Millisecond // so that 32 tokens of a prompt take less than 0.25 s, and 128 more
	e := c.engine()
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	steps := map[int][]int{} // by first token, the steps that had the session
	step, started := 0, make(chan struct{})
	c.fail = func(spans []model.Span) error {
		mu.Lock()
		defer mu.Unlock()
		if step++; step == 40 {
			close(started)
		}
		for _, span := range spans {
			id := span.Tokens[0]
			steps[id/1000] = append(steps[id/1000], step)
		}
		return nil
	}
	var calls []func() error
	for i := range 4 {
		calls = append(calls, func() error {
			if err := count(ctx, e.NewSession(), []int{1000 * (i + 1)}, 390); err != nil && !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})
	}
	calls = append(calls, func() error {
		defer stop()
		<-started
		prompt := make([]int, 350) // in pieces of 32
		for i := range prompt {
			prompt[i] = 5000 + i
		}
		return count(t.Context(), e.NewSession(), prompt, 2)
	})
	if err := errors.Join(together(calls...)...); err != nil {
		t.Fatal(err)
	}
	prompt := steps[5]
	if len(prompt) < 350/smallestPiece {
		t.Errorf("the prompt came in %d pieces", len(prompt))
	}
	for i := 1; i <= 4; i++ {
		last := 0
		for _, n := range steps[i] {
			if last >= prompt[0] && n <= prompt[len(prompt)-2] && n-last > 1 {
				t.Errorf("session %d waited for %d steps", i, n-last)
			}
			last = n
		}
	}
	checkIdle(t, e)
}

// TestSessionsInTurnEvaluateNothingAgain has two sessions with a common system prompt take turns.
func TestSessionsInTurnEvaluateNothingAgain(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	system := slices.Repeat([]int{7}, 100)
	texts := [][]int{append(slices.Clone(system), 1000), append(slices.Clone(system), 2000)}
	sessions := []*Session{e.NewSession(), e.NewSession()}
	for turn := range 4 {
		for i, s := range sessions {
			if err := count(t.Context(), s, texts[i], 5); err != nil {
				t.Fatal(err)
			}
			r := s.Result()
			want := 100 // the system prompt
			switch {
			case turn == 0 && i == 0:
				want = 0
			case turn > 0:
				want = len(texts[i]) - 2 // but for the last token of the answer and the one that was added
			}
			if r.Stats.CachedN != want {
				t.Errorf("turn %d of session %d: %d of %d tokens were cached, want %d", turn, i, r.Stats.CachedN, len(texts[i]), want)
			}
			texts[i] = append(append(texts[i], r.Tokens...), r.Tokens[4]+50)
		}
	}
	checkIdle(t, e)
}

// TestErrorsReachTheSessionsConcerned lets steps fail: any one of them, or all that have a certain session.
func TestErrorsReachTheSessionsConcerned(t *testing.T) {
	lost := errors.New("lost")
	for _, failing := range []int{-1, 3, 4, 5, 8, 13, 30} { // the step that fails; -1: those of session 2
		c := newCounter(t)
		e := c.engine()
		step := 0
		c.fail = func(spans []model.Span) error {
			step++
			concerned := func(s model.Span) bool { return s.Tokens[0]/1000 == 3 && s.Tokens[0] > 3010 }
			if step == failing && len(spans) > 1 || failing < 0 && slices.ContainsFunc(spans, concerned) {
				return lost
			}
			return nil
		}
		var calls []func() error
		for i := range 5 {
			calls = append(calls, func() error { return count(t.Context(), e.NewSession(), []int{1000 * (i + 1), 1000*(i+1) + 1}, 30) })
		}
		for i, err := range together(calls...) {
			if concerned := failing < 0 && i == 2; concerned != errors.Is(err, lost) || !concerned && err != nil {
				t.Errorf("step %d fails: session %d has the error %v", failing, i, err)
			}
		}
		checkIdle(t, e)
	}
}

// TestAFullPoolRetractsTheYoungest has more text than pages: all answers are right, and come to an end.
func TestAFullPoolRetractsTheYoungest(t *testing.T) {
	for _, o := range []fakeOptions{{pages: 24}, {pages: 24, hostPages: 40}, {pages: 24, window: 8}} {
		c := newCounter(t)
		c.context, c.kv = 24*fakePage, o
		e := c.engine()
		var calls []func() error
		for i := range 6 {
			calls = append(calls, func() error { return count(t.Context(), e.NewSession(), []int{900 * i, 900*i + 1}, 80) })
		}
		if err := errors.Join(together(calls...)...); err != nil {
			t.Fatalf("%+v: %v", o, err)
		}
		checkIdle(t, e)
		if m := e.Metrics(); m.Retractions == 0 || m.Retractions > 200 {
			t.Errorf("%+v: %d retractions", o, m.Retractions)
		}
	}
}

// TestSessionsThatWaitAreRetracted has a session that holds nearly all pages between two tokens, while another needs them.
func TestSessionsThatWaitAreRetracted(t *testing.T) {
	c := newCounter(t)
	c.context, c.kv = 24*fakePage, fakeOptions{pages: 24}
	e := c.engine()
	prompt := make([]int, 70)
	for i := range prompt {
		prompt[i] = 100 + i
	}
	g, err := e.NewSession().Start(Request{prompt, GenerateOptions{MaxTokens: 10}})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	for i := range 10 {
		token, err := g.Next(t.Context())
		if err != nil || token.ID != 170+i {
			t.Fatalf("token %d is %d: %v", i, token.ID, err)
		}
		if i == 3 {
			if err := count(t.Context(), e.NewSession(), []int{1000, 1001, 1002}, 80); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := g.Next(t.Context()); err != io.EOF {
		t.Errorf("after the last token: %v", err)
	}
	g.Close()
	checkIdle(t, e)
}

// TestSessionsInUse: a second user of a session gets an error, and the first goes on.
func TestSessionsInUse(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	s := e.NewSession()
	g, err := s.Start(Request{Prompt: []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	busy := map[string]func() error{
		"Start":    func() error { _, err := s.Start(Request{Prompt: []int{1}}); return err },
		"Generate": func() error { return count(t.Context(), s, []int{1}, 1) },
		"LogProbs": func() error { _, err := s.LogProbs(t.Context(), []int{1, 2}, 0); return err },
		"Logits": func() (last error) {
			for _, last = range s.Logits(t.Context(), []int{1}, false) {
			}
			return last
		},
		"Score": func() (last error) {
			for _, last = range s.Score(t.Context(), []int{1}, [][]int{{1}}) {
			}
			return last
		},
		"Close": s.Close,
	}
	for name, call := range busy {
		if err := call(); err != ErrBusy {
			t.Errorf("%s: %v", name, err)
		}
	}
	c.before = func() {
		if _, err := g.Next(t.Context()); err != ErrBusy {
			t.Errorf("Next inside Next: %v", err)
		}
		if err := g.Close(); err != ErrBusy {
			t.Errorf("Close inside Next: %v", err)
		}
	}
	if token, err := g.Next(t.Context()); err != nil || token.ID != 2 {
		t.Errorf("%+v, %v", token, err)
	}
	c.before = nil
	if err := errors.Join(g.Close(), g.Close(), s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
	if _, err := g.Next(t.Context()); err != ErrSessionClosed {
		t.Errorf("a closed generation: %v", err)
	}
	for name, call := range busy {
		if err := call(); name != "Close" && err != ErrSessionClosed {
			t.Errorf("%s of a closed session: %v", name, err)
		}
	}
	checkIdle(t, e)
}

// TestAloneSharesNothing: the steps of such a session have no others, and it finds only what it has evaluated itself.
func TestAloneSharesNothing(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	alone := e.NewSession()
	alone.Alone = true
	prompt := slices.Repeat([]int{5}, 50)
	var mixed atomic.Int64
	c.fail = func(spans []model.Span) error {
		for _, s := range spans {
			if id := s.Tokens[len(s.Tokens)-1]; id >= 5 && id < 100 && len(spans) > 1 {
				mixed.Add(1)
			}
		}
		return nil
	}
	if err := count(t.Context(), e.NewSession(), append(slices.Clone(prompt), 200), 3); err != nil { // begins alike
		t.Fatal(err)
	}
	err := errors.Join(together(
		func() error { return count(t.Context(), alone, prompt, 40) },
		func() error { return count(t.Context(), e.NewSession(), []int{200}, 40) },
		func() error { return count(t.Context(), e.NewSession(), []int{300}, 40) },
	)...)
	if err != nil {
		t.Fatal(err)
	}
	if r := alone.Result(); r.Stats.CachedN != 0 || mixed.Load() > 0 {
		t.Errorf("%d tokens of others, %d steps with others", r.Stats.CachedN, mixed.Load())
	}
	for _, n := range []int{49, 30} { // the same text, and one that parts from it
		if err := count(t.Context(), alone, append(slices.Clone(prompt[:n]), prompt[n:]...), 1); err != nil || alone.Result().Stats.CachedN != n {
			t.Errorf("%d of its own tokens: %v", alone.Result().Stats.CachedN, err)
		}
		prompt[30] = 6
	}
	if err := count(t.Context(), e.NewSession(), prompt, 1); err != nil {
		t.Error(err)
	}
	if err := alone.Close(); err != nil {
		t.Error(err)
	}
	checkIdle(t, e)
}

// TestCloseEndsWhatWaits closes an engine under sessions at work.
func TestCloseEndsWhatWaits(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	calls := []func() error{func() error { time.Sleep(20 * time.Millisecond); return e.Close() }}
	for i := range 6 {
		calls = append(calls, func() error {
			if err := count(t.Context(), e.NewSession(), []int{500 * i}, 390); err != ErrClosed {
				return fmt.Errorf("session %d: %w", i, err)
			}
			return nil
		})
	}
	if err := errors.Join(together(calls...)...); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := e.NewSession().LogProbs(t.Context(), []int{1}, 0); err != ErrClosed {
		t.Errorf("a new session: %v", err)
	}
}

// TestWatch has an engine tell what it does.
func TestWatch(t *testing.T) {
	c := newCounter(t)
	e := c.engine()
	events := make(chan Event)
	var wait sync.WaitGroup
	wait.Go(func() {
		defer close(events)
		for event := range e.Watch(context.Background()) {
			events <- event
		}
	})
	for e.work.watched() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := count(t.Context(), e.NewSession(), []int{1, 2, 3}, 2); err != nil {
		t.Fatal(err)
	}
	want := []string{"lookup of 3, 0 held", "step of 1: 3 and 0, [{1 0 [1 2 3] 1 0}]", "step of 1: 0 and 1, [{1 3 [4] 1 0}]"}
	for i, w := range want {
		var got string
		switch event := <-events; {
		case event.Lookup != nil:
			got = fmt.Sprintf("lookup of %d, %d held", event.Lookup.Tokens, event.Lookup.Held)
		case event.Step != nil:
			s := event.Step
			got = fmt.Sprintf("step of %d: %d and %d, %v", s.Sequences, s.PromptTokens, s.Tokens, s.Pieces)
		}
		if got != w {
			t.Errorf("event %d: %s, want %s", i, got, w)
		}
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	for range events {
	}
	wait.Wait()
	for range e.Watch(t.Context()) {
		t.Error("an event of a closed engine")
	}
}

// TestRandomHistoriesOfSessions has sessions do at random what sessions do, on few pages: all texts come out right, and nothing
// is lost.
func TestRandomHistoriesOfSessions(t *testing.T) {
	for seed := range uint64(4) {
		c := newCounter(t)
		c.took, c.context = 0, 16*fakePage
		c.kv = fakeOptions{pages: 20, hostPages: int(seed%2) * 10, window: int(seed/2) * 8}
		e := c.engine()
		var calls []func() error
		for i := range 5 {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			calls = append(calls, func() error {
				s := e.NewSession()
				s.Alone = i == 4
				defer s.Close()
				text := []int{1}
				for range 60 {
					if err := act(t.Context(), s, random, &text); err != nil {
						return fmt.Errorf("seed %d, session %d: %w", seed, i, err)
					}
				}
				return nil
			})
		}
		if err := errors.Join(together(calls...)...); err != nil {
			t.Error(err)
		}
		checkIdle(t, e)
	}
}

// act does one thing with a session, and changes its text.
func act(ctx context.Context, s *Session, random *rand.Rand, text *[]int) error {
	if len(*text) > 40 || random.IntN(8) == 0 { // another text, that of others too
		*text = []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}[:1+random.IntN(10)]
	}
	switch random.IntN(7) {
	case 0:
		s.Truncate(random.IntN(len(*text) + 1))
	case 1: // is cancelled
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Duration(random.IntN(300))*time.Microsecond, cancel)
		if err := count(ctx, s, *text, 12); err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		cancel()
	case 2: // stops early
		for range s.Generate(ctx, *text, GenerateOptions{}) {
			if random.IntN(4) == 0 {
				break
			}
		}
	case 3:
		for row, err := range s.Score(ctx, *text, [][]int{{1, 2}, {3}, {4}}) {
			if err != nil || len(row) == 0 {
				return fmt.Errorf("%d logits: %w", len(row), err)
			}
		}
	default:
		if err := count(ctx, s, *text, 1+random.IntN(15)); err != nil {
			return err
		}
		*text = append(*text, s.Result().Tokens...)
	}
	return nil
}
