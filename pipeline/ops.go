package pipeline

import (
	"cmp"
	"strings"

	"pumice/vk"
)

func lower(t DType) string { return strings.ToLower(t.String()) }

// Embed returns the rows of table that the step's tokens name, times scale: (tokens, cols).
func (b *Builder) Embed(table *Matrix, scale float32) *Tensor {
	out := b.tensor(b.tokens, table.Cols)
	for i, p := range table.Parts {
		w := write(out)
		if i > 0 {
			w = readWrite(out) // a part adds the rows that earlier parts do not hold
		}
		kernel, spec := "embed_"+lower(p.DType), []uint32{workgroup}
		if p.Lanes > 0 {
			kernel, spec = PathAddr.variant(kernel), append(spec, uint32(p.Lanes))
		}
		b.add(&node{
			kernel:       kernel,
			spec:         spec,
			binds:        []bind{stepBind(), readSpan(p.units), readSpan(p.metaSpan()), w},
			push:         push(p.First, p.Rows, table.Cols, p.Group, scale),
			grid:         [3]int{ceilDiv(p.unitsPerRow(), workgroup), b.tokens, 1},
			weightBytes:  embedBytes(i, b.tokens, p.unitRowBytes()+p.metaRowBytes()),
			minimumBytes: embedBytes(i, b.tokens, p.DType.RowBytes(p.cols)),
		})
	}
	return out
}

// embedBytes counts a table lookup once, at the first part.
func embedBytes(part, tokens int, row int64) int64 {
	if part > 0 {
		return 0
	}
	return int64(tokens) * row
}

// metaSpan is the plane of records, or the units again for types that have none: every binding
// of a kernel must name some memory.
func (p *Part) metaSpan() vk.Span {
	if p.metaBytes() == 0 {
		return p.units
	}
	return p.meta
}

// A Norm is the normalisation of rows and its weights.
type Norm struct {
	Layer   bool    // LayerNorm (Ba et al. 2016, arXiv:1607.06450); else RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467)
	Weights *Vector // (cols)
	Bias    *Vector // (cols), of LayerNorm alone; nil = none
	Eps     float32
}

// Norm returns the rows of x, normalised.
func (b *Builder) Norm(x *Tensor, norm *Norm) *Tensor { return b.norm(x, norm, x.Rows, false) }

// NormLast is Norm of the last token of each sequence of the run alone: (sequences, cols). The
// plan takes runs of at most so many sequences.
func (b *Builder) NormLast(x *Tensor, norm *Norm, sequences int) *Tensor {
	if sequences < 1 || sequences > MaxSequences {
		b.Fail("norm: last tokens of %d sequences; 1 to %d are possible", sequences, MaxSequences)
	}
	b.sequences = min(b.sequences, sequences)
	return b.norm(x, norm, sequences, true)
}

func (b *Builder) norm(x *Tensor, norm *Norm, rows int, last bool) *Tensor {
	w := norm.Weights
	if w.Cols != x.Cols || norm.Bias != nil && (norm.Bias.Cols != x.Cols || !norm.Layer) {
		b.Fail("norm: %s has %d columns, not %d, or a bias that does not fit", w.Name, w.Cols, x.Cols)
	}
	out := b.tensor(rows, x.Cols)
	op, weights := "rms_norm", []*Vector{w}
	if norm.Layer {
		op, weights = "layer_norm", append(weights, cmp.Or(norm.Bias, w))
	}
	n := &node{push: push(x.Cols, norm.Eps), grid: [3]int{rows, 1, 1}}
	kernel, path := b.pick(op, rows, rowIf(x.Cols%4 == 0))
	n.kernel = kernel
	texel := storage
	if path == PathRow {
		texel = vk.RGBA32Float
	} else {
		n.spec = []uint32{b.m.rowLanes(x.Cols)}
	}
	n.spec = append(n.spec, specBool(last))
	n.binds = []bind{stepBind(), read(x).as(texel)}
	for _, v := range weights {
		n.binds = append(n.binds, readSpan(v.span).as(texel))
		n.weightBytes += 4 * int64(v.Cols)
	}
	n.minimumBytes = n.weightBytes
	if norm.Layer {
		n.spec = append(n.spec, specBool(norm.Bias != nil))
	}
	n.binds = append(n.binds, write(out))
	b.add(n)
	return out
}

