package kernels

import (
	"fmt"
	"slices"

	"pumice/internal/dtype"
	"pumice/vk"
)

// PageSize is how many positions a page of the KV cache has.
const PageSize = 64

// MaxHeadDim is the largest head that the base attention kernels have shared memory for.
const MaxHeadDim = 256

// CacheTypes lists the types that a KV cache may have.
var CacheTypes = []DType{dtype.F16, dtype.F32, dtype.Q8_0}

// CacheRowBytes is what one head's keys of one position take, as shaders/include/cache.glsl
// stores them. A row's Q8_0 scales fill whole 32-bit words.
func CacheRowBytes(t DType, headDim int) int64 {
	if t == dtype.Q8_0 {
		return int64(headDim + 4*ceilDiv(headDim, 2*t.BlockSize()))
	}
	return int64(headDim * t.BlockBytes())
}

// elementBytes is what a component of the cache takes, without scales.
func elementBytes(t DType) int { return max(1, t.BlockBytes()/t.BlockSize()) }

// Attention is attention of tokens over a KV cache.
type Attention struct {
	Type                    DType // of the cache
	Tokens                  int
	Single                  bool // each token is of a sequence of its own
	Sequences               int  // that the tokens are of at most, if they are not single; 0 means 1
	Heads, KVHeads, HeadDim int
	Positions               int  // most that the layer keeps of a sequence
	Places                  int  // of the layer's pages together
	Local                   bool // the layer keeps a window, and has pages of its own
	Window                  int  // positions a query sees; 0: all
	Scale, SoftCap          float32
	Slopes                  bool
	Bidirectional           bool // a query sees the keys after it too, to the end of its ending; without Window and Slopes

	Rope        bool // keys and queries are rotated and cached first; single tokens
	RotaryDim   int
	Interleaved bool
	Clip        float32
}

// Op is attention of a sequence's tokens, attention_decode of single ones, attention_rope of those with rotation.
func (a Attention) Op() string {
	op := "attention_"
	switch {
	case a.Rope:
		op = "attention_rope_"
	case a.Single:
		op = "attention_decode_"
	}
	return op + Lower(a.Type)
}

// Len is the number of tokens.
func (a Attention) Len() int { return a.Tokens }

// Size is the heads of queries, of keys, and their dimension, and the window if there is one.
func (a Attention) Size() string {
	size := headsSize(a.Heads, a.KVHeads, a.HeadDim)
	if a.Window > 0 {
		size += fmt.Sprintf(" of %d", a.Window)
	}
	return size
}

// window is the push constant: all ones for no window.
func window(n int) uint32 {
	if n > 0 {
		return uint32(n)
	}
	return ^uint32(0)
}

func pushAttention(a Attention) []byte {
	return push(a.Heads, a.KVHeads, a.HeadDim, a.Places, a.Local, window(a.Window), a.Scale, a.SoftCap, a.RotaryDim, a.Clip)
}

// scoreSpec adds the constants of score.glsl.
func scoreSpec(a Attention, spec ...Constant) []Constant {
	return append(spec, flag("HAS_ALIBI", a.Slopes), flag("HAS_SOFTCAP", a.SoftCap > 0), size("PAGE", PageSize))
}

// attendSpec is scoreSpec for kernels of several tokens.
func attendSpec(a Attention, spec ...Constant) []Constant {
	return append(scoreSpec(a, spec...), flag("CAUSAL", !a.Bidirectional))
}

// AttentionOp is Decode for single tokens, else Attend.
func AttentionOp(single bool) *Op[Attention] {
	if single {
		return &Decode
	}
	return &Attend
}

