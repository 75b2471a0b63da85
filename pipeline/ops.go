package pipeline

import (
	"cmp"
	"slices"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

// launch adds a dispatch of the kernel that suits s to the plan: of its op, with weights in a layout, over binds in the
// order of the op's bindings. n has what is counted.
func launch[S kernels.Shape](b *Builder, op *kernels.Op[S], s S, l kernels.Layout, n *node, binds ...bind) {
	variant, k := pick(b.m, op, s, l)
	if op.Kernels[0].Reads != nil && !slices.Contains(k.Reads, l) {
		b.Fail("%s: no kernel reads weights that are laid out for lanes", variant)
		return
	}
	setKernel(n, b.m, op, variant, k, s)
	if k.Trip != nil {
		n.trip = k.Trip(b.m.machine, s)
	}
	if k.TokenTiles != nil {
		n.tiles = k.TokenTiles(n.grid)
	}
	n.binds = viewed(binds, k, s)
	b.add(n)
}

// joins is the bindings of what a kernel's workgroups leave for the last of them to join, and of their arrivals: out, for which
// they are, where none leaves anything.
func (b *Builder) joins(j kernels.Join, out *Tensor) []bind {
	if j.Groups == 0 {
		return []bind{write(out), readWrite(out)}
	}
	b.arrivals = max(b.arrivals, j.Groups)
	return []bind{write(b.tensor(j.Rows, j.Cols)), {buffer: arrivalBuffer, access: vk.ReadWrite, view: kernels.Storage}}
}

// setKernel makes the node a dispatch of kernel k, the variant of op for s.
func setKernel[S kernels.Shape](n *node, m *Manager, op *kernels.Op[S], variant string, k *kernels.Kernel[S], s S) {
	n.kernel, n.size, n.spec, n.push, n.grid = variant, s.Size(), k.Spec(m.machine, s), op.PushOf(k, s), k.Grid(m.machine, s)
}

// viewed gives binds as the kernel reads and writes them.
func viewed[S kernels.Shape](binds []bind, k *kernels.Kernel[S], s S) []bind {
	var apart []bind // what is written through a binding of its own
	if k.WritesApart {
		for i, x := range binds {
			if x.access == vk.ReadWrite {
				binds[i].access, x.access = vk.Read, vk.Write
				apart = append(apart, x)
			}
		}
	}
	if k.Views != nil {
		for i, v := range k.Views(s) {
			if i < len(binds) {
				binds[i].view = v
			}
		}
	}
	return append(binds, apart...)
}

// Embed returns the rows of table that the step's tokens name, times scale: (tokens, cols).
func (b *Builder) Embed(table *Matrix, scale float32) *Tensor {
	out := b.tensor(b.tokens, table.Cols)
	for i, p := range table.Shards {
		w := write(out)
		n := &node{}
		if i == 0 { // a table lookup is counted once
			n.weightBytes = int64(b.tokens) * (p.UnitRowBytes() + p.MetaRowBytes())
			n.minimumBytes = int64(b.tokens) * p.DType.RowBytes(p.Cols)
		} else {
			w = readWrite(out) // a shard adds the rows that earlier shards do not hold
		}
		lookup := kernels.Lookup{Packed: p.Packed, First: p.First, Tokens: b.tokens, Scale: scale}
		launch(b, &kernels.Embed, lookup, p.Layout(), n, stepBind(), readSpan(p.units), readSpan(p.metaSpan()), w)
	}
	return out
}

// A Norm is the normalisation of rows and its weights.
type Norm struct {
	Layer   bool    // LayerNorm (Ba et al. 2016, arXiv:1607.06450); else RMSNorm (Zhang and Sennrich 2019, arXiv:1910.07467)
	Weights *Vector // (cols)
	Bias    *Vector // (cols), of LayerNorm alone; nil means none
	Eps     float32
}

// Norm returns the rows of x, normalised.
func (b *Builder) Norm(x *Tensor, norm *Norm) *Tensor { return b.norm(x, norm, x.Rows, false) }

// NormLast is Norm of the last token of each sequence of the step alone: (sequences, cols). The
// plan takes steps of at most so many sequences.
func (b *Builder) NormLast(x *Tensor, norm *Norm, sequences int) *Tensor {
	if sequences < 1 || sequences > MaxSequences {
		b.Fail("norm: last tokens of %d sequences; 1 to %d are possible", sequences, MaxSequences)
	}
	b.rows = min(b.rows, sequences)
	out := b.norm(x, norm, sequences, true)
	out.ends = true
	return out
}

func (b *Builder) norm(x *Tensor, norm *Norm, rows int, last bool) *Tensor {
	w := norm.Weights
	if w.Cols != x.Cols || norm.Bias != nil && (norm.Bias.Cols != x.Cols || !norm.Layer) {
		b.Fail("norm: %s has %d columns, not %d, or a bias that does not fit", w.Name, w.Cols, x.Cols)
	}
	out := b.tensor(rows, x.Cols)
	op, shape, n := &kernels.RMSNorm, kernels.Rows{Name: "rms_norm", Rows: rows, Cols: x.Cols, Eps: norm.Eps, Last: last}, &node{}
	binds := []bind{stepBind(), read(x), readSpan(w.span)}
	n.weightBytes = 4 * int64(w.Cols)
	if norm.Layer {
		op, shape.Name, shape.Bias = &kernels.LayerNorm, "layer_norm", norm.Bias != nil
		bias := cmp.Or(norm.Bias, w)
		binds = append(binds, readSpan(bias.span))
		n.weightBytes += 4 * int64(bias.Cols)
	}
	n.minimumBytes = n.weightBytes
	launch(b, op, shape, kernels.RowMajor, n, append(binds, write(out))...)
	return out
}

// A Projection is a matrix product and what may be fused to it. The zero value of every field
// but W does nothing.
type Projection struct {
	W        *Matrix
	Norm     *Norm   // x is normalised first
	Bias     *Vector // (W.Rows), added
	Activate bool    // Activation is applied after; with Gated to every other row, as ActMul does
	Gated    bool    // rows alternate between gate and up; the result has half as many columns
	Act      kernels.Activation
	AddTo    *Tensor // (x.Rows, W.Rows), the result is added to it instead of being returned
}

// Linear returns x times the transpose of w, plus bias when it is not nil: (x.Rows, w.Rows).
func (b *Builder) Linear(x *Tensor, w *Matrix, bias *Vector) *Tensor {
	return b.Project(x, Projection{W: w, Bias: bias})
}

// LinearAdd adds x times the transpose of w, plus bias when it is not nil, to y.
func (b *Builder) LinearAdd(y, x *Tensor, w *Matrix, bias *Vector) {
	b.Project(x, Projection{W: w, Bias: bias, AddTo: y})
}

// Project returns p of x: (x.Rows, W.Rows), or half the columns if gated, or AddTo. RMSNorm and activation are part of the
// product for one token, and for several where the kernel has them; else, and LayerNorm, they are operations of
// their own.
func (b *Builder) Project(x *Tensor, p Projection) *Tensor {
	norms, activates := b.fuses(x, &p)
	if p.Norm != nil && !norms {
		x, p.Norm = b.Norm(x, p.Norm), nil
	}
	if p.Activate && !activates {
		out := b.project(x, Projection{W: p.W, Norm: p.Norm, Bias: p.Bias})
		if p.Gated {
			return b.ActMul(out, p.Act)
		}
		return b.Act(out, p.Act)
	}
	return b.project(x, p)
}

// fuses reports whether the kernels that multiply x with the shards of W compute p's norm, and its activation.
func (b *Builder) fuses(x *Tensor, p *Projection) (norms, activates bool) {
	norms, activates = p.Norm != nil && !p.Norm.Layer, true
	if x.Rows == 1 {
		return norms, activates
	}
	for _, shard := range p.W.Shards {
		shape, _ := p.product(x, shard)
		_, k := pick(b.m, &kernels.Matmul, shape, shard.Layout())
		norms = norms && k.Norms != nil && k.Norms(shape)
		activates = activates && k.Activates
	}
	return norms, activates
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
	case x.ends && x.Rows > 1 && x.Rows < min(MaxSequences, b.tokens): // kernels go by the step's tokens, and would write behind the result
		b.Fail("%s: a product of the last tokens of %d sequences in %d tokens; 1 or %d are possible", p.W.Name, x.Rows, b.tokens,
			min(MaxSequences, b.tokens))
		return x
	case p.Gated && (!p.Activate || p.W.Rows%2 != 0):
		b.Fail("%s: %d rows do not alternate between gate and up", p.W.Name, p.W.Rows)
		return x
	}
	out := p.AddTo
	if out == nil {
		out = b.tensor(x.Rows, cols)
	}
	acts := b.converted(x, &p)
	for i, shard := range p.W.Shards {
		y := readWrite(out)
		if p.AddTo == nil && i == 0 {
			y = write(out)
		}
		if x.Rows == 1 {
			b.matvec(x, &p, shard, y)
		} else {
			b.matmul(x, &p, shard, y, acts)
		}
	}
	return out
}

