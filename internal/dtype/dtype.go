// Package dtype names the element types of stored tensors, and converts the
// weight types to and from float32.
//
// The weight types, F32 to TQ2_0, can be decoded and encoded (see Weight). All
// other types are storage-only: the package has their names and sizes, but
// nothing computes with them. Names and quantised block layouts are GGUF's,
// little-endian (ggml, ggml-common.h).
package dtype

import (
	"fmt"
	"strings"
)

// DType is an element type. The zero value is Invalid.
type DType uint8

// The weight types, then the storage-only ones.
const (
	Invalid DType = iota
	F32
	F16
	BF16
	Q8_0 // 32 weights: f16 scale d, 32 int8 q; weight = d*q
	Q4_0 // 32 weights: f16 scale d, 16 bytes; weight = d*(nibble-8); low nibbles are weights 0..15, high ones 16..31
	Q4_1 // 32 weights: f16 scale d, f16 minimum m, 16 bytes as Q4_0's; weight = d*nibble+m
	Q5_0 // 32 weights: f16 scale d, 4 bytes of fifth bits (bit i is weight i's), 16 bytes as Q4_0's; weight = d*(q-16)
	Q5_1 // 32 weights: f16 scale d, f16 minimum m, then as Q5_0; weight = d*q+m
	// The K types have 256 weights in sub-blocks of 16 (Q2_K, Q3_K, Q6_K) or 32
	// (Q4_K, Q5_K), each with a small integer scale, some with a minimum too.
	Q2_K
	Q3_K
	Q4_K
	Q5_K
	Q6_K
	IQ4_NL // Q4_0's layout; a nibble stands for one of 16 fixed int8 values (see levels): weight = d*level
	IQ4_XS // 256 weights in sub-blocks of 32, each with a 6-bit scale; nibbles as IQ4_NL's
	TQ2_0  // 256 weights: 64 bytes of 2-bit codes as Q2_K's, f16 scale d; weight = d*(q-1), of -d, 0 and d

	F64
	I8
	I16
	I32
	I64
	U8
	U16
	U32
	U64
	Bool
	F8_E4M3
	F8_E5M2
	Q8_1
	Q8_K
	IQ1_S
	IQ1_M
	IQ2_XXS
	IQ2_XS
	IQ2_S
	IQ3_XXS
	IQ3_S
	TQ1_0
	MXFP4
	Unknown // a type in a file that this package does not know, of unknown size

	count
)

// info is indexed by DType.
var info = [count]struct {
	name       string
	block      int // weights per block
	blockBytes int
}{
	Invalid: {"invalid", 0, 0},
	F32:     {"F32", 1, 4},
	F16:     {"F16", 1, 2},
	BF16:    {"BF16", 1, 2},
	Q8_0:    {"Q8_0", 32, 2 + 32},
	Q4_0:    {"Q4_0", 32, 2 + 16},
	Q4_1:    {"Q4_1", 32, 2 + 2 + 16},
	Q5_0:    {"Q5_0", 32, 2 + 4 + 16},
	Q5_1:    {"Q5_1", 32, 2 + 2 + 4 + 16},
	Q2_K:    {"Q2_K", 256, 2 + 2 + 16 + 64},
	Q3_K:    {"Q3_K", 256, 2 + 64 + 32 + 12},
	Q4_K:    {"Q4_K", 256, 2 + 2 + 12 + 128},
	Q5_K:    {"Q5_K", 256, 2 + 2 + 12 + 32 + 128},
	Q6_K:    {"Q6_K", 256, 2 + 128 + 64 + 16},
	IQ4_NL:  {"IQ4_NL", 32, 2 + 16},
	IQ4_XS:  {"IQ4_XS", 256, 2 + 2 + 4 + 128},
	TQ2_0:   {"TQ2_0", 256, 64 + 2},

	F64:     {"F64", 1, 8},
	I8:      {"I8", 1, 1},
	I16:     {"I16", 1, 2},
	I32:     {"I32", 1, 4},
	I64:     {"I64", 1, 8},
	U8:      {"U8", 1, 1},
	U16:     {"U16", 1, 2},
	U32:     {"U32", 1, 4},
	U64:     {"U64", 1, 8},
	Bool:    {"BOOL", 1, 1},
	F8_E4M3: {"F8_E4M3", 1, 1},
	F8_E5M2: {"F8_E5M2", 1, 1},
	Q8_1:    {"Q8_1", 32, 2 + 2 + 32},
	Q8_K:    {"Q8_K", 256, 4 + 256 + 32},
	IQ1_S:   {"IQ1_S", 256, 2 + 32 + 16},
	IQ1_M:   {"IQ1_M", 256, 32 + 16 + 8},
	IQ2_XXS: {"IQ2_XXS", 256, 2 + 64},
	IQ2_XS:  {"IQ2_XS", 256, 2 + 64 + 8},
	IQ2_S:   {"IQ2_S", 256, 2 + 64 + 16},
	IQ3_XXS: {"IQ3_XXS", 256, 2 + 96},
	IQ3_S:   {"IQ3_S", 256, 2 + 64 + 8 + 32 + 4},
	TQ1_0:   {"TQ1_0", 256, 2 + 48 + 4},
	MXFP4:   {"MXFP4", 32, 1 + 16},
	Unknown: {"unknown", 0, 0},
}

