package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/ref"
	"pumice/vk"
)

// paths are those that the device can run.
func paths(dev *vk.Device) []Path {
	m, err := NewManager(dev, Options{})
	if err != nil {
		panic(err) // the embedded list of variants does not parse
	}
	defer m.Close()
	return m.Paths()
}

// A bench is a manager with weights for tests and benchmarks to build plans over.
type bench struct {
	*verifier
	t testing.TB
}

func newBench(t testing.TB, m *Manager) *bench {
	t.Helper()
	b := &bench{&verifier{ctx: context.Background(), m: m, name: t.Name()}, t}
	b.rnd = newRand(t.Name())
	b.weights = m.NewWeights(0)
	var err error
	if b.loader, err = b.weights.NewLoader(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.loader.Close(), b.weights.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) matrix(t DType, rows, cols int) *stored {
	b.t.Helper()
	s, err := b.operand([]Run{{t, rows}}, cols)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) inputOf(p *Builder, x []float64, cols int) *Tensor {
	b.t.Helper()
	t, err := b.input(p, x, cols)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// build reserves what the plan needs and builds it. The plan is closed when the test ends.
func (b *bench) build(p *Builder) *Plan {
	b.t.Helper()
	bytes, err := p.ArenaBytes()
	if err == nil && b.m.arena == nil {
		err = b.m.ReserveArena(max(bytes, 1<<20))
	}
	if err == nil {
		err = b.loader.up.Flush()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	plan, err := p.Build(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := plan.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return plan
}

func run(t testing.TB, p *Plan, s Step) Counters {
	t.Helper()
	c, err := p.Run(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func outputOf(t testing.TB, p *Plan, name string, rows, cols int) []float32 {
	t.Helper()
	out := make([]float32, rows*cols)
	if _, err := p.Output(name, 0, rows, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A decode plan reads each weight once and nothing else of the matrix: no padding to speak
// of at the default model's shapes. A run after the first records nothing.
func TestCountersSayWhatARunReads(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		for _, kind := range WeightTypes() {
			t.Run(fmt.Sprint(path, kind), func(t *testing.T) {
				b := newBench(t, managerOn(t, dev, Options{Path: path}))
				cols := 576 // of SmolLM2, whose K-quantised files have 768 in their place
				if kind.BlockSize() == 256 {
					cols = 768
				}
				up, down := b.matrix(kind, 1536, cols), b.matrix(kind, cols, 1536)
				p := b.m.NewBuilder("counters", 1)
				x := b.inputOf(p, b.normal(cols), cols)
				b.m.maxBinding = 0
				h := p.Linear(x, up.matrix, nil)
				p.LinearAdd(x, h, down.matrix, nil)
				p.Output("x", x)
				plan := b.build(p)
				c := run(t, plan, Step{Position: 3, Tokens: []int{0}})
				embed := int64(4 * cols)
				if got, want := c.MinimumBytes-embed, 2*1536*kind.RowBytes(cols)/1; got != want {
					t.Errorf("minimum of %d bytes, want %d", got, want)
				}
				if ratio := float64(c.WeightBytes) / float64(c.MinimumBytes); ratio < 1 || ratio > 1.02 {
					t.Errorf("%d weight bytes for a minimum of %d, %.3f times", c.WeightBytes, c.MinimumBytes, ratio)
				}
				want := Counters{Submits: 1, Dispatches: 3, Barriers: c.Barriers, WeightBytes: c.WeightBytes, MinimumBytes: c.MinimumBytes,
					ActivationBytes: int64(4 * (cols + cols + 1536 + 1536 + cols)), HostToDeviceBytes: 24, Operations: int64(4 * 1536 * cols), Records: 1}
				if d := cmp.Diff(want, c); d != "" {
					t.Errorf("first run (-want +got):\n%s", d)
				}
				if c.Barriers < 2 || c.Barriers > 3 { // between three dependent dispatches, and before the copy
					t.Errorf("%d barriers", c.Barriers)
				}
				want.Records = 0
				if d := cmp.Diff(want, run(t, plan, Step{Position: 3, Tokens: []int{0}})); d != "" {
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
	if err := b.m.fill(context.Background(), cache.Layers[0].keys, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.m.fill(context.Background(), cache.Layers[0].values, 0); err != nil {
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
		live := s.Position + len(s.Tokens)
		want := perToken * int64(live+min(live, 20+len(s.Tokens)-1))
		if c.KVBytes != want {
			t.Errorf("%d bytes of cache for %d positions, of which one of two layers sees 20 each: want %d", c.KVBytes, live, want)
		}
	}
}

// Replaying a plan costs no memory: what it needs was made when it was recorded.
func TestReplayAllocatesNothing(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	w := b.matrix(dtype.F16, 64, 64)
	p := b.m.NewBuilder("replay", 1)
	x := b.inputOf(p, b.normal(64), 64)
	for range 50 {
		p.LinearAdd(x, x, w.matrix, nil)
	}
	plan := b.build(p)
	s := Step{Tokens: []int{0}}
	if n := testing.AllocsPerRun(20, func() { run(t, plan, s) }); n > 4 {
		t.Errorf("%g allocations a run of 51 dispatches", n)
	}
}

// Two plans take turns with one arena, with runs of different lengths.
func TestPlansShareTheArena(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		t.Run(string(path), func(t *testing.T) {
			b := newBench(t, managerOn(t, dev, Options{Path: path}))
			if err := b.m.ReserveArena(8 << 20); err != nil {
				t.Fatal(err)
			}
			const cols = 96
			w := b.matrix(dtype.Q8_0, cols, cols)
			x := b.normal(40 * cols)
			gain, err := b.vector(b.normal(cols))
			if err != nil {
				t.Fatal(err)
			}
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
						if err := b.m.fill(context.Background(), b.m.arena.Whole(), poison); err != nil {
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

// A matrix above 128 MiB, which is more than one binding holds on many devices.
func TestMatrixBeyondOneBinding(t *testing.T) {
	if testing.Short() {
		t.Skip("147 MB of weights")
	}
	dev := gputest.Open(t)
	const rows, cols, distinct = 9000, 4096, 97
	pool := make([]float32, distinct+cols)
	for i := range pool {
		pool[i] = float32(math.Sin(float64(i * i)))
	}
	raw := make([]byte, 4*len(pool))
	dtype.F32.Encode(raw, pool)
	// Row i is the pool from i % distinct on, but for its first value, which is i.
	row := func(i int) []float32 {
		r := append([]float32(nil), pool[i%distinct:][:cols]...)
		r[0] = float32(i)
		return r
	}
	src := &Source{Name: "big", DType: dtype.F32, Rows: rows, Cols: cols, Row: func(i int, scratch []byte) []byte {
		b := append(scratch[:0], raw[4*(i%distinct):][:4*cols]...)
		binary.LittleEndian.PutUint32(b, math.Float32bits(float32(i)))
		return b
	}}
	for _, path := range paths(dev) {
		t.Run(string(path), func(t *testing.T) {
			b := newBench(t, managerOn(t, dev, Options{Path: path}))
			if err := b.m.ReserveArena(8 << 20); err != nil {
				t.Fatal(err)
			}
			b.m.maxBinding = 128 << 20
			x, err := b.m.NewMatrix("big", []Run{{dtype.F32, rows}}, cols)
			if err != nil {
				t.Fatal(err)
			}
			b.m.maxBinding = 0
			if len(x.Parts) < 2 {
				t.Fatalf("%d parts", len(x.Parts))
			}
			b.loader.Workers = 2
			if err := b.loader.Matrices(t.Context(), Fill{Matrix: x, At: func(r int) (*Source, int) { return src, r }}); err != nil {
				t.Fatal(err)
			}
			ids := []int{0, 1, x.Parts[1].First - 1, x.Parts[1].First, x.Parts[1].First + 1, rows - 1}
			in := b.normal(cols)
			p := b.m.NewBuilder("big", 1)
			p.Output("y", p.Linear(b.inputOf(p, in, cols), x, nil))
			matvec := b.build(p)
			run(t, matvec, inputStep(0, 1))
			y := outputOf(t, matvec, "y", 1, rows)
			for i := 0; i < rows; i += 37 {
				ids = append(ids, i)
			}
			for _, i := range ids {
				w := make([]float64, cols)
				for c, v := range row(i) {
					w[c] = float64(v)
				}
				want := ref.Linear(in, w, nil, 1, cols)
				terms := ref.Linear(magnitudes(in), magnitudes(w), nil, 1, cols)
				if r := compare("matvec", fmt.Sprint("row ", i), y[i:i+1], want, terms, tolerances.linear(cols)); !r.OK {
					t.Error(r)
				}
			}
			p = b.m.NewBuilder("big embed", len(ids))
			p.Output("y", p.Embed(x, 1))
			embed := b.build(p)
			run(t, embed, Step{Tokens: ids})
			got := outputOf(t, embed, "y", len(ids), cols)
			for n, i := range ids {
				if d := cmp.Diff(row(i), got[n*cols:][:cols]); d != "" {
					t.Fatalf("row %d (-want +got):\n%s", i, d)
				}
			}
		})
	}
}

// Weights laid out for the row path are read by base kernels too.
func TestBaseKernelsReadInterleavedRows(t *testing.T) {
	dev := gputest.Open(t)
	if !hasLane8(dev.PhysicalDevice()) {
		t.Skip("the device has no row path")
	}
	row, base := newBench(t, managerOn(t, dev, Options{Path: PathRow})), newBench(t, managerOn(t, dev, Options{Path: PathBase}))
	for _, kind := range WeightTypes() {
		cols := max(96, kind.BlockSize())
		w := row.matrix(kind, 75, cols)
		for _, tokens := range []int{1, 5} {
			x := base.normal(tokens * cols)
			p := base.m.NewBuilder("interleaved", tokens)
			p.Output("y", p.Linear(base.inputOf(p, x, cols), w.matrix, nil))
			if kernel := p.lastKernel(); strings.HasSuffix(kernel, "_row") {
				t.Fatalf("the base path took %s", kernel)
			}
			if err := row.loader.up.Flush(); err != nil {
				t.Fatal(err)
			}
			plan := base.build(p)
			run(t, plan, inputStep(0, tokens))
			want := ref.Linear(x, w.values, nil, 75, cols)
			terms := ref.Linear(magnitudes(x), w.terms, nil, 75, cols)
			if r := compare(p.lastKernel(), kind.String(), outputOf(t, plan, "y", tokens, 75), want, terms, tolerances.linear(cols)); !r.OK {
				t.Error(r)
			}
		}
	}
}

// Plans are built from several goroutines: each kernel is compiled once.
func TestBuildIsConcurrent(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	if err := b.m.ReserveArena(1 << 20); err != nil {
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
