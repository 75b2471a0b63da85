package model

import (
	"context"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/pipeline"
)

// Weights are a model's parameters on the device. Before they are loaded they have only shapes.
type Weights struct {
	Embed          *pipeline.Matrix // (VocabSize, HiddenSize)
	FinalNorm      *pipeline.Norm   // (HiddenSize)
	LMHead         *pipeline.Matrix // (VocabSize, HiddenSize); Embed itself when tied; nil for an encoder
	RopeTable      *pipeline.Vector // (context, Rope.Dim / 2, 2): cosine and sine of each angle
	LocalRopeTable *pipeline.Vector // the same for Config.LocalRope, nil without
	Slopes         *pipeline.Vector // (heads), of ALiBi; nil without
	Positions      *pipeline.Vector // (context, HiddenSize), learned; nil without
	Layers         []Layer

	layerRange  layerRange                       // of Layers; without the head FinalNorm and LMHead are nil
	vectors     []func(l *pipeline.Loader) error // each allocates and fills one
	matrices    []*pipeline.Fill
	bytes       int64 // of the checkpoint's tensors, on the device
	types       []TypeShare
	tableBytes  int64 // of tables that are computed
	vectorBytes int64 // of norms, biases and tables, on the device
	tableDim    int   // components of a position in the largest table: of rotary angles, or learned
	read        int64 // bytes of the matrices' rows as sources give them: the total of Options.Progress
}

// A Layer has the parameters of one decoder layer. Norms and biases that the family lacks are nil.
type Layer struct {
	InputNorm    *pipeline.Norm   // (HiddenSize)
	QKV          *pipeline.Matrix // ((heads + 2 kv heads) * HeadDim, HiddenSize)
	QKVBias      *pipeline.Vector
	QNorm, KNorm *pipeline.Vector // (HeadDim)
	OProj        *pipeline.Matrix // (HiddenSize, heads * HeadDim)
	OBias        *pipeline.Vector
	AttnPostNorm *pipeline.Norm   // (HiddenSize)
	MLPNorm      *pipeline.Norm   // (HiddenSize)
	GateUp       *pipeline.Matrix // (2 * IntermediateSize, HiddenSize): gate and up rows in turn; PlainMLP: up rows only
	GateUpBias   *pipeline.Vector
	DownProj     *pipeline.Matrix // (HiddenSize, IntermediateSize)
	DownBias     *pipeline.Vector
	MLPPostNorm  *pipeline.Norm // (HiddenSize)

	fit *cacheFit // of its keys and values
}

// countType adds a shard of a matrix to those of its type; wanted is Options.DType.
func (w *Weights) countType(shard *pipeline.Shard, wanted dtype.DType) {
	s := TypeShare{Type: shard.DType.String(), Bytes: shard.DeviceBytes()}
	if wanted != dtype.Invalid && wanted != shard.DType {
		s.Instead = wanted.String()
	}
	w.types = addShare(w.types, s)
}

// noteVector notes a vector of n values, which read returns when it is loaded.
func (w *Weights) noteVector(name string, n int, read func() ([]float32, error)) *pipeline.Vector {
	v := &pipeline.Vector{Name: name, Cols: n}
	w.vectorBytes += vectorBytes(v)
	w.vectors = append(w.vectors, func(l *pipeline.Loader) error {
		f, err := read()
		if err != nil {
			return err
		}
		return l.Vector(v, f)
	})
	return v
}

// vectorBytes is the device memory of a vector: vectors begin at multiples of 256 bytes.
func vectorBytes(v *pipeline.Vector) int64 { return (v.DeviceBytes() + 255) &^ 255 }

// load reads, converts and uploads everything that the binder noted.
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
