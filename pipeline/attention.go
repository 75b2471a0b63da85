package pipeline

import (
	"pumice/internal/dtype"
	"pumice/vk"
)

// Heads is the shape of an attention block.
type Heads struct {
	Heads, KVHeads, HeadDim int
	RotaryDim               int  // leading components of a head that rotate; 0 = none
	Interleaved             bool // pairs are components 2j, 2j+1 rather than j, j + RotaryDim/2

	Clip    float32 // queries, keys and values are clamped to +-Clip before rotation; 0 = not
	Window  int     // positions a query sees, its own included; 0 = all
	SoftCap float32 // scores s become SoftCap * tanh(s / SoftCap); 0 = not
	Slopes  *Vector // (Heads) ALiBi slopes, Press et al. 2022, arXiv:2108.12409; nil = none
}

// RopeStore rotates the queries and keys of qkv, (tokens, (Heads + 2 KVHeads) * HeadDim), by
// table, (places, RotaryDim / 2, 2) cosines and sines, and moves keys and values into the
// cache. It returns the queries, (tokens, Heads * HeadDim). Su et al. 2021, arXiv:2104.09864.
func (b *Builder) RopeStore(qkv *Tensor, h Heads, table *Vector, c *LayerCache) *Tensor {
	b.checkRope(qkv, h)
	out := b.tensor(qkv.Rows, h.Heads*h.HeadDim)
	invocations := qkv.Cols / 2
	if c.DType == dtype.Q8_0 {
		invocations = out.Cols/2 + 2*h.KVHeads*ceilDiv(h.HeadDim, 2*c.DType.BlockSize())
	}
	n := &node{push: push(h.Heads, h.KVHeads, h.HeadDim, h.RotaryDim, c.Positions, h.Clip)}
	in, angles := read(qkv), readSpan(table.span)
	kernel, path := b.pick("rope_"+lower(c.DType), qkv.Rows, rowIf(rowRotates(h)))
	n.kernel = kernel
	if path == PathRow {
		in, angles = in.as(vk.RGBA32Float), angles.as(vk.RGBA32Float)
		n.spec = []uint32{rowSteps, specBool(h.Interleaved)}
		n.grid = [3]int{ceilDiv(qkv.Cols, 4*8*rowSteps), qkv.Rows, 1}
	} else {
		n.spec = []uint32{workgroup, specBool(h.Interleaved)}
		n.grid = [3]int{ceilDiv(invocations, workgroup), qkv.Rows, 1}
	}
	n.binds = []bind{stepBind(), in, angles, write(out), writeSpan(c.keys), writeSpan(c.values)}
	b.add(n)
	return out
}

func (b *Builder) checkRope(qkv *Tensor, h Heads) {
	if qkv.Cols != (h.Heads+2*h.KVHeads)*h.HeadDim || h.HeadDim%2 != 0 || h.RotaryDim%2 != 0 || h.RotaryDim > h.HeadDim {
		b.Fail("rope: %d columns for %d + 2 * %d heads of %d, %d of them rotary", qkv.Cols, h.Heads, h.KVHeads, h.HeadDim, h.RotaryDim)
	}
}

// maxHeadDim is the largest head the base attention kernels have shared memory for.
const maxHeadDim = 256

// Attention returns causal attention of q, (tokens, Heads * HeadDim), over the cache up to
// each token's own position, in its own sequence: (tokens, Heads * HeadDim). Scores are multiplied by scale. A
// layer with a window may have a cache of fewer positions than the context, a multiple of
// eight and at least Window plus the tokens of a run.
func (b *Builder) Attention(q *Tensor, h Heads, c *LayerCache, scale float32) *Tensor {
	return b.attention(q, h, nil, c, scale)
}

