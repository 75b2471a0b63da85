package verify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/ref"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// paths are those that the device can run.
func paths(dev *vk.Device) []kernels.Path {
	m, err := pipeline.NewManager(dev, pipeline.Options{})
	if err != nil {
		panic(err) // the embedded list of variants does not parse
	}
	defer m.Close()
	return m.Paths()
}

// A bench is a verifier for tests and benchmarks to build plans over.
type bench struct {
	*verifier
	t testing.TB
}

func newBench(t testing.TB, m *pipeline.Manager) *bench {
	t.Helper()
	b := &bench{&verifier{ctx: context.Background(), m: m, name: t.Name()}, t}
	b.rnd = newRand(t.Name())
	b.weights = m.NewWeights(0)
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

func (b *bench) matrix(t pipeline.DType, rows, cols int) *stored {
	b.t.Helper()
	s, err := b.operand(rowsOf(t, rows), cols)
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) inputOf(p *pipeline.Builder, x []float64, cols int) *pipeline.Tensor {
	b.t.Helper()
	t, err := b.input(p, x, cols)
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// build reserves what the plan needs and builds it. The plan is closed when the test ends.
func (b *bench) build(p *pipeline.Builder) *pipeline.Plan {
	b.t.Helper()
	need, err := p.Need()
	if err == nil {
		err = b.m.Reserve(need.Max(pipeline.Need{Arena: 1 << 20, Step: 1 << 13, Readback: 1 << 20}))
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

func run(t testing.TB, p *pipeline.Plan, s pipeline.Step) {
	t.Helper()
	if _, err := p.Run(context.Background(), s); err != nil {
		t.Fatal(err)
	}
}

func outputOf(t testing.TB, p *pipeline.Plan, name string, rows, cols int) []float32 {
	t.Helper()
	out := make([]float32, rows*cols)
	if _, err := p.Output(name, 0, rows, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// A matrix above 128 MiB, which is more than one binding holds on many devices.
func TestMatrixBeyondOneBinding(t *testing.T) {
	if testing.Short() {
		t.Skip("147 MB of weights")
	}
	dev := gputest.Open(t)
	const rows, cols, distinct = 9000, 4096, 97
	pool := make([]float32, distinct+cols)
	for i := range pool {
		pool[i] = float32(math.Sin(float64(i * i)))
	}
	raw := make([]byte, 4*len(pool))
	dtype.F32.Encode(raw, pool)
	// Row i is the pool from i % distinct on, but for its first value, which is i.
	row := func(i int) []float32 {
		r := append([]float32(nil), pool[i%distinct:][:cols]...)
		r[0] = float32(i)
		return r
	}
	src := &pipeline.RowSource{Name: "big", DType: dtype.F32, Rows: rows, Cols: cols, Row: func(i int, scratch []byte) []byte {
		b := append(scratch[:0], raw[4*(i%distinct):][:4*cols]...)
		binary.LittleEndian.PutUint32(b, math.Float32bits(float32(i)))
		return b
	}}
	for _, path := range paths(dev) {
		t.Run(string(path), func(t *testing.T) {
			b := newBench(t, managerOn(t, dev, pipeline.Options{Path: path}))
			if err := b.m.Reserve(pipeline.Need{Arena: 8 << 20, Step: 1 << 13, Readback: 8 << 20}); err != nil {
				t.Fatal(err)
			}
			b.m.LimitBinding(128 << 20)
			x, err := b.m.NewMatrix("big", rowsOf(dtype.F32, rows), cols)
			if err != nil {
				t.Fatal(err)
			}
			b.m.LimitBinding(0)
			if len(x.Shards) < 2 {
				t.Fatalf("%d parts", len(x.Shards))
			}
			b.loader.Workers = 2
			if err := b.loader.Matrices(t.Context(), pipeline.Fill{Matrix: x, At: func(r int) (*pipeline.RowSource, int) { return src, r }}); err != nil {
				t.Fatal(err)
			}
			ids := []int{0, 1, x.Shards[1].First - 1, x.Shards[1].First, x.Shards[1].First + 1, rows - 1}
			in := b.normal(cols)
			p := b.m.NewBuilder("big", 1)
			p.Output("y", p.Linear(b.inputOf(p, in, cols), x, nil))
			matvec := b.build(p)
			run(t, matvec, inputStep(0, 1))
			y := outputOf(t, matvec, "y", 1, rows)
			for i := 0; i < rows; i += 37 {
				ids = append(ids, i)
			}
			for _, i := range ids {
				w := make([]float64, cols)
				for c, v := range row(i) {
					w[c] = float64(v)
				}
				want := ref.Linear(in, w, nil, 1, cols)
				terms := ref.Linear(magnitudes(in), magnitudes(w), nil, 1, cols)
				if r := compare("matvec", fmt.Sprint("row ", i), y[i:i+1], want, terms, tolerances.linear(cols)); !r.OK {
					t.Error(r)
				}
			}
			p = b.m.NewBuilder("big embed", len(ids))
			p.Output("y", p.Embed(x, 1))
			embed := b.build(p)
			run(t, embed, pipeline.Step{Sequences: []pipeline.Sequence{{Tokens: ids}}})
			got := outputOf(t, embed, "y", len(ids), cols)
			for n, i := range ids {
				if d := cmp.Diff(row(i), got[n*cols:][:cols]); d != "" {
					t.Fatalf("row %d (-want +got):\n%s", i, d)
				}
			}
		})
	}
}

// Weights laid out for the row path are read by base kernels too.
func TestBaseKernelsReadInterleavedRows(t *testing.T) {
	dev := gputest.Open(t)
	if !slices.Contains(paths(dev), kernels.Row) {
		t.Skip("the device has no row path")
	}
	row, base := newBench(t, managerOn(t, dev, pipeline.Options{Path: kernels.Row})), newBench(t, managerOn(t, dev, pipeline.Options{Path: kernels.Base}))
	for _, kind := range kernels.WeightTypes() {
		cols := max(96, kind.BlockSize())
		w := row.matrix(kind, 75, cols)
		for _, tokens := range []int{1, 5} {
			x := base.normal(tokens * cols)
			p := base.m.NewBuilder("interleaved", tokens)
			p.Output("y", p.Linear(base.inputOf(p, x, cols), w.matrix, nil))
			if kernel := lastKernel(p); strings.HasSuffix(kernel, "_row") {
				t.Fatalf("the base path took %s", kernel)
			}
			if err := row.loader.Flush(); err != nil {
				t.Fatal(err)
			}
			plan := base.build(p)
			run(t, plan, inputStep(0, tokens))
			want := ref.Linear(x, w.values, nil, 75, cols)
			terms := ref.Linear(magnitudes(x), w.terms, nil, 75, cols)
			if r := compare(lastKernel(p), kind.String(), outputOf(t, plan, "y", tokens, 75), want, terms, tolerances.linear(cols)); !r.OK {
				t.Error(r)
			}
		}
	}
}
