package main

import (
	"debug/elf"
	"encoding/binary"
	"fmt"

	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// peerPrefix begins the names of kernels of llama.cpp's Vulkan backend.
const peerPrefix = "llama.cpp "

// A peerKernel is a shader of llama.cpp b10434 with what its ggml-vulkan.cpp gives it on a device.
type peerKernel struct {
	module   string // as its library has it
	name     string // with which it stands in tables
	spec     []uint32
	subgroup int // 0: the driver's choice
	full     bool
	trip     kernels.Trip
}

// peerVectors are products of one token. Their constants are the workgroup size, rows per workgroup and columns of the right-hand
// side. The weights per iteration are its products, counted in navi21's assembly: the columns per
// iteration of mul_mat_vec.comp (8, or 4 for plain types) times four iterations times the rows;
// in mul_mat_vec_q4_k.comp sixteen times the rows.
var peerVectors = []struct {
	dtype   string
	rows    uint32
	weights int
}{
	{"f16", 2, 4 * 4 * 2},
	{"q8_0", 1, 8 * 4},
	{"q4_0", 2, 8 * 4 * 2},
	{"q4_1", 2, 8 * 4 * 2},
	{"q4_k", 2, 16 * 2},
}

// peerKernels lists the peer's kernels that stand beside ours.
func peerKernels(pd *vk.PhysicalDevice) []peerKernel {
	var list []peerKernel
	lanes := pd.Limits.SubgroupSize
	for _, v := range peerVectors {
		list = append(list, peerKernel{
			module: "mul_mat_vec_" + v.dtype + "_f32_f32_subgroup_no_shmem", name: "mul_mat_vec_" + v.dtype,
			spec: []uint32{uint32(lanes), v.rows, 1}, subgroup: lanes, full: true,
			trip: kernels.Trip{Weights: v.weights, Inner: 1},
		})
	}
	return append(list, peerTiles(pd)...)
}

// peer reads the peer's kernels from its library, which has each kernel as an array of words.
func peer(library string, pd *vk.PhysicalDevice) ([]pipeline.KernelUse, error) {
	f, err := elf.Open(library)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return nil, fmt.Errorf("peer: %s: %w", library, err)
	}
	at := map[string]uint64{}
	for _, s := range symbols {
		at[s.Name] = s.Value
	}
	var list []pipeline.KernelUse
	for _, k := range peerKernels(pd) {
		length := make([]byte, 8)
		if err := readAt(f, at[k.module+"_len"], length); err != nil {
			return nil, fmt.Errorf("peer: %s: %s: %w", library, k.module, err)
		}
		code := make([]byte, binary.LittleEndian.Uint64(length)&(1<<24-1))
		if err := readAt(f, at[k.module+"_data"], code); err != nil {
			return nil, fmt.Errorf("peer: %s: %s: %w", library, k.module, err)
		}
		list = append(list, pipeline.KernelUse{
			Variant: peerPrefix + k.name,
			Config: vk.PipelineConfig{
				Name: peerPrefix + k.module, SPIRV: code, PushBytes: 128, Bindings: make([]vk.BindingKind, bindings(code)),
				Spec: k.spec, SubgroupSize: k.subgroup, FullSubgroups: k.full,
			},
			Trip: k.trip,
		})
	}
	return list, nil
}

func readAt(f *elf.File, address uint64, to []byte) error {
	for _, s := range f.Sections {
		if s.Type == elf.SHT_PROGBITS && s.Addr <= address && address+uint64(len(to)) <= s.Addr+s.Size {
			_, err := s.ReadAt(to, int64(address-s.Addr))
			return err
		}
	}
	return fmt.Errorf("no data at address %#x", address)
}

// bindings returns one more than the highest binding of a module's variables.
func bindings(code []byte) int {
	const opDecorate, decorationBinding = 71, 33
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(code[4*i:]) }
	n := 0
	for i := 5; i < len(code)/4; i += max(1, int(word(i)>>16)) {
		if word(i)&0xffff == opDecorate && word(i)>>16 == 4 && word(i+2) == decorationBinding {
			n = max(n, int(word(i+3))+1)
		}
	}
	return n
}
