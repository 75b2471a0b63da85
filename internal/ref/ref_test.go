package ref

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// Each operation on values that can be worked out by hand.

func check(t *testing.T, name string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); d != "" {
		t.Errorf("%s (-want +got):\n%s", name, d)
	}
}

func TestLinearAlgebra(t *testing.T) {
	check(t, "Embed", Embed([]float64{1, 2, 3, 4, 5, 6}, 2, []int{2, 0}, 10), []float64{50, 60, 10, 20})
	check(t, "RMSNorm", RMSNorm([]float64{3, 4, 0, 0}, []float64{1, 10, 1, 1}, 0), []float64{1.2, 16, 0, 0})
	check(t, "RMSNorm eps", RMSNorm([]float64{0, 0}, []float64{1, 1}, 1e-5), []float64{0, 0})
	check(t, "Linear", Linear([]float64{1, 2, 3, 4}, []float64{1, 0, 0, 1, 1, 1}, []float64{0, 10, 100}, 3, 2),
		[]float64{1, 12, 103, 3, 14, 107})
	check(t, "Add", Add([]float64{1, 2}, []float64{10, 20}), []float64{11, 22})
	check(t, "ActMul", ActMul([]float64{0, 5, 1, 2}), []float64{0, 2 / (1 + math.Exp(-1))})
}

func TestRopeTurnsPairsByAQuarter(t *testing.T) {
	quarter := []float64{0, 1, 0, 1} // cos, sin of 90 degrees: (a, b) becomes (-b, a)
	x := []float64{1, 2, 3, 4, 5, 6}
	half := Heads{Heads: 1, KVHeads: 1, HeadDim: 6, RotaryDim: 4}
	check(t, "half-split", half.Rope(x, quarter), []float64{-3, -4, 1, 2, 5, 6})
	inter := Heads{Heads: 1, KVHeads: 1, HeadDim: 6, RotaryDim: 4, Interleaved: true}
	check(t, "interleaved", inter.Rope(x, quarter), []float64{-2, 1, -4, 3, 5, 6})

	h := Heads{Heads: 2, KVHeads: 1, HeadDim: 2, RotaryDim: 2}
	table := []float64{9, 9, 1, 0, 0, 1} // position 0 unused, 1 does nothing, 2 is a quarter
	q, k, v := h.RopeStore([]float64{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8}, table, 1)
	check(t, "q", q, []float64{1, 2, 3, 4, -2, 1, -4, 3})
	check(t, "k", k, []float64{5, 6, -6, 5})
	check(t, "v", v, []float64{7, 8, 7, 8})
}

func TestAttentionIsCausalAndShared(t *testing.T) {
	// Two query heads share one key-value head; scale 0 makes the weights equal.
	h := Heads{Heads: 2, KVHeads: 1, HeadDim: 2}
	keys := []float64{1, 1, 1, 1, 1, 1}
	values := []float64{0, 3, 6, 9, 99, 99}
	check(t, "uniform", h.Attention([]float64{1, 0, 0, 1, 1, 1, 1, 1}, keys, values, 3, 0, 0),
		[]float64{0, 3, 0, 3, 3, 6, 3, 6})
	// A score larger by ln 3 has three times the weight.
	one := Heads{Heads: 1, KVHeads: 1, HeadDim: 2}
	check(t, "weighted", one.Attention([]float64{1, 0}, []float64{0, 0, math.Log(3) / 2, 7}, []float64{0, 4, 4, 8}, 2, 1, 2), []float64{3, 7})
}

func TestSoftmaxAndTopK(t *testing.T) {
	check(t, "Softmax", Softmax([]float64{0, math.Log(3), 1000, 1000}, 2, 1), []float64{0.25, 0.75, 0.5, 0.5})
	check(t, "Softmax scale", Softmax([]float64{0, math.Log(3)}, 2, 2), []float64{0.1, 0.9})
	check(t, "TopK", TopK([]float64{1, 5, math.Inf(-1), 5, math.NaN(), math.Inf(1)}, 4), []int{4, 5, 1, 3})
	check(t, "TopK short", TopK([]float64{1, 2}, 5), []int{1, 0})
}
