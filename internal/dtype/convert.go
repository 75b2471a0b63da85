package dtype

import (
	"encoding/binary"
	"fmt"
	"math"

	"pumice/internal/half"
)

// Decode dequantises src, whole blocks of a weight type (see Weight), into dst,
// whose length must be the number of weights in src. Every product and sum is
// rounded to float32 in the order of ggml's dequantize_row functions, so that
// the bits are the same on every machine.
func (d DType) Decode(dst []float32, src []byte) {
	d.check(len(dst), len(src))
	switch d {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		half.F16ToF32(dst, src)
	case BF16:
		half.BF16ToF32(dst, src)
	case Q8_0:
		decodeQ8_0(dst, src)
	case Q4_0:
		decodeQ4_0(dst, src)
	case Q4_1:
		decodeQ4_1(dst, src)
	case Q5_0:
		decodeQ5_0(dst, src)
	case Q5_1:
		decodeQ5_1(dst, src)
	case Q2_K:
		decodeQ2_K(dst, src)
	case Q3_K:
		decodeQ3_K(dst, src)
	case Q4_K:
		decodeQ4_K(dst, src)
	case Q5_K:
		decodeQ5_K(dst, src)
	case Q6_K:
		decodeQ6_K(dst, src)
	case IQ4_NL:
		decodeIQ4_NL(dst, src)
	case IQ4_XS:
		decodeIQ4_XS(dst, src)
	case TQ2_0:
		decodeTQ2_0(dst, src)
	}
}

// Encode stores src in a weight type. len(src) must be a multiple of BlockSize,
// and dst as long as the blocks. Floats are rounded to nearest, ties to even.
// Blocks are quantised as by ggml without an importance matrix
// (ggml_quantize_chunk: quantize_row_q8_0_ref and similar functions); a NaN or
// an infinity makes all weights of its block meaningless.
func (d DType) Encode(dst []byte, src []float32) {
	d.check(len(src), len(dst))
	switch d {
	case F32:
		for i, f := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
		}
	case F16:
		half.F32ToF16(dst, src)
	case BF16:
		half.F32ToBF16(dst, src)
	case Q8_0:
		eachBlock(d, dst, src, encodeQ8_0)
	case Q4_0:
		eachBlock(d, dst, src, encodeQ4_0)
	case Q4_1:
		eachBlock(d, dst, src, encodeQ4_1)
	case Q5_0:
		eachBlock(d, dst, src, encodeQ5_0)
	case Q5_1:
		eachBlock(d, dst, src, encodeQ5_1)
	case Q2_K:
		eachBlock(d, dst, src, encodeQ2_K)
	case Q3_K:
		eachBlock(d, dst, src, encodeQ3_K)
	case Q4_K:
		eachBlock(d, dst, src, encodeQ4_K)
	case Q5_K:
		eachBlock(d, dst, src, encodeQ5_K)
	case Q6_K:
		eachBlock(d, dst, src, encodeQ6_K)
	case IQ4_NL:
		eachBlock(d, dst, src, encodeIQ4_NL)
	case IQ4_XS:
		eachBlock(d, dst, src, encodeIQ4_XS)
	case TQ2_0:
		eachBlock(d, dst, src, encodeTQ2_0)
	}
}

// eachBlock calls encode with every block and its weights.
func eachBlock(d DType, dst []byte, src []float32, encode func(dst []byte, src []float32)) {
	n, size := d.BlockSize(), d.BlockBytes()
	for i := range len(src) / n {
		encode(dst[size*i:][:size], src[n*i:][:n])
	}
}

// check panics unless n weights of the type take exactly size bytes.
func (d DType) check(n, size int) {
	if !d.Weight() {
		panic(fmt.Sprintf("dtype: %s is not a weight type", d))
	}
	if n%d.BlockSize() != 0 || n/d.BlockSize()*d.BlockBytes() != size {
		panic(fmt.Sprintf("dtype: %d weights of %s do not take %d bytes", n, d, size))
	}
}
