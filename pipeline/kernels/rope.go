package kernels

import (
	"fmt"

	"pumice/internal/dtype"
	"pumice/vk"
)

// A Rope rotates queries and keys by position and moves keys and values into the cache.
type Rope struct {
	Type                    DType // of the cache
	Tokens                  int
	Heads, KVHeads, HeadDim int
	RotaryDim               int
	Interleaved             bool
	Clip                    float32
	Places                  int // as in Attention
	Local                   bool
}

// Op is rope_TYPE.
func (r Rope) Op() string { return "rope_" + Lower(r.Type) }

// Len is the number of tokens.
func (r Rope) Len() int { return r.Tokens }

// Size is the heads of queries, of keys, and their dimension.
func (r Rope) Size() string { return headsSize(r.Heads, r.KVHeads, r.HeadDim) }

func headsSize(heads, kvHeads, headDim int) string {
	return fmt.Sprintf("%d/%dx%d", heads, kvHeads, headDim)
}

func (r Rope) cols() int { return (r.Heads + 2*r.KVHeads) * r.HeadDim }

// rowRotates reports whether the row kernels rotate heads of this shape: four components have
// their partners in four others, or among themselves.
func rowRotates(headDim, rotaryDim int, interleaved bool) bool {
	n := 8
	if interleaved {
		n = 4
	}
	return headDim%4 == 0 && rotaryDim%n == 0 && rotaryDim > 0
}

// RopeStore has the bindings step, queries with keys and values, table of angles, queries, keys, values and page tables.
var RopeStore = Op[Rope]{
	Push: func(r Rope) []byte {
		return push(r.Heads, r.KVHeads, r.HeadDim, r.RotaryDim, r.Places, r.Local, r.Clip)
	},
	Kernels: []*Kernel[Rope]{
		{
			Path: Row, Rule: Rule{On: CPUs},
			Takes: func(_ *Machine, r Rope) bool {
				// of a Q8_0 cache whole words of two scales
				return rowRotates(r.HeadDim, r.RotaryDim, r.Interleaved) && (r.Type != dtype.Q8_0 || r.HeadDim%(2*r.Type.BlockSize()) == 0)
			},
			Views: func(Rope) []View { return []View{Storage, vk.RGBA32Float, vk.RGBA32Float} },
			Spec: func(_ *Machine, r Rope) []Constant {
				return []Constant{size("STEPS", rowSteps), flag("INTERLEAVED", r.Interleaved), size("PAGE", PageSize)}
			},
			Grid: func(_ *Machine, r Rope) [3]int { return [3]int{ceilDiv(r.cols(), 4*8*rowSteps), r.Tokens, 1} },
		},
		{
			Path: Base, Rule: Rule{On: Anywhere},
			Spec: func(_ *Machine, r Rope) []Constant {
				return []Constant{size("WORKGROUP", workgroup), flag("INTERLEAVED", r.Interleaved), size("PAGE", PageSize)}
			},
			Grid: func(_ *Machine, r Rope) [3]int {
				if r.Type == dtype.Q8_0 { // keys and values by quads, of whole words of two scales
					block := r.Type.BlockSize()
					quads := 2 * r.KVHeads * ceilDiv(r.HeadDim, 2*block) * block / 2
					return [3]int{ceilDiv(r.Heads*r.HeadDim/2, workgroup) + ceilDiv(quads, workgroup), r.Tokens, 1}
				}
				return [3]int{ceilDiv(r.cols()/2, workgroup), r.Tokens, 1}
			},
		},
	},
}
