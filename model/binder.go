package model

import (
	"context"
	"fmt"
	"math"

	"pumice/internal/dtype"
	"pumice/pipeline"
)

// A binder describes the weights of a range of layers: it finds their tensors, and notes in Weights how each parameter
// will be loaded and how many bytes it takes. Nothing is allocated, and no weight is read.
type binder struct {
	tensors
	m        *pipeline.Manager
	opts     *Options
	adapters adapters
	w        *Weights

	warnedRequantised bool // the log says that adapted matrices are quantised again
}

// bind describes the weights of a range of layers for the device of m.
func (l *loading) bind(m *pipeline.Manager, layers layerRange) (*Weights, error) {
	w := &Weights{layerRange: layers}
	b := &binder{tensors: newTensors(l.file, l.cfg), m: m, opts: &l.opts, adapters: l.adapters, w: w}
	cfg, n := l.cfg, l.cfg.names
	if layers.hasEmbedding() || layers.hasHead(cfg) && cfg.TieWordEmbeddings {
		embed := tensorRows{name: n.Embed, module: cfg.modules.Embed, rows: cfg.VocabSize}
		w.Embed = b.matrix(n.Embed, cfg.HiddenSize, embed)
	}
	if layers.hasEmbedding() && cfg.LearnedPositions {
		w.Positions = b.learnedPositions()
	}
	for i := layers.first; i < layers.end && b.err == nil; i++ {
		w.Layers = append(w.Layers, b.layer(i))
	}
	if layers.hasHead(cfg) {
		w.FinalNorm = b.norm(n.inputNorm(cfg.NumHiddenLayers, cfg.NumHiddenLayers))
		w.LMHead = b.head()
	}
	b.tables()
	if layers.hasHead(cfg) { // the ranges before it have taken their modules
		b.checkAdapters()
	}
	if layers == cfg.allLayers() {
		b.warnUnused()
	}
	if b.err != nil {
		return nil, b.err
	}
	return w, nil
}

// head is the matrix that gives the logits; an encoder has none.
func (b *binder) head() *pipeline.Matrix {
	c, name := b.cfg, b.cfg.names.LMHead
	head := tensorRows{name: name, module: c.modules.LMHead, rows: c.VocabSize}
	switch {
	case c.Encoder:
		return nil
	case c.TieWordEmbeddings:
		b.used[name+".weight"] = true // some writers store it a second time
		return b.w.Embed
	case c.NormalizedHead:
		raw := b.source(head, c.HiddenSize)
		if raw == nil {
			return nil
		}
		unit := unitRows(raw)
		types := []pipeline.Band{{DType: b.target(raw), Rows: head.rows}}
		return b.add(name, raw.Cols, types, []*source{unit}, func(r int) (*source, int) { return unit, r })
	}
	return b.matrix(name, c.HiddenSize, head)
}

func (b *binder) layer(i int) Layer {
	c, n := b.cfg, b.cfg.names
	prefix, t := fmt.Sprintf(n.Layer, i), c.layerTensors(i)
	input := n.inputNorm(i, c.NumHiddenLayers)
	l := Layer{InputNorm: b.norm(input), fit: &cacheFit{}}
	b.attention(&l, prefix, input, t)
	b.mlp(&l, prefix, t)
	if c.PostNorms {
		l.AttnPostNorm, l.MLPPostNorm = b.norm(prefix+n.AttnPostNorm), b.norm(prefix+n.MLPPostNorm)
	}
	return l
}

// attention notes the projections of a layer's attention and the norms of its heads, with the powers of two that keep
// its keys and values within the cache's type. input is the name of the norm before.
func (b *binder) attention(l *Layer, prefix, input string, t layerTensors) {
	c, n, fit := b.cfg, b.cfg.names, l.fit
	fit.gains = func() ([]float32, error) { return b.gains(input+".weight", c.HiddenSize) }
	if c.NormBias {
		fit.normBias = func() ([]float32, error) { return b.floats(input+".bias", c.HiddenSize) }
	}
	l.QKV = b.matrix(prefix+"qkv", c.HiddenSize, t.qkv...)
	if fit.qkv = b.scaleLast(func(row int) int { return fit.exponent(c, row) }); fit.qkv != nil {
		fit.qkv.Finite = c.ClipQKV > 0 || c.AttnLogitSoftcapping > 0 // kernels clamp an infinity and a NaN too
	}
	l.OProj = b.matrix(t.o.name, c.NumAttentionHeads*c.HeadDim, t.o)
	fit.o = b.scaleLast(func(int) int { return fit.values })
	if c.QKNorm {
		q, k := prefix+n.QNorm+".weight", prefix+n.KNorm+".weight"
		fit.queryGains = func() ([]float32, error) { return b.gains(q, c.HeadDim) }
		fit.keyGains = func() ([]float32, error) { return b.gains(k, c.HeadDim) }
		l.QNorm = b.vector(c.HeadDim, fit.queryGains, q)
		l.KNorm = b.vector(c.HeadDim, scaledValues(fit.keyGains, func(int) int { return -fit.keys }), k)
	}
	if c.QKVBias {
		fit.bias = func() ([]float32, error) { return b.biases(t.qkv...) }
		l.QKVBias = b.bias(scaledValues(fit.bias, func(row int) int { return fit.exponent(c, row) }), t.qkv...)
	}
	if c.OBias {
		l.OBias = b.bias(func() ([]float32, error) { return b.biases(t.o) }, t.o)
	}
}

