package ref

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The tests apply each operation to values that can be computed by hand.

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
	check(t, "LayerNorm", LayerNorm([]float64{1, 3, 5, 5}, []float64{1, 10}, []float64{0, 100}, 0.5e-30), []float64{-1, 110, 0, 100})
	check(t, "LayerNorm without bias", LayerNorm([]float64{1, 3}, []float64{1, 10}, nil, 0), []float64{-1, 10})
	heads := Heads{Heads: 1, KVHeads: 1, HeadDim: 2}
	check(t, "HeadNorm", heads.HeadNorm([]float64{3, 4, 3, 4, 3, 4}, []float64{5, 5}, []float64{50, 50}, 0),
		[]float64{15 / math.Sqrt(12.5), 20 / math.Sqrt(12.5), 150 / math.Sqrt(12.5), 200 / math.Sqrt(12.5), 3, 4})
}

func TestActivations(t *testing.T) {
	check(t, "ActMul", ActMul([]float64{0, 5, 1, 2}, SiLU), []float64{0, 2 / (1 + math.Exp(-1))})
	// Phi(1) = 0.841344746..., and the approximation's value at 1 from its formula.
	check(t, "GELU", Act([]float64{0, 1, -1}, GELU), []float64{0, 0.8413447460685429, -0.15865525393145707})
	check(t, "GELUTanh", Act([]float64{0, 1}, GELUTanh), []float64{0, 0.8411919906082768})
	check(t, "SoftCap", SoftCap([]float64{math.Log(3) / 2 * 10, 1e9}, 10), []float64{5, 10})
	check(t, "SoftCap 0", SoftCap([]float64{7}, 0), []float64{7})
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
	h.Clip = 5
	_, k, v = h.RopeStore([]float64{1, 2, 3, 4, 5, 6, 7, -8}, table, 1)
	check(t, "clipped k", k, []float64{5, 5})
	check(t, "clipped v", v, []float64{5, -5})
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
	// With a window of two, position 3 sees 2 and 3, which a cache of two keeps at 0 and 1.
	windowed := Heads{Heads: 1, KVHeads: 1, HeadDim: 2, Window: 2}
	check(t, "window", windowed.Attention([]float64{1, 0}, keys[:4], []float64{2, 4, 6, 8}, 2, 3, 1), []float64{4, 6})
	// A slope of ln 3 makes a key one position back three times lighter.
	sloped := Heads{Heads: 1, KVHeads: 1, HeadDim: 2, Slopes: []float64{math.Log(3)}}
	check(t, "slopes", sloped.Attention([]float64{1, 0}, keys[:4], []float64{0, 4, 4, 8}, 2, 1, 0), []float64{3, 7})
	check(t, "weighted", one.Attention([]float64{1, 0}, []float64{0, 0, math.Log(3) / 2, 7}, []float64{0, 4, 4, 8}, 2, 1, 2), []float64{3, 7})
}

func TestSoftmaxAndTopK(t *testing.T) {
	check(t, "Softmax", Softmax([]float64{0, math.Log(3), 1000, 1000}, 2, 1), []float64{0.25, 0.75, 0.5, 0.5})
	check(t, "Softmax scale", Softmax([]float64{0, math.Log(3)}, 2, 2), []float64{0.1, 0.9})
	check(t, "TopK", TopK([]float64{1, 5, math.Inf(-1), 5, math.NaN(), math.Inf(1)}, 4), []int{4, 5, 1, 3})
	check(t, "TopK short", TopK([]float64{1, 2}, 5), []int{1, 0})
}

func TestAdjust(t *testing.T) {
	check(t, "bias", Adjust(1, -3, 0, 2, 7, 7), -2.)
	check(t, "penalties", Adjust(5, 1, 3, 2, 0.5, 1), 0.5)
	check(t, "penalties of a negative logit", Adjust(5, -6, 1, 2, 0, 0), -2.)
	check(t, "forbidden", Adjust(5, math.Inf(-1), 2, 2, 1, 1), math.Inf(-1))
}
