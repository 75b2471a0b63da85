package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
)

// linkedRace is one that the linked recording has won.
func linkedRace() race {
	return race{mean: [2]time.Duration{time.Hour, 1}, leader: 1, wait: math.MaxInt}
}

// longPlan has more nodes than shortestChain: products and attention of one token, whose results depend on all before.
func (b *bench) longPlan(t *testing.T, h Heads, l *LayerCache, w, up *stored, q *Matrix) *Plan {
	t.Helper()
	p := b.m.NewBuilder("long", 1)
	x := p.Embed(q, 1)
	for range shortestChain/4 + 1 {
		p.LinearAdd(x, p.Attention(p.Linear(x, w.matrix, nil), h, l, .125), w.matrix, nil)
		p.LinearAdd(x, p.Linear(x, up.matrix, nil), up.matrix, nil)
	}
	p.Output("x", x)
	return b.build(p)
}

// TestLinkedKernelsComputeTheSame compares a chain with its nodes one by one, bit for bit: walked by as many workgroups as the
// device runs at once, and by many more, so that each wait is given up.
func TestLinkedKernelsComputeTheSame(t *testing.T) {
	dev := gputest.Open(t)
	linked := 0
	for _, path := range []kernels.Path{kernels.Base, kernels.Addr} { // with barriers of workgroups, and without
		if !slices.Contains(paths(dev), path) {
			continue
		}
		for _, walkers := range []int{2, 65} {
			t.Run(fmt.Sprint(path, walkers), func(t *testing.T) {
				b := newBench(t, managerOn(t, dev, Options{Path: path, Walkers: walkers}))
				if b.m.walkers() == 0 {
					return // this device doesn't link
				}
				const positions, cols = 256, 128
				h := Heads{Heads: 2, KVHeads: 1, HeadDim: 64}
				cache, err := b.m.NewCache(CacheShape{DType: dtype.F16, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: positions})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { cache.Close() })
				l := cache.Layers[0]
				if err := errors.Join(dev.Fill(t.Context(), l.Keys, 0x2e662e66), dev.Fill(t.Context(), l.Values, 0x2e66ae66)); err != nil { // 0.1 and -0.1
					t.Fatal(err)
				}
				small := b.normal(cols * cols)
				for i := range small {
					small[i] /= 16
				}
				w, up := b.store(dtype.Q8_0, small, cols), b.store(dtype.Q4_0, small, cols)
				plan := b.longPlan(t, h, l, w, up, b.store(dtype.F32, b.normal(cols), cols).matrix)
				if len(plan.recordings) != 2 {
					t.Fatalf("%d recordings", len(plan.recordings))
				}
				linked++
				plan.race = race{mean: [2]time.Duration{1, time.Hour}, wait: math.MaxInt}
				each := run(t, plan, one(200, 0))
				want := outputOf(t, plan, "x", 1, cols)
				if math.IsNaN(float64(want[0])) {
					t.Fatal("no numbers")
				}
				for range 3 {
					plan.race = linkedRace()
					at := run(t, plan, one(200, 0))
					if got := outputOf(t, plan, "x", 1, cols); !slices.Equal(got, want) {
						t.Fatalf("%v, one by one %v", got[:8], want[:8])
					}
					if at.Dispatches > 3 || each.Dispatches < shortestChain {
						t.Errorf("%d dispatches linked, %d one by one", at.Dispatches, each.Dispatches)
					}
				}
				// A run that is given up leaves nothing behind that the next one trips over.
				gone, cancel := context.WithCancel(t.Context())
				cancel()
				if _, err := plan.Run(gone, one(200, 0)); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				plan.race = linkedRace()
				run(t, plan, one(200, 0))
				if got := outputOf(t, plan, "x", 1, cols); !slices.Equal(got, want) {
					t.Error("another result after a run that was given up")
				}
			})
		}
	}
	if slices.Contains(paths(dev), kernels.Addr) && linked == 0 {
		t.Error("nothing was linked")
	}
}
