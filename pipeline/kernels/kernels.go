// Package kernels describes each compute kernel of shaders/: the shapes it takes, how it reads its operands and
// weights, its specialization constants, its push constants and its grid.
//
// A Kernel is a value, one for each source file. An Op is what is computed, with the kernels that compute it,
// best first. Package pipeline chooses among them by looping over that list: a new kernel is its source, its row
// in shaders/variants.txt, its value here and its cases in pipeline/verify.
package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"pumice/internal/dtype"
	"pumice/vk"
)

// DType is the stored type of a weight matrix or a KV cache.
type DType = dtype.DType

// A Path names the kernels that share a suffix in shaders/variants.txt. Base kernels have none. What a kernel
// needs and when it is chosen stands in its value, not in its path.
type Path string

const (
	Base Path = "base" // Vulkan 1.1, 32-bit storage, workgroups with shared memory
	Row  Path = "row"  // barrier-free: one subgroup of eight lanes, several rows a lane
	Addr Path = "addr" // barrier-free, at device addresses, for drivers with scalar loads
	SG   Path = "sg"   // subgroup arithmetic and shuffles
	Few  Path = "few"  // products with a few tokens, without tiles
	FP16 Path = "fp16" // products of float16 numbers, summed in float32
	DP   Path = "dp"   // products of 8-bit activations, by integer dot products
	DP2  Path = "dp2"  // products of activations in two planes of 8-bit integers, by integer dot products
	CM   Path = "cm"   // cooperative matrices of float16 numbers
	CM2  Path = "cm2"  // those of a workgroup, by VK_NV_cooperative_matrix2
	CM2E Path = "cm2e" // cm2 without what Mesa lacks of that extension: for checks
)

// Paths lists every path, the one that runs everywhere first.
var Paths = []Path{Base, Row, Addr, SG, Few, FP16, DP, DP2, CM, CM2, CM2E}

// Variant is the name of an op's kernel of the path in shaders/variants.txt.
func (p Path) Variant(op string) string {
	if p == Base {
		return op
	}
	return op + "_" + string(p)
}

// PathOf is the path of a variant.
func PathOf(variant string) Path {
	for _, path := range Paths {
		if path != Base && strings.HasSuffix(variant, "_"+string(path)) {
			return path
		}
	}
	return Base
}

// A Class is a set of kinds of devices.
type Class int

const (
	OnRequest Class = iota // none: chosen only when it is asked for
	CPUs
	GPUs
	DotGPUs    // those with instructions for dot products of four 8-bit integers
	MatrixGPUs // those with fast cooperative matrices
	Anywhere
)

// has reports whether the machine is of the class.
func (c Class) has(m *Machine) bool {
	switch c {
	case CPUs:
		return m.CPU()
	case GPUs:
		return !m.CPU()
	case DotGPUs:
		return !m.CPU() && m.pd.Features.IntegerDotProductAccelerated
	case MatrixGPUs:
		return !m.CPU() && m.hasFastMatrices()
	}
	return c == Anywhere
}

// A Rule says where a kernel is chosen if nothing was measured on the device (pumice tune): on devices of a
// class, for evaluations of Min to Max tokens; Max 0 is no limit.
type Rule struct {
	On       Class
	Min, Max int
}

// Applies reports whether the rule chooses its kernel for an evaluation of so many tokens.
func (r Rule) Applies(m *Machine, tokens int) bool {
	return r.On.has(m) && tokens >= r.Min && (r.Max == 0 || tokens <= r.Max)
}

// A Rounding is what a kernel of several tokens has activations made into before it multiplies.
type Rounding int

const (
	Float32 Rounding = iota // nothing: it multiplies and adds float32 numbers
	Halves                  // float16 numbers of a scale for each token (HalfActs)
	Bytes                   // 8-bit integers of a scale for each 32 columns (QuantizeActs)
)

// A Kernel is one source file as the pipeline uses it, for shapes S.
type Kernel[S any] struct {
	Path   Path
	Rule   Rule
	Rounds Rounding
	Reads  []Layout // of weight matrices, first the one it is for; nil: the op has none

	// Unproven reports whether no device has run the kernel yet. A first use of a type doesn't check it; a measurement does
	// (verify.Tune), and chooses it only if it was right.
	Unproven bool

	// StandsFor is the path whose kernels this one stands for in checks where no driver runs those: of the same source,
	// without what drivers lack. It is not fast, and not measured. "" means none.
	StandsFor Path

	// WritesApart reports whether the kernel reads an operand that the op changes through the op's binding, and writes
	// it through another binding, behind all others.
	WritesApart bool

	// Joins is what workgroups leave for the last of them to join, of a kernel that may divide a sum between several; nil
	// means that none does. Then the op has two more bindings, of what they leave and of how many have
	// (shaders/include/arrive.glsl).
	Joins func(m *Machine, s S) Join

	// Norms reports whether a product of several tokens normalises them itself, with weights that are its last binding;
	// nil means never, and that there is no such binding.
	Norms func(s S) bool
	// Activates reports whether a product of several tokens applies the activation itself.
	Activates bool

	// Takes reports whether the kernel computes the shape; nil means every shape.
	Takes func(m *Machine, s S) bool
	// Views is how the kernel reads the op's bindings, in their order; bindings without a view are Storage.
	Views func(s S) []View
	// Spec is the values of the specialization constants.
	Spec func(m *Machine, s S) []Constant
	// Push is the push constants without addresses; nil means the op's.
	Push func(s S) []byte
	// Grid is the number of workgroups in each dimension.
	Grid func(m *Machine, s S) [3]int
	// TokenTiles is how many tiles of tokens a grid has, each of which reads the weights; nil means one.
	TokenTiles func(grid [3]int) int
	// Tilings lists how workgroups may share a product, first what they do where it doesn't say; nil means that there is no
	// choice.
	Tilings func(m *Machine, s S) []Tiling
	// Trip is for reports about compilers; nil means zero.
	Trip func(m *Machine, s S) Trip
}

