// Package quantize writes models as GGUF files for llama.cpp and this program, with their
// matrices converted to another type.
//
// NewPlan takes an open checkpoint of any supported family and determines the name, type and shape of
// each tensor; Plan.Write writes the file. Hyper-parameters, names and the order of rows are those
// of llama.cpp's converter (from package model), and the vocabulary is the
// tokenizer's. Memory is bounded, however large the model is.
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

// Options configure NewPlan. Type must be a weight type, unless Mix or Keep is set.
type Options struct {
	Type dtype.DType // type of the matrices
	Mix  *Mix        // a mixture of types instead of Type; nil: none
	Pure bool        // Type, or that of most matrices of Mix, for all matrices, the embedding and the head too
	Keep bool        // the checkpoint is GGUF, and each tensor keeps its type, as with the type COPY of llama-quantize

	// Tokenizer is the tokenizer of a Hugging Face directory; with nil the file gets no vocabulary. The
	// vocabulary of a GGUF checkpoint is copied.
	Tokenizer *tokenizer.Tokenizer

	Workers  int                     // goroutines that convert; 0 stands for 2
	Progress func(done, total int64) // called with bytes of the file, one call at a time; may be nil
}

// A Plan describes the file to write. It is valid until its checkpoint is closed.
type Plan struct {
	Architecture string   // general.architecture
	Notes        []string // remarks for users of the file
	Tensors      []Tensor
	Parameters   int64

	o      Options
	export *model.Export
	file   *ggufwrite.File
	rows   []*fill
}

// A Tensor is a tensor of the file.
type Tensor struct {
	Name  string
	Shape []int // outermost first
	DType dtype.DType
	Bytes int64
	From  dtype.DType // its type in the checkpoint; F32 if it is computed
}

// NewPlan determines the content of the file. Errors are the checkpoint's, the model's (an unknown family,
// a missing tensor) and the tokenizer's (a vocabulary that GGUF can't express). ctx cancels it.
func NewPlan(ctx context.Context, c *checkpoint.Checkpoint, o Options) (*Plan, error) {
	if o.Keep && c.Format() != checkpoint.GGUF {
		return nil, fmt.Errorf("quantize: %s: only a GGUF file's types can be kept", c.Path())
	}
	if o.Mix != nil {
		o.Type = o.Mix.Type
	}
	if !o.Keep && !o.Type.Weight() {
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
		out := Tensor{Name: t.Name, Shape: t.Shape, DType: p.typeOf(t), From: t.DType}
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

// Bytes returns the size of the file.
func (p *Plan) Bytes() int64 { return p.file.Size }

// typeOf returns the type of a tensor in the file. Errors of the embedding and the head affect every token,
// so these get at least the 6.6 bits of Q6_K, which llama.cpp uses for the head, unless Pure or Mix is set.
func (p *Plan) typeOf(t *model.ExportTensor) dtype.DType {
	want := p.o.Type
	switch {
	case t.Role == model.AsStored || p.o.Keep:
		return t.DType
	case p.o.Pure:
	case p.o.Mix != nil:
		want = p.o.Mix.typeOf(t, p.export)
	case t.Role != model.Matrix && bits(want) < bits(dtype.Q6_K):
		want = dtype.Q6_K
	}
	return want.ForRow(t.Cols())
}

// bits returns the size of a weight in bits.
func bits(d dtype.DType) float64 { return 8 * float64(d.BlockBytes()) / float64(d.BlockSize()) }
