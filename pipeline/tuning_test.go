package pipeline

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
)

func TestTuningOrdersPathsByTime(t *testing.T) {
	x := &Tuning{Timings: []Measurement{
		{Op: "matmul_q4_0", Path: PathBase, Tokens: 8, Nanoseconds: 10}, {Op: "matmul_q4_0", Path: PathRow, Tokens: 8, Nanoseconds: 20},
		{Op: "matmul_q4_0", Path: PathRow, Tokens: 64, Nanoseconds: 30}, {Op: "matmul_q4_0", Path: PathBase, Tokens: 64, Nanoseconds: 40},
		{Op: "matmul_q4_1", Path: PathBase, Tokens: 8, Nanoseconds: 1},
		{Op: "matmul_q4_0", Path: PathDP, Tokens: 64, Nanoseconds: 1}, // is never chosen for its speed
	}}
	for tokens, want := range map[int][]Path{
		2: {PathBase, PathRow}, 8: {PathBase, PathRow}, 63: {PathBase, PathRow}, 64: {PathRow, PathBase}, 512: {PathRow, PathBase},
	} {
		if diff := cmp.Diff(want, x.paths("matmul_q4_0", tokens)); diff != "" {
			t.Errorf("%d tokens: %s", tokens, diff)
		}
	}
	if got := x.paths("matmul_q8_0", 8); got != nil {
		t.Errorf("%v for an op that was not measured", got)
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
	x.replace(Measurement{"matvec_q4_0", PathBase, 1, 64, 64, 5})
	x.replace(Measurement{"matvec_q4_0", PathBase, 1, 64, 64, 6})
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
	for _, c := range []struct {
		name   string
		tuning *Tuning
		forced Path
		want   string
	}{
		{"forced", nil, PathRow, slow},
		{"faster", &Tuning{Timings: []Measurement{{"matvec_q4_0", PathRow, 1, 1, 1, 9}, {"matvec_q4_0", PathBase, 1, 1, 1, 8}}}, "", "matvec_q4_0"},
		{"slower", &Tuning{Timings: []Measurement{{"matvec_q4_0", PathRow, 1, 1, 1, 7}, {"matvec_q4_0", PathBase, 1, 1, 1, 8}}}, "", slow},
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

	b := newBench(t, managerOn(t, dev, Options{Tuning: refused("embed_f32", PathAddr.variant("embed_f32"))}))
	p := b.m.NewBuilder("wrong base", 1)
	b.inputOf(p, b.normal(64), 64)
	if err := b.m.ReserveArena(1 << 16); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Build(); err == nil || !strings.Contains(err.Error(), "embed_f32 computes wrong results") {
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
	var seen []Measurement
	each := func(m Measurement) { seen = append(seen, m) }
	if err := Tune(t.Context(), m, x, TuneOptions{Types: []DType{dtype.Q4_0}, Budget: time.Minute}, each); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(x.Timings, seen); diff != "" {
		t.Error(diff)
	}
	for _, path := range m.Paths() {
		if _, ok := m.variants[path.variant("matvec_q4_0")]; !ok {
			continue
		}
		ok := false
		for _, s := range seen {
			ok = ok || s.Op == "matvec_q4_0" && s.Path == path && s.Nanoseconds > 0
		}
		if !ok {
			t.Errorf("matvec_q4_0 of path %s was not measured: %+v", path, seen)
		}
	}
	if err := Tune(t.Context(), m, x, TuneOptions{Types: WeightTypes(), Budget: -1}, each); err != nil || len(seen) != len(x.Timings) {
		t.Errorf("%v; %d measurements beyond the budget", err, len(seen)-len(x.Timings))
	}
}
