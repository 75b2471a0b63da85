package pipeline

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/dtype"
	"pumice/vk"
)

// Each driver's numbers are found under its own names.
func TestStatsOfDrivers(t *testing.T) {
	for driver, c := range map[string]struct {
		told vk.Compiled
		want KernelStats
	}{
		"RADV": {
			vk.Compiled{Statistics: map[string]float64{"VGPRs": 96, "Spilled SGPRs": 1, "Spilled VGPRs": 2, "LDS size": 4096, "Code size": 800, "Subgroups per SIMD": 10}},
			KernelStats{Registers: 96, Spills: 3, Shared: 4096, CodeBytes: 800, Waves: 10},
		},
		"NVK": {
			vk.Compiled{SubgroupSize: 32, Statistics: map[string]float64{"Number of GPRs": 88, "Spills to reg": 2, "Instruction count": 700, "Static cycle count": 900}},
			KernelStats{Registers: 88, Kept: 2, Instructions: 700, Cycles: 900, Lanes: 32},
		},
		"ANV": {
			vk.Compiled{SubgroupSize: 16, Statistics: map[string]float64{"Max live registers": 61, "Max dispatch width": 32, "Spills": 4}},
			KernelStats{Registers: 61, Spills: 4, Lanes: 16},
		},
		"NVIDIA": {
			vk.Compiled{SubgroupSize: 32, Statistics: map[string]float64{"Register Count": 128, "Stack Size": 16, "Binary Size": 5000}},
			KernelStats{Registers: 128, Scratch: 16, CodeBytes: 5000, Lanes: 32},
		},
	} {
		var got KernelStats
		got.read(&c.told)
		c.want.Statistics = c.told.Statistics
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", driver, diff)
		}
	}
}

// A driver without the extension is an error that says so; one with it tells at least one number.
func TestCompileTellsStats(t *testing.T) {
	b := newBench(t, newManager(t, Options{}))
	p := b.m.NewBuilder("stats", 1)
	p.Linear(b.inputOf(p, b.normal(64), 64), b.matrix(dtype.F32, 32, 64).matrix, nil)
	list, err := p.Kernels()
	if err != nil {
		t.Fatal(err)
	}
	stats, _, err := list[1].Compile(b.m.dev)
	if !b.m.dev.PhysicalDevice().Features.PipelineExecutableProperties {
		if !errors.Is(err, ErrNoStats) {
			t.Errorf("error %v", err)
		}
		return
	}
	if err != nil || stats.Kernel != list[1].Variant || stats.Constants == "" || len(stats.Statistics) == 0 {
		t.Errorf("%+v, error %v", stats, err)
	}
}
