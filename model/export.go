package model

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
)

// An Export describes a checkpoint as a GGUF file that llama.cpp reads: names, order of rows and keys of its
// architecture. It is valid until its checkpoint is closed.
type Export struct {
	Architecture string // general.architecture
	VocabSize    int
	BOSTokenID   int // -1 when the checkpoint names none
	EOSTokenIDs  []int
	Pairs        []ggufwrite.KV // the architecture's keys for hyper-parameters; none for a GGUF checkpoint, which has them
	Tensors      []ExportTensor
	Notes        []string // limits of the file, for its user

	cfg *Config // that reading the file must return
}

// A Role says what a tensor is for, which decides the types it may be written in.
type Role int

const (
	AsStored   Role = iota // a norm, a bias or a table, written in its own type
	Matrix                 // a matrix of a layer
	Vocabulary             // a matrix with a row for each token: the embedding, the head
)

// An ExportTensor is a tensor to be written to a GGUF file.
type ExportTensor struct {
	Name  string
	Role  Role
	Shape []int       // outermost first
	DType dtype.DType // type of the rows: the checkpoint's, or F32 where they are computed

	// Row returns the bytes of row i, in scratch or in a slice of its own. Several goroutines may call it, each with its own
	// scratch.
	Row func(i int, scratch []byte) []byte
	// Prefetch asks the system to read rows first to first+n ahead; nil where there is nothing to read.
	Prefetch func(first, n int)
}

// Rows is the number of rows: the product of all dimensions but the last.
func (t *ExportTensor) Rows() int {
	n := 1
	for _, d := range t.Shape[:len(t.Shape)-1] {
		n *= d
	}
	return n
}

// Cols is the length of a row.
func (t *ExportTensor) Cols() int { return t.Shape[len(t.Shape)-1] }

// NewExport describes a checkpoint of a registered family as GGUF. Tensors of a GGUF checkpoint
// stay as they are; those of a directory get the names and the order of rows that llama.cpp's
// converter gives them.
func NewExport(c *checkpoint.Checkpoint) (*Export, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return nil, err
	}
	f, err := familyOf(c)
	if err != nil {
		return nil, err
	}
	x := &Export{VocabSize: cfg.VocabSize, BOSTokenID: cfg.BOSTokenID, EOSTokenIDs: cfg.EOSTokenIDs, cfg: cfg}
	if c.Metadata() != nil {
		x.Architecture = c.Metadata().String("general.architecture")
		return x, x.copyTensors(c)
	}
	target := f
	if f.WrittenAs != "" {
		i := slices.IndexFunc(families, func(g Family) bool { return g.Name == f.WrittenAs })
		target = &families[i]
	}
	x.Architecture = target.GGUF[0]
	x.expect(target)
	x.Pairs = x.pairs(target)
	e := &exporter{tensors: newTensors(c, cfg), x: x, names: target.ggufNames(), permuted: target.PermutedQK}
	e.model()
	if e.err != nil {
		return nil, e.err
	}
	return x, nil
}

// copyTensors adds the tensors of a GGUF checkpoint as they are.
func (x *Export) copyTensors(c *checkpoint.Checkpoint) error {
	for _, name := range c.Names() {
		t, _ := c.Tensor(name)
		if t.NumElements() == 0 || t.DType.BlockSize() == 0 {
			return &ConfigError{File: c.Path(), Msg: fmt.Sprintf("tensor %q has shape %v and type %s, which cannot be written", name, t.Shape, t.TypeName())}
		}
		out := ExportTensor{Name: name, Shape: t.Shape, DType: t.DType, Row: t.Row, Prefetch: t.Prefetch}
		switch {
		case len(t.Shape) == 0:
			out.Shape = []int{1}
		case len(t.Shape) != 2 || !strings.HasSuffix(name, ".weight"):
		case name == ggufNames.Embed+".weight" || name == ggufNames.LMHead+".weight":
			out.Role = Vocabulary
		default:
			out.Role = Matrix
		}
		x.Tensors = append(x.Tensors, out)
	}
	return nil
}

// expect turns cfg into what reading a file of the target's architecture gives, and notes where
// that is less than the checkpoint has.
func (x *Export) expect(target *Family) {
	c := *x.cfg
	c.NormPlusOne, c.NormalizedHead = false, false // done to the weights
	c.Rope.Interleaved = c.Rope.Interleaved || target.PermutedQK
	if c.Rope.Scaling.Type == "llama3" {
		c.Rope.Scaling = RopeScaling{Type: "factors", Tensor: ropeFactors}
	}
	windowed := c.SlidingWindow > 0 && slices.Contains(c.Local, true)
	if windowed && !target.Windowed && c.SlidingWindow < c.MaxPositionEmbeddings {
		x.Notes = append(x.Notes, fmt.Sprintf("the architecture %s has no sliding window: the file is for contexts of up to %d tokens, in which the window makes no difference",
			x.Architecture, c.SlidingWindow))
		c.MaxPositionEmbeddings = c.SlidingWindow
	}
	if !windowed || !target.Windowed {
		c.SlidingWindow, c.Local, c.LocalRope = 0, nil, nil
	}
	x.cfg = &c
}

