package pipeline

import "pumice/vk"

// A gpu is what a choice looks at of a device, as its driver reports it.
type gpu struct {
	name        string
	kind        vk.DeviceType
	vendor      uint32
	lanes       [3]int // of subgroups: the default, the least and the most
	has         ability
	shared      int    // bytes of shared memory
	invocations int    // most of a workgroup
	matrix      [3]int // M, N and K of a cooperative matrix of float16 summed in float32; zeros: there is none
	units       int    // 0: the driver doesn't tell
	source      string // of these numbers
}

// An ability is what a device can do beside what all of these can.
type ability int

const (
	canSize  ability = 1 << iota // a compute shader may ask for a size of subgroups
	canFill                      // subgroups can be made full
	hasHalf                      // float16 arithmetic
	hasDot                       // dot products of bytes
	fastDot                      // those of signed numbers by an instruction
	mixedDot                     // those of signed by unsigned numbers too
	floatDot                     // of float16 numbers
	hasAll   = canSize | canFill | hasHalf | hasDot | fastDot | mixedDot
)

// PCI ids of vendors.
const (
	amd      = 0x1002
	apple    = 0x106b
	nvidia   = 0x10de
	arm      = 0x13b5
	qualcomm = 0x5143
	broadcom = 0x14e4
	intel    = 0x8086
)

const kib = 1 << 10

// What several sources have in common.
const (
	// iree-org/iree, compiler/src/iree/compiler/Dialect/Vulkan/Utils/TargetTriple.cpp: limits with the numbers of reports on
	// vulkan.gpuinfo.org.
	iree = "IREE's TargetTriple.cpp"
	// What llama.cpp prints of a device: fp16, default subgroup, shared memory, fast dot products, matrices.
	banner = "llama.cpp's line of "
	// What the driver reports beside a stand-in for the kernel driver (tools/mesa.sh, tools/intel.sh).
	mesaRun = "Mesa 26.1.6 beside a stand-in"
)