// mlp notes the projections of a layer's MLP and its norm.
func (b *binder) mlp(l *Layer, prefix string, t layerTensors) {
	c := b.cfg
	l.DownProj = b.matrix(t.down.name, c.IntermediateSize, t.down)
	if c.PlainMLP {
		l.GateUp = b.matrix(t.up.name, c.HiddenSize, t.up)
	} else {
		l.GateUp = b.alternating(prefix+"gate_up", c.HiddenSize, t.gate, t.up)
	}
	if !c.Parallel {
		l.MLPNorm = b.norm(prefix + c.names.MLPNorm)
	}
	if !c.MLPBias {
		return
	}
	l.DownBias = b.bias(func() ([]float32, error) { return b.biases(t.down) }, t.down)
	if c.PlainMLP {
		l.GateUpBias = b.bias(func() ([]float32, error) { return b.biases(t.up) }, t.up)
	} else {
		l.GateUpBias = b.bias(func() ([]float32, error) { return b.alternatingBiases(t.gate, t.up) }, t.gate, t.up)
	}
}

// source finds rows of a matrix, with what adapters add to them. It returns nil after an error.
func (b *binder) source(t tensorRows, cols int) *source {
	s := b.find(t, cols)
	if s != nil {
		b.adapt(s, t)
	}
	return s
}

// target is the type a matrix is kept in on the device.
func (b *binder) target(s *source) dtype.DType {
	if b.opts.DType == dtype.Invalid {
		return s.stored
	}
	return b.opts.DType.ForRow(s.Cols)
}

// matrix notes a matrix of the given rows, one tensor under another. Where types differ it has rows of several types.
func (b *binder) matrix(name string, cols int, stacked ...tensorRows) *pipeline.Matrix {
	var sources []*source
	var types []pipeline.Band
	var first []int
	rows := 0
	for _, t := range stacked {
		s := b.source(t, cols)
		if s == nil {
			return nil
		}
		sources = append(sources, s)
		first = append(first, rows)
		rows += t.rows
		if t := b.target(s); len(types) > 0 && types[len(types)-1].DType == t {
			types[len(types)-1].Rows += s.Rows
		} else {
			types = append(types, pipeline.Band{DType: t, Rows: s.Rows})
		}
	}
	return b.add(name, cols, types, sources, func(r int) (*source, int) {
		i := len(first) - 1
		for first[i] > r {
			i--
		}
		return sources[i], r - first[i]
	})
}

// alternating notes a matrix of two tensors of one shape, their rows in turn: row 2i is even's, 2i + 1 odd's.
func (b *binder) alternating(name string, cols int, even, odd tensorRows) *pipeline.Matrix {
	e, o := b.source(even, cols), b.source(odd, cols)
	if e == nil || o == nil {
		return nil
	}
	t := b.target(e)
	if u := b.target(o); u != t {
		b.opts.Logger.Warn().Str("tensor", e.Name).Stringer("type", t).Stringer("other", u).
			Msg("gate and up differ in type; both are kept as F16")
		t = dtype.F16
	}
	sources := []*source{e, o}
	return b.add(name, cols, []pipeline.Band{{DType: t, Rows: 2 * even.rows}}, sources, func(r int) (*source, int) {
		return sources[r%2], r / 2
	})
}

// add notes a matrix whose row r is the row of the source that at returns.
func (b *binder) add(
	name string, cols int, types []pipeline.Band, sources []*source, at func(r int) (*source, int),
) *pipeline.Matrix {
	if b.err != nil {
		return nil
	}
	x, err := b.m.NewMatrix(name, types, cols)
	if err != nil {
		b.err = fmt.Errorf("model: %s: %w", b.file.Path(), err)
		return nil
	}
	b.w.bytes += x.DeviceBytes()
	for _, shard := range x.Shards {
		b.w.countType(shard, b.opts.DType)
	}
	var updates []*update
	for _, s := range sources {
		b.w.read += int64(s.Rows) * s.DType.RowBytes(s.Cols)
		updates = append(updates, s.updates...)
	}
	f := &pipeline.Fill{Matrix: x, At: func(r int) (*pipeline.RowSource, int) {
		s, row := at(r)
		return &s.RowSource, row
	}}
	if len(updates) > 0 {
		f.Begin = func(ctx context.Context) error { return openAll(ctx, updates) }
		f.End = func() { closeAll(updates) }
	}
	b.w.matrices = append(b.w.matrices, f)
	return x
}

