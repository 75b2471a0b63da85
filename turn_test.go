package pumice

import (
	"context"
	"errors"
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

// A turnLog has counters on devices whose turns they share, and notes whose steps they were.
type turnLog struct {
	t     *testing.T
	atOne atomic.Int32

	mu    sync.Mutex
	steps []loggedStep // in order
}

type loggedStep struct {
	engine, tokens int
	begun, ended   time.Time
}

// engine returns an engine on a counter that has the turns. Its steps take what the counter says.
func (b *turnLog) engine(number int, c *counter, turns ...*turn) *Engine {
	e := c.engine()
	e.work.turns = turns
	e.work.model = &logged{c, b, number}
	return e
}

// logged is a counter whose Run is noted.
type logged struct {
	*counter
	log    *turnLog
	number int
}

func (m *logged) Run(ctx context.Context, spans []model.Span, t model.Tail) (model.Output, error) {
	if m.log.atOne.Add(1) > 1 {
		m.log.t.Error("two steps at the same time")
	}
	s := loggedStep{engine: m.number, begun: time.Now()}
	out, err := m.counter.Run(ctx, spans, t)
	for _, span := range spans {
		s.tokens += len(span.Tokens)
	}
	s.ended = time.Now()
	m.log.mu.Lock()
	m.log.steps = append(m.log.steps, s)
	m.log.mu.Unlock()
	m.log.atOne.Add(-1)
	return out, err
}

func (m *logged) Decode(ctx context.Context, q *pages.Sequence, token, _ int, _ *pipeline.Draw) (model.Output, error) {
	return m.Run(ctx, []model.Span{{Sequence: q, Tokens: []int{token}}}, model.Tail{Rows: model.LastRows, Top: 1})
}

// TestEnginesShareADeviceInTurn has three engines generate on one device: no step is at the same time as another, and
// between two steps of an engine there is at most one of each other one.
func TestEnginesShareADeviceInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, device := &turnLog{t: t}, &Device{}
		const n = 100
		var calls []func() error
		var engines []*Engine
		for i := range 3 {
			c := newCounter(t)
			c.took = time.Duration(1+2*i) * time.Millisecond
			e := b.engine(i, c, turnsOf([]*Device{device})...)
			engines = append(engines, e)
			for j := range 2 {
				calls = append(calls, func() error { return count(t.Context(), e.NewSession(), []int{1000 * j}, n) })
			}
		}
		if err := errors.Join(together(calls...)...); err != nil {
			t.Fatal(err)
		}
		for _, e := range engines {
			checkIdle(t, e)
		}
		if device.turn.taken || len(device.turn.waiting) > 0 {
			t.Errorf("the turn is taken, and %d wait", len(device.turn.waiting))
		}
		left := map[int]int{} // steps of each engine
		for _, s := range b.steps {
			left[s.engine]++
		}
		last := map[int]int{}
		for at, s := range b.steps {
			for i := range engines {
				if left[i] > 0 && at-last[i] > len(engines) {
					t.Fatalf("step %d is the first one of engine %d after step %d", at, i, last[i])
				}
			}
			left[s.engine]--
			last[s.engine] = at
		}
	})
}

// TestEnginesOnSeveralDevicesShareThem has engines with the devices in all orders, twice and alone: none waits for ever.
func TestEnginesOnSeveralDevicesShareThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, y, z := &Device{turn: turn{order: 1}}, &Device{turn: turn{order: 2}}, &Device{turn: turn{order: 3}}
		if got := turnsOf([]*Device{z, x, z, y, x}); !slices.Equal(got, []*turn{&x.turn, &y.turn, &z.turn}) {
			t.Errorf("turns %v", got)
		}
		var calls []func() error
		for i, devices := range [][]*Device{{x, y, z}, {z, y, x}, {y, z}, {x, x}, {z, x}, {y}} {
			e := (&turnLog{t: t}).engine(i, newCounter(t), turnsOf(devices)...)
			calls = append(calls, func() error { return count(t.Context(), e.NewSession(), []int{1}, 50) })
		}
		if err := errors.Join(together(calls...)...); err != nil {
			t.Fatal(err)
		}
		for _, d := range []*Device{x, y, z} {
			if d.turn.taken {
				t.Errorf("the turn of device %d is taken", d.turn.order)
			}
		}
	})
}