var (
	h100 = gpu{name: "NVIDIA H100", kind: vk.Discrete, vendor: nvidia, lanes: [3]int{32, 32, 32}, has: hasAll, shared: 48 * kib, invocations: 1024,
		matrix: [3]int{16, 16, 16}, units: 132, source: iree + ", NV_Ampere (report 11252); multiprocessors: NVIDIA's H100 (SXM) data sheet"}
	rtx4090 = gpu{name: "NVIDIA RTX 4090", kind: vk.Discrete, vendor: nvidia, lanes: [3]int{32, 32, 32}, has: hasAll, shared: 48 * kib, invocations: 1024,
		matrix: [3]int{16, 16, 16}, units: 128, source: iree + ", NV_Ampere (report 11252); " + banner + "an RTX 4070; multiprocessors: NVIDIA's Ada paper"}
	gtx1660 = gpu{name: "NVIDIA GTX 1660, without matrices", kind: vk.Discrete, vendor: nvidia, lanes: [3]int{32, 32, 32}, has: hasAll, shared: 48 * kib,
		invocations: 1024, units: 22, source: iree + ", NV_Turing (report 11252); no matrices on TU116: " + mesaRun + " (NVK, chipset 168)"}
	gtx1080 = gpu{name: "NVIDIA GTX 1080, without float16", kind: vk.Discrete, vendor: nvidia, lanes: [3]int{32, 32, 32}, has: hasAll &^ hasHalf, shared: 48 * kib,
		invocations: 1536, units: 20, source: iree + ", NV_Pascal (report 17937); " + banner + "a GTX 1050 Ti and a Quadro P2000: fp16 0, int dot 1"}

	rx7900xtx = gpu{name: "AMD RX 7900 XTX, RADV", kind: vk.Discrete, vendor: amd, lanes: [3]int{64, 32, 64}, has: hasAll | floatDot, shared: 64 * kib, invocations: 1024,
		matrix: [3]int{16, 16, 16}, units: 96, source: mesaRun + " (navi31); " + banner + "an RX 7900 XT"}
	rx7900xtxAMD = gpu{name: "AMD RX 7900 XTX, AMDVLK", kind: vk.Discrete, vendor: amd, lanes: [3]int{64, 32, 64}, has: hasAll, shared: 32 * kib,
		invocations: 1024, matrix: [3]int{16, 16, 16}, units: 96, source: "xgl's vk_physical_device.cpp and PAL's gfx9Device.cpp; " + banner + "an RX 7900 XTX on AMDVLK"}
	rx6800 = gpu{name: "AMD RX 6800, RADV", kind: vk.Discrete, vendor: amd, lanes: [3]int{64, 32, 64}, has: hasAll&^mixedDot | floatDot, shared: 64 * kib, invocations: 1024,
		units: 60, source: mesaRun + " (navi21); " + banner + "a Radeon Pro V620"}
	rx6800AMD = gpu{name: "AMD RX 6800, AMDVLK, which lists matrices that the GPU has no instructions for", kind: vk.Discrete, vendor: amd, lanes: [3]int{64, 32, 64},
		has: hasAll &^ mixedDot, shared: 32 * kib, invocations: 1024, matrix: [3]int{16, 16, 16}, units: 60,
		source: "xgl's vk_physical_device.cpp and PAL's gfx9Device.cpp; llama.cpp's pull request 11074; " + banner + "an RX 6800 on AMD's driver"}
	w6800x = gpu{name: "AMD Radeon Pro W6800X, MoltenVK to 1.4.1, with sizes that no stage can ask for", kind: vk.Discrete, vendor: amd, lanes: [3]int{64, 32, 64},
		has: canFill | hasHalf | hasDot, shared: 64 * kib, invocations: 1024, source: "MoltenVK's issue 1553; " + banner + "a Radeon Pro 5500M on MoltenVK"}
	rx580 = gpu{name: "AMD RX 580, GCN", kind: vk.Discrete, vendor: amd, lanes: [3]int{64, 64, 64}, has: canFill | hasDot, shared: 64 * kib, invocations: 1024, units: 36,
		source: mesaRun + " (polaris10); " + banner + "an RX 580"}
	radeon780M = gpu{name: "AMD Radeon 780M, RADV", kind: vk.Integrated, vendor: amd, lanes: [3]int{64, 32, 64}, has: hasAll, shared: 64 * kib, invocations: 1024,
		matrix: [3]int{16, 16, 16}, units: 12, source: banner + "a Radeon 780M; the rest as RX 7900 XTX; compute units: AMD's product page"}

	a770 = gpu{name: "Intel Arc A770, ANV", kind: vk.Discrete, vendor: intel, lanes: [3]int{32, 8, 32}, has: hasAll, shared: 48 * kib, invocations: 1024,
		matrix: [3]int{8, 8, 16}, source: mesaRun + " (dg2)"}
	b580 = gpu{name: "Intel Arc B580, ANV", kind: vk.Discrete, vendor: intel, lanes: [3]int{32, 16, 32}, has: hasAll, shared: 48 * kib, invocations: 1024,
		matrix: [3]int{8, 16, 16}, source: mesaRun + " (bmg); " + banner + "an Arc B580"}
	arc140T = gpu{name: "Intel Arc 140T, integrated Xe-LPG+", kind: vk.Integrated, vendor: intel, lanes: [3]int{32, 8, 32}, has: hasAll, shared: 48 * kib,
		invocations: 1024, matrix: [3]int{8, 8, 16}, source: "as A770 in Mesa's anv_physical_device.c; matrices: llama.cpp's pull request 24404"}
	uhd770 = gpu{name: "Intel UHD 770, ANV", kind: vk.Integrated, vendor: intel, lanes: [3]int{32, 8, 32}, has: hasAll, shared: 48 * kib, invocations: 1024,
		source: mesaRun + " (adl)"}
	uhd630 = gpu{name: "Intel UHD 630, MoltenVK, with sizes that no stage can ask for", kind: vk.Integrated, vendor: intel, lanes: [3]int{32, 8, 32},
		has: canFill | hasHalf | hasDot, shared: 64 * kib, invocations: 1024, source: "MoltenVK's issue 1553 and MVKDevice.mm; " + banner + "a UHD 630 on MoltenVK"}

	appleM2 = gpu{name: "Apple M2, MoltenVK", kind: vk.Integrated, vendor: apple, lanes: [3]int{32, 4, 32}, has: canFill | hasHalf | hasDot, shared: 32 * kib,
		invocations: 1024, source: "wgpu's issue 5551, MoltenVK's issue 2218 and MVKDevice.mm; " + iree + ", Apple_M1 (report 14673)"}
	honeykrisp = gpu{name: "Apple M1, Honeykrisp", kind: vk.Integrated, vendor: apple, lanes: [3]int{32, 32, 32}, has: canFill | hasHalf | hasDot, shared: 32 * kib,
		invocations: 1024, source: mesaRun + " (asahi)"}
	adreno740 = gpu{name: "Qualcomm Adreno 740, Turnip", kind: vk.Integrated, vendor: qualcomm, lanes: [3]int{128, 64, 128}, has: canSize | canFill | hasHalf | hasDot | mixedDot,
		shared: 32 * kib, invocations: 2048, source: mesaRun + " (FD_GPU_ID=740); " + banner + "an Adreno 750 (ggml's issue 1287): int dot 0"}
	adreno6xx = gpu{name: "Qualcomm Adreno, Android 11, without the extension", kind: vk.Integrated, vendor: qualcomm, lanes: [3]int{64, 64, 64}, has: hasHalf,
		shared: 32 * kib, invocations: 1024, source: iree + ", QC_Adreno (report 10983)"}
	g715 = gpu{name: "Arm Immortalis-G715, PanVK", kind: vk.Integrated, vendor: arm, lanes: [3]int{16, 16, 16}, has: hasAll &^ mixedDot, shared: 32 * kib,
		invocations: 1024, units: 11, source: "Mesa's panvk_vX_physical_device.c, v11; cores: MediaTek's Dimensity 9200"}
	v3d = gpu{name: "Broadcom V3D 7.1 (Raspberry Pi 5)", kind: vk.Integrated, vendor: broadcom, lanes: [3]int{16, 16, 16}, has: hasAll, shared: 32 * kib,
		invocations: 256, source: "Mesa's v3dv_device.c and v3dv_limits.h; " + banner + "V3D 7.1.7.0 on Mesa 26.2"}
)

