//go:build cgo

package vk

import (
	"bytes"
	"fmt"

	vulkan "github.com/vulkan-go/vulkan"

	"pumice/vk/internal/shim"
)

// Version is a Vulkan API version.
type Version uint32

// Major is the first number of the version.
func (v Version) Major() int { return int(v>>22) & 0x7f }

// Minor is the second number of the version.
func (v Version) Minor() int { return int(v>>12) & 0x3ff }

// Patch is the third number of the version.
func (v Version) Patch() int { return int(v) & 0xfff }

// AtLeast reports whether v is major.minor or newer.
func (v Version) AtLeast(major, minor int) bool {
	return v.Major() > major || v.Major() == major && v.Minor() >= minor
}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major(), v.Minor(), v.Patch()) }

// DeviceType is the kind of a device.
type DeviceType int

// Kinds of devices, with VkPhysicalDeviceType's values.
const (
	Other      = DeviceType(vulkan.PhysicalDeviceTypeOther)
	Integrated = DeviceType(vulkan.PhysicalDeviceTypeIntegratedGpu)
	Discrete   = DeviceType(vulkan.PhysicalDeviceTypeDiscreteGpu)
	Virtual    = DeviceType(vulkan.PhysicalDeviceTypeVirtualGpu)
	CPU        = DeviceType(vulkan.PhysicalDeviceTypeCpu)
)

func (t DeviceType) String() string {
	switch t {
	case Integrated:
		return "integrated"
	case Discrete:
		return "discrete"
	case Virtual:
		return "virtual"
	case CPU:
		return "cpu"
	}
	return "other"
}

// Limits of a device. Sizes and alignments are in bytes.
type Limits struct {
	MaxStorageBufferRange           int64 // of one storage buffer binding
	MaxMemoryAllocationSize         int64
	MaxBufferSize                   int64 // MaxMemoryAllocationSize if the driver reports none
	MaxTexelBufferElements          int64
	MaxPushConstantsSize            int
	MaxComputeSharedMemorySize      int
	MaxComputeWorkGroupInvocations  int
	MaxComputeWorkGroupSize         [3]int
	MaxComputeWorkGroupCount        [3]int
	MinStorageBufferOffsetAlignment int64
	MinTexelBufferOffsetAlignment   int64
	NonCoherentAtomSize             int64
	TimestampPeriod                 float64 // nanoseconds per tick
	TimestampValidBits              int     // of the compute queue; 0 if it has no timestamps
	SubgroupSize                    int     // the driver's default
	MinSubgroupSize                 int     // equal to SubgroupSize without subgroup size control
	MaxSubgroupSize                 int
	ComputeUnits                    int // compute units, multiprocessors or shader cores; 0 if the driver doesn't tell
}

// Features of a device; PhysicalDevice.Open enables all of them. The Subgroup operations are those of compute shaders.
type Features struct {
	SubgroupBasic, SubgroupVote, SubgroupArithmetic, SubgroupBallot bool
	SubgroupShuffle, SubgroupShuffleRelative                        bool
	SubgroupClustered, SubgroupQuad                                 bool
	SubgroupExtendedTypes                                           bool // subgroup operations on 8, 16 and 64-bit values
	ShaderFloat16, ShaderInt8, ShaderInt16, ShaderInt64             bool
	StorageBuffer8Bit, StorageBuffer16Bit                           bool
	IntegerDotProduct                                               bool
	IntegerDotProductAccelerated                                    bool // 4x8-bit packed, signed
	IntegerDotProductMixedAccelerated                               bool // the same, of signed by unsigned numbers
	FloatDotProduct                                                 bool // of two float16 numbers each, added to a float32 (VK_VALVE_shader_mixed_float_dot_product)
	SubgroupSizeControl                                             bool // PipelineConfig.SubgroupSize may be set
	ComputeFullSubgroups                                            bool
	TimelineSemaphore, Synchronization2, BufferDeviceAddress        bool
	VulkanMemoryModel, Maintenance4                                 bool
	MemoryBudget, PipelineExecutableProperties, ExternalMemoryHost  bool
	CooperativeMatrix                                               []MatrixShape // subgroup scope; nil if none

	// Of VK_NV_cooperative_matrix2: functions of each element, tensor addressing, and loads that decode blocks.
	MatrixPerElement, MatrixTensors, MatrixBlockLoads bool
	FlexibleMatrix                                    []FlexibleShape // nil if none
}

// ComponentType is the element type of a cooperative matrix, with VkComponentTypeKHR's values.
type ComponentType int

func (c ComponentType) String() string {
	names := []string{"f16", "f32", "f64", "s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64"}
	if int(c) < len(names) && c >= 0 {
		return names[c]
	}
	if c == 1000141000 {
		return "bf16"
	}
	return fmt.Sprintf("type%d", int(c))
}

// Component types that shaders of this project use.
const (
	Float16 ComponentType = 0
	Float32 ComponentType = 1
	Sint8   ComponentType = 3
	Sint32  ComponentType = 5
	Uint8   ComponentType = 7
	Uint32  ComponentType = 9
)

