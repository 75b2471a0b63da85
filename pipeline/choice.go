package pipeline

import "pumice/vk"

// A Path is a family of kernel variants written for one kind of machine.
type Path string

const (
	PathBase Path = "base" // Vulkan 1.1, 32-bit storage, workgroups with shared memory
	PathRow  Path = "row"  // barrier-free: one subgroup of eight lanes, several rows a lane
)

// hasLane8 says whether a device runs subgroups of exactly eight invocations with shuffle,
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
	return size && f.SubgroupShuffle && f.SubgroupBasic
}

// prefersRow is the choice between the base and the row path where a device has both.
//
// A CPU driver runs a workgroup barrier as a switch between coroutines: on lavapipe 22.3.6
// (2 cores, AVX-512) a Q4_1 matrix of 1536 x 576 goes through matvec_q4_1 at 0.15 and
// through matvec_q4_1_row at more than 8 billion weights a second. A GPU has no such cost,
// and eight lanes would leave most of its subgroup idle.
func prefersRow(pd *vk.PhysicalDevice) bool { return pd.Type == vk.CPU }

// laneRows is how many adjacent rows a lane of matvec_*_row takes. More rows use each load
// of x more often and make the weight stream of a workgroup longer; float32 weights are
// limited by memory and prefer few (lavapipe 22.3.6: docs/design/0001).
func laneRows(t DType) int {
	if t.BlockBytes()/t.BlockSize() >= 4 { // F32
		return 2
	}
	return 4
}

// Tile of matmul_*_row: rows a lane and tokens (lavapipe 22.3.6: docs/design/0001).
const (
	matmulLaneRows = 4
	matmulTokens   = 8
)

// workgroup is the size of base kernels' workgroups. 64 is a whole number of subgroups on
// every device known (4 to 64 lanes) and within the 128 invocations that Vulkan guarantees.
const workgroup = 64
