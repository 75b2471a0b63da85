// Package ref is the oracle for kernels: it has every operation of package pipeline as the
// plainest float64 function that computes it. Weights are given dequantised and activations
// as stored by the device, so that results differ only by arithmetic. Matrices are row-major
// slices, outermost dimension first. Nothing here is fast, and only tests, verification and
// model.Exact use it.
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

// LayerNorm returns (x - mean(x)) / sqrt(variance(x) + eps) * w + b for each row of x,
// (n, len(w)); b may be nil. Ba et al. 2016, arXiv:1607.06450.
func LayerNorm(x, w, b []float64, eps float64) []float64 {
	out := make([]float64, len(x))
	cols := len(w)
	for row := 0; row < len(x); row += cols {
		mean, variance := 0.0, 0.0
		for c := range cols {
			mean += x[row+c] / float64(cols)
		}
		for c := range cols {
			variance += (x[row+c] - mean) * (x[row+c] - mean) / float64(cols)
		}
		for c := range cols {
			out[row+c] = (x[row+c] - mean) / math.Sqrt(variance+eps) * w[c]
			if b != nil {
				out[row+c] += b[c]
			}
		}
	}
	return out
}

// HeadNorm is RMSNorm of every query head of qkv, (n, Heads + 2 KVHeads, HeadDim), by q and of
// every key head by k.
func (h Heads) HeadNorm(qkv, q, k []float64, eps float64) []float64 {
	out := slices.Clone(qkv)
	total := h.Heads + 2*h.KVHeads
	for i := range len(qkv) / h.HeadDim {
		w := q
		if i%total >= h.Heads {
			w = k
		}
		if i%total < h.Heads+h.KVHeads {
			copy(out[i*h.HeadDim:], RMSNorm(qkv[i*h.HeadDim:][:h.HeadDim], w, eps))
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

	Clip    float64   // queries, keys and values are clamped to +-Clip; 0 turns it off
	Window  int       // number of positions that a query sees, its own included; 0 stands for all
	SoftCap float64   // scores s become SoftCap * tanh(s / SoftCap); 0 turns it off
	Slopes  []float64 // (Heads): slope * (j - i) is added to query i's score for key j; nil turns it off

	Bidirectional bool // a query sees the keys after it too
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
// positions from position on, clamped, into rotated queries, (n, Heads, HeadDim), rotated keys and
// values, (n, KVHeads, HeadDim). table is (positions, RotaryDim / 2, 2).
func (h Heads) RopeStore(qkv, table []float64, position int) (q, k, v []float64) {
	if h.Clip > 0 {
		qkv = slices.Clone(qkv)
		for i, x := range qkv {
			qkv[i] = max(-h.Clip, min(h.Clip, x))
		}
	}
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

// Attention returns attention of q, (n, Heads, HeadDim), whose rows are at consecutive
// positions from position on, over keys and values, (KVHeads, context, HeadDim), up to each
// row's own position, or with Bidirectional the last row's: (n, Heads, HeadDim). Position j is kept at j % context. Vaswani et al.
// 2017, arXiv:1706.03762; slopes: Press et al. 2022, arXiv:2108.12409.
func (h Heads) Attention(q, keys, values []float64, context, position int, scale float64) []float64 {
	out := make([]float64, len(q))
	for i := range len(q) / h.HeadDim {
		first, weights := h.Weights(q, keys, context, position, scale, i)
		for n, p := range weights {
			value := values[h.slot(i%h.Heads, first+n, context):]
			for d := range h.HeadDim {
				out[i*h.HeadDim+d] += p * value[d]
			}
		}
	}
	return out
}

// slot is where the keys and values of a query head at position j begin.
func (h Heads) slot(head, j, context int) int {
	return (head/(h.Heads/h.KVHeads)*context + j%context) * h.HeadDim
}

// Weights returns what Attention weighs the values with for head i of q, counted over all its rows, from the first position that
// the head sees.
func (h Heads) Weights(q, keys []float64, context, position int, scale float64, i int) (first int, weights []float64) {
	own := position + i/h.Heads
	last := own
	if h.Window > 0 {
		first = max(0, own-h.Window+1)
	}
	if h.Bidirectional {
		last = position + len(q)/(h.Heads*h.HeadDim) - 1
	}
	var scores []float64
	for j := first; j <= last; j++ {
		s := 0.0
		for d := range h.HeadDim {
			s += scale * q[i*h.HeadDim+d] * keys[h.slot(i%h.Heads, j, context)+d]
		}
		s = SoftCap([]float64{s}, h.SoftCap)[0]
		if h.Slopes != nil {
			s += h.Slopes[i%h.Heads] * float64(j-own)
		}
		scores = append(scores, s)
	}
	return first, Softmax(scores, len(scores), 1)
}

// LogSumExp returns the logarithm of the sum of the exponentials of x.
func LogSumExp(x []float64) float64 {
	largest, sum := slices.Max(x), 0.0
	for _, v := range x {
		sum += math.Exp(v - largest)
	}
	return largest + math.Log(sum)
}

// SoftCap returns limit * tanh(x / limit), and x itself for limit 0.
func SoftCap(x []float64, limit float64) []float64 {
	out := slices.Clone(x)
	if limit > 0 {
		for i := range out {
			out[i] = limit * math.Tanh(x[i]/limit)
		}
	}
	return out
}

// SiLU is x / (1 + exp(-x)).
func SiLU(x float64) float64 { return x / (1 + math.Exp(-x)) }

// GELU is x times the probability that a standard normal variable is less than x.
// Hendrycks and Gimpel 2016, arXiv:1606.08415.
func GELU(x float64) float64 { return x / 2 * math.Erfc(-x/math.Sqrt2) }

// GELUTanh is the approximation of GELU by tanh from the same paper.
func GELUTanh(x float64) float64 {
	return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
}

// ActMul returns act(gate) * up for x that alternates between gate and up.
// Shazeer 2020, arXiv:2002.05202.
func ActMul(x []float64, act func(float64) float64) []float64 {
	out := make([]float64, len(x)/2)
	for i := range out {
		out[i] = act(x[2*i]) * x[2*i+1]
	}
	return out
}

// Act returns act(x) of each value.
func Act(x []float64, act func(float64) float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = act(v)
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

// Draw returns the candidate that the number u in [0, 1) draws: from the softmax of logits over the candidates at a
// temperature, most probable first, keep the fewest that together reach topP, and of these the ones with at
// least minP times the largest probability. topP 1 and minP 0 turn these off.
func Draw(logits []float64, candidates []int, temperature, topP, minP, u float64) int {
	p := make([]float64, len(candidates))
	total := 0.0
	for i, id := range candidates {
		p[i] = math.Exp((logits[id] - logits[candidates[0]]) / temperature)
		total += p[i]
	}
	kept := 0.0
	n := 0
	for n < len(p) && (n == 0 || p[n] >= minP && (topP >= 1 || kept < topP*total)) {
		kept += p[n]
		n++
	}
	at, sum := 0, p[0]
	for at < n-1 && u*kept >= sum {
		at++
		sum += p[at]
	}
	return candidates[at]
}

// Adjust returns a logit with a bias added and then penalised for a token that came count times before: divided, or if
// negative multiplied, by repeat, and less count times frequency and presence.
func Adjust(x, bias float64, count int, repeat, frequency, presence float64) float64 {
	x += bias
	switch {
	case count == 0:
		return x
	case x < 0:
		x *= repeat
	default:
		x /= repeat
	}
	return x - float64(count)*frequency - presence
}