// Attend is attention of several tokens: a workgroup for each tile of queries, of a head or, where they are taken
// together, of the heads that share keys. Its bindings are the step, queries, keys, values, slopes, the result and page
// tables.
var Attend = Op[Attention]{
	Push: pushAttention,
	Kernels: []*Kernel[Attention]{
		{ // as in Matvec
			Path: Addr, Rule: Rule{On: CPUs}, Takes: addrReadsCache,
			Views: func(Attention) []View { return []View{Storage, Address, Address, Address} },
			Spec: func(m *Machine, a Attention) []Constant {
				return attendSpec(a, size("LANES", m.lanes()), size("HEAD_DIM", a.HeadDim))
			},
			Grid: func(m *Machine, a Attention) [3]int { return [3]int{a.tiles(a.Tokens, m.lanes()), a.Heads, 1} },
		},
		{
			Path: Row, Rule: Rule{On: CPUs},
			Takes: rowReadsCache,
			Views: func(Attention) []View { return []View{Storage, vk.RGBA32Float, vk.RGBA32Uint, vk.RGBA32Uint} },
			Spec:  func(_ *Machine, a Attention) []Constant { return attendSpec(a, size("HEAD_DIM", a.HeadDim)) },
			Grid:  func(_ *Machine, a Attention) [3]int { return [3]int{a.tiles(a.Tokens, 8), a.Heads, 1} },
		},
		// H200 (NVIDIA 580.159): attention_f16 of 512 tokens and 32 heads of 128 took 1.03 ms a layer, a tenth
		// to a fifth of a prompt: it waits for loads likewise, and sums in float32. Cooperative matrices were not
		// measured.
		{
			Path: CM, Rule: Rule{On: MatrixGPUs, Min: fewTokens + 1}, Rounds: Halves,
			Takes: func(m *Machine, a Attention) bool {
				spills := m.fewRegisters() && a.Slopes && a.HeadDim > 96 // two to four registers, on Xe2 (Mesa 26.1.6)
				return m.AttendsByMatrices(a.HeadDim) && !spills
			},
			Spec: func(m *Machine, a Attention) []Constant {
				s := m.Matrix
				return attendSpec(a, size("HEAD_DIM", a.HeadDim), size("WORKGROUP", matrixRows/s.M*m.matrixSubgroup()),
					size("CM_M", s.M), size("CM_N", s.N), size("CM_K", s.K), flag("FEW_REGISTERS", m.fewForAttention(a.HeadDim)))
			},
			Grid: func(m *Machine, a Attention) [3]int {
				return [3]int{a.tiles(sharedQueries(a), matrixRows), a.KVHeads, 1}
			},
			Trip: func(m *Machine, a Attention) Trip {
				return Trip{Products: 2 * matrixRows * m.matrixKeys(a.HeadDim) * a.HeadDim / (matrixRows / m.Matrix.M * m.matrixSubgroup()), Inner: 1}
			},
		},
		{
			Path: Base, Rule: Rule{On: Anywhere},
			Spec: func(m *Machine, a Attention) []Constant {
				return attendSpec(a, size("HEAD_DIM", a.HeadDim), size("ROWS", attentionRows(a.HeadDim)), flag("KEEP_LOOPS", m.CPU() || m.fewRegisters()))
			},
			Grid: func(_ *Machine, a Attention) [3]int {
				return [3]int{a.tiles(sharedQueries(a), attentionRows(a.HeadDim)), a.KVHeads, 1}
			},
			Trip: func(_ *Machine, a Attention) Trip {
				const keys, invocations = 32, 128 // KEYS and WORKGROUP of attention.comp
				slice, quads := 8, a.HeadDim/4
				if quads%16 == 0 {
					slice = 16
				}
				n := ceilDiv(quads, slice)
				return Trip{
					Products: 2 * attentionRows(a.HeadDim) * keys * a.HeadDim / invocations, Inner: 1,
					Loops: append(slices.Repeat([]int{slice}, n), slices.Repeat([]int{keys}, n)...),
				}
			},
		},
	},
}

