package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pumice/internal/dtype"
)

// endsAfter is a context that has ended after its Err was asked so many times.
type endsAfter struct {
	context.Context
	left int
}

func (c *endsAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// A walk is a table whose row t is 1 where next(t) is and 0 elsewhere, and plans over it that share a Frame: the token
// with the largest logit after t is next(t).
type walk struct {
	t            testing.TB
	b            *bench
	table        *Matrix
	greedy, draw *Plan // which advance
	several      *Plan // of up to walkTokens tokens, which leaves the largest logit of each
}

const (
	walkVocab  = 64
	walkTokens = 6
)

func next(token int) int { return (5*token + 3) % walkVocab }

func newWalk(t *testing.T, o Options) *walk {
	w := &walk{t: t, b: newBench(t, newManager(t, o))}
	values := make([]float64, walkVocab*walkVocab)
	for token := range walkVocab {
		values[token*walkVocab+next(token)] = 1
	}
	w.table = w.b.store(dtype.F32, values, walkVocab).matrix
	w.greedy = w.plan("greedy", 1, func(b *Builder, logits *Tensor) { b.Advance(logits) })
	w.draw = w.plan("draw", 1, func(b *Builder, logits *Tensor) { b.AdvanceDraw(logits) })
	w.several = w.plan("several", walkTokens, func(b *Builder, logits *Tensor) { b.Output("top", b.TopK(logits, 1)) })
	return w
}

func (w *walk) plan(name string, tokens int, end func(b *Builder, logits *Tensor)) *Plan {
	b := w.b.m.NewBuilder(name, tokens)
	end(b, b.Embed(w.table, 1))
	return w.b.build(b)
}

// step is a Step of p from a token on: for a plan that advances a burst of n, else n tokens of the walk.
func (w *walk) step(p *Plan, position, token, n int) Step {
	s := one(position, token)
	switch p {
	case w.greedy:
		s.Burst = n
	case w.draw:
		s.Burst, s.Draw = n, &Draw{Temperature: 1, TopK: 1, TopP: 1, Uniform: make([]float32, n)}
	default:
		for range n - 1 {
			q := &s.Sequences[0]
			q.Tokens = append(q.Tokens, next(q.Tokens[len(q.Tokens)-1]))
		}
	}
	return s
}

// sees compares what n steps, or tokens, of the last Run have found with the walk from a token on, and returns its end.
func (w *walk) sees(what string, p *Plan, token, n int) int {
	w.t.Helper()
	for i := range n {
		token = next(token)
		var got int
		var err error
		var logits [1]float32
		if p == w.several {
			var pair [2 * walkTokens]float32
			_, err = p.Output("top", 0, n, pair[:2*n])
			logits[0], got = pair[2*i], int(math.Float32bits(pair[2*i+1]))
		} else {
			got, _, err = p.Chosen(i, logits[:], make([]int, 1))
		}
		if got != token || err != nil || logits[0] != 1 {
			w.t.Errorf("%s: token %d is %d with %g, %v; want %d with 1", what, i, got, logits[0], err, token)
		}
	}
	return token
}

// knows compares the words that the host takes the Step buffer to hold with those that it holds.
func (w *walk) knows(what string) {
	w.t.Helper()
	f := &w.b.m.frame
	device := slices.Clone(f.step.Mapped())
	for at := 0; at < len(f.words); at += 4 {
		if known := word(f.words, at); known != unknownWord && known != word(device, at) {
			w.t.Errorf("%s: word %d of the Step buffer is %d, the host has %d", what, at/4, word(device, at), known)
		}
	}
}

// TestABurstThatFailsLeavesTheNextOneRight breaks a burst off before each of its submissions. The device has moved its
// step on by then, and the host has not. Then another plan runs, whose results are right too, and the first goes on.
func TestABurstThatFailsLeavesTheNextOneRight(t *testing.T) {
	const n = 5
	for _, profile := range []bool{false, true} { // all steps but the first are one submission, or each is one
		w := newWalk(t, Options{Profile: profile})
		for _, between := range []string{"nothing", "greedy", "draw", "several"} {
			t.Run(fmt.Sprintf("profile %t, %s between", profile, between), func(t *testing.T) {
				failed := 0
				for end := 0; ; end++ {
					w := *w
					w.t = t
					w.greedy = w.plan("greedy", 1, func(b *Builder, logits *Tensor) { b.Advance(logits) }) // which has measured nothing
					_, err := w.greedy.Run(&endsAfter{context.Background(), end}, w.step(w.greedy, 3, 9, n))
					if err == nil {
						break
					}
					if !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					failed++
					what := fmt.Sprint("broken off at ", end)
					for _, p := range []*Plan{w.greedy, w.draw, w.several} {
						if p.name == between {
							run(t, p, w.step(p, 17, 30, 2))
							w.sees(what+", between", p, 30, 2)
						}
					}
					w.knows(what)
					token := 9
					for i := range 2 { // the second goes on from the first
						c := run(t, w.greedy, w.step(w.greedy, 3+i*n, token, n))
						if i > 0 && c.HostToDeviceBytes != 0 {
							t.Errorf("%s: %d bytes for what the device has", what, c.HostToDeviceBytes)
						}
						token = w.sees(what, w.greedy, token, n)
						w.knows(what)
					}
				}
				if failed < 3 {
					t.Errorf("broken off at %d places", failed)
				}
			})
		}
	}
}

// TestPlansTakeTurnsWithAFrame runs plans in random order, steps that go on and steps elsewhere, some of which fail. Every
// result is right, and no step sends more than a Step has.
func TestPlansTakeTurnsWithAFrame(t *testing.T) {
	w := newWalk(t, Options{})
	random := rand.New(rand.NewPCG(7, 7))
	plans := []*Plan{w.greedy, w.draw, w.several}
	position, token, failures := 0, 1, 0
	for i := range 300 {
		p := plans[random.IntN(len(plans))]
		n := 1 + random.IntN(walkTokens)
		if random.IntN(3) == 0 {
			position, token = random.IntN(1000), random.IntN(walkVocab)
		}
		what := fmt.Sprintf("run %d, %s, %d from token %d at %d", i, p.name, n, token, position)
		s := w.step(p, position, token, n)
		ctx := context.Context(t.Context())
		if random.IntN(4) == 0 {
			ctx = &endsAfter{ctx, random.IntN(4)}
		}
		c, err := p.Run(ctx, s)
		if err != nil {
			failures++
			for _, p := range plans {
				if err := w.b.m.frame.holds(&p.form); err == nil {
					t.Errorf("%s: %s has results of a run that failed", what, p.name)
				}
			}
		} else {
			most := int64(20 + 8*s.Len()) // position, count, sequences, singles, one row
			if p.logged > 0 {
				most += 4
			}
			if s.Draw != nil {
				most += drawHow + 4*int64(n)
			}
			if c.HostToDeviceBytes > most {
				t.Errorf("%s: %d bytes to the device, a step has %d", what, c.HostToDeviceBytes, most)
			}
			token = w.sees(what, p, token, n)
			position += n
		}
		w.knows(what)
		if t.Failed() {
			t.FailNow()
		}
	}
	if failures < 20 {
		t.Errorf("%d runs failed", failures)
	}
}

// TestAStepSendsWhatTheDeviceLacks counts the bytes of steps that differ in little.
func TestAStepSendsWhatTheDeviceLacks(t *testing.T) {
	w := newWalk(t, Options{})
	for _, c := range []struct {
		name string
		p    *Plan
		s    Step
		want int64
	}{
		{"the first", w.greedy, one(3, 9), 24}, // position, count, rows, sequences, singles, token
		{"the next", w.greedy, one(4, next(9)), 0},
		{"another token", w.greedy, one(5, 1), 4},
		{"another position", w.greedy, one(9, next(1)), 4},
		{"three tokens", w.several, one(10, next(next(1)), 5, 6), 20}, // count, singles, one row, two tokens
		{"the same", w.several, one(10, next(next(1)), 5, 6), 0},
		{"two endings", w.several, endings(10, []int{2, 1}, next(next(1)), 5, 6), 16}, // rows, two of them, one start
		{"one token of three", w.greedy, one(10, next(next(1))), 16},                  // count, rows, singles, one row
	} {
		if got := run(t, c.p, c.s).HostToDeviceBytes; got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

// TestResultsAreThoseOfTheLastRun reads results of a plan before it has run, after another one has, and after a failure.
func TestResultsAreThoseOfTheLastRun(t *testing.T) {
	w := newWalk(t, Options{})
	top := func() error {
		_, err := w.several.Output("top", 0, 1, make([]float32, 2))
		return err
	}
	chosen := func() error {
		_, _, err := w.greedy.Chosen(0, nil, nil)
		return err
	}
	wantError(t, "before a run", top(), "several has no results")
	run(t, w.several, w.step(w.several, 0, 1, 2))
	wantError(t, "before its run", chosen(), "greedy has no results any more: several has run since")
	if err := top(); err != nil {
		t.Error(err)
	}
	run(t, w.greedy, w.step(w.greedy, 0, 1, 2))
	wantError(t, "after another's run", top(), "several has no results any more: greedy has run since")
	wantError(t, "a tap", w.several.Tap("top", 0, 1, make([]float32, 2)), "greedy has run since")
	if err := chosen(); err != nil {
		t.Error(err)
	}
	_, err := w.greedy.Run(&endsAfter{t.Context(), 0}, w.step(w.greedy, 0, 1, 2))
	wantError(t, "a run that fails", err, "context canceled")
	wantError(t, "after a failure", chosen(), "greedy has no results", "failed")

	run(t, w.greedy, w.step(w.greedy, 0, 1, 2))
	for _, c := range []struct{ step, logits, ids int }{{2, 1, 1}, {-1, 1, 1}, {0, 2, 2}, {0, 1, 0}} {
		_, _, err = w.greedy.Chosen(c.step, make([]float32, c.logits), make([]int, c.ids))
		wantError(t, fmt.Sprint(c), err, "there are 2 steps with 1")
	}
	run(t, w.several, w.step(w.several, 0, 1, 2))
	_, _, err = w.several.Chosen(0, nil, nil)
	wantError(t, "a plan that does not advance", err, "several: 0 largest logits of step 0")
}

// TestInputsAreOfTheirPlan gives one plan its input and runs another.
func TestInputsAreOfTheirPlan(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	plan := func(name string, tokens, cols int) *Plan {
		p := b.m.NewBuilder(name, tokens)
		x := p.Input(cols)
		p.Add(x, x)
		p.Output("twice", x)
		return b.build(p)
	}
	p, q := plan("first", 2, 8), plan("second", 3, 4)
	rows := []float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
	give := func(p *Plan, n int) {
		t.Helper()
		if sent, err := p.Input(t.Context(), rows[:n]); err != nil || sent != int64(4*n) {
			t.Fatalf("%d bytes, %v", sent, err)
		}
	}
	runs := func(p *Plan, tokens int) error {
		_, err := p.Run(t.Context(), inputStep(0, tokens))
		return err
	}
	wantError(t, "no input", runs(p, 1), "first: no input was given")
	give(p, 8)
	give(q, 12)
	wantError(t, "another's input", runs(p, 1), "first: no input was given, or another plan's after it")
	if err := runs(q, 3); err != nil {
		t.Fatal(err)
	}
	sees := func(p *Plan, tokens, cols int) {
		t.Helper()
		for i, got := range outputOf(t, p, "twice", tokens, cols) {
			if got != 2*rows[i] {
				t.Errorf("value %d is %g, want %g", i, got, 2*rows[i])
			}
		}
	}
	sees(q, 3, 4)
	give(p, 8)
	if err := errors.Join(runs(p, 1), runs(p, 1)); err != nil {
		t.Fatal(err)
	}
	sees(p, 1, 8)
}

// TestReservedMemoryGrowsWithoutPlans builds, closes, and builds a plan that needs more.
func TestReservedMemoryGrowsWithoutPlans(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	var last Need
	for _, tokens := range []int{1, 40, 3} {
		p := b.m.NewBuilder(fmt.Sprint("plan of ", tokens), tokens)
		p.Output("y", b.inputOf(p, b.normal(tokens*64), 64))
		need, err := p.Need()
		if err == nil {
			err = errors.Join(b.m.Reserve(need), b.loader.Flush())
		}
		if err != nil {
			t.Fatal(err)
		}
		plan, err := p.Build(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			run(t, plan, inputStep(7, tokens))
			outputOf(t, plan, "y", tokens, 64)
		}
		if err := b.m.Reserve(last); err != nil {
			t.Errorf("what there is: %v", err)
		}
		if err := plan.Close(); err != nil {
			t.Fatal(err)
		}
		last = last.Max(need)
		if got := b.m.frame.step.Size() + b.m.frame.readback.Size(); got != last.FrameBytes() {
			t.Errorf("%d bytes, want %d", got, last.FrameBytes())
		}
	}
	if err := b.m.lacks(Need{Draw: drawBytes}); err == nil || !strings.Contains(err.Error(), "needs a draw buffer") {
		t.Errorf("a buffer that nothing has asked for: %v", err)
	}
}

// TestRowsAreDrawnBetweenBursts draws a token for each of several sequences, in fewer rows than there are, between the
// steps of another one that goes on by itself.
func TestRowsAreDrawnBetweenBursts(t *testing.T) {
	w := newWalk(t, Options{})
	rows := w.b.m.NewBuilder("rows", 4)
	rows.Batch(4, 0)
	rows.Draw(rows.Embed(w.table, 1))
	p := w.b.build(rows)
	token, position := 9, 0
	for i, tokens := range [][]int{{1, 2, 3, 4}, {30, 40}, {5, 6, 7}} {
		run(t, w.draw, w.step(w.draw, position, token, 3))
		token = w.sees(fmt.Sprint("burst ", i), w.draw, token, 3)
		position += 3
		s := rowsOf(tokens...)
		for range tokens {
			s.Draws = append(s.Draws, Draw{Temperature: .1, TopK: 3, TopP: 1, Uniform: []float32{.5}})
		}
		c := run(t, p, s)
		if same := run(t, p, s).HostToDeviceBytes; same != drawRow*int64(len(tokens)) {
			t.Errorf("%d bytes for the same step, want those of the draws", same)
		}
		if c.Dispatches != 3 {
			t.Errorf("%d dispatches", c.Dispatches)
		}
		for row, from := range tokens {
			var logits [TopLogits]float32
			got, bytes, err := p.Chosen(row, logits[:], make([]int, TopLogits))
			if got != next(from) || logits[0] != 1 || logits[1] != 0 || bytes != 8*(TopLogits+1) || err != nil {
				t.Errorf("row %d chose %d of %g, %g by %d bytes, %v; want %d", row, got, logits[0], logits[1], bytes, err, next(from))
			}
		}
		_, _, err := p.Chosen(len(tokens), nil, nil)
		wantError(t, "a row behind", err, fmt.Sprintf("step %d; there are %d", len(tokens), len(tokens)))
		w.knows("rows")
	}
	for _, c := range []struct {
		name  string
		p     *Plan
		draws []Draw
		want  string
	}{
		{"too few", p, make([]Draw, 1), "1 draws of 2 rows of results; the plan draws up to 4"},
		{"no number", p, make([]Draw, 2), "row 0: draw {Temperature:0"},
		{"top-k", p, []Draw{{Uniform: make([]float32, 1)}, {Temperature: 1, TopK: TopLogits + 1, Uniform: make([]float32, 1)}}, "row 1: draw {Temperature:1 TopK:65"},
		{"another plan", w.several, make([]Draw, 2), "2 draws of 2 rows of results; the plan draws up to 0"},
	} {
		s := endings(0, []int{1, 1}, 1, 2)
		if c.p == p {
			s = rowsOf(1, 2)
		}
		s.Draws = c.draws
		_, err := c.p.Run(t.Context(), s)
		wantError(t, c.name, err, c.want)
	}
	s := rowsOf(1, 2)
	s.Burst, s.Draws = 2, make([]Draw, 2)
	_, err := p.Run(t.Context(), s)
	wantError(t, "a burst", err, "2 steps of 2 tokens")
	s = w.step(w.draw, 0, 1, 1)
	s.Draws = make([]Draw, MaxSequences)
	_, err = w.draw.Run(t.Context(), s)
	wantError(t, "a plan that advances", err, "16 draws of 1 rows of results; the plan draws up to 0")
}
