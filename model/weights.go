package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// Weights is a model's parameters on the device. Until load has run they have shapes only.
type Weights struct {
	Embed          *pipeline.Matrix // (VocabSize, HiddenSize)
	FinalNorm      *pipeline.Norm   // (HiddenSize)
	LMHead         *pipeline.Matrix // (VocabSize, HiddenSize); Embed itself when tied
	RopeTable      *pipeline.Vector // (context, Rope.Dim / 2, 2) cos and sin
	LocalRopeTable *pipeline.Vector // the same of Config.LocalRope, nil if there is none
	Slopes         *pipeline.Vector // (heads) of ALiBi, nil without
	Layers         []Layer

	span       span                             // of layers that Layers are; Embed is of the first layer's span, FinalNorm and LMHead of the last one's
	vectors    []func(l *pipeline.Loader) error // each allocates and fills one
	matrices   []*pipeline.Fill
	bytes      int64 // of the checkpoint's tensors, on the device
	types      []TypeShare
	tableBytes int64 // of tables that are computed
	ropeDim    int   // components of a position in the largest table of rotary angles
	read       int64 // of the checkpoint's tensors, in the checkpoint
}

// A Layer is the parameters of one decoder layer. Norms and biases are nil where the family
// has none.
type Layer struct {
	InputNorm    *pipeline.Norm   // (HiddenSize)
	QKV          *pipeline.Matrix // ((heads + 2 kv heads) * HeadDim, HiddenSize)
	QKVBias      *pipeline.Vector
	QNorm, KNorm *pipeline.Vector // (HeadDim)
	OProj        *pipeline.Matrix // (HiddenSize, heads * HeadDim)
	OBias        *pipeline.Vector
	AttnPostNorm *pipeline.Norm   // (HiddenSize)
	MLPNorm      *pipeline.Norm   // (HiddenSize)
	GateUp       *pipeline.Matrix // (2 * IntermediateSize, HiddenSize), rows alternate; a plain MLP's (IntermediateSize, HiddenSize)
	GateUpBias   *pipeline.Vector
	DownProj     *pipeline.Matrix // (HiddenSize, IntermediateSize)
	DownBias     *pipeline.Vector
	MLPPostNorm  *pipeline.Norm // (HiddenSize)

	fit *cacheFit // of its keys and values
}

// A binder finds tensors, checks them against the configuration, and notes how each
// parameter will be loaded. Its first error sticks.
type binder struct {
	m        *pipeline.Manager
	c        *checkpoint.Checkpoint
	cfg      *Config
	adapters adapters
	dtype    dtype.DType // to convert matrices to; Invalid keeps theirs
	log      zerolog.Logger
	used     map[string]bool
	w        *Weights
	err      error

	requantised bool // an adapter made it so, and the log says it
}

// A span is the layers of a model, from first to before end, that one device has.
type span struct{ first, end int }

// whole is the span of all layers.
func (c *Config) whole() span { return span{0, c.NumHiddenLayers} }

func (s span) begins() bool        { return s.first == 0 }
func (s span) ends(c *Config) bool { return s.end == c.NumHiddenLayers }
func (s span) layers() int         { return s.end - s.first }

// bind describes the weights of a span of a checkpoint without allocating or reading them.
func bind(m *pipeline.Manager, c *checkpoint.Checkpoint, cfg *Config, a adapters, o *Options, at span) (*Weights, error) {
	b := &binder{m: m, c: c, cfg: cfg, adapters: a, dtype: o.DType, log: o.Logger, used: map[string]bool{}, w: &Weights{span: at}}
	n := cfg.names
	w := b.w
	embed := part{name: n.Embed, hf: cfg.modules.Embed, rows: cfg.VocabSize}
	head := part{name: n.LMHead, hf: cfg.modules.LMHead, rows: cfg.VocabSize}
	if at.begins() || at.ends(cfg) && cfg.TieWordEmbeddings {
		w.Embed = b.matrix(n.Embed, cfg.HiddenSize, embed)
	}
	for i := at.first; i < at.end && b.err == nil; i++ {
		w.Layers = append(w.Layers, b.layer(i))
	}
	if at.ends(cfg) {
		w.FinalNorm = b.norm(n.FinalNorm)
	}
	switch {
	case !at.ends(cfg):
	case cfg.TieWordEmbeddings:
		b.used[n.LMHead+".weight"] = true // stored again by some writers
		w.LMHead = w.Embed
	case cfg.NormalizedHead:
		w.LMHead = b.normalizedHead(head)
	default:
		w.LMHead = b.matrix(n.LMHead, cfg.HiddenSize, head)
	}
	b.tables(o.Context)
	if at.ends(cfg) { // the spans before have had their modules
		b.checkAdapters()
	}
	if at == cfg.whole() {
		b.warnUnused()
	}
	if b.err != nil {
		return nil, b.err
	}
	return w, nil
}

