package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
)

// A decode plan reads each weight once and nothing else of the matrix: no padding to speak
// of at the default model's shapes. A run after the first records nothing.
func TestCountersSayWhatARunReads(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		for _, kind := range kernels.WeightTypes() {
			t.Run(fmt.Sprint(path, kind), func(t *testing.T) {
				if testing.Short() && kind != dtype.F16 && kind != dtype.Q4_0 && kind != dtype.Q4_K {
					t.Skip("-short: the run on the main driver has it")
				}
				b := newBench(t, managerOn(t, dev, Options{Path: path}))
				cols := 576 // of SmolLM2, whose K-quantised files have 768 in their place
				if kind.BlockSize() == 256 {
					cols = 768
				}
				up, down := b.matrix(kind, 1536, cols), b.matrix(kind, cols, 1536)
				p := b.m.NewBuilder("counters", 1)
				x := b.inputOf(p, b.normal(cols), cols)
				h := p.Linear(x, up.matrix, nil)
				p.LinearAdd(x, h, down.matrix, nil)
				p.Output("x", x)
				plan := b.build(p)
				c := run(t, plan, one(3, 0))
				embed := int64(4 * cols)
				if got, want := c.MinimumBytes-embed, 2*1536*kind.RowBytes(cols)/1; got != want {
					t.Errorf("minimum of %d bytes, want %d", got, want)
				}
				if ratio := float64(c.WeightBytes) / float64(c.MinimumBytes); ratio < 1 || ratio > 1.02 {
					t.Errorf("%d weight bytes for a minimum of %d, %.3f times", c.WeightBytes, c.MinimumBytes, ratio)
				}
				want := Counters{Submits: 1, Dispatches: 3, Barriers: c.Barriers, WeightBytes: c.WeightBytes, MinimumBytes: c.MinimumBytes,
					ActivationBytes: int64(4 * (cols + cols + 1536 + 1536 + cols)), HostToDeviceBytes: 20, Operations: int64(4 * 1536 * cols), Records: 1}
				if d := cmp.Diff(want, c); d != "" {
					t.Errorf("first run (-want +got):\n%s", d)
				}
				if c.Barriers < 2 || c.Barriers > 3 { // between three dependent dispatches, and before the copy
					t.Errorf("%d barriers", c.Barriers)
				}
				want.Records, want.HostToDeviceBytes = 0, 0 // the device has this step
				if d := cmp.Diff(want, run(t, plan, one(3, 0))); d != "" {
					t.Errorf("second run (-want +got):\n%s", d)
				}
				var sum Counters
				sum.Add(c)
				sum.Add(want)
				if sum.Dispatches != 6 || sum.Records != 1 || sum.WeightBytes != 2*c.WeightBytes {
					t.Errorf("sum of two runs: %+v", sum)
				}
			})
		}
	}
}

