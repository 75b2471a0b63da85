package pipeline

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
)

// TestDispatchesOfADescribedDevice: what a plan is made of, on a device that is not there, with bytes worked out by hand.
func TestDispatchesOfADescribedDevice(t *testing.T) {
	t.Parallel()
	m, err := Describe(h100.physical(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	w, err := m.NewMatrix("w", []Band{{dtype.Q4_0, 4096}}, 1024)
	if err != nil {
		t.Fatal(err)
	}
	b := m.NewBuilder("described", 1)
	x := b.Input(1024)
	first, second := b.Act(x, kernels.SiLU), b.Act(x, kernels.SiLU)
	b.Add(first, second)
	b.Linear(first, w, nil)
	list, err := b.Dispatches(Step{Sequences: []Sequence{{Tokens: make([]int, 1)}}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, fmt.Sprint(d.Kernel, " ", d.Size, " ", d.Workgroups, " ", d.Lanes, " ", d.Waits, " ", d.WeightBytes, " ", d.TensorBytes, " ", d.Operations))
	}
	want := []string{
		"act_mul 1x1024 16 0 false 0 8192 0",
		"act_mul 1x1024 16 0 false 0 8192 0", // reads what the first one reads, and writes elsewhere
		"add 1x1024 16 0 true 0 8192 0",
		// 16 rows a workgroup; 18 bytes for 32 weights; 1024 and 4096 numbers.
		"matvec_q4_0_dp2 4096x1024 256 32 true 2359296 20480 8388608",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := b.Build(t.Context()); err == nil {
		t.Error("a plan of a device that is not there was built")
	}
	b.Fail("broken")
	if _, err := b.Dispatches(Step{}); err == nil {
		t.Error("dispatches of a broken plan")
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
