package pipeline

import (
	"errors"
	"fmt"
	"strings"

	"pumice/vk"
)

// KernelStats is what a driver's compiler tells of a kernel (VK_KHR_pipeline_executable_properties). A driver has its own
// names for what it counts; what it does not tell is 0.
type KernelStats struct {
	Kernel       string             `json:"kernel"`       // variant, as shaders/variants.txt names it
	Constants    string             `json:"constants"`    // specialization constants that are not 0
	Lanes        int                `json:"lanes"`        // of a subgroup
	Registers    int                `json:"registers"`    // of an invocation
	Spills       int                `json:"spills"`       // registers that are kept in memory
	Kept         int                `json:"kept"`         // predicates and the like in ordinary registers, because their own kind was full
	Scratch      int                `json:"scratch"`      // bytes of memory of an invocation, which spills take
	Shared       int                `json:"shared"`       // bytes of shared memory of a workgroup
	Instructions int                `json:"instructions"` // of the whole kernel
	Cycles       int                `json:"cycles"`       // that a subgroup keeps a unit busy, as the compiler estimates them
	Latency      int                `json:"latency"`      // cycles from a subgroup's first instruction to its last, waiting included, by the same estimate
	Waves        int                `json:"waves"`        // subgroups at once on a SIMD unit (AMD) or a multiprocessor (NVIDIA)
	CodeBytes    int                `json:"code_bytes"`
	Statistics   map[string]float64 `json:"statistics"` // all that the driver tells, by its own names
}

// ErrNoStats is the error of a driver that tells nothing of what it compiles.
var ErrNoStats = errors.New("pipeline: the driver tells nothing of the kernels that it compiles: it lacks VK_KHR_pipeline_executable_properties")

// statNames are the names by which drivers tell the fields of KernelStats: Mesa's RADV, NVK and ANV, NVIDIA's and AMD's own
// drivers, in this order. Values under several names of a row are added.
var statNames = []struct {
	field func(*KernelStats) *int
	names []string
}{
	{func(k *KernelStats) *int { return &k.Registers }, []string{"VGPRs", "Number of GPRs", "Max live registers", "Register Count", "numUsedVgprs"}},
	{func(k *KernelStats) *int { return &k.Spills }, []string{"Spilled SGPRs", "Spilled VGPRs", "Spills to memory", "Spills"}},
	{func(k *KernelStats) *int { return &k.Kept }, []string{"Spills to reg"}},
	{func(k *KernelStats) *int { return &k.Scratch }, []string{"Scratch size", "SLM size", "Stack Size", "Local Memory Size", "scratchMemUsageInBytes"}},
	{func(k *KernelStats) *int { return &k.Shared }, []string{"LDS size", "Shared Memory Size", "ldsUsageSizeInBytes"}},
	{func(k *KernelStats) *int { return &k.Instructions }, []string{"Instructions", "Instruction count"}},
	{func(k *KernelStats) *int { return &k.Cycles }, []string{"Cycles", "Static cycle count", "Inverse Throughput"}},
	{func(k *KernelStats) *int { return &k.Latency }, []string{"Latency"}},
	{func(k *KernelStats) *int { return &k.Waves }, []string{"Subgroups per SIMD", "Max warps/SM"}},
	{func(k *KernelStats) *int { return &k.CodeBytes }, []string{"Code size", "Code Size", "Binary Size"}},
	{func(k *KernelStats) *int { return &k.Lanes }, []string{"Max dispatch width"}},
}

// Compile compiles the kernel by itself and returns what the driver tells of it, and its representations of the shader by their
// names. ErrNoStats: it tells nothing.
func (k KernelUse) Compile(dev *vk.Device) (KernelStats, map[string]string, error) {
	s := k.Describe()
	if !dev.PhysicalDevice().Features.PipelineExecutableProperties {
		return s, nil, ErrNoStats
	}
	k.Config.Capture = true
	p, err := dev.NewPipeline(k.Config)
	if err != nil {
		return s, nil, err
	}
	defer p.Close()
	made, err := p.Compiled()
	if err != nil {
		return s, nil, fmt.Errorf("%s: %w", k.Config.Name, err)
	}
	s.read(made)
	return s, made.Texts, nil
}

// Describe is KernelStats without what the driver tells.
func (k KernelUse) Describe() KernelStats {
	var constants []string
	for _, c := range k.Constants {
		if c.Value != 0 {
			constants = append(constants, fmt.Sprintf("%s=%d", c.Name, c.Value))
		}
	}
	return KernelStats{Kernel: k.Variant, Constants: strings.Join(constants, " "), Statistics: map[string]float64{}}
}

func (k *KernelStats) read(made *vk.Compiled) {
	k.Statistics = made.Statistics
	for _, row := range statNames {
		sum := 0.0
		for _, name := range row.names {
			sum += made.Statistics[name]
		}
		*row.field(k) = int(sum)
	}
	if made.SubgroupSize > 0 {
		k.Lanes = made.SubgroupSize
	}
}
