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
	PathAddr Path = "addr" // products and attention, as row but at device addresses, for drivers with scalar loads
	PathSG   Path = "sg"   // products with one token and its attention, by subgroup arithmetic and shuffles
	PathFew  Path = "few"  // products with a few tokens, without tiles
	PathFP16 Path = "fp16" // products of float16 numbers, in float16
	PathDP   Path = "dp"   // products of 8-bit activations, by integer dot products
	PathCM   Path = "cm"   // products of float16 numbers and attention of several tokens, by cooperative matrices
)

// Paths lists every path, the one that runs everywhere first.
var Paths = []Path{PathBase, PathRow, PathAddr, PathSG, PathFew, PathFP16, PathDP, PathCM}

// severalOnly says that the path has kernels for several tokens, products and cm's attention, and nothing else.
func (p Path) severalOnly() bool {
	return p != PathBase && p != PathRow && p != PathAddr && p != PathSG
}

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
	//
	// lavapipe 26.1.6 makes a call of a texel fetch, 130 instructions for 16 bytes a lane, and a scalar
	// load of an address that all lanes share, without a check. On it (2 cores, AVX2) a Q8_0 matrix of
	// 4096 x 4096 goes through matvec_q8_0_row at 5.8 and through matvec_q8_0_addr at 9.8 GB/s, F32 at
	// 4.4 and 15.4, Q6_K at 1.7 and 3.9; 64 tokens of Q4_1 at 20 and 33 GFLOP/s: docs/design/0003.
	{cpu: true, paths: []Path{PathAddr, PathRow}},
	// Up to eight tokens a product waits for the weights, which the few path reads
	// as a product of one token does, in more workgroups than there are tiles; not measured since it
	// has x in shared memory (docs/design/0004). Beyond, a
	// prompt of 512 tokens of a 7B Llama in Q4_0 took 224 ms by cm and 301 by fp16 on an H200
	// (docs/benchmarks.md, before loads were batched). The dp path took 155 there, but rounds activations to eight bits,
	// which shows in perplexity (docs/quantization.md): it is for who asks for it.
	{op: "matmul_", minTokens: fewTokens + 1, paths: []Path{PathCM, PathFP16}},
	{op: "matmul_", minTokens: 2, paths: []Path{PathFew}},
	// By what drivers' compilers make of them (docs/isa.md): matvec_q4_0_sg takes a
	// third of the instructions a weight of matvec_q4_0, in loads three times as wide.
	{op: "matvec_", paths: []Path{PathSG}},
	// H200 (NVIDIA 580.159): attention_rope_f16 of 32 heads of 128 took 195 us a layer at 2048
	// positions, 65 us for each block of 64 keys, where the cache's bytes need 8: it waits at
	// barriers for loads that were asked for one by one.
	{op: "attention_decode_", paths: []Path{PathSG}},
	{op: "attention_rope_", paths: []Path{PathSG}},
	// H200 (NVIDIA 580.159): attention_f16 of 512 tokens and 32 heads of 128 took 1.03 ms a layer, a tenth
	// to a fifth of a prompt: it waits for loads likewise, and sums in float32. Matrices are not measured.
	{op: "attention_", minTokens: fewTokens + 1, paths: []Path{PathCM}},
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
	if path == PathDP && m.opts.Tuning.refuses("quantize_acts") {
		return false
	}
	return ok && m.runnable(v) && !m.opts.Tuning.refuses(v.Name)
}

