package model

import (
	"fmt"

	"pumice/pipeline"
)

// Names of a plan's outputs.
const (
	outTop    = "top"
	outLogits = "logits"
	outHidden = "hidden"
	outStream = "stream"
	outProbs  = "log-probabilities"
)

// decode adds the forward pass of k.tokens tokens to b.
//
//	x  (tokens, HiddenSize)  the residual stream
//	x += O(attention(rope(QKV(norm(x)))))
//	x += Down(act(Gate(norm(x))) * Up(norm(x)))
//
// With Config.NormedStream x becomes norm(x) before each of the two.
//
// Layers that don't begin with the embedding are given x by the host. A parallel block takes both branches from one norm.
// A plan with taps keeps each branch apart from the residual addition that it is fused with otherwise, and leaves the
// results of layer 0 and the residual stream after every layer.
func decode(b *pipeline.Builder, cfg *Config, w *Weights, cache *pipeline.Cache, k planKey) {
	var x *pipeline.Tensor
	if w.layerRange.hasEmbedding() {
		x = b.Embed(w.Embed, cfg.EmbeddingScale)
		if w.Positions != nil {
			b.AddPlaces(x, w.Positions)
		}
		b.Tap("embed", x)
	} else {
		x = b.Input(cfg.HiddenSize)
	}
	for at := range w.Layers {
		i := w.layerRange.first + at
		d := decoderLayer{b: b, cfg: cfg, Layer: &w.Layers[at], tapped: i == 0}
		if k.capture != nil && k.capture.layer == i {
			d.capture = k.capture.to
		}
		heads := cfg.heads(i, w.Slopes)
		table := w.RopeTable
		if cfg.local(i) && w.LocalRopeTable != nil {
			table = w.LocalRopeTable
		}
		var h branch
		x, h = d.input(x)
		attended := d.attention(h, heads, table, cache.Layers[at])
		if cfg.Parallel {
			m := d.mlp(h)
			d.addBranch(x, attended, d.OProj, d.OBias, nil, "attn_out")
			d.addBranch(x, m, d.DownProj, d.DownBias, nil, "mlp_out")
		} else {
			d.addBranch(x, attended, d.OProj, d.OBias, d.AttnPostNorm, "attn_out")
			x, h = d.before(x, d.MLPNorm)
			d.addBranch(x, d.mlp(h), d.DownProj, d.DownBias, d.MLPPostNorm, "mlp_out")
		}
		b.Tap(fmt.Sprintf("layer%d", i), x)
	}
	finish(b, cfg, w, x, k)
}

// finish ends a plan with what its tail leaves of the residual stream x after the last layer. A plan that advances
// chooses the next token itself.
func finish(b *pipeline.Builder, cfg *Config, w *Weights, x *pipeline.Tensor, k planKey) {
	t := k.tail
	if t.Stream {
		b.Output(outStream, x)
	}
	if t.Rows == NoRows {
		return
	}
	h := finalNorm(b, w, x, k)
	if h.norm == nil {
		b.Tap("final_norm", h.x)
	}
	if t.Hidden {
		b.Output(outHidden, h.x)
	}
	if !t.head() {
		return
	}
	if w.LMHead == nil {
		b.Fail("%w", ErrEncoder)
		return
	}
	logits := b.Project(h.x, pipeline.Projection{W: w.LMHead, Norm: h.norm})
	if t.capped() && cfg.FinalLogitSoftcapping > 0 {
		b.SoftCap(logits, cfg.FinalLogitSoftcapping)
	}
	if t.Logits {
		b.Output(outLogits, logits)
	}
	switch {
	case t.LogProbs && t.Rows == LastRows:
		b.Output(outProbs, b.LogSumExp(logits))
	case t.LogProbs:
		b.Output(outProbs, b.LogProbs(logits, t.sums()))
	}
	if t.Adjusted {
		b.Adjust(logits)
		b.Allow(logits)
	}
	switch {
	case k.draws():
		b.AdvanceDraw(logits)
	case k.advances():
		b.Advance(logits)
	case t.pairs() > 0:
		b.Output(outTop, b.TopK(logits, t.pairs()))
	}
}