// RopeAttention is RopeStore and Attention of what it returns, in one where there is one token.
func (b *Builder) RopeAttention(qkv *Tensor, h Heads, table *Vector, c *LayerCache, scale float32) *Tensor {
	if qkv.Rows == 1 && b.err == nil && h.KVHeads > 0 {
		_, apart := b.pick("attention_decode_"+lower(c.DType), 1, b.m.attends(c.DType, h.HeadDim, rowReadsCache(c.DType, h.HeadDim)))
		kernel, fused := b.pick("attention_rope_"+lower(c.DType), 1, b.m.attends(c.DType, h.HeadDim, rowRopesCache(c.DType, h)))
		if _, exists := b.m.variants[kernel]; exists && fused == apart {
			b.checkRope(qkv, h)
			return b.attention(qkv, h, table, c, scale)
		}
	}
	return b.Attention(b.RopeStore(qkv, h, table, c), h, c, scale)
}

// attention is of q, or of qkv, which is first rotated by table, if there is one.
func (b *Builder) attention(q *Tensor, h Heads, table *Vector, c *LayerCache, scale float32) *Tensor {
	if h.HeadDim > maxHeadDim || h.HeadDim%4 != 0 {
		b.Fail("attention: head dimension %d; kernels take multiples of four up to %d", h.HeadDim, maxHeadDim)
	}
	if h.KVHeads < 1 || h.Heads%h.KVHeads != 0 {
		b.Fail("attention: %d heads do not share %d key-value heads evenly", h.Heads, h.KVHeads)
		return q
	}
	row := cacheRowBytes(c.DType, h.HeadDim)
	window := ^uint32(0)
	if h.Window > 0 {
		window = uint32(h.Window)
	}
	slopes := readSpan(c.keys) // any memory will do where the kernel does not look
	if h.Slopes != nil {
		slopes = readSpan(h.Slopes.span)
	}
	n := &node{
		push: push(h.Heads, h.KVHeads, h.HeadDim, c.Positions, window, scale, h.SoftCap, h.RotaryDim, h.Clip),
		kv:   kvRead{perPosition: 2 * int64(h.KVHeads) * row, window: h.Window, positions: c.Positions},
	}
	op := "attention_" + lower(c.DType)
	rows := rowReadsCache(c.DType, h.HeadDim)
	switch {
	case table != nil:
		op, rows = "attention_rope_"+lower(c.DType), rowRopesCache(c.DType, h)
	case q.Rows == 1:
		op = "attention_decode_" + lower(c.DType)
	}
	var path Path
	n.kernel, path = b.pick(op, q.Rows, b.m.attends(c.DType, h.HeadDim, rows))
	queries, keys, values := read(q), readSpan(c.keys), readSpan(c.values)
	switch path {
	case PathRow:
		queries, keys, values = queries.as(vk.RGBA32Float), keys.as(vk.RGBA32Uint), values.as(vk.RGBA32Uint)
	case PathAddr:
		keys, values = keys.as(address), values.as(address)
		if q.Rows > 1 {
			queries = queries.as(address)
		}
	}
	out := b.tensor(q.Rows, h.Heads*h.HeadDim)
	to, splits := out, 1
	if q.Rows == 1 {
		n.spec, n.grid = b.m.decodeShape(path, c, h)
		if splits = n.grid[0]; splits > 1 {
			to = b.tensor(h.Heads*splits, h.HeadDim+4)
		}
	} else {
		n.spec, n.grid = b.m.runShape(path, q.Rows, h)
	}
	// Constants 10 and 11 are those of score.glsl.
	n.spec = append(append(n.spec, make([]uint32, 10-len(n.spec))...), specBool(h.Slopes != nil), specBool(h.SoftCap > 0))
	n.binds = []bind{stepBind(), queries, keys, values, slopes, write(to)}
	if table != nil {
		angles := readSpan(table.span)
		if path == PathRow {
			angles = angles.as(vk.RGBA32Float)
		}
		n.binds = append(n.binds, angles)
		if path.barrierFree() { // the cache is written through bindings of its own
			n.binds = append(n.binds, writeSpan(c.keys), writeSpan(c.values))
		} else {
			n.binds[2].access, n.binds[3].access = vk.ReadWrite, vk.ReadWrite
		}
	}
	b.add(n)
	if splits > 1 {
		b.add(&node{
			kernel: "attention_reduce",
			spec:   []uint32{workgroup, 0, uint32(splits)},
			binds:  []bind{stepBind(), read(to), write(out)},
			push:   push(h.Heads, h.HeadDim, window),
			grid:   [3]int{ceilDiv(out.Cols/4, workgroup), 1, 1},
		})
	}
	return out
}

