package kernels

import (
	"fmt"
	"slices"

	"pumice/internal/dtype"
	"pumice/vk"
)

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
// makes 2.27 instructions of 32 lanes of a thousand multiply-adds of Q4_0 with it, and 3.97 with 128 x 64, and a SIMD unit holds
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
// registers, Mesa's for CPUs takes twice as long, and with one buffer there is nothing to gain.
func (m *Machine) tripTiles(t Tiling, weights DType) int {
	if spanTiles(weights) > 1 || !t.Single && m.manyRegisters() {
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
