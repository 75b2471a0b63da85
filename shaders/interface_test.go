package shaders

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/internal/spirv"
)

// Interfaces as a reader of the GLSL would write them down.
func TestInterfacesAreThoseOfTheGLSL(t *testing.T) {
	t.Parallel()
	r, w, rw, texel, address := Binding{Buffer, true, false}, Binding{Buffer, false, true}, Binding{Buffer, true, true},
		Binding{Texel, true, false}, Binding{Kind: Address}
	want := map[string]Interface{
		"softmax_row":     {8, []Binding{texel, w}, nil},
		"act_mul":         {4, []Binding{r, r, w}, []Constant{{0, "local_size_x", 1}, {1, "ACTIVATION", 0}, {2, "GATED", 1}}},
		"adjust":          {4, []Binding{r, rw}, nil},
		"topk_masked_row": {8, []Binding{texel, w, r}, []Constant{{0, "K", 1}}},
		"draw":            {0, []Binding{r, r, r, w}, nil},
		"advance":         {4, []Binding{rw, r, r, w}, []Constant{{0, "DRAW", 0}}},
		"matvec_f32": {24, []Binding{r, r, r, r, r, rw}, []Constant{{0, "WORKGROUP", 64}, {1, "HAS_BIAS", 0}, {2, "ACCUMULATE", 0},
			{3, "NORM", 0}, {4, "ACTIVATE", 0}, {5, "GATED", 0}, {6, "ACTIVATION", 0}}}, // without a use of meta
		"matmul_q8_0_row": {28, []Binding{r, texel, texel, texel, r, rw, texel}, []Constant{{0, "LANE_ROWS", 2}, {1, "TILE_TOKENS", 8},
			{2, "HAS_BIAS", 0}, {3, "ACCUMULATE", 0}, {4, "NORM", 0}, {5, "ACTIVATE", 0}, {6, "GATED", 0}, {7, "ACTIVATION", 0}}},
		"attention_rope_f16_addr": {40, []Binding{r, r, r, w, r, r, w, w, address, address}, []Constant{{0, "LANES", 8},
			{1, "HEAD_DIM", 64}, {2, "GROUP", 1}, {3, "INTERLEAVED", 0}, {10, "HAS_ALIBI", 0}, {11, "HAS_SOFTCAP", 0}, {12, "PAGE", 64}}},
	}
	list, err := Variants()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if f, ok := want[v.Name]; ok {
			if diff := cmp.Diff(f, v.Interface); diff != "" {
				t.Errorf("%s: %s", v.Name, diff)
			}
			delete(want, v.Name)
		}
	}
	for name := range want {
		t.Errorf("there is no kernel %s", name)
	}
}

// What the optimiser left of each kernel, without names, agrees with the manifest: the committed files are of one run.
func TestManifestIsOfTheCommittedFiles(t *testing.T) {
	t.Parallel()
	list, err := Variants()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := manifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range list {
		if sum := sha256.Sum256(v.SPIRV); hex.EncodeToString(sum[:]) != lines[v.Name].spirv {
			t.Errorf("%s: the manifest is not of this file", v.Name)
		}
		m, err := readModule(v.SPIRV)
		if err != nil {
			t.Errorf("%s: %v", v.Name, err)
			continue
		}
		if m.pushBytes != v.PushBytes {
			t.Errorf("%s: %d bytes of push constants, the manifest has %d", v.Name, m.pushBytes, v.PushBytes)
		}
		addresses := 0
		for i, b := range v.Bindings {
			used, ok := m.bindings[uint32(i)]
			if ok && (used.Kind != b.Kind || used.Reads && !b.Reads || used.Writes && !b.Writes) {
				t.Errorf("%s: binding %d is %s, the manifest has %s", v.Name, i, used, b)
			}
			if delete(m.bindings, uint32(i)); b.Kind == Address {
				addresses++
			}
		}
		if m.addresses != addresses || len(m.bindings) > 0 {
			t.Errorf("%s: %d addresses, the manifest has %d; bindings that it lacks: %v", v.Name, m.addresses, addresses, m.bindings)
		}
		for _, c := range v.Constants {
			delete(m.constants, uint32(c.ID))
		}
		if len(m.constants) > 0 {
			t.Errorf("%s: constants %v that the manifest lacks", v.Name, m.constants)
		}
	}
}

