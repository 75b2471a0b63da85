package kernels

import (
	"slices"

	"pumice/vk"
)

// A Machine is what kernels need to know of a device.
type Machine struct {
	pd *vk.PhysicalDevice

	// Matrix is the cooperative matrix product of kernels with such: float16 summed in float32; nil means there is none.
	Matrix *vk.MatrixShape

	workgroupMatrices []vk.FlexibleShape // of kernels that need coopmat2; nil means there are none
	elementMatrix     *vk.FlexibleShape  // of those that need coopmat2e
}

// NewMachine describes a device.
func NewMachine(pd *vk.PhysicalDevice) *Machine {
	m := &Machine{pd: pd, Matrix: matrixShape(pd)}
	m.workgroupMatrices, m.elementMatrix = flexibleShapes(pd)
	return m
}

// CPU reports whether the device is a driver that runs on the processor.
func (m *Machine) CPU() bool { return m.pd.Type == vk.CPU }

// needs is what the table of variants may ask of a device, by its names.
var needs = map[string]func(m *Machine) bool{
	"lane8":    func(m *Machine) bool { return hasLane8(m.pd) },
	"subgroup": func(m *Machine) bool { return m.pd.Features.SubgroupBasic && m.pd.Features.SubgroupArithmetic },
	"shuffle":  func(m *Machine) bool { return m.pd.Features.SubgroupShuffle },
	"full":     (*Machine).hasFullSubgroups,
	"team":     (*Machine).hasFullSubgroups,
	"address":  func(m *Machine) bool { return hasAddresses(m.pd) },
	"fp16":     func(m *Machine) bool { return m.pd.Features.ShaderFloat16 },
	"dot8":     func(m *Machine) bool { return m.pd.Features.IntegerDotProduct },
	"coopmat":  func(m *Machine) bool { return m.Matrix != nil },

	"coopmat2":  func(m *Machine) bool { return m.workgroupMatrices != nil },
	"coopmat2e": func(m *Machine) bool { return m.elementMatrix != nil },
}

// Has reports whether the device has everything on a list of the table of variants. It lacks what has no name there.
func (m *Machine) Has(list []string) bool {
	return !slices.ContainsFunc(list, func(need string) bool {
		has := needs[need]
		return has == nil || !has(m)
	})
}

// Subgroup is the size of the subgroups, 0 where it does not matter, and whether they must be full, of a kernel
// with these needs.
func (m *Machine) Subgroup(list []string) (size int, full bool) {
	f := m.pd.Features
	switch {
	case slices.Contains(list, "lane8"):
		return 8, false
	case slices.Contains(list, "address"):
		return m.lanes(), false // for which matrices are laid out
	case slices.Contains(list, "coopmat"), slices.Contains(list, "coopmat2e"):
		return m.matrixSubgroup(), f.ComputeFullSubgroups
	case slices.Contains(list, "team"):
		return m.teamLanes(), f.ComputeFullSubgroups
	case slices.Contains(list, "full"), slices.Contains(list, "subgroup") && f.SubgroupSizeControl:
		return m.subgroupLanes(), f.ComputeFullSubgroups
	}
	return 0, false
}

// lanes is the device's own subgroup, which the addr kernels use.
func (m *Machine) lanes() int { return m.pd.Limits.SubgroupSize }

// hasLane8 reports whether a device runs subgroups of exactly eight invocations with shuffle,
// by default or on demand. A CPU driver must have them by default: its subgroup is its vector,
// and lavapipe 26.1 at other widths (LP_NATIVE_VECTOR_WIDTH) gives wrong values, or ends the
// process, when texel buffers are read with an index that differs by lane.
func hasLane8(pd *vk.PhysicalDevice) bool {
	l, f := pd.Limits, pd.Features
	size := l.SubgroupSize == 8 && (l.MinSubgroupSize == 0 || l.MinSubgroupSize == l.MaxSubgroupSize) ||
		f.SubgroupSizeControl && l.MinSubgroupSize <= 8 && 8 <= l.MaxSubgroupSize
	if pd.Type == vk.CPU && l.SubgroupSize != 8 {
		return false
	}
	texels := 16*l.MaxTexelBufferElements >= min(l.MaxStorageBufferRange, 1<<31-1) // what is bound as a buffer can be as texels
	return size && texels && f.SubgroupShuffle && f.SubgroupBasic
}

// hasAddresses reports whether the addr path is for a device: a CPU driver that keeps what all lanes
// share in scalars. lavapipe 26.1.6 does; 25.0.7 does not (there they are a sixth to an eighth as fast as the
// row kernels), and nothing but its version tells. Elsewhere the kernels, LANES loads for each word, take minutes to
// compile.
func hasAddresses(pd *vk.PhysicalDevice) bool {
	const mesa26 = 26 << 22
	f := pd.Features
	return pd.Type == vk.CPU && pd.Driver == "llvmpipe" && pd.DriverVersion >= mesa26 &&
		f.BufferDeviceAddress && f.ShaderInt64 && f.SubgroupBasic
}