// decodeShape is the constants and the grid of attention of one token: a workgroup for each split
// and group of heads.
func (m *Manager) decodeShape(path Path, c *LayerCache, h Heads) (spec []uint32, grid [3]int) {
	group := decodeGroup(path, c.DType, h)
	groups := h.KVHeads * ceilDiv(h.Heads/h.KVHeads, group)
	splits := decodeSplits(path, groups, c.Positions, h.Window)
	spec = []uint32{uint32(h.HeadDim), uint32(group)}
	switch path {
	case PathRow:
	case PathAddr:
		spec = append([]uint32{uint32(m.dev.PhysicalDevice().Limits.SubgroupSize)}, spec...)
	case PathSG:
		spec = append(spec, uint32(splits), decodeInvocations)
	default:
		spec = append(spec, uint32(splits), uint32(decodeKeys(h.HeadDim)))
	}
	return append(spec, specBool(h.Interleaved)), [3]int{splits, groups, 1}
}

// runShape is the constants and the grid of attention of a run: a workgroup for each tile of
// queries, of a head or, where they are taken together, of the heads that share keys.
func (m *Manager) runShape(path Path, tokens int, h Heads) (spec []uint32, grid [3]int) {
	lanes, queries := m.dev.PhysicalDevice().Limits.SubgroupSize, tokens*h.Heads/h.KVHeads
	switch path {
	case PathAddr:
		return []uint32{uint32(lanes), uint32(h.HeadDim)}, [3]int{ceilDiv(tokens, lanes), h.Heads, 1}
	case PathRow:
		return []uint32{uint32(h.HeadDim)}, [3]int{ceilDiv(tokens, 8), h.Heads, 1}
	case PathCM:
		s, invocations := m.matrix, attentionSubgroups*matrixSubgroup(m.dev.PhysicalDevice())
		return []uint32{uint32(h.HeadDim), uint32(invocations), uint32(s.M), uint32(s.N), uint32(s.K)},
			[3]int{ceilDiv(queries, attentionSubgroups*s.M), h.KVHeads, 1}
	}
	tile := attentionRows(h.HeadDim)
	return []uint32{uint32(h.HeadDim), uint32(tile)}, [3]int{ceilDiv(queries, tile), h.KVHeads, 1}
}

// rowReadsCache says whether the row kernels read a cache of the type: a row's texels of 16
// bytes are dealt evenly to eight lanes, or eight lanes to texels.
func rowReadsCache(t DType, headDim int) bool {
	size := headDim * t.BlockBytes() / t.BlockSize() // without scales
	if t == dtype.Q8_0 {
		size = headDim
	}
	texels := size / 16
	return size%16 == 0 && (texels%8 == 0 || 8%max(texels, 1) == 0)
}

// attends says which paths' attention suits a cache of the type: addr where a row's words are dealt
// evenly to the lanes, sg where a row is 16 bytes for each lane of an even part of a subgroup, cm
// by attendsByMatrices, row as the caller says.
func (m *Manager) attends(t DType, headDim int, row bool) func(Path) bool {
	pd := m.dev.PhysicalDevice()
	even := cacheRowBytes(t, headDim)%int64(4*pd.Limits.SubgroupSize) == 0
	lanes, team := subgroupLanes(pd), decodeTeam(t, headDim)
	teams := team > 0 && lanes%team == 0 && decodeInvocations%lanes == 0
	return func(p Path) bool {
		switch p {
		case PathAddr:
			return even
		case PathSG:
			return teams
		case PathCM:
			return m.attendsByMatrices(headDim)
		case PathRow:
			return row
		}
		return true
	}
}

// attentionSubgroups are those of a workgroup of attention_cm.comp.
const attentionSubgroups = 4

