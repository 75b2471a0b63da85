package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
)

func TestFastestNeedsEveryPath(t *testing.T) {
	t.Parallel()
	x := &Tuning{Timings: []Measurement{
		{Op: "matmul_q4_0", Path: PathBase, Tokens: 8, Nanoseconds: 10}, {Op: "matmul_q4_0", Path: PathRow, Tokens: 8, Nanoseconds: 20},
		{Op: "matmul_q4_0", Path: PathRow, Tokens: 64, Nanoseconds: 30}, {Op: "matmul_q4_0", Path: PathBase, Tokens: 64, Nanoseconds: 40},
		{Op: "matmul_q4_0", Path: PathDP, Tokens: 64, Nanoseconds: 1},
		{Op: "matmul_q4_1", Path: PathBase, Tokens: 8, Nanoseconds: 1}, {Op: "matmul_q4_1", Path: PathRow, Tokens: 8},
	}}
	for _, c := range []struct {
		name   string
		op     string
		tokens int
		paths  []Path
		want   []Path
	}{
		{"base is faster", "matmul_q4_0", 8, []Path{PathBase, PathRow}, []Path{PathBase, PathRow}},
		{"row is faster", "matmul_q4_0", 64, []Path{PathBase, PathRow}, []Path{PathRow, PathBase}},
		{"dp is not chosen for its speed", "matmul_q4_0", 64, []Path{PathBase, PathRow, PathDP}, []Path{PathRow, PathBase}},
		{"a path is not measured", "matmul_q4_0", 8, []Path{PathBase, PathRow, PathFew}, nil},
		{"a measured path does not run any more", "matmul_q4_0", 64, []Path{PathBase}, []Path{PathBase}},
		{"another length", "matmul_q4_0", 2, []Path{PathBase, PathRow}, nil},
		{"another type", "matmul_q8_0", 8, []Path{PathBase, PathRow}, nil},
		{"a time of nothing", "matmul_q4_1", 8, []Path{PathBase, PathRow}, nil},
	} {
		if diff := cmp.Diff(c.want, x.fastest(Product{c.op, c.tokens}, c.paths)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// fakeTuner measures in a world without a device, where every measurement takes a second and the base path, measured first, is the slowest.
type fakeTuner struct {
	tuner
	clock time.Time
	runs  map[Measurement]int
	fail  Path // measuring it is an error
}

func newFakeTuner() *fakeTuner {
	f := &fakeTuner{runs: map[Measurement]int{}}
	f.tuner = tuner{
		tuning:  &Tuning{},
		lengths: []int{1, 2, 8},
		candidates: func(op string) []Path {
			if strings.HasPrefix(op, "matvec_") {
				return []Path{PathBase, PathRow}
			}
			return []Path{PathBase, PathRow, PathFew, PathDP}
		},
		now: func() time.Time { return f.clock },
		measure: func(_ DType, p Product, path Path) (Measurement, error) {
			if path == f.fail {
				return Measurement{}, os.ErrInvalid
			}
			f.clock = f.clock.Add(time.Second)
			x := Measurement{p.Op, path, p.Tokens, 1, 1, int64(10 * (9 - slices.Index(Paths, path)))}
			f.runs[x]++
			return x, nil
		},
	}
	return f
}

// check compares what is chosen with the fastest of all paths: a product counts as a whole or not at all.
func (f *fakeTuner) check(t interface{ Errorf(string, ...any) }, types []DType, missing []Product) {
	want := []Product{}
	for _, kind := range types {
		for _, p := range []Product{{"matvec_" + lower(kind), 1}, {"matmul_" + lower(kind), 2}, {"matmul_" + lower(kind), 8}} {
			all := f.candidates(p.Op)
			done := !slices.ContainsFunc(all, func(path Path) bool {
				return !slices.ContainsFunc(f.tuning.Timings, func(x Measurement) bool { return x.Op == p.Op && x.Tokens == p.Tokens && x.Path == path })
			})
			best := []Path{PathFew, PathRow, PathBase}
			if p.Tokens == 1 {
				best = []Path{PathRow, PathBase}
			}
			if !done {
				want, best = append(want, p), nil
			}
			if diff := cmp.Diff(best, f.tuning.fastest(p, all)); diff != "" {
				t.Errorf("%v with %d measurements: %s", p, len(f.tuning.Timings), diff)
			}
		}
	}
	if diff := cmp.Diff(want, missing); diff != "" {
		t.Errorf("missing after %d measurements: %s", len(f.tuning.Timings), diff)
	}
}

// Wherever the budget ends, in whatever sequence of runs, a product that lacks a path decides nothing, and the next run goes
// on there.
func TestTuneGoesOnWhereTheBudgetEnded(t *testing.T) {
	t.Parallel()
	types := []DType{dtype.Q4_0, dtype.Q8_0}
	const all = 2 * (2 + 4 + 4)
	rapid.Check(t, func(t *rapid.T) {
		f := newFakeTuner()
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, all), 0, 5).Draw(t, "seconds") {
			before := len(f.tuning.Timings)
			var seen []Measurement
			missing, err := f.run(TuneOptions{Types: types, Budget: time.Duration(n)*time.Second - 1}, func(x Measurement) { seen = append(seen, x) })
			if err != nil {
				t.Fatal(err)
			}
			if want := min(n, all-before); len(seen) != want || !slices.Equal(f.tuning.Timings[before:], seen) {
				t.Errorf("%d measurements in %d s after %d, want %d", len(seen), n, before, want)
			}
			f.check(t, types, missing)
		}
		missing, err := f.run(TuneOptions{Types: types, Budget: time.Hour}, func(Measurement) {})
		if err != nil || len(missing) > 0 {
			t.Fatalf("%v, missing %v without end", err, missing)
		}
		f.check(t, types, missing)
		for x, n := range f.runs {
			if n != 1 {
				t.Errorf("%+v was measured %d times", x, n)
			}
		}
		if len(f.runs) != all {
			t.Errorf("%d measurements, want %d", len(f.runs), all)
		}
	})
}

func TestTuneKeepsWhatPrecedesAnError(t *testing.T) {
	t.Parallel()
	types := []DType{dtype.Q4_0}
	f := newFakeTuner()
	f.fail = PathFew
	missing, err := f.run(TuneOptions{Types: types, Budget: time.Hour}, func(Measurement) {})
	if !errors.Is(err, os.ErrInvalid) || !strings.Contains(err.Error(), "matmul_q4_0_few") {
		t.Errorf("%v, want the failure and its kernel", err)
	}
	f.check(t, types, missing)
	if len(missing) != 2 || len(f.tuning.Timings) != 4 {
		t.Errorf("missing %v, %d measurements", missing, len(f.tuning.Timings))
	}
}

func TestTuningFile(t *testing.T) {
	pd := gputest.Open(t).PhysicalDevice()
	file := TuningFile(filepath.Join(t.TempDir(), "made"), pd)
	x, err := ReadTuning(file, pd)
	if err != nil || len(x.Timings) != 0 {
		t.Fatalf("%+v, %v where there is no file", x, err)
	}
	x.Add(VerifyResult{Kernel: "good", OK: true})
	for range 2 {
		x.Add(VerifyResult{Kernel: "bad", Case: "c", MaxRel: 2, Tolerance: 1})
	}
	x.Timings = append(x.Timings, Measurement{"matvec_q4_0", PathBase, 1, 64, 64, 5})
	x.MarkChecked(dtype.Q4_0)
	if len(x.Refused) != 1 || len(x.Timings) != 1 {
		t.Fatalf("%+v", x)
	}
	if err := x.Write(file); err != nil {
		t.Fatal(err)
	}
	y, err := ReadTuning(file, pd)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x, y); diff != "" {
		t.Error(diff)
	}
	x.Shaders = "others"
	if err := x.Write(file); err != nil {
		t.Fatal(err)
	}
	if y, err = ReadTuning(file, pd); err != nil || len(y.Timings)+len(y.Refused)+len(y.Checked) != 0 {
		t.Errorf("%+v, %v from a file about other kernels", y, err)
	}
	for _, text := range []string{"", "{", `{"timings": 1}`, strings.Repeat(" ", maxTuningBytes+1)} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if y, err = ReadTuning(file, pd); err == nil || y == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%+v, %v from %.20q", y, err, text)
		}
	}
}

