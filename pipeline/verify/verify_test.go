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
	"pumice/pipeline/kernels"
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
	const rows, cols = 33, 64
	m := newManager(t, pipeline.Options{})
	for _, path := range m.Paths() {
		t.Run(string(path), func(t *testing.T) {
			err := onPath(t.Context(), m, path, nil, nil, func(v *verifier) {
				for _, bad := range [][]float64{ // of each token; 0: none
					{0, 0, math.NaN(), 0, math.Inf(1), 0, 0, math.Inf(-1), 0}, {math.NaN()}, {math.Inf(1)}, {0},
				} {
					v.check("not finite", func() error {
						w, err := v.operand(rowsOf(dtype.Q8_0, rows), cols)
						if err != nil {
							return err
						}
						x := v.normal(len(bad) * cols)
						for token, value := range bad {
							if value != 0 {
								x[token*cols+5+token] = value
							}
						}
						b := v.m.NewBuilder(v.name, len(bad))
						xt, err := v.input(b, x, cols)
						if err != nil {
							return err
						}
						got, err := v.evaluate(b, b.Linear(xt, w.matrix, nil), inputStep(0, len(bad)))
						if err != nil {
							return err
						}
						for i, y := range got {
							if finite := y-y == 0; finite != (bad[i/rows] == 0) {
								t.Fatalf("%s: row %d of token %d is %v", lastKernel(b), i%rows, i/rows, y)
							}
						}
						return nil
					})
				}
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// Products by matrices agree with the oracle also where, as on NVIDIA's GPUs, a trip takes two tiles of columns, and columns end
// with the first of them.
func TestTripsOfTwoTiles(t *testing.T) {
	const nvidia = 0x10de
	dev := gputest.Open(t)
	dev.PhysicalDevice().VendorID = nvidia
	m := managerOn(t, dev, pipeline.Options{})
	if !slices.Contains(m.Paths(), kernels.CM) {
		t.Skip("the device has no matrices")
	}
	err := onPath(t.Context(), m, kernels.CM, func(r Result) {
		if !r.OK {
			t.Error(r)
		}
	}, nil, func(v *verifier) {
		for _, tiles := range []int{4, 5} {
			v.linear(rowsOf(dtype.Q4_0, 70), tiles*32, 65, 65, true, false)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Products of one token agree with the oracle also where, as on NVIDIA's GPUs, kernels make floats of integers without
// converting them.
func TestFractions(t *testing.T) {
	const nvidia = 0x10de
	dev := gputest.Open(t)
	dev.PhysicalDevice().VendorID = nvidia
	err := onPath(t.Context(), managerOn(t, dev, pipeline.Options{}), kernels.SG, func(r Result) {
		if !r.OK {
			t.Error(r)
		}
	}, nil, func(v *verifier) {
		// Each with other bits in a word: with an offset, a constant, high bits, four fields, and none.
		for _, dt := range []dtype.DType{dtype.Q4_0, dtype.Q4_1, dtype.Q6_K, dtype.Q2_K, dtype.Q8_0, dtype.IQ4_NL} {
			v.linear(rowsOf(dt, 9), 512, 1, 1, true, false)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