// Decode is attention of single tokens: a workgroup for each split of the keys, group of heads and token. Its bindings are
// the step, queries (with Rope queries, keys and values), keys, values, slopes, the result and page tables; with Rope the
// table of angles, and for barrier-free kernels keys and values again, to be written. For kernels that join splits, parts and
// arrivals are the last.
var Decode = Op[Attention]{
	Push: pushAttention,
	Kernels: []*Kernel[Attention]{
		{ // as in Matvec
			Path: Addr, Rule: Rule{On: CPUs}, Takes: addrReadsCache, WritesApart: true,
			Views: func(Attention) []View { return []View{Storage, Storage, Address, Address} },
			Spec: func(m *Machine, a Attention) []Constant {
				return append([]Constant{size("LANES", m.lanes())}, m.decodeSpec(Addr, a)...)
			},
			Grid: decodeGrid(Addr),
		},
		{
			Path: Row, Rule: Rule{On: CPUs}, WritesApart: true,
			Takes: func(m *Machine, a Attention) bool {
				if a.Rope {
					return rowRotates(a.HeadDim, a.RotaryDim, a.Interleaved) && a.Type != dtype.Q8_0 &&
						a.HeadDim*a.Type.BlockBytes()%(8*16) == 0 && rowReadsCache(m, a) // each of eight lanes has whole texels of a row
				}
				return rowReadsCache(m, a)
			},
			Views: func(Attention) []View {
				return []View{Storage, vk.RGBA32Float, vk.RGBA32Uint, vk.RGBA32Uint, Storage, Storage, Storage, vk.RGBA32Float}
			},
			Spec: func(m *Machine, a Attention) []Constant { return m.decodeSpec(Row, a) },
			Grid: decodeGrid(Row),
		},
		// H200 (NVIDIA 580.159): attention_rope_f16 of 32 heads of 128 took 195 us a layer at 2048
		// positions, 65 us for each block of 64 keys, where the cache's bytes need 8: it waits at
		// barriers for loads that were asked for one by one.
		{
			Path: SG, Rule: Rule{On: GPUs}, Joins: decodeJoin(SG),
			Takes: func(m *Machine, a Attention) bool { // a row is at most 16 bytes for each lane of an even part of a subgroup
				lanes, team := m.decodeLanes(a.Type), decodeTeam(a.Type, a.HeadDim)
				return team > 0 && lanes%team == 0 && decodeInvocations%lanes == 0
			},
			Spec: func(m *Machine, a Attention) []Constant {
				return m.decodeSpec(SG, a, size("SPLITS", m.splits(SG, a)), size("WORKGROUP", decodeInvocations), size("UNROLL", m.decodeUnroll(a.Type)))
			},
			Grid: decodeGrid(SG),
			Trip: func(m *Machine, a Attention) Trip {
				return Trip{Products: 2 * m.decodeUnroll(a.Type) * m.decodeGroup(SG, a) * a.HeadDim / decodeTeam(a.Type, a.HeadDim), Inner: 1}
			},
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Joins: decodeJoin(Base),
			Spec: func(m *Machine, a Attention) []Constant {
				return m.decodeSpec(Base, a, size("SPLITS", m.splits(Base, a)), size("KEYS", decodeKeys(a.HeadDim)))
			},
			Grid: decodeGrid(Base),
		},
	},
}

// Weights is the weights of attention of one single token, of one head or as their mean (attention_weights.comp): Totals is the
// dispatch before it.
type Weights struct {
	Attention
	Totals bool
	Into   int // positions that there is room for
}

// Op is attention_totals or attention_weights.
func (w Weights) Op() string {
	if w.Totals {
		return "attention_totals_" + Lower(w.Type)
	}
	return "attention_weights_" + Lower(w.Type)
}

// AttentionTotals has the bindings step, which token and head, queries, keys, slopes, page tables, and the maximum and sum of
// each head.
var AttentionTotals = Op[Weights]{
	Push: func(w Weights) []byte { return pushAttention(w.Attention) },
	Kernels: []*Kernel[Weights]{{
		Path: Base, Rule: Rule{On: Anywhere}, Spec: weightsSpec,
		Grid: func(_ *Machine, w Weights) [3]int { return [3]int{w.Heads, 1, 1} },
	}},
}