// A part is rows of a tensor, whose name is without suffix.
type part struct {
	name  string
	first int // row of the tensor that is row 0 of the part
	rows  int
	of    int // rows of the whole tensor; 0 = first + rows

	// Where a Hugging Face directory has these rows, which adapters go by.
	hf      string
	hfFirst int // row of that tensor which is this one's row 0
	hfRows  int // of that tensor; 0 = as many as this one
	// permuted is the size of heads whose rows j and j + permuted/2 there lie side by side here;
	// 0 = the order is the same.
	permuted int
}

func (p part) tensorRows() int { return cmp.Or(p.of, p.first+p.rows) }

// module is the tensor of the Hugging Face directory, and its rows.
func (p part) module() (name string, rows int) { return p.hf, cmp.Or(p.hfRows, p.tensorRows()) }

// moduleRow is the row of the module that is row i of the part.
func (p part) moduleRow(i int) int {
	return p.hfFirst + paired(p.first+i, p.permuted)
}

// paired is the place, where rotation pairs halves of heads of size d, of what is row r where it
// pairs neighbours; r itself where d is 0.
func paired(r, d int) int {
	if d == 0 {
		return r
	}
	in := r % d
	return r + in%2*(d/2) + in/2 - in
}

// layerParts are the projections of a layer in the checkpoint: q, k and v or one that holds them,
// and gate and up, each as rows of one tensor or of their own.
type layerParts struct {
	qkv               []part
	o, gate, up, down part
}

func (b *binder) parts(i int) layerParts {
	c, n, hf := b.cfg, b.cfg.names, b.cfg.modules
	prefix, hfPrefix := fmt.Sprintf(n.Layer, i), fmt.Sprintf(hf.Layer, i)
	at := func(name, module string, rows int) part {
		return part{name: prefix + name, hf: hfPrefix + module, rows: rows}
	}
	heads, kvHeads, inner := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim, c.IntermediateSize
	qkv := []part{at(n.QProj, hf.QProj, heads), at(n.KProj, hf.KProj, kvHeads), at(n.VProj, hf.VProj, kvHeads)}
	if c.permutedQK {
		qkv[0].permuted, qkv[1].permuted = c.HeadDim, c.HeadDim
	}
	switch {
	case n.QKVProj != "":
		qkv = []part{at(n.QKVProj, hf.QKVProj, heads+2*kvHeads)}
	case hf.QKVProj != "": // fused there, apart here
		first := 0
		for i := range qkv {
			qkv[i].hf, qkv[i].hfFirst, qkv[i].hfRows = hfPrefix+hf.QKVProj, first, heads+2*kvHeads
			first += qkv[i].rows
		}
	}
	gate, up := at(n.GateProj, hf.GateProj, inner), at(n.UpProj, hf.UpProj, inner)
	if n.GateUpProj != "" {
		gate = at(n.GateUpProj, hf.GateUpProj, inner)
		up = gate
		gate.of, up.first = 2*inner, inner
	}
	return layerParts{qkv, at(n.OProj, hf.OProj, c.HiddenSize), gate, up, at(n.DownProj, hf.DownProj, c.HiddenSize)}
}