// Parse returns the type with this name, in upper or lower case: "f16", "Q4_0".
func Parse(s string) (DType, error) {
	for d := F32; d < Unknown; d++ {
		if strings.EqualFold(s, info[d].name) {
			return d, nil
		}
	}
	return Invalid, fmt.Errorf("dtype: unknown type %q: want one of %s", s, Names(Weights()))
}

// String returns GGUF's name of the type: "F16", "Q4_0".
func (d DType) String() string {
	if d >= count {
		d = Invalid
	}
	return info[d].name
}

// Weight reports whether Decode and Encode handle the type.
func (d DType) Weight() bool { return d >= F32 && d <= TQ2_0 }

// Weights lists the weight types.
func Weights() []DType {
	var all []DType
	for d := F32; d <= TQ2_0; d++ {
		all = append(all, d)
	}
	return all
}

// Names lists the names of types in lower case: "f32, f16".
func Names(types []DType) string {
	names := make([]string, len(types))
	for i, d := range types {
		names[i] = strings.ToLower(d.String())
	}
	return strings.Join(names, ", ")
}

// ForRow returns the type in which to store rows of cols weights if d is
// wanted: d itself if its blocks divide the row, else a type with blocks of 32
// and the next more bits, else F16. It is the choice of llama.cpp's quantiser
// (tensor_type_fallback).
func (d DType) ForRow(cols int) DType {
	if cols%d.BlockSize() == 0 {
		return d
	}
	small := map[DType]DType{Q2_K: IQ4_NL, Q3_K: IQ4_NL, IQ4_XS: IQ4_NL, Q4_K: Q5_0, Q5_K: Q5_1, Q6_K: Q8_0, TQ2_0: Q4_0}
	if s, ok := small[d]; ok && cols%s.BlockSize() == 0 {
		return s
	}
	return F16
}

// BlockSize returns the number of weights in a block: 1 unless the type is
// quantised, 0 for Invalid and Unknown.
func (d DType) BlockSize() int {
	if d >= count {
		return 0
	}
	return info[d].block
}

// BlockBytes returns the size of a block in bytes, or 0 for Invalid and Unknown.
func (d DType) BlockBytes() int {
	if d >= count {
		return 0
	}
	return info[d].blockBytes
}

// RowBytes returns the size in bytes of a row of cols weights. cols must be a
// multiple of BlockSize.
func (d DType) RowBytes(cols int) int64 {
	block := d.BlockSize()
	if block == 0 || cols < 0 || cols%block != 0 {
		panic(fmt.Sprintf("dtype: no row of %d columns in %s", cols, d))
	}
	return int64(cols/block) * int64(d.BlockBytes())
}