// product is the shape of a shard's product with x, and the node that counts what it takes.
func (p *Projection) product(x *Tensor, shard *Shard) (kernels.Product, *node) {
	n := &node{weightBytes: shard.ReadBytes(), minimumBytes: shard.StoredBytes(), operations: 2 * int64(shard.Rows) * int64(shard.Cols), rows: int64(x.Rows)}
	n.planes = []vk.Span{shard.units}
	if shard.MetaBytes() > 0 {
		n.planes = append(n.planes, shard.meta)
	}
	shape := kernels.Product{
		Packed: shard.Packed, First: shard.First, Tokens: x.Rows, Bias: p.Bias != nil, Add: p.AddTo != nil,
		Activate: p.Activate, Gated: p.Gated, Act: p.Act,
	}
	if p.Norm != nil {
		shape.Norm, shape.Eps = true, p.Norm.Eps
		n.weightBytes += 4 * int64(p.Norm.Weights.Cols)
		n.minimumBytes += 4 * int64(p.Norm.Weights.Cols)
	}
	return shape, n
}

// gain binds the norm's weights, or any memory where there is no norm.
func (p *Projection) gain(otherwise vk.Span) bind {
	if p.Norm != nil {
		return readSpan(p.Norm.Weights.span)
	}
	return readSpan(otherwise)
}

