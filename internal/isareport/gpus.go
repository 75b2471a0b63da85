package main

import "pumice/vk"

// A span is what an uncertain number may be.
type span struct{ Low, High float64 }

// at is the number between Low, 0, and High, 1.
func (s span) at(share float64) float64 { return s.Low + share*(s.High-s.Low) }

// A gpu is a device that predictions are made for: what its driver reports, which decides about plans, and what its data sheet,
// or who measured it, says of its speed. A unit is a multiprocessor (NVIDIA), a compute unit (AMD) or an Xe core (Intel).
type gpu struct {
	name    string
	part    string // of the names that drivers give it
	kind    vk.DeviceType
	vendor  uint32
	least   int // lanes of the smallest and the largest subgroup
	most    int
	shared  int    // bytes of shared memory of a workgroup
	matrix  [3]int // of cooperative matrices; zeros: none
	standIn string // whose compiler's counts are taken: a device of tools/mesa.sh or tools/intel.sh
	loops   string // whose counts of loops are taken; "": those of standIn

	memory    float64 // bytes
	bandwidth float64 // bytes a second by the data sheet
	cache     float64 // bytes of the last cache before memory
	cached    float64 // bytes a second from there
	near      float64 // bytes a second from the second-level cache, where tiles come from

	units      int
	schedulers int     // of a unit
	width      int     // lanes whose instruction a scheduler starts a clock
	clock      float64 // Hz
	subgroups  int     // most of a scheduler, where the compiler does not tell
	local      int     // bytes of shared memory of a unit

	rates       [pipes]float64 // lanes a unit and clock; 0: as many as the schedulers start
	convert     bool           // its compiler may convert integers beside other integer operations, or on xu: it is not known
	level1      float64        // bytes a unit and clock from the first-level cache and shared memory
	operations  float64        // of matrices of float16, summed in float32, a unit and clock
	matrixShare span           // of those that kernels can reach
	blocks      bool           // matrices keep the schedulers busy
	twice       float64        // how often lanes load a fragment of a matrix from shared memory

	boundary span // microseconds between the end of a dispatch and the start of the one that waits for it
	latency  span // microseconds of a load from memory that is busy
	slower   span // factor on instructions, where the counts are of another compiler
	sources  string
}

// PCI ids.
const (
	nvidia  = 0x10de
	amd     = 0x1002
	intelID = 0x8086
)

const (
	gb  = 1e9
	mib = 1 << 20
	gib = 1 << 30
	tb  = 1e12
)

// nvidiaRates: CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions", 8.6 to 9.0.
var nvidiaRates = [pipes]float64{fma: 128, alu: 64, xu: 16, memory: 32, shuffle: 32}

// amdRates: RDNA3 and RDNA2 ISA guides: two SIMD units of 32 lanes, a quarter of the rate for transcendental functions.
var amdRates = [pipes]float64{xu: 16, memory: 32, shuffle: 32}

// everywhere is what is assumed of efficiency: the share of the bandwidth by the data sheet that a kernel reads at which does
// nothing else. Published read tests reach 0.85 to 0.95.
var everywhere = span{0.85, 0.95}

// busy is the share of the time in which the fullest of a unit's schedulers and pipes works: in the rest subgroups wait at
// barriers and for one instruction after another. An estimate.
var busy = span{0.75, 0.95}

var hopper = gpu{
	kind: vk.Discrete, vendor: nvidia, least: 32, most: 32, shared: 48 << 10, matrix: [3]int{16, 16, 16}, standIn: "ampere",
	cache: 50 * mib, cached: 5.5 * tb, near: 5.5 * tb,
	units: 132, schedulers: 4, width: 32, clock: 1.83e9, local: 228 << 10, rates: nvidiaRates, convert: true, level1: 128,
	operations: 4096, matrixShare: span{0.6, 0.65}, twice: 1,
	boundary: span{1.3, 4.5}, latency: span{0.6, 0.9}, slower: span{1, 1},
}

// with changes a copy of g.
func (g gpu) with(change func(*gpu)) gpu {
	change(&g)
	return g
}

const nvidiaSources = "boundary: 1.3 us of a CUDA graph (Hazy Research, Look Ma, No Bubbles, 2025) to the 4.7 us of design/0004; conversions: 16 a clock (XU) or 64 (ALU), which NVIDIA's compiler takes is not known"

