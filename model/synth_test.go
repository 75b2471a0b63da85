package model

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/synth"
	"pumice/pipeline"
)

// TestSynthesisedFamiliesRun makes a small checkpoint of every registered family in every format
// that it comes in, and evaluates it.
func TestSynthesisedFamiliesRun(t *testing.T) {
	long(t)
	for i := range families {
		f := &families[i]
		if !slices.Contains(synth.Families(), f.Name) {
			t.Errorf("family %s cannot be synthesised", f.Name)
			continue
		}
		s, err := synth.Lookup(f.Name, synth.Tiny)
		if err != nil {
			t.Fatal(err)
		}
		formats := map[synth.Format][]dtype.DType{synth.SafeTensors: {dtype.BF16}}
		if len(f.GGUF) > 0 {
			formats[synth.GGUF] = []dtype.DType{dtype.Q8_0}
		}
		if f.Name == "xverse" { // types are the same to every family
			formats[synth.SafeTensors] = []dtype.DType{dtype.F32, dtype.F16, dtype.BF16}
			formats[synth.GGUF] = []dtype.DType{dtype.F32, dtype.F16, dtype.BF16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q5_0, dtype.Q5_1, dtype.Q4_K, dtype.Q5_K, dtype.Q6_K}
		}
		if len(formats) != len(synth.Formats(f.Name)) {
			t.Errorf("%s: synthesised as %v, read as %d formats", f.Name, synth.Formats(f.Name), len(formats))
		}
		for format, types := range formats {
			for _, d := range types {
				t.Run(f.Name+"/"+format.String()+"/"+d.String(), func(t *testing.T) { runSynthesised(t, f.Name, s, format, d) })
			}
		}
	}
}

func runSynthesised(t *testing.T, family string, s synth.Shape, format synth.Format, d dtype.DType) {
	path := filepath.Join(t.TempDir(), "model")
	if format == synth.GGUF {
		path += ".gguf"
	}
	if err := synth.Write(context.Background(), path, s, synth.Options{Format: format, DType: d, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	x := load(t, path, Options{Context: 16}, pipeline.Options{})
	cfg := x.Config()
	if cfg.Family != family || cfg.HiddenSize != s.Hidden || cfg.NumHiddenLayers != s.Layers || cfg.NumAttentionHeads != s.Heads ||
		cfg.NumKeyValueHeads != s.KVHeads || cfg.HeadDim != s.HeadDim || cfg.IntermediateSize != s.Intermediate ||
		cfg.VocabSize != s.Vocab || cfg.MaxPositionEmbeddings != s.Context || cfg.SlidingWindow != s.Window || cfg.TieWordEmbeddings != s.Tied {
		t.Errorf("read as %+v, written as %+v", cfg, s)
	}
	tokens := []int{5, 6, 7}
	var results []float32
	if cfg.Encoder {
		out, err := x.Score(context.Background(), x.text, [][]int{tokens}, Tail{Rows: EveryRow, Hidden: true})
		if err != nil {
			t.Fatal(err)
		}
		results = out.Hidden
	} else {
		out, err := x.forward(context.Background(), tokens, 0, everyLogits)
		if err != nil {
			t.Fatal(err)
		}
		results = out.Logits
	}
	var squares float64
	for i, v := range results {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			t.Fatalf("result %d is %v", i, v)
		}
		squares += float64(v) * float64(v)
	}
	if rms := math.Sqrt(squares / float64(len(results))); rms < 0.01 || rms > 100 {
		t.Errorf("results have a root mean square of %g", rms)
	}
}
