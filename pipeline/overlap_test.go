package pipeline

import (
	"context"
	"errors"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// twoLayers returns a function that builds a plan of two layers.
func (b *bench) twoLayers() func() (*Builder, *Plan) {
	b.t.Helper()
	const cols = 128
	h := Heads{Heads: 2, KVHeads: 1, HeadDim: 64}
	cache, err := b.m.NewCache(CacheShape{DType: dtype.F16, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: 256})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { cache.Close() })
	l, dev := cache.Layers[0], b.m.Device()
	if err := errors.Join(dev.Fill(b.t.Context(), l.Keys, 0x2e662e66), dev.Fill(b.t.Context(), l.Values, 0x2e66ae66)); err != nil { // 0.1 and -0.1
		b.t.Fatal(err)
	}
	values := b.normal(cols * cols)
	for i := range values {
		values[i] /= 16
	}
	table := b.store(dtype.F32, b.normal(cols), cols).matrix
	q, out, up := b.store(dtype.Q8_0, values, cols).matrix, b.store(dtype.Q8_0, values, cols).matrix, b.store(dtype.Q4_0, values, cols).matrix
	return func() (*Builder, *Plan) {
		p := b.m.NewBuilder("two layers", 1)
		x := p.Embed(table, 1)
		for range 2 {
			p.LinearAdd(x, p.Attention(p.Linear(x, q, nil), h, l, .125), out, nil)
			p.LinearAdd(x, p.Linear(x, up, nil), up, nil)
		}
		p.Output("x", x)
		return p, b.build(p)
	}
}

// TestOverlapReadsAhead counts what is recorded and where, and compares results with those of a plan that reads nothing ahead, bit
// for bit: also of one in many segments, and after a run that is given up between them.
func TestOverlapReadsAhead(t *testing.T) {
	bench := newBench(t, newManager(t, Options{Path: kernels.Base, Walkers: -1}))
	build, options := bench.twoLayers(), &bench.m.opts
	const (
		out   = 128*128 + 2*128*4 // bytes of Q8_0: 128 rows of 4 blocks, each with a scale
		parts = 960 + 48          // of 1024 bytes of Q8_0, in units of 16: of values and of scales. Of Q4_0 896 + 112
		some  = 880 + 96          // of 1000 bytes of Q4_0
	)
	var want []float32
	for _, c := range []struct {
		overlap                             Overlap
		dispatches, barriers, splits, bytes int64
	}{
		{Overlap{}, 11, 11, 0, 0},                                          // the last barrier is before the copy of x
		{Overlap{Prefetch: out}, 11 + 2, 11, 0, 2 * out},                   // the planes are neighbours
		{Overlap{Prefetch: out / 2}, 11 + 2*2, 11, 0, out},                 // half of each
		{Overlap{Prefetch: out + 1000}, 11 + 2*3, 11, 0, 2 * (out + some)}, // and the product that follows
		{Overlap{Split: 1024}, 11 + 8*2, 11, 8, 8 * parts},
		{Overlap{Prefetch: out, Split: 1024}, 11 + 2 + 6*2, 11, 8, 2*out + 6*parts},
	} {
		options.Overlap = c.overlap
		b, plan := build()
		at := run(t, plan, one(200, 0))
		if at.Dispatches != c.dispatches || at.Barriers != c.barriers || at.Splits != c.splits || at.PrefetchBytes != c.bytes {
			t.Errorf("%+v: %d dispatches, %d barriers, %d of them split, %d bytes; want %+v", c.overlap, at.Dispatches, at.Barriers, at.Splits, at.PrefetchBytes, c)
		}
		got := outputOf(t, plan, "x", 1, 128)
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: %v, without it %v", c.overlap, got[:8], want[:8])
		}
		b.checkAhead(t, plan, c.overlap)
		if err := plan.Close(); err != nil {
			t.Error(err)
		}
	}

	options.SegmentBytes = 1
	_, plan := build()
	gone, cancel := context.WithCancel(t.Context())
	s := one(200, 0)
	s.Progress = func(float64) { cancel() } // after the first segment
	if _, err := plan.Run(gone, s); !errors.Is(err, context.Canceled) {
		t.Errorf("a run that is given up: %v", err)
	}
	for range 2 {
		run(t, plan, one(200, 0))
		if got := outputOf(t, plan, "x", 1, 128); !slices.Equal(got, want) {
			t.Errorf("%d segments: %v, in one %v", plan.recordings[0].commands.Segments(), got[:8], want[:8])
		}
	}
}

// checkAhead checks that prefetches are where the overlap has them, and that none waits.
func (b *Builder) checkAhead(t *testing.T, plan *Plan, o Overlap) {
	t.Helper()
	list := plan.recordings[0].dispatched
	var binds [][]vk.Bind
	for _, n := range list {
		binds = append(binds, b.binds(plan, n))
	}
	for i, waits := range vk.Ordered(binds) {
		n := list[i]
		if n.kernel != "prefetch" {
			continue
		}
		before, after := i, i
		for list[before].kernel == n.kernel {
			before--
		}
		for list[after].kernel == n.kernel {
			after++
		}
		attention := list[before].kv.perPosition > 0
		if waits || attention && o.Prefetch == 0 && o.Split == 0 || !attention && o.Split == 0 || o.Split > 0 && list[after].operations == 0 {
			t.Errorf("%+v: a prefetch between %s and %s, which waits: %t", o, list[before].kernel, list[after].kernel, waits)
		}
	}
}
