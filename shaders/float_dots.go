package shaders

import (
	"fmt"

	"pumice/internal/spirv"
)

// FloatDots is a kernel for devices that have OpFDot2MixAcc32VALVE of SPV_VALVE_mixed_float_dot_product, one instruction for
// c + a0 b0 + a1 b1 with float16 a and b and float32 c. It replaces every two sums that add such products one after the other. A
// kernel that has none is returned as it is.
//
// In the source a product of float16 numbers is one of numbers converted to float32, which every device can run: the modules that
// are committed, validated and checked on CPU drivers are those that other GPUs take.
func FloatDots(code []byte) ([]byte, error) {
	m, err := spirv.Cut(code)
	if err != nil {
		return nil, fmt.Errorf("shaders: %w", err)
	}
	s := sumsOf(m)
	dots := s.dots(m)
	if len(dots) == 0 {
		return code, nil
	}
	return s.rewritten(m, dots).Bytes(), nil
}

// halfSums is what FloatDots needs to know of a module.
type halfSums struct {
	half, pair uint32                       // types: a float16 number, and two; 0 where the module has none
	halves     map[uint32]bool              // ids of float16 numbers
	made       map[uint32]spirv.Instruction // what makes float32 numbers: conversions, products and sums
	uses       map[uint32]int               // how often an id is an operand; too often where a literal is the same number
	strict     map[uint32]bool              // ids that are to be computed as they are written
}

// A floatDot is c + a0 b0 + a1 b1.
type floatDot struct {
	a, b [2]uint32
	c    uint32
	sum  uint32 // of c and the first product, which nothing else needs
}

func sumsOf(m *spirv.Module) *halfSums {
	s := &halfSums{halves: map[uint32]bool{}, made: map[uint32]spirv.Instruction{}, uses: map[uint32]int{}, strict: map[uint32]bool{}}
	var single uint32
	for _, in := range m.List {
		a := in.Args
		for _, id := range a {
			s.uses[id]++
		}
		switch {
		case in.Op == spirv.OpTypeFloat && a[1] == 16:
			s.half = a[0]
		case in.Op == spirv.OpTypeFloat && a[1] == 32:
			single = a[0]
		case in.Op == spirv.OpTypeVector && a[1] == s.half && a[2] == 2:
			s.pair = a[0]
		case in.Op == spirv.OpDecorate && a[1] == spirv.DecorationNoContraction:
			s.strict[a[0]] = true
		case len(a) < 2:
		case a[0] == s.half:
			s.halves[a[1]] = true
		case a[0] == single && (in.Op == spirv.OpFConvert || in.Op == spirv.OpFMul || in.Op == spirv.OpFAdd):
			s.made[a[1]] = in
		}
	}
	return s
}

// dots finds the sums to replace, by the id of the second one.
func (s *halfSums) dots(m *spirv.Module) map[uint32]floatDot {
	found, part := map[uint32]floatDot{}, map[uint32]bool{}
	for _, in := range m.List {
		if in.Op != spirv.OpFAdd || s.made[in.Args[1]].Op != spirv.OpFAdd {
			continue
		}
		id := in.Args[1]
		first, a1, b1, ok := s.addsProduct(id)
		if !ok || part[first] || s.uses[first] != 2 { // it is made once and used once
			continue
		}
		if _, taken := found[first]; taken {
			continue
		}
		c, a0, b0, ok := s.addsProduct(first)
		if ok {
			found[id], part[first] = floatDot{a: [2]uint32{a0, a1}, b: [2]uint32{b0, b1}, c: c, sum: first}, true
		}
	}
	return found
}

// addsProduct reports whether an id is the sum of a number and of the product of float16 numbers a and b.
func (s *halfSums) addsProduct(id uint32) (to, a, b uint32, ok bool) {
	sum := s.made[id]
	if sum.Op != spirv.OpFAdd || s.strict[id] {
		return 0, 0, 0, false
	}
	for i, side := range sum.Args[2:4] {
		product := s.made[side]
		if product.Op != spirv.OpFMul || s.strict[side] {
			continue
		}
		x, y := s.made[product.Args[2]], s.made[product.Args[3]]
		if x.Op == spirv.OpFConvert && y.Op == spirv.OpFConvert && s.halves[x.Args[2]] && s.halves[y.Args[2]] {
			return sum.Args[2:4][1-i], x.Args[2], y.Args[2], true
		}
	}
	return 0, 0, 0, false
}

// rewritten is the module with the dots in it. Conversions and products that nothing needs any more are left to the driver.
func (s *halfSums) rewritten(m *spirv.Module, dots map[uint32]floatDot) *spirv.Module {
	const capability = 6912 // DotProductFloat16AccFloat32VALVE
	to := &spirv.Module{Version: m.Version, Bound: m.Bound}
	emit := func(op uint32, args ...uint32) { to.List = append(to.List, spirv.Instruction{Op: op, Args: args}) }
	id := func() uint32 { to.Bound++; return to.Bound - 1 }
	part := map[uint32]bool{}
	for _, d := range dots {
		part[d.sum] = true
	}
	pair, declared, enabled := s.pair, s.pair != 0, false
	if !declared {
		pair = id()
	}
	for _, in := range m.List {
		if in.Op != spirv.OpCapability && !enabled {
			emit(spirv.OpCapability, capability)
			emit(spirv.OpExtension, spirv.Literal("SPV_VALVE_mixed_float_dot_product")...)
			enabled = true
		}
		if in.Op == spirv.OpFAdd {
			if part[in.Args[1]] {
				continue
			}
			if d, ok := dots[in.Args[1]]; ok {
				a, b := id(), id()
				emit(spirv.OpCompositeConstruct, pair, a, d.a[0], d.a[1])
				emit(spirv.OpCompositeConstruct, pair, b, d.b[0], d.b[1])
				emit(spirv.OpFDot2MixAcc32VALVE, in.Args[0], in.Args[1], a, b, d.c)
				continue
			}
		}
		emit(in.Op, in.Args...)
		if in.Op == spirv.OpTypeFloat && in.Args[0] == s.half && !declared {
			emit(spirv.OpTypeVector, pair, s.half, 2)
		}
	}
	return to
}