func (g gpu) physical() *vk.PhysicalDevice {
	has := func(a ability) bool { return g.has&a != 0 }
	f := vk.Features{SubgroupBasic: true, SubgroupVote: true, SubgroupArithmetic: true, SubgroupBallot: true, SubgroupShuffle: true,
		SubgroupShuffleRelative: true, SubgroupClustered: true, SubgroupSizeControl: has(canSize), ComputeFullSubgroups: has(canFill),
		ShaderFloat16: has(hasHalf), FloatDotProduct: has(floatDot), IntegerDotProduct: has(hasDot), IntegerDotProductAccelerated: has(fastDot), IntegerDotProductMixedAccelerated: has(mixedDot),
		VulkanMemoryModel: true}
	if g.matrix[0] > 0 {
		f.CooperativeMatrix = []vk.MatrixShape{{M: g.matrix[0], N: g.matrix[1], K: g.matrix[2], A: vk.Float16, B: vk.Float16, C: vk.Float32, Result: vk.Float32}}
	}
	return &vk.PhysicalDevice{Name: g.name, Type: g.kind, VendorID: g.vendor, Features: f, Limits: vk.Limits{
		ComputeUnits: g.units, SubgroupSize: g.lanes[0], MinSubgroupSize: g.lanes[1], MaxSubgroupSize: g.lanes[2], MaxComputeSharedMemorySize: g.shared,
		MaxComputeWorkGroupInvocations: g.invocations, MaxComputeWorkGroupCount: [3]int{65535, 65535, 65535},
		MaxStorageBufferRange: 1<<31 - 1, MaxTexelBufferElements: 1 << 27,
	}}
}
