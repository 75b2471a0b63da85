package pipeline

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
)

func TestFastestNeedsEveryPath(t *testing.T) {
	t.Parallel()
	x := &Tuning{Timings: []Measurement{
		{Op: "matmul_q4_0", Path: kernels.Base, Tokens: 8, Nanoseconds: 10}, {Op: "matmul_q4_0", Path: kernels.Row, Tokens: 8, Nanoseconds: 20},
		{Op: "matmul_q4_0", Path: kernels.Row, Tokens: 64, Nanoseconds: 30}, {Op: "matmul_q4_0", Path: kernels.Base, Tokens: 64, Nanoseconds: 40},
		{Op: "matmul_q4_0", Path: kernels.DP, Tokens: 64, Nanoseconds: 1},
		{Op: "matmul_q4_1", Path: kernels.Base, Tokens: 8, Nanoseconds: 1}, {Op: "matmul_q4_1", Path: kernels.Row, Tokens: 8},
	}}
	for _, c := range []struct {
		name   string
		op     string
		tokens int
		paths  []kernels.Path
		want   []kernels.Path
	}{
		{"base is faster", "matmul_q4_0", 8, []kernels.Path{kernels.Base, kernels.Row}, []kernels.Path{kernels.Base, kernels.Row}},
		{"row is faster", "matmul_q4_0", 64, []kernels.Path{kernels.Base, kernels.Row}, []kernels.Path{kernels.Row, kernels.Base}},
		{"dp is not chosen for its speed", "matmul_q4_0", 64, []kernels.Path{kernels.Base, kernels.Row, kernels.DP}, []kernels.Path{kernels.Row, kernels.Base}},
		{"a path is not measured", "matmul_q4_0", 8, []kernels.Path{kernels.Base, kernels.Row, kernels.Few}, nil},
		{"a measured path does not run any more", "matmul_q4_0", 64, []kernels.Path{kernels.Base}, []kernels.Path{kernels.Base}},
		{"another length", "matmul_q4_0", 2, []kernels.Path{kernels.Base, kernels.Row}, nil},
		{"another type", "matmul_q8_0", 8, []kernels.Path{kernels.Base, kernels.Row}, nil},
		{"a time of nothing", "matmul_q4_1", 8, []kernels.Path{kernels.Base, kernels.Row}, nil},
	} {
		if diff := cmp.Diff(c.want, x.Fastest(Product{c.op, c.tokens}, c.paths)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

func TestTuningFile(t *testing.T) {
	pd := gputest.Open(t).PhysicalDevice()
	file := TuningFile(filepath.Join(t.TempDir(), "made"), pd)
	x, err := ReadTuning(file, pd)
	if err != nil || len(x.Timings) != 0 {
		t.Fatalf("%+v, %v where there is no file", x, err)
	}
	for range 2 {
		x.Refuse(Refusal{Kernel: "bad", Case: "c", MaxRel: 2, Tolerance: 1})
	}
	x.Timings = append(x.Timings, Measurement{Op: "matmul_q4_0", Path: kernels.CM, Tokens: 64, Rows: 64, Cols: 64, Nanoseconds: 5, Tiling: kernels.Tiling{Splits: 2}})
	x.MarkChecked(dtype.Q4_0)
	for _, kernel := range []string{"right", "bad", "also", "right"} {
		x.Pass(kernel)
	}
	x.Pass("wrong later")
	x.Refuse(Refusal{Kernel: "wrong later"})
	if x.HasPassed("bad") || x.HasPassed("wrong later") || !x.HasPassed("right") || !x.HasPassed("also") || len(x.Passed) != 2 {
		t.Errorf("passed: %v", x.Passed)
	}
	x.Refused = x.Refused[:1]
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
	if !slices.Contains(paths(dev), kernels.Row) {
		t.Skip("this device has no second path for products of one token and interleaved weights")
	}
	refused := func(names ...string) *Tuning {
		x := &Tuning{}
		for _, k := range names {
			x.Refuse(Refusal{Kernel: k})
		}
		return x
	}
	slow, other := kernels.Row.Variant("matvec_q4_0"), kernels.Addr.Variant("matvec_q4_0")
	plain := managerOn(t, dev, Options{})
	rule := plain.layout(dtype.Q4_0, 64).Path().Variant("matvec_q4_0")
	// timed gives the path first, the others a time each, but no time to those left out.
	timed := func(op string, tokens int, first kernels.Path, left ...kernels.Path) *Tuning {
		x := &Tuning{}
		for i, path := range plain.Candidates(op) {
			ns := int64(10 + i)
			if path == first {
				ns = 9
			}
			if !slices.Contains(left, path) {
				x.Timings = append(x.Timings, Measurement{Op: op, Path: path, Tokens: tokens, Nanoseconds: ns})
			}
		}
		return x
	}
	one := func(path kernels.Path, ns int64) Measurement {
		return Measurement{Op: "matvec_q4_0", Path: path, Tokens: 1, Nanoseconds: ns}
	}
	for _, c := range []struct {
		name   string
		tuning *Tuning
		forced kernels.Path
		want   string
	}{
		{"forced", nil, kernels.Row, slow},
		{"base is faster", timed("matvec_q4_0", 1, kernels.Base), "", "matvec_q4_0"},
		{"row is faster", timed("matvec_q4_0", 1, kernels.Row), "", slow},
		{"base alone was measured", &Tuning{Timings: []Measurement{one(kernels.Base, 8)}}, "", rule},
		{"row was not measured", timed("matvec_q4_0", 1, kernels.Base, kernels.Row), "", rule},
		{"base was not measured", timed("matvec_q4_0", 1, kernels.Base, kernels.Base), "", rule},
		{"a path of no name is faster", &Tuning{Timings: append(timed("matvec_q4_0", 1, kernels.Base).Timings, one("no", 1))}, "", "matvec_q4_0"},
		{"the others take more than three times as long", &Tuning{Timings: []Measurement{one(kernels.Base, 10), one(kernels.Row, 31),
			one(kernels.Addr, 31)}}, "", "matvec_q4_0"},
		{"they take three times as long", &Tuning{Timings: []Measurement{one(kernels.Base, 10), one(kernels.Row, 30), one(kernels.Addr, 30)}}, "", rule},
		{"wrong", refused(slow, other), "", "matvec_q4_0"},
		{"wrong and forced", refused(slow), kernels.Row, "matvec_q4_0"},
	} {
		b := newBench(t, managerOn(t, dev, Options{Path: c.forced, Tuning: c.tuning}))
		p := b.m.NewBuilder(c.name, 1)
		p.Linear(b.inputOf(p, b.normal(64), 64), b.matrix(dtype.Q4_0, 64, 64).matrix, nil)
		if got := p.Dispatched()[len(p.Dispatched())-1]; got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if _, err := p.Need(); err != nil {
			t.Error(err)
		}
	}

	lengths := plain.TunedTokens()
	long := lengths[len(lengths)-1]
	for _, c := range []struct {
		measured, tokens int
		want             bool
	}{{2, 2, true}, {2, 7, true}, {2, 8, false}, {8, 2, false}, {8, 8, true}, {long, long - 1, false}, {long, 4 * long, true}} {
		x := timed("matmul_q4_0", c.measured, kernels.Row)
		if got := managerOn(t, dev, Options{Tuning: x}).tuned("matmul_q4_0", c.tokens); (got != nil) != c.want || c.want && got[0] != kernels.Row {
			t.Errorf("%v for %d tokens, measured with %d", got, c.tokens, c.measured)
		}
	}

	b := newBench(t, managerOn(t, dev, Options{Tuning: refused("embed_f32", kernels.Addr.Variant("embed_f32"))}))
	p := b.m.NewBuilder("wrong base", 1)
	b.inputOf(p, b.normal(64), 64)
	if err := b.m.Reserve(roomy); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Build(context.Background()); err == nil || !strings.Contains(err.Error(), "embed_f32 computes wrong results") {
		t.Errorf("building with a wrong base kernel: %v", err)
	}
}