func (b *binder) layer(i int) Layer {
	c, n, inner := b.cfg, b.cfg.names, b.cfg.IntermediateSize
	prefix := fmt.Sprintf(n.Layer, i)
	p := b.parts(i)
	qkv, o, gate, up, down := p.qkv, p.o, p.gate, p.up, p.down
	r := &cacheFit{gains: func() ([]float32, error) { return b.gains(prefix+n.InputNorm+".weight", c.HiddenSize) }}
	if c.NormBias {
		r.normBias = func() ([]float32, error) { return b.floats(prefix+n.InputNorm+".bias", c.HiddenSize) }
	}
	l := Layer{
		InputNorm: b.norm(prefix + n.InputNorm),
		QKV:       b.matrix(prefix+"qkv", c.HiddenSize, qkv...),
		fit:       r,
	}
	if r.qkv = b.scaled(func(row int) int { return r.exponent(c, row) }); r.qkv != nil {
		r.qkv.Finite = c.ClipQKV > 0 || c.AttnLogitSoftcapping > 0 // kernels clamp an infinity and a NaN too
	}
	l.OProj = b.matrix(o.name, c.NumAttentionHeads*c.HeadDim, o)
	r.o = b.scaled(func(int) int { return r.values })
	l.DownProj = b.matrix(down.name, inner, down)
	if c.PlainMLP {
		l.GateUp = b.matrix(up.name, c.HiddenSize, up)
	} else {
		l.GateUp = b.alternating(prefix+"gate_up", c.HiddenSize, gate, up)
	}
	if !c.Parallel {
		l.MLPNorm = b.norm(prefix + n.MLPNorm)
	}
	if c.PostNorms {
		l.AttnPostNorm, l.MLPPostNorm = b.norm(prefix+n.AttnPostNorm), b.norm(prefix+n.MLPPostNorm)
	}
	if c.QKNorm {
		q, k := prefix+n.QNorm+".weight", prefix+n.KNorm+".weight"
		r.queryGains = func() ([]float32, error) { return b.gains(q, c.HeadDim) }
		r.keyGains = func() ([]float32, error) { return b.gains(k, c.HeadDim) }
		l.QNorm = b.vector(q, c.HeadDim)
		l.KNorm = b.values(k, c.HeadDim, scaledValues(r.keyGains, func(int) int { return -r.keys }), k)
	}
	if c.QKVBias {
		r.bias = b.biases(qkv)
		l.QKVBias = b.bias(scaledValues(r.bias, func(row int) int { return r.exponent(c, row) }), qkv...)
	}
	if c.OBias {
		l.OBias = b.bias(b.biases([]part{o}), o)
	}
	if c.MLPBias {
		l.DownBias = b.bias(b.biases([]part{down}), down)
		if c.PlainMLP {
			l.GateUpBias = b.bias(b.biases([]part{up}), up)
		} else {
			l.GateUpBias = b.alternatingBias(gate, up)
		}
	}
	return l
}

// scaled multiplies the rows of the matrix that was noted last by powers of two, and returns what fills it.
func (b *binder) scaled(exponent func(row int) int) *pipeline.Fill {
	if b.err != nil {
		return nil
	}
	f := b.w.matrices[len(b.w.matrices)-1]
	f.Exponent = exponent
	return f
}

func (b *binder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = &ConfigError{File: b.c.Path(), Msg: fmt.Sprintf(format, args...)}
	}
}

// source finds a matrix and checks its shape and type.
func (b *binder) source(p part, cols int) *source {
	name := p.name + ".weight"
	t, ok := b.c.Tensor(name)
	b.used[name] = true
	switch {
	case !ok:
		b.fail("tensor %q is missing", name)
		return nil
	case len(t.Shape) != 2 || t.Rows() != p.tensorRows() || t.Cols() != cols:
		b.fail("tensor %q has shape %v, want [%d %d]", name, t.Shape, p.tensorRows(), cols)
		return nil
	case !slices.Contains(kernels.WeightTypes(), t.DType):
		b.fail("tensor %q has type %s; supported: %v", name, t.TypeName(), kernels.WeightTypes())
		return nil
	}
	row := func(i int, scratch []byte) []byte { return t.Row(p.first+i, scratch) }
	s := &source{Source: pipeline.Source{Name: name, DType: t.DType, Rows: p.rows, Cols: cols, Row: row}, stored: t.DType}
	s.Prefetch = func(first, n int) { t.Prefetch(p.first+first, n) }
	b.adapt(s, p)
	return s
}

