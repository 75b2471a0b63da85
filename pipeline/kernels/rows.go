package kernels

import (
	"fmt"

	"pumice/vk"
)

// Rows is what the ops that take rows of float32 compute: (Rows, Cols).
type Rows struct {
	Name       string // of the op
	Rows, Cols int

	Eps        float32 // of a norm
	Last, Bias bool    // a norm of the last token of each sequence alone; LayerNorm with a bias

	Act   Activation // of Activate
	Gated bool

	Scale float32 // of Softmax; the limit of SoftCap

	Next, Sum bool // what LogProb leaves of a row: of the token that follows, and of all
}

// Op is the name.
func (r Rows) Op() string { return r.Name }

// Len is the number of rows.
func (r Rows) Len() int { return r.Rows }

// Size is rows by columns.
func (r Rows) Size() string { return fmt.Sprintf("%dx%d", r.Rows, r.Cols) }

// quads: rows of whole groups of four columns.
func quads(_ *Machine, r Rows) bool { return r.Cols%4 == 0 }

// a workgroup a row
func aRow(_ *Machine, r Rows) [3]int { return [3]int{r.Rows, 1, 1} }

// an invocation a value
func aValue(_ *Machine, r Rows) [3]int { return [3]int{ceilDiv(r.Cols, workgroup), r.Rows, 1} }

func pushNorm(r Rows) []byte { return push(r.Cols, r.Eps) }

// The norms have the bindings step, x, weights, for LayerNorm a bias, and the result.
var (
	// RMSNorm is that of Zhang and Sennrich 2019, arXiv:1910.07467.
	RMSNorm = Op[Rows]{
		Push: pushNorm,
		Kernels: []*Kernel[Rows]{
			{
				Path: Row, Rule: Rule{On: CPUs}, Takes: quads, Grid: aRow,
				Views: func(Rows) []View { return []View{Storage, vk.RGBA32Float, vk.RGBA32Float} },
				Spec:  func(_ *Machine, r Rows) []Constant { return []Constant{flag("LAST", r.Last)} },
			},
			{
				Path: Base, Rule: Rule{On: Anywhere}, Grid: aRow,
				Spec: func(m *Machine, r Rows) []Constant {
					return []Constant{size("WORKGROUP", m.rowLanes(r.Cols)), flag("LAST", r.Last)}
				},
			},
		},
	}
	// LayerNorm is that of Ba et al. 2016, arXiv:1607.06450.
	LayerNorm = Op[Rows]{
		Push: pushNorm,
		Kernels: []*Kernel[Rows]{
			{
				Path: Row, Rule: Rule{On: CPUs}, Takes: quads, Grid: aRow,
				Views: func(Rows) []View { return []View{Storage, vk.RGBA32Float, vk.RGBA32Float, vk.RGBA32Float} },
				Spec: func(_ *Machine, r Rows) []Constant {
					return []Constant{flag("LAST", r.Last), flag("HAS_BIAS", r.Bias)}
				},
			},
			{
				Path: Base, Rule: Rule{On: Anywhere}, Grid: aRow,
				Spec: func(m *Machine, r Rows) []Constant {
					return []Constant{size("WORKGROUP", m.rowLanes(r.Cols)), flag("LAST", r.Last), flag("HAS_BIAS", r.Bias)}
				},
			},
		},
	}
)

// Activate has the bindings step, x and the result, of Cols columns.
var Activate = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols) },
	Kernels: []*Kernel[Rows]{
		{
			Path: Row, Rule: Rule{On: CPUs}, Takes: quads,
			Views: func(Rows) []View { return []View{Storage, vk.RGBA32Float} },
			Spec: func(_ *Machine, r Rows) []Constant {
				return []Constant{size("STEPS", rowSteps), {"ACTIVATION", uint32(r.Act)}, flag("GATED", r.Gated)}
			},
			Grid: func(_ *Machine, r Rows) [3]int { return [3]int{ceilDiv(r.Cols, 4*8*rowSteps), r.Rows, 1} },
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Grid: aValue,
			Spec: func(_ *Machine, r Rows) []Constant {
				return []Constant{size("local_size_x", workgroup), {"ACTIVATION", uint32(r.Act)}, flag("GATED", r.Gated)}
			},
		},
	},
}