var gpus = []gpu{
	hopper.with(func(g *gpu) {
		g.name, g.part, g.memory, g.bandwidth = "H200", "H200", 141*gb, 4.8*tb
		g.sources = "NVIDIA H200 data sheet; the rest as H100"
	}),
	hopper.with(func(g *gpu) {
		g.name, g.part, g.memory, g.bandwidth = "H100", "H100", 80*gb, 3.35*tb
		g.sources = "NVIDIA H100 (SXM) data sheet and architecture paper; cache and latency: after Chips and Cheese; matrices of a subgroup reach 62 % of the peak, Luo et al. 2024, arXiv:2402.13499; " + nvidiaSources
	}),
	{
		name: "RTX 4090", part: "RTX 4090", kind: vk.Discrete, vendor: nvidia, least: 32, most: 32, shared: 48 << 10, matrix: [3]int{16, 16, 16}, standIn: "ampere",
		memory: 24 * gib, bandwidth: 1.008 * tb, cache: 72 * mib, cached: 5 * tb, near: 5 * tb,
		units: 128, schedulers: 4, width: 32, clock: 2.52e9, local: 100 << 10, rates: nvidiaRates, convert: true, level1: 128,
		operations: 512, matrixShare: span{0.9, 1}, twice: 1,
		boundary: span{1.3, 4.5}, latency: span{0.45, 0.65}, slower: span{1, 1},
		sources: "NVIDIA Ada architecture paper; cache and latency: after Chips and Cheese; the rest as H100",
	},
	{
		name: "RTX 3060", part: "RTX 3060", kind: vk.Discrete, vendor: nvidia, least: 32, most: 32, shared: 48 << 10, matrix: [3]int{16, 16, 16}, standIn: "ampere",
		memory: 12 * gib, bandwidth: 360 * gb, cache: 3 * mib, cached: 1 * tb, near: 1 * tb,
		units: 28, schedulers: 4, width: 32, clock: 1.777e9, local: 100 << 10, rates: nvidiaRates, convert: true, level1: 128,
		operations: 512, matrixShare: span{0.9, 1}, twice: 1,
		boundary: span{1.3, 4.5}, latency: span{0.45, 0.7}, slower: span{1, 1},
		sources: "NVIDIA GA102 architecture paper, scaled to 28 multiprocessors; cache: 20 bytes a clock and multiprocessor, estimated; the rest as H100",
	},
	{
		name: "RX 7900 XTX", part: "7900 XTX", kind: vk.Discrete, vendor: amd, least: 32, most: 64, shared: 64 << 10, matrix: [3]int{16, 16, 16}, standIn: "navi31",
		memory: 24 * gib, bandwidth: 960 * gb, cache: 96 * mib, cached: 3 * tb, near: 3.5 * tb,
		units: 96, schedulers: 2, width: 32, clock: 2.5e9, local: 64 << 10, rates: amdRates, level1: 128,
		operations: 512, matrixShare: span{0.9, 1}, blocks: true, twice: 2,
		boundary: span{2, 4}, latency: span{0.5, 0.75}, slower: span{1, 1},
		sources: "AMD product page and RDNA3 ISA guide; caches and latency: after Chips and Cheese; boundary: a flush and invalidation of caches with idle units (RADV), estimated",
	},
	{
		name: "RX 6800", part: "RX 6800", kind: vk.Discrete, vendor: amd, least: 32, most: 64, shared: 64 << 10, standIn: "navi21",
		memory: 16 * gib, bandwidth: 512 * gb, cache: 128 * mib, cached: 1.7 * tb, near: 1.9 * tb,
		units: 60, schedulers: 2, width: 32, clock: 2.1e9, local: 64 << 10, rates: amdRates, level1: 128,
		operations: 256, matrixShare: span{1, 1}, twice: 1,
		boundary: span{2, 4}, latency: span{0.45, 0.7}, slower: span{1, 1},
		sources: "AMD product page and RDNA2 ISA guide; its peak is that of packed float16, it has no matrices; the rest as RX 7900 XTX",
	},
	{
		name: "Arc A770", part: "A770", kind: vk.Discrete, vendor: intelID, least: 8, most: 32, shared: 48 << 10, matrix: [3]int{8, 8, 16}, standIn: "dg2", loops: "navi21",
		memory: 16 * gib, bandwidth: 560 * gb, cache: 16 * mib, cached: 1.3 * tb, near: 1.3 * tb,
		units: 32, schedulers: 16, width: 8, clock: 2.1e9, subgroups: 8, local: 128 << 10, level1: 128,
		operations: 2048, matrixShare: span{0.5, 0.9}, twice: 1,
		boundary: span{3, 8}, latency: span{0.7, 1.1}, slower: span{1, 2},
		sources: "Intel product page; 16 vector engines of 8 lanes a core; cache and latency: after Chips and Cheese; boundary: no source, a guess; loops: RDNA2's counts, times 1 to 2",
	},
	{
		name: "Arc B580", part: "B580", kind: vk.Discrete, vendor: intelID, least: 16, most: 32, shared: 48 << 10, matrix: [3]int{8, 16, 16}, standIn: "bmg", loops: "navi31",
		memory: 12 * gib, bandwidth: 456 * gb, cache: 18 * mib, cached: 1.8 * tb, near: 1.8 * tb,
		units: 20, schedulers: 8, width: 16, clock: 2.85e9, subgroups: 8, local: 256 << 10, level1: 128,
		operations: 2048, matrixShare: span{0.5, 0.9}, twice: 1,
		boundary: span{3, 8}, latency: span{0.6, 0.9}, slower: span{1, 2},
		sources: "Intel product page; 8 vector engines of 16 lanes a core; cache and latency: after Chips and Cheese; boundary: no source, a guess; loops: RDNA3's counts, times 1 to 2",
	},
	{
		name: "Radeon 780M", part: "780M", kind: vk.Integrated, vendor: amd, least: 32, most: 64, shared: 64 << 10, matrix: [3]int{16, 16, 16}, standIn: "navi31",
		memory: 16 * gib, bandwidth: 89.6 * gb, cache: 2 * mib, cached: 0.5 * tb, near: 0.5 * tb,
		units: 12, schedulers: 2, width: 32, clock: 2.7e9, local: 64 << 10, rates: amdRates, level1: 128,
		operations: 512, matrixShare: span{0.9, 1}, blocks: true, twice: 2,
		boundary: span{2, 5}, latency: span{0.6, 1}, slower: span{1, 1},
		sources: "AMD product page; memory: two channels of DDR5-5600, of which 16 GiB; the rest as RX 7900 XTX",
	},
}