// target is the type a matrix is kept in on the device.
func (b *binder) target(s *source) dtype.DType {
	if b.dtype == dtype.Invalid {
		return s.stored
	}
	return b.dtype.ForRow(s.Cols)
}

// matrix is the given tensors one under another.
func (b *binder) matrix(name string, cols int, parts ...part) *pipeline.Matrix {
	var sources []*source
	var runs []pipeline.Run
	var first []int
	rows := 0
	for _, p := range parts {
		s := b.source(p, cols)
		if s == nil {
			return nil
		}
		sources = append(sources, s)
		first = append(first, rows)
		rows += p.rows
		if t := b.target(s); len(runs) > 0 && runs[len(runs)-1].DType == t {
			runs[len(runs)-1].Rows += p.rows
		} else {
			runs = append(runs, pipeline.Run{DType: t, Rows: p.rows})
		}
	}
	return b.add(name, cols, runs, sources, func(r int) (*source, int) {
		i := len(first) - 1
		for first[i] > r {
			i--
		}
		return sources[i], r - first[i]
	})
}

// alternating is two tensors of one shape, their rows in turn: row 2i is even's, 2i + 1 odd's.
func (b *binder) alternating(name string, cols int, even, odd part) *pipeline.Matrix {
	e, o := b.source(even, cols), b.source(odd, cols)
	if e == nil || o == nil {
		return nil
	}
	t := b.target(e)
	if u := b.target(o); u != t {
		b.log.Warn().Str("tensor", e.Name).Stringer("type", t).Stringer("other", u).Msg("gate and up differ in type; both are kept as F16")
		t = dtype.F16
	}
	sources := []*source{e, o}
	return b.add(name, cols, []pipeline.Run{{DType: t, Rows: 2 * even.rows}}, sources, func(r int) (*source, int) {
		return sources[r%2], r / 2
	})
}

// add notes a matrix whose row r is the row of the source that at names.
func (b *binder) add(name string, cols int, runs []pipeline.Run, sources []*source, at func(r int) (*source, int)) *pipeline.Matrix {
	if b.err != nil {
		return nil
	}
	x, err := b.m.NewMatrix(name, runs, cols)
	if err != nil {
		b.err = fmt.Errorf("model: %s: %w", b.c.Path(), err)
		return nil
	}
	b.w.bytes += x.DeviceBytes()
	for _, p := range x.Parts {
		b.w.share(p, b.dtype)
	}
	for _, s := range sources {
		b.w.read += int64(s.Rows) * s.DType.RowBytes(s.Cols)
	}
	f := &pipeline.Fill{Matrix: x, At: func(r int) (*pipeline.Source, int) {
		s, row := at(r)
		return &s.Source, row
	}}
	var updates []*update
	for _, s := range sources {
		updates = append(updates, s.updates...)
	}
	if len(updates) > 0 {
		f.Begin = func(ctx context.Context) error {
			for _, u := range updates {
				if err := u.open(ctx); err != nil {
					return err
				}
			}
			return nil
		}
		f.End = func() {
			for _, u := range updates {
				u.close()
			}
		}
	}
	b.w.matrices = append(b.w.matrices, f)
	return x
}

// share counts a part of a matrix among those of its type; wanted is Options.DType.
func (w *Weights) share(p *pipeline.Part, wanted dtype.DType) {
	s := TypeShare{Type: p.DType.String(), Bytes: p.DeviceBytes()}
	if wanted != dtype.Invalid && wanted != p.DType {
		s.Instead = wanted.String()
	}
	w.types = addShare(w.types, s)
}