// A Join is what workgroups leave that have a part of a sum each. The zero value says that each has a whole one.
type Join struct {
	Rows, Cols int // of the float32 tensor of what they leave
	Groups     int // of workgroups that count their arrivals
}

// A Shape is what an op computes: its sizes and its switches.
type Shape interface {
	// Op is the name of the op with the types of what it reads, as shaders/variants.txt spells it: matvec_q4_0.
	Op() string
	// Len is the number of tokens, or rows, of the evaluation, by which rules choose.
	Len() int
	// Size tells apart, in tables, what one kernel computes at several sizes: "4096x11008".
	Size() string
}

// An Op is a computation and the kernels for it, best first; the last takes every shape on every device.
type Op[S Shape] struct {
	Kernels []*Kernel[S]
	Push    func(s S) []byte // push constants of kernels without their own
}

// PushOf is the push constants of a kernel of the op.
func (o *Op[S]) PushOf(k *Kernel[S], s S) []byte {
	if k.Push != nil {
		return k.Push(s)
	}
	return o.Push(s)
}

// Of is the op's kernel of a path; nil means there is none.
func (o *Op[S]) Of(p Path) *Kernel[S] {
	i := slices.IndexFunc(o.Kernels, func(k *Kernel[S]) bool { return k.Path == p })
	if i < 0 {
		return nil
	}
	return o.Kernels[i]
}

// Chosen lists the paths whose kernels the op's rules choose on the machine.
func (o *Op[S]) Chosen(m *Machine) []Path {
	var list []Path
	for _, k := range o.Kernels {
		if k.Rule.On.has(m) {
			list = append(list, k.Path)
		}
	}
	return list
}

// takes reports whether the kernel computes the shape.
func (k *Kernel[S]) takes(m *Machine, s S) bool { return k.Takes == nil || k.Takes(m, s) }

// Fits reports whether the kernel computes the shape, which reads weights in the layout.
func (k *Kernel[S]) Fits(m *Machine, s S, l Layout) bool {
	return (k.Reads == nil || slices.Contains(k.Reads, l)) && k.takes(m, s)
}

// A Constant is the value of a specialization constant; booleans are 0 or 1.
type Constant struct {
	Name  string // as the GLSL source has it; local_size_x is the size of the workgroup
	Value uint32
}

func size(name string, v int) Constant { return Constant{name, uint32(v)} }

func flag(name string, v bool) Constant {
	if v {
		return Constant{name, 1}
	}
	return Constant{name, 0}
}

// A View is how a kernel reads a binding: a vk.TexelFormat of a texel buffer, Storage or Address.
type View = vk.TexelFormat

const (
	// Storage is a storage buffer.
	Storage View = -1
	// Address has no binding; its device address follows the push constants.
	Address View = -2
)

// A Trip is what an invocation does in a trip of a kernel's main loop, to judge the instructions that a compiler makes of it. It
// is zero for kernels that none judges so.
type Trip struct {
	Weights  int   // of a product of one token, that it multiplies
	Products int   // of other products and attention, that it adds to sums: its share of the workgroup's
	Inner    int   // trips of a loop inside
	Loops    []int // those of each of several loops inside, where a compiler leaves them
}

// push packs push constants; it takes int, uint32 and float32.
func push(values ...any) []byte {
	out := make([]byte, 0, 4*len(values))
	for _, v := range values {
		var w uint32
		switch v := v.(type) {
		case int:
			w = uint32(v)
		case uint32:
			w = v
		case float32:
			w = math.Float32bits(v)
		case bool:
			if v {
				w = 1
			}
		default:
			panic(fmt.Sprintf("kernels: push constant of type %T", v))
		}
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

// Lower is a type's name in names of variants.
func Lower(t DType) string { return strings.ToLower(t.String()) }

func ceilDiv(a, b int) int         { return (a + b - 1) / b }
func alignUp(n, align int64) int64 { return (n + align - 1) / align * align }

// spread puts n workgroups on x and y, since x alone may be limited to 65535.
func spread(m *Machine, n int) [3]int {
	y := ceilDiv(n, m.pd.Limits.MaxComputeWorkGroupCount[0])
	return [3]int{ceilDiv(n, y), y, 1}
}

// workgroup is the size of base kernels' workgroups. 64 is a whole number of subgroups on
// every device known (4 to 64 lanes) and within the 128 invocations that Vulkan guarantees.
const workgroup = 64

// rowSteps is how many times eight quads a workgroup of the elementwise *_row kernels takes.
const rowSteps = 8
