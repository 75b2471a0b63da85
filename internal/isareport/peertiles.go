package main

import (
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A warpTile is how a workgroup of the peer's mul_mm.comp or mul_mmq.comp shares a tile: the constants 0 to 10 of its shaders.
type warpTile struct {
	invocations, rows, tokens, cols   uint32
	subgroupRows, subgroupTokens      uint32
	rowSteps                          uint32
	matrixRows, matrixTokens, matrixK uint32 // or numbers of an invocation
	subgroup                          uint32
}

func (t warpTile) spec(more ...uint32) []uint32 {
	return append([]uint32{t.invocations, t.rows, t.tokens, t.cols, t.subgroupRows, t.subgroupTokens, t.rowSteps, t.matrixRows,
		t.matrixTokens, t.matrixK, t.subgroup}, more...)
}

// trip is a trip of the loop over columns, by a loop inside that has so many trips.
func (t warpTile) trip(cols uint32, inner int) kernels.Trip {
	return kernels.Trip{Products: int(t.rows * t.tokens * cols / t.invocations), Inner: inner}
}

// peerMatrix is the shape of the peer's cooperative matrices on the device, the first that sums float16 products, and whether it
// sums them in float16 too, which the peer then does. ok is false where it uses none.
func peerMatrix(pd *vk.PhysicalDevice) (shape vk.MatrixShape, halfSums, ok bool) {
	for _, s := range pd.Features.CooperativeMatrix {
		if s.A != vk.Float16 || s.B != vk.Float16 || s.C != s.Result || s.C != vk.Float16 && s.C != vk.Float32 {
			continue
		}
		if shape.M == 0 {
			shape = s
		}
		if s.M != shape.M || s.N != shape.N || s.K != shape.K {
			continue
		}
		ok = ok || s.C == vk.Float32
		halfSums = halfSums || s.C == vk.Float16
	}
	return shape, halfSums, ok
}

// peerTypes are the weights whose products of several tokens are compared.
var peerTypes = []string{"f16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_nl", "iq4_xs"}

// peerTiles lists the peer's products of several tokens, and its attention, with heads of 128 and a cache of float16. Sizes of tiles
// are those of large products, and of a context of 1024 or more.
//
// Where a device has cooperative matrices the peer uses them for every product, with sums of float16 if it can, and where not dot
// products of bytes, for which it rounds activations, or for plain types float16 with sums of float16. All are compared, with its
// constants: what a kernel has of the same operands and sums, and what the peer uses instead.
func peerTiles(pd *vk.PhysicalDevice) []peerKernel {
	lanes, amd := pd.Limits.SubgroupSize, pd.Vendor == "AMD"
	n := uint32(lanes)
	shape, halfSums, matrices := peerMatrix(pd)
	var list []peerKernel
	product := func(module, name string, t warpTile, cols uint32, subgroup int, full bool, inner int, more ...uint32) {
		list = append(list, peerKernel{module: module, name: name, spec: t.spec(more...), subgroup: subgroup, full: full, trip: t.trip(cols, inner)})
	}
	const aligned = 1 // rows are whole tiles of columns
	sums := func(half bool) string {
		if half {
			return "_f16acc"
		}
		return ""
	}
	dot2 := ""
	if amd {
		dot2 = "_dot2" // VK_VALVE_shader_mixed_float_dot_product
	}
	subgroup := 0 // the driver's, but for RDNA 2
	if amd && !matrices {
		subgroup = 32
	}
	for _, t := range peerTypes {
		plain := t == "f16"
		k := len(t) == 4 && t[2:] == "_k"
		cols := uint32(32)
		if matrices {
			w := warpTile{128, 128, 128, cols, 2 * n, 64, 2, uint32(shape.M), uint32(shape.N), uint32(shape.K), n}
			if amd {
				w.invocations, w.subgroupRows = 256, n
			}
			for _, half := range []bool{false, true} {
				if !half || halfSums {
					product("matmul_"+t+"_f32"+sums(half)+"_cm1", "matmul_"+t+sums(half)+"_cm1", w, cols, lanes, true, 1, aligned)
				}
			}
		}
		w := warpTile{128, 128, 128, cols, 2 * n, 64, 2, 4, 4, 1, n}
		for _, half := range []bool{false, true} {
			product("matmul_"+t+"_f32"+dot2+sums(half), "matmul_"+t+sums(half), w, cols, subgroup, false, 1, aligned)
		}
		if !plain && t[0] == 'q' {
			if k {
				w.rowSteps = 1
			}
			product("matmul_"+t+"_q8_1", "matmul_"+t+"_q8_1", w, 4*cols, subgroup, false, 4)
		}
	}
	for _, v := range peerVectors {
		list = append(list, peerKernel{
			module: "mul_mat_vec_" + v.dtype + "_f32_f32_subgroup_no_shmem", name: "mul_mat_vec_" + v.dtype + "_8",
			spec: []uint32{n, v.rows, peerFewTokens}, subgroup: lanes, full: true,
			trip: kernels.Trip{Products: v.weights * peerFewTokens, Inner: 1},
		})
	}
	return append(list, peerAttention(pd, matrices, dot2)...)
}

// peerFewTokens is how many tokens the peer takes as products of one are taken.
const peerFewTokens = 8

// peerAttention lists the peer's kernels for 128 components. That of prompts has no mask: the peer looks up which blocks of keys
// need none.
func peerAttention(pd *vk.PhysicalDevice, matrices bool, dot2 string) []peerKernel {
	const dim, f16, mask = 128, 1, 2
	n := uint32(pd.Limits.SubgroupSize)
	attention := func(module, name string, rows, keys, rowSplit, subgroups, lanes, staging, flags, limit uint32) peerKernel {
		return peerKernel{
			module: module, name: name,
			spec:     []uint32{subgroups * lanes, rows, keys, dim, dim, 0, 8, rowSplit, lanes, staging, flags, limit, f16, f16, 2, 2},
			subgroup: int(lanes), full: true,
			trip: kernels.Trip{Products: int(2 * rows * keys * dim / (subgroups * lanes)), Inner: 1},
		}
	}
	scalar, staging := attention("flash_attn_f32_f16", "flash_attn_f16", 16, 32, 4, 4, n, 1, 0, 0), uint32(1)
	if pd.Vendor == "AMD" { // the last is shared memory that is not used, so that a unit holds no more than four subgroups
		scalar, staging = attention("flash_attn_f32_f16"+dot2, "flash_attn_f16", 8, 32, 1, 4, n, 0, 0, 30*1024/16), 0
	}
	list := []peerKernel{scalar, attention("flash_attn_f32_f16"+dot2, "flash_attn_f16_1", 1, 64, 1, 4, 32, staging, mask, 0)}
	if matrices {
		list = append(list, attention("flash_attn_f32_f16_cm1", "flash_attn_f16_cm1", 16, 64, 4, 4, n, staging, 0, 0))
	}
	return list
}