// subgroupLanes is the subgroup of the sg path: of 32 lanes where the device has a choice, so
// that a row of 4096 columns in blocks of 32 gives every lane four blocks. Where the least has 8 or 16 it is the least:
// those are Intel's GPUs, on which the lanes of a subgroup share 128 registers of 32 bytes (64 from Xe2 on). Its compiler
// makes of matvec_q4_0_sg, for DG2, with 8, 16 and 32 lanes: 0, 17 and 114 spills, and 23, 40 and 75 thousand cycles for
// eight lanes (Mesa 26.1.6).
func (m *Machine) subgroupLanes() int {
	l := m.pd.Limits
	lanes := 32
	if l.MinSubgroupSize <= 16 {
		lanes = max(8, l.MinSubgroupSize)
	}
	if m.pd.Features.SubgroupSizeControl {
		return min(max(lanes, l.MinSubgroupSize), l.MaxSubgroupSize)
	}
	return l.SubgroupSize
}

// teamLanes is the subgroup of attention_decode_sg of float caches, in which a row of the cache takes up to 32 lanes, and of
// matrices where registers are few: of 16 at least where the device can.
func (m *Machine) teamLanes() int {
	if lanes := m.subgroupLanes(); lanes >= 16 || !m.pd.Features.SubgroupSizeControl {
		return lanes
	}
	return min(16, m.pd.Limits.MaxSubgroupSize)
}

// registers is how many numbers of 32 bits a lane of a subgroup can hold: on Intel's GPUs 128 registers of 32 bytes, or of 64
// where the least subgroup has 16 lanes (from Xe2 on), are divided among the lanes. Elsewhere it is at least what kernels take.
func (m *Machine) registers(lanes int) int {
	if m.pd.VendorID != vendorIntel {
		return 256
	}
	return 128 * min(16, max(8, m.pd.Limits.MinSubgroupSize)) / lanes
}

// fewRegisters reports whether kernels must do with fewer numbers at a time than they take elsewhere.
func (m *Machine) fewRegisters() bool { return m.registers(m.subgroupLanes()) < 256 }

// manyRegisters reports whether a lane of any subgroup may have some 256 numbers. Arm's have 64.
func (m *Machine) manyRegisters() bool {
	return m.pd.VendorID == vendorAMD || m.pd.VendorID == vendorNVIDIA
}

// hasFullSubgroups reports whether subgroups are full and of subgroupLanes lanes. Without VK_EXT_subgroup_size_control no GPU
// driver promises that, but those that have one size fill the subgroups of a workgroup that is a multiple of it; the check of
// kernels before their first use finds one that doesn't. Intel's choose a size for each pipeline.
func (m *Machine) hasFullSubgroups() bool {
	f := m.pd.Features
	if !hasSubgroupLanes(m.pd) {
		return false
	}
	return f.ComputeFullSubgroups || !f.SubgroupSizeControl && !m.CPU() && m.pd.VendorID != vendorIntel
}

// convertsSlowly reports whether integers become floats at a fraction of the rate at which floats are multiplied: on NVIDIA's
// GPUs, in 16 lanes a multiprocessor (docs/isa.md).
func (m *Machine) convertsSlowly() bool { return m.pd.VendorID == vendorNVIDIA }

// PCI ids of vendors.
const (
	vendorAMD    = 0x1002
	vendorApple  = 0x106b
	vendorIntel  = 0x8086
	vendorNVIDIA = 0x10de
)

// hasSubgroupLanes reports whether subgroups are of subgroupLanes lanes for certain: by default, as
// on NVK, or on demand. MoltenVK reports 4 to 32 lanes for Apple's GPUs, because Metal does not say (its MVKDevice.mm), and no
// stage can ask for a size; they have 32.
func hasSubgroupLanes(pd *vk.PhysicalDevice) bool {
	l := pd.Limits
	return pd.Features.SubgroupSizeControl || l.MinSubgroupSize > 0 && l.MinSubgroupSize == l.MaxSubgroupSize ||
		pd.VendorID == vendorApple && l.SubgroupSize == 32
}

