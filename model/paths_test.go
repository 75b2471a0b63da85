package model

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// pathBounds is how far the logits of paths that TestFixtureLogits leaves out may be from the
// base path's. sg, few and addr sum in another order; fp16, cm and cm2 round weights and activations to 11 bits, dp
// activations to 8, dp2 to 16. Bounds are at least twice the largest differences seen: 2e-5, 0.05, 0.5, 7e-4.
var pathBounds = map[kernels.Path]float64{
	kernels.SG: 1e-4, kernels.Few: 1e-4, kernels.Addr: 1e-4, kernels.FP16: 0.1, kernels.CM: 0.1, kernels.CM2: 0.1, kernels.CM2E: 0.1, kernels.DP: 1,
	kernels.DP2: 5e-3,
}

// TestFixturesOnEveryPath compares every family on the paths that TestFixtureLogits leaves out.
func TestFixturesOnEveryPath(t *testing.T) {
	long(t)
	m, err := pipeline.NewManager(gputest.Open(t), pipeline.Options{})
	check(t, err)
	available := m.Paths()
	check(t, m.Close())
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(fixtureDir, name)
			ids := readGolden(t, path).Prompts[2].IDs
			ids = ids[:min(len(ids), 48)]
			logits := func(kernels kernels.Path) []float32 {
				x := load(t, path, Options{Context: 64, DType: dtype.Q8_0, KVType: dtype.F32}, pipeline.Options{Path: kernels})
				var out Output
				from := 0
				for _, to := range []int{len(ids) - 6, len(ids) - 1, len(ids)} { // many tokens, a few, one
					var err error
					if out, err = x.forward(context.Background(), ids[from:to], from, lastLogits); err != nil {
						t.Fatal(err)
					}
					from = to
				}
				return slices.Clone(out.Logits)
			}
			want := logits(kernels.Base)
			for _, kernels := range available {
				if bound, ok := pathBounds[kernels]; ok {
					worst := compare(t, string(kernels), logits(kernels), want, bound)
					t.Logf("%s: max abs error %.3g", kernels, worst)
				}
			}
		})
	}
}