// paths is the order in which an op's paths are tried.
func (m *Manager) paths(op string, tokens int) []Path {
	switch m.opts.Path {
	case "":
	case PathAddr: // the rest is the row path's on the drivers that it is for
		return []Path{PathAddr, PathRow}
	default:
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

// layoutPath is the path that matrices of a type and so many columns are laid out for. That is
// decided once, when they are loaded, by what the products of one token prefer.
func (m *Manager) layoutPath(t DType, cols int) Path {
	op := "matvec_" + lower(t)
	for _, path := range m.paths(op, 1) {
		if !m.offers(op, path) {
			continue
		}
		switch path {
		case PathRow:
			if cols%4 != 0 {
				continue
			}
		case PathAddr: // no other kernels read its layout
			if cols%addrBlockCols != 0 || !m.offers("matmul_"+lower(t), path) || !m.offers("embed_"+lower(t), path) {
				continue
			}
		}
		return path
	}
	return PathBase
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

// hasAddresses says whether the addr path is for a device: a CPU driver that keeps what all lanes
// share in scalars, which lavapipe 26.1.6 does, 25.0.7 does not (there they are a sixth to an eighth as fast as the row kernels)
// and nothing but its version tells. Elsewhere the kernels, LANES loads for each word, take minutes to compile.
func hasAddresses(pd *vk.PhysicalDevice) bool {
	const mesa26 = 26 << 22
	f := pd.Features
	return pd.Type == vk.CPU && pd.Driver == "llvmpipe" && pd.DriverVersion >= mesa26 &&
		f.BufferDeviceAddress && f.ShaderInt64 && f.SubgroupBasic
}

// hasSubgroups says whether a device has subgroup arithmetic in compute.
func hasSubgroups(pd *vk.PhysicalDevice) bool {
	return pd.Features.SubgroupBasic && pd.Features.SubgroupArithmetic
}

// subgroupLanes is the subgroup of the sg path: of 32 lanes where the device has a choice, so
// that a row of 4096 columns in blocks of 32 gives every lane four blocks.
func subgroupLanes(pd *vk.PhysicalDevice) int {
	l := pd.Limits
	if pd.Features.SubgroupSizeControl {
		return min(max(32, l.MinSubgroupSize), l.MaxSubgroupSize)
	}
	return l.SubgroupSize
}

// hasSubgroupLanes says whether subgroups are of subgroupLanes lanes for certain: by default, as
// on NVK, or on demand.
func hasSubgroupLanes(pd *vk.PhysicalDevice) bool {
	l := pd.Limits
	return pd.Features.SubgroupSizeControl || l.MinSubgroupSize > 0 && l.MinSubgroupSize == l.MaxSubgroupSize
}

// Shape of a workgroup of matvec_*_sg: SUBGROUPS and ROWS of matvec_sg.comp.
const (
	matvecSubgroups = 4
	matvecSGRows    = 4 // of a subgroup
)

// matvecSGCols is what the columns of matvec_*_sg are a multiple of: matvec_sg.comp.
func matvecSGCols(t DType) int {
	if t == dtype.Q8_0 {
		return 64
	}
	return layouts[t].unitCols
}

// matvecSGChunk is how many columns of a row a lane of matvec_*_sg takes in a chunk: PIECES *
// PIECE_COLS of matvec_sg.comp.
func matvecSGChunk(t DType) int {
	switch n := layouts[t].unitCols; {
	case t == dtype.Q8_0:
		return 4 * n
	case t.BlockSize() > 1:
		return n
	default:
		return 4 * n
	}
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

// rowMetaFormat is how the row kernels see a type's records: QUAD_META of weights_row.glsl.
func rowMetaFormat(t DType) vk.TexelFormat {
	switch t {
	case dtype.Q8_0, dtype.Q4_0, dtype.Q4_1:
		return vk.RGBA32Uint
	}
	return vk.R32Uint
}

// Tile of matmul_*_row: rows a lane and at most so many tokens (lavapipe 22.3.6:
// docs/design/0001).
const (
	matmulLaneRows = 4
	matmulTokens   = 8
)

// Tile of matmul_*_addr: rows a lane and at most so many tokens.
const (
	addrLaneRows  = 2
	addrTokens    = 8
	addrBlockCols = 32 // columns that the addr kernels take at a time
)

// Shape of a workgroup of matmul_*_few: SUBGROUPS and ROWS of matmul_few.comp, and at most so many tokens.
const (
	fewSubgroups = 8
	fewRows      = 4 // of a subgroup
	fewTokens    = 8
)

// tokenTile is the power of two, at most limit, that is no less than a run's tokens.
func tokenTile(tokens, limit int) int {
	n := 1
	for n < tokens && n < limit {
		n *= 2
	}
	return n
}

// A matrixTile is the shape of a workgroup of matmul_*_cm: subgroups over rows and tokens, and
// the device's matrices over those of each.
type matrixTile struct {
	subgroupsM, subgroupsN, matricesM, matricesN int
}

// matrixTiles are tried in order. For matrices of 16 x 16 they are 128 x 64, 64 x 64, 64 x 32
// and 64 x 16 rows by tokens. On an H200 the products of a prompt of 512 (docs/design/0004) took 105 ms by the first
// and 187 by 128 x 128, whose subgroups have 2 x 4 matrices: half as many workgroups fit at once.
var matrixTiles = []matrixTile{{4, 2, 2, 2}, {2, 2, 2, 2}, {4, 1, 1, 2}, {4, 1, 1, 1}}

// minLargeTiles is how many of the largest tiles a product must have to use them: with fewer
// the larger devices of today, of up to some 150 units, would stand still in part.
const minLargeTiles = 300

func (t matrixTile) rows(s *vk.MatrixShape) int   { return t.subgroupsM * t.matricesM * s.M }
func (t matrixTile) tokens(s *vk.MatrixShape) int { return t.subgroupsN * t.matricesN * s.N }

// shared is the bytes of shared memory that a workgroup takes: two tiles of 32 columns, 80 bytes
// a line, and a matrix of results for each subgroup.
func (t matrixTile) shared(s *vk.MatrixShape) int {
	return 2*80*(t.rows(s)+t.tokens(s)) + 4*t.subgroupsM*t.subgroupsN*s.M*s.N
}

// matrixTileFor is the first tile of which a product fills at least half with tokens, and which
// leaves a workgroup within so many bytes of shared memory.
func matrixTileFor(s *vk.MatrixShape, rows, tokens, shared int) matrixTile {
	for i, t := range matrixTiles {
		enough := i > 0 || ceilDiv(rows, t.rows(s))*ceilDiv(tokens, t.tokens(s)) >= minLargeTiles
		if 2*tokens > t.tokens(s) && enough && t.shared(s) <= shared {
			return t
		}
	}
	return matrixTiles[len(matrixTiles)-1]
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

// matrixSubgroup is the subgroup size of kernels with cooperative matrices: 32 where the device
// can, else its own. AMD's default of 64 spreads a matrix over twice the lanes its
// instructions use.
func matrixSubgroup(pd *vk.PhysicalDevice) int {
	l := pd.Limits
	if pd.Features.SubgroupSizeControl && l.MinSubgroupSize <= 32 && 32 <= l.MaxSubgroupSize {
		return 32
	}
	return l.SubgroupSize
}

// rowSteps is how many times eight quads a workgroup of the elementwise *_row kernels takes.
const rowSteps = 8

// workgroup is the size of base kernels' workgroups. 64 is a whole number of subgroups on
// every device known (4 to 64 lanes) and within the 128 invocations that Vulkan guarantees.
const workgroup = 64

// rowLanes is the workgroup of base kernels that take a row of so many columns: a power of two, of
// eight columns an invocation and more, because their loads wait for one another. With 64 invocations
// an H200 took 30 us for RMSNorm of rows of 4096.
func (m *Manager) rowLanes(cols int) uint32 {
	n := workgroup
	for 2*n <= min(256, m.dev.PhysicalDevice().Limits.MaxComputeWorkGroupInvocations) && 8*2*n <= cols {
		n *= 2
	}
	return uint32(n)
}

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

// attends says which paths' attention suits a cache of the type: addr where a row's words are dealt
// evenly to the lanes, sg where a row is 16 bytes for each lane of an even part of a subgroup, cm
// by attendsByMatrices, row as the caller says.
func (m *Manager) attends(t DType, headDim int, row bool) func(Path) bool {
	pd := m.dev.PhysicalDevice()
	even := cacheRowBytes(t, headDim)%int64(4*pd.Limits.SubgroupSize) == 0
	lanes, team := subgroupLanes(pd), decodeTeam(t, headDim)
	teams := team > 0 && lanes%team == 0 && decodeInvocations%lanes == 0
	return func(p Path) bool {
		switch p {
		case PathAddr:
			return even
		case PathSG:
			return teams
		case PathCM:
			return m.attendsByMatrices(headDim)
		case PathRow:
			return row
		}
		return true
	}
}

// attentionSubgroups are those of a workgroup of attention_cm.comp.
const attentionSubgroups = 4

// attendsByMatrices says whether attention_cm.comp takes heads of so many components: whole matrices, few
// enough that an invocation's registers hold its share of the sums, in the shared memory there is.
func (m *Manager) attendsByMatrices(headDim int) bool {
	s := m.matrix
	if s == nil || headDim > 128 || headDim%16 != 0 || s.N < 8 || s.K < 8 {
		return false
	}
	pd := m.dev.PhysicalDevice()
	rows, keys, parts := attentionSubgroups*s.M, 2*s.N, matrixSubgroup(pd)/s.M
	if parts < 1 || parts > keys/4 {
		return false
	}
	bytes := max(rows, 2*keys)*(2*headDim+16) + rows*(4*(keys+4)+2*(keys+8)+4)
	return bytes <= pd.Limits.MaxComputeSharedMemorySize
}

// decodeInvocations is the workgroup of attention_decode_sg.comp.
const decodeInvocations = 128

// decodeTeam is how many lanes hold a row of the cache in attention_decode_sg.comp, 16 bytes
// each; 0: it takes no such rows.
func decodeTeam(t DType, headDim int) int {
	size := headDim * elementBytes(t)
	team := size / 16
	if size%16 != 0 || team > 32 || team&(team-1) != 0 {
		return 0
	}
	return team
}

// elementBytes is what a component of the cache takes, without scales.
func elementBytes(t DType) int { return max(1, t.BlockBytes()/t.BlockSize()) }

// rowRotates says whether the row kernels rotate heads of this shape: four components have
// their partners in four others, or among themselves.
func rowRotates(h Heads) bool {
	n := 8
	if h.Interleaved {
		n = 4
	}
	return h.HeadDim%4 == 0 && h.RotaryDim%n == 0 && h.RotaryDim > 0
}

// rowRopesCache says whether attention_rope_*_row takes heads of this shape: each of eight
// lanes has whole texels of a row.
func rowRopesCache(t DType, h Heads) bool {
	return rowRotates(h) && t != dtype.Q8_0 && h.HeadDim*t.BlockBytes()%(8*16) == 0
}

// attentionRows is how many queries a workgroup of attention.comp takes: as many as leave
// it within 32 KiB of shared memory and each invocation within 32 sums.
func attentionRows(headDim int) int {
	if headDim > 128 {
		return 16
	}
	return 32
}

// decodeGroup is how many of the heads that share keys one workgroup of attention_decode
// takes: all, unless their queries and sums become too many to hold.
func decodeGroup(path Path, t DType, h Heads) int {
	most := min(8, 1024/h.HeadDim)
	switch path {
	case PathRow, PathAddr:
		most = 256 / h.HeadDim
	case PathSG: // a lane has the query and the sums of at most 32 components
		most = min(4, 2*elementBytes(t))
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
// for so many positions: enough workgroups for a GPU, each with keys enough to be worth it.
//
// The row and addr paths do not divide: on lavapipe 22.3.6 (two threads, SmolLM2's nine heads in three
// groups, f16) two parts and their reduction took 78, 120 and 332 us at 128, 512 and 2048
// positions, one part 48, 99 and 306. Each dispatch costs a driver's threads a wake-up.
func decodeSplits(path Path, groups, positions, window int) int {
	if path == PathRow || path == PathAddr {
		return 1
	}
	if window > 0 {
		positions = min(positions, window)
	}
	keys := 256
	if path == PathSG {
		keys = 128 // four times what the teams of a workgroup load at once, of rows of 256 bytes
	}
	return max(1, min(ceilDiv(512, groups), positions/keys))
}
