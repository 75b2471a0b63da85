package pipeline

import (
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline/kernels"
)

// TestCeilingsAreMeasured: each arithmetic that the device has a kernel for has a rate, and no other; a kernel that computes
// wrong results has none.
func TestCeilingsAreMeasured(t *testing.T) {
	dev := gputest.Open(t)
	m := managerOn(t, dev, Options{})
	c, err := m.Ceilings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	for _, a := range kernels.Arithmetics {
		if has := m.Offers("peak", a.Path()); has != (c.Peak(a) > 0) {
			t.Errorf("%s: a kernel %t, %g operations a second", a, has, c.Peak(a))
		}
	}
	if c.ReadBandwidth <= 0 || c.CopyBandwidth <= 0 || c.SubmitUS <= 0 || c.DispatchUS < 0 || c.BarrierUS < 0 || c.DispatchUS > 10*c.SubmitUS {
		t.Errorf("%+v", c)
	}
	if m.machine.CPU() && c.Matrix > c.F32 { // matrices are float32 products there, with conversions
		t.Errorf("matrices are computed faster than float32: %+v", c)
	}
	refused := &Tuning{}
	refused.Refuse(Refusal{Kernel: "peak"})
	if rate, err := managerOn(t, dev, Options{Tuning: refused}).Peak(t.Context(), kernels.F32); err != nil || rate != 0 {
		t.Errorf("%g operations a second by a kernel that is wrong: %v", rate, err)
	}
}

// TestBurstsAreWhatTheirOperationsSay: twice the rounds are twice the operations, and every arithmetic counts what its
// instructions do.
func TestBurstsAreWhatTheirOperationsSay(t *testing.T) {
	m := newManager(t, Options{}).machine
	for a, want := range map[kernels.Arithmetic]float64{kernels.F32: 2, kernels.F16: 4, kernels.Int8: 8} {
		b := kernels.Burst{Rounds: 3, Workgroups: 5}
		if got := b.Operations(m, a); got != want*3*16*8*5*64 {
			t.Errorf("%s: %g operations", a, got)
		}
	}
}

// TestCountersTellArithmeticsApart: products of several tokens count in the arithmetic of the path that computes them.
func TestCountersTellArithmeticsApart(t *testing.T) {
	dev := gputest.Open(t)
	for _, path := range paths(dev) {
		b := newBench(t, managerOn(t, dev, Options{Path: path}))
		if !b.m.Offers("matmul_q8_0", path) {
			continue
		}
		const rows, cols, tokens = 64, 64, 32
		w := b.matrix(dtype.Q8_0, rows, cols)
		p := b.m.NewBuilder("arithmetic", tokens)
		p.Output("y", p.Linear(b.inputOf(p, b.normal(tokens*cols), cols), w.matrix, nil))
		c := run(t, b.build(p), inputStep(0, tokens))
		for _, a := range kernels.Arithmetics {
			want := int64(0)
			if a == path.Arithmetic() {
				want = 2 * rows * cols * tokens
			}
			if got := c.OperationsBy(a); got != want {
				t.Errorf("%s: %d operations in %s, want %d", path, got, a, want)
			}
		}
	}
}
