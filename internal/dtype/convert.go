package dtype

import (
	"encoding/binary"
	"fmt"
	"math"

	"pumice/internal/half"
)

// Decode dequantises src, whole blocks of a weight type, into dst, which must
// be exactly as long as src has weights.
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
		for ; len(src) >= 34 && len(dst) >= 32; src, dst = src[34:], dst[32:] {
			scale := half.FromF16(binary.LittleEndian.Uint16(src))
			q, out := src[2:34], dst[:32]
			for i := range out {
				out[i] = scale * float32(int8(q[i]))
			}
		}
	case Q4_0:
		for ; len(src) >= 18 && len(dst) >= 32; src, dst = src[18:], dst[32:] {
			scale := half.FromF16(binary.LittleEndian.Uint16(src))
			q, lo, hi := src[2:18], dst[:16], dst[16:32]
			for i := range lo {
				lo[i] = scale * float32(int(q[i]&15)-8)
				hi[i] = scale * float32(int(q[i]>>4)-8)
			}
		}
	case Q4_1:
		for ; len(src) >= 20 && len(dst) >= 32; src, dst = src[20:], dst[32:] {
			scale := half.FromF16(binary.LittleEndian.Uint16(src))
			least := half.FromF16(binary.LittleEndian.Uint16(src[2:]))
			q, lo, hi := src[4:20], dst[:16], dst[16:32]
			for i := range lo {
				// The conversions keep the product rounded by itself on
				// machines that would fuse it with the sum.
				lo[i] = float32(scale*float32(q[i]&15)) + least
				hi[i] = float32(scale*float32(q[i]>>4)) + least
			}
		}
	}
}

// Encode stores src in a weight type. dst must be exactly as long as the
// blocks, and len(src) a multiple of BlockSize. Floats are rounded to nearest,
// ties to even. Blocks are quantised as ggml's reference quantisers do
// (quantize_row_q8_0_ref and its siblings); a NaN or an infinity spoils its
// whole block.
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
		for ; len(dst) >= 34 && len(src) >= 32; dst, src = dst[34:], src[32:] {
			encodeQ8_0(dst[:34], src[:32])
		}
	case Q4_0:
		for ; len(dst) >= 18 && len(src) >= 32; dst, src = dst[18:], src[32:] {
			encodeQ4_0(dst[:18], src[:32])
		}
	case Q4_1:
		for ; len(dst) >= 20 && len(src) >= 32; dst, src = dst[20:], src[32:] {
			encodeQ4_1(dst[:20], src[:32])
		}
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

func encodeQ8_0(dst []byte, src []float32) {
	var amax float32
	for _, v := range src {
		amax = max(amax, abs(v))
	}
	scale := amax / 127
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	q := dst[2:34]
	for i, v := range src {
		q[i] = byte(roundAway(v * inv))
	}
}

// encodeQ4_0 gives the value of largest magnitude the code 0, that is -8.
func encodeQ4_0(dst []byte, src []float32) {
	var amax, extreme float32
	for _, v := range src {
		if a := abs(v); a > amax {
			amax, extreme = a, v
		}
	}
	scale := extreme / -8
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	q := dst[2:18]
	for i := range q {
		lo := nibble(float32(src[i]*inv) + 8.5)
		hi := nibble(float32(src[i+16]*inv) + 8.5)
		q[i] = lo | hi<<4
	}
}

func encodeQ4_1(dst []byte, src []float32) {
	least, most := src[0], src[0]
	for _, v := range src {
		least, most = min(least, v), max(most, v)
	}
	scale := (most - least) / 15
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	binary.LittleEndian.PutUint16(dst[2:], half.F16(least))
	q := dst[4:20]
	for i := range q {
		lo := nibble(float32((src[i]-least)*inv) + 0.5)
		hi := nibble(float32((src[i+16]-least)*inv) + 0.5)
		q[i] = lo | hi<<4
	}
}

func abs(v float32) float32 {
	return math.Float32frombits(math.Float32bits(v) &^ (1 << 31))
}

// inverse returns 1/v, and 0 for 0: a block of zeros encodes as zeros.
func inverse(v float32) float32 {
	if v == 0 {
		return 0
	}
	return 1 / v
}

// roundAway is C's roundf for |v| < 2^31: halves go away from zero. The sum is
// exact in float64, so 0.49999997 does not become 1.
func roundAway(v float32) int32 {
	if v < 0 {
		return int32(float64(v) - 0.5)
	}
	return int32(float64(v) + 0.5)
}

// nibble truncates v to 0..15.
func nibble(v float32) byte {
	return byte(max(0, min(15, int32(v))))
}
