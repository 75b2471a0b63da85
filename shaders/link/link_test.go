package link

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"pumice/shaders"
)

// named returns embedded kernels by name.
func named(t *testing.T, names ...string) []Kernel {
	t.Helper()
	list, err := shaders.Variants()
	if err != nil {
		t.Fatal(err)
	}
	var kernels []Kernel
	for _, name := range names {
		for _, v := range list {
			if v.Name == name {
				kernels = append(kernels, Kernel{SPIRV: v.SPIRV, Constant: []bool{false, true}})
			}
		}
	}
	if len(kernels) != len(names) {
		t.Fatalf("%d kernels of %q", len(kernels), names)
	}
	return kernels
}

// ids are what a module's instructions define; no id is defined twice, and all are below the bound.
func ids(t *testing.T, spirv []byte) map[uint32]bool {
	t.Helper()
	words := make([]uint32, len(spirv)/4)
	for i := range words {
		words[i] = binary.LittleEndian.Uint32(spirv[4*i:])
	}
	defined := map[uint32]bool{}
	for i := 5; i < len(words); i += int(words[i] >> 16) {
		at := resultOf(words[i] & 0xffff)
		if at < 0 {
			continue
		}
		if id := words[i+1+at]; defined[id] || id >= words[3] {
			t.Fatalf("word %d: instruction %d defines %d, bound %d, again: %t", i, words[i]&0xffff, id, words[3], defined[id])
		} else {
			defined[id] = true
		}
	}
	return defined
}

func TestLink(t *testing.T) {
	kernels := named(t, "matvec_q4_0_addr", "matvec_q8_0_addr", "attention_rope_f16_addr")
	for i := range kernels {
		kernels[i].Spec = []uint32{16, 64}
		if size, err := kernels[i].Workgroup(); err != nil || size != [3]int{16, 1, 1} {
			t.Fatalf("workgroups of %v, %v", size, err)
		}
	}
	alone, err := Link(kernels, Options{OneSubgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	shared, err := Link(kernels, Options{Coherent: true})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := len(ids(t, alone)), len(ids(t, shared)); a == 0 || b == 0 || len(shared) <= len(alone) {
		t.Errorf("%d and %d ids, %d and %d bytes", a, b, len(alone), len(shared))
	}
	again, err := Link(kernels, Options{OneSubgroup: true})
	if err != nil || !bytes.Equal(alone, again) {
		t.Errorf("another module the second time, %v", err)
	}
}

func TestWhatCannotBeLinked(t *testing.T) {
	addr := named(t, "matvec_q4_0_addr")[0].SPIRV
	for want, kernels := range map[string][]Kernel{
		"no kernels":              nil,
		"workgroups of":           {{SPIRV: addr, Spec: []uint32{8}}, {SPIRV: addr, Spec: []uint32{16}}},
		"input 28":                named(t, "add"),          // gl_GlobalInvocationID
		"instruction 25":          named(t, "rms_norm_row"), // images
		"no header":               {{SPIRV: []byte("nothing")}},
		"the Vulkan memory model": named(t, "matmul_q4_0_cm"),
	} {
		if _, err := Link(kernels, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestEntry(t *testing.T) {
	e := Entry{Kernel: 2, Groups: [3]int{3, 4, 5}, Wait: 6, Buffers: []uint64{1 << 40}, Push: []byte{7, 8}}
	b := e.Append([]byte{9}, 10)
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(b[1+at:]) }
	if len(b) != 1+EntryBytes || word(0) != 2 || word(4) != 3 || word(12) != 5 || word(entryTarget) != 60 || word(entryBuffers+4) != 1<<8 || word(entryPush) != 0x807 {
		t.Errorf("%v", b)
	}
}
