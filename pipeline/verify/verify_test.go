package verify

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/pipeline"
	"pumice/shaders"
	"pumice/vk"
)

func newManager(t testing.TB, o pipeline.Options) *pipeline.Manager {
	t.Helper()
	return managerOn(t, gputest.Open(t), o)
}

func managerOn(t testing.TB, dev *vk.Device, o pipeline.Options) *pipeline.Manager {
	t.Helper()
	m, err := pipeline.NewManager(dev, o)
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

// Every kernel that the device can run agrees with the float64 oracle, with NaN wherever it must not look. A stage of tools/test.sh has
// those of its own, PUMICE_TEST_KERNELS those that it lists.
func TestVerify(t *testing.T) {
	m := newManager(t, pipeline.Options{})
	o := Options{Quick: testing.Short()}
	s := thisStage(t)
	if s != nil {
		s.check(t, m)
		o.Paths, o.Types = s.paths, s.types
	}
	if list := os.Getenv("PUMICE_TEST_KERNELS"); list != "" {
		o.Kernels = strings.Fields(list)
		table := variants(t)
		for _, name := range o.Kernels {
			if !slices.ContainsFunc(table, func(v shaders.Variant) bool { return v.Name == name }) {
				t.Errorf("PUMICE_TEST_KERNELS: no kernel %q", name)
			}
		}
	}
	cases := map[string]int{}
	worst := map[string]Result{}
	err := Kernels(t.Context(), m, o, func(r Result) {
		cases[r.Kernel]++
		if w := worst[r.Kernel]; r.MaxRel*w.Tolerance >= w.MaxRel*r.Tolerance {
			worst[r.Kernel] = r
		}
		if !r.OK {
			t.Error(r)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	runnable := m.Variants()
	for _, v := range variants(t) {
		if !slices.Contains(runnable, v.Name) || s != nil && !s.verifies(v) || o.Kernels != nil && !slices.Contains(o.Kernels, v.Name) {
			continue
		}
		if cases[v.Name] == 0 {
			t.Errorf("%s was not verified", v.Name)
		}
		t.Logf("%3d cases of %s, the worst: %v", cases[v.Name], v.Name, worst[v.Name])
	}
}

// A NaN or an infinity among a token's activations makes its results NaN or infinite on every path, and no
// other token's.
func TestProductsShowWhatIsNotFinite(t *testing.T) {
	const rows, cols, tokens = 33, 64, 9
	bad := map[int]float64{2: math.NaN(), 4: math.Inf(1), 7: math.Inf(-1)} // of token
	m := newManager(t, pipeline.Options{})
	for _, path := range m.Paths() {
		t.Run(string(path), func(t *testing.T) {
			err := onPath(t.Context(), m, path, nil, nil, func(v *verifier) {
				v.check("not finite", func() error {
					w, err := v.operand(rowsOf(dtype.Q8_0, rows), cols)
					if err != nil {
						return err
					}
					x := v.normal(tokens * cols)
					for token, value := range bad {
						x[token*cols+5+token] = value
					}
					b := v.m.NewBuilder(v.name, tokens)
					xt, err := v.input(b, x, cols)
					if err != nil {
						return err
					}
					got, err := v.evaluate(b, b.Linear(xt, w.matrix, nil), inputStep(0, tokens))
					if err != nil {
						return err
					}
					for i, y := range got {
						_, spoilt := bad[i/rows]
						if finite := !math.IsNaN(float64(y)) && !math.IsInf(float64(y), 0); finite == spoilt {
							t.Fatalf("%s: row %d of token %d is %v", lastKernel(b), i%rows, i/rows, y)
						}
					}
					return nil
				})
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}
