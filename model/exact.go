package model

import (
	"context"
	"fmt"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"pumice/checkpoint"
	"pumice/internal/ref"
	"pumice/pipeline/kernels"
)

// Exact evaluates tokens from position 0 on and returns the logits after each, (len(tokens), VocabSize). It computes in float64
// on the host, with the operations of package ref, which kernels are verified with, and with the checkpoint's weights as its
// types define them, so no device and no kernel takes part. Weights are read a row at a time and not kept. Each token takes a
// product for each weight but the embedding's; a processor does one to three thousand million a second. Errors are
// ErrEncoder, *TokenError and those of the checkpoint; cancelling ctx stops it.
func Exact(ctx context.Context, c *checkpoint.Checkpoint, tokens []int) ([][]float64, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return nil, err
	}
	if cfg.Encoder {
		return nil, fmt.Errorf("model: %w", ErrEncoder)
	}
	for i, id := range tokens {
		if id < 0 || id >= cfg.VocabSize {
			return nil, &TokenError{Index: i, ID: id, VocabSize: cfg.VocabSize}
		}
	}
	h := hostPass{tensors: newTensors(c, cfg), ctx: ctx, n: len(tokens)}
	logits := h.logits(tokens)
	if h.err != nil {
		return nil, h.err
	}
	var rows [][]float64
	for i := range tokens {
		rows = append(rows, logits[i*cfg.VocabSize:][:cfg.VocabSize])
	}
	return rows, nil
}

// A hostPass is the forward pass of decode over n tokens in float64. Activations are (n, columns). The first error sticks, and
// results are of no use after it.
type hostPass struct {
	tensors
	ctx context.Context
	n   int
}

// logits evaluates the tokens: (n, VocabSize).
func (h *hostPass) logits(tokens []int) []float64 {
	c, names := h.cfg, h.cfg.names
	x := h.embed(tokens)
	for i := range c.NumHiddenLayers {
		prefix, t := fmt.Sprintf(names.Layer, i), c.layerTensors(i)
		normed := h.norm(x, names.inputNorm(i, c.NumHiddenLayers))
		attended := h.post(h.project(h.attention(normed, prefix, t, i), c.OBias, t.o), prefix+names.AttnPostNorm)
		if h.err != nil {
			return nil
		}
		if c.Parallel {
			attended = ref.Add(attended, h.mlp(normed, t))
		} else {
			x = ref.Add(x, attended)
			attended = h.post(h.mlp(h.norm(x, prefix+names.MLPNorm), t), prefix+names.MLPPostNorm)
		}
		if h.err != nil {
			return nil
		}
		x = ref.Add(x, attended)
	}
	x = h.norm(x, names.inputNorm(c.NumHiddenLayers, c.NumHiddenLayers))
	name := names.LMHead
	if c.TieWordEmbeddings {
		name = names.Embed
	}
	head := h.find(tensorRows{name: name, rows: c.VocabSize}, c.HiddenSize)
	if h.err != nil {
		return nil
	}
	if c.NormalizedHead && !c.TieWordEmbeddings {
		head = unitRows(head)
	}
	return ref.SoftCap(h.products(x, head), float64(c.FinalLogitSoftcapping))
}

// embed is the tokens' rows of the embedding.
func (h *hostPass) embed(tokens []int) []float64 {
	c := h.cfg
	table := h.find(tensorRows{name: c.names.Embed, rows: c.VocabSize}, c.HiddenSize)
	if h.err != nil {
		return nil
	}
	var x []float64
	row := make([]float64, c.HiddenSize)
	h.err = checkpoint.Guard(func() error {
		for _, id := range tokens {
			decodeRow(row, table, id, &rowScratch{})
			x = append(x, ref.Embed(row, c.HiddenSize, []int{0}, float64(c.EmbeddingScale))...)
		}
		return nil
	})
	return x
}

// vector reads n values with one of tensors' functions.
func (h *hostPass) vector(read func() ([]float32, error)) []float64 {
	if h.err != nil {
		return nil
	}
	f, err := read()
	h.err = err
	out := make([]float64, len(f))
	for i, v := range f {
		out[i] = float64(v)
	}
	return out
}

func (h *hostPass) gain(name string, n int) []float64 {
	return h.vector(func() ([]float32, error) { return h.gains(name+".weight", n) })
}

// norm is the norm of that name.
func (h *hostPass) norm(x []float64, name string) []float64 {
	c := h.cfg
	w, eps := h.gain(name, c.HiddenSize), float64(c.NormEps)
	var bias []float64
	if c.NormBias {
		bias = h.vector(func() ([]float32, error) { return h.floats(name+".bias", c.HiddenSize) })
	}
	switch {
	case h.err != nil:
		return nil
	case c.LayerNorm:
		return ref.LayerNorm(x, w, bias, eps)
	}
	return ref.RMSNorm(x, w, eps)
}

// post is the norm behind a branch, in families that have one.
func (h *hostPass) post(x []float64, name string) []float64 {
	if !h.cfg.PostNorms || h.err != nil {
		return x
	}
	return h.norm(x, name)
}