// optional binds a vector, or any memory where there is none and the kernel does not look.
func optional(v *Vector, otherwise vk.Span) bind {
	if v != nil {
		return readSpan(v.span)
	}
	return readSpan(otherwise)
}

func (b *Builder) matvec(x *Tensor, p *Projection, shard *Shard, y bind) {
	shape, n := p.product(x, shard)
	launch(b, &kernels.Matvec, shape, shard.Layout(), n,
		readSpan(shard.units), readSpan(shard.metaSpan()), read(x), p.gain(shard.units), optional(p.Bias, shard.units), y)
}

// matmul is the product of several tokens with a shard; acts are x as kernels take it that don't take float32.
func (b *Builder) matmul(x *Tensor, p *Projection, shard *Shard, y bind, acts map[kernels.Rounding]converted) {
	shape, n := p.product(x, shard)
	shape.Stride = y.tensor.Cols
	variant, k := pick(b.m, &kernels.Matmul, shape, shard.Layout())
	if k.Tilings != nil {
		shape.Tiling = cmp.Or(b.tiling, b.m.tiling(shape, k))
	}
	binds := []bind{stepBind(), readSpan(shard.units), readSpan(shard.metaSpan()), read(x), optional(p.Bias, shard.units), y}
	if k.Rounds != kernels.Float32 {
		binds[3] = read(acts[k.Rounds].values)
		binds = append(binds, read(acts[k.Rounds].scales))
	}
	if k.Norms != nil {
		binds = append(binds, p.gain(shard.units))
	}
	if k.Joins != nil {
		binds = append(binds, b.joins(k.Joins(b.m.machine, shape), y.tensor)...)
	}
	if k.Rounds == kernels.Halves {
		if !shard.measured {
			b.Fail("%s: the magnitude of %s's rows %d on is not known", variant, p.W.Name, shard.First)
		}
		shape.Exponent = shard.exponent()
	}
	launch(b, &kernels.Matmul, shape, shard.Layout(), n, binds...)
}

