package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// tensors finds the tensors of a checkpoint and checks them against the configuration. The first error sticks.
type tensors struct {
	file *checkpoint.Checkpoint
	cfg  *Config
	used map[string]bool // names of tensors that the model has
	err  error
}

// A source is the rows of a matrix as they go to the device.
type source struct {
	pipeline.RowSource
	stored  dtype.DType // type of the rows in the checkpoint; where adapters change the rows, Source has F32
	updates []*update   // of adapters, added to the rows
}

func newTensors(file *checkpoint.Checkpoint, cfg *Config) tensors {
	return tensors{file: file, cfg: cfg, used: map[string]bool{}}
}

// fail keeps an error about the checkpoint, unless there is one.
func (t *tensors) fail(format string, args ...any) {
	if t.err == nil {
		t.err = t.errorf(format, args...)
	}
}

// errorf is an error that names the checkpoint.
func (t *tensors) errorf(format string, args ...any) error {
	return &ConfigError{File: t.file.Path(), Msg: fmt.Sprintf(format, args...)}
}

// find finds the rows of a matrix of so many columns, and checks the tensor's shape and type. It returns nil after an
// error.
func (t *tensors) find(p tensorRows, cols int) *source {
	name := p.name + ".weight"
	x, ok := t.file.Tensor(name)
	t.used[name] = true
	switch {
	case !ok:
		t.fail("tensor %q is missing", name)
		return nil
	case len(x.Shape) != 2 || x.Rows() != p.allRows() || x.Cols() != cols:
		t.fail("tensor %q has shape %v, want [%d %d]", name, x.Shape, p.allRows(), cols)
		return nil
	case !slices.Contains(kernels.WeightTypes(), x.DType):
		t.fail("tensor %q has type %s; supported: %v", name, x.TypeName(), kernels.WeightTypes())
		return nil
	}
	row := func(i int, scratch []byte) []byte { return x.Row(p.first+i, scratch) }
	s := &source{RowSource: pipeline.RowSource{Name: name, DType: x.DType, Rows: p.rows, Cols: cols, Row: row}, stored: x.DType}
	s.Prefetch = func(first, n int) { x.Prefetch(p.first+first, n) }
	return s
}

// floats reads a vector of n values, all of which must be finite.
func (t *tensors) floats(name string, n int) ([]float32, error) {
	x, ok := t.file.Tensor(name)
	if !ok {
		return nil, t.errorf("tensor %q is missing", name)
	}
	if len(x.Shape) != 1 || x.Cols() != n || !x.DType.Weight() || n%x.DType.BlockSize() != 0 {
		return nil, t.errorf("tensor %q has shape %v and type %s, want [%d] floats", name, x.Shape, x.DType, n)
	}
	out := make([]float32, n)
	err := checkpoint.Guard(func() error {
		x.DType.Decode(out, x.Row(0, nil))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, v := range out {
		if !finite(v) {
			return nil, t.errorf("tensor %q: element %d is %v", name, i, v)
		}
	}
	return out, nil
}

// gains reads the n weights of a norm as what the normalised values are multiplied by.
func (t *tensors) gains(name string, n int) ([]float32, error) {
	f, err := t.floats(name, n)
	if err == nil && t.cfg.NormPlusOne {
		for i := range f {
			f[i]++
		}
	}
	return f, err
}

// biases reads the biases of the projections, one projection after another.
func (t *tensors) biases(projections ...tensorRows) ([]float32, error) {
	var all []float32
	for _, p := range projections {
		f, err := t.floats(p.name+".bias", p.rows)
		if err != nil {
			return nil, err
		}
		all = append(all, f...)
	}
	return all, nil
}

// alternatingBiases reads the biases of two projections of one size, in turn: value 2i is even's, 2i + 1 odd's.
func (t *tensors) alternatingBiases(even, odd tensorRows) ([]float32, error) {
	e, err1 := t.biases(even)
	o, err2 := t.biases(odd)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	all := make([]float32, 0, 2*len(e))
	for i := range e {
		all = append(all, e[i], o[i])
	}
	return all, nil
}

// positions reads the learned vectors of the first n positions, each with that of the first token type: (n, HiddenSize).
func (t *tensors) positions(n int) ([]float32, error) {
	c := t.cfg
	places := t.find(tensorRows{name: c.names.Positions, rows: c.MaxPositionEmbeddings}, c.HiddenSize)
	types := t.find(tensorRows{name: c.names.TokenTypes, rows: c.TypeVocabSize}, c.HiddenSize)
	if t.err != nil {
		return nil, t.err
	}
	out, first := make([]float32, n*c.HiddenSize), make([]float32, c.HiddenSize)
	err := checkpoint.Guard(func() error {
		types.DType.Decode(first, types.Row(0, nil))
		for i := range n {
			row := out[i*c.HiddenSize:][:c.HiddenSize]
			places.DType.Decode(row, places.Row(i, nil))
			for j, v := range first {
				row[j] += v
			}
		}
		return nil
	})
	return out, err
}

// ropeDivisors reads what rotary frequencies are divided by where the scaling type is "factors"; other types need none.
func (t *tensors) ropeDivisors(r *Rope) ([]float32, error) {
	if r.Scaling.Tensor == "" {
		return nil, nil
	}
	divisors, err := t.floats(r.Scaling.Tensor, r.Dim/2)
	for i, d := range divisors {
		if !(d > 0) {
			return nil, t.errorf("tensor %q: divisor %d is %v, must be positive", r.Scaling.Tensor, i, d)
		}
	}
	return divisors, err
}

// unused lists the tensors that the model does not have, sorted. Old checkpoints carry frequencies of rotation, which
// are computed instead and not listed, nor are those that the family knows to be for other uses.
func (t *tensors) unused() []string {
	var names []string
	for _, name := range t.file.Names() {
		known := slices.ContainsFunc(t.cfg.unused, func(start string) bool { return strings.HasPrefix(name, start) })
		if !t.used[name] && !known && !strings.HasSuffix(name, "rotary_emb.inv_freq") {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// unitRows is a source with every row divided by its length, or by 1e-12 where the length is less: Baichuan 2's
// NormHead, which its checkpoints leave to the reader.
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
