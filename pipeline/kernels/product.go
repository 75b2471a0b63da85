package kernels

import (
	"fmt"

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
