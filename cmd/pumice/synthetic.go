package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"pumice/internal/dtype"
	"pumice/internal/synth"
)

// A synthetic is a model of random weights that pumice bench loads without a file, such as xverse-7b:q4_0.
type synthetic struct {
	name  string
	shape synth.Shape
	dtype dtype.DType
}

// parseSynthetic reads SHAPE:TYPE.
func parseSynthetic(name string) (*synthetic, error) {
	shape, kind, ok := strings.Cut(name, ":")
	if !ok {
		return nil, &usageError{fmt.Sprintf("--synthetic %q: want a shape and a type, such as xverse-7b:q4_0", name)}
	}
	s := &synthetic{name: "synthetic " + name}
	var err, wrong error
	s.shape, err = synth.Parse(shape)
	s.dtype, wrong = dtype.Parse(kind)
	if err = errors.Join(err, wrong); err == nil {
		err = synth.Check(s.shape, synth.Options{Format: synth.GGUF, DType: s.dtype})
	}
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--synthetic %q: %v", name, err)}
	}
	return s, nil
}

// file is a file of the model in memory, which the system frees when it is closed.
func (s *synthetic) file(ctx context.Context, progress func(done, total int64)) (_ *os.File, err error) {
	f, err := memoryFile()
	if err != nil {
		return nil, fmt.Errorf("--synthetic: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(synth.Fill(ctx, w, s.shape, synth.Options{DType: s.dtype, Seed: 1, Progress: progress}), w.Flush()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