// AttentionWeights has the bindings of AttentionTotals, and the weights of the positions.
var AttentionWeights = Op[Weights]{
	Push: func(w Weights) []byte { return pushAttention(w.Attention) },
	Kernels: []*Kernel[Weights]{{
		Path: Base, Rule: Rule{On: Anywhere}, Spec: weightsSpec,
		Grid: func(_ *Machine, w Weights) [3]int { return [3]int{ceilDiv(w.Into, workgroup), 1, 1} },
	}},
}

func weightsSpec(_ *Machine, w Weights) []Constant {
	return scoreSpec(w.Attention, size("WORKGROUP", workgroup))
}

func (m *Machine) decodeSpec(path Path, a Attention, own ...Constant) []Constant {
	spec := append([]Constant{size("HEAD_DIM", a.HeadDim), size("GROUP", m.decodeGroup(path, a))}, own...)
	if a.Rope {
		spec = append(spec, flag("INTERLEAVED", a.Interleaved))
	}
	return scoreSpec(a, spec...)
}

func decodeGrid(path Path) func(*Machine, Attention) [3]int {
	return func(m *Machine, a Attention) [3]int {
		return [3]int{m.splits(path, a), m.decodeGroups(path, a), a.Tokens}
	}
}

// decodeJoin is what Decode's workgroups leave of keys in several splits: for each split of each head the sums, their maximum
// and their total.
func decodeJoin(path Path) func(*Machine, Attention) Join {
	return func(m *Machine, a Attention) Join {
		splits := m.splits(path, a)
		if splits == 1 {
			return Join{}
		}
		return Join{Rows: a.Tokens * a.Heads * splits, Cols: a.HeadDim + 4, Groups: a.Tokens * m.decodeGroups(path, a)}
	}
}

// tiles is how many tiles of so many rows there are at most: no tile has rows of two sequences.
func (a Attention) tiles(rows, size int) int { return ceilDiv(rows, size) + max(1, a.Sequences) - 1 }

// sharedQueries are those of the heads that share keys.
func sharedQueries(a Attention) int { return a.Tokens * a.Heads / a.KVHeads }

// addrReadsCache: a row's words are dealt evenly to the lanes.
func addrReadsCache(m *Machine, a Attention) bool {
	return CacheRowBytes(a.Type, a.HeadDim)%int64(4*m.lanes()) == 0
}

// rowReadsCache reports whether the row kernels read the cache: a row's texels of 16 bytes are dealt evenly to eight
// lanes, or eight lanes to texels, and a view can have as many texels as the layer's keys are.
func rowReadsCache(m *Machine, a Attention) bool {
	bytes := a.HeadDim * elementBytes(a.Type) // without scales
	texels := bytes / 16
	all := int64(a.KVHeads) * int64(a.Places) * CacheRowBytes(a.Type, a.HeadDim) / 16
	return bytes%16 == 0 && (texels%8 == 0 || 8%max(texels, 1) == 0) && all <= m.pd.Limits.MaxTexelBufferElements
}

// matrixRows is how many queries a workgroup of attention_cm.comp takes.
const matrixRows = 64

// fewForAttention is FEW_REGISTERS of attention_cm.comp. CPU drivers, on which kernels are checked, take both ways, by the
// head.
func (m *Machine) fewForAttention(headDim int) bool {
	return m.fewRegisters() || m.CPU() && headDim > 80
}

// matrixKeys is KEYS of attention_cm.comp.
func (m *Machine) matrixKeys(headDim int) int {
	if m.fewForAttention(headDim) {
		return max(m.Matrix.N, m.Matrix.K)
	}
	return 2 * m.Matrix.N
}

