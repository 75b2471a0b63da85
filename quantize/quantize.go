// Package quantize writes models as GGUF files that llama.cpp and this program read, their
// matrices converted to another type.
//
// NewPlan takes an open checkpoint of any family that runs and says what will become of each
// tensor; Plan.Write writes the file. Hyper-parameters, names and the order of rows are those
// that llama.cpp's converter writes (package model knows them), the vocabulary is the
// tokenizer's. Memory stays bounded however large the model is.
package quantize

import (
	"context"
	"fmt"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/ggufwrite"
	"pumice/model"
	"pumice/tokenizer"
)

// Options says what is written. Type must be a weight type.
type Options struct {
	Type dtype.DType // of the matrices
	Pure bool        // of the embedding and the head too, however few bits it has

	// Tokenizer is that of a Hugging Face directory; nil: the file gets no vocabulary. GGUF
	// checkpoints carry theirs over.
	Tokenizer *tokenizer.Tokenizer

	Workers  int                     // goroutines that convert; 0 means 2
	Progress func(done, total int64) // bytes of the file, one call at a time; may be nil
}

// A Plan is what will be written. It is valid until its checkpoint is closed.
type Plan struct {
	Architecture string   // general.architecture
	Notes        []string // what a user of the file should know
	Tensors      []Tensor
	Parameters   int64

	o      Options
	export *model.Export
	file   *ggufwrite.File
	rows   []*fill
}

// A Tensor is one of the file.
type Tensor struct {
	Name  string
	Shape []int // outermost first
	DType dtype.DType
	Bytes int64
	From  dtype.DType // its type in the checkpoint, F32 where it is computed
}

// NewPlan decides what the file will hold. Errors are the checkpoint's, the model's (a family
// that is not known, a tensor that is missing) and the tokenizer's (a vocabulary that GGUF
// cannot hold); the end of ctx ends the deciding.
func NewPlan(ctx context.Context, c *checkpoint.Checkpoint, o Options) (*Plan, error) {
	if !o.Type.Weight() {
		return nil, fmt.Errorf("quantize: %s: want one of %s", o.Type, dtype.Names(dtype.Weights()))
	}
	if o.Workers == 0 {
		o.Workers = 2
	}
	x, err := model.NewExport(c)
	if err != nil {
		return nil, err
	}
	p := &Plan{Architecture: x.Architecture, Notes: x.Notes, o: o, export: x}
	var tensors []ggufwrite.Tensor
	for i := range x.Tensors {
		t := &x.Tensors[i]
		out := Tensor{Name: t.Name, Shape: t.Shape, DType: o.typeOf(t), From: t.DType}
		out.Bytes = int64(t.Rows()) * out.DType.RowBytes(t.Cols())
		p.Tensors = append(p.Tensors, out)
		p.Parameters += int64(t.Rows()) * int64(t.Cols())
		f := &fill{plan: p, from: t, to: out.DType}
		p.rows = append(p.rows, f)
		tensors = append(tensors, ggufwrite.Tensor{Name: t.Name, DType: out.DType, Shape: t.Shape, Fill: f.write})
	}
	meta, err := p.metadata(ctx, c)
	if err != nil {
		return nil, err
	}
	if p.file, err = ggufwrite.New(meta, tensors); err != nil {
		return nil, fmt.Errorf("quantize: %s: %w", c.Path(), err)
	}
	return p, nil
}

// Bytes is the size of the file.
func (p *Plan) Bytes() int64 { return p.file.Size }

// typeOf is the type of a tensor in the file. The embedding and the head decide what every token
// is read and written as: they get at least the 6.6 bits of Q6_K, as llama.cpp gives the head,
// unless the options ask for a pure file.
func (o *Options) typeOf(t *model.ExportTensor) dtype.DType {
	if t.Role == model.AsStored {
		return t.DType
	}
	want := o.Type
	if t.Role == model.Vocabulary && !o.Pure && bits(want) < bits(dtype.Q6_K) {
		want = dtype.Q6_K
	}
	return want.ForRow(t.Cols())
}

// bits is the size of a weight.
func bits(d dtype.DType) float64 { return 8 * float64(d.BlockBytes()) / float64(d.BlockSize()) }