// HeadNorm normalises every query head of qkv, (tokens, (Heads + 2 KVHeads) * HeadDim), by its
// root mean square and the weights q, and every key head by k, in place.
func (b *Builder) HeadNorm(qkv *Tensor, h Heads, q, k *Vector, eps float32) {
	if q.Cols != h.HeadDim || k.Cols != h.HeadDim {
		b.Fail("head_norm: %s has %d columns and %s %d, heads have %d", q.Name, q.Cols, k.Name, k.Cols, h.HeadDim)
	}
	b.add(&node{
		kernel:       "head_norm",
		spec:         []uint32{workgroup},
		binds:        []bind{stepBind(), readWrite(qkv), readSpan(q.span), readSpan(k.span)},
		push:         push(h.Heads, h.KVHeads, h.HeadDim, eps),
		grid:         [3]int{h.Heads + h.KVHeads, qkv.Rows, 1},
		weightBytes:  8 * int64(h.HeadDim),
		minimumBytes: 8 * int64(h.HeadDim),
	})
}

// A Projection is a matrix product and what may be fused to it. The zero value of every field
// but W does nothing.
type Projection struct {
	W        *Matrix
	Norm     *Norm   // x is normalised first
	Bias     *Vector // (W.Rows), added
	Activate bool    // Activation is applied after; with Gated to every other row, as ActMul does
	Gated    bool    // rows alternate between gate and up; the result has half as many columns
	Act      Activation
	AddTo    *Tensor // (x.Rows, W.Rows), what the result is added to instead of being returned
}

// Linear returns x times the transpose of w, plus bias when it is not nil: (x.Rows, w.Rows).
func (b *Builder) Linear(x *Tensor, w *Matrix, bias *Vector) *Tensor {
	return b.Project(x, Projection{W: w, Bias: bias})
}

// LinearAdd adds x times the transpose of w, plus bias when it is not nil, to y.
func (b *Builder) LinearAdd(y, x *Tensor, w *Matrix, bias *Vector) {
	b.Project(x, Projection{W: w, Bias: bias, AddTo: y})
}

// Project returns p of x: (x.Rows, W.Rows), or half the columns if gated, or AddTo. For one
// token RMSNorm and activation are part of the product; for more, where they would be computed
// again for every tile of rows, and for LayerNorm they are operations of their own.
func (b *Builder) Project(x *Tensor, p Projection) *Tensor {
	fuse := x.Rows == 1
	if p.Norm != nil && (!fuse || p.Norm.Layer) {
		x, p.Norm = b.Norm(x, p.Norm), nil
	}
	if p.Activate && !fuse {
		out := b.project(x, Projection{W: p.W, Norm: p.Norm, Bias: p.Bias})
		if p.Gated {
			return b.ActMul(out, p.Act)
		}
		return b.Act(out, p.Act)
	}
	return b.project(x, p)
}