// peak is operations a second of float16 numbers summed in float32, by matrices where there are such.
func (g *gpu) peak() float64 { return g.operations * float64(g.units) * g.clock }

// physical is the device as its driver reports it (sources: pipeline/devices_test.go).
func (g *gpu) physical() *vk.PhysicalDevice {
	f := vk.Features{
		SubgroupBasic: true, SubgroupVote: true, SubgroupArithmetic: true, SubgroupBallot: true, SubgroupShuffle: true,
		SubgroupShuffleRelative: true, SubgroupClustered: true, SubgroupSizeControl: true, ComputeFullSubgroups: true,
		ShaderFloat16: true, FloatDotProduct: g.vendor == amd, IntegerDotProduct: true, IntegerDotProductAccelerated: true, IntegerDotProductMixedAccelerated: g.matrix[0] > 0,
		VulkanMemoryModel: true,
	}
	if g.matrix[0] > 0 {
		f.CooperativeMatrix = []vk.MatrixShape{{M: g.matrix[0], N: g.matrix[1], K: g.matrix[2], A: vk.Float16, B: vk.Float16, C: vk.Float32, Result: vk.Float32}}
	}
	return &vk.PhysicalDevice{Name: g.name, Type: g.kind, VendorID: g.vendor, Features: f, Limits: vk.Limits{
		SubgroupSize: g.most, MinSubgroupSize: g.least, MaxSubgroupSize: g.most, MaxComputeSharedMemorySize: g.shared,
		MaxComputeWorkGroupInvocations: 1024, MaxComputeWorkGroupCount: [3]int{65535, 65535, 65535},
		MaxStorageBufferRange: 1<<32 - 1, MaxTexelBufferElements: 1 << 27,
	}}
}
