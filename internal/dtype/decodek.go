package dtype

// The layouts and the order of rounding are those of ggml's dequantize_row functions
// (MIT License, Copyright (c) 2023-2026 The ggml authors; internal/licenses/works/ggml.txt).

// decodeQ2_K: 16 bytes of sub-block scales (low nibble) and minimums (high
// nibble), 64 bytes of 2-bit codes, f16 scale d, f16 minimum m; weight =
// d*scale*q - m*minimum. In each half of the block, code l of the 32 bytes'
// bits 0-1 is weight l, of bits 2-3 weight 32+l, and so on.
func decodeQ2_K(dst []float32, src []byte) {
	for ; len(src) >= 84 && len(dst) >= 256; src, dst = src[84:], dst[256:] {
		d, m := f16(src[80:]), f16(src[82:])
		for j, s := range src[:16] {
			scale, least := d*float32(s&15), float32(m*float32(s>>4))
			q := src[16+j>>3<<5+j&1<<4:][:16]
			shift := j & 6
			out := dst[16*j:][:16]
			for i, v := range q {
				out[i] = float32(scale*fromInt8[v>>shift&3]) - least
			}
		}
	}
}

// decodeQ3_K: 32 bytes of third bits (bit j of byte l is of weight 32j+l), 64
// bytes of 2-bit codes as Q2_K's, 16 6-bit scales in 12 bytes (first the lower
// halves of 0-7 in low and 8-15 in high nibbles, then the upper 2 bits), f16
// scale d; weight = d*(scale-32)*(q-4).
func decodeQ3_K(dst []float32, src []byte) {
	for ; len(src) >= 110 && len(dst) >= 256; src, dst = src[110:], dst[256:] {
		d := f16(src[108:])
		packed := src[96:108]
		for j := range 16 {
			s := int32(packed[j&7]>>(j&8>>1)&15 | packed[8+j&3]>>(j>>2*2)&3<<4)
			scale := d * float32(s-32)
			q, third := src[32+j>>3<<5+j&1<<4:][:16], src[j&1<<4:][:16]
			shift, bit := j&6, j>>1
			out := dst[16*j:][:16]
			for i, v := range q {
				out[i] = scale * fromInt8[v>>shift&3|third[i]>>bit&1<<2-4]
			}
		}
	}
}

// decodeQ4_K: f16 scale d, f16 minimum m, 12 bytes of sub-block scales and
// minimums (see scaleMin), 4 times 32 bytes whose low nibbles are one
// sub-block and whose high nibbles the next; weight = d*scale*q - m*minimum.
func decodeQ4_K(dst []float32, src []byte) {
	for ; len(src) >= 144 && len(dst) >= 256; src, dst = src[144:], dst[256:] {
		d, m := f16(src), f16(src[2:])
		for j := 0; j < 8; j += 2 {
			s0, m0 := scaleMin(src[4:16], j)
			s1, m1 := scaleMin(src[4:16], j+1)
			scale0, least0 := d*float32(s0), float32(m*float32(m0))
			scale1, least1 := d*float32(s1), float32(m*float32(m1))
			q, lo, hi := src[16+16*j:][:32], dst[32*j:][:32], dst[32*j+32:][:32]
			for i, v := range q {
				lo[i] = float32(scale0*fromInt8[v&15]) - least0
				hi[i] = float32(scale1*fromInt8[v>>4]) - least1
			}
		}
	}
}

// decodeQ5_K: as Q4_K, with 32 bytes of fifth bits before the nibbles: bit j of
// byte l is of weight 32j+l.
func decodeQ5_K(dst []float32, src []byte) {
	for ; len(src) >= 176 && len(dst) >= 256; src, dst = src[176:], dst[256:] {
		d, m := f16(src), f16(src[2:])
		fifth := src[16:48]
		for j := 0; j < 8; j += 2 {
			s0, m0 := scaleMin(src[4:16], j)
			s1, m1 := scaleMin(src[4:16], j+1)
			scale0, least0 := d*float32(s0), float32(m*float32(m0))
			scale1, least1 := d*float32(s1), float32(m*float32(m1))
			q, lo, hi := src[48+16*j:][:32], dst[32*j:][:32], dst[32*j+32:][:32]
			for i, v := range q {
				h := fifth[i] >> j
				lo[i] = float32(scale0*fromInt8[v&15|h&1<<4]) - least0
				hi[i] = float32(scale1*fromInt8[v>>4|h&2<<3]) - least1
			}
		}
	}
}

// decodeQ6_K: in each half of the block 64 bytes of lower nibbles and 32 bytes
// of upper 2 bits (all lower ones come first), then 16 int8 sub-block scales,
// f16 scale d; weight = d*scale*(q-32). In a half, the low nibbles are weights
// 0-63 and the high ones 64-127; the upper bits are laid out as Q2_K's codes.
func decodeQ6_K(dst []float32, src []byte) {
	for ; len(src) >= 210 && len(dst) >= 256; src, dst = src[210:], dst[256:] {
		d := f16(src[208:])
		for j := range 16 {
			scale := d * float32(int8(src[192+j]))
			lower, upper := src[j>>3<<6+j&3<<4:][:16], src[128+j>>3<<5+j&1<<4:][:16]
			nibble, shift := j&4, j&6
			out := dst[16*j:][:16]
			for i, v := range lower {
				out[i] = scale * fromInt8[v>>nibble&15|upper[i]>>shift&3<<4-32]
			}
		}
	}
}

// scaleMin unpacks the 6-bit scale and minimum of sub-block j of Q4_K and Q5_K
// (ggml's get_scale_min_k4): bytes 0-3 hold the scales and 4-7 the minimums of
// sub-blocks 0-3, with the upper 2 bits of sub-blocks 4-7 above them; bytes
// 8-11 hold the lower nibbles of 4-7, scale below minimum.
func scaleMin(b []byte, j int) (scale, least byte) {
	if j < 4 {
		return b[j] & 63, b[j+4] & 63
	}
	return b[j+4]&15 | b[j-4]>>6<<4, b[j+4]>>4 | b[j]>>6<<4
}

// decodeTQ2_0: 64 bytes of 2-bit codes as Q2_K's, f16 scale d; weight = d*(q-1).
func decodeTQ2_0(dst []float32, src []byte) {
	for ; len(src) >= 66 && len(dst) >= 256; src, dst = src[66:], dst[256:] {
		d := f16(src[64:])
		for j := range 8 {
			q, shift := src[j>>2<<5:][:32], 2*(j&3)
			out := dst[32*j:][:32]
			for i, v := range q {
				out[i] = d * fromInt8[v>>shift&3-1]
			}
		}
	}
}
