package pipeline

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/half"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A stopping context ends after its Err was asked for so many times.
type stopping struct {
	context.Context
	left *int
}

func (s stopping) Err() error {
	if *s.left--; *s.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestPartsAreJoinedAfterFailures stops attention of one token between its splits, wherever it can be, and products of several:
// the next run counts none of the workgroups that arrived before, and gives the same result bit for bit, whichever workgroup was
// the last.
func TestPartsAreJoinedAfterFailures(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		m := func(t *testing.T) *bench {
			return newBench(t, managerOn(t, dev, Options{Path: path, SegmentBytes: 1 << 15}))
		}
		if k := kernels.Decode.Of(path); k != nil && k.Joins != nil {
			t.Run("attention "+string(path), func(t *testing.T) {
				const position = 1000
				b := m(t)
				attention := splitAttention(t, b)
				b.joinsAfterFailures(dev, 1, 128, one(position, 0), func() *Plan {
					p := b.m.NewBuilder("attention", 1)
					p.Output("y", attention(p))
					return b.build(p)
				})
			})
		}
		if k := kernels.Matmul.Of(path); k != nil && k.Joins != nil {
			t.Run("product "+string(path), func(t *testing.T) {
				const rows, cols, tokens = 60, 512, 9
				b := m(t)
				x, w := b.store(dtype.F32, b.normal(tokens*cols), cols).matrix, b.matrix(dtype.F32, rows, cols).matrix
				b.joinsAfterFailures(dev, tokens, rows, one(0, 0, 1, 2, 3, 4, 5, 6, 7, 8), func() *Plan {
					p := b.m.NewBuilder("product", tokens)
					p.Tile(kernels.Tiling{Subgroups: [2]int{2, 2}, Matrices: [2]int{2, 2}, Splits: 4})
					p.Output("y", p.Linear(p.Embed(x, 1), w, nil))
					return b.build(p)
				})
			})
		}
	}
}

// splitAttention is attention of one token over a cache of enough positions to be split.
func splitAttention(t *testing.T, b *bench) func(p *Builder) *Tensor {
	t.Helper()
	const positions = 1040
	h := Heads{Heads: 2, KVHeads: 1, HeadDim: 64}
	cache, err := b.m.NewCache(CacheShape{DType: dtype.F16, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: positions})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	l := cache.Layers[0]
	rows := make([]float32, l.Keys.Size/2)
	for i, v := range b.normal(len(rows)) {
		rows[i] = float32(v)
	}
	raw := make([]byte, l.Keys.Size)
	half.F32ToF16(raw, rows)
	if err := errors.Join(b.loader.Write(l.Keys, raw), b.loader.Write(l.Values, raw)); err != nil {
		t.Fatal(err)
	}
	q := b.store(dtype.F32, b.normal(128), 128).matrix
	return func(p *Builder) *Tensor { return p.Attention(p.Embed(q, 1), h, l, .125) }
}

// joinsAfterFailures runs plans, each of which submits little at a time as it has not run yet, and compares their outputs,
// (rows, cols).
func (b *bench) joinsAfterFailures(dev *vk.Device, rows, cols int, s Step, build func() *Plan) {
	t := b.t
	t.Helper()
	plan := build()
	run(t, plan, s)
	want := outputOf(t, plan, "y", rows, cols)
	arrived := uint32(0)
	for asked := 0; ; asked++ {
		plan, left := build(), asked
		_, err := plan.Run(stopping{context.Background(), &left}, s)
		if err == nil {
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		raw := make([]byte, 4)
		if err := dev.Read(b.m.frame.arrivals.Whole().Slice(0, 4), raw); err != nil {
			t.Fatal(err)
		}
		n := binary.LittleEndian.Uint32(raw)
		arrived = max(arrived, n)
		run(t, plan, s)
		if got := outputOf(t, plan, "y", rows, cols); !slices.Equal(got, want) {
			t.Fatalf("another result after %d workgroups had arrived", n)
		}
	}
	if arrived == 0 {
		t.Error("no run was stopped between two splits")
	}
}
