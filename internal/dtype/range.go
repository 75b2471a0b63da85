package dtype

import (
	"encoding/binary"
	"fmt"
	"math"

	"pumice/internal/half"
)

// A halfField is a float16 number in the blocks of a quantised type. Every weight of a block is a
// sum of its halfFields, each times an integer of magnitude at most most.
type halfField struct {
	at   int // offset in the block
	most float32
}

// halfFields is indexed by DType (ggml, ggml-common.h): sub-block scales times the largest code.
var halfFields = [count][]halfField{
	Q8_0:   {{0, 128}},
	Q4_0:   {{0, 8}},
	Q4_1:   {{0, 15}, {2, 1}},
	Q5_0:   {{0, 16}},
	Q5_1:   {{0, 31}, {2, 1}},
	Q2_K:   {{80, 15 * 3}, {82, 15}},
	Q3_K:   {{108, 32 * 4}},
	Q4_K:   {{0, 63 * 15}, {2, 63}},
	Q5_K:   {{0, 63 * 31}, {2, 63}},
	Q6_K:   {{208, 128 * 32}},
	IQ4_NL: {{0, 127}},
	IQ4_XS: {{0, 32 * 127}},
	TQ2_0:  {{64, 2}},
}

// Halves lists the offsets of the float16 numbers in a block of a quantised type.
func (d DType) Halves() []int {
	var at []int
	for _, f := range halfFields[d] {
		at = append(at, f.at)
	}
	return at
}

// maxF16 is the largest finite float16.
const maxF16 = 65504

// Largest returns the largest magnitude of the weights in src, which has whole blocks of a weight type. For quantised
// types it is an upper bound from the blocks' scales. Infinities and NaN are ignored.
func (d DType) Largest(src []byte) float32 {
	switch d {
	case F32:
		var most uint32
		for ; len(src) >= 4; src = src[4:] {
			if v := binary.LittleEndian.Uint32(src) & 0x7fffffff; v < 0x7f800000 {
				most = max(most, v)
			}
		}
		return math.Float32frombits(most)
	case F16:
		return half.FromF16(largest16(src, 0x7c00))
	case BF16:
		return half.FromBF16(largest16(src, 0x7f80))
	}
	var most float32
	for ; len(src) >= d.BlockBytes(); src = src[d.BlockBytes():] {
		var bound float32
		for _, f := range halfFields[d] {
			if v := abs(f16(src[f.at:])); v <= maxF16 {
				bound += v * f.most
			}
		}
		most = max(most, bound)
	}
	return most
}

// largest16 returns the bits of the largest finite magnitude of 16-bit floats.
func largest16(src []byte, infinity uint16) uint16 {
	var a, b, c, d uint64 // each the largest of every fourth value
	rest := src
	for ; len(rest) >= 8; rest = rest[8:] {
		x := binary.LittleEndian.Uint64(rest) & 0x7fff7fff7fff7fff
		a, b, c, d = max(a, x&0xffff), max(b, x>>16&0xffff), max(c, x>>32&0xffff), max(d, x>>48)
	}
	most := uint16(max(a, b, c, d))
	for ; len(rest) >= 2; rest = rest[2:] {
		most = max(most, binary.LittleEndian.Uint16(rest)&0x7fff)
	}
	if most < infinity {
		return most
	}
	most = 0
	for ; len(src) >= 2; src = src[2:] {
		if v := binary.LittleEndian.Uint16(src) & 0x7fff; v < infinity {
			most = max(most, v)
		}
	}
	return most
}

// Scale multiplies the weights in b, whole blocks of a weight type, by 2^e. It reports whether every
// product is exact; if not, the content of b is undefined. Infinities and NaN are not changed.
func (d DType) Scale(b []byte, e int) bool {
	exact := true
	switch d {
	case F32:
		for ; len(b) >= 4; b = b[4:] {
			v := float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))
			w := float32(math.Ldexp(v, e))
			exact = exact && same(float64(w), math.Ldexp(v, e))
			binary.LittleEndian.PutUint32(b, math.Float32bits(w))
		}
	case F16:
		for ; len(b) >= 2; b = b[2:] {
			exact = scaleHalf(b, e) && exact
		}
	case BF16:
		for ; len(b) >= 2; b = b[2:] {
			v := math.Ldexp(float64(half.FromBF16(binary.LittleEndian.Uint16(b))), e)
			w := half.BF16(float32(v))
			exact = exact && same(float64(half.FromBF16(w)), v)
			binary.LittleEndian.PutUint16(b, w)
		}
	default:
		for ; len(b) >= d.BlockBytes() && len(b) > 0; b = b[d.BlockBytes():] {
			for _, f := range halfFields[d] {
				exact = scaleHalf(b[f.at:], e) && exact
			}
		}
	}
	return exact
}

// scaleHalf multiplies the float16 at the start of b by 2^e, and reports whether the product is exact.
func scaleHalf(b []byte, e int) bool {
	v := math.Ldexp(float64(f16(b)), e)
	h := half.F16(float32(v))
	binary.LittleEndian.PutUint16(b, h)
	return same(float64(half.FromF16(h)), v)
}

// same reports whether v equals want, or both are NaN.
func same(v, want float64) bool { return v == want || v != v && want != want }

// A RangeError reports a weight that a type can't represent.
type RangeError struct {
	Type       DType
	Row, Index int // position of the weight
	Value      float32
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("element %d of row %d is %v, which %s cannot hold", e.Index, e.Row, e.Value, e.Type)
}

// EncodeFinite is Encode with a check: if a weight is NaN or infinite, or beyond the range of the type or of its
// block's scale, it returns a *RangeError with the given row number. Encode makes ordinary blocks from many such
// weights, so that the model would silently compute something else.
func (d DType) EncodeFinite(dst []byte, src []float32, row int) error {
	limit := float32(math.MaxFloat32) // beyond it Encode's scale would not even be infinite
	if len(halfFields[d]) > 0 {
		limit = 0
		for _, f := range halfFields[d] {
			limit += maxF16 * f.most
		}
	}
	for i, v := range src {
		if !(abs(v) <= limit) {
			return &RangeError{d, row, i, v}
		}
	}
	d.Encode(dst, src)
	n, size := d.BlockSize(), d.BlockBytes()
	switch d {
	case F32:
	case F16, BF16:
		infinity := map[DType]uint16{F16: 0x7c00, BF16: 0x7f80}[d]
		for i := range src {
			if binary.LittleEndian.Uint16(dst[2*i:])&0x7fff >= infinity {
				return &RangeError{d, row, i, src[i]}
			}
		}
	default:
		for b := range len(src) / n {
			for _, f := range halfFields[d] {
				if v := abs(f16(dst[b*size+f.at:])); !(v <= maxF16) {
					at := n * b
					for i := at; i < n*(b+1); i++ {
						if abs(src[i]) > abs(src[at]) {
							at = i
						}
					}
					return &RangeError{d, row, at, src[at]}
				}
			}
		}
	}
	return nil
}
