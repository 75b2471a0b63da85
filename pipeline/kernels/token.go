package kernels

import (
	"fmt"

	"pumice/vk"
)

// A Lookup takes rows of an embedding table by the step's tokens.
type Lookup struct {
	Packed        // rows of the table
	First, Tokens int
	Scale         float32
}

// Op is embed_TYPE.
func (l Lookup) Op() string { return "embed_" + Lower(l.DType) }

// Len is the number of tokens.
func (l Lookup) Len() int { return l.Tokens }

// Size is that of the rows that are looked up.
func (l Lookup) Size() string { return fmt.Sprintf("%dx%d", l.Tokens, l.Cols) }

func quadGrid(_ *Machine, l Lookup) [3]int {
	return [3]int{ceilDiv(l.Cols, 4*workgroup), l.Tokens, 1}
}

// Embed has the bindings step, units, records and the result.
var Embed = Op[Lookup]{
	Push: func(l Lookup) []byte { return push(l.First, l.Rows, l.Cols, l.Group, l.Scale) },
	Kernels: []*Kernel[Lookup]{
		{
			Path: Addr, Rule: Rule{On: CPUs}, Reads: []Layout{LaneWords}, Grid: quadGrid,
			Spec: func(_ *Machine, l Lookup) []Constant {
				return []Constant{size("local_size_x", workgroup), size("LANES", l.Lanes)}
			},
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Reads: []Layout{RowMajor, Grouped}, Grid: quadGrid,
			Spec: workgroupSpec[Lookup],
		},
	},
}

// topkTile is the number of values one workgroup of topk.comp looks at.
const topkTile = 1024

// MaxTopK is the largest K of Best: each pass must shrink what is left.
const MaxTopK = 256

// Best is one pass of finding the K largest of N values in each of Rows rows: the K largest of each tile of topkTile values.
type Best struct {
	Rows, N, K int
	Pairs      bool // the values are pairs that an earlier pass left
	Masked     bool // rows have masks of the columns that count
}

// Op is topk or topk_masked.
func (b Best) Op() string {
	if b.Masked {
		return "topk_masked"
	}
	return "topk"
}

// Len is the number of rows.
func (b Best) Len() int { return b.Rows }

// Size is rows by values.
func (b Best) Size() string { return fmt.Sprintf("%dx%d", b.Rows, b.N) }

// Tiles is the number of tiles, each of which leaves K pairs.
func (b Best) Tiles() int { return ceilDiv(b.N, topkTile) }

func aTile(_ *Machine, b Best) [3]int { return [3]int{b.Tiles(), b.Rows, 1} }

// TopK has the bindings values, or pairs, and the result; with Masked also the masks.
var TopK = Op[Best]{
	Push: func(b Best) []byte { return push(b.N, b.K) },
	Kernels: []*Kernel[Best]{
		{
			Path: Row, Rule: Rule{On: CPUs}, Grid: aTile,
			Takes: func(_ *Machine, b Best) bool { return b.K <= 2 && b.N%4 == 0 && !b.Pairs },
			Views: func(Best) []View { return []View{vk.RGBA32Float} },
			Spec:  func(_ *Machine, b Best) []Constant { return []Constant{size("K", b.K)} },
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Grid: aTile,
			Spec: func(_ *Machine, b Best) []Constant { return []Constant{flag("PAIRS", b.Pairs)} },
		},
	},
}

// Draw has the bindings step, candidates, draw and log; the shape's rows are those of the candidates.
var Draw = Op[Rows]{
	Push: func(Rows) []byte { return nil },
	Kernels: []*Kernel[Rows]{
		{Path: Base, Rule: Rule{On: Anywhere}, Spec: func(*Machine, Rows) []Constant { return nil }, Grid: aRow},
	},
}

// A Choice makes the token of the next step out of candidates.
type Choice struct {
	N    int  // candidates
	Draw bool // by chance; else the largest
}

// Op is advance.
func (Choice) Op() string { return "advance" }

// Len is one token.
func (Choice) Len() int { return 1 }

// Size is the candidates.
func (c Choice) Size() string { return fmt.Sprint(c.N) }

// Advance has the bindings step, candidates, draw and log.
var Advance = Op[Choice]{
	Push: func(c Choice) []byte { return push(c.N) },
	Kernels: []*Kernel[Choice]{{
		Path: Base, Rule: Rule{On: Anywhere},
		Spec: func(_ *Machine, c Choice) []Constant { return []Constant{flag("DRAW", c.Draw)} },
		Grid: func(*Machine, Choice) [3]int { return [3]int{1, 1, 1} },
	}},
}

// A Stretch is memory that Digest reads.
type Stretch struct {
	Units int // of 16 bytes
}

// Op is digest.
func (Stretch) Op() string { return "digest" }

// Len is 1: no tokens are involved.
func (Stretch) Len() int { return 1 }

// Size is the units.
func (s Stretch) Size() string { return fmt.Sprint(s.Units) }

// digestUnits is how many units an invocation of digest.comp takes: UNITS.
const digestUnits = 64

// Words is how many words the digest of s has: one of each invocation.
func (s Stretch) Words() int { return ceilDiv(s.Units, workgroup*digestUnits) * workgroup }

// Digest reads memory and leaves little: the exclusive or of the words that an invocation has read. How fast it does that is
// how fast the device reads. Its bindings are the memory and the result, of Words words.
var Digest = Op[Stretch]{
	Push: func(s Stretch) []byte { return push(s.Units) },
	Kernels: []*Kernel[Stretch]{{
		Path: Base, Rule: Rule{On: Anywhere},
		Spec: func(*Machine, Stretch) []Constant { return []Constant{size("WORKGROUP", workgroup)} },
		Grid: func(_ *Machine, s Stretch) [3]int { return [3]int{s.Words() / workgroup, 1, 1} },
	}},
}

// Ahead is memory that Prefetch reads.
type Ahead struct {
	Stretch
}

// Op is prefetch.
func (Ahead) Op() string { return "prefetch" }

// prefetchLoads is how many units an invocation of prefetch.comp takes: LOADS.
const prefetchLoads = 8

// PrefetchKey is what four words would have to make for Prefetch to write: KEY of prefetch.comp.
const PrefetchKey = 0x9e3779b9

// Prefetch reads memory so that caches have it. Its bindings are the memory, and a word that counts the invocations whose words
// make PrefetchKey, which it does not expect.
var Prefetch = Op[Ahead]{
	Push: func(a Ahead) []byte { return push(a.Units) },
	Kernels: []*Kernel[Ahead]{{
		Path: Base, Rule: Rule{On: Anywhere},
		Spec: func(*Machine, Ahead) []Constant { return []Constant{size("WORKGROUP", workgroup)} },
		Grid: func(_ *Machine, a Ahead) [3]int { return [3]int{ceilDiv(a.Units, workgroup*prefetchLoads), 1, 1} },
	}},
}
