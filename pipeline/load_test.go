package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func randomRows(rnd *rand.Rand, t DType, rows, cols int) []byte {
	f := make([]float32, rows*cols)
	for i := range f {
		f[i] = float32(rnd.NormFloat64())
	}
	b := make([]byte, int64(rows)*t.RowBytes(cols))
	t.Encode(b, f)
	return b
}

// A matrix larger than a piece of an upload, of parts with odd numbers of rows and blocks,
// from a source of another type.
func TestLoaderUploadsInPieces(t *testing.T) {
	dev := gputest.Open(t)
	const rows, cols = 16003, 544 // 17 blocks
	values := randomRows(rand.New(rand.NewPCG(1, 2)), dtype.F16, 999, cols)
	rowBytes := int(dtype.F16.RowBytes(cols))
	src := &RowSource{Name: "source", DType: dtype.F16, Rows: 999, Cols: cols, Row: func(i int, _ []byte) []byte { return values[i*rowBytes:][:rowBytes] }}
	for _, path := range paths(dev) {
		for _, kind := range []DType{dtype.F16, dtype.Q8_0, dtype.Q4_1} {
			t.Run(fmt.Sprint(path, kind), func(t *testing.T) {
				m := managerOn(t, dev, Options{Path: path})
				x, err := m.NewMatrix("x", []Band{{kind, 3}, {kind, rows - 3}}, cols)
				if err != nil {
					t.Fatal(err)
				}
				w := m.NewWeights(0)
				defer w.Close()
				l, err := w.NewLoader(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				l.Workers = 3
				var done atomic.Int64
				l.Progress = func(n int64) { done.Add(n) }
				if err := l.Matrices(t.Context(), Fill{Matrix: x, At: func(r int) (*RowSource, int) { return src, r % 999 }}); err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if got, want := done.Load(), int64(rows*rowBytes); got != want {
					t.Errorf("progress to %d bytes, want %d", got, want)
				}
				f, enc := make([]float32, cols), make([]byte, kind.RowBytes(cols))
				for _, p := range x.Shards {
					units, records := make([]byte, p.units.Size), make([]byte, p.meta.Size)
					if err := dev.Read(p.units, units); err != nil {
						t.Fatal(err)
					}
					if len(records) > 0 {
						if err := dev.Read(p.meta, records); err != nil {
							t.Fatal(err)
						}
					}
					wantUnits, wantRecords := make([]byte, p.UnitBytes()), make([]byte, p.MetaBytes())
					for r := range p.Rows {
						dtype.F16.Decode(f, src.Row((p.First+r)%999, nil))
						kind.Encode(enc, f)
						p.Pack(wantUnits, wantRecords, r, enc)
					}
					if !bytes.Equal(units, wantUnits) || !bytes.Equal(records, wantRecords) {
						t.Fatalf("rows %d to %d are not what packing makes of the source's", p.First, p.First+p.Rows-1)
					}
				}
			})
		}
	}
}

func TestLoaderFillsSmallMatricesAtOnce(t *testing.T) {
	dev := gputest.Open(t)
	m := managerOn(t, dev, Options{})
	w := m.NewWeights(0)
	defer w.Close()
	l, err := w.NewLoader(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	const count, rows, cols = 4, 5, 64
	l.Workers = count
	var fills []Fill
	var open [count]atomic.Bool
	var started sync.WaitGroup // no row is read before a row of every matrix is asked for
	started.Add(count)
	value := func(i, r, c int) float32 { return float32(1000*i + cols*r + c) }
	for i := range count {
		x, err := m.NewMatrix(fmt.Sprint("x", i), []Band{{dtype.F32, rows}}, cols)
		if err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		src := &RowSource{Name: "source", DType: dtype.F32, Rows: rows, Cols: cols, Row: func(r int, _ []byte) []byte {
			if !open[i].Load() {
				t.Errorf("matrix %d: row %d is read outside Begin and End", i, r)
			}
			once.Do(started.Done)
			started.Wait()
			values, b := make([]float32, cols), make([]byte, 4*cols)
			for c := range values {
				values[c] = value(i, r, c)
			}
			dtype.F32.Encode(b, values)
			return b
		}}
		fills = append(fills, Fill{Matrix: x, At: func(r int) (*RowSource, int) { return src, r },
			Begin: func(context.Context) error { open[i].Store(true); return nil }, End: func() { open[i].Store(false) }})
	}
	if err := l.Matrices(t.Context(), fills...); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for i, f := range fills {
		if open[i].Load() {
			t.Errorf("matrix %d: End was not called", i)
		}
		for _, p := range f.Matrix.Shards {
			units := make([]byte, p.units.Size)
			if err := dev.Read(p.units, units); err != nil {
				t.Fatal(err)
			}
			want, b, values := make([]byte, p.UnitBytes()), make([]byte, 4*cols), make([]float32, cols)
			for r := range p.Rows {
				for c := range values {
					values[c] = value(i, p.First+r, c)
				}
				dtype.F32.Encode(b, values)
				p.Pack(want, nil, r, b)
			}
			if !bytes.Equal(units, want) {
				t.Fatalf("matrix %d: rows %d to %d are not what packing makes of the source's", i, p.First, p.First+p.Rows-1)
			}
		}
	}
}

func TestLoaderErrorsNameTheRow(t *testing.T) {
	m := newManager(t, Options{})
	w := m.NewWeights(0)
	defer w.Close()
	l, err := w.NewLoader(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	row := make([]byte, 256)
	for _, c := range []struct {
		name string
		ctx  context.Context
		src  RowSource
		want string
	}{
		{"columns", t.Context(), RowSource{Name: "s", DType: dtype.F32, Cols: 63, Row: func(int, []byte) []byte { return row[:252] }}, "x: row 0 has 63 columns, want 64"},
		{"bytes", t.Context(), RowSource{Name: "s", DType: dtype.F32, Cols: 64, Row: func(int, []byte) []byte { return row[:255] }}, "x: row 7 of s has 255 bytes, want 256"},
		{"cancelled", cancelled, RowSource{Name: "s", DType: dtype.F32, Cols: 64, Row: func(int, []byte) []byte { return row }}, "context canceled"},
	} {
		x, err := m.NewMatrix("x", []Band{{dtype.F32, 3}}, 64)
		if err != nil {
			t.Fatal(err)
		}
		err = l.Matrices(c.ctx, Fill{Matrix: x, At: func(r int) (*RowSource, int) { return &c.src, 7 + r }})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", c.name, err, c.want)
		}
	}
}

func TestLoaderAnnouncesRowsBeforeItReadsThem(t *testing.T) {
	m := newManager(t, Options{})
	w := m.NewWeights(0)
	defer w.Close()
	l, err := w.NewLoader(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	l.Workers = 2
	const rows, cols = 3000, 2048 // of each source; about three pieces a source
	var mu sync.Mutex
	newSource := func(name string) *RowSource {
		announced := make([]bool, rows)
		row := make([]byte, 4*cols)
		return &RowSource{Name: name, DType: dtype.F32, Rows: rows, Cols: cols,
			Row: func(i int, _ []byte) []byte {
				mu.Lock()
				defer mu.Unlock()
				if !announced[i] {
					t.Errorf("%s: row %d is read and was not announced", name, i)
				}
				return row
			},
			Prefetch: func(first, n int) {
				mu.Lock()
				defer mu.Unlock()
				for i := range n {
					announced[first+i] = true
				}
			},
		}
	}
	sources := []*RowSource{newSource("even"), newSource("odd")}
	x, err := m.NewMatrix("x", []Band{{dtype.F32, 2 * rows}}, cols)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Matrices(t.Context(), Fill{Matrix: x, At: func(r int) (*RowSource, int) { return sources[r%2], r / 2 }}); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// Rows are multiplied by powers of two exactly, in their type or before they are converted, or not at all.
func TestRowsAreMultipliedByPowersOfTwo(t *testing.T) {
	t.Parallel()
	values := make([]float32, 256)
	for i := range values {
		values[i] = float32(i-100) / 64
	}
	encode := func(d DType, f []float32) []byte {
		b := make([]byte, d.RowBytes(len(f)))
		d.Encode(b, f)
		return b
	}
	for _, c := range []struct {
		from, to DType
		exponent int
		ok       bool
	}{
		{dtype.F32, dtype.F32, -20, true}, {dtype.BF16, dtype.BF16, 20, true}, {dtype.Q8_0, dtype.Q8_0, 5, true}, {dtype.Q4_K, dtype.Q4_K, -2, true},
		{dtype.F32, dtype.Q8_0, 10, true}, {dtype.BF16, dtype.F16, -6, true},
		{dtype.F16, dtype.F16, -20, false}, {dtype.Q8_0, dtype.Q8_0, 24, false}, {dtype.F32, dtype.F16, 18, false},
	} {
		row := encode(c.from, values)
		before := slices.Clone(row)
		src := &RowSource{Name: "w", DType: c.from, Cols: len(values)}
		b, err := (&packScratch{}).convert(c.to, src, 3, row, c.exponent)
		if (err == nil) != c.ok {
			t.Errorf("%v to %v times 2^%d: %v", c.from, c.to, c.exponent, err)
		}
		if !slices.Equal(row, before) {
			t.Errorf("%v to %v: the source has changed", c.from, c.to)
		}
		if !c.ok || err != nil {
			continue
		}
		want, got := make([]float32, len(values)), make([]float32, len(values))
		plain := row
		if c.from != c.to {
			c.from.Decode(want, row)
			plain = encode(c.to, want)
		}
		c.to.Decode(want, plain)
		c.to.Decode(got, b)
		for i := range got {
			if float64(got[i]) != math.Ldexp(float64(want[i]), c.exponent) {
				t.Fatalf("%v to %v times 2^%d: element %d is %v, without %v", c.from, c.to, c.exponent, i, got[i], want[i])
			}
		}
	}
}

// A part's exponent leaves its largest weight between 2^14 and 2^15.
func TestPartsAreScaledIntoFloat16(t *testing.T) {
	t.Parallel()
	for _, most := range []float32{1, 0.999, 1e-30, 3e38, 65504, 0x1p-120, 32768, 0} {
		p := &Shard{Packed: kernels.Packed{DType: dtype.F32}}
		row := make([]byte, 12)
		dtype.F32.Encode(row, []float32{most / 3, -most, 0})
		p.measure(row)
		scaled := math.Ldexp(float64(most), -p.exponent())
		if least := min(0x1p14, math.Ldexp(float64(most), 126)); scaled >= 0x1p15 || scaled < least {
			t.Errorf("%v becomes %v with exponent %d", most, scaled, p.exponent())
		}
	}
	// Float16 numbers are multiplied by a power of two of their own type, of which 2^15 is the largest.
	for most, want := range map[float32]int{65504: 1, 1: -14, 0.3: -15, 6e-8: -15, 0: 0} {
		p := &Shard{Packed: kernels.Packed{DType: dtype.F16}}
		row := make([]byte, 2)
		dtype.F16.Encode(row, []float32{most})
		p.measure(row)
		if got := p.exponent(); got != want {
			t.Errorf("of float16, %v has exponent %d, want %d", most, got, want)
		}
	}
}