// TestAPromptStopsNobodyOfAnotherEngine has a long prompt come to one engine while another one on the device generates: it
// comes in pieces of at most 0.25 s, but for a first one if it comes between two steps.
func TestAPromptStopsNobodyOfAnotherEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, device := &turnLog{t: t}, &Device{}
		c, long := newCounter(t), newCounter(t)
		long.each, long.context = 3*time.Millisecond, 1200
		ctx, stop := context.WithCancel(t.Context())
		var gaps []time.Duration
		e, other := b.engine(0, c, &device.turn), b.engine(1, long, &device.turn)
		err := errors.Join(together(
			func() error {
				last, prompt := time.Now(), []int{1}
				for ctx.Err() == nil {
					for token, err := range e.NewSession().Generate(ctx, prompt, GenerateOptions{MaxTokens: 390}) {
						if err != nil && ctx.Err() == nil {
							return err
						}
						prompt[0] = token.ID%1000 + 1
						gaps = append(gaps, time.Since(last))
						last = time.Now()
					}
				}
				return nil
			},
			func() error {
				defer stop()
				time.Sleep(50*time.Millisecond + 100*time.Microsecond) // within a step
				prompt := make([]int, 1100)
				for i := range prompt {
					prompt[i] = 2000 + i
				}
				return count(t.Context(), other.NewSession(), prompt, 2)
			},
		)...)
		if err != nil {
			t.Fatal(err)
		}
		if most := slices.Max(gaps); most > pieceTime+20*time.Millisecond {
			t.Errorf("a token took %v", most)
		}
		pieces := 0
		for _, s := range b.steps {
			if s.engine == 1 {
				pieces++
			}
		}
		if pieces < 1100/128 {
			t.Errorf("the prompt came in %d pieces", pieces)
		}
	})
}

// TestJobsThatWaitForATurnEnd cancels a session and closes an engine while another engine has the turn.
func TestJobsThatWaitForATurnEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, device := &turnLog{t: t}, &Device{}
		slow, c := newCounter(t), newCounter(t)
		slow.took = time.Minute
		e, other := b.engine(0, slow, &device.turn), b.engine(1, c, &device.turn)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		err := errors.Join(together(
			func() error { return count(t.Context(), e.NewSession(), []int{1}, 1) },
			func() error {
				time.Sleep(time.Second)
				if err := count(ctx, other.NewSession(), []int{1}, 1); !errors.Is(err, context.DeadlineExceeded) {
					return err
				}
				if took := time.Since(begun); took != 2*time.Second {
					t.Errorf("cancelling took until %v", took)
				}
				return nil
			},
			func() error {
				time.Sleep(3 * time.Second)
				if err := count(t.Context(), other.NewSession(), []int{1}, 1); err != ErrClosed {
					return err
				}
				return nil
			},
			func() error {
				time.Sleep(4 * time.Second)
				err := other.Close()
				if took := time.Since(begun); took != time.Minute {
					t.Errorf("closing took until %v", took)
				}
				return err
			},
		)...)
		if err != nil || len(b.steps) != 1 || device.turn.taken {
			t.Errorf("%v, %d steps, taken: %t", err, len(b.steps), device.turn.taken)
		}
		checkIdle(t, e)
	})
}

// BenchmarkTurn measures what taking the turn adds to a step, on a device with one Engine.
func BenchmarkTurn(b *testing.B) {
	x := newExecutor(nil, &(&Device{}).turn)
	x.mu.Lock()
	defer x.mu.Unlock()
	for b.Loop() {
		x.takeTurns()
		x.giveTurns()
	}
}