func TestInterfacesAreReadAsWritten(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"push=0", "push=4 bind=texel:r,address spec=0:A=1,10:B_2=4294967295", "push=8 spec=3:C=0",
		"push=12 bind=buffer:r,buffer:w,buffer:rw"} {
		if f, err := parseInterface(strings.Fields(s)); err != nil || f.String() != s {
			t.Errorf("%q is read as %q, %v", s, f, err)
		}
	}
	for _, s := range []string{"push=x", "push=", "push", "bind=buffer:x", "bind=image:r", "bind=", "spec=A=1", "spec=0:A",
		"spec=0:A=-1", "other=1"} {
		if f, err := parseInterface(strings.Fields(s)); err == nil {
			t.Errorf("%q is read as %q", s, f)
		}
	}
}

// assemble is a module of instructions, each an opcode and its operands.
func assemble(instructions ...[]uint32) []byte {
	words := []uint32{0x07230203, 0x00010300, 0, 100, 0}
	for _, x := range instructions {
		words = append(words, uint32(len(x))<<16|x[0])
		words = append(words, x[1:]...)
	}
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

func TestReflectRefusesWhatNoKernelMayHave(t *testing.T) {
	t.Parallel()
	u32, u64, f32 := []uint32{spirv.OpTypeInt, 1, 32, 0}, []uint32{spirv.OpTypeInt, 2, 64, 0}, []uint32{spirv.OpTypeFloat, 3, 32}
	block := func(class uint32, members ...uint32) [][]uint32 { // a variable 30 of a struct
		return [][]uint32{u32, u64, f32, append([]uint32{spirv.OpTypeStruct, 10}, members...),
			{spirv.OpTypePointer, 20, class, 10}, {spirv.OpVariable, 20, 30, class}}
	}
	offset := func(member, at uint32) []uint32 {
		return []uint32{spirv.OpMemberDecorate, 10, member, spirv.DecorationOffset, at}
	}
	bound := [][]uint32{{spirv.OpDecorate, 30, spirv.DecorationBinding, 1}, {spirv.OpDecorate, 30, spirv.DecorationDescriptorSet, 0}}
	spec := func(id, number uint32, name uint32) [][]uint32 {
		return [][]uint32{{spirv.OpName, id, name}, {spirv.OpDecorate, id, spirv.DecorationSpecID, number}, u32, {spirv.OpSpecConstant, 1, id, 7}}
	}
	join := func(lists ...[][]uint32) (all [][]uint32) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	push := func(offset1 uint32, members ...uint32) [][]uint32 {
		return join([][]uint32{offset(0, 0), offset(1, offset1)}, block(spirv.StoragePushConstant, members...))
	}
	for name, c := range map[string]struct {
		module [][]uint32
		want   string // the error; "" = none
		is     string
	}{
		"number, then address": {push(8, 3, 2), "", "push=4 bind=address"},
		"gap between numbers":  {push(8, 1, 1), "push constant 1 is not at byte 4", ""},
		"address not aligned":  {push(4, 1, 2), "push constant 1 is not at byte 8", ""},
		"number after address": {push(8, 2, 1), "push constant 1 is neither", ""},
		"no binding 0":         {join(bound, block(spirv.StorageStorageBuffer, 1)), "binding 1 and no binding 0", ""},
		"uniform buffer":       {join(bound, block(spirv.StorageUniform, 1)), "neither a storage buffer nor", ""},
		"no binding":           {block(spirv.StorageStorageBuffer, 1), "want set 0", ""},
		"two constants":        {join(spec(40, 0, 'A'), spec(41, 2, 'B')), "", "push=0 spec=0:A=7,2:B=7"},
		"one name twice":       {join(spec(40, 0, 'A'), spec(41, 1, 'A')), "constants 0 and 1 are both A", ""},
		"one number twice":     {join(spec(40, 0, 'A'), spec(41, 0, 'B')), "constant 0 is both", ""},
		"64-bit constant":      {append(spec(40, 0, 'A')[:2], u64, []uint32{spirv.OpSpecConstant, 2, 40, 7, 0}), "more than 32 bits", ""},
		"short instruction":    {[][]uint32{{spirv.OpVariable, 1}}, "has 1 operands", ""},
	} {
		f, err := Reflect(assemble(c.module...))
		if c.want == "" {
			if err != nil || f.String() != c.is {
				t.Errorf("%s: %q, %v, want %q", name, f, err, c.is)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want an error with %q", name, f, err, c.want)
		}
	}
	cut, empty := append(assemble(), spirv.OpVariable, 0, 4, 0), append(assemble(), 0, 0, 0, 0)
	for _, spirv := range [][]byte{[]byte("no SPIR-V, but long enough"), cut, empty} {
		if f, err := Reflect(spirv); err == nil {
			t.Errorf("% x is %q", spirv, f)
		}
	}
}