// The KV cache is counted as far as it is live.
func TestCountersFollowTheCache(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	h := Heads{Heads: 4, KVHeads: 2, HeadDim: 64}
	cache, err := b.m.NewCache(CacheShape{DType: dtype.F16, Layers: 1, KVHeads: 2, HeadDim: 64, Positions: 100})
	if err != nil {
		t.Fatal(err)
	}
	defer cache.Close()
	if err := b.m.dev.Fill(context.Background(), cache.Layers[0].Keys, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.m.dev.Fill(context.Background(), cache.Layers[0].Values, 0); err != nil {
		t.Fatal(err)
	}
	p := b.m.NewBuilder("kv", 3)
	x := b.inputOf(p, b.normal(3*256), 256)
	p.Attention(x, h, cache.Layers[0], 1)
	h.Window = 20
	p.Attention(x, h, cache.Layers[0], 1)
	plan := b.build(p)
	const perToken = 2 * 2 * 64 * 2
	for _, s := range []Step{inputStep(0, 3), inputStep(90, 2)} {
		c := run(t, plan, s)
		q := s.Sequences[0]
		live := q.Position + len(q.Tokens)
		want := perToken * int64(live+min(live, 20+len(q.Tokens)-1))
		if c.KVBytes != want {
			t.Errorf("%d bytes of cache for %d positions, of which one of two layers sees 20 each: want %d", c.KVBytes, live, want)
		}
	}
}

// Replaying a plan allocates nothing, however many dispatches there are.
func TestReplayAllocatesNothing(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	w := b.matrix(dtype.F16, 64, 64)
	for _, dispatches := range []int{1, 50} {
		p := b.m.NewBuilder("replay", 1)
		x := b.inputOf(p, b.normal(64), 64)
		for range dispatches {
			p.LinearAdd(x, x, w.matrix, nil)
		}
		plan := b.build(p)
		s := one(0, 0)
		if n := testing.AllocsPerRun(20, func() { run(t, plan, s) }); n != 0 {
			t.Errorf("%g allocations a step of %d dispatches", n, dispatches+1)
		}
	}
	p := b.m.NewBuilder("burst", 1)
	p.Advance(p.Embed(w.matrix, 1))
	plan := b.build(p)
	s := one(0, 0)
	s.Burst = 8
	run(t, plan, s) // the first of which is a submission of its own, since nothing is known of its speed
	if n := testing.AllocsPerRun(20, func() { run(t, plan, s) }); n != 0 {
		t.Errorf("%g allocations a burst", n)
	}
}

// Two plans take turns with one arena, with runs of different lengths.
func TestPlansShareTheArena(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		t.Run(string(path), func(t *testing.T) {
			b := newBench(t, managerOn(t, dev, Options{Path: path}))
			const cols = 96
			w := b.matrix(dtype.Q8_0, cols, cols)
			x := b.normal(40 * cols)
			gain := b.vector(b.normal(cols))
			make := func(tokens int) *Plan {
				p := b.m.NewBuilder(fmt.Sprint("plan of ", tokens), tokens)
				t := b.inputOf(p, x[:tokens*cols], cols)
				for range 3 {
					p.LinearAdd(t, p.Norm(t, &Norm{Weights: gain, Eps: 1e-5}), w.matrix, nil)
				}
				p.Output("y", t)
				return b.build(p)
			}
			plans := []*Plan{make(40), make(1), make(7)}
			first := map[string][]float32{}
			for round := range 3 {
				for i, p := range plans {
					for _, count := range []int{p.Tokens(), (p.Tokens() + 1) / 2, 1} {
						if err := b.m.FillArena(context.Background(), 0xffffffff); err != nil {
							t.Fatal(err)
						}
						run(t, plans[(i+1)%3], inputStep(0, 1))
						run(t, p, inputStep(0, count))
						got := outputOf(t, p, "y", count, cols)
						key := fmt.Sprint(i, count)
						if round == 0 {
							first[key] = got
							for j, v := range got {
								if math.IsNaN(float64(v)) {
									t.Fatalf("plan %d, %d tokens: value %d is NaN", i, count, j)
								}
							}
						} else if d := cmp.Diff(first[key], got); d != "" {
							t.Fatalf("plan %d, %d tokens, round %d (-first +now):\n%s", i, count, round, d)
						}
					}
				}
			}
		})
	}
}

// Taps show each stage as it was, though its memory is used again.
func TestTapsAreOfTheirMoment(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	x := b.normal(3 * 64)
	p := b.m.NewBuilder("taps", 3)
	p.EnableTaps()
	xt := b.inputOf(p, x, 64)
	p.Tap("before", xt)
	p.Add(xt, b.inputOf(p, x, 64))
	p.Tap("after", xt)
	p.Output("x", xt)
	plan := b.build(p)
	run(t, plan, inputStep(0, 3))
	if d := cmp.Diff([]string{"before", "after"}, plan.TapNames()); d != "" {
		t.Error(d)
	}
	before, after := make([]float32, 64), make([]float32, 64)
	if err := errors.Join(plan.Tap("before", 1, 1, before), plan.Tap("after", 1, 1, after)); err != nil {
		t.Fatal(err)
	}
	for i := range before {
		if want := float32(x[64+i]); before[i] != want || after[i] != 2*want {
			t.Fatalf("value %d: before %g, after %g, want %g and twice that", i, before[i], after[i], want)
		}
	}
	if rows, cols := plan.Shape("x"); rows != 3 || cols != 64 {
		t.Errorf("output is (%d, %d)", rows, cols)
	}
}