// pairs are the keys of the architecture ("Standardized key-value pairs" of the GGUF
// specification, and what llama.cpp's converter writes besides).
func (x *Export) pairs(target *Family) []ggufwrite.KV {
	c := x.cfg
	var out []ggufwrite.KV
	add := func(key string, v any) { out = append(out, ggufwrite.KV{Key: x.Architecture + "." + key, Value: v}) }
	count := func(key string, n int) { add(key, uint32(n)) }
	count("vocab_size", c.VocabSize)
	count("context_length", c.MaxPositionEmbeddings)
	count("embedding_length", c.HiddenSize)
	count("block_count", c.NumHiddenLayers)
	count("feed_forward_length", c.IntermediateSize)
	count("attention.head_count", c.NumAttentionHeads)
	count("attention.head_count_kv", c.NumKeyValueHeads)
	count("attention.key_length", c.HeadDim)
	count("attention.value_length", c.HeadDim)
	if c.LayerNorm {
		add("attention.layer_norm_epsilon", c.NormEps)
	} else {
		add("attention.layer_norm_rms_epsilon", c.NormEps)
	}
	if c.Rope.Dim > 0 {
		add("rope.freq_base", float32(c.Rope.Theta))
		count("rope.dimension_count", c.Rope.Dim)
	}
	if s := c.Rope.Scaling; s.Type == "linear" {
		add("rope.scaling.type", s.Type)
		add("rope.scaling.factor", float32(s.Factor))
	}
	if c.SlidingWindow > 0 {
		count("attention.sliding_window", c.SlidingWindow)
	}
	if c.AttnLogitSoftcapping > 0 {
		add("attn_logit_softcapping", c.AttnLogitSoftcapping)
	}
	if c.FinalLogitSoftcapping > 0 {
		add("final_logit_softcapping", c.FinalLogitSoftcapping)
	}
	if target.WriteGGUF != nil {
		target.WriteGGUF(c, add)
	}
	return out
}

// Check reads the configuration of the written file and compares it with the model's. Where they differ, the
// architecture cannot express the model, and the error names the first difference.
func (x *Export) Check(c *checkpoint.Checkpoint) error {
	got, err := ReadConfig(c)
	if err != nil {
		return err
	}
	want, have := reflect.ValueOf(essence(x.cfg)), reflect.ValueOf(essence(got))
	for i := range want.NumField() {
		f := want.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		if a, b := want.Field(i).Interface(), have.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			return &ConfigError{File: c.Path(), Msg: fmt.Sprintf("llama.cpp's architecture %s cannot say that %s is %v: it would be read as %v",
				x.Architecture, strings.TrimSuffix(f.Tag.Get("json"), ",omitempty"), a, b)}
		}
	}
	return nil
}

// essence is a configuration without what two spellings of one model may differ in.
func essence(c *Config) Config {
	out := *c
	out.Family = ""
	out.BOSTokenID, out.EOSTokenIDs = -1, nil // the vocabulary's
	out.NormalizedHead = false                // a second time changes nothing
	for _, x := range []*float64{&out.Rope.Theta, &out.Rope.Scaling.Factor, &out.ALiBiMaxBias} {
		*x = float64(float32(*x)) // GGUF's keys have float32
	}
	if out.LocalRope != nil {
		local := *out.LocalRope
		local.Theta = float64(float32(local.Theta))
		out.LocalRope = &local
	}
	if !slices.Contains(out.NoRope, true) {
		out.NoRope = nil
	}
	if out.SlidingWindow == 0 || !slices.Contains(out.Local, true) {
		out.SlidingWindow, out.Local, out.LocalRope = 0, nil, nil
	}
	return out
}

// An exporter walks a directory's tensors in the order of a GGUF file.
type exporter struct {
	tensors
	x        *Export
	names    Names // in the file
	permuted bool  // rows of q and k are reordered
}

// model adds all tensors.
func (e *exporter) model() {
	c, from, to := e.cfg, e.cfg.names, e.names
	e.matrix(to.Embed, Vocabulary, 0, tensorRows{name: from.Embed, rows: c.VocabSize})
	for i := range c.NumHiddenLayers {
		if e.err != nil {
			return
		}
		e.layer(i)
	}
	e.norm(to.FinalNorm, from.FinalNorm)
	if !c.TieWordEmbeddings {
		head := tensorRows{name: from.LMHead, rows: c.VocabSize}
		if c.NormalizedHead {
			if s := e.find(head, c.HiddenSize); s != nil {
				e.rows(to.LMHead, Vocabulary, 0, unitRows(s))
			}
		} else {
			e.matrix(to.LMHead, Vocabulary, 0, head)
		}
	}
	if s := c.Rope.Scaling; s.Type == "llama3" {
		divisors := make([]float32, c.Rope.Dim/2)
		for j := range divisors {
			f := math.Pow(c.Rope.Theta, -2*float64(j)/float64(c.Rope.Dim))
			divisors[j] = float32(f / s.llama3(f))
		}
		e.values(ropeFactors, divisors)
	}
}

