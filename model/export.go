package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
)

// An Export describes the GGUF file that a checkpoint becomes. Tensor names, the order of rows and metadata keys are
// those that llama.cpp expects of the architecture. It is valid until its checkpoint is closed.
type Export struct {
	Architecture string // general.architecture
	VocabSize    int
	Layers       int
	Heads        int // for queries, in a layer
	KVHeads      int
	BOSTokenID   int // -1 if the checkpoint names none
	EOSTokenIDs  []int
	Pairs        []ggufwrite.KV // metadata of the hyper-parameters; nil for a GGUF checkpoint, whose metadata is kept
	Tensors      []ExportTensor
	Notes        []string // remarks for users of the file

	cfg *Config // that reading the file must return
}

// A Role says what a tensor is for, which decides the types that it may be written in.
type Role int

const (
	AsStored        Role = iota // a norm, a bias or a table, written in its own type
	Matrix                      // a matrix of a layer
	EmbeddingMatrix             // the matrix with a row for each token, which may be the head too
	HeadMatrix                  // a matrix like it for the logits
)

// An ExportTensor is a tensor to be written to a GGUF file.
type ExportTensor struct {
	Name  string
	Role  Role
	Shape []int       // outermost first
	DType dtype.DType // type of the rows: the checkpoint's, or F32 if they are computed

	// Row returns the bytes of row i, in scratch or in another slice. Several goroutines may call it, each with its own
	// scratch.
	Row func(i int, scratch []byte) []byte
	// Prefetch asks the system to read n rows from row first ahead of use; nil if the rows are not in a file.
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
	x := &Export{VocabSize: cfg.VocabSize, Layers: cfg.NumHiddenLayers, Heads: cfg.NumAttentionHeads, KVHeads: cfg.NumKeyValueHeads,
		BOSTokenID: cfg.BOSTokenID, EOSTokenIDs: cfg.EOSTokenIDs, cfg: cfg}
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
	if n := cfg.TypeVocabSize; n > 0 {
		x.Pairs = append(x.Pairs, ggufwrite.KV{Key: "tokenizer.ggml.token_type_count", Value: uint32(n)})
	}
	x.pooling(c)
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
		case name == ggufNames.Embed+".weight":
			out.Role = EmbeddingMatrix
		case name == ggufNames.LMHead+".weight":
			out.Role = HeadMatrix
		case name == bert.GGUFNames.Positions+".weight" || name == bert.GGUFNames.TokenTypes+".weight":
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

// pooling notes how embeddings are made, if the checkpoint says it. GGUF has no key for the length of vectors.
func (x *Export) pooling(c *checkpoint.Checkpoint) {
	e, err := ReadEmbedding(c)
	if err != nil {
		x.Notes = append(x.Notes, fmt.Sprintf("the file does not say how embeddings are made: %v", err))
		return
	}
	for n, p := range ggufPoolings {
		if n > 0 && p == e.Pooling {
			x.Pairs = append(x.Pairs, ggufwrite.KV{Key: x.Architecture + ".pooling_type", Value: uint32(n)})
		}
	}
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
