// Package half converts between float32 and the two 16-bit float formats of
// weights: IEEE 754 binary16 (F16) and bfloat16 (BF16).
//
// Byte slices are little-endian, two bytes per value, and need no alignment.
// The bulk functions run over gigabytes while a model loads; they are loops
// without calls and allocate nothing.
package half

import (
	"encoding/binary"
	"math"

	"github.com/x448/float16"
)

// F16 returns the binary16 nearest to f, ties to even.
func F16(f float32) uint16 { return float16.Fromfloat32(f).Bits() }

// FromF16 returns the value of the binary16 h, exactly.
func FromF16(h uint16) float32 { return float16.Frombits(h).Float32() }

// BF16 returns the bfloat16 nearest to f, ties to even. A NaN stays a NaN.
func BF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40 // the quiet bit: rounding could carry a NaN into infinity
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBF16 returns the value of the bfloat16 h, exactly.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// F16ToF32 decodes len(dst) values from src, which must hold at least twice as
// many bytes.
func F16ToF32(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		h := uint32(binary.LittleEndian.Uint16(src[2*i:]))
		// With binary16's exponent the float32 is too small by a factor of
		// 2^(127-15); multiplying by it is exact, also for subnormals.
		b := math.Float32bits(math.Float32frombits(h&0x7fff<<13) * 0x1p112)
		if h&0x7c00 == 0x7c00 {
			b |= 0x7f800000 // infinity or NaN
		}
		dst[i] = math.Float32frombits(b | h&0x8000<<16)
	}
}

// F32ToF16 encodes src into dst, which must hold at least two bytes per value.
// It rounds to nearest, ties to even; values that are too large become infinite.
func F32ToF16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i, f := range src {
		w := math.Float32bits(f)
		mag := w & 0x7fffffff
		var h uint32
		switch {
		case mag >= 0x47800000: // 2^16 and above, infinity, NaN
			h = 0x7c00
			if mag > 0x7f800000 {
				h = 0x7e00 | mag>>13&0x1ff
			}
		case mag < 0x38800000: // below 2^-14: adding 0.5 leaves the subnormal's bits at the bottom, rounded by the addition
			h = math.Float32bits(math.Float32frombits(mag)+0.5) - 0x3f000000
		default:
			h = (mag - 0x38000000 + 0xfff + mag>>13&1) >> 13
		}
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(h|w>>16&0x8000))
	}
}

// BF16ToF32 decodes len(dst) values from src, which must hold at least twice
// as many bytes.
func BF16ToF32(dst []float32, src []byte) {
	src = src[:2*len(dst)]
	for i := range dst {
		dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
	}
}

// F32ToBF16 encodes src into dst, which must hold at least two bytes per value.
// It rounds to nearest, ties to even.
func F32ToBF16(dst []byte, src []float32) {
	dst = dst[:2*len(src)]
	for i, f := range src {
		binary.LittleEndian.PutUint16(dst[2*i:], BF16(f))
	}
}