// Plans are built from several goroutines: each kernel is compiled once.
func TestBuildIsConcurrent(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	if err := b.m.Reserve(roomy); err != nil {
		t.Fatal(err)
	}
	w := b.matrix(dtype.Q4_0, 64, 64)
	x := b.normal(64)
	var builders []*Builder
	for i := range 8 {
		p := b.m.NewBuilder(fmt.Sprint(i), 1)
		p.Output("y", p.Linear(b.inputOf(p, x, 64), w.matrix, nil))
		builders = append(builders, p)
	}
	plans := make([]*Plan, len(builders))
	var wg sync.WaitGroup
	for i, p := range builders {
		wg.Go(func() {
			var err error
			if plans[i], err = p.Build(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	b.m.mu.Lock()
	kernels := len(b.m.pipelines)
	b.m.mu.Unlock()
	if kernels != 2 {
		t.Errorf("%d kernels for one embedding and one product", kernels)
	}
	var first []float32
	for i, p := range plans {
		run(t, p, inputStep(0, 1))
		y := outputOf(t, p, "y", 1, 64)
		if i == 0 {
			first = y
		} else if d := cmp.Diff(first, y); d != "" {
			t.Errorf("plan %d (-first +this):\n%s", i, d)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}

// The weights of a product count for each tile of tokens, which reads them anew.
func TestWeightsCountForEachTileOfTokens(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range managerOn(t, dev, Options{}).Paths() {
		if path != kernels.Base && path != kernels.Row {
			continue
		}
		b := newBench(t, managerOn(t, dev, Options{Path: path}))
		w := b.matrix(dtype.F16, 64, 64)
		count := func(tokens int) int64 {
			p := b.m.NewBuilder("tiles", tokens)
			p.Linear(b.inputOf(p, b.normal(tokens*64), 64), w.matrix, nil)
			return run(t, b.build(p), inputStep(0, tokens)).WeightBytes - 4*64*int64(tokens) // what the input reads
		}
		few, many := count(8), count(512)
		if few != w.matrix.Shards[0].ReadBytes() || many%few != 0 || many < 4*few {
			t.Errorf("%s: a product of 8 tokens reads %d bytes of weights, one of 512 %d; they have %d", path, few, many, w.matrix.Shards[0].ReadBytes())
		}
	}
}

// Pairs of a query and a key that it sees, counted by hand.
func TestPairsOfQueriesAndKeys(t *testing.T) {
	t.Parallel()
	all, single := kvKey{}, kvKey{single: true}
	for _, c := range []struct {
		name          string
		step          Step
		key           kvKey
		singles, i    int
		bidirectional bool
		want          int64
	}{
		{"a token", one(7, 1), single, 1, 0, false, 8},
		{"a token, and two steps on", one(7, 1), single, 1, 2, false, 10},
		{"no other tokens", one(7, 1), all, 1, 0, false, 0},
		{"four tokens", one(3, 1, 2, 3, 4), all, 0, 0, false, 4 + 5 + 6 + 7},
		{"four tokens and a window", one(3, 1, 2, 3, 4), kvKey{window: 5}, 0, 0, false, 4 + 5 + 5 + 5},
		{"endings", endings(3, []int{1, 3}, 1, 2, 3, 4), all, 0, 0, false, 4 + 4 + 5 + 6},
		{"both directions", one(0, 1, 2, 3, 4), all, 0, 0, true, 16},
	} {
		if got := c.step.pairs(c.key, c.singles, c.i, c.bidirectional); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