// converted activations, as kernels.Acts says.
type converted struct {
	values, scales *Tensor
}

// converted returns x as the kernels take it that multiply several tokens with shards of W, where that is not float32.
func (b *Builder) converted(x *Tensor, p *Projection) map[kernels.Rounding]converted {
	if x.Rows == 1 {
		return nil
	}
	acts := map[kernels.Rounding]converted{}
	for _, shard := range p.W.Shards {
		shape, _ := p.product(x, shard)
		_, k := pick(b.m, &kernels.Matmul, shape, shard.Layout())
		if _, done := acts[k.Rounds]; !done && k.Rounds != kernels.Float32 {
			acts[k.Rounds] = b.convert(x, k.Rounds)
		}
	}
	return acts
}

// convert returns x as products take it.
func (b *Builder) convert(x *Tensor, to kernels.Rounding) converted {
	shape := kernels.Acts{To: to, Tokens: x.Rows, Cols: x.Cols}
	c := converted{b.tensor(x.Rows, shape.ValueCols()), b.tensor(x.Rows, shape.ScaleCols())}
	op := &kernels.QuantizeActs
	if to == kernels.Halves {
		op = &kernels.HalfActs
	}
	launch(b, op, shape, kernels.RowMajor, &node{}, stepBind(), read(x), write(c.values), write(c.scales))
	return c
}

// ActMul returns act(gate) * up for x whose columns alternate between gate and up:
// (x.Rows, x.Cols / 2). Shazeer 2020, arXiv:2002.05202.
func (b *Builder) ActMul(x *Tensor, act kernels.Activation) *Tensor {
	if x.Cols%2 != 0 {
		b.Fail("act_mul: %d columns do not alternate between gate and up", x.Cols)
	}
	return b.activate(x, x.Cols/2, act, true)
}

// Act returns act(x).
func (b *Builder) Act(x *Tensor, act kernels.Activation) *Tensor {
	return b.activate(x, x.Cols, act, false)
}

func (b *Builder) activate(x *Tensor, cols int, act kernels.Activation, gated bool) *Tensor {
	out := b.tensor(x.Rows, cols)
	shape := kernels.Rows{Name: "act_mul", Rows: x.Rows, Cols: cols, Act: act, Gated: gated}
	launch(b, &kernels.Activate, shape, kernels.RowMajor, &node{}, stepBind(), read(x), write(out))
	return out
}

// SoftCap replaces x by limit * tanh(x / limit).
func (b *Builder) SoftCap(x *Tensor, limit float32) {
	shape := kernels.Rows{Name: "softcap", Rows: x.Rows, Cols: x.Cols, Scale: limit}
	launch(b, &kernels.SoftCap, shape, kernels.RowMajor, &node{}, readWrite(x))
}

// Add adds x to y.
func (b *Builder) Add(y, x *Tensor) {
	if y.Rows != x.Rows || y.Cols != x.Cols {
		b.Fail("add: (%d, %d) to (%d, %d)", x.Rows, x.Cols, y.Rows, y.Cols)
		return
	}
	launch(b, &kernels.Add, kernels.Rows{Name: "add", Rows: y.Rows, Cols: y.Cols}, kernels.RowMajor, &node{}, stepBind(), read(x), readWrite(y))
}

// Softmax returns the softmax of each row of x times scale.
func (b *Builder) Softmax(x *Tensor, scale float32) *Tensor {
	out := b.tensor(x.Rows, x.Cols)
	shape := kernels.Rows{Name: "softmax", Rows: x.Rows, Cols: x.Cols, Scale: scale}
	launch(b, &kernels.Softmax, shape, kernels.RowMajor, &node{}, read(x), write(out))
	return out
}

// LogProbs returns for each token's row of logits the log-probability of the token that follows it in the step, which is
// Step.Next for the last one: (x.Rows, 1). With sums a second column has the logarithm of the sum of the exponentials of
// all logits of the row. Both are NaN if a logit of the row is not finite; the first is 0 for a token without a logit.
func (b *Builder) LogProbs(x *Tensor, sums bool) *Tensor {
	return b.logProb(x, kernels.Rows{Next: true, Sum: sums})
}

