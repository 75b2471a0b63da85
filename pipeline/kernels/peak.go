package kernels

import "fmt"

// An Arithmetic is what a kernel multiplies and adds with.
type Arithmetic int

const (
	F32    Arithmetic = iota // float32
	F16                      // pairs of float16
	Int8                     // dot products of four 8-bit integers
	Matrix                   // cooperative matrices of float16, summed in float32
)

// Arithmetics lists all of them.
var Arithmetics = []Arithmetic{F32, F16, Int8, Matrix}

// String is the name in tables and in JSON.
func (a Arithmetic) String() string { return [...]string{"f32", "f16", "int8", "matrix"}[a] }

// Arithmetic is that of the path's products.
func (p Path) Arithmetic() Arithmetic {
	switch p {
	case FP16:
		return F16
	case DP:
		return Int8
	case CM:
		return Matrix
	}
	return F32
}

// Path is that of Peak's kernel for the arithmetic.
func (a Arithmetic) Path() Path { return [...]Path{Base, FP16, DP, CM}[a] }

// A Burst is arithmetic without memory, as Peak does it.
type Burst struct {
	Rounds     int // of peakSteps steps
	Workgroups int
	Fresh      bool // the matrices that are multiplied are loaded for each step; says nothing of other arithmetics
}

// Op is peak.
func (Burst) Op() string { return "peak" }

// Len is 1: no tokens are involved.
func (Burst) Len() int { return 1 }

// Size is the workgroups.
func (b Burst) Size() string { return fmt.Sprint(b.Workgroups) }

// What peak.comp and peak_cm.comp call CHAINS, CHAINS and STEPS, and the subgroups of a workgroup of the latter.
const (
	peakChains    = 8
	peakMatrices  = 4
	peakSteps     = 16
	peakSubgroups = 4
)

// Units is how many units of 8 bytes the kernel of the arithmetic reads, and Words how many words it leaves: those of each
// invocation, or the matrix of each subgroup.
func (b Burst) Units(m *Machine, a Arithmetic) int {
	if a == Matrix {
		return (m.Matrix.M + m.Matrix.N) * m.Matrix.K / 4
	}
	return workgroup
}

// Words has its meaning beside Units.
func (b Burst) Words(m *Machine, a Arithmetic) int {
	if a == Matrix {
		return b.Workgroups * peakSubgroups * m.Matrix.M * m.Matrix.N
	}
	return b.Workgroups * workgroup
}

// Steps is how often each number changes.
func (b Burst) Steps() int { return b.Rounds * peakSteps }

// Chains is how many numbers, or matrices, change.
func (a Arithmetic) Chains() int {
	if a == Matrix {
		return peakMatrices
	}
	return peakChains
}

// Operations is how many multiplications and additions the kernel of the arithmetic does.
func (b Burst) Operations(m *Machine, a Arithmetic) float64 {
	steps := float64(b.Steps() * a.Chains() * b.Workgroups)
	if s := m.Matrix; a == Matrix {
		return steps * float64(peakSubgroups*2*s.M*s.N*s.K)
	}
	return steps * float64(workgroup*[...]int{F32: 2, F16: 4, Int8: 8}[a])
}

// Peak does arithmetic in registers and leaves little: how fast it does that is how fast the device can. Its bindings are what
// is multiplied and added, and the result. Only pipeline.Manager.Peak chooses among its kernels.
var Peak = Op[Burst]{
	Push: func(b Burst) []byte { return push(b.Rounds) },
	Kernels: []*Kernel[Burst]{
		{
			Path: CM, Grid: burstGrid,
			Spec: func(m *Machine, b Burst) []Constant {
				s := m.Matrix
				return []Constant{size("WORKGROUP", peakSubgroups*m.matrixSubgroup()), size("CM_M", s.M), size("CM_N", s.N), size("CM_K", s.K), flag("FRESH", b.Fresh)}
			},
		},
		{Path: DP, Spec: burstSpec, Grid: burstGrid},
		{Path: FP16, Spec: burstSpec, Grid: burstGrid},
		{Path: Base, Rule: Rule{On: Anywhere}, Spec: burstSpec, Grid: burstGrid},
	},
}

func burstSpec(*Machine, Burst) []Constant { return []Constant{size("WORKGROUP", workgroup)} }

func burstGrid(_ *Machine, b Burst) [3]int { return [3]int{b.Workgroups, 1, 1} }