// AttendsByMatrices reports whether attention_cm.comp takes heads of so many components: whole matrices, few
// enough that an invocation's registers hold its share of the sums, in the shared memory there is.
func (m *Machine) AttendsByMatrices(headDim int) bool {
	s := m.Matrix
	if s == nil || headDim > 128 || headDim%16 != 0 || s.N < 8 || s.K < 8 {
		return false
	}
	row, keys := 2*headDim+16, m.matrixKeys(headDim)
	bytes := max(matrixRows, 2*keys) * row
	if m.fewForAttention(headDim) {
		bytes = (matrixRows+keys)*row + 4*headDim*(keys/2+1)
	}
	bytes += matrixRows * (4*(keys+4) + 2*(keys+8) + 4)
	parts, l := m.matrixSubgroup()/s.M, m.pd.Limits
	return parts >= 1 && parts <= keys/4 && bytes <= l.MaxComputeSharedMemorySize && matrixRows/s.M*m.matrixSubgroup() <= l.MaxComputeWorkGroupInvocations
}

// decodeInvocations is the workgroup of attention_decode_sg.comp.
const decodeInvocations = 128

// decodeLanes is the subgroup of attention_decode_sg.comp. A lane has 16 bytes of a row: of a Q8_0 cache queries and sums of 16
// components, for which 16 lanes of Intel's GPUs before Xe2 have too few registers. Rows of more than 128 bytes need those
// lanes: such a cache is for the base kernel there.
func (m *Machine) decodeLanes(t DType) int {
	if t == dtype.Q8_0 {
		return m.subgroupLanes()
	}
	return m.teamLanes()
}

// decodeUnroll is how many keys a team of attention_decode_sg.comp has under way, as many as lanes have registers for.
func (m *Machine) decodeUnroll(t DType) int {
	return min(4, m.registers(m.decodeLanes(t))*min(2, elementBytes(t))/64)
}

// decodeTeam is how many lanes hold a row of the cache in attention_decode_sg.comp, 16 bytes
// each, the rest idle where those are no power of two; 0: it takes no such rows.
func decodeTeam(t DType, headDim int) int {
	bytes := headDim * elementBytes(t)
	if bytes%16 != 0 || bytes > 32*16 {
		return 0
	}
	return tokenTile(bytes/16, 32)
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
func (m *Machine) decodeGroup(path Path, a Attention) int {
	most := min(8, 1024/a.HeadDim)
	switch path {
	case Row, Addr:
		most = 256 / a.HeadDim
	case SG: // a lane has the sums of at most 64 components
		most = min(8, 4*elementBytes(a.Type))
		if n := m.registers(m.decodeLanes(a.Type)); n < 256 {
			most = min(most, max(1, n*elementBytes(a.Type)/128))
		}
	}
	sharing := a.Heads / a.KVHeads
	return ceilDiv(sharing, ceilDiv(sharing, max(1, most)))
}

// decodeGroups is the number of those groups.
func (m *Machine) decodeGroups(path Path, a Attention) int {
	return a.KVHeads * ceilDiv(a.Heads/a.KVHeads, m.decodeGroup(path, a))
}

// decodeKeys is how many keys attention_decode.comp has in shared memory at a time: 16 KiB.
func decodeKeys(headDim int) int {
	keys := 64
	for keys*headDim > 4096 {
		keys /= 2
	}
	return keys
}

// splits is into how many ranges attention_decode divides the keys of a layer with room
// for so many positions: enough workgroups for a GPU, each with keys enough to be worth it.
//
// The row and addr paths do not divide: on lavapipe 22.3.6 (two threads, SmolLM2's nine heads in three
// groups, f16) two ranges and a dispatch that joined them took 78, 120 and 332 us at 128, 512 and 2048
// positions, one 48, 99 and 306. Each dispatch costs a driver's threads a wake-up.
func (m *Machine) splits(path Path, a Attention) int {
	positions, keys := a.Positions, 256
	switch path {
	case Row, Addr:
		return 1
	case SG:
		keys = 128 // four times what the teams of a workgroup load at once, of rows of 256 bytes
	}
	if a.Window > 0 {
		positions = min(positions, a.Window)
	}
	return max(1, min(ceilDiv(decodeWorkgroups, m.decodeGroups(path, a)), positions/keys))
}