// attention is layer i's attention up to the output projection: (n, NumAttentionHeads, HeadDim).
func (h *hostPass) attention(x []float64, prefix string, t layerTensors, i int) []float64 {
	c, shape := h.cfg, h.cfg.heads(i, nil)
	qkv := h.project(x, c.QKVBias, t.qkv...)
	of := ref.Heads{
		Heads: shape.Heads, KVHeads: shape.KVHeads, HeadDim: shape.HeadDim, RotaryDim: shape.RotaryDim, Interleaved: shape.Interleaved,
		Clip: float64(shape.Clip), Window: shape.Window, SoftCap: float64(shape.SoftCap),
	}
	if c.ALiBiMaxBias > 0 {
		of.Slopes = h.vector(func() ([]float32, error) { return c.alibiSlopes(), nil })
	}
	if c.QKNorm {
		q, k := h.gain(prefix+c.names.QNorm, c.HeadDim), h.gain(prefix+c.names.KNorm, c.HeadDim)
		if h.err == nil {
			qkv = of.HeadNorm(qkv, q, k, float64(c.NormEps))
		}
	}
	rope := &c.Rope
	if c.LocalRope != nil && c.local(i) {
		rope = c.LocalRope
	}
	divisors, err := h.ropeDivisors(rope)
	if h.err == nil {
		h.err = err
	}
	if h.err != nil {
		return nil
	}
	q, k, v := of.RopeStore(qkv, rope.angles(h.n, divisors), 0)
	return of.Attention(q, byHead(k, h.n, of), byHead(v, h.n, of), h.n, 0, float64(c.AttentionScale))
}

// byHead turns (n, KVHeads, HeadDim) into (KVHeads, n, HeadDim).
func byHead(x []float64, n int, h ref.Heads) []float64 {
	out := make([]float64, 0, len(x))
	for g := range h.KVHeads {
		for p := range n {
			out = append(out, x[(p*h.KVHeads+g)*h.HeadDim:][:h.HeadDim]...)
		}
	}
	return out
}

// mlp is a layer's MLP with the down projection.
func (h *hostPass) mlp(x []float64, t layerTensors) []float64 {
	c := h.cfg
	act := map[kernels.Activation]func(float64) float64{kernels.SiLU: ref.SiLU, kernels.GELU: ref.GELU, kernels.GELUTanh: ref.GELUTanh}[c.HiddenAct]
	up := h.project(x, c.MLPBias, t.up)
	if c.PlainMLP {
		return h.project(ref.Act(up, act), c.MLPBias, t.down)
	}
	gate := ref.Act(h.project(x, c.MLPBias, t.gate), act)
	if h.err != nil {
		return nil
	}
	for i, g := range gate {
		up[i] *= g
	}
	return h.project(up, c.MLPBias, t.down)
}

// project is x, (n, columns), times the transpose of rows of tensors, one below another, with their biases if it has any: (n, rows).
func (h *hostPass) project(x []float64, biased bool, stacked ...tensorRows) []float64 {
	var parts [][]float64
	for _, t := range stacked {
		if h.err != nil {
			return nil
		}
		s := h.find(t, len(x)/h.n)
		if s == nil {
			return nil
		}
		part := h.products(x, s)
		if biased {
			bias := h.vector(func() ([]float32, error) { return h.biases(t) })
			for i := range part {
				part[i] += bias[i%t.rows]
			}
		}
		parts = append(parts, part)
	}
	if len(parts) == 1 {
		return parts[0]
	}
	var out []float64
	for p := range h.n {
		for i, t := range stacked {
			out = append(out, parts[i][p*t.rows:][:t.rows]...)
		}
	}
	return out
}

// products is x, (n, s.Cols), times the transpose of s: (n, s.Rows).
func (h *hostPass) products(x []float64, s *source) []float64 {
	out := make([]float64, h.n*s.Rows)
	group, ctx := errgroup.WithContext(h.ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	const rows = 64 // of a share of the work
	for first := 0; first < s.Rows; first += rows {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			w, scratch := make([]float64, s.Cols), rowScratch{}
			return checkpoint.Guard(func() error {
				for r := first; r < min(first+rows, s.Rows); r++ {
					decodeRow(w, s, r, &scratch)
					for p := 0; p < h.n; p += 4 {
						m := min(4, h.n-p)
						sums := dot4(w, x[p*s.Cols:(p+m)*s.Cols])
						for i := range m {
							out[(p+i)*s.Rows+r] = sums[i]
						}
					}
				}
				return nil
			})
		})
	}
	if err := group.Wait(); h.err == nil {
		h.err = err
	}
	return out
}

// dot4 is the products of w with each of up to four rows of x.
func dot4(w, x []float64) (sums [4]float64) {
	n := len(w)
	if len(x) < 4*n {
		for i := range len(x) / n {
			for j, v := range x[i*n:][:n] {
				sums[i] += w[j] * v
			}
		}
		return sums
	}
	a, b, c, d := x[:n], x[n:][:n], x[2*n:][:n], x[3*n:][:n]
	var s, t, u, v float64 // in registers
	for j, y := range w {
		s += y * a[j]
		t += y * b[j]
		u += y * c[j]
		v += y * d[j]
	}
	return [4]float64{s, t, u, v}
}

// A rowScratch is memory that decodeRow uses again.
type rowScratch struct {
	bytes  []byte
	values []float32
}

// decodeRow sets w to row r of s.
func decodeRow(w []float64, s *source, r int, scratch *rowScratch) {
	scratch.values = slices.Grow(scratch.values[:0], len(w))[:len(w)]
	scratch.bytes = slices.Grow(scratch.bytes[:0], int(s.DType.RowBytes(s.Cols)))[:s.DType.RowBytes(s.Cols)]
	s.DType.Decode(scratch.values, s.Row(r, scratch.bytes))
	for i, v := range scratch.values {
		w[i] = float64(v)
	}
}