// LogSumExp returns the logarithm of the sum of the exponentials of each row that NormLast leaves: (x.Rows, 1). It is NaN
// if a number of the row is not finite.
func (b *Builder) LogSumExp(x *Tensor) *Tensor { return b.logProb(x, kernels.Rows{Sum: true}) }

func (b *Builder) logProb(x *Tensor, shape kernels.Rows) *Tensor {
	cols := 0
	for _, wanted := range []bool{shape.Next, shape.Sum} {
		if wanted {
			cols++
		}
	}
	out := b.tensor(x.Rows, cols)
	shape.Name, shape.Rows, shape.Cols = "logprob", x.Rows, x.Cols
	launch(b, &kernels.LogProb, shape, kernels.RowMajor, &node{}, stepBind(), read(x), write(out))
	return out
}

// TopK returns the k largest values of each row and their columns, largest first, the lowest
// column first among equals: (x.Rows, 2k), value and column bits in turn. Pairs beyond the
// number of columns hold -inf and 0xffffffff, as do those beyond what Allow leaves. k = 1 is argmax.
func (b *Builder) TopK(x *Tensor, k int) *Tensor {
	if k < 1 || k > kernels.MaxTopK {
		b.Fail("topk: k = %d; 1 to %d are possible", k, kernels.MaxTopK)
		return x
	}
	x, n := b.tileBest(x, k)
	for n > k {
		x, n = b.topkPass(x, n, k, true)
	}
	return x
}

// tileBest is the first pass of TopK: the k best of each tile, n pairs in each row.
func (b *Builder) tileBest(x *Tensor, k int) (pairs *Tensor, n int) {
	return b.topkPass(x, x.Cols, k, false)
}

// topkPass returns the k best of each tile of each row's n values, or pairs of them.
func (b *Builder) topkPass(x *Tensor, n, k int, pairs bool) (*Tensor, int) {
	shape := kernels.Best{Rows: x.Rows, N: n, K: k, Pairs: pairs, Masked: x.masked}
	out := b.tensor(x.Rows, 2*k*shape.Tiles())
	binds := []bind{read(x), write(out)}
	if x.masked {
		binds = append(binds, bind{buffer: maskBuffer, access: vk.Read, view: kernels.Storage})
	}
	launch(b, &kernels.TopK, shape, kernels.RowMajor, &node{}, binds...)
	return out, k * shape.Tiles()
}

// Digest reads memory, of a multiple of 16 bytes, and returns the exclusive or of the words that each invocation has read, as
// words: (1, kernels.Stretch.Words).
func (b *Builder) Digest(s vk.Span) *Tensor {
	shape := kernels.Stretch{Units: int(s.Size / 16)}
	out := b.tensor(1, shape.Words())
	launch(b, &kernels.Digest, shape, kernels.RowMajor, &node{weightBytes: s.Size, minimumBytes: s.Size}, readSpan(s), write(out))
	return out
}

// Prefetch reads memory, of a multiple of 16 bytes, and adds to the word of found as kernels.Prefetch says.
func (b *Builder) Prefetch(s, found vk.Span) {
	n, err := b.m.prefetch(s, found)
	if err != nil {
		b.Fail("%w", err)
		return
	}
	b.add(n)
}

// prefetch is a dispatch that reads memory, of a multiple of 16 bytes, and counts in a word what there is not (kernels.Prefetch).
func (m *Manager) prefetch(memory, sink vk.Span) (*node, error) {
	shape := kernels.Ahead{Stretch: kernels.Stretch{Units: int(memory.Size / 16)}}
	variant, k := pick(m, &kernels.Prefetch, shape, kernels.RowMajor)
	n := &node{weightBytes: memory.Size, dispatches: 1, binds: []bind{readSpan(memory), {span: sink, access: vk.ReadWrite, view: kernels.Storage}}}
	setKernel(n, m, &kernels.Prefetch, variant, k, shape)
	return n, n.match(m.variants[variant])
}

