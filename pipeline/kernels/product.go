package kernels

import (
	"fmt"
	"slices"

	"pumice/internal/dtype"
	"pumice/vk"
)

// A Product multiplies tokens with rows of a weight matrix: y = x W^T, and what is fused to it.
type Product struct {
	Packed          // the rows of W
	First, Tokens   int
	Stride          int // columns of y
	Bias, Add       bool
	Norm            bool // RMSNorm of x first; of several tokens if the kernel Norms
	Eps             float32
	Activate, Gated bool // of several tokens if the kernel Activates
	Act             Activation
	Exponent        int // of kernels with float16 weights: these are divided by 2^Exponent
	Tiling          Tiling
}

// Op is matvec_TYPE for one token, matmul_TYPE for several.
func (p Product) Op() string {
	if p.Tokens == 1 {
		return "matvec_" + Lower(p.DType)
	}
	return "matmul_" + Lower(p.DType)
}

// Len is the number of tokens.
func (p Product) Len() int { return p.Tokens }

// Size is that of the weights: rows by columns.
func (p Product) Size() string { return fmt.Sprintf("%dx%d", p.Rows, p.Cols) }

// An Activation is the nonlinearity of an MLP.
type Activation uint32

const (
	SiLU     Activation = iota
	GELU                // exact, by the error function: Hendrycks and Gimpel 2016, arXiv:1606.08415
	GELUTanh            // its approximation by tanh
)

