package pipeline

import (
	"testing"

	"pumice/internal/gputest"
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

// Every kernel that the device can run agrees with the float64 oracle, on both paths, with
// NaN wherever it must not look.
func TestVerify(t *testing.T) {
	m := newManager(t, Options{})
	cases := map[string]int{}
	worst := map[string]VerifyResult{}
	err := Verify(t.Context(), m, VerifyOptions{Quick: testing.Short()}, func(r VerifyResult) {
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
	for _, name := range m.Variants() {
		if cases[name] == 0 {
			t.Errorf("%s was not verified", name)
		}
		t.Logf("%3d cases of %s, the worst: %v", cases[name], name, worst[name])
	}
}
