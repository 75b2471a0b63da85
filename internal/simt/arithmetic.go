package simt

import (
	"fmt"
	"math"

	"pumice/internal/half"
	"pumice/internal/spirv"
)

// fromHalf is a float16 number as registers have it: as a float32 number.
func fromHalf(h uint16) uint32 { return word(half.FromF16(h)) }

func toHalf(x uint32) uint32 { return uint32(half.F16(float(x))) }

// roundHalf rounds a number to float16.
func roundHalf(x uint32) uint32 { return fromHalf(half.F16(float(x))) }

func truth(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

type (
	one   = func(a uint32) uint32
	two   = func(a, b uint32) uint32
	three = func(a, b, c uint32) uint32
)

func floats1(f func(a float64) float64) one {
	return func(a uint32) uint32 { return word(float32(f(float64(float(a))))) }
}

func floats2(f func(a, b float32) float32) two {
	return func(a, b uint32) uint32 { return word(f(float(a), float(b))) }
}

func compare(f func(a, b float32) bool) two {
	return func(a, b uint32) uint32 { return truth(f(float(a), float(b))) }
}

// divided is f of numbers that can be divided, and 0 else, where SPIR-V leaves the result undefined.
func divided(f two) two {
	return func(a, b uint32) uint32 {
		if b == 0 {
			return 0
		}
		return f(a, b)
	}
}

// arithmetic of numbers, by instruction; each works on the numbers of vectors one by one.
var arithmetic = map[uint32]any{
	109: one(func(a uint32) uint32 { return uint32(max(0, min(float64(float(a)), math.MaxUint32))) }), // ConvertFToU
	110: one(func(a uint32) uint32 { return uint32(int32(float(a))) }),                                // ConvertFToS
	111: one(func(a uint32) uint32 { return word(float32(int32(a))) }),                                // ConvertSToF
	112: one(func(a uint32) uint32 { return word(float32(a)) }),                                       // ConvertUToF
	115: one(func(a uint32) uint32 { return a }),                                                      // FConvert: rounded by its type
	126: one(func(a uint32) uint32 { return -a }),                                                     // SNegate
	127: one(func(a uint32) uint32 { return a ^ 1<<31 }),                                              // FNegate
	156: one(func(a uint32) uint32 { return truth(a&^(1<<31) > 0x7f800000) }),                         // IsNan
	157: one(func(a uint32) uint32 { return truth(a&^(1<<31) == 0x7f800000) }),                        // IsInf
	168: one(func(a uint32) uint32 { return a ^ 1 }),                                                  // LogicalNot
	200: one(func(a uint32) uint32 { return ^a }),                                                     // Not

	128: two(func(a, b uint32) uint32 { return a + b }),
	129: floats2(func(a, b float32) float32 { return a + b }),
	130: two(func(a, b uint32) uint32 { return a - b }),
	131: floats2(func(a, b float32) float32 { return a - b }),
	132: two(func(a, b uint32) uint32 { return a * b }),
	133: floats2(func(a, b float32) float32 { return a * b }),
	134: divided(func(a, b uint32) uint32 { return a / b }),
	135: divided(func(a, b uint32) uint32 { return uint32(int32(a) / int32(b)) }),
	136: floats2(func(a, b float32) float32 { return a / b }),
	137: divided(func(a, b uint32) uint32 { return a % b }),
	138: divided(func(a, b uint32) uint32 { return uint32(int32(a) % int32(b)) }),

	164: two(func(a, b uint32) uint32 { return truth(a == b) }), // LogicalEqual
	165: two(func(a, b uint32) uint32 { return truth(a != b) }),
	166: two(func(a, b uint32) uint32 { return a | b }),
	167: two(func(a, b uint32) uint32 { return a & b }),
	170: two(func(a, b uint32) uint32 { return truth(a == b) }), // IEqual
	171: two(func(a, b uint32) uint32 { return truth(a != b) }),
	172: two(func(a, b uint32) uint32 { return truth(a > b) }), // UGreaterThan
	173: two(func(a, b uint32) uint32 { return truth(int32(a) > int32(b)) }),
	174: two(func(a, b uint32) uint32 { return truth(a >= b) }),
	175: two(func(a, b uint32) uint32 { return truth(int32(a) >= int32(b)) }),
	176: two(func(a, b uint32) uint32 { return truth(a < b) }),
	177: two(func(a, b uint32) uint32 { return truth(int32(a) < int32(b)) }),
	178: two(func(a, b uint32) uint32 { return truth(a <= b) }),
	179: two(func(a, b uint32) uint32 { return truth(int32(a) <= int32(b)) }),
	180: compare(func(a, b float32) bool { return a == b }), // FOrdEqual
	184: compare(func(a, b float32) bool { return a < b }),
	186: compare(func(a, b float32) bool { return a > b }),
	188: compare(func(a, b float32) bool { return a <= b }),
	190: compare(func(a, b float32) bool { return a >= b }),
	194: two(func(a, b uint32) uint32 { return a >> (b & 31) }),
	195: two(func(a, b uint32) uint32 { return uint32(int32(a) >> (b & 31)) }),
	196: two(func(a, b uint32) uint32 { return a << (b & 31) }),
	197: two(func(a, b uint32) uint32 { return a | b }),
	198: two(func(a, b uint32) uint32 { return a ^ b }),
	199: two(func(a, b uint32) uint32 { return a & b }),

	spirv.OpSelect: three(func(c, a, b uint32) uint32 {
		if c != 0 {
			return a
		}
		return b
	}),
	spirv.OpBitFieldSExtract: three(func(a, at, n uint32) uint32 {
		if n == 0 {
			return 0
		}
		return uint32(int32(a<<(32-(at+n)&31)) >> (32 - n))
	}),
	spirv.OpBitFieldUExtract: three(func(a, at, n uint32) uint32 { return a >> (at & 31) & uint32(1<<n-1) }),
	4450:                     three(dot4), // SDot
	4451:                     three(dot4), // UDot
}

// dot4 is the product of four bytes each, of signed integers where format says so by the instruction.
func dot4(a, b, signed uint32) uint32 {
	var sum int32
	for i := 0; i < 32; i += 8 {
		x, y := a>>i&255, b>>i&255
		if signed != 0 {
			sum += int32(int8(x)) * int32(int8(y))
		} else {
			sum += int32(x) * int32(y)
		}
	}
	return uint32(sum)
}

// extended is the instructions of GLSL.std.450.
var extended = map[uint32]any{
	2:  floats1(math.RoundToEven),
	3:  floats1(math.Trunc),
	4:  floats1(math.Abs),
	8:  floats1(math.Floor),
	9:  floats1(math.Ceil),
	13: floats1(math.Sin),
	14: floats1(math.Cos),
	21: floats1(math.Tanh),
	27: floats1(math.Exp),
	28: floats1(math.Log),
	29: floats1(math.Exp2),
	30: floats1(math.Log2),
	31: floats1(math.Sqrt),
	32: floats1(func(a float64) float64 { return 1 / math.Sqrt(a) }),
	37: floats2(func(a, b float32) float32 { return min(a, b) }),
	38: two(func(a, b uint32) uint32 { return min(a, b) }),
	39: two(func(a, b uint32) uint32 { return uint32(min(int32(a), int32(b))) }),
	40: floats2(func(a, b float32) float32 { return max(a, b) }),
	41: two(func(a, b uint32) uint32 { return max(a, b) }),
	42: two(func(a, b uint32) uint32 { return uint32(max(int32(a), int32(b))) }),
	43: three(func(x, a, b uint32) uint32 { return word(min(max(float(x), float(a)), float(b))) }),
	44: three(func(x, a, b uint32) uint32 { return min(max(x, a), b) }),
	45: three(func(x, a, b uint32) uint32 { return uint32(min(max(int32(x), int32(a)), int32(b))) }),
	50: three(func(a, b, c uint32) uint32 {
		return word(float32(math.FMA(float64(float(a)), float64(float(b)), float64(float(c)))))
	}),
}

const (
	extPackHalf   = 58
	extUnpackHalf = 62
)

// function is what an instruction does with each number, nil where it does something else.
func function(in *inst) any {
	if in.op == spirv.OpExtInst {
		return extended[in.args[1]]
	}
	return arithmetic[in.op]
}

// arithmetic executes an instruction that touches neither memory nor other lanes.
func (s *state) arithmetic(in *inst) error {
	n := s.Lanes
	out := s.regs[in.result]
	args := in.args
	if in.op == spirv.OpExtInst {
		args = args[2:]
	}
	if in.fn == nil {
		in.fn = function(in)
	}
	switch f := in.fn.(type) {
	case one:
		a := s.regs[args[0]]
		for at := 0; at < len(out); at += n {
			for _, l := range s.active {
				out[at+l] = f(a[at+l])
			}
		}
		return s.rounded(in, out)
	case two:
		a, b := s.regs[args[0]], s.regs[args[1]]
		for at := 0; at < len(out); at += n {
			for _, l := range s.active {
				out[at+l] = f(a[at+l], b[at+l])
			}
		}
		return s.rounded(in, out)
	case three:
		a, b := s.regs[args[0]], s.regs[args[1]]
		if in.op == 4450 || in.op == 4451 {
			for _, l := range s.active {
				out[l] = f(a[l], b[l], truth(in.op == 4450))
			}
			return nil
		}
		c := s.regs[args[2]]
		stepA, stepBC := n, n
		if in.op == spirv.OpSelect && len(a) == n {
			stepA = 0 // one condition for all numbers
		}
		if in.op == spirv.OpBitFieldSExtract || in.op == spirv.OpBitFieldUExtract {
			stepBC = 0
		}
		for slot := range len(out) / n {
			for _, l := range s.active {
				out[slot*n+l] = f(a[slot*stepA+l], b[slot*stepBC+l], c[slot*stepBC+l])
			}
		}
		return s.rounded(in, out)
	}
	switch in.op {
	case spirv.OpExtInst:
		a := s.regs[args[0]]
		switch in.args[1] {
		case extPackHalf:
			for _, l := range s.active {
				out[l] = toHalf(a[l]) | toHalf(a[n+l])<<16
			}
			return nil
		case extUnpackHalf:
			for _, l := range s.active {
				out[l], out[n+l] = fromHalf(uint16(a[l])), fromHalf(uint16(a[l]>>16))
			}
			return nil
		}
		return fmt.Errorf("instruction %d of GLSL.std.450", in.args[1])
	case spirv.OpBitcast:
		s.bitcast(out, s.regs[args[0]], in.typ.half(), s.ofType[args[0]].half())
	case spirv.OpVectorTimesScalar:
		a, b := s.regs[args[0]], s.regs[args[1]]
		for at := 0; at < len(out); at += n {
			for _, l := range s.active {
				out[at+l] = word(float(a[at+l]) * float(b[l]))
			}
		}
		return s.rounded(in, out)
	case spirv.OpDot:
		a, b := s.regs[args[0]], s.regs[args[1]]
		for _, l := range s.active {
			sum := float32(0)
			for at := l; at < len(a); at += n {
				sum += float(a[at]) * float(b[at])
			}
			out[l] = word(sum)
		}
		return s.rounded(in, out)
	case spirv.OpVectorExtractDynamic:
		a, i := s.regs[args[0]], s.regs[args[1]]
		for _, l := range s.active {
			out[l] = a[int(i[l])%(len(a)/n)*n+l]
		}
	case spirv.OpVectorShuffle:
		a, b := s.regs[args[0]], s.regs[args[1]]
		for slot, from := range args[2:] {
			if from == 1<<32-1 {
				continue
			}
			src, at := a, int(from)*n
			if at >= len(a) {
				src, at = b, at-len(a)
			}
			s.copyLanes(out[slot*n:], src[at:], 1)
		}
	case spirv.OpCompositeConstruct:
		if in.typ.op == spirv.OpTypeCooperativeMatrix {
			a := s.regs[args[0]]
			for slot := range in.typ.slots {
				s.copyLanes(out[slot*n:], a, 1)
			}
			return nil
		}
		at := 0
		for _, x := range args {
			a := s.regs[x]
			s.copyLanes(out[at:], a, len(a)/n)
			at += len(a)
		}
	case spirv.OpCompositeExtract:
		at := slotOf(s.ofType[args[0]], args[1:])
		s.copyLanes(out, s.regs[args[0]][at*n:], in.typ.slots)
	case spirv.OpCompositeInsert:
		at := slotOf(in.typ, args[2:])
		a, object := s.regs[args[1]], s.regs[args[0]]
		s.copyLanes(out, a, in.typ.slots)
		s.copyLanes(out[at*n:], object, len(object)/n)
	case spirv.OpCopyObject:
		s.copyLanes(out, s.regs[args[0]], in.typ.slots)
	default:
		return fmt.Errorf("instruction %d is not known", in.op)
	}
	return nil
}

// slotOf is the first slot of a member.
func slotOf(t *typ, indices []uint32) int {
	at := 0
	for _, i := range indices {
		switch t.op {
		case spirv.OpTypeStruct:
			for _, m := range t.members[:i] {
				at += m.slots
			}
			t = t.members[i]
		default:
			at += int(i) * t.elem.slots
			t = t.elem
		}
	}
	return at
}

// copyLanes copies slots of the active lanes.
func (s *state) copyLanes(to, from []uint32, slots int) {
	n := s.Lanes
	for at := 0; at < slots*n; at += n {
		for _, l := range s.active {
			to[at+l] = from[at+l]
		}
	}
}

// rounded rounds what an instruction has left to float16, if its type is.
func (s *state) rounded(in *inst, out []uint32) error {
	if !in.typ.half() {
		return nil
	}
	for at := 0; at < len(out); at += s.Lanes {
		for _, l := range s.active {
			out[at+l] = roundHalf(out[at+l])
		}
	}
	return nil
}

// bitcast copies bits: of pairs of float16 numbers from and to words.
func (s *state) bitcast(out, a []uint32, toHalves, fromHalves bool) {
	n := s.Lanes
	switch {
	case toHalves && !fromHalves:
		for slot := range len(out) / n {
			for _, l := range s.active {
				out[slot*n+l] = fromHalf(uint16(a[slot/2*n+l] >> (16 * (slot % 2))))
			}
		}
	case fromHalves && !toHalves:
		for slot := range len(out) / n {
			for _, l := range s.active {
				out[slot*n+l] = toHalf(a[2*slot*n+l]) | toHalf(a[(2*slot+1)*n+l])<<16
			}
		}
	default:
		s.copyLanes(out, a, len(out)/n)
	}
}
