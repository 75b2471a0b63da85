package model

import (
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"pumice/internal/ref"
	"pumice/pipeline"
)

// TestCapturedWeightsMatchTheReference compares the weights of attention of each layer, of a head and their mean, with float64 ones, after a
// token by itself and after a burst.
func TestCapturedWeightsMatchTheReference(t *testing.T) {
	path := filepath.Join(fixtureDir, "llama")
	x := load(t, path, exact, pipeline.Options{})
	prompt := readGolden(t, path).Prompts[2].IDs
	for layer := range x.cfg.NumHiddenLayers {
		for _, head := range []int{pipeline.MeanOfHeads, layer % x.cfg.NumAttentionHeads} {
			c, err := x.NewCapture(layer, head, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.forward(t.Context(), prompt[:len(prompt)-1], 0, Tail{}); err != nil {
				t.Fatal(err)
			}
			x.Capture(c, 0)
			text, last := slices.Clone(prompt), len(prompt)-1
			out, err := x.decode(t.Context(), text[last], last, 1+2*(layer%2), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, choice := range out.Choices[:len(out.Choices)-1] {
				text = append(text, choice.ID)
			}
			got := make([]float32, exact.Context)
			if _, err := c.Weights(got); err != nil {
				t.Fatal(err)
			}
			want := make([]float32, exact.Context)
			r := newReference(t, path)
			r.attends = func(at int, h ref.Heads, q, keys []float64) {
				for i := range h.Heads {
					if at != layer || head >= 0 && head != i {
						continue
					}
					_, weights := h.Weights(q, keys, len(text), 0, 1/math.Sqrt(float64(h.HeadDim)), (len(text)-1)*h.Heads+i)
					for j, w := range weights {
						if head < 0 {
							w /= float64(h.Heads)
						}
						want[j] += float32(w)
					}
				}
			}
			r.logits(t, text)
			compare(t, "weights", got, want, 1e-5)
			check(t, x.EndCapture(c))
		}
	}
}

// TestCaptureChangesNothing: results, and what is in the cache, are the same with a capture, bit for bit; without one, counts are
// those of before, and no plan is left of it.
func TestCaptureChangesNothing(t *testing.T) {
	long(t)
	x := load(t, filepath.Join(fixtureDir, "gemma3"), Options{Context: 64}, pipeline.Options{})
	prompt := []int{5, 6, 7, 8, 9}
	run := func(c *Capture) (logits []float32, counters []pipeline.Counters) {
		t.Helper()
		x.Capture(nil, 0)
		if _, err := x.forward(t.Context(), prompt, 0, Tail{}); err != nil {
			t.Fatal(err)
		}
		x.Capture(c, 0)
		for i := range 3 {
			out, err := x.forward(t.Context(), []int{i}, len(prompt)+i, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			logits = append(logits, out.Logits...)
			out.Counters.Records = 0
			out.Counters.HostToDeviceBytes = 0 // words that are as they were are not sent
			counters = append(counters, out.Counters)
		}
		return logits, counters
	}
	want, before := run(nil)
	plans := len(x.head().plans)
	var captures []*Capture
	for layer := range x.cfg.NumHiddenLayers {
		c, err := x.NewCapture(layer, layer%2-1, nil)
		if err != nil {
			t.Fatal(err)
		}
		captures = append(captures, c)
		got, during := run(c)
		if !slices.Equal(got, want) {
			t.Errorf("logits differ with a capture of layer %d", layer)
		}
		if n := during[0].Dispatches - before[0].Dispatches; n != 2 && n != 3 { // one more where rotation is part of attention
			t.Errorf("%d dispatches more", n)
		}
		weights := make([]float32, len(prompt)+3)
		if _, err := c.Weights(weights); err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, w := range weights {
			sum += float64(w)
		}
		if math.Abs(sum-1) > 1e-5 {
			t.Errorf("the weights of layer %d are %v, and %g together", layer, weights, sum)
		}
	}
	for _, c := range captures[1:] {
		check(t, x.EndCapture(c))
	}
	got, after := run(nil)
	if !slices.Equal(got, want) || !slices.Equal(after, before) {
		t.Errorf("%+v after a capture, before %+v", after, before)
	}
	if n := len(x.head().plans); n != plans+1 {
		t.Errorf("%d plans, want %d and the one of the capture that is left", n, plans)
	}
}

// TestCaptureOfOneOfSeveral: of spans that share a step, the one that was asked for leaves its weights.
func TestCaptureOfOneOfSeveral(t *testing.T) {
	long(t)
	x := load(t, filepath.Join(fixtureDir, "llama"), exact, pipeline.Options{})
	c, err := x.NewCapture(1, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	texts := [][]int{{5, 6, 7, 8}, {9, 3, 4}}
	var want [][]float32
	var spans []Span
	for _, text := range texts {
		x.Capture(nil, 0)
		if _, err := x.forward(t.Context(), text[:len(text)-1], 0, Tail{}); err != nil {
			t.Fatal(err)
		}
		x.Capture(c, 0)
		if _, err := x.forward(t.Context(), text[len(text)-1:], len(text)-1, lastTop); err != nil {
			t.Fatal(err)
		}
		weights := make([]float32, len(text))
		if _, err := c.Weights(weights); err != nil {
			t.Fatal(err)
		}
		want = append(want, weights)
		q := newText(t, x.Model)
		x.Capture(nil, 0)
		if _, err := x.Run(t.Context(), []Span{{Sequence: q, Tokens: text[:len(text)-1]}}, Tail{}); err != nil {
			t.Fatal(err)
		}
		spans = append(spans, Span{Sequence: q, Tokens: text[len(text)-1:]})
	}
	for i := range spans {
		again := slices.Clone(spans)
		x.Capture(c, i)
		if _, err := x.Run(t.Context(), again, lastTop); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(want[i]))
		if _, err := c.Weights(got); err != nil {
			t.Fatal(err)
		}
		compare(t, "weights in a batch", got, want[i], 1e-5)
		for j, s := range spans {
			if _, err := s.Sequence.Truncate(len(texts[j]) - 1); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCapturesThatCannotBe are errors.
func TestCapturesThatCannotBe(t *testing.T) {
	long(t)
	x := load(t, filepath.Join(fixtureDir, "llama"), exact, pipeline.Options{})
	for _, c := range [][2]int{{-1, 0}, {x.cfg.NumHiddenLayers, 0}, {0, -2}, {0, x.cfg.NumAttentionHeads}} {
		if _, err := x.NewCapture(c[0], c[1], nil); err == nil {
			t.Errorf("no error of head %d in layer %d", c[1], c[0])
		}
	}
	x = load(t, filepath.Join(fixtureDir, "bert"), Options{}, pipeline.Options{})
	if _, err := x.NewCapture(0, 0, nil); !errors.Is(err, ErrEncoder) {
		t.Errorf("an encoder: %v", err)
	}
}
