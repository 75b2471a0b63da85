package model

import (
	"fmt"

	"pumice/pipeline"
)

// Want says what a run of the decoder leaves to be read.
type Want int

const (
	Nothing   Want = iota // only the KV cache is written
	Argmax                // the id of the last position's largest logit
	Logits                // the last position's logits
	AllLogits             // every position's logits
)

func (w Want) String() string { return [...]string{"nothing", "argmax", "logits", "all logits"}[w] }

// Names of a plan's outputs.
const (
	outArgmax = "argmax"
	outLogits = "logits"
)

// decode strings together the forward pass of one run over b.
//
//	x  (tokens, HiddenSize)  the residual stream
//	x += O(attention(rope(QKV(norm(x)))))
//	x += Down(silu(Gate(norm(x))) * Up(norm(x)))
//
// A plan with taps keeps each branch apart from the residual addition that it is fused with
// otherwise, and leaves the results of layer 0 and the residual stream after every layer.
func decode(b *pipeline.Builder, cfg *Config, w *Weights, cache *pipeline.Cache, want Want) {
	x := b.Embed(w.Embed, 1)
	b.Tap("embed", x)
	for i := range w.Layers {
		l := &w.Layers[i]
		tap := func(name string, t *pipeline.Tensor) {
			if i == 0 {
				b.Tap("layer0."+name, t)
			}
		}
		h := b.RMSNorm(x, l.InputNorm, cfg.RMSNormEps)
		tap("norm1", h)
		qkv := b.Linear(h, l.QKV, l.QKVBias)
		q := b.RopeStore(qkv, cfg.Heads(), w.RopeTable, cache.Layers[i])
		tap("q", q)
		a := b.Attention(q, cfg.Heads(), cache.Layers[i], cfg.AttentionScale())
		addBranch(b, x, a, l.OProj, l.OBias, func(t *pipeline.Tensor) { tap("attention", t) })

		h = b.RMSNorm(x, l.PostAttentionNorm, cfg.RMSNormEps)
		m := b.ActMul(b.Linear(h, l.GateUp, l.GateUpBias))
		addBranch(b, x, m, l.DownProj, l.DownBias, func(t *pipeline.Tensor) { tap("mlp", t) })
		b.Tap(fmt.Sprintf("layer%d", i), x)
	}
	switch want {
	case Nothing:
	case AllLogits:
		b.Output(outLogits, b.Linear(b.RMSNorm(x, w.FinalNorm, cfg.RMSNormEps), w.LMHead, nil))
	case Argmax, Logits:
		h := b.RMSNormLast(x, w.FinalNorm, cfg.RMSNormEps)
		b.Tap("final_norm", h)
		logits := b.Linear(h, w.LMHead, nil)
		if want == Logits {
			b.Output(outLogits, logits)
		} else {
			b.Output(outArgmax, b.TopK(logits, 1))
		}
	}
}

// addBranch adds a projection of h to the residual stream, in one operation unless it is tapped.
func addBranch(b *pipeline.Builder, x, h *pipeline.Tensor, w *pipeline.Matrix, bias *pipeline.Vector, tap func(*pipeline.Tensor)) {
	if !b.Tapping() {
		b.LinearAdd(x, h, w, bias)
		return
	}
	branch := b.Linear(h, w, bias)
	tap(branch)
	b.Add(x, branch)
}
