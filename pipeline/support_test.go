package pipeline

import (
	"context"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

func newManager(t testing.TB, o Options) *Manager {
	t.Helper()
	return managerOn(t, gputest.Open(t), o)
}

func managerOn(t testing.TB, dev *vk.Device, o Options) *Manager {
	t.Helper()
	m, err := NewManager(dev, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// paths are those that the device can run.
func paths(dev *vk.Device) []kernels.Path {
	m, err := NewManager(dev, Options{})
	if err != nil {
		panic(err) // the embedded list of variants does not parse
	}
	defer m.Close()
	return m.Paths()
}

// A bench is a manager with weights for tests and benchmarks to build plans over, and random numbers that
// the test's name determines.
type bench struct {
	t       testing.TB
	m       *Manager
	rnd     *rand.Rand
	weights *Weights
	loader  *Loader
}

func newBench(t testing.TB, m *Manager) *bench {
	t.Helper()
	seed := fnv.New64a()
	seed.Write([]byte(t.Name()))
	b := &bench{t: t, m: m, rnd: rand.New(rand.NewPCG(seed.Sum64(), 0)), weights: m.NewWeights(0)}
	var err error
	if b.loader, err = b.weights.NewLoader(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.loader.Close(), b.weights.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// normal returns n float32 values of the standard normal distribution, as float64.
func (b *bench) normal(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(float32(b.rnd.NormFloat64()))
	}
	return out
}

// A stored matrix is on the device and, as the device has it, on the host.
type stored struct {
	matrix *Matrix
	values []float64
}

// store uploads values, (rows, cols), as a matrix of a type.
func (b *bench) store(t DType, values []float64, cols int) *stored {
	b.t.Helper()
	rows, size := len(values)/cols, int(t.RowBytes(cols))
	x, err := b.m.NewMatrix("matrix", []Band{{t, rows}}, cols)
	if err != nil {
		b.t.Fatal(err)
	}
	s := &stored{matrix: x}
	data, f := make([]byte, rows*size), make([]float32, cols)
	for r := range rows {
		for c := range f {
			f[c] = float32(values[r*cols+c])
		}
		row := data[r*size:][:size]
		t.Encode(row, f)
		t.Decode(f, row)
		for _, w := range f {
			s.values = append(s.values, float64(w))
		}
	}
	src := &RowSource{Name: "matrix", DType: t, Rows: rows, Cols: cols, Row: func(i int, _ []byte) []byte { return data[i*size:][:size] }}
	if err := b.loader.Matrices(context.Background(), Fill{Matrix: x, At: func(r int) (*RowSource, int) { return src, r }}); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) matrix(t DType, rows, cols int) *stored {
	b.t.Helper()
	return b.store(t, b.normal(rows*cols), cols)
}

// vector uploads values.
func (b *bench) vector(values []float64) *Vector {
	b.t.Helper()
	f := make([]float32, len(values))
	for i, x := range values {
		f[i] = float32(x)
	}
	w := &Vector{Name: "vector", Cols: len(f)}
	if err := b.loader.Vector(w, f); err != nil {
		b.t.Fatal(err)
	}
	return w
}

// inputOf gives the plan x, (p.Tokens(), cols): row t is row t of an embedding table.
func (b *bench) inputOf(p *Builder, x []float64, cols int) *Tensor {
	b.t.Helper()
	return p.Embed(b.store(dtype.F32, x, cols).matrix, 1)
}

// inputStep is the step for which inputOf works.
func inputStep(position, count int) Step {
	tokens := make([]int, count)
	for i := range tokens {
		tokens[i] = i
	}
	return one(position, tokens...)
}

// roomy is more than most tests need, so that a second plan need not ask for more than the first.
var roomy = Need{
	Arena: 8 << 20, Step: stepBytes(512), Input: 1 << 16, Draw: drawRow * MaxSequences, Log: logBytes(MaxBurst, TopLogits+1), Readback: 1 << 20,
	Adjust: logitsSize{MaxSequences, 64}.adjustBytes(), Mask: logitsSize{MaxSequences, 64}.maskBytes(),
}

// build reserves what the plan needs and builds it. The plan is closed when the test ends.
func (b *bench) build(p *Builder) *Plan {
	b.t.Helper()
	need, err := p.Need()
	if err == nil {
		err = b.m.Reserve(need.Max(roomy))
	}
	if err == nil {
		err = b.loader.Flush()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	plan, err := p.Build(context.Background())
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		if err := plan.Close(); err != nil {
			b.t.Error(err)
		}
	})
	return plan
}

func run(t testing.TB, p *Plan, s Step) Counters {
	t.Helper()
	c, err := p.Run(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func outputOf(t testing.TB, p *Plan, name string, rows, cols int) []float32 {
	t.Helper()
	out := make([]float32, rows*cols)
	if _, err := p.Output(name, 0, rows, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// one is a step of one sequence.
func one(position int, tokens ...int) Step {
	return Step{Sequences: []Sequence{{Position: position, Tokens: tokens}}}
}

// endings is a step of one sequence in several endings.
func endings(position int, lengths []int, tokens ...int) Step {
	return Step{Sequences: []Sequence{{Position: position, Tokens: tokens, Endings: lengths}}}
}