func (b *Builder) project(x *Tensor, p Projection) *Tensor {
	cols := p.W.Rows
	if p.Gated {
		cols /= 2
	}
	switch {
	case x.Cols != p.W.Cols, p.Bias != nil && p.Bias.Cols != p.W.Rows, p.Norm != nil && p.Norm.Weights.Cols != x.Cols:
		b.Fail("%s: (%d, %d) does not take %d columns", p.W.Name, p.W.Rows, p.W.Cols, x.Cols)
		return x
	case p.AddTo != nil && (p.AddTo.Rows != x.Rows || p.AddTo.Cols != cols || p.Gated):
		b.Fail("%s: adding (%d, %d) to (%d, %d)", p.W.Name, x.Rows, cols, p.AddTo.Rows, p.AddTo.Cols)
		return x
	case p.Gated && (!p.Activate || p.W.Rows%2 != 0):
		b.Fail("%s: %d rows do not alternate between gate and up", p.W.Name, p.W.Rows)
		return x
	}
	out := p.AddTo
	if out == nil {
		out = b.tensor(x.Rows, cols)
	}
	acts := b.convert(x, p.W)
	for i, part := range p.W.Parts {
		y := readWrite(out)
		if p.AddTo == nil && i == 0 {
			y = write(out)
		}
		if x.Rows == 1 {
			b.matvec(x, &p, part, y)
		} else {
			b.matmul(x, &p, part, y, acts)
		}
	}
	return out
}

// operands are the binds of a part's kernel for its weights and x, and its path.
func (b *Builder) operands(n *node, op string, x *Tensor, part *Part) (binds []bind, path Path) {
	n.weightBytes, n.minimumBytes = part.readBytes(), part.storedBytes()
	n.operations, n.rows = 2*int64(part.Rows)*int64(part.cols), int64(x.Rows)
	n.kernel, path = b.pick(op+lower(part.DType), x.Rows, func(p Path) bool {
		switch p {
		case PathAddr:
			return part.Lanes > 0
		case PathRow:
			return part.Lanes == 0 && part.Group > 1
		case PathSG:
			return part.Group == 1 && part.cols%layouts[part.DType].unitCols == 0
		case PathFew:
			return part.Group == 1 && part.cols%4 == 0
		}
		return part.Lanes == 0
	})
	if part.Lanes > 0 && path != PathAddr {
		b.Fail("%s: no kernel reads weights that are laid out for %d lanes", n.kernel, part.Lanes)
	}
	units, meta, in := readSpan(part.units), readSpan(part.metaSpan()), read(x)
	switch path {
	case PathRow:
		units, meta, in = units.as(vk.RGBA32Uint), meta.as(rowMetaFormat(part.DType)), in.as(vk.RGBA32Float)
	case PathAddr:
		units, meta, in = units.as(address), meta.as(address), in.as(address)
	}
	return []bind{units, meta, in}, path
}

// optional binds a vector, or any memory where there is none and the kernel does not look.
func optional(v *Vector, otherwise vk.Span) bind {
	if v != nil {
		return readSpan(v.span)
	}
	return readSpan(otherwise)
}

// matvecRows is how many rows a workgroup of the base kernel takes.
const matvecRows = 2

func (b *Builder) matvec(x *Tensor, p *Projection, part *Part, y bind) {
	n := &node{}
	binds, path := b.operands(n, "matvec_", x, part)
	var gain *Vector
	var eps float32
	if p.Norm != nil {
		gain, eps = p.Norm.Weights, p.Norm.Eps
		n.weightBytes += 4 * int64(gain.Cols)
		n.minimumBytes += 4 * int64(gain.Cols)
	}
	gainBind := optional(gain, part.units)
	size, tile := uint32(workgroup), matvecRows
	units := layouts[part.DType].unitCols
	n.trip = Trip{Weights: units * matvecRows, Inner: matvecRows}
	switch path {
	case PathRow:
		gainBind = gainBind.as(vk.RGBA32Float)
		size, tile = uint32(laneRows(part.DType)), 8*laneRows(part.DType)
		n.trip = Trip{}
	case PathAddr:
		gainBind = gainBind.as(address)
		size, tile = uint32(addrGroupRows), part.Group
		n.trip = Trip{}
	case PathSG:
		n.trip = Trip{Weights: matvecSGChunk(part.DType) * matvecSGRows, Inner: 1}
		size, tile = uint32(matvecSubgroups*subgroupLanes(b.m.dev.PhysicalDevice())), matvecSubgroups*matvecSGRows
	}
	n.binds = append(binds, gainBind, optional(p.Bias, part.units), y)
	n.push = push(part.Rows, part.cols, part.Group, part.First, part.First, eps)
	n.spec = []uint32{size, specBool(p.Bias != nil), specBool(p.AddTo != nil), specBool(p.Norm != nil),
		specBool(p.Activate), specBool(p.Gated), uint32(p.Act)}
	if path == PathAddr {
		n.spec = append([]uint32{uint32(part.Lanes)}, n.spec...)
	}
	n.grid = spread(ceilDiv(part.Rows, tile), b.m.dev.PhysicalDevice().Limits.MaxComputeWorkGroupCount[0])
	b.add(n)
}