func workgroupSpec[S any](*Machine, S) []Constant { return []Constant{size("local_size_x", workgroup)} }

// SoftCap has one binding, x, which it changes.
var SoftCap = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols, r.Scale) },
	Kernels: []*Kernel[Rows]{
		{Path: Base, Rule: Rule{On: Anywhere}, Spec: workgroupSpec[Rows], Grid: aValue},
	},
}

// Add has the bindings step, x, and y, to which x is added.
var Add = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols) },
	Kernels: []*Kernel[Rows]{
		{Path: Base, Rule: Rule{On: Anywhere}, Spec: workgroupSpec[Rows], Grid: aValue},
	},
}

// AddPlaces has the bindings step, a table of places, and y, to which the rows of the tokens' places are added.
var AddPlaces = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols) },
	Kernels: []*Kernel[Rows]{
		{Path: Base, Rule: Rule{On: Anywhere}, Spec: workgroupSpec[Rows], Grid: aValue},
	},
}

// Softmax has the bindings x and the result.
var Softmax = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols, r.Scale) },
	Kernels: []*Kernel[Rows]{
		{
			Path: Row, Rule: Rule{On: CPUs}, Takes: quads, Grid: aRow,
			Views: func(Rows) []View { return []View{vk.RGBA32Float} },
			Spec:  func(*Machine, Rows) []Constant { return nil },
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Grid: aRow,
			Spec: func(*Machine, Rows) []Constant { return []Constant{size("WORKGROUP", workgroup)} },
		},
	},
}

// LogProb has the bindings step, logits and the result, with a column each for Next and Sum.
var LogProb = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols) },
	Kernels: []*Kernel[Rows]{{
		Path: Base, Rule: Rule{On: Anywhere}, Grid: aRow,
		Spec: func(m *Machine, r Rows) []Constant {
			return []Constant{size("WORKGROUP", m.rowLanes(r.Cols)), flag("NEXT", r.Next), flag("SUM", r.Sum)}
		},
	}},
}

// Adjust has the bindings of what to change, and logits, which it changes.
var Adjust = Op[Rows]{
	Push: func(r Rows) []byte { return push(r.Cols) },
	Kernels: []*Kernel[Rows]{
		{Path: Base, Rule: Rule{On: Anywhere}, Spec: func(*Machine, Rows) []Constant { return nil }, Grid: aRow},
	},
}

// Heads is normalisation of each query and key head of (Tokens, (Heads + 2 KVHeads) * HeadDim).
type Heads struct {
	Tokens, Heads, KVHeads, HeadDim int
	Eps                             float32
}

// Op is head_norm.
func (Heads) Op() string { return "head_norm" }

// Len is the number of tokens.
func (h Heads) Len() int { return h.Tokens }

// Size is the heads of queries, of keys, and their dimension.
func (h Heads) Size() string { return headsSize(h.Heads, h.KVHeads, h.HeadDim) }

// HeadNorm has the bindings step, queries with keys and values, and the weights of queries and keys.
var HeadNorm = Op[Heads]{
	Push: func(h Heads) []byte { return push(h.Heads, h.KVHeads, h.HeadDim, h.Eps) },
	Kernels: []*Kernel[Heads]{
		{ // as in Matvec
			Path: Row, Rule: Rule{On: CPUs}, WritesApart: true, Grid: aHead,
			Takes: func(_ *Machine, h Heads) bool { return h.HeadDim%4 == 0 },
			Views: func(Heads) []View { return []View{Storage, vk.RGBA32Float, vk.RGBA32Float, vk.RGBA32Float} },
			Spec:  func(*Machine, Heads) []Constant { return nil },
		},
		{
			Path: Base, Rule: Rule{On: Anywhere}, Grid: aHead,
			Spec: func(*Machine, Heads) []Constant { return []Constant{size("WORKGROUP", workgroup)} },
		},
	},
}

func aHead(_ *Machine, h Heads) [3]int { return [3]int{h.Heads + h.KVHeads, h.Tokens, 1} }
