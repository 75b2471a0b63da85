package dtype

import (
	"encoding/binary"

	"pumice/internal/half"
)

// The loops below convert products to float32 before adding them: this makes Go
// round each product by itself also on machines that could fuse it with the sum.

// fromInt8 has float32(int8(i)) at index i. Every code of a block, less its
// offset, is an int8. Looking it up is 1.5 to 2 times as fast as converting it
// (Go 1.26, amd64: CVTSL2SS waits for the register that it writes to).
var fromInt8 = func() (table [256]float32) {
	for i := range table {
		table[i] = float32(int8(i))
	}
	return table
}()

func decodeQ8_0(dst []float32, src []byte) {
	for ; len(src) >= 34 && len(dst) >= 32; src, dst = src[34:], dst[32:] {
		scale := f16(src)
		q, out := src[2:34], dst[:32]
		for i := range out {
			out[i] = scale * fromInt8[q[i]]
		}
	}
}

func decodeQ4_0(dst []float32, src []byte) {
	for ; len(src) >= 18 && len(dst) >= 32; src, dst = src[18:], dst[32:] {
		scale := f16(src)
		q, lo, hi := src[2:18], dst[:16], dst[16:32]
		for i := range lo {
			lo[i] = scale * fromInt8[q[i]&15-8]
			hi[i] = scale * fromInt8[q[i]>>4-8]
		}
	}
}

func decodeQ4_1(dst []float32, src []byte) {
	for ; len(src) >= 20 && len(dst) >= 32; src, dst = src[20:], dst[32:] {
		scale, least := f16(src), f16(src[2:])
		q, lo, hi := src[4:20], dst[:16], dst[16:32]
		for i := range lo {
			lo[i] = float32(scale*fromInt8[q[i]&15]) + least
			hi[i] = float32(scale*fromInt8[q[i]>>4]) + least
		}
	}
}

func decodeQ5_0(dst []float32, src []byte) {
	for ; len(src) >= 22 && len(dst) >= 32; src, dst = src[22:], dst[32:] {
		scale := f16(src)
		fifth := binary.LittleEndian.Uint32(src[2:])
		q, lo, hi := src[6:22], dst[:16], dst[16:32]
		for i := range lo {
			lo[i] = scale * fromInt8[q[i]&15|byte(fifth<<4&16)-16]
			hi[i] = scale * fromInt8[q[i]>>4|byte(fifth>>12&16)-16]
			fifth >>= 1
		}
	}
}

func decodeQ5_1(dst []float32, src []byte) {
	for ; len(src) >= 24 && len(dst) >= 32; src, dst = src[24:], dst[32:] {
		scale, least := f16(src), f16(src[2:])
		fifth := binary.LittleEndian.Uint32(src[4:])
		q, lo, hi := src[8:24], dst[:16], dst[16:32]
		for i := range lo {
			lo[i] = float32(scale*fromInt8[q[i]&15|byte(fifth<<4&16)]) + least
			hi[i] = float32(scale*fromInt8[q[i]>>4|byte(fifth>>12&16)]) + least
			fifth >>= 1
		}
	}
}

// levels are the values of the nibbles of IQ4_NL and IQ4_XS (kvalues_iq4nl).
var levels = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

func decodeIQ4_NL(dst []float32, src []byte) {
	for ; len(src) >= 18 && len(dst) >= 32; src, dst = src[18:], dst[32:] {
		decodeLevels(dst[:32], src[2:18], f16(src))
	}
}

// decodeIQ4_XS: f16 scale d, the upper 2 bits of 8 sub-block scales in a
// uint16, their lower 4 bits in 4 bytes, and 8 times 16 bytes of nibbles;
// weight = d*(scale-32)*level.
func decodeIQ4_XS(dst []float32, src []byte) {
	for ; len(src) >= 136 && len(dst) >= 256; src, dst = src[136:], dst[256:] {
		d := f16(src)
		upper := binary.LittleEndian.Uint16(src[2:])
		lower := binary.LittleEndian.Uint32(src[4:])
		for j := range 8 {
			scale := int32(lower>>(4*j)&15) | int32(upper>>(2*j)&3)<<4
			decodeLevels(dst[32*j:][:32], src[8+16*j:][:16], d*float32(scale-32))
		}
	}
}

func decodeLevels(dst []float32, q []byte, scale float32) {
	lo, hi := dst[:16], dst[16:32]
	for i, v := range q[:16] {
		lo[i] = scale * levels[v&15]
		hi[i] = scale * levels[v>>4]
	}
}

// f16 returns the binary16 at the start of b.
func f16(b []byte) float32 { return half.FromF16(binary.LittleEndian.Uint16(b)) }
