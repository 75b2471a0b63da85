package model

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
)

// A model whose layers lie on two devices computes, bit for bit, what it computes on one:
// float32 passes between them unchanged. The devices here are one driver's, opened twice.
func TestSplit(t *testing.T) {
	for _, name := range []string{"llama", "gemma2", "mpt", "falcon"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(fixtureDir, name)
			o := Options{Context: 190, KVType: dtype.F16, Chunk: 32}
			whole := load(t, path, o, pipeline.Options{})
			split := loadSplit(t, path, o, 2)
			if got := split.stages[0].weights.layerRange.count() + split.stages[1].weights.layerRange.count(); got != whole.cfg.NumHiddenLayers {
				t.Fatalf("%d layers in %s", got, split)
			}
			tokens := make([]int, 155)
			for i := range tokens {
				tokens[i] = (i*7919 + 11) % whole.cfg.VocabSize
			}
			position := 0
			for _, c := range []struct {
				n    int
				tail Tail
			}{{70, lastLogits}, {1, lastTop}, {3, everyLogits}, {1, lastLogits}, {40, everyHidden}, {2, Tail{Rows: LastRows, Hidden: true, Stream: true}},
				{37, everyProbs}, {1, lastProbs}} {
				chunk := tokens[position : position+c.n]
				a, err := whole.forward(t.Context(), chunk, position, c.tail)
				check(t, err)
				b, err := split.forward(t.Context(), chunk, position, c.tail)
				check(t, err)
				if !cmp.Equal(a.Choices, b.Choices) || !slices.Equal(a.LogProbs, b.LogProbs) || !slices.Equal(a.Logits, b.Logits) || !slices.Equal(a.Hidden, b.Hidden) || !slices.Equal(a.Stream, b.Stream) {
					t.Errorf("%d tokens at %d, %s: choices %v and %v, or rows differ", c.n, position, c.tail, a.Choices, b.Choices)
				}
				if b.Counters.Submits < 2*a.Counters.Submits || b.Counters.Dispatches != a.Counters.Dispatches {
					t.Errorf("%d tokens: counters %+v, on one device %+v", c.n, b.Counters, a.Counters)
				}
				position += c.n
			}
			sequences := [][]int{tokens[:9], tokens[20:21], tokens[40:60]}
			a, err := whole.score(context.Background(), sequences, position, lastLogits)
			check(t, err)
			b, err := split.score(context.Background(), sequences, position, lastLogits)
			check(t, err)
			if len(b.Logits) != 3*whole.cfg.VocabSize || !slices.Equal(a.Logits, b.Logits) {
				t.Errorf("three sequences: %d logits, or they differ", len(b.Logits))
			}
			if _, err := split.forward(t.Context(), []int{-1}, position, lastTop); err == nil {
				t.Error("token -1 was evaluated")
			}
			if m := split.Memory(); m.CacheBytes != whole.Memory().CacheBytes || m.WeightsBytes < whole.Memory().WeightsBytes {
				t.Errorf("memory %+v, on one device %+v", m, whole.Memory())
			}
		})
	}
}

// TestProgressOfASpan: it grows to the span's tokens, through its chunks and the devices.
func TestProgressOfASpan(t *testing.T) {
	x := loadSplit(t, filepath.Join(fixtureDir, "llama"), Options{Context: 190, Chunk: 32}, 2)
	var seen []int
	span := Span{Sequence: x.text, Tokens: make([]int, 70), Progress: func(tokens int) { seen = append(seen, tokens) }}
	_, err := x.Run(t.Context(), []Span{span}, lastTop)
	check(t, err)
	if diff := cmp.Diff([]int{16, 32, 48, 64, 67, 70}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestDevicesHaveTheSamePages: CacheBytes are those of all devices together, however unequal their layers are.
func TestDevicesHaveTheSamePages(t *testing.T) {
	path := filepath.Join(fixtureDir, "gemma3") // with two layers that keep a window
	o := withPages(t, path, Options{Context: 300, Chunk: 64}, 40)
	x := loadSplit(t, path, o, 2)
	var shapes []pipeline.CacheShape
	for _, g := range x.stages {
		shapes = append(shapes, g.weights.cacheShape(g.cfg, &g.opts))
	}
	if a, b := shapes[0], shapes[1]; a.Pages != b.Pages || a.LocalPages != b.LocalPages || a.Pages != 40 {
		t.Errorf("%d and %d pages, %d and %d of a window, want 40", a.Pages, b.Pages, a.LocalPages, b.LocalPages)
	}
	p := x.Memory()
	if p.CacheBytes != o.CacheBytes || p.CacheBytes != shapes[0].Bytes()+shapes[1].Bytes() || p.CacheTokens != 64*shapes[0].Pages {
		t.Errorf("%d bytes for %d tokens, asked for %d", p.CacheBytes, p.CacheTokens, o.CacheBytes)
	}
}

func loadSplit(t *testing.T, path string, o Options, devices int) *subject {
	t.Helper()
	var managers []*pipeline.Manager
	for range devices {
		m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
		check(t, err)
		t.Cleanup(func() { check(t, m.Close()) })
		managers = append(managers, m)
	}
	var done, total int64
	o.Progress = func(d, all int64) {
		if d < done || all < d || total > 0 && all != total {
			t.Errorf("progress %d of %d after %d of %d", d, all, done, total)
		}
		done, total = d, all
	}
	x := loadOn(t, path, o, managers...)
	if done != total || total == 0 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	return x
}

func TestSplitNeedsALayerForEveryDevice(t *testing.T) {
	dev := gputest.Open(t)
	var managers []*pipeline.Manager
	for range 3 {
		m, err := pipeline.NewManager(dev, pipeline.Options{})
		check(t, err)
		t.Cleanup(func() { check(t, m.Close()) })
		managers = append(managers, m)
	}
	if _, err := shareLayers(managers, 2); err == nil {
		t.Error("two layers were shared among three devices")
	}
	got, err := shareLayers(managers, 7)
	check(t, err)
	end := 0
	for _, s := range got {
		if s.first != end || s.count() < 1 {
			t.Errorf("%v", got)
		}
		end = s.end
	}
	if end != 7 {
		t.Errorf("%v", got)
	}
}