// matrixShape is the cooperative matrix product that kernels use: float16 summed in float32,
// the largest whose sides divide 16. nil: the device has none.
func matrixShape(pd *vk.PhysicalDevice) *vk.MatrixShape {
	var best *vk.MatrixShape
	if !pd.Features.ShaderFloat16 || !pd.Features.VulkanMemoryModel {
		return nil
	}
	fits := func(n int) bool { return n >= 4 && n <= 16 && n&(n-1) == 0 }
	for _, s := range pd.Features.CooperativeMatrix {
		if s.A != vk.Float16 || s.B != vk.Float16 || s.C != vk.Float32 || s.Result != vk.Float32 || s.Saturating ||
			!fits(s.M) || !fits(s.N) || !fits(s.K) || best != nil && s.M*s.N*s.K <= best.M*best.N*best.K {
			continue
		}
		best = &s
	}
	return best
}

// flexibleShapes are the products of VK_NV_cooperative_matrix2 that kernels use, float16 summed in float32: those of workgroups
// where the device loads tensors and decodes blocks, and on a CPU driver that of a subgroup.
func flexibleShapes(pd *vk.PhysicalDevice) (workgroups []vk.FlexibleShape, subgroup *vk.FlexibleShape) {
	f := pd.Features
	// SPIR-V 1.6, as their modules are, has the size of a workgroup in a way that maintenance4 allows.
	if !f.ShaderFloat16 || !f.VulkanMemoryModel || !f.Maintenance4 || !f.MatrixPerElement || !pd.APIVersion.AtLeast(1, 3) {
		return nil, nil
	}
	for _, s := range f.FlexibleMatrix {
		switch {
		case s.A != vk.Float16 || s.B != vk.Float16 || s.C != vk.Float32 || s.Result != vk.Float32 || s.Saturating:
		case s.Invocations == 0:
			if pd.Type == vk.CPU {
				subgroup = &s
			}
		case f.MatrixTensors && f.MatrixBlockLoads && f.StorageBuffer16Bit && f.BufferDeviceAddress: // a pointer to a block is an address
			workgroups = append(workgroups, s)
		}
	}
	return workgroups, subgroup
}

// hasFastMatrices reports whether rules choose kernels with cooperative matrices. They don't on Intel's discrete Xe-HPG (Arc
// A), whose matrices are 8 x 8 x 16: llama.cpp found products there slower in a quarter of all shapes, and up to a thousand
// times (its issue 24404). Nor on AMD's GPUs before RDNA3, which have no matrix instructions: AMD's own drivers list matrices
// on RDNA1 and RDNA2 too (PAL's gfx9Device.cpp), but dot products of signed by unsigned bytes only from RDNA3 on. pumice tune
// may choose them.
func (m *Machine) hasFastMatrices() bool {
	switch {
	case m.Matrix == nil:
		return false
	case m.pd.VendorID == vendorIntel:
		return m.pd.Type != vk.Discrete || m.Matrix.N > 8
	case m.pd.VendorID == vendorAMD:
		return m.pd.Features.IntegerDotProductMixedAccelerated
	}
	return true
}

// matrixSubgroup is the subgroup size of kernels with cooperative matrices: 32 where the device
// can, else its own. AMD's default of 64 spreads a matrix over twice the lanes its
// instructions use. On Intel's GPUs a matrix takes as many registers whatever the lanes are, and all else, as places in memory,
// fewer with fewer lanes: so 16. Its compiler makes of matmul_q4_0_cm, for Xe2, with 16 and 32 lanes: 0 and 11 spills, and 45
// and 58 thousand cycles for a subgroup (Mesa 26.1.6).
func (m *Machine) matrixSubgroup() int {
	l := m.pd.Limits
	switch {
	case m.fewRegisters():
		return m.teamLanes()
	case m.pd.Features.SubgroupSizeControl && l.MinSubgroupSize <= 32 && 32 <= l.MaxSubgroupSize:
		return 32
	}
	return l.SubgroupSize
}

// units is how many compute units, multiprocessors or cores share workgroups. Where the driver doesn't tell, it is 32 of
// a card, and 8 of what is part of a processor, which are Intel's, Apple's and Qualcomm's.
func (m *Machine) units() int {
	switch n := m.pd.Limits.ComputeUnits; {
	case n > 0:
		return n
	case m.CPU():
		return 1
	case m.pd.Type == vk.Integrated:
		return 8
	}
	return 32
}

// busy is how many invocations of products of several tokens make all units of a device busy: in each sixteen subgroups of 32,
// which is two workgroups of the largest tiles (docs/design/0021).
func (m *Machine) busy() int { return 512 * m.units() }

// rowLanes is the workgroup of base kernels that take a row of so many columns: a power of two, of
// eight columns an invocation and more, because their loads wait for one another. With 64 invocations
// an H200 took 30 us for RMSNorm of rows of 4096.
func (m *Machine) rowLanes(cols int) int {
	n := workgroup
	for 2*n <= min(256, m.pd.Limits.MaxComputeWorkGroupInvocations) && 8*2*n <= cols {
		n *= 2
	}
	return n
}
