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

// TestPartsAreJoinedAfterFailures stops attention of one token between its splits, wherever it can be: the next run counts
// none of the workgroups that arrived before, and gives the same result bit for bit, whichever workgroup was the last.
func TestPartsAreJoinedAfterFailures(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		if k := kernels.Decode.Of(path); k == nil || !k.Joins {
			continue
		}
		t.Run(string(path), func(t *testing.T) {
			const position, positions = 1000, 1040
			b := newBench(t, managerOn(t, dev, Options{Path: path, SegmentBytes: 1 << 15}))
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
			build := func() *Plan { // one that has not run yet submits little at a time
				p := b.m.NewBuilder("attention", 1)
				p.Output("y", p.Attention(p.Embed(q, 1), h, l, .125))
				return b.build(p)
			}
			plan := build()
			run(t, plan, one(position, 0))
			want := outputOf(t, plan, "y", 1, 128)
			arrived := uint32(0)
			for asked := 0; ; asked++ {
				plan, left := build(), asked
				_, err := plan.Run(stopping{t.Context(), &left}, one(position, 0))
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
				run(t, plan, one(position, 0))
				if got := outputOf(t, plan, "y", 1, 128); !slices.Equal(got, want) {
					t.Fatalf("another result after %d workgroups had arrived", n)
				}
			}
			if arrived == 0 {
				t.Error("no run was stopped between two splits")
			}
		})
	}
}