// Peak does arithmetic on memory, of kernels.Burst.Units, and returns what it leaves, as words: (1, kernels.Burst.Words). The
// kernel is that of the Manager's forced path.
func (b *Builder) Peak(s vk.Span, burst kernels.Burst) *Tensor {
	_, k := pick(b.m, &kernels.Peak, burst, kernels.RowMajor)
	out := b.tensor(1, burst.Words(b.m.machine, k.Path.Arithmetic()))
	launch(b, &kernels.Peak, burst, kernels.RowMajor, &node{}, readSpan(s), write(out))
	return out
}

// Advance ends a plan of one token: the largest of logits, (1, n), the lowest id among equals,
// becomes the token of the next step, one position on. Plan.Chosen reads it.
func (b *Builder) Advance(logits *Tensor) {
	pairs, tiles := b.tileBest(logits, 1)
	b.advance(pairs, tiles, 1)
}

// AdvanceDraw is Advance with a token that is drawn from the TopLogits largest logits as
// Step.Draw says. Plan.Chosen reads both.
func (b *Builder) AdvanceDraw(logits *Tensor) {
	b.advance(b.TopK(logits, TopLogits), TopLogits, TopLogits+1)
}

func (b *Builder) advance(pairs *Tensor, n, log int) {
	if b.tokens != 1 || b.log > 0 {
		b.Fail("advance: a plan of %d tokens, which chooses tokens already: %t; one token and once are possible", b.tokens, b.log > 0)
	}
	b.log = log
	launch(b, &kernels.Advance, kernels.Choice{N: n, Draw: log > 1}, kernels.RowMajor, &node{},
		bind{buffer: stepBuffer, access: vk.ReadWrite, view: kernels.Storage}, read(pairs),
		bind{buffer: drawBuffer, access: vk.Read, view: kernels.Storage}, bind{buffer: logBuffer, access: vk.Write, view: kernels.Storage})
}

// Draw chooses a token for each row of logits, which are those of a step's rows of results, from its TopLogits largest
// as Step.Draws says: at most MaxSequences rows. Plan.Chosen reads both. The step stays as it is.
func (b *Builder) Draw(logits *Tensor) {
	if b.log > 0 || logits.Rows > MaxSequences {
		b.Fail("draw: %d rows of logits in a plan that chooses tokens already: %t; %d and once are possible", logits.Rows, b.log > 0, MaxSequences)
	}
	pairs := b.TopK(logits, TopLogits)
	b.log, b.draws = TopLogits+1, logits.Rows
	launch(b, &kernels.Draw, kernels.Rows{Name: "draw", Rows: logits.Rows}, kernels.RowMajor, &node{}, stepBind(), read(pairs),
		bind{buffer: drawBuffer, access: vk.Read, view: kernels.Storage}, bind{buffer: logBuffer, access: vk.Write, view: kernels.Storage})
}

// Adjust changes logits, which have a row for each row of results of a step, as Step.Adjust says: at most MaxSequences
// rows. A soft cap comes before it. A plan has at most one.
func (b *Builder) Adjust(logits *Tensor) {
	b.adjusts("adjust", &b.adjusted, logits)
	shape := kernels.Rows{Name: "adjust", Rows: logits.Rows, Cols: logits.Cols}
	launch(b, &kernels.Adjust, shape, kernels.RowMajor, &node{}, bind{buffer: adjustBuffer, access: vk.Read, view: kernels.Storage}, readWrite(logits))
}

// Allow makes what follows find the largest logits, of Adjust's rows, among those that Adjust.Allowed has. It takes no
// dispatch: the search skips the others. A plan has at most one.
func (b *Builder) Allow(logits *Tensor) {
	b.adjusts("allow", &b.masked, logits)
	logits.masked = true
}

func (b *Builder) adjusts(what string, before **Tensor, logits *Tensor) {
	if *before != nil || logits.Rows > MaxSequences {
		b.Fail("%s: %d rows of logits, some before: %t; %d and once are possible", what, logits.Rows, *before != nil, MaxSequences)
	}
	*before = logits
}
