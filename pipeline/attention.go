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

	// Bidirectional: a query sees the keys after it too, to the end of its ending. Window and Slopes are for others.
	Bidirectional bool
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

// AddPlaces adds to each row of x, (tokens, cols), that of table, (places, cols), at the token's place in its sequence.
func (b *Builder) AddPlaces(x *Tensor, table *Vector) {
	if x.Cols < 1 || table.Cols%x.Cols != 0 {
		b.Fail("add_places: %s has %d values, no multiple of %d columns", table.Name, table.Cols, x.Cols)
		return
	}
	n := &node{weightBytes: 4 * int64(x.Rows) * int64(x.Cols)}
	n.minimumBytes = n.weightBytes
	shape := kernels.Rows{Name: "add_places", Rows: x.Rows, Cols: x.Cols}
	launch(b, &kernels.AddPlaces, shape, kernels.RowMajor, n, stepBind(), readSpan(table.span), readWrite(x))
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

// Attention returns attention of q, (tokens, Heads * HeadDim), over the cache up to each token's own position, or with
// Bidirectional to the end, in its own sequence: (tokens, Heads * HeadDim). Scores are multiplied by scale.
func (b *Builder) Attention(q *Tensor, h Heads, c *LayerCache, scale float32) *Tensor {
	return b.attention(q, h, nil, c, scale)
}

// RopeAttention is RopeStore followed by Attention, in one dispatch where all tokens are single.
func (b *Builder) RopeAttention(qkv *Tensor, h Heads, table *Vector, c *LayerCache, scale float32) *Tensor {
	if b.fusesRope(qkv, h, c, scale) {
		b.checkRope(qkv, h)
		return b.attention(qkv, h, table, c, scale)
	}
	return b.Attention(b.RopeStore(qkv, h, table, c), h, c, scale)
}

// fusesRope reports whether all tokens are single, and have a kernel that rotates too.
func (b *Builder) fusesRope(qkv *Tensor, h Heads, c *LayerCache, scale float32) bool {
	if b.singles != qkv.Rows || b.err != nil || h.KVHeads < 1 {
		return false
	}
	shape := h.over(c, scale)
	shape.Tokens, shape.Single = b.singles, true
	_, apart := pick(b.m, &kernels.Decode, shape, kernels.RowMajor)
	shape.Rope = true
	variant, fused := pick(b.m, &kernels.Decode, shape, kernels.RowMajor)
	return b.m.HasKernel(variant) && fused == apart
}

// CaptureAttention is RopeAttention, with the same result and the same cache, which also leaves the weights of attention of one
// of the single tokens.
func (b *Builder) CaptureAttention(qkv *Tensor, h Heads, table *Vector, c *LayerCache, scale float32, to *Capture) *Tensor {
	q := b.RopeStore(qkv, h, table, c)
	var out *Tensor
	if b.fusesRope(qkv, h, c, scale) { // which stores the same once more, as it rounds
		out = b.RopeAttention(qkv, h, table, c, scale)
	} else {
		out = b.Attention(q, h, c, scale)
	}
	b.AttentionWeights(q, h, c, scale, to)
	return out
}

// AttentionWeights leaves in a Capture what Attention of q weighs the values with that one of the step's single tokens sees
// (Capture.Choose). Nothing is left of a token that is not one of these.
func (b *Builder) AttentionWeights(q *Tensor, h Heads, c *LayerCache, scale float32, to *Capture) {
	if b.singles == 0 || h.Bidirectional || h.KVHeads < 1 || h.Heads%h.KVHeads != 0 {
		b.Fail("attention weights: %d single tokens, %d heads over %d, bidirectional %t", b.singles, h.Heads, h.KVHeads, h.Bidirectional)
		return
	}
	b.captures = true
	shape := kernels.Weights{Attention: h.over(c, scale), Totals: true, Into: int(to.weights.Size / 4)}
	shape.Tokens, shape.Single = b.singles, true
	totals := b.tensor(h.Heads, 2)
	binds := h.operands(q, c)
	binds = []bind{binds[0], readSpan(to.how.Whole()), binds[1], binds[2], binds[4], readSpan(c.tables)}
	n := func() *node { // counted as if all single tokens were asked for
		n := h.node(c, true)
		n.kv.perPosition /= 2
		n.pairOperations /= 2
		return n
	}
	launch(b, &kernels.AttentionTotals, shape, kernels.RowMajor, n(), append(binds, write(totals))...)
	shape.Totals = false
	launch(b, &kernels.AttentionWeights, shape, kernels.RowMajor, n(), append(binds, read(totals), writeSpan(to.weights))...)
}

// over is the shape of attention over a cache.
func (h Heads) over(c *LayerCache, scale float32) kernels.Attention {
	return kernels.Attention{
		Type: c.DType, Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: c.Positions,
		Places: c.places(), Local: c.Local, Window: h.Window, Scale: scale, SoftCap: h.SoftCap, Slopes: h.Slopes != nil,
		RotaryDim: h.RotaryDim, Interleaved: h.Interleaved, Clip: h.Clip, Bidirectional: h.Bidirectional,
	}
}

// attention takes queries, or with a table queries, keys and values of single tokens, which are rotated first.
func (b *Builder) attention(q *Tensor, h Heads, table *Vector, c *LayerCache, scale float32) *Tensor {
	if h.HeadDim > kernels.MaxHeadDim || h.HeadDim%4 != 0 {
		b.Fail("attention: head dimension %d; kernels take multiples of four up to %d", h.HeadDim, kernels.MaxHeadDim)
	}
	if h.KVHeads < 1 || h.Heads%h.KVHeads != 0 {
		b.Fail("attention: %d heads do not share %d key-value heads evenly", h.Heads, h.KVHeads)
		return q
	}
	if h.Bidirectional && (h.Window > 0 || h.Slopes != nil) {
		b.Fail("attention: in both directions with a window of %d, slopes %t; kernels take neither", h.Window, h.Slopes != nil)
	}
	out := b.tensor(q.Rows, h.Heads*h.HeadDim)
	shape := h.over(c, scale)
	shape.Rope = table != nil
	if b.singles > 0 {
		shape.Tokens, shape.Single = b.singles, true
		b.decode(q, h, table, c, shape, out)
	}
	if b.singles < q.Rows {
		shape.Tokens, shape.Single, shape.Sequences = q.Rows-b.singles, false, b.sequences
		binds := append(h.operands(q, c), write(out), readSpan(c.tables))
		launch(b, &kernels.Attend, shape, kernels.RowMajor, h.node(c, false), binds...)
	}
	return out
}

// decode adds attention of single tokens to out.
func (b *Builder) decode(q *Tensor, h Heads, table *Vector, c *LayerCache, shape kernels.Attention, out *Tensor) {
	_, k := pick(b.m, &kernels.Decode, shape, kernels.RowMajor)
	binds := append(h.operands(q, c), write(out), readSpan(c.tables))
	if table != nil {
		binds = append(binds, readSpan(table.span))
		binds[2].access, binds[3].access = vk.ReadWrite, vk.ReadWrite
	}
	if k.Joins != nil {
		binds = append(binds, b.joins(k.Joins(b.m.machine, shape), out)...)
	}
	launch(b, &kernels.Decode, shape, kernels.RowMajor, h.node(c, true), binds...)
}

// operands are what attention kernels read: the step, queries, keys, values and slopes.
func (h Heads) operands(q *Tensor, c *LayerCache) []bind {
	slopes := readSpan(c.Keys) // any memory will do where the kernel does not look
	if h.Slopes != nil {
		slopes = readSpan(h.Slopes.span)
	}
	return []bind{stepBind(), read(q), readSpan(c.Keys), readSpan(c.Values), slopes}
}

// node counts what attention of single tokens, or of the others, reads of the cache, and what it computes: of each query
// and key a product and a sum for each component, and the same of the value.
func (h Heads) node(c *LayerCache, single bool) *node {
	row := kernels.CacheRowBytes(c.DType, h.HeadDim)
	return &node{
		kv:             kvRead{perPosition: 2 * int64(h.KVHeads) * row, kvKey: kvKey{window: h.Window, single: single}, positions: c.Positions},
		pairOperations: 4 * int64(h.Heads) * int64(h.HeadDim), bidirectional: h.Bidirectional,
	}
}
