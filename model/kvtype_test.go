package model

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"pumice/internal/dtype"
	"pumice/pipeline"
)

// A Q8_0 cache takes little more than a quarter of a float32 one and leaves the logits close,
// whatever chunks the tokens come in; gemma2's local layers reuse their positions.
func TestQ8CacheIsCloseToFloat(t *testing.T) {
	ctx := context.Background()
	for _, name := range []string{"smollm2", "gemma2", "llama"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(fixtureDir, name)
			float := load(t, path, exact, pipeline.Options{})
			o := exact
			o.KVType, o.Chunk = dtype.Q8_0, 16
			quantised := load(t, path, o, pipeline.Options{})
			if f, q := float.Memory().CacheBytes, quantised.Memory().CacheBytes; q > f*36/128 {
				t.Errorf("a cache of %d bytes, %d in float32", q, f)
			}
			tokens := make([]int, 60)
			for i := range tokens {
				tokens[i] = (7*i + 3) % float.Config().VocabSize
			}
			want, err := float.forward(ctx, tokens, 0, lastLogits)
			if err != nil {
				t.Fatal(err)
			}
			var got Output
			for at, n := 0, 1; at < len(tokens); at, n = at+n, n+2 { // chunks of 1, 3, 5...
				if got, err = quantised.forward(ctx, tokens[at:min(at+n, len(tokens))], at, lastLogits); err != nil {
					t.Fatal(err)
				}
			}
			var diff, size float64
			for i, w := range want.Logits {
				diff += math.Pow(float64(got.Logits[i]-w), 2)
				size += float64(w) * float64(w)
			}
			if nmse := diff / size; !(nmse < 1e-3) || nmse == 0 {
				t.Errorf("logits differ by an NMSE of %.3g", nmse)
			} else {
				t.Logf("NMSE %.3g", nmse)
			}
		})
	}
}
