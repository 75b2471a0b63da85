package verify

import (
	"fmt"
	"math"

	"pumice/internal/ref"
	"pumice/pipeline"
)

func (v *verifier) normCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 576, 4096, 4097, 4100} {
		r := sizes[i%len(sizes)]
		for _, last := range []bool{false, true} {
			v.norm(cols, r[0], r[1], last, false, false, 1)
			v.norm(cols, r[0], r[1], last, true, false, 1)
			v.norm(cols, r[0], r[1], last, true, true, 1)
		}
		v.norm(cols, 9, 7, true, i%2 == 0, false, 1, 1, 4, 2)
	}
	v.norm(64, 1, 1, false, false, false, 1e-4) // eps decides
	v.norm(64, 2, 2, false, true, true, 1e3)
	for _, headDim := range []int{32, 64, 80, 128, 256} {
		v.headNorm(pipeline.Heads{Heads: 5, KVHeads: 2, HeadDim: headDim}, 9, 7)
	}
}

func (v *verifier) norm(cols, tokens, count int, last, layer, withBias bool, scale float64, lengths ...int) {
	kind := "rms_norm"
	if layer {
		kind = "layer_norm"
	}
	step := packed(inputStep(0, count), lengths)
	name := fmt.Sprintf("%s, cols %d, %d of %d tokens%s, last %t, bias %t, scale %g", kind, cols, count, tokens, inSequences(lengths), last, withBias, scale)
	v.check(name, func() error {
		const eps = float32(1e-5)
		x, w, bias := v.normal(tokens*cols), v.normal(cols), v.normal(cols)
		for i := range x {
			x[i] = float64(float32(scale * (x[i] + 0.5)))
		}
		n := &pipeline.Norm{Layer: layer, Eps: eps}
		var err error
		if n.Weights, err = v.vector(w); err != nil {
			return err
		}
		if !withBias {
			bias = nil
		} else if n.Bias, err = v.vector(bias); err != nil {
			return err
		}
		rows := x[:count*cols]
		if last {
			rows = nil
			for _, s := range spans(step) {
				rows = append(rows, x[(s.end-1)*cols:][:cols]...)
			}
		}
		want, tolerance := ref.RMSNorm(rows, w, float64(eps)), tolerances.rmsNorm(cols)
		terms := magnitudes(want)
		if layer {
			want, tolerance = ref.LayerNorm(rows, w, bias, float64(eps)), tolerances.layerNorm(cols)
			terms = layerNormTerms(rows, w, bias, float64(eps))
		}
		return v.one(x, tokens, step, func(b *pipeline.Builder, x *pipeline.Tensor) (*pipeline.Tensor, error) {
			if last {
				room := len(spans(step))
				if lengths != nil {
					room++
				}
				return b.NormLast(x, n, room), nil
			}
			return b.Norm(x, n), nil
		}, want, terms, tolerance)
	})
}

// layerNormTerms is (mean |x| + |x - mean|) / sigma |w| + |b|.
func layerNormTerms(x, w, b []float64, eps float64) []float64 {
	cols := len(w)
	out := make([]float64, len(x))
	for row := 0; row < len(x); row += cols {
		mean, size, variance := 0.0, 0.0, 0.0
		for _, v := range x[row:][:cols] {
			mean += v / float64(cols)
			size += math.Abs(v) / float64(cols)
		}
		for _, v := range x[row:][:cols] {
			variance += (v - mean) * (v - mean) / float64(cols)
		}
		for c := range cols {
			out[row+c] = (size + math.Abs(x[row+c]-mean)) / math.Sqrt(variance+eps) * math.Abs(w[c])
			if b != nil {
				out[row+c] += math.Abs(b[c])
			}
		}
	}
	return out
}

func (v *verifier) headNorm(h pipeline.Heads, tokens, count int) {
	v.check(fmt.Sprintf("head_norm, %d + 2 * %d heads of %d, %d of %d tokens", h.Heads, h.KVHeads, h.HeadDim, count, tokens), func() error {
		const eps = float32(1e-6)
		x := v.normal(tokens * (h.Heads + 2*h.KVHeads) * h.HeadDim)
		q, k := v.normal(h.HeadDim), v.normal(h.HeadDim)
		qv, err := v.vector(q)
		if err != nil {
			return err
		}
		kv, err := v.vector(k)
		if err != nil {
			return err
		}
		want := oracleHeads(h, nil).HeadNorm(x[:len(x)/tokens*count], q, k, float64(eps))
		return v.one(x, tokens, inputStep(0, count), func(b *pipeline.Builder, x *pipeline.Tensor) (*pipeline.Tensor, error) {
			b.HeadNorm(x, h, qv, kv, eps)
			return x, nil
		}, want, magnitudes(want), tolerances.rmsNorm(h.HeadDim))
	})
}