// MatrixShape is a supported cooperative matrix product: (M, K) of type A times (K, N) of type B plus C gives (M, N) of type Result.
type MatrixShape struct {
	M, N, K         int
	A, B, C, Result ComponentType
	Saturating      bool
}

func (s MatrixShape) String() string {
	return fmt.Sprintf("%dx%dx%d %v*%v+%v->%v", s.M, s.N, s.K, s.A, s.B, s.C, s.Result)
}

// FlexibleShape is a cooperative matrix product whose M, N and K may be any multiples of its own.
type FlexibleShape struct {
	MatrixShape
	Invocations int // of the workgroup that shares the matrices; 0: a subgroup does
}

func (s FlexibleShape) String() string {
	if s.Invocations == 0 {
		return s.MatrixShape.String()
	}
	return fmt.Sprintf("%v in workgroups of %d", s.MatrixShape, s.Invocations)
}

// Heap is a memory heap of a device.
type Heap struct {
	Bytes       int64
	DeviceLocal bool
}

// PhysicalDevice describes a device of the machine and its capabilities. Values do not change after Instance.Devices.
type PhysicalDevice struct {
	Index              int // in Instance.Devices
	Name, Vendor       string
	VendorID, DeviceID uint32
	Driver, DriverInfo string // empty if the driver reports none
	DriverVersion      uint32
	APIVersion         Version
	Type               DeviceType
	UUID, DriverUUID   [16]byte
	Limits             Limits
	Features           Features
	Heaps              []Heap

	instance                      *Instance
	handle                        uint64
	cacheUUID                     [16]byte
	memory                        memoryTypes
	computeFamily, transferFamily int // transferFamily is -1 if there is no dedicated one
}

// vendors by PCI id, or by the Khronos vendor id above 0x10000.
var vendors = map[uint32]string{
	0x1002: "AMD", 0x1010: "Imagination", 0x106b: "Apple", 0x10de: "NVIDIA", 0x13b5: "Arm", 0x14e4: "Broadcom", 0x1ae0: "Google",
	0x5143: "Qualcomm", 0x8086: "Intel", 0x10005: "Mesa", 0x10001: "Vivante", 0x10002: "VeriSilicon", 0x10003: "Kazan", 0x10004: "Codeplay",
	0x10006: "PoCL", 0x10007: "Mobileye",
}

func newPhysicalDevice(in *Instance, handle uint64, info *shim.PhysicalInfo) *PhysicalDevice {
	pd := &PhysicalDevice{
		Name: cString(info.Name[:]), Vendor: vendors[info.VendorID], VendorID: info.VendorID, DeviceID: info.DeviceID,
		Driver: cString(info.DriverName[:]), DriverInfo: cString(info.DriverInfo[:]), DriverVersion: info.DriverVersion,
		APIVersion: Version(info.APIVersion), Type: DeviceType(info.DeviceType), UUID: info.DeviceUUID, DriverUUID: info.DriverUUID,
		instance: in, handle: handle, cacheUUID: info.CacheUUID,
	}
	if pd.Vendor == "" {
		pd.Vendor = fmt.Sprintf("0x%04x", info.VendorID)
	}
	for i := range info.NumHeaps {
		pd.Heaps = append(pd.Heaps, Heap{int64(info.HeapSize[i]), info.HeapFlags[i]&uint32(vulkan.MemoryHeapDeviceLocalBit) != 0})
	}
	for i := range info.NumTypes {
		pd.memory = append(pd.memory, memoryType{info.TypeFlags[i], int(info.TypeHeap[i])})
	}
	pd.computeFamily, pd.transferFamily = chooseFamilies(info.FamilyFlags[:info.NumFamilies])
	pd.Limits = limitsOf(info)
	if pd.computeFamily >= 0 {
		pd.Limits.TimestampValidBits = int(info.FamilyTimestampBits[pd.computeFamily])
	}
	pd.Features = featuresOf(info)
	return pd
}

func limitsOf(info *shim.PhysicalInfo) Limits {
	l := Limits{
		MaxStorageBufferRange: int64(info.MaxStorageRange), MaxMemoryAllocationSize: clampSize(info.MaxAllocation),
		MaxBufferSize: clampSize(info.MaxBuffer), MaxTexelBufferElements: int64(info.MaxTexelElements),
		MaxPushConstantsSize: int(info.MaxPushBytes), MaxComputeSharedMemorySize: int(info.MaxSharedBytes),
		MaxComputeWorkGroupInvocations:  int(info.MaxInvocations),
		MinStorageBufferOffsetAlignment: max(1, int64(info.MinStorageAlign)), MinTexelBufferOffsetAlignment: max(1, int64(info.MinTexelAlign)),
		NonCoherentAtomSize: int64(info.AtomSize), TimestampPeriod: float64(info.TimestampPeriod),
		SubgroupSize: int(info.SubgroupSize), MinSubgroupSize: int(info.MinSubgroupSize), MaxSubgroupSize: int(info.MaxSubgroupSize),
		ComputeUnits: int(info.ComputeUnits),
	}
	for i := range 3 {
		l.MaxComputeWorkGroupSize[i] = int(info.MaxGroupSize[i])
		l.MaxComputeWorkGroupCount[i] = int(info.MaxGroupCount[i])
	}
	if l.MaxBufferSize == 0 {
		l.MaxBufferSize = l.MaxMemoryAllocationSize
	}
	if l.MinSubgroupSize == 0 || info.SubgroupSizeControl == 0 {
		l.MinSubgroupSize, l.MaxSubgroupSize = l.SubgroupSize, l.SubgroupSize
	}
	return l
}

