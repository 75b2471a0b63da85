// Package ref is the oracle that kernels are compared with: every operation of package
// pipeline as the plainest float64 function that says what it computes. Weights are given
// dequantised and activations as the device stored them, so that what differs is arithmetic
// alone. Matrices are row-major slices, outermost dimension first. Nothing here is fast, and
// only tests and verification use it.
package ref

import (
	"fmt"
	"math"
	"slices"
)

// Embed returns rows ids of table, (n, cols), times scale: (len(ids), cols).
func Embed(table []float64, cols int, ids []int, scale float64) []float64 {
	var out []float64
	for _, id := range ids {
		for c := range cols {
			out = append(out, scale*table[id*cols+c])
		}
	}
	return out
}

// RMSNorm returns x / sqrt(mean(x^2) + eps) * w for each row of x, (n, len(w)).
// Zhang and Sennrich 2019, arXiv:1910.07467.
func RMSNorm(x, w []float64, eps float64) []float64 {
	out := make([]float64, len(x))
	cols := len(w)
	for row := 0; row < len(x); row += cols {
		sum := 0.0
		for c := range cols {
			sum += x[row+c] * x[row+c]
		}
		for c := range cols {
			out[row+c] = x[row+c] / math.Sqrt(sum/float64(cols)+eps) * w[c]
		}
	}
	return out
}

// Linear returns x, (n, cols), times the transpose of w, (rows, cols), plus bias, (rows),
// unless it is nil: (n, rows).
func Linear(x, w, bias []float64, rows, cols int) []float64 {
	n := len(x) / cols
	out := make([]float64, n*rows)
	for t := range n {
		for r := range rows {
			sum := 0.0
			for c := range cols {
				sum += w[r*cols+c] * x[t*cols+c]
			}
			if bias != nil {
				sum += bias[r]
			}
			out[t*rows+r] = sum
		}
	}
	return out
}

// Heads is the shape of an attention block.
type Heads struct {
	Heads, KVHeads, HeadDim int
	RotaryDim               int  // leading components that rotate
	Interleaved             bool // pairs are 2j, 2j+1 rather than j, j + RotaryDim/2
}

// Rope rotates one head, (HeadDim), by the angles of one position, (RotaryDim / 2, 2) cosines
// and sines. Su et al. 2021, arXiv:2104.09864, section 3.4.2.
func (h Heads) Rope(head, angles []float64) []float64 {
	out := slices.Clone(head)
	for j := range h.RotaryDim / 2 {
		first, second := j, j+h.RotaryDim/2
		if h.Interleaved {
			first, second = 2*j, 2*j+1
		}
		cos, sin := angles[2*j], angles[2*j+1]
		a, b := head[first], head[second]
		out[first] = a*cos - b*sin
		out[second] = a*sin + b*cos
	}
	return out
}

// RopeStore splits qkv, (n, Heads + 2 KVHeads, HeadDim), whose rows are at consecutive
// positions from position on, into rotated queries, (n, Heads, HeadDim), rotated keys and
// values, (n, KVHeads, HeadDim). table is (positions, RotaryDim / 2, 2).
func (h Heads) RopeStore(qkv, table []float64, position int) (q, k, v []float64) {
	total := h.Heads + 2*h.KVHeads
	for t := range len(qkv) / (total * h.HeadDim) {
		angles := table[(position+t)*h.RotaryDim:][:h.RotaryDim]
		for i := range total {
			head := qkv[(t*total+i)*h.HeadDim:][:h.HeadDim]
			switch {
			case i < h.Heads:
				q = append(q, h.Rope(head, angles)...)
			case i < h.Heads+h.KVHeads:
				k = append(k, h.Rope(head, angles)...)
			default:
				v = append(v, head...)
			}
		}
	}
	return q, k, v
}

// Attention returns causal attention of q, (n, Heads, HeadDim), whose rows are at consecutive
// positions from position on, over keys and values, (KVHeads, context, HeadDim), up to each
// row's own position: (n, Heads, HeadDim). Vaswani et al. 2017, arXiv:1706.03762.
func (h Heads) Attention(q, keys, values []float64, context, position int, scale float64) []float64 {
	out := make([]float64, len(q))
	for t := range len(q) / (h.Heads * h.HeadDim) {
		for i := range h.Heads {
			at := (t*h.Heads + i) * h.HeadDim
			base := i / (h.Heads / h.KVHeads) * context * h.HeadDim
			scores := make([]float64, position+t+1)
			for j := range scores {
				for d := range h.HeadDim {
					scores[j] += scale * q[at+d] * keys[base+j*h.HeadDim+d]
				}
			}
			for j, p := range Softmax(scores, len(scores), 1) {
				for d := range h.HeadDim {
					out[at+d] += p * values[base+j*h.HeadDim+d]
				}
			}
		}
	}
	return out
}

// ActMul returns silu(gate) * up for x that alternates between gate and up.
// Shazeer 2020, arXiv:2002.05202.
func ActMul(x []float64) []float64 {
	out := make([]float64, len(x)/2)
	for i := range out {
		gate, up := x[2*i], x[2*i+1]
		out[i] = gate / (1 + math.Exp(-gate)) * up
	}
	return out
}

// Add returns x + y.
func Add(x, y []float64) []float64 {
	if len(x) != len(y) {
		panic(fmt.Sprintf("ref: adding %d values to %d", len(x), len(y)))
	}
	out := make([]float64, len(x))
	for i := range out {
		out[i] = x[i] + y[i]
	}
	return out
}

// Softmax returns exp(scale x) / sum(exp(scale x)) of each row of cols values.
func Softmax(x []float64, cols int, scale float64) []float64 {
	out := make([]float64, len(x))
	for row := 0; row < len(x); row += cols {
		most := math.Inf(-1)
		for c := range cols {
			most = max(most, scale*x[row+c])
		}
		sum := 0.0
		for c := range cols {
			out[row+c] = math.Exp(scale*x[row+c] - most)
			sum += out[row+c]
		}
		for c := range cols {
			out[row+c] /= sum
		}
	}
	return out
}

// TopK returns the indices of the k largest values, largest first and the lowest index first
// among equals. NaN counts as +Inf. Fewer than k values give fewer indices.
func TopK(x []float64, k int) []int {
	value := func(i int) float64 {
		if math.IsNaN(x[i]) {
			return math.Inf(1)
		}
		return x[i]
	}
	ids := make([]int, len(x))
	for i := range ids {
		ids[i] = i
	}
	slices.SortStableFunc(ids, func(i, j int) int {
		switch a, b := value(i), value(j); {
		case a > b:
			return -1
		case a < b:
			return 1
		}
		return 0
	})
	return ids[:min(k, len(ids))]
}