// What the tuning says decides: the faster path, and no kernel that computed wrong results.
func TestTuningDecides(t *testing.T) {
	dev := gputest.Open(t)
	if !slices.Contains(paths(dev), PathRow) {
		t.Skip("this device has no second path for products of one token and interleaved weights")
	}
	refused := func(kernels ...string) *Tuning {
		x := &Tuning{}
		for _, k := range kernels {
			x.Add(VerifyResult{Kernel: k})
		}
		return x
	}
	slow, other := PathRow.variant("matvec_q4_0"), PathAddr.variant("matvec_q4_0")
	plain := managerOn(t, dev, Options{})
	rule := plain.layoutPath(dtype.Q4_0, 64).variant("matvec_q4_0")
	// timed gives the path first, the others a time each, but no time to those left out.
	timed := func(op string, tokens int, first Path, left ...Path) *Tuning {
		x := &Tuning{}
		for i, path := range plain.candidates(op) {
			ns := int64(10 + i)
			if path == first {
				ns = 1
			}
			if !slices.Contains(left, path) {
				x.Timings = append(x.Timings, Measurement{op, path, tokens, 1, 1, ns})
			}
		}
		return x
	}
	for _, c := range []struct {
		name   string
		tuning *Tuning
		forced Path
		want   string
	}{
		{"forced", nil, PathRow, slow},
		{"base is faster", timed("matvec_q4_0", 1, PathBase), "", "matvec_q4_0"},
		{"row is faster", timed("matvec_q4_0", 1, PathRow), "", slow},
		{"base alone was measured", &Tuning{Timings: []Measurement{{"matvec_q4_0", PathBase, 1, 1, 1, 8}}}, "", rule},
		{"row was not measured", timed("matvec_q4_0", 1, PathBase, PathRow), "", rule},
		{"base was not measured", timed("matvec_q4_0", 1, PathBase, PathBase), "", rule},
		{"a path of no name is faster", &Tuning{Timings: append(timed("matvec_q4_0", 1, PathBase).Timings, Measurement{"matvec_q4_0", "no", 1, 1, 1, 1})}, "", "matvec_q4_0"},
		{"wrong", refused(slow, other), "", "matvec_q4_0"},
		{"wrong and forced", refused(slow), PathRow, "matvec_q4_0"},
	} {
		b := newBench(t, managerOn(t, dev, Options{Path: c.forced, Tuning: c.tuning}))
		p := b.m.NewBuilder(c.name, 1)
		p.Linear(b.inputOf(p, b.normal(64), 64), b.matrix(dtype.Q4_0, 64, 64).matrix, nil)
		if got := p.lastKernel(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if _, err := p.ArenaBytes(); err != nil {
			t.Error(err)
		}
	}

	lengths := plain.tunedLengths()
	long := lengths[len(lengths)-1]
	for _, c := range []struct {
		measured, tokens int
		want             bool
	}{{2, 2, true}, {2, 7, true}, {2, 8, false}, {8, 2, false}, {8, 8, true}, {long, long - 1, false}, {long, 4 * long, true}} {
		x := timed("matmul_q4_0", c.measured, PathRow)
		if got := managerOn(t, dev, Options{Tuning: x}).tuned("matmul_q4_0", c.tokens); (got != nil) != c.want || c.want && got[0] != PathRow {
			t.Errorf("%v for %d tokens, measured with %d", got, c.tokens, c.measured)
		}
	}

	b := newBench(t, managerOn(t, dev, Options{Tuning: refused("embed_f32", PathAddr.variant("embed_f32"))}))
	p := b.m.NewBuilder("wrong base", 1)
	b.inputOf(p, b.normal(64), 64)
	if err := b.m.ReserveArena(1 << 16); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Build(context.Background()); err == nil || !strings.Contains(err.Error(), "embed_f32 computes wrong results") {
		t.Errorf("building with a wrong base kernel: %v", err)
	}
}

func TestTuneAndCheck(t *testing.T) {
	dev := gputest.Open(t)
	m := managerOn(t, dev, Options{})
	x, err := NewTuning(dev.PhysicalDevice())
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), m, x, []DType{dtype.Q4_0}, dtype.F16); err != nil {
		t.Fatal(err)
	}
	if len(x.Refused) > 0 || !x.IsChecked(dtype.Q4_0) || !x.IsChecked(dtype.F16) || x.IsChecked(dtype.Q8_0) {
		t.Errorf("%+v", x)
	}
	seen := map[string]int64{}
	each := func(m Measurement) { seen[fmt.Sprintf("%s %d", m.Path.variant(m.Op), m.Tokens)] = m.Nanoseconds }
	missing, err := Tune(t.Context(), m, x, TuneOptions{Types: []DType{dtype.Q4_0}, Budget: time.Minute}, each)
	if err != nil || len(missing) > 0 || len(seen) != len(x.Timings) {
		t.Fatalf("%v, missing %v; %d of %d measurements seen", err, missing, len(seen), len(x.Timings))
	}
	for _, path := range m.candidates("matvec_q4_0") {
		if seen[path.variant("matvec_q4_0")+" 1"] <= 0 {
			t.Errorf("matvec_q4_0 of path %s was not measured: %v", path, seen)
		}
	}
	before := len(x.Timings)
	missing, err = Tune(t.Context(), m, x, TuneOptions{Types: WeightTypes(), Budget: -1}, each)
	if want := (len(WeightTypes()) - 1) * len(m.tunedLengths()); err != nil || len(x.Timings) != before || len(missing) != want {
		t.Errorf("%v, %d measurements beyond the budget, %d products missing, want %d", err, len(x.Timings)-before, len(missing), want)
	}
}

// Every candidate takes the products that Tune measures it with, or the product would be missing for ever.
func TestCandidatesTakeTheirProducts(t *testing.T) {
	dev := gputest.Open(t)
	m := managerOn(t, dev, Options{})
	for _, kind := range WeightTypes() {
		for _, path := range m.candidates(product(kind, 2).Op) {
			forced := newBench(t, managerOn(t, dev, Options{Path: path}))
			table, w := forced.matrix(dtype.F32, 8, 1024).matrix, forced.matrix(kind, 8, 1024).matrix
			for _, tokens := range m.tunedLengths() {
				p := product(kind, tokens)
				if !slices.Contains(m.candidates(p.Op), path) {
					continue
				}
				b := forced.m.NewBuilder(p.Op, tokens)
				b.Linear(b.Embed(table, 1), w, nil)
				if got := b.lastKernel(); got != path.variant(p.Op) {
					t.Errorf("%v: %q, want path %s", p, got, path)
				}
			}
		}
	}
}