// clampSize bounds a size from a driver, which may be all ones, so that the sum of a few does not overflow.
func clampSize(n uint64) int64 { return int64(min(n, 1<<56)) }

func featuresOf(info *shim.PhysicalInfo) Features {
	ops := info.SubgroupOperations
	if info.SubgroupStages&uint32(vulkan.ShaderStageComputeBit) == 0 {
		ops = 0
	}
	f := Features{
		// VkSubgroupFeatureFlagBits in order.
		SubgroupBasic: ops&1 != 0, SubgroupVote: ops&2 != 0, SubgroupArithmetic: ops&4 != 0, SubgroupBallot: ops&8 != 0,
		SubgroupShuffle: ops&16 != 0, SubgroupShuffleRelative: ops&32 != 0, SubgroupClustered: ops&64 != 0, SubgroupQuad: ops&128 != 0,
		SubgroupExtendedTypes: info.SubgroupExtendedTypes != 0,
		ShaderFloat16:         info.Float16 != 0, ShaderInt8: info.Int8 != 0, ShaderInt16: info.Int16 != 0, ShaderInt64: info.Int64 != 0,
		StorageBuffer8Bit: info.Storage8 != 0, StorageBuffer16Bit: info.Storage16 != 0,
		IntegerDotProduct: info.IntDot != 0, IntegerDotProductAccelerated: info.IntDotAccelerated != 0,
		IntegerDotProductMixedAccelerated: info.IntDotMixedAccelerated != 0, FloatDotProduct: info.FloatDot != 0,
		SubgroupSizeControl:  info.SubgroupSizeControl != 0 && info.RequiredSubgroupSizeStages&uint32(vulkan.ShaderStageComputeBit) != 0,
		ComputeFullSubgroups: info.FullSubgroups != 0,
		TimelineSemaphore:    info.Timeline != 0, Synchronization2: info.Sync2 != 0, BufferDeviceAddress: info.DeviceAddress != 0,
		VulkanMemoryModel: info.MemoryModel != 0, Maintenance4: info.Maintenance4 != 0, MemoryBudget: info.MemoryBudget != 0,
		PipelineExecutableProperties: info.ExecutableProps != 0, ExternalMemoryHost: info.HostImport != 0,
	}
	f.MatrixPerElement, f.MatrixTensors, f.MatrixBlockLoads = info.CoopPerElement != 0, info.CoopTensors != 0, info.CoopBlockLoads != 0
	const scopeWorkgroup, scopeSubgroup = 2, 3 // of VkScopeKHR
	for _, m := range info.Matrices[:info.NumMatrices] {
		if m.Scope == scopeSubgroup {
			f.CooperativeMatrix = append(f.CooperativeMatrix, shapeOf(m))
		}
	}
	for _, m := range info.Flexible[:info.NumFlexible] {
		switch {
		case m.Scope == scopeSubgroup:
			f.FlexibleMatrix = append(f.FlexibleMatrix, FlexibleShape{shapeOf(m), 0})
		case m.Scope == scopeWorkgroup && info.CoopWorkgroup != 0:
			f.FlexibleMatrix = append(f.FlexibleMatrix, FlexibleShape{shapeOf(m), int(m.Invocations)})
		}
	}
	return f
}

func shapeOf(m shim.Matrix) MatrixShape {
	return MatrixShape{int(m.M), int(m.N), int(m.K), ComponentType(m.AType), ComponentType(m.BType), ComponentType(m.CType),
		ComponentType(m.ResultType), m.Saturating != 0}
}

// chooseFamilies picks the first family that computes, and a family that only copies, which is a DMA engine beside the compute units.
// -1 means none. Families for video, which also copy, are not used.
func chooseFamilies(flags []uint32) (compute, transfer int) {
	const (
		computeBit   = uint32(vulkan.QueueComputeBit)
		transferBit  = uint32(vulkan.QueueTransferBit)
		harmlessBits = uint32(vulkan.QueueSparseBindingBit) | 0x10 // VK_QUEUE_PROTECTED_BIT
	)
	compute, transfer = -1, -1
	for i, f := range flags {
		if f&computeBit != 0 && compute < 0 {
			compute = i
		}
		if f&^harmlessBits == transferBit && transfer < 0 {
			transfer = i
		}
	}
	return compute, transfer
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}