// normalizedHead is the head with every row divided by its length, at least 1e-12
// (Baichuan 2's NormHead), which its writers leave to the reader.
func (b *binder) normalizedHead(p part) *pipeline.Matrix {
	raw := b.source(p, b.cfg.HiddenSize)
	if raw == nil {
		return nil
	}
	unit := unitRows(raw)
	runs := []pipeline.Run{{DType: b.target(raw), Rows: p.rows}}
	return b.add(p.name, raw.Cols, runs, []*source{unit}, func(r int) (*source, int) { return unit, r })
}

// unitRows is a source with every row divided by its length.
func unitRows(raw *source) *source {
	unit := *raw
	unit.DType = dtype.F32
	unit.Row = func(i int, _ []byte) []byte {
		values := make([]float32, raw.Cols)
		raw.DType.Decode(values, raw.Row(i, nil))
		sum := 0.0
		for _, v := range values {
			sum += float64(v) * float64(v)
		}
		length := max(math.Sqrt(sum), 1e-12)
		for j, v := range values {
			values[j] = float32(float64(v) / length)
		}
		out := make([]byte, 4*len(values))
		dtype.F32.Encode(out, values)
		return out
	}
	return &unit
}

// norm is the weights of a normalisation over the hidden size.
func (b *binder) norm(name string) *pipeline.Norm {
	c := b.cfg
	n := &pipeline.Norm{Layer: c.LayerNorm, Weights: b.vector(name+".weight", c.HiddenSize), Eps: c.NormEps}
	if c.NormBias {
		n.Bias = b.values(name+".bias", c.HiddenSize, func() ([]float32, error) { return b.floats(name+".bias", c.HiddenSize) }, name+".bias")
	}
	return n
}

// vector is the n weights of a norm, as gains.
func (b *binder) vector(name string, n int) *pipeline.Vector {
	return b.values(name, n, func() ([]float32, error) { return b.gains(name, n) }, name)
}

// gains reads the n weights of a norm.
func (b *binder) gains(name string, n int) ([]float32, error) {
	f, err := b.floats(name, n)
	if err == nil && b.cfg.NormPlusOne {
		for i := range f {
			f[i]++
		}
	}
	return f, err
}

// bias is the biases of the given projections, as read gives them.
func (b *binder) bias(read func() ([]float32, error), parts ...part) *pipeline.Vector {
	n := 0
	var names []string
	for _, p := range parts {
		n += p.rows
		names = append(names, p.name+".bias")
	}
	return b.values(names[0], n, read, names...)
}

