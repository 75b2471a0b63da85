package shaders

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pumice/internal/spirv"
)

// formula is what a module computes for an id, down to what is neither a conversion, a product nor a sum.
func formula(made map[uint32]spirv.Instruction, id uint32) string {
	in := made[id]
	of := func(i int) string { return formula(made, in.Args[i]) }
	switch in.Op {
	case spirv.OpFConvert:
		return "float(" + of(2) + ")"
	case spirv.OpFMul:
		return of(2) + " * " + of(3)
	case spirv.OpFAdd:
		if made[in.Args[2]].Op == spirv.OpFMul && made[in.Args[3]].Op != spirv.OpFMul { // the order of a sum's sides does not matter
			return "(" + of(3) + " + " + of(2) + ")"
		}
		return "(" + of(2) + " + " + of(3) + ")"
	case spirv.OpFDot2MixAcc32VALVE:
		a, b := made[in.Args[2]].Args[2:], made[in.Args[3]].Args[2:]
		return fmt.Sprintf("((%s + float(%s) * float(%s)) + float(%s) * float(%s))", of(4), formula(made, a[0]), formula(made, b[0]), formula(made, a[1]), formula(made, b[1]))
	}
	return fmt.Sprint("%", id)
}

// results are the formulas of all that a module stores and merges, and how many dots there are.
func results(t *testing.T, code []byte) (list []string, dots int) {
	t.Helper()
	m, err := spirv.Cut(code)
	if err != nil {
		t.Fatal(err)
	}
	made := map[uint32]spirv.Instruction{}
	for _, in := range m.List {
		switch in.Op {
		case spirv.OpFConvert, spirv.OpFMul, spirv.OpFAdd, spirv.OpCompositeConstruct, spirv.OpFDot2MixAcc32VALVE:
			if had, twice := made[in.Args[1]]; twice || in.Args[1] >= m.Bound {
				t.Errorf("id %d is %v and %v, of a module with ids below %d", in.Args[1], had, in, m.Bound)
			}
			made[in.Args[1]] = in
		}
	}
	for _, in := range m.List {
		switch in.Op {
		case spirv.OpStore:
			list = append(list, formula(made, in.Args[1]))
		case spirv.OpPhi:
			for _, id := range in.Args[2:] {
				list = append(list, formula(made, id))
			}
		case spirv.OpFDot2MixAcc32VALVE:
			dots++
		}
	}
	return list, dots
}

func TestFloatDotsComputeTheSame(t *testing.T) {
	variants, err := Variants()
	if err != nil {
		t.Fatal(err)
	}
	changed := 0
	for _, v := range variants {
		code, err := FloatDots(v.SPIRV)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if !strings.HasPrefix(v.Name, "matmul_") || !strings.HasSuffix(v.Name, "_fp16") {
			if !bytes.Equal(code, v.SPIRV) {
				t.Errorf("%s: has changed", v.Name)
			}
			continue
		}
		changed++
		before, _ := results(t, v.SPIRV)
		after, dots := results(t, code)
		if dots != 2 {
			t.Errorf("%s: %d dots, want those of a quad: 2", v.Name, dots)
		}
		if !slices.Equal(before, after) {
			t.Errorf("%s: the results are others", v.Name)
		}
	}
	if changed == 0 {
		t.Error("no kernels of float16 numbers")
	}
}

func TestFloatDotsLeaveOtherSums(t *testing.T) {
	// Ids: 1 half, 2 float, 3 to 6 halves, 7 to 10 those as float, 11 and 12 products, 13 a float, 14 and 15 sums.
	type list = []spirv.Instruction
	op := func(op uint32, args ...uint32) spirv.Instruction { return spirv.Instruction{Op: op, Args: args} }
	types := list{op(spirv.OpCapability, 1), op(spirv.OpTypeFloat, 1, 16), op(spirv.OpTypeFloat, 2, 32)}
	sums := list{
		op(spirv.OpUndef, 1, 3), op(spirv.OpUndef, 1, 4), op(spirv.OpUndef, 1, 5), op(spirv.OpUndef, 1, 6), op(spirv.OpUndef, 2, 13),
		op(spirv.OpFConvert, 2, 7, 3), op(spirv.OpFConvert, 2, 8, 4), op(spirv.OpFConvert, 2, 9, 5), op(spirv.OpFConvert, 2, 10, 6),
		op(spirv.OpFMul, 2, 11, 7, 8), op(spirv.OpFMul, 2, 12, 9, 10), op(spirv.OpFAdd, 2, 14, 13, 11), op(spirv.OpFAdd, 2, 15, 12, 14),
	}
	for _, c := range []struct {
		name    string
		types   list
		more    list
		replace func(list)
		dots    int
	}{
		{name: "two products", dots: 1},
		{name: "a sum that is stored too", more: list{op(spirv.OpStore, 16, 14)}},
		{name: "a third product", more: list{op(spirv.OpFAdd, 2, 17, 15, 11), op(spirv.OpStore, 16, 17)}, dots: 1},
		{name: "a fourth", more: list{op(spirv.OpFAdd, 2, 17, 15, 11), op(spirv.OpFAdd, 2, 18, 17, 12), op(spirv.OpStore, 16, 18)}, dots: 2},
		{name: "a product with a float32 number", replace: func(l list) { l[9] = op(spirv.OpFMul, 2, 11, 7, 13) }},
		{name: "sums that are to be rounded", types: list{op(spirv.OpDecorate, 15, spirv.DecorationNoContraction)}},
		{name: "products that are to be rounded", types: list{op(spirv.OpDecorate, 11, spirv.DecorationNoContraction)}},
	} {
		m := spirv.Module{Version: 0x00010500, Bound: 20, List: slices.Concat(types, c.types, sums, list{op(spirv.OpStore, 19, 15)}, c.more)}
		if c.replace != nil {
			c.replace(m.List[len(types)+len(c.types):])
		}
		code, err := FloatDots(m.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		before, _ := results(t, m.Bytes())
		after, dots := results(t, code)
		if dots != c.dots || !slices.Equal(before, after) {
			t.Errorf("%s: %d dots, %q of %q; want %d", c.name, dots, after, before, c.dots)
		}
	}
	if _, err := FloatDots([]byte("no module")); err == nil {
		t.Error("what is no module was taken")
	}
}