// finalNorm is the rows of x that the tail takes, with the final norm. That of every row is left to the head where
// nothing else reads it.
func finalNorm(b *pipeline.Builder, w *Weights, x *pipeline.Tensor, k planKey) branch {
	switch {
	case k.tail.Rows == LastRows:
		return branch{b.NormLast(x, w.FinalNorm, k.rows), nil}
	case k.tail.Hidden:
		return branch{b.Norm(x, w.FinalNorm), nil}
	}
	return branch{x, w.FinalNorm}
}

// A decoderLayer adds one layer to a plan.
type decoderLayer struct {
	b   *pipeline.Builder
	cfg *Config
	*Layer
	tapped  bool
	capture *pipeline.Capture // of the layer's weights of attention; nil means none
}

func (d *decoderLayer) tap(name string, t *pipeline.Tensor) {
	if d.tapped {
		d.b.Tap("layer0."+name, t)
	}
}

// A branch is the input of a branch of the layer: x, to be normalised unless norm is nil.
type branch struct {
	x    *pipeline.Tensor
	norm *pipeline.Norm
}

// before is the residual stream before a branch, and the input of the branch: x with a norm.
func (d *decoderLayer) before(x *pipeline.Tensor, norm *pipeline.Norm) (*pipeline.Tensor, branch) {
	if d.cfg.NormedStream {
		x, norm = d.b.Norm(x, norm), nil
	}
	return x, branch{x, norm}
}

// input is before of the layer's first norm, which is left to the product that follows where nothing else reads its
// result.
func (d *decoderLayer) input(x *pipeline.Tensor) (*pipeline.Tensor, branch) {
	x, h := d.before(x, d.InputNorm)
	if h.norm != nil && (d.cfg.Parallel || d.b.Tapping()) {
		h = branch{d.b.Norm(x, h.norm), nil}
	}
	d.tap("norm1", h.x)
	return x, h
}

// attention adds attention up to the output projection, which it leaves to the caller.
func (d *decoderLayer) attention(h branch, heads pipeline.Heads, table *pipeline.Vector, cache *pipeline.LayerCache) *pipeline.Tensor {
	qkv := d.b.Project(h.x, pipeline.Projection{W: d.QKV, Norm: h.norm, Bias: d.QKVBias})
	if d.cfg.QKNorm {
		d.b.HeadNorm(qkv, heads, d.QNorm, d.KNorm, d.cfg.NormEps)
	}
	scale := d.fit.scoreScale(d.cfg)
	if d.capture != nil {
		return d.b.CaptureAttention(qkv, heads, table, cache, scale, d.capture)
	}
	if !d.b.Tapping() {
		return d.b.RopeAttention(qkv, heads, table, cache, scale)
	}
	q := d.b.RopeStore(qkv, heads, table, cache)
	d.tap("q", q)
	return d.b.Attention(q, heads, cache, scale)
}

// mlp adds the MLP up to the down projection, which it leaves to the caller.
func (d *decoderLayer) mlp(h branch) *pipeline.Tensor {
	return d.b.Project(h.x, pipeline.Projection{
		W: d.GateUp, Norm: h.norm, Bias: d.GateUpBias, Activate: true, Gated: !d.cfg.PlainMLP, Act: d.cfg.HiddenAct,
	})
}

// addBranch adds a projection of h, normalised if the family does so, to the residual stream:
// in one operation where nothing needs the projection by itself.
func (d *decoderLayer) addBranch(x, h *pipeline.Tensor, w *pipeline.Matrix, bias *pipeline.Vector, norm *pipeline.Norm, name string) {
	if norm == nil && !d.b.Tapping() {
		d.b.LinearAdd(x, h, w, bias)
		return
	}
	branch := d.b.Linear(h, w, bias)
	d.tap(name, branch)
	if norm != nil {
		branch = d.b.Norm(branch, norm)
	}
	d.b.Add(x, branch)
}