func (e *exporter) layer(i int) {
	c, from, to := e.cfg, e.cfg.names, e.names
	p, prefix := c.layerTensors(i), fmt.Sprintf(to.Layer, i)
	in := fmt.Sprintf(from.Layer, i)
	e.norm(prefix+to.InputNorm, in+from.InputNorm)
	if c.QKNorm {
		e.vector(prefix+to.QNorm+".weight", in+from.QNorm+".weight", c.HeadDim)
		e.vector(prefix+to.KNorm+".weight", in+from.KNorm+".weight", c.HeadDim)
	}
	qkv := p.qkv
	if len(qkv) == 1 && to.QKVProj == "" { // one tensor in the checkpoint, three in the file
		heads, kvHeads := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
		whole := qkv[0]
		qkv = nil
		for first, rows := range map[int]int{0: heads, heads: kvHeads, heads + kvHeads: kvHeads} {
			qkv = append(qkv, tensorRows{name: whole.name, first: first, rows: rows, of: whole.rows})
		}
		slices.SortFunc(qkv, func(a, b tensorRows) int { return a.first - b.first })
	}
	if len(qkv) == 1 {
		e.projection(prefix+to.QKVProj, 0, c.HiddenSize, c.QKVBias, qkv[0])
	} else {
		permuted := 0
		if e.permuted {
			permuted = c.HeadDim
		}
		for j, name := range []string{to.QProj, to.KProj, to.VProj} {
			if j == 2 {
				permuted = 0
			}
			e.projection(prefix+name, permuted, c.HiddenSize, c.QKVBias, qkv[j])
		}
	}
	e.projection(prefix+to.OProj, 0, c.NumAttentionHeads*c.HeadDim, c.OBias, p.o)
	if c.PostNorms {
		e.norm(prefix+to.AttnPostNorm, in+from.AttnPostNorm)
	}
	if !c.Parallel {
		e.norm(prefix+to.MLPNorm, in+from.MLPNorm)
	}
	switch {
	case c.PlainMLP:
		e.projection(prefix+to.UpProj, 0, c.HiddenSize, c.MLPBias, p.up)
	case to.GateUpProj != "":
		whole := p.gate
		whole.rows = whole.of
		e.projection(prefix+to.GateUpProj, 0, c.HiddenSize, c.MLPBias, whole)
	default:
		e.projection(prefix+to.GateProj, 0, c.HiddenSize, c.MLPBias, p.gate)
		e.projection(prefix+to.UpProj, 0, c.HiddenSize, c.MLPBias, p.up)
	}
	e.projection(prefix+to.DownProj, 0, c.IntermediateSize, c.MLPBias, p.down)
	if c.PostNorms {
		e.norm(prefix+to.MLPPostNorm, in+from.MLPPostNorm)
	}
}

// projection adds a matrix and its bias; permuted is the size of the heads whose rows are reordered, or 0.
func (e *exporter) projection(name string, permuted, cols int, bias bool, p tensorRows) {
	if s := e.find(p, cols); s != nil {
		e.rows(name, Matrix, permuted, s)
	}
	if !bias || e.err != nil {
		return
	}
	all, err := e.floats(p.name+".bias", p.allRows())
	if err != nil {
		e.err = err
		return
	}
	values := make([]float32, p.rows)
	for i := range values {
		values[i] = all[p.first+unpermuted(i, permuted)]
	}
	e.values(name+".bias", values)
}

func (e *exporter) matrix(name string, role Role, permuted int, p tensorRows) {
	if s := e.find(p, e.cfg.HiddenSize); s != nil {
		e.rows(name, role, permuted, s)
	}
}

// rows adds the matrix of a source.
func (e *exporter) rows(name string, role Role, permuted int, s *source) {
	row := func(i int, scratch []byte) []byte { return s.Row(unpermuted(i, permuted), scratch) }
	e.x.Tensors = append(e.x.Tensors, ExportTensor{
		Name: name + ".weight", Role: role, Shape: []int{s.Rows, s.Cols}, DType: s.DType, Row: row, Prefetch: s.Prefetch,
	})
}

// norm adds the weights of a normalisation over the hidden size, as gains, and its bias.
func (e *exporter) norm(name, from string) {
	e.vector(name+".weight", from+".weight", e.cfg.HiddenSize)
	if e.cfg.NormBias {
		e.copied(name+".bias", from+".bias", e.cfg.HiddenSize)
	}
}

// vector adds the n weights of a norm, as gains.
func (e *exporter) vector(name, from string, n int) {
	f, err := e.gains(from, n)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.values(name, f)
}

func (e *exporter) copied(name, from string, n int) {
	f, err := e.floats(from, n)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.values(name, f)
}

// values adds a vector of floats.
func (e *exporter) values(name string, f []float32) {
	data := make([]byte, 4*len(f))
	dtype.F32.Encode(data, f)
	e.x.Tensors = append(e.x.Tensors, ExportTensor{
		Name: name, Shape: []int{len(f)}, DType: dtype.F32, Row: func(int, []byte) []byte { return data },
	})
}