// matmul is the product of several tokens with a part; acts are x as the paths take it that don't take float32.
func (b *Builder) matmul(x *Tensor, p *Projection, part *Part, y bind, acts map[string]converted) {
	n := &node{}
	binds, path := b.operands(n, "matmul_", x, part)
	n.binds = append([]bind{stepBind()}, append(binds, optional(p.Bias, part.units), y)...)
	flags := []uint32{specBool(p.Bias != nil), specBool(p.AddTo != nil)}
	if path.barrierFree() {
		n.push = push(part.Rows, part.cols, part.Group, part.First, part.First, y.tensor.Cols)
	} else {
		n.push = push(part.Rows, part.cols, part.First, part.First, y.tensor.Cols)
		flags = append(flags, uint32(part.Group))
	}
	if c, ok := acts[conversions[path]]; ok {
		n.binds[3] = read(c.values)
		n.binds = append(n.binds, read(c.scales))
	}
	if conversions[path] == halfActs {
		if !part.measured {
			b.Fail("%s: the magnitude of %s's rows %d on is not known", n.kernel, p.W.Name, part.First)
		}
		n.push = append(n.push, push(part.exponent())...)
	}
	tokens := tokenTile(ceilDiv(x.Rows, 16), 4)
	switch path {
	case PathRow:
		tokens := tokenTile(x.Rows, matmulTokens)
		n.spec = append([]uint32{matmulLaneRows, uint32(tokens)}, flags...)
		n.grid = [3]int{ceilDiv(x.Rows, tokens), ceilDiv(part.Rows, 8*matmulLaneRows), 1}
	case PathAddr:
		tokens := tokenTile(x.Rows, addrTokens)
		n.spec = append([]uint32{uint32(part.Lanes), addrLaneRows, uint32(tokens)}, flags...)
		n.grid = [3]int{ceilDiv(x.Rows, tokens), ceilDiv(part.Rows, part.Lanes*addrLaneRows), 1}
	case PathFew:
		tokens := tokenTile(x.Rows, fewTokens)
		n.spec = append(flags, uint32(fewSubgroups*subgroupLanes(b.m.dev.PhysicalDevice())), uint32(tokens))
		n.grid = spread(ceilDiv(part.Rows, fewSubgroups*fewRows), b.m.dev.PhysicalDevice().Limits.MaxComputeWorkGroupCount[0])
		n.grid[2] = ceilDiv(x.Rows, tokens)
	case PathCM:
		shape := b.m.matrix
		t := matrixTileFor(shape, part.Rows, x.Rows, b.m.dev.PhysicalDevice().Limits.MaxComputeSharedMemorySize)
		invocations := t.subgroupsM * t.subgroupsN * matrixSubgroup(b.m.dev.PhysicalDevice())
		n.spec = append(flags, uint32(invocations), uint32(shape.M), uint32(shape.N), uint32(shape.K),
			uint32(t.subgroupsM), uint32(t.subgroupsN), uint32(t.matricesM), uint32(t.matricesN))
		n.grid = [3]int{ceilDiv(part.Rows, t.rows(shape)), ceilDiv(x.Rows, t.tokens(shape)), 1}
	default:
		n.spec = append(flags, uint32(tokens))
		n.grid = [3]int{ceilDiv(part.Rows, 64), ceilDiv(x.Rows, 16*tokens), 1}
	}
	b.add(n)
}