// attendsByMatrices says whether attention_cm.comp takes heads of so many components: whole matrices, few
// enough that an invocation's registers hold its share of the sums, in the shared memory there is.
func (m *Manager) attendsByMatrices(headDim int) bool {
	s := m.matrix
	if s == nil || headDim > 128 || headDim%16 != 0 || s.N < 8 || s.K < 8 {
		return false
	}
	pd := m.dev.PhysicalDevice()
	rows, keys, parts := attentionSubgroups*s.M, 2*s.N, matrixSubgroup(pd)/s.M
	if parts < 1 || parts > keys/4 {
		return false
	}
	bytes := max(rows, 2*keys)*(2*headDim+16) + rows*(4*(keys+4)+2*(keys+8)+4)
	return bytes <= pd.Limits.MaxComputeSharedMemorySize
}

// decodeInvocations is the workgroup of attention_decode_sg.comp.
const decodeInvocations = 128

// decodeTeam is how many lanes hold a row of the cache in attention_decode_sg.comp, 16 bytes
// each; 0: it takes no such rows.
func decodeTeam(t DType, headDim int) int {
	size := headDim * elementBytes(t)
	team := size / 16
	if size%16 != 0 || team > 32 || team&(team-1) != 0 {
		return 0
	}
	return team
}

// elementBytes is what a component of the cache takes, without scales.
func elementBytes(t DType) int { return max(1, t.BlockBytes()/t.BlockSize()) }

// rowRotates says whether the row kernels rotate heads of this shape: four components have
// their partners in four others, or among themselves.
func rowRotates(h Heads) bool {
	n := 8
	if h.Interleaved {
		n = 4
	}
	return h.HeadDim%4 == 0 && h.RotaryDim%n == 0 && h.RotaryDim > 0
}

// rowRopesCache says whether attention_rope_*_row takes heads of this shape: each of eight
// lanes has whole texels of a row.
func rowRopesCache(t DType, h Heads) bool {
	return rowRotates(h) && t != dtype.Q8_0 && h.HeadDim*t.BlockBytes()%(8*16) == 0
}

// attentionRows is how many queries a workgroup of attention.comp takes: as many as leave
// it within 32 KiB of shared memory and each invocation within 32 sums.
func attentionRows(headDim int) int {
	if headDim > 128 {
		return 16
	}
	return 32
}

// decodeGroup is how many of the heads that share keys one workgroup of attention_decode
// takes: all, unless their queries and sums become too many to hold.
func decodeGroup(path Path, t DType, h Heads) int {
	most := min(8, 1024/h.HeadDim)
	switch {
	case path.barrierFree():
		most = 256 / h.HeadDim
	case path == PathSG: // a lane has the query and the sums of at most 32 components
		most = min(4, 2*elementBytes(t))
	}
	sharing := h.Heads / h.KVHeads
	return ceilDiv(sharing, ceilDiv(sharing, max(1, most)))
}

// decodeKeys is how many keys attention_decode.comp has in shared memory at a time: 16 KiB.
func decodeKeys(headDim int) int {
	keys := 64
	for keys*headDim > 4096 {
		keys /= 2
	}
	return keys
}

// decodeSplits is into how many parts attention_decode divides the keys of a layer with room
// for so many positions: enough workgroups for a GPU, each with keys enough to be worth it.
//
// The row and addr paths do not divide: on lavapipe 22.3.6 (two threads, SmolLM2's nine heads in three
// groups, f16) two parts and their reduction took 78, 120 and 332 us at 128, 512 and 2048
// positions, one part 48, 99 and 306. Each dispatch costs a driver's threads a wake-up.
func decodeSplits(path Path, groups, positions, window int) int {
	if path.barrierFree() {
		return 1
	}
	if window > 0 {
		positions = min(positions, window)
	}
	keys := 256
	if path == PathSG {
		keys = 128 // four times what the teams of a workgroup load at once, of rows of 256 bytes
	}
	return max(1, min(ceilDiv(512, groups), positions/keys))
}
