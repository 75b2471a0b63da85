package model

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// greedy continues prompt token by token.
func greedy(t *testing.T, x *subject, prompt []int, n int) []int {
	t.Helper()
	tokens := slices.Clone(prompt)
	at := 0
	for range n {
		out, err := x.forward(context.Background(), tokens[at:], at, lastTop)
		if err != nil {
			t.Fatal(err)
		}
		at = len(tokens)
		tokens = append(tokens, out.Choices[0].ID)
	}
	return tokens[len(prompt):]
}

// TestDecodeInOneGo has the device continue by itself: the same tokens as one by one, in few submissions, with no byte
// sent for a token that follows from the one before.
func TestDecodeInOneGo(t *testing.T) {
	for _, name := range []string{"llama", "gemma2", "mpt", "smollm2"} {
		t.Run(name, func(t *testing.T) {
			if name != "llama" {
				long(t)
			}
			x := load(t, filepath.Join(fixtureDir, name), Options{Context: 64}, pipeline.Options{})
			prompt := []int{5, 6, 7, 8, 9}
			want := greedy(t, x, prompt, 30)
			out, err := x.forward(context.Background(), prompt, 0, lastTop)
			if err != nil {
				t.Fatal(err)
			}
			got := []int{out.Choices[0].ID}
			for i, steps := range []int{1, 1, 7, 20} {
				out, err := x.decode(context.Background(), got[len(got)-1], len(prompt)+len(got)-1, steps, nil)
				if err != nil {
					t.Fatal(err)
				}
				c := out.Counters
				// A device that takes a tenth of a second for a token has each in a submission of its own.
				if c.DeviceToHostBytes != 8*int64(steps) || i > 0 && c.HostToDeviceBytes != 0 || c.Submits < 1 || c.Submits > int64(steps) {
					t.Errorf("%d steps: %d submits, %d bytes to the device, %d back; want 1 to %d, 0, 8 a step", steps, c.Submits, c.HostToDeviceBytes, c.DeviceToHostBytes, steps)
				}
				for _, choice := range out.Choices {
					got = append(got, choice.ID)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("tokens (-one by one +in one go):\n%s", diff)
			}
		})
	}
}

// TestBurstsMayBeLongerThanChunks decodes in a cache for one sequence, where a burst lies in more pages of the window than
// a chunk.
func TestBurstsMayBeLongerThanChunks(t *testing.T) {
	path := filepath.Join(fixtureDir, "mistral")
	x := load(t, path, withPages(t, path, Options{Context: 192, Chunk: 8}, 3), pipeline.Options{})
	before := kernels.PageSize + x.cfg.SlidingWindow - 2 // so many that the next token sees the last one of the first page
	if _, err := x.forward(t.Context(), make([]int, before), 0, Tail{}); err != nil {
		t.Fatal(err)
	}
	if _, err := x.decode(t.Context(), 1, before, pipeline.MaxBurst, nil); err != nil {
		t.Error(err)
	}
}

// TestCandidatesAreTheLargestLogits compares both plans that find them with the logits.
func TestCandidatesAreTheLargestLogits(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "gemma2"), Options{Context: 64}, pipeline.Options{})
	for _, tokens := range [][]int{{5, 6, 7, 8}, {9}} {
		full, err := x.forward(context.Background(), tokens, 0, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		logits := slices.Clone(full.Logits)
		out, err := x.forward(context.Background(), tokens, 0, lastCandidates)
		if err != nil {
			t.Fatal(err)
		}
		c := out.Choices[0]
		if len(c.IDs) != pipeline.TopLogits || len(out.Choices) != 1 {
			t.Fatalf("%d choices, %d candidates", len(out.Choices), len(c.IDs))
		}
		slices.SortFunc(logits, func(a, b float32) int { return cmpFloat(b, a) })
		for i, id := range c.IDs {
			if full.Logits[id] != c.Logits[i] || logits[i] != c.Logits[i] {
				t.Fatalf("%d tokens: candidate %d is token %d with %g; its logit is %g, the %dth largest %g", len(tokens), i, id, c.Logits[i], full.Logits[id], i+1, logits[i])
			}
		}
	}
}

func cmpFloat(a, b float32) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// TestMarginsAreThoseOfTheLogits is what guessed tokens are checked by.
func TestMarginsAreThoseOfTheLogits(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "llama"), Options{Context: 64, Chunk: 40}, pipeline.Options{})
	tokens := make([]int, 50)
	for i := range tokens {
		tokens[i] = i * 7 % x.cfg.VocabSize
	}
	full, err := x.forward(context.Background(), tokens, 0, everyLogits)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 9, 31, 50} {
		out, err := x.forward(context.Background(), tokens[:n], 0, everyMargin)
		if err != nil {
			t.Fatal(err)
		}
		if len(out.Choices) != n {
			t.Fatalf("%d choices of %d tokens", len(out.Choices), n)
		}
		for i, c := range out.Choices {
			row := full.Logits[i*x.cfg.VocabSize:][:x.cfg.VocabSize]
			best := slices.Index(row, slices.Max(row))
			second := float32(math.Inf(-1))
			for id, v := range row {
				if id != best {
					second = max(second, v)
				}
			}
			if margin := row[best] - second; c.ID != best || math.Abs(float64(c.Margin-margin)) > 1e-4 {
				t.Errorf("%d tokens: largest at position %d is %d by %g, want %d by %g", n, i, c.ID, c.Margin, best, margin)
			}
		}
	}
}

// TestSegmentsDoNotChangeResults divides plans after almost every kernel, and the grids of kernels: not a bit of the
// logits changes.
func TestSegmentsDoNotChangeResults(t *testing.T) {
	tokens := make([]int, 45)
	for i := range tokens {
		tokens[i] = i*11 + 3
	}
	logits := func(segmentBytes int64) ([]float32, pipeline.Counters) {
		x := load(t, filepath.Join(fixtureDir, "gemma3"), Options{Context: 64}, pipeline.Options{SegmentBytes: segmentBytes})
		out, err := x.forward(context.Background(), tokens, 0, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(out.Logits), out.Counters
	}
	whole, few := logits(0)
	cut, many := logits(1 << 18)
	if few.Submits != 1 || many.Submits < 5 || many.Dispatches < 2*few.Dispatches {
		t.Errorf("%d submits and %d dispatches, in segments %d and %d", few.Submits, few.Dispatches, many.Submits, many.Dispatches)
	}
	if !slices.Equal(whole, cut) {
		t.Error("logits differ")
	}
}

func TestDecodeRefusesBadInput(t *testing.T) {
	x := load(t, filepath.Join(fixtureDir, "smollm2"), Options{Context: 16}, pipeline.Options{})
	draw := &pipeline.Draw{Temperature: 1, TopK: 1, TopP: 1, Uniform: make([]float32, 2)}
	for _, c := range []struct {
		token, position, steps int
		draw                   *pipeline.Draw
	}{{640, 0, 1, nil}, {1, 0, 0, nil}, {1, 0, pipeline.MaxBurst + 1, nil}, {1, 15, 2, nil}, {1, 0, 3, draw}} {
		if c.position > 0 {
			if _, err := x.forward(t.Context(), make([]int, c.position), 0, Tail{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := x.decode(context.Background(), c.token, c.position, c.steps, c.draw); err == nil {
			t.Errorf("%+v: no error", c)
		}
		if n := x.text.Len(); n != c.position {
			t.Errorf("%+v: %d tokens afterwards", c, n)
		}
	}
	if _, err := x.decode(context.Background(), 1, 0, 2, draw); err != nil {
		t.Error(err)
	}
}