// Kernels that convert activations.
const (
	quantizeActs = "quantize_acts"
	halfActs     = "half_acts"
)

// conversions names the kernel by which products of several tokens on a path have their activations converted.
var conversions = map[Path]string{PathDP: quantizeActs, PathFP16: halfActs, PathCM: halfActs}

// converted activations, (tokens, cols), are 8-bit integers in blocks of 32 columns, or float16 numbers.
type converted struct {
	values *Tensor // (tokens, cols / 4): four integers each; or (tokens, 2 ceil(cols / 4)): two float16 each
	scales *Tensor // (tokens, cols / 16): scale, and scale times the sum of the integers, of each block; or (tokens, 1): exponents
}

// convert returns x as the kernels take it that parts of w go through, by the kernel that converts.
func (b *Builder) convert(x *Tensor, w *Matrix) map[string]converted {
	acts := map[string]converted{}
	if x.Rows == 1 {
		return acts
	}
	for _, part := range w.Parts {
		_, path := b.operands(&node{}, "matmul_", x, part)
		kernel := conversions[path]
		if _, done := acts[kernel]; done || kernel == "" {
			continue
		}
		var c converted
		n := &node{kernel: kernel}
		if kernel == halfActs {
			c = converted{values: b.tensor(x.Rows, 2*ceilDiv(x.Cols, 4)), scales: b.tensor(x.Rows, 1)}
			n.spec, n.grid = []uint32{b.m.rowLanes(x.Cols)}, [3]int{x.Rows, 1, 1}
		} else {
			c = converted{values: b.tensor(x.Rows, x.Cols/4), scales: b.tensor(x.Rows, x.Cols/16)}
			n.spec, n.grid = []uint32{workgroup}, [3]int{ceilDiv(x.Cols/32, workgroup), x.Rows, 1}
		}
		n.binds, n.push = []bind{stepBind(), read(x), write(c.values), write(c.scales)}, push(x.Cols)
		b.add(n)
		acts[kernel] = c
	}
	return acts
}

// spread puts n workgroups on x and y, since x alone may be limited to 65535.
func spread(n, limit int) [3]int {
	y := ceilDiv(n, limit)
	return [3]int{ceilDiv(n, y), y, 1}
}

// An Activation is the nonlinearity of an MLP.
type Activation uint32

const (
	SiLU     Activation = iota
	GELU                // exact, by the error function: Hendrycks and Gimpel 2016, arXiv:1606.08415
	GELUTanh            // its approximation by tanh
)

// ActMul returns act(gate) * up for x whose columns alternate between gate and up:
// (x.Rows, x.Cols / 2). Shazeer 2020, arXiv:2002.05202.
func (b *Builder) ActMul(x *Tensor, act Activation) *Tensor {
	if x.Cols%2 != 0 {
		b.Fail("act_mul: %d columns do not alternate between gate and up", x.Cols)
	}
	return b.activate(x, x.Cols/2, act, true)
}

// Act returns act(x).
func (b *Builder) Act(x *Tensor, act Activation) *Tensor { return b.activate(x, x.Cols, act, false) }

func (b *Builder) activate(x *Tensor, cols int, act Activation, gated bool) *Tensor {
	out := b.tensor(x.Rows, cols)
	kernel, path := b.pick("act_mul", x.Rows, rowIf(cols%4 == 0))
	n := &node{
		kernel: kernel,
		spec:   []uint32{workgroup, uint32(act), specBool(gated)},
		binds:  []bind{stepBind(), read(x), write(out)},
		push:   push(cols),
		grid:   [3]int{ceilDiv(cols, workgroup), x.Rows, 1},
	}
	if path == PathRow {
		n.spec[0] = rowSteps
		n.binds[1] = n.binds[1].as(vk.RGBA32Float)
		n.grid[0] = ceilDiv(cols, 4*8*rowSteps)
	}
	b.add(n)
	return out
}

