package pipeline

import (
	"slices"
	"strings"

	"pumice/internal/dtype"
	"pumice/vk"
)

// A Path is a family of kernel variants written for one kind of machine. Its name is the
// suffix of the variants' names in shaders/variants.txt; base variants have none.
type Path string

const (
	PathBase Path = "base" // Vulkan 1.1, 32-bit storage, workgroups with shared memory
	PathRow  Path = "row"  // barrier-free: one subgroup of eight lanes, several rows a lane
)

// Paths lists every path, the one that runs everywhere first.
var Paths = []Path{PathBase, PathRow}

// variant is the name of an op's variant of the path.
func (p Path) variant(op string) string {
	if p == PathBase {
		return op
	}
	return op + "_" + string(p)
}

// pathOf is the path of a variant.
func pathOf(name string) Path {
	for _, path := range Paths {
		if path != PathBase && strings.HasSuffix(name, "_"+string(path)) {
			return path
		}
	}
	return PathBase
}

// A rule says which paths of an op are tried on some devices, best first, for runs of
// minTokens tokens and more. The base path is tried last whatever the rule.
type rule struct {
	op        string // prefix of the op's name; "" is every op
	cpu       bool   // of CPU drivers, or of GPUs
	minTokens int
	paths     []Path
}

// rules is the choice where nothing has been measured on the device (pumice tune): the first
// rule that applies decides. Each states the measurement it rests on.
var rules = []rule{
	// A CPU driver runs a workgroup barrier as a switch between coroutines: on lavapipe 22.3.6
	// (2 cores, AVX-512) a Q4_1 matrix of 1536 x 576 goes through matvec_q4_1 at 0.15 and
	// through matvec_q4_1_row at more than 8 billion weights a second. A GPU has no such cost,
	// and eight lanes would leave most of its subgroup idle.
	{cpu: true, paths: []Path{PathRow}},
}

// pick names the variant of an op for a run of tokens: of the forced path, of the path that
// was measured to be best on this device, or of the first path of the rules, whichever is
// the first to exist, to run on the device and to suit the operands.
func (b *Builder) pick(op string, tokens int, suits func(Path) bool) (kernel string, path Path) {
	for _, path := range b.m.paths(op, tokens) {
		if suits(path) && b.m.offers(op, path) {
			return path.variant(op), path
		}
	}
	return op, PathBase
}

// offers says whether an op has a variant of the path that runs on the device and is not
// known to compute wrong results there.
func (m *Manager) offers(op string, path Path) bool {
	v, ok := m.variants[path.variant(op)]
	return ok && m.runnable(v) && !m.opts.Tuning.refuses(v.Name)
}

// paths is the order in which an op's paths are tried.
func (m *Manager) paths(op string, tokens int) []Path {
	if m.opts.Path != "" {
		return []Path{m.opts.Path}
	}
	if tuned := m.opts.Tuning.paths(op, tokens); tuned != nil {
		return tuned
	}
	for _, r := range rules {
		if r.cpu == m.cpu() && tokens >= r.minTokens && strings.HasPrefix(op, r.op) {
			return r.paths
		}
	}
	return nil
}

// Chosen lists the paths that plans on this device take kernels from beside the base path,
// or that one alone.
func (m *Manager) Chosen() []Path {
	if m.opts.Path != "" {
		return []Path{m.opts.Path}
	}
	var list []Path
	for _, r := range rules {
		for _, path := range r.paths {
			if r.cpu == m.cpu() && slices.Contains(m.Paths(), path) && !slices.Contains(list, path) {
				list = append(list, path)
			}
		}
	}
	if list == nil {
		return []Path{PathBase}
	}
	return list
}

func (m *Manager) cpu() bool { return m.dev.PhysicalDevice().Type == vk.CPU }

// rowIf suits every path, the row path only under a condition.
func rowIf(condition bool) func(Path) bool {
	return func(p Path) bool { return p != PathRow || condition }
}

// interleaves says whether matrices of a type are laid out for the row path. That is decided
// once, when they are loaded, by what the products of one token prefer.
func (m *Manager) interleaves(t DType) bool {
	op := "matvec_" + lower(t)
	for _, path := range m.paths(op, 1) {
		if m.offers(op, path) {
			return path == PathRow
		}
	}
	return false
}

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

// rowReadsCache says whether the row kernels read a cache of the type: a row's texels of 16
// bytes are dealt evenly to eight lanes, or eight lanes to texels.
func rowReadsCache(t DType, headDim int) bool {
	size := headDim * t.BlockBytes() / t.BlockSize() // without scales
	if t == dtype.Q8_0 {
		size = headDim
	}
	texels := size / 16
	return size%16 == 0 && (texels%8 == 0 || 8%max(texels, 1) == 0)
}

// decodeGroup is how many of the heads that share keys one workgroup of attention_decode
// takes: all, unless their queries and sums become too many to hold.
func decodeGroup(path Path, h Heads) int {
	most := min(8, 1024/h.HeadDim)
	if path == PathRow {
		most = 256 / h.HeadDim
	}
	sharing := h.Heads / h.KVHeads
	return ceilDiv(sharing, ceilDiv(sharing, max(1, most)))
}

// decodeKeys is how many keys attention_decode.comp has in shared memory at a time: 16 KiB.
func decodeKeys(headDim int) int {
	keys := 64
	for keys*headDim > 4096 {
		keys /= 2
	}
	return keys
}

// decodeSplits is into how many parts attention_decode divides the keys of a layer with room
// for so many positions.
func decodeSplits(path Path, groups, positions, window int) int {
	if path == PathRow {
		return 1
	}
	if window > 0 {
		positions = min(positions, window)
	}
	return max(1, min(ceilDiv(128, groups), positions/256))
}