// scaleLast has the rows of the matrix that was noted last multiplied by powers of two while they are loaded, and
// returns what fills it; nil after an error.
func (b *binder) scaleLast(exponent func(row int) int) *pipeline.Fill {
	if b.err != nil {
		return nil
	}
	f := b.w.matrices[len(b.w.matrices)-1]
	f.Exponent = exponent
	return f
}

// norm notes the weights and the bias of a normalisation over the hidden size.
func (b *binder) norm(name string) *pipeline.Norm {
	c, weight, bias := b.cfg, name+".weight", name+".bias"
	n := &pipeline.Norm{Layer: c.LayerNorm, Eps: c.NormEps}
	n.Weights = b.vector(c.HiddenSize, func() ([]float32, error) { return b.gains(weight, c.HiddenSize) }, weight)
	if c.NormBias {
		n.Bias = b.vector(c.HiddenSize, func() ([]float32, error) { return b.floats(bias, c.HiddenSize) }, bias)
	}
	return n
}

// bias notes the biases of projections, which read returns.
func (b *binder) bias(read func() ([]float32, error), projections ...tensorRows) *pipeline.Vector {
	n := 0
	var names []string
	for _, p := range projections {
		n += p.rows
		names = append(names, p.name+".bias")
	}
	return b.vector(n, read, names...)
}

// scaledValues is read with value i times 2^exponent(i).
func scaledValues(read func() ([]float32, error), exponent func(i int) int) func() ([]float32, error) {
	return func() ([]float32, error) {
		f, err := read()
		for i, v := range f {
			f[i] = float32(math.Ldexp(float64(v), exponent(i)))
		}
		return f, err
	}
}

// vector notes a vector of n values, which read returns when it is loaded. The tensors must be there; the first one
// names the vector.
func (b *binder) vector(n int, read func() ([]float32, error), tensors ...string) *pipeline.Vector {
	for _, t := range tensors {
		b.used[t] = true
		if _, ok := b.file.Tensor(t); !ok {
			b.fail("tensor %q is missing", t)
		}
	}
	if b.err != nil {
		return nil
	}
	v := b.w.noteVector(tensors[0], n, read)
	b.w.bytes += vectorBytes(v)
	return v
}

// learnedPositions notes the vectors of the context's positions.
func (b *binder) learnedPositions() *pipeline.Vector {
	c, n := b.cfg, b.opts.Context
	b.w.tableDim = c.HiddenSize
	read := func() ([]float32, error) { return b.positions(n) }
	return b.vector(n*c.HiddenSize, read, c.names.Positions+".weight", c.names.TokenTypes+".weight")
}

// tables notes what is computed rather than read: rotary angles of the cache's positions, ALiBi's slopes.
func (b *binder) tables() {
	c, w := b.cfg, b.w
	w.RopeTable = b.ropeTable("rope table", &c.Rope)
	if c.LocalRope != nil {
		w.LocalRopeTable = b.ropeTable("local rope table", c.LocalRope)
	}
	if c.ALiBiMaxBias > 0 {
		slopes := func() ([]float32, error) { return c.alibiSlopes(), nil }
		w.Slopes = w.noteVector("alibi slopes", c.NumAttentionHeads, slopes)
		w.tableBytes += vectorBytes(w.Slopes)
	}
}

func (b *binder) ropeTable(name string, r *Rope) *pipeline.Vector {
	positions := b.opts.Context
	b.used[r.Scaling.Tensor] = true
	b.w.tableDim = max(b.w.tableDim, r.Dim)
	// Where no component rotates the binding still needs memory.
	v := b.w.noteVector(name, max(r.Dim*positions, 1), func() ([]float32, error) {
		divisors, err := b.ropeDivisors(r)
		if err != nil || r.Dim == 0 {
			return []float32{0}, err
		}
		return r.ropeTable(positions, divisors), nil
	})
	b.w.tableBytes += vectorBytes(v)
	return v
}

// warnUnused logs the names of tensors that the model does not have.
func (b *binder) warnUnused() {
	if names := b.unused(); len(names) > 0 {
		b.opts.Logger.Warn().Int("count", len(names)).Strs("tensors", names[:min(len(names), 8)]).
			Msg("the checkpoint has tensors that the model does not use")
	}
}
