package pipeline

import (
	"pumice/internal/dtype"
	"pumice/vk"
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
	texels := 16*l.MaxTexelBufferElements >= min(l.MaxStorageBufferRange, 1<<31-1) // what is bound as a buffer can be as texels
	return size && texels && f.SubgroupShuffle && f.SubgroupBasic
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
	matvecSGRows    = rowQuad // of a subgroup
)

// matvecSGChunk is how many columns of a row a lane of matvec_*_sg takes in a chunk: PIECES *
// PIECE_COLS of matvec_sg.comp.
func matvecSGChunk(t DType) int {
	n := layouts[t].unitCols
	if t.BlockSize() > 1 && t != dtype.Q8_0 {
		return n
	}
	return 4 * n
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
	fewRows      = rowQuad // of a subgroup
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
