package pipeline

import (
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// Heads is the shape of an attention block.
type Heads struct {
	Heads, KVHeads, HeadDim int
	RotaryDim               int  // leading components of a head that rotate; 0 means none
	Interleaved             bool // pairs are components 2j, 2j+1 rather than j, j + RotaryDim/2

	Clip    float32 // queries, keys and values are clamped to +-Clip before rotation; 0 turns it off
	Window  int     // positions a query sees, its own included; 0 means all
	SoftCap float32 // scores s become SoftCap * tanh(s / SoftCap); 0 turns it off
	Slopes  *Vector // (Heads) ALiBi slopes, Press et al. 2022, arXiv:2108.12409; nil means none
}

// HeadNorm normalises every query head of qkv, (tokens, (Heads + 2 KVHeads) * HeadDim), by its
// root mean square and the weights q, and every key head by k, in place.
func (b *Builder) HeadNorm(qkv *Tensor, h Heads, q, k *Vector, eps float32) {
	if q.Cols != h.HeadDim || k.Cols != h.HeadDim {
		b.Fail("head_norm: %s has %d columns and %s %d, heads have %d", q.Name, q.Cols, k.Name, k.Cols, h.HeadDim)
	}
	n := &node{weightBytes: 8 * int64(h.HeadDim), minimumBytes: 8 * int64(h.HeadDim)}
	shape := kernels.Heads{Tokens: qkv.Rows, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Eps: eps}
	launch(b, &kernels.HeadNorm, shape, kernels.RowMajor, n, stepBind(), readWrite(qkv), readSpan(q.span), readSpan(k.span))
}

// RopeStore rotates the queries and keys of qkv, (tokens, (Heads + 2 KVHeads) * HeadDim), by
// table, (positions, RotaryDim / 2, 2) cosines and sines, and moves keys and values into the
// cache. It returns the queries, (tokens, Heads * HeadDim). Su et al. 2021, arXiv:2104.09864.
func (b *Builder) RopeStore(qkv *Tensor, h Heads, table *Vector, c *LayerCache) *Tensor {
	b.checkRope(qkv, h)
	out := b.tensor(qkv.Rows, h.Heads*h.HeadDim)
	shape := kernels.Rope{
		Type: c.DType, Tokens: qkv.Rows, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim,
		RotaryDim: h.RotaryDim, Interleaved: h.Interleaved, Clip: h.Clip, Places: c.places(), Local: c.Local,
	}
	launch(b, &kernels.RopeStore, shape, kernels.RowMajor, &node{},
		stepBind(), read(qkv), readSpan(table.span), write(out), writeSpan(c.Keys), writeSpan(c.Values), readSpan(c.tables))
	return out
}

func (b *Builder) checkRope(qkv *Tensor, h Heads) {
	if qkv.Cols != (h.Heads+2*h.KVHeads)*h.HeadDim || h.HeadDim%2 != 0 || h.RotaryDim%2 != 0 || h.RotaryDim > h.HeadDim {
		b.Fail("rope: %d columns for %d + 2 * %d heads of %d, %d of them rotary", qkv.Cols, h.Heads, h.KVHeads, h.HeadDim, h.RotaryDim)
	}
}

// Attention returns causal attention of q, (tokens, Heads * HeadDim), over the cache up to
// each token's own position, in its own sequence: (tokens, Heads * HeadDim). Scores are multiplied by scale.
func (b *Builder) Attention(q *Tensor, h Heads, c *LayerCache, scale float32) *Tensor {
	return b.attention(q, h, nil, c, scale)
}

// RopeAttention is RopeStore followed by Attention, in one dispatch for one token.
func (b *Builder) RopeAttention(qkv *Tensor, h Heads, table *Vector, c *LayerCache, scale float32) *Tensor {
	if qkv.Rows == 1 && b.err == nil && h.KVHeads > 0 {
		shape := h.over(c, 1, scale)
		_, apart := pick(b.m, &kernels.Decode, shape, kernels.RowMajor)
		shape.Rope = true
		variant, fused := pick(b.m, &kernels.Decode, shape, kernels.RowMajor)
		if b.m.HasKernel(variant) && fused == apart {
			b.checkRope(qkv, h)
			return b.attention(qkv, h, table, c, scale)
		}
	}
	return b.Attention(b.RopeStore(qkv, h, table, c), h, c, scale)
}

// over is the shape of attention of so many tokens over a cache.
func (h Heads) over(c *LayerCache, tokens int, scale float32) kernels.Attention {
	return kernels.Attention{
		Type: c.DType, Tokens: tokens, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: c.Positions,
		Places: c.places(), Local: c.Local, Window: h.Window, Scale: scale, SoftCap: h.SoftCap, Slopes: h.Slopes != nil,
		RotaryDim: h.RotaryDim, Interleaved: h.Interleaved, Clip: h.Clip,
	}
}

// attention takes queries, or with a table queries, keys and values that are rotated first.
func (b *Builder) attention(q *Tensor, h Heads, table *Vector, c *LayerCache, scale float32) *Tensor {
	if h.HeadDim > kernels.MaxHeadDim || h.HeadDim%4 != 0 {
		b.Fail("attention: head dimension %d; kernels take multiples of four up to %d", h.HeadDim, kernels.MaxHeadDim)
	}
	if h.KVHeads < 1 || h.Heads%h.KVHeads != 0 {
		b.Fail("attention: %d heads do not share %d key-value heads evenly", h.Heads, h.KVHeads)
		return q
	}
	slopes := readSpan(c.Keys) // any memory will do where the kernel does not look
	if h.Slopes != nil {
		slopes = readSpan(h.Slopes.span)
	}
	row := kernels.CacheRowBytes(c.DType, h.HeadDim)
	n := &node{kv: kvRead{perPosition: 2 * int64(h.KVHeads) * row, window: h.Window, positions: c.Positions}}
	shape := h.over(c, q.Rows, scale)
	shape.Rope = table != nil
	op := kernels.AttentionOp(q.Rows)
	_, k := pick(b.m, op, shape, kernels.RowMajor)
	out := b.tensor(q.Rows, h.Heads*h.HeadDim)
	to, splits := out, 1
	if q.Rows == 1 {
		if splits = k.Grid(b.m.machine, shape)[0]; splits > 1 {
			to = b.tensor(h.Heads*splits, h.HeadDim+4)
		}
	}
	keys, values := readSpan(c.Keys), readSpan(c.Values)
	binds := []bind{stepBind(), read(q), keys, values, slopes, write(to), readSpan(c.tables)}
	if table != nil {
		binds = append(binds, readSpan(table.span))
		binds[2].access, binds[3].access = vk.ReadWrite, vk.ReadWrite
	}
	launch(b, op, shape, kernels.RowMajor, n, binds...)
	if splits > 1 {
		reduction := kernels.Reduction{Heads: h.Heads, HeadDim: h.HeadDim, Splits: splits, Window: h.Window}
		launch(b, &kernels.Reduce, reduction, kernels.RowMajor, &node{}, stepBind(), read(to), write(out))
	}
	return out
}