// SoftCap replaces x by limit * tanh(x / limit).
func (b *Builder) SoftCap(x *Tensor, limit float32) {
	b.add(&node{
		kernel: "softcap",
		spec:   []uint32{workgroup},
		binds:  []bind{readWrite(x)},
		push:   push(x.Cols, limit),
		grid:   [3]int{ceilDiv(x.Cols, workgroup), x.Rows, 1},
	})
}

// Add adds x to y.
func (b *Builder) Add(y, x *Tensor) {
	if y.Rows != x.Rows || y.Cols != x.Cols {
		b.Fail("add: (%d, %d) to (%d, %d)", x.Rows, x.Cols, y.Rows, y.Cols)
		return
	}
	b.add(&node{
		kernel: "add",
		spec:   []uint32{workgroup},
		binds:  []bind{stepBind(), read(x), readWrite(y)},
		push:   push(y.Cols),
		grid:   [3]int{ceilDiv(y.Cols, workgroup), y.Rows, 1},
	})
}

// Softmax returns the softmax of each row of x times scale.
func (b *Builder) Softmax(x *Tensor, scale float32) *Tensor {
	out := b.tensor(x.Rows, x.Cols)
	n := &node{push: push(x.Cols, scale), grid: [3]int{x.Rows, 1, 1}}
	kernel, path := b.pick("softmax", x.Rows, rowIf(x.Cols%4 == 0))
	n.kernel = kernel
	if path == PathRow {
		n.binds = []bind{read(x).as(vk.RGBA32Float), write(out)}
	} else {
		n.spec = []uint32{workgroup}
		n.binds = []bind{read(x), write(out)}
	}
	b.add(n)
	return out
}

// topkChunk is the number of values one workgroup of topk.comp looks at.
const topkChunk = 1024

// MaxTopK is the largest k of TopK: each pass must shrink what is left.
const MaxTopK = 256

// TopK returns the k largest values of each row and their columns, largest first, the lowest
// column first among equals: (x.Rows, 2k), value and column bits in turn. Pairs beyond the
// number of columns hold -inf and 0xffffffff. k = 1 is argmax.
func (b *Builder) TopK(x *Tensor, k int) *Tensor {
	if k < 1 || k > MaxTopK {
		b.Fail("topk: k = %d; 1 to %d are possible", k, MaxTopK)
		return x
	}
	x, n := b.chunkBest(x, k)
	for n > k {
		x, n = b.topkPass(x, n, k, true)
	}
	return x
}

// chunkBest is the first pass of TopK: the k best of each chunk, n pairs in each row.
func (b *Builder) chunkBest(x *Tensor, k int) (pairs *Tensor, n int) {
	return b.topkPass(x, x.Cols, k, false)
}

// topkPass returns the k best of each chunk of each row's n values, or pairs of them.
func (b *Builder) topkPass(x *Tensor, n, k int, pairs bool) (*Tensor, int) {
	chunks := ceilDiv(n, topkChunk)
	out := b.tensor(x.Rows, 2*k*chunks)
	kernel, path := b.pick("topk", x.Rows, rowIf(k <= 2 && n%4 == 0 && !pairs))
	node := &node{kernel: kernel, binds: []bind{read(x), write(out)}, push: push(n, k), grid: [3]int{chunks, x.Rows, 1}}
	if path == PathRow {
		node.binds[0] = node.binds[0].as(vk.RGBA32Float)
		node.spec = []uint32{uint32(k)}
	} else {
		node.spec = []uint32{specBool(pairs)}
	}
	b.add(node)
	return out, k * chunks
}