// biases reads the biases of the given projections one after another.
func (b *binder) biases(parts []part) func() ([]float32, error) {
	return func() ([]float32, error) {
		var all []float32
		for _, p := range parts {
			f, err := b.floats(p.name+".bias", p.rows)
			if err != nil {
				return nil, err
			}
			all = append(all, f...)
		}
		return all, nil
	}
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

// alternatingBias is the biases of an alternating matrix.
func (b *binder) alternatingBias(even, odd part) *pipeline.Vector {
	return b.values(even.name+".bias", 2*even.rows, func() ([]float32, error) {
		e, err1 := b.floats(even.name+".bias", even.rows)
		o, err2 := b.floats(odd.name+".bias", odd.rows)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		all := make([]float32, 0, 2*len(e))
		for i := range e {
			all = append(all, e[i], o[i])
		}
		return all, nil
	}, even.name+".bias", odd.name+".bias")
}

// values notes a vector of n values that read will give; the tensors must be there.
func (b *binder) values(name string, n int, read func() ([]float32, error), tensors ...string) *pipeline.Vector {
	for _, t := range tensors {
		b.used[t] = true
		if _, ok := b.c.Tensor(t); !ok {
			b.fail("tensor %q is missing", t)
		}
	}
	if b.err != nil {
		return nil
	}
	v := &pipeline.Vector{Name: name, Cols: n}
	b.w.bytes += v.DeviceBytes()
	b.w.vectors = append(b.w.vectors, func(l *pipeline.Loader) error {
		f, err := read()
		if err != nil {
			return err
		}
		return l.Vector(v, f)
	})
	return v
}

// floats reads a vector of a checkpoint.
func (b *binder) floats(name string, n int) ([]float32, error) {
	t, ok := b.c.Tensor(name)
	if !ok {
		return nil, &ConfigError{File: b.c.Path(), Msg: fmt.Sprintf("tensor %q is missing", name)}
	}
	if len(t.Shape) != 1 || t.Cols() != n || !t.DType.Weight() || n%t.DType.BlockSize() != 0 {
		return nil, &ConfigError{File: b.c.Path(), Msg: fmt.Sprintf("tensor %q has shape %v and type %s, want [%d] floats", name, t.Shape, t.DType, n)}
	}
	out := make([]float32, n)
	err := checkpoint.Guard(func() error {
		t.DType.Decode(out, t.Row(0, nil))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, v := range out {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, &ConfigError{File: b.c.Path(), Msg: fmt.Sprintf("tensor %q: element %d is %v", name, i, v)}
		}
	}
	return out, nil
}

// tables notes what is computed rather than read: rotary angles of the cache's positions,
// ALiBi's slopes.
func (b *binder) tables(positions int) {
	c, w := b.cfg, b.w
	rope := func(name string, r *Rope) *pipeline.Vector {
		b.used[r.Scaling.Tensor] = true
		w.ropeDim = max(w.ropeDim, r.Dim)
		// Where no component rotates the binding still needs memory.
		return b.table(name, max(r.Dim*positions, 1), func() ([]float32, error) {
			divisors, err := b.ropeDivisors(r)
			if err != nil || r.Dim == 0 {
				return []float32{0}, err
			}
			return r.ropeTable(positions, divisors), nil
		})
	}
	w.RopeTable = rope("rope table", &c.Rope)
	if c.LocalRope != nil {
		w.LocalRopeTable = rope("local rope table", c.LocalRope)
	}
	if c.ALiBiMaxBias > 0 {
		w.Slopes = b.table("alibi slopes", c.NumAttentionHeads, func() ([]float32, error) { return c.alibiSlopes(), nil })
	}
}

func (b *binder) table(name string, n int, compute func() ([]float32, error)) *pipeline.Vector {
	v := &pipeline.Vector{Name: name, Cols: n}
	b.w.tableBytes += v.DeviceBytes()
	b.w.vectors = append(b.w.vectors, func(l *pipeline.Loader) error {
		f, err := compute()
		if err != nil {
			return err
		}
		return l.Vector(v, f)
	})
	return v
}

// ropeDivisors reads the tensor of scaling type "factors"; other types need none.
func (b *binder) ropeDivisors(r *Rope) ([]float32, error) {
	if r.Scaling.Tensor == "" {
		return nil, nil
	}
	divisors, err := b.floats(r.Scaling.Tensor, r.Dim/2)
	for i, d := range divisors {
		if !(d > 0) {
			return nil, &ConfigError{File: b.c.Path(), Msg: fmt.Sprintf("tensor %q: divisor %d is %v, must be positive", r.Scaling.Tensor, i, d)}
		}
	}
	return divisors, err
}

// ignored are tensors that old checkpoints carry and that are computed instead.
func ignored(name string) bool {
	const invFreq = "rotary_emb.inv_freq"
	return len(name) >= len(invFreq) && name[len(name)-len(invFreq):] == invFreq
}

// warnUnused names tensors that the family did not ask for.
func (b *binder) warnUnused() {
	var names []string
	for _, name := range b.c.Names() {
		if !b.used[name] && !ignored(name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		b.log.Warn().Int("count", len(names)).Strs("tensors", names[:min(len(names), 8)]).Msg("the checkpoint has tensors that the model does not use")
	}
}

// load reads, converts and uploads everything that bind noted.
func (w *Weights) load(ctx context.Context, l *pipeline.Loader) error {
	l.Guard = checkpoint.Guard
	var fills []pipeline.Fill
	for _, f := range w.matrices {
		fills = append(fills, *f)
	}
	if err := l.Matrices(ctx, fills...); err != nil {
		return err
	}
	for _, f := range w.vectors { // their pages came with the matrices'
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(l); err != nil {
			return err
		}
	}
	w.vectors, w.matrices = nil, nil
	return nil
}
