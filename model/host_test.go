package model

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/model/pages"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// withPages is o with room for so many pages in the KV cache.
func withPages(t *testing.T, path string, o Options, n int) Options {
	t.Helper()
	c, err := checkpoint.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { check(t, c.Close()) }()
	l, err := newLoading(c, o)
	if err != nil {
		t.Fatal(err)
	}
	l.opts.pages = n
	o.CacheBytes = l.cfg.cacheShape(&l.opts, l.cfg.allLayers()).Bytes()
	return o
}

// TestTextsComeBackFromHostMemory has a text give up its pages to another that needs the whole cache, and come back: what
// follows is, bit for bit, what it was.
func TestTextsComeBackFromHostMemory(t *testing.T) {
	for _, c := range []struct {
		fixture string
		stages  int
	}{{"smollm2", 1}, {"mistral", 1}, {"gemma2", 1}, {"gemma3", 1}, {"gemma3", 2}} {
		for _, kv := range kernels.CacheTypes {
			t.Run(fmt.Sprintf("%s/%d/%s", c.fixture, c.stages, kv), func(t *testing.T) {
				if c.fixture != "gemma2" && c.stages == 1 || kv == dtype.F32 {
					long(t)
				}
				path := filepath.Join(fixtureDir, c.fixture)
				o := Options{Context: 256, Chunk: 48, KVType: kv, HostBytes: 16 << 20}
				x := loadSplit(t, path, withPages(t, path, o, 4), c.stages)
				tokens := make([]int, 240)
				for i := range tokens {
					tokens[i] = (i*i*7 + 3*i + 5) % x.cfg.VocabSize
				}
				run := func(q *pages.Sequence, tokens []int, tail Tail) []float32 {
					t.Helper()
					out, err := x.Run(t.Context(), []Span{{Sequence: q, Tokens: tokens}}, tail)
					if err != nil {
						t.Fatal(err)
					}
					return slices.Clone(out.Logits)
				}
				const n = 150
				q := newText(t, x.Model)
				run(q, tokens[:n], Tail{})
				score := func() []float32 { // of two tails, and of what follows
					t.Helper()
					out, err := x.Score(t.Context(), q, [][]int{tokens[:5], tokens[20:21]}, lastLogits)
					if err != nil {
						t.Fatal(err)
					}
					all := slices.Clone(out.Logits)
					return append(all, run(q, tokens[n:n+9], everyLogits)...)
				}
				stayed := score()
				if got, err := q.Truncate(n); got != n || err != nil {
					t.Fatal(got, err)
				}
				q.Release()
				other := newText(t, x.Model)
				slices.Reverse(tokens)
				run(other, tokens, Tail{})
				other.Release()
				slices.Reverse(tokens)
				var err error
				if q, err = x.Pages().Acquire(t.Context(), tokens[:n], n, pages.Batched); err != nil {
					t.Fatal(err)
				}
				defer q.Release()
				want := int64(n+kernels.PageSize-1) / kernels.PageSize
				if x.cfg.SlidingWindow > 0 { // of the pages that its end sees
					want++
				}
				if m := x.Pages().Metrics(); q.Len() != n || m.Loaded < want {
					t.Fatalf("%d tokens of %d are there, %d pages were loaded, want %d", q.Len(), n, m.Loaded, want)
				}
				if !slices.Equal(score(), stayed) {
					t.Error("logits differ")
				}
			})
		}
	}
}

// TestHostMemoryIsBounded has room for two pages, and for less than one.
func TestHostMemoryIsBounded(t *testing.T) {
	path := filepath.Join(fixtureDir, "llama")
	o := withPages(t, path, Options{Context: 256}, 4)
	page := load(t, path, o, pipeline.Options{}).Memory().PageBytes
	for bytes, want := range map[int64]int{2 * page: 2, 3*page - 1: 2, page - 1: 0, 0: 0} {
		o.HostBytes = bytes
		x := load(t, path, o, pipeline.Options{})
		for i := range 2 {
			q := newText(t, x.Model)
			tokens := slices.Repeat([]int{i + 1}, 256)
			if _, err := x.Run(t.Context(), []Span{{Sequence: q, Tokens: tokens}}, Tail{}); err != nil {
				t.Fatal(err)
			}
			q.Release()
		}
		if m := x.Pages().Metrics(); m.Groups[pages.Global].Host != want {
			t.Errorf("%d pages in %d bytes of host memory, want %d", m.Groups[pages.Global].Host, bytes, want)
		}
	}
}