// MarshalText implements encoding.TextMarshaler with the names that Hugging Face configurations have.
func (a Activation) MarshalText() ([]byte, error) {
	switch a {
	case SiLU:
		return []byte("silu"), nil
	case GELU:
		return []byte("gelu"), nil
	case GELUTanh:
		return []byte("gelu_pytorch_tanh"), nil
	}
	return nil, fmt.Errorf("kernels: activation %d", uint32(a))
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

// rowViews is how the row kernels see units, records and x: records as QUAD_META of weights_row.glsl.
func rowViews(t DType) []View {
	meta := vk.R32Uint
	switch t {
	case dtype.Q8_0, dtype.Q4_0, dtype.Q4_1:
		meta = vk.RGBA32Uint
	}
	return []View{vk.RGBA32Uint, meta, vk.RGBA32Float}
}

var addrViews = []View{Address, Address, Address}

const (
	addrGroupRows = 4  // rows of each lane that the addr kernels find side by side: those of one matvec workgroup
	addrBlockCols = 32 // columns that the addr kernels take at a time
	addrLaneRows  = 2  // rows a lane of matmul_*_addr
	addrTokens    = 8  // tokens at most in its tile
)

// Tile of matmul_*_row: rows a lane and at most so many tokens (lavapipe 22.3.6: docs/design/0001).
const (
	matmulLaneRows = 4
	matmulTokens   = 8
)

// matvecRows is how many rows a workgroup of matvec.comp takes.
const matvecRows = 2

// Shape of a workgroup of matvec_*_sg: SUBGROUPS and ROWS of matvec_sg.comp.
const matvecSGRows = rowQuad // of a subgroup; matvecSubgroups are in numbers.go

// matvecSGChunk is how many columns of a row a lane of matvec_*_sg takes in a trip: PIECES *
// PIECE_COLS of matvec_sg.comp.
func matvecSGChunk(t DType) int {
	n := formats[t].unitCols
	if t.BlockSize() > 1 && t != dtype.Q8_0 {
		return n
	}
	return 4 * n
}

// matvecAhead is AHEAD of matvec_sg.comp: whether lanes have registers for the next weights. Intel's have them for plain
// types: of Q8_0 its compiler makes 32 spills for DG2 with it and none without, and it estimates two thirds of the cycles
// for Q5_K without, and for F16 a sixth more (Mesa 26.1.6).
func (m *Machine) matvecAhead(t DType) bool {
	return !m.fewRegisters() || t.BlockSize() == 1
}

// Shape of a workgroup of matmul_*_few: SUBGROUPS and ROWS of matmul_few.comp, and at most so many tokens.
const (
	fewSubgroups = 8
	fewRows      = rowQuad // of a subgroup
	fewTokens    = 8
	fewCols      = 16 // of a lane in a trip: LANE_QUADS
)

// fewTile is TOKENS of matmul_few.comp: all tokens, or half of them where a lane has too few registers for the sums of eight.
func (m *Machine) fewTile(tokens int) int {
	return tokenTile(tokens, min(fewTokens, m.registers(m.subgroupLanes())/32))
}

// Tile of matmul.comp and matmul_dp.comp: rows, and tokens as often as TOKENS says, at most four times.
const (
	tileRows        = 64
	tileTokens      = 16
	tileInvocations = 128
)

// tokenTile is the power of two, at most limit, that is no less than the tokens.
func tokenTile(tokens, limit int) int {
	n := 1
	for n < tokens && n < limit {
		n *= 2
	}
	return n
}

// matvecSpec is the constants of kernels of one token, and of those of several that norm.
func matvecSpec(p Product, first ...Constant) []Constant {
	return activateSpec(p, append(first, flag("HAS_BIAS", p.Bias), flag("ACCUMULATE", p.Add), flag("NORM", p.Norm))...)
}

// activateSpec adds the constants of activation.glsl's includers to others.
func activateSpec(p Product, first ...Constant) []Constant {
	return append(first, flag("ACTIVATE", p.Activate), flag("GATED", p.Gated), Constant{"ACTIVATION", uint32(p.Act)})
}

// matvecSG is what paths compile matvec_sg.comp to.
func matvecSG(path Path, on Class, spec func(*Machine, Product) []Constant) *Kernel[Product] {
	return &Kernel[Product]{
		Path: path, Rule: Rule{On: on}, Reads: []Layout{RowMajor}, Spec: spec,
		Takes: func(_ *Machine, p Product) bool { return p.Cols%formats[p.DType].unitCols == 0 },
		Grid:  func(m *Machine, p Product) [3]int { return spread(m, ceilDiv(p.Rows, matvecSubgroups*matvecSGRows)) },
		Trip: func(_ *Machine, p Product) Trip {
			return Trip{Weights: matvecSGChunk(p.DType) * matvecSGRows, Inner: 1}
		},
	}
}

func matvecSGSpec(m *Machine, p Product) []Constant {
	return matvecSpec(p, size("WORKGROUP", matvecSubgroups*m.subgroupLanes()), flag("AHEAD", m.matvecAhead(p.DType)))
}

// Matvec is the product of one token. Its bindings are units, records, x, norm weights, bias and y.
var Matvec = Op[Product]{
	Push: func(p Product) []byte { return push(p.Rows, p.Cols, p.Group, p.First, p.First, p.Eps) },
	Kernels: []*Kernel[Product]{
		// lavapipe 26.1.6 makes a call of a texel fetch, 130 instructions for 16 bytes a lane, and a scalar
		// load of an address that all lanes share, without a check. On it (2 cores, AVX2) a Q8_0 matrix of
		// 4096 x 4096 takes matvec_q8_0_row at 5.8 and matvec_q8_0_addr at 9.8 GB/s, F32 4.4 and 15.4,
		// Q6_K 1.7 and 3.9; 64 tokens of Q4_1 20 and 33 GFLOP/s: docs/design/0003.
		{
			Path: Addr, Rule: Rule{On: CPUs}, Reads: []Layout{LaneWords},
			Views: func(Product) []View { return []View{Address, Address, Address, Address} },
			Spec: func(_ *Machine, p Product) []Constant {
				return matvecSpec(p, size("LANES", p.Lanes), size("LANE_ROWS", addrGroupRows))
			},
			Grid: func(m *Machine, p Product) [3]int { return spread(m, ceilDiv(p.Rows, p.Group)) },
		},
		// A CPU driver runs a workgroup barrier as a switch between coroutines: on lavapipe 22.3.6
		// (2 cores, AVX-512) a Q4_1 matrix of 1536 x 576 takes matvec_q4_1 at 0.15 and
		// matvec_q4_1_row at more than 8 billion weights a second. A GPU has no such cost,
		// and eight lanes would leave most of its subgroup idle.
		{
			Path: Row, Rule: Rule{On: CPUs}, Reads: []Layout{Grouped},
			Views: func(p Product) []View { return append(rowViews(p.DType), vk.RGBA32Float) },
			Spec: func(_ *Machine, p Product) []Constant {
				return matvecSpec(p, size("LANE_ROWS", laneRows(p.DType)))
			},
			Grid: func(m *Machine, p Product) [3]int { return spread(m, ceilDiv(p.Rows, 8*laneRows(p.DType))) },
		},
		// By the same: matvec_q4_0_dp2 takes 2.1 of 3.0 instructions a weight on navi31, and 2.5 of 4.6 on Ampere (docs/design/0023).
		matvecSG(DP2, DotGPUs, matvecSGSpec),
		// By what drivers' compilers make of them (docs/isa.md): matvec_q4_0_sg takes a
		// third of the instructions a weight of matvec_q4_0, in loads three times as wide.
		matvecSG(SG, GPUs, func(m *Machine, p Product) []Constant {
			spec := append(matvecSGSpec(m, p), flag("FRACTIONS", m.convertsSlowly() && p.DType.BlockSize() > 1))
			if p.DType == dtype.Q8_0 {
				spec = append(spec, flag("WORDS", p.Cols%(2*p.DType.BlockSize()) == 0))
			}
			return spec
		}),
		{
			Path: Base, Rule: Rule{On: Anywhere}, Reads: []Layout{RowMajor, Grouped},
			Spec: func(_ *Machine, p Product) []Constant { return matvecSpec(p, size("WORKGROUP", workgroup)) },
			Grid: func(m *Machine, p Product) [3]int { return spread(m, ceilDiv(p.Rows, matvecRows)) },
			Trip: func(_ *Machine, p Product) Trip {
				return Trip{Weights: formats[p.DType].unitCols * matvecRows, Inner: matvecRows}
			},
		},
	},
}

// tileSpec is the constants of linear.glsl.
func tileSpec(p Product, more ...Constant) []Constant {
	return append([]Constant{flag("HAS_BIAS", p.Bias), flag("ACCUMULATE", p.Add), size("GROUP", p.Group)}, more...)
}

// pushTile is the push constants of linear.glsl.
func pushTile(p Product) []byte { return push(p.Rows, p.Cols, p.First, p.First, p.Stride) }

// pushHalves is those of kernels with float16 operands.
func pushHalves(p Product) []byte { return append(pushTile(p), push(p.Exponent)...) }

// pushGrouped is those of the barrier-free kernels.
func pushGrouped(p Product) []byte { return push(p.Rows, p.Cols, p.Group, p.First, p.First, p.Stride) }

func tiles(m *Machine, p Product) [3]int {
	return [3]int{ceilDiv(p.Rows, tileRows), ceilDiv(p.Tokens, tileTokens*m.tiledTokens(p)), 1}
}

// tiledTokens is TOKENS of matmul.comp and matmul_dp.comp, if no tiling says: eight, and 64 sums an invocation, where there are
// registers for as many, and enough tiles to make the device busy without splits, as the largest tile of matrices asks for;
// else four.
func (m *Machine) tiledTokens(p Product) int {
	const large, small = 8, 4
	n := tokenTile(ceilDiv(p.Tokens, tileTokens), large)
	switch tiles := ceilDiv(p.Rows, tileRows) * ceilDiv(p.Tokens, large*tileTokens); {
	case p.Tiling.Tokens > 0:
		return p.Tiling.Tokens / tileTokens
	case n == large && !(m.manyRegisters() && 5*tiles*tileInvocations >= 4*m.busy()):
		return small
	}
	return n
}

// tileTrip is a trip of matmul.comp or matmul_dp.comp, which takes so many columns, by a loop that takes so many at a time.
func tileTrip(cols, inner int) func(*Machine, Product) Trip {
	return func(m *Machine, p Product) Trip {
		return Trip{Products: tileRows * tileTokens * m.tiledTokens(p) * cols / tileInvocations, Inner: cols / inner}
	}
}

func spec16(m *Machine, p Product) []Constant { return tileSpec(p, size("TOKENS", m.tiledTokens(p))) }

// The same of matmul.comp, whose columns may be split.
func splitSpec(m *Machine, p Product) []Constant {
	return append(spec16(m, p), size("SPLITS", m.tiledSplits(p)))
}

func splitGrid(m *Machine, p Product) [3]int {
	grid := tiles(m, p)
	grid[2] = m.tiledSplits(p)
	return grid
}

func splitJoin(m *Machine, p Product) Join {
	grid := splitGrid(m, p)
	return joinTiles(grid[2], grid[0]*grid[1], tileRows*tileTokens*m.tiledTokens(p))
}

// tokenTilings is the rule's tile, and of four and eight times 16 tokens the one that the rule leaves, if there is shared memory
// for 24 KiB of float32 numbers.
func tokenTilings(m *Machine, p Product) []Tiling {
	p.Tiling = Tiling{}
	rule := m.tiledTokens(p)
	list := []Tiling{{Tokens: rule * tileTokens, Splits: 1}}
	if rule >= 4 && p.Tokens > 4*tileTokens && m.pd.Limits.MaxComputeSharedMemorySize >= 32<<10 {
		list = append(list, Tiling{Tokens: (4 + 8 - rule) * tileTokens, Splits: 1})
	}
	return list
}

// splitTilings is those with as many splits as make the device busy, and the first with others.
func splitTilings(m *Machine, p Product) []Tiling {
	list := tokenTilings(m, p)
	for i := range list {
		p.Tiling = Tiling{Tokens: list[i].Tokens}
		list[i].Splits = m.tiledSplits(p)
	}
	return append(splitOthers(p, list[0]), list[1:]...)
}

// tiledSplits is SPLITS of matmul.comp, whose workgroups have 128 invocations.
func (m *Machine) tiledSplits(p Product) int {
	if p.Tiling.Splits > 0 {
		return wholeSplits(p, p.Tiling.Splits)
	}
	grid := tiles(m, p)
	return m.splitColumns(p, grid[0]*grid[1]*tileInvocations)
}

// Matmul is the product of several tokens. Its bindings are the step, units, records, x (as Rounds says), bias, y and, of x
// that is not float32, the scales, or, of kernels that norm, the norm's weights.
//
// On lavapipe a dispatch costs about 0.1 ms, which is why products of a few tokens there have norm and activation in
// them: a layer of a step of 8 tokens is 5 dispatches by row and 7 by addr. On addr a norm would be half as
// many instructions again, since values that all lanes share are multiplied one by one.
//
// Up to eight tokens a product waits for the weights, which the few path reads as a product of one token does, in
// more workgroups than there are tiles; not measured since it has x in shared memory (docs/design/0004). Beyond, a
// prompt of 512 tokens of a 7B Llama in Q4_0 took 224 ms by cm and 301 by fp16 on an H200 (docs/benchmarks.md,
// before loads were batched and fp16 summed in float32). The dp path took 155 there, but rounds activations to eight
// bits, which shows in perplexity (docs/quantization.md): it is used only on request.
var Matmul = Op[Product]{
	Push: pushTile,
	Kernels: []*Kernel[Product]{
		{
			Path: Addr, Rule: Rule{On: CPUs}, Reads: []Layout{LaneWords}, Push: pushGrouped,
			Views: func(Product) []View { return append([]View{Storage}, addrViews...) },
			Spec: func(_ *Machine, p Product) []Constant {
				return activateSpec(p, size("LANES", p.Lanes), size("LANE_ROWS", addrLaneRows), size("TILE_TOKENS", tokenTile(p.Tokens, addrTokens)),
					flag("HAS_BIAS", p.Bias), flag("ACCUMULATE", p.Add))
			},
			Activates:  true,
			TokenTiles: func(g [3]int) int { return g[0] },
			Grid: func(_ *Machine, p Product) [3]int {
				return [3]int{ceilDiv(p.Tokens, tokenTile(p.Tokens, addrTokens)), ceilDiv(p.Rows, p.Lanes*addrLaneRows), 1}
			},
		},
		{
			Path: Row, Rule: Rule{On: CPUs}, Reads: []Layout{Grouped},
			Push: func(p Product) []byte { return append(pushGrouped(p), push(p.Eps)...) },
			Views: func(p Product) []View {
				return append(append([]View{Storage}, rowViews(p.DType)...), Storage, Storage, vk.RGBA32Float)
			},
			Spec: func(_ *Machine, p Product) []Constant {
				return matvecSpec(p, size("LANE_ROWS", matmulLaneRows), size("TILE_TOKENS", tokenTile(p.Tokens, matmulTokens)))
			},
			Norms:      func(p Product) bool { return p.Tokens <= matmulTokens }, // for more each tile would read x once more
			Activates:  true,
			TokenTiles: func(g [3]int) int { return g[0] },
			Grid: func(_ *Machine, p Product) [3]int {
				return [3]int{ceilDiv(p.Tokens, tokenTile(p.Tokens, matmulTokens)), ceilDiv(p.Rows, 8*matmulLaneRows), 1}
			},
		},
		{
			Path: Few, Rule: Rule{On: GPUs, Min: 2, Max: fewTokens}, Reads: []Layout{RowMajor},
			Takes: func(_ *Machine, p Product) bool { return p.Cols%4 == 0 },
			Spec: func(m *Machine, p Product) []Constant {
				return activateSpec(p, tileSpec(p, size("WORKGROUP", fewSubgroups*m.subgroupLanes()), size("TOKENS", m.fewTile(p.Tokens)))...)
			},
			Activates:  true,
			TokenTiles: func(g [3]int) int { return g[2] },
			Grid: func(m *Machine, p Product) [3]int {
				grid := spread(m, ceilDiv(p.Rows, fewSubgroups*fewRows))
				grid[2] = ceilDiv(p.Tokens, m.fewTile(p.Tokens))
				return grid
			},
			Trip: func(m *Machine, p Product) Trip {
				return Trip{Products: fewCols * fewRows * m.fewTile(p.Tokens), Inner: 1}
			},
		},
		{
			Path: CM, Rule: Rule{On: MatrixGPUs, Min: fewTokens + 1}, Rounds: Halves, Reads: []Layout{RowMajor, Grouped}, Push: pushHalves,
			Spec: func(m *Machine, p Product) []Constant {
				s, t := m.Matrix, m.matrixTiling(p)
				return tileSpec(p, size("WORKGROUP", t.invocations(m)),
					size("CM_M", s.M), size("CM_N", s.N), size("CM_K", s.K), size("SUBGROUPS_M", t.Subgroups[0]),
					size("SUBGROUPS_N", t.Subgroups[1]), size("MATRICES_M", t.Matrices[0]), size("MATRICES_N", t.Matrices[1]),
					size("SPLITS", t.Splits), size("BUFFERS", t.buffers()), flag("WHOLE_ROWS", p.Cols%tileCols == 0),
					size("TRIP_TILES", m.tripTiles(t, p.DType)))
			},
			TokenTiles: func(g [3]int) int { return g[1] },
			Tilings:    (*Machine).matrixTilings,
			Joins: func(m *Machine, p Product) Join {
				t := m.matrixTiling(p)
				return joinTiles(t.Splits, m.workgroups(t, p), t.rows(m.Matrix)*t.tokens(m.Matrix))
			},
			Grid: func(m *Machine, p Product) [3]int {
				t := m.matrixTiling(p)
				rows, tokens := t.tiles(m.Matrix, p)
				return [3]int{rows, tokens, t.Splits}
			},
			Trip: func(m *Machine, p Product) Trip {
				t := m.matrixTiling(p)
				return Trip{Products: t.rows(m.Matrix) * t.tokens(m.Matrix) * m.tripTiles(t, p.DType) * tileCols / t.invocations(m), Inner: 1}
			},
		},
		// llama.cpp's kernels with this extension take 0.6 to 0.75 of the time of those with cooperative matrices on NVIDIA's GPUs
		// (docs/design/0022). No GPU has run these: pumice tune may choose them.
		{
			Path: CM2, Rule: Rule{On: OnRequest}, Unproven: true, Rounds: Halves, Reads: []Layout{RowMajor}, Push: pushHalves,
			Takes: func(m *Machine, p Product) bool { return m.workgroupTile(p) != nil },
			Spec:  func(m *Machine, p Product) []Constant { return m.workgroupTile(p).spec(p) },
			Grid:  func(m *Machine, p Product) [3]int { return m.workgroupTile(p).grid(p) },

			TokenTiles: func(g [3]int) int { return g[1] },
		},
		{
			Path: CM2E, Rule: Rule{On: OnRequest}, StandsFor: CM2, Rounds: Halves, Reads: []Layout{RowMajor}, Push: pushHalves,
			Spec: func(m *Machine, p Product) []Constant { return m.elementTile().spec(p) },
			Grid: func(m *Machine, p Product) [3]int { return m.elementTile().grid(p) },

			TokenTiles: func(g [3]int) int { return g[1] },
		},
		{
			Path: FP16, Rule: Rule{On: GPUs, Min: fewTokens + 1}, Rounds: Halves, Reads: []Layout{RowMajor, Grouped}, Push: pushHalves,
			Spec: splitSpec, Grid: splitGrid, Joins: splitJoin, Tilings: splitTilings, TokenTiles: func(g [3]int) int { return g[1] },
			Trip: tileTrip(tileCols, 4),
		},
		{
			Path: DP, Rule: Rule{On: OnRequest}, Rounds: Bytes, Reads: []Layout{RowMajor, Grouped},
			Spec: spec16, Grid: tiles, Tilings: tokenTilings, TokenTiles: func(g [3]int) int { return g[1] }, Trip: tileTrip(2*tileCols, 32),
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Reads: []Layout{RowMajor, Grouped},
			Spec: splitSpec, Grid: splitGrid, Joins: splitJoin, Tilings: splitTilings, TokenTiles: func(g [3]int) int { return g[1] },
			Trip: tileTrip(tileCols, 4),
		},
	},
}

// joinTiles is what splits leave of so many tiles of so many sums.
func joinTiles(splits, tiles, sums int) Join {
	if splits == 1 {
		return Join{}
	}
	return Join{Rows: tiles * splits, Cols: sums, Groups: tiles}
}

// A Tiling is how workgroups share a product of several tokens. The zero value leaves it to the kernel's rule.
type Tiling struct {
	// Subgroups of a workgroup over rows and over tokens, and Matrices of the device's shape over those of each; zeros in
	// kernels without matrices.
	Subgroups [2]int `json:"subgroups"`
	Matrices  [2]int `json:"matrices"`
	Single    bool   `json:"single,omitempty"` // one tile of each operand in shared memory, and not one more of the next columns
	Tokens    int    `json:"tokens,omitempty"` // of a tile, in kernels without matrices; 0 leaves it to the rule
	Splits    int    `json:"splits"`           // ranges of columns, each of which is a workgroup's (shaders/include/split_k.glsl)
}

func (t Tiling) String() string {
	if t.Subgroups == ([2]int{}) {
		return fmt.Sprintf("%d tokens, %d splits", t.Tokens, t.Splits)
	}
	text := fmt.Sprintf("%dx%d subgroups of %dx%d matrices, %d splits", t.Subgroups[0], t.Subgroups[1], t.Matrices[0], t.Matrices[1], t.Splits)
	if t.Single {
		text += ", one buffer"
	}
	return text
}

// rows and tokens are those of a tile.
func (t Tiling) rows(s *vk.MatrixShape) int   { return t.Subgroups[0] * t.Matrices[0] * s.M }
func (t Tiling) tokens(s *vk.MatrixShape) int { return t.Subgroups[1] * t.Matrices[1] * s.N }

// shared is the bytes of shared memory that a workgroup takes for weights of a type: tiles of tileCols columns, 80 bytes a line, the
// table of level_pairs.glsl, and a word in which the last to arrive is told so.
func (t Tiling) shared(s *vk.MatrixShape, weights DType) int {
	bytes := 80*t.buffers()*(t.rows(s)+t.tokens(s)) + 4
	if weights == dtype.IQ4_NL || weights == dtype.IQ4_XS {
		bytes += 1024
	}
	return bytes
}

// buffers is how many tiles of each operand a workgroup has in shared memory.
func (t Tiling) buffers() int {
	if t.Single {
		return 1
	}
	return 2
}

// invocations are those of a workgroup.
func (t Tiling) invocations(m *Machine) int {
	return t.Subgroups[0] * t.Subgroups[1] * m.matrixSubgroup()
}

// work is the invocations of as many subgroups of 32, whatever a device's subgroups are: it is matrices that they work on.
func (t Tiling) work() int { return 32 * t.Subgroups[0] * t.Subgroups[1] }

// tiles is how many a product is divided into, over rows and tokens.
func (t Tiling) tiles(s *vk.MatrixShape, p Product) (rows, tokens int) {
	return ceilDiv(p.Rows, t.rows(s)), ceilDiv(p.Tokens, t.tokens(s))
}

// matrixTiles are those that rules choose, in order. For matrices of 16 x 16 they are 128 x 64, 64 x 64 twice, 64 x 32
// and 64 x 16 rows by tokens. The second of 64 x 64 is for lanes that have too few registers for the first.
var matrixTiles = []Tiling{
	{Subgroups: [2]int{4, 2}, Matrices: [2]int{2, 2}},
	{Subgroups: [2]int{2, 2}, Matrices: [2]int{2, 2}},
	{Subgroups: [2]int{4, 2}, Matrices: [2]int{1, 2}},
	{Subgroups: [2]int{4, 1}, Matrices: [2]int{1, 2}},
	{Subgroups: [2]int{4, 1}, Matrices: [2]int{1, 1}},
}

// wideTile is 128 x 128 with one buffer. It decodes a weight once for twice the tokens of 128 x 64, has as many barriers for a
// multiply-add, and as many workgroups fit into the 64 KiB of shared memory of AMD's units: two. Mesa's compiler (26.1.6, navi31)
// makes 2.23 instructions of 32 lanes of a thousand multiply-adds of Q4_0 with it, and 3.91 with 128 x 64, and a SIMD unit holds
// eight subgroups of either, as those of navi33 and Phoenix do, with two thirds of the registers. With two buffers it holds four.
var wideTile = Tiling{Subgroups: [2]int{2, 4}, Matrices: [2]int{4, 2}, Single: true}

// matrixTiles are those that rules choose on the device, in order.
func (m *Machine) matrixTiles() []Tiling {
	if m.pd.VendorID == vendorAMD {
		return slices.Concat([]Tiling{wideTile}, matrixTiles)
	}
	return matrixTiles
}

// largeTiles are those that none but a measurement chooses, but for AMD's wideTile: 128 x 128, by eight subgroups and by four, and
// 256 x 128. On an H200 the products of a prompt of 512 (docs/design/0004) took 105 ms by tiles of 128 x 64 and 187 by 128 x 128,
// whose subgroups had 2 x 4 matrices: half as many workgroups fit at once.
var largeTiles = []Tiling{
	{Subgroups: [2]int{2, 4}, Matrices: [2]int{4, 2}},
	{Subgroups: [2]int{2, 2}, Matrices: [2]int{4, 4}},
	{Subgroups: [2]int{4, 2}, Matrices: [2]int{4, 4}},
	wideTile,
}

// numbers is about how many numbers of 32 bits a lane of matmul_cm.comp holds beside places: of sums, of matrices that are
// multiplied, and of the next columns.
func (t Tiling) numbers(m *Machine, p Product) int {
	s := m.Matrix
	rows, tokens := t.Matrices[0]*s.M, t.Matrices[1]*s.N // of a subgroup
	ahead := t.rows(s)*max(tileCols/2, tileCols*p.DType.BlockBytes()/(4*p.DType.BlockSize())) + t.tokens(s)*tileCols/2
	if p.DType == dtype.Q3_K { // of each row two words more: its scales have six bits in three words
		ahead += 2 * t.rows(s)
	}
	return (rows*tokens+(rows+s.N)*s.K/2)/m.matrixSubgroup() + ahead/t.invocations(m)
}

// fits reports whether a product fills at least half of a tile with tokens, the weights' tiles have room for a matrix of sums of each
// subgroup, and the device has such workgroups and, if its registers are few, half of them for numbers: of tiles that need more
// Intel's compiler makes spills (Mesa 26.1.6).
func (t Tiling) fits(m *Machine, p Product) bool {
	l, s := m.pd.Limits, m.Matrix
	return 2*p.Tokens > t.tokens(s) && 4*t.Subgroups[1]*s.N <= 80*t.buffers()*t.Matrices[0] &&
		t.shared(s, p.DType) <= l.MaxComputeSharedMemorySize && t.invocations(m) <= l.MaxComputeWorkGroupInvocations &&
		(!m.fewRegisters() || 2*t.numbers(m, p) <= m.registers(m.matrixSubgroup()))
}

// matrixTiling is the product's, or the first tile that fits, with as many splits as make the device busy. Those of 128 rows must
// make it four fifths busy without: 64 x 64 takes a quarter longer for a product than 128 x 64 (docs/design/0021).
func (m *Machine) matrixTiling(p Product) Tiling {
	if t := p.Tiling; t != (Tiling{}) {
		t.Splits = wholeSplits(p, t.Splits)
		return t
	}
	tiles := m.matrixTiles()
	t := tiles[len(tiles)-1]
	for i, x := range tiles {
		if x.fits(m, p) && (i > len(tiles)-len(matrixTiles) || 5*m.workgroups(x, p)*x.work() >= 4*m.busy()) {
			t = x
			break
		}
	}
	return m.splitTile(t, p)
}

// splitTile is a tile with as many splits as make the device busy.
func (m *Machine) splitTile(t Tiling, p Product) Tiling {
	t.Splits = m.splitColumns(p, m.workgroups(t, p)*t.work())
	return t
}

// matrixTilings is matrixTiling, with other splits as well, and every other tile that fits.
func (m *Machine) matrixTilings(p Product) []Tiling {
	first := m.matrixTiling(p)
	list := splitOthers(p, first)
	for _, t := range slices.Concat(largeTiles, matrixTiles) {
		if other := m.splitTile(t, p); t.fits(m, p) && 2*t.tokens(m.Matrix) >= first.tokens(m.Matrix) && !slices.Contains(list, other) {
			list = append(list, other)
		}
	}
	return list
}

// splitOthers is a tiling of a product, and the same with other numbers of splits.
func splitOthers(p Product, t Tiling) []Tiling {
	list := []Tiling{t}
	for n := 1; n <= maxSplits; n *= 2 {
		t.Splits = wholeSplits(p, n)
		if !slices.Contains(list, t) {
			list = append(list, t)
		}
	}
	return list
}

// Resplit is a tiling that was measured with so many rows and tokens for another product by the same kernel: with as many
// splits as leave it no more workgroups. ok is false if the kernel doesn't take the product so.
func Resplit(m *Machine, k *Kernel[Product], t Tiling, rows, tokens int, p Product) (_ Tiling, ok bool) {
	tile := func(t Tiling) Tiling { t.Splits = 1; return t }
	had := t.Splits
	if k.Tilings == nil || had < 1 || had > maxSplits || rows < 1 || tokens < 1 ||
		!slices.ContainsFunc(k.Tilings(m, p), func(x Tiling) bool { return tile(x) == tile(t) }) {
		return Tiling{}, false
	}
	p.Tiling = tile(t)
	now := k.Grid(m, p)
	p.Rows, p.Tokens = rows, tokens
	then := k.Grid(m, p)
	t.Splits = wholeSplits(p, min(had*then[0]*then[1]/(now[0]*now[1]), maxSplits))
	return t, true
}

// workgroups is how many tiles a product is divided into.
func (m *Machine) workgroups(t Tiling, p Product) int {
	rows, tokens := t.tiles(m.Matrix, p)
	return rows * tokens
}

// tileCols is TILE_COLS of products by tiles; minSplitSteps and maxSplits bound splits, each of which costs a write and
// a read of a tile's sums.
const (
	tileCols      = 32
	minSplitSteps = 8
	maxSplits     = 8
)

// splitColumns is into how many ranges columns are divided, so that a product of tiles with so many invocations makes a device
// busy.
func (m *Machine) splitColumns(p Product, invocations int) int {
	n := matmulSplits
	if n == 0 {
		n = min((2*m.busy()+invocations)/(2*invocations), maxSplits, ceilDiv(p.Cols, tileCols)/minSplitSteps) // rounded to nearest
	}
	return wholeSplits(p, n)
}

// spanTiles is PHASES of fp16 and cm kernels (shaders/include/weights_ahead.glsl): the tiles of columns of a span.
func spanTiles(t DType) int {
	if f := formats[t]; f.metaCols == 256 {
		return 2 * f.unitCols / tileCols
	}
	return 1
}

// tripTiles are the tiles of columns that a trip of matmul_cm.comp takes. With two that are not a span Intel's compiler spills 20
// registers, and with one buffer there is nothing to gain.
func (m *Machine) tripTiles(t Tiling, weights DType) int {
	if spanTiles(weights) > 1 || !t.Single && !m.fewRegisters() {
		return 2
	}
	return 1
}

// wholeSplits is how many ranges of columns, at most n, have any if all but the last have as many spans of them: of kernels of
// fp16 and cm, whose spans are a multiple of others'.
func wholeSplits(p Product, n int) int {
	steps := ceilDiv(p.Cols, tileCols*spanTiles(p.DType))
	return ceilDiv(steps, ceilDiv(steps, min(max(n, 1), steps)))
}

// minLargeTiles is how many of the largest tiles of cm2 a product must have to use them: with fewer the larger devices of today,
// of up to some 150 units, would stand still in part.
const minLargeTiles = 300

// LargeTileProduct is the least rows and tokens of a product by cm2 that uses the largest tiles, on four tiles of tokens.
func (m *Machine) LargeTileProduct() (rows, tokens int) {
	t := flexibleTiles[0]
	return minLargeTiles / 4 * t.rows, 4 * t.tokens
}

// A flexibleTile is what a workgroup of so many invocations of matmul_*_cm2 computes as one matrix, so many columns at a time.
type flexibleTile struct{ rows, tokens, cols, invocations int }

// flexibleTiles are tried in order. They are near those of llama.cpp's kernels for the extension, which have 128 x 256 too;
// nothing of it was measured here.
var flexibleTiles = []flexibleTile{{128, 128, 64, 256}, {64, 64, 64, 128}, {64, 32, 64, 128}, {32, 16, 64, 128}}

// workgroupTile is the first tile of which a product fills more than half with tokens, the first one only where there are many,
// of those that the device has matrices for; else the last of those. nil means that there is none.
func (m *Machine) workgroupTile(p Product) *flexibleTile {
	var last *flexibleTile
	for i, t := range flexibleTiles {
		if !slices.ContainsFunc(m.workgroupMatrices, t.isOf) {
			continue
		}
		last = &t
		if 2*p.Tokens > t.tokens && (i > 0 || ceilDiv(p.Rows, t.rows)*ceilDiv(p.Tokens, t.tokens) >= minLargeTiles) {
			break
		}
	}
	return last
}

// isOf reports whether a product of matrices may have the tile's sizes.
func (t *flexibleTile) isOf(s vk.FlexibleShape) bool {
	return t.invocations == s.Invocations && t.rows%s.M == 0 && t.tokens%s.N == 0 && t.cols%s.K == 0
}

// elementTile is that of matmul_*_cm2e: few matrices, since what a driver makes of a function of each element may be as long as
// there are elements.
func (m *Machine) elementTile() *flexibleTile {
	s := m.elementMatrix
	return &flexibleTile{2 * s.M, 2 * s.N, 2 * s.K, m.matrixSubgroup()}
}

func (t *flexibleTile) spec(p Product) []Constant {
	return tileSpec(p, size("WORKGROUP", t.invocations), size("TILE_ROWS", t.rows), size("TILE_TOKENS", t.tokens), size("TILE_COLS", t.cols))
}

func (t *flexibleTile) grid(p Product) [3]int {
	return [3]int{ceilDiv(p.Rows, t.rows), ceilDiv(p.Tokens, t.tokens), 1}
}

// Acts is activations, (Tokens, Cols), as products of several tokens take them.
type Acts struct {
	To           Rounding
	Tokens, Cols int
}

// Op is the kernel that rounds.
func (a Acts) Op() string {
	if a.To == Halves {
		return "half_acts"
	}
	return "quantize_acts"
}

// Len is the number of tokens.
func (a Acts) Len() int { return a.Tokens }

// Size is tokens by columns.
func (a Acts) Size() string { return fmt.Sprintf("%dx%d", a.Tokens, a.Cols) }

// ValueCols and ScaleCols are the words of a token that hold its values, and the scales of those:
// four 8-bit integers a word, and of 32 columns a scale and the scale times the sum of the integers;
// or two float16 numbers a word, and an exponent.
func (a Acts) ValueCols() int {
	if a.To == Halves {
		return 2 * ceilDiv(a.Cols, 4)
	}
	return a.Cols / 4
}

// ScaleCols has its meaning beside ValueCols.
func (a Acts) ScaleCols() int {
	if a.To == Halves {
		return 1
	}
	return a.Cols / 16
}

// HalfActs makes float16 numbers of activations, QuantizeActs 8-bit integers. Their bindings are the step, x, values and scales.
var (
	HalfActs = Op[Acts]{
		Push: func(a Acts) []byte { return push(a.Cols) },
		Kernels: []*Kernel[Acts]{{
			Path: Base, Rule: Rule{On: Anywhere},
			Spec: func(m *Machine, a Acts) []Constant { return []Constant{size("WORKGROUP", m.rowLanes(a.Cols))} },
			Grid: func(_ *Machine, a Acts) [3]int { return [3]int{a.Tokens, 1, 1} },
		}},
	}
	QuantizeActs = Op[Acts]{
		Push: func(a Acts) []byte { return push(a.Cols) },
		Kernels: []*Kernel[Acts]{{
			Path: Base, Rule: Rule{On: Anywhere},
			Spec: func(*Machine, Acts) []Constant { return []Constant{size("WORKGROUP", workgroup)} },
			Grid: func(_ *Machine, a Acts) [3]int { return [3]int{ceilDiv(a.Cols/4, workgroup), a.Tokens, 1} },
		}},
	}
)
