package verify

import (
	"errors"
	"fmt"
	"os"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fakeTuner measures in a world without a device, where every measurement takes a second and the base path, measured first, is the slowest.
type fakeTuner struct {
	tuner
	clock time.Time
	runs  map[pipeline.Measurement]int
	fail  kernels.Path // measuring it is an error
}

func newFakeTuner() *fakeTuner {
	f := &fakeTuner{runs: map[pipeline.Measurement]int{}}
	f.tuner = tuner{
		tuning:  &pipeline.Tuning{},
		lengths: []int{1, 2, 8},
		candidates: func(op string) []kernels.Path {
			if strings.HasPrefix(op, "matvec_") {
				return []kernels.Path{kernels.Base, kernels.Row}
			}
			return []kernels.Path{kernels.Base, kernels.Row, kernels.Few, kernels.DP}
		},
		rules: func(p pipeline.Product, path kernels.Path) bool {
			return path != kernels.DP && (path != kernels.Few || p.Tokens <= 8)
		},
		tilings: func(_ pipeline.DType, p pipeline.Product, path kernels.Path) []kernels.Tiling {
			if path == kernels.Few { // the fastest that is chosen
				return []kernels.Tiling{{Splits: 2}, {Splits: 3}}
			}
			return nil
		},
		now: func() time.Time { return f.clock },
		measure: func(_ pipeline.DType, p pipeline.Product, path kernels.Path, tiling kernels.Tiling) (pipeline.Measurement, error) {
			if path == f.fail {
				return pipeline.Measurement{}, os.ErrInvalid
			}
			f.clock = f.clock.Add(time.Second)
			x := pipeline.Measurement{Op: p.Op, Path: path, Tokens: p.Tokens, Rows: 1, Cols: 1, Tiling: tiling, Nanoseconds: int64(10*(9-slices.Index(kernels.Paths, path)) - tiling.Splits)}
			f.runs[x]++
			return x, nil
		},
	}
	return f
}

// check compares what is chosen with the fastest of all paths: a product counts as a whole or not at all.
func (f *fakeTuner) check(t interface{ Errorf(string, ...any) }, types []pipeline.DType, missing []pipeline.Product) {
	want := []pipeline.Product{}
	for _, kind := range types {
		for _, p := range []pipeline.Product{product(kind, 1), product(kind, 2), product(kind, 8)} {
			all := f.candidates(p.Op)
			done := !slices.ContainsFunc(all, func(path kernels.Path) bool {
				_, ok := f.tuning.Measured(p, path)
				return !ok
			})
			best := []kernels.Path{kernels.Few, kernels.Row, kernels.Base}
			if p.Tokens == 1 {
				best = []kernels.Path{kernels.Row, kernels.Base}
			}
			shared := !strings.HasPrefix(p.Op, "matmul_")
			for _, x := range f.tuning.Timings {
				shared = shared || x.Op == p.Op && x.Tokens == p.Tokens && x.Tiling.Splits == 3
			}
			if !done || !shared {
				want = append(want, p)
			}
			if !done {
				best = nil
			}
			if diff := cmp.Diff(best, f.tuning.Fastest(p, all)); diff != "" {
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
	types := []pipeline.DType{dtype.Q4_0, dtype.Q8_0}
	const all = 2 * (2 + 4 + 2 + 4 + 2)
	rapid.Check(t, func(t *rapid.T) {
		f := newFakeTuner()
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, all), 0, 5).Draw(t, "seconds") {
			before := len(f.tuning.Timings)
			var seen []pipeline.Measurement
			missing, err := f.run(TuneOptions{Types: types, Budget: time.Duration(n)*time.Second - 1}, func(x pipeline.Measurement, _, _ int) { seen = append(seen, x) })
			if err != nil {
				t.Fatal(err)
			}
			if want := min(n, all-before); len(seen) != want || !slices.Equal(f.tuning.Timings[before:], seen) {
				t.Errorf("%d measurements in %d s after %d, want %d", len(seen), n, before, want)
			}
			f.check(t, types, missing)
		}
		missing, err := f.run(TuneOptions{Types: types, Budget: time.Hour}, func(pipeline.Measurement, int, int) {})
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

// TestScreenTimesWhatRulesMayChoose: one of few tokens and of many, each once.
func TestScreenTimesWhatRulesMayChoose(t *testing.T) {
	f := newFakeTuner()
	for range 2 {
		if err := f.screen([]pipeline.DType{dtype.Q4_0}); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, x := range f.tuning.Timings {
		got = append(got, fmt.Sprint(x.Path.Variant(x.Op), " ", x.Tokens))
	}
	want := []string{"matvec_q4_0 1", "matvec_q4_0_row 1", "matmul_q4_0 8", "matmul_q4_0_row 8", "matmul_q4_0_few 8",
		"matmul_q4_0 128", "matmul_q4_0_row 128"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	f = newFakeTuner()
	f.fail = kernels.Row
	if err := f.screen([]pipeline.DType{dtype.Q4_0}); !errors.Is(err, os.ErrInvalid) || !strings.Contains(err.Error(), "matvec_q4_0_row") {
		t.Errorf("%v, want the failure and its kernel", err)
	}
}

func TestTuneKeepsWhatPrecedesAnError(t *testing.T) {
	t.Parallel()
	types := []pipeline.DType{dtype.Q4_0}
	f := newFakeTuner()
	f.fail = kernels.Few
	missing, err := f.run(TuneOptions{Types: types, Budget: time.Hour}, func(pipeline.Measurement, int, int) {})
	if !errors.Is(err, os.ErrInvalid) || !strings.Contains(err.Error(), "matmul_q4_0_few") {
		t.Errorf("%v, want the failure and its kernel", err)
	}
	f.check(t, types, missing)
	if len(missing) != 2 || len(f.tuning.Timings) != 4 {
		t.Errorf("missing %v, %d measurements", missing, len(f.tuning.Timings))
	}
}

func TestTuneAndCheck(t *testing.T) {
	dev := gputest.Open(t)
	m := managerOn(t, dev, pipeline.Options{})
	x, err := pipeline.NewTuning(dev.PhysicalDevice())
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(t.Context(), m, x, []pipeline.DType{dtype.Q4_0}, dtype.F16); err != nil {
		t.Fatal(err)
	}
	if len(x.Refused) > 0 || !x.IsChecked(dtype.Q4_0) || !x.IsChecked(dtype.F16) || x.IsChecked(dtype.Q8_0) {
		t.Errorf("%+v", x)
	}
	for _, kernel := range []string{"matvec_q4_0", "rms_norm", "attention_f16"} {
		if !x.HasPassed(kernel) {
			t.Errorf("%s did not pass: %v", kernel, x.Passed)
		}
	}
	seen := map[string]int64{}
	each := func(m pipeline.Measurement, done, total int) {
		if done != len(seen)+1 || done > total {
			t.Errorf("measurement %d is the %dth of %d", len(seen)+1, done, total)
		}
		seen[fmt.Sprintf("%s %d", m.Path.Variant(m.Op), m.Tokens)] = m.Nanoseconds
	}
	missing, err := Tune(t.Context(), m, x, TuneOptions{Types: []pipeline.DType{dtype.Q4_0}, Budget: time.Minute}, each)
	if err != nil || len(missing) > 0 || len(seen) != len(x.Timings) {
		t.Fatalf("%v, missing %v; %d of %d measurements seen", err, missing, len(seen), len(x.Timings))
	}
	for _, path := range m.Candidates("matvec_q4_0") {
		if seen[path.Variant("matvec_q4_0")+" 1"] <= 0 {
			t.Errorf("matvec_q4_0 of path %s was not measured: %v", path, seen)
		}
	}
	tiled, err := measure(t.Context(), m, kernels.Base, "matmul_q4_0", dtype.Q4_0, 64, kernels.Tiling{Splits: 2}, x)
	if err != nil || tiled.Nanoseconds <= 0 || tiled.Tiling.Splits != 2 || tiled.Rows < 1 || tiled.Path != kernels.Base {
		t.Errorf("%+v, %v of a product in two splits", tiled, err)
	}
	before := len(x.Timings)
	missing, err = Tune(t.Context(), m, x, TuneOptions{Types: kernels.WeightTypes(), Budget: -1}, each)
	if want := (len(kernels.WeightTypes()) - 1) * len(m.TunedTokens()); err != nil || len(x.Timings) != before || len(missing) != want {
		t.Errorf("%v, %d measurements beyond the budget, %d products missing, want %d", err, len(x.Timings)-before, len(missing), want)
	}
}

// Every candidate takes the products that Tune measures it with, or the product would be missing for ever.
func TestCandidatesTakeTheirProducts(t *testing.T) {
	dev := gputest.Open(t)
	m := managerOn(t, dev, pipeline.Options{})
	for _, kind := range kernels.WeightTypes() {
		for _, path := range m.Candidates(product(kind, 2).Op) {
			forced := newBench(t, managerOn(t, dev, pipeline.Options{Path: path}))
			table, w := forced.matrix(dtype.F32, 8, 1024).matrix, forced.matrix(kind, 8, 1024).matrix
			for _, tokens := range m.TunedTokens() {
				p := product(kind, tokens)
				if !slices.Contains(m.Candidates(p.Op), path) {
					continue
				}
				b := forced.m.NewBuilder(p.Op, tokens)
				b.Linear(b.Embed(table, 1), w, nil)
				if got := lastKernel(b); got != path.Variant(p.Op) {
					t.Errorf("%v: %q, want path %s", p, got, path)
				}
			}
		}
	}
}
