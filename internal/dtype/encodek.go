package dtype

import (
	"encoding/binary"
	"math"

	"pumice/internal/half"
)

// The quantisers of this file follow ggml's (ggml-quants.c: make_qkx2_quants,
// make_qx_quants and the quantize_row functions that call them) operation by
// operation: their searches compare sums of floats, so that another order of
// adding would choose other codes. As everywhere in this package, float32
// conversions keep products from being fused with sums.

// encodeQ4_K encodes a block of 256; the layout is decodeQ4_K's.
func encodeQ4_K(dst []byte, src []float32) {
	var q [256]byte
	fitSubBlocks(dst, &q, src, 15, -1, 20)
	packNibblePairs(dst[16:144], &q)
}

// encodeQ5_K encodes a block of 256; the layout is decodeQ5_K's.
func encodeQ5_K(dst []byte, src []float32) {
	var q [256]byte
	fitSubBlocks(dst, &q, src, 31, -0.5, 15)
	packNibblePairs(dst[48:176], &q)
	for l := range 32 {
		var fifth byte
		for j := range 8 {
			fifth |= q[32*j+l] >> 4 << j
		}
		dst[16+l] = fifth
	}
}

func packNibblePairs(dst []byte, q *[256]byte) {
	for i := range dst {
		at := i>>5<<6 + i&31
		dst[i] = q[at]&15 | q[at+32]<<4
	}
}

// fitSubBlocks chooses the codes q of the 8 sub-blocks of Q4_K or Q5_K, and
// writes the scales and minimums to the first 16 bytes of dst. from and steps
// say which scales fitScaleMin tries.
func fitSubBlocks(dst []byte, q *[256]byte, src []float32, most int32, from float32, steps int) {
	var scales, mins [8]float32
	var maxScale, maxMin float32
	for j := range 8 {
		x := (*[32]float32)(src[32*j:])
		var sum float32
		for _, v := range x {
			sum += float32(v * v)
		}
		mean := float32(math.Sqrt(float64(sum / 32)))
		var weights [32]float32
		for i, v := range x {
			weights[i] = mean + abs(v)
		}
		scales[j], mins[j] = fitScaleMin((*[32]byte)(q[32*j:]), x, &weights, most, from, steps)
		maxScale, maxMin = larger(maxScale, scales[j]), larger(maxMin, mins[j])
	}

	binary.LittleEndian.PutUint16(dst, half.F16(maxScale/63))
	binary.LittleEndian.PutUint16(dst[2:], half.F16(maxMin/63))
	invScale, invMin := ratio63(maxScale), ratio63(maxMin)
	packed := dst[4:16]
	for j := range 8 {
		scale := min(63, byte(nearest(float32(invScale*scales[j]))))
		least := min(63, byte(nearest(float32(invMin*mins[j]))))
		if j < 4 {
			packed[j], packed[j+4] = scale, least
		} else {
			packed[j+4] = scale&15 | least<<4
			packed[j-4] |= scale >> 4 << 6
			packed[j] |= least >> 4 << 6
		}
	}

	// The codes once more, for the scales as stored. A scale of zero leaves
	// them be: they do not matter.
	d, m := f16(dst), f16(dst[2:])
	for j := range 8 {
		s, l := scaleMin(packed, j)
		scale, least := d*float32(s), float32(m*float32(l))
		if scale == 0 {
			continue
		}
		for i := 32 * j; i < 32*j+32; i++ {
			q[i] = byte(clamp(nearest((src[i]+least)/scale), 0, most))
		}
	}
}

// fitScaleMin returns the scale and the minimum >= 0 (to be subtracted) for
// which codes 0..most, written to q, give the least squared error weighted
// with w, of those that weighted least squares finds for the codes that
// steps+1 scales give, the widest with from+most codes.
func fitScaleMin(q *[32]byte, x, w *[32]float32, most int32, from float32, steps int) (scale, least float32) {
	lo, hi := x[0], x[0]
	sumW := w[0]
	sumX := float32(sumW * x[0])
	for i := 1; i < 32; i++ {
		lo, hi = smaller(lo, x[i]), larger(hi, x[i])
		sumW += w[i]
		sumX += float32(w[i] * x[i])
	}
	lo = smaller(lo, 0)
	if lo == hi {
		*q = [32]byte{}
		return 0, -lo
	}
	inv := float32(most) / (hi - lo)
	scale = 1 / inv
	var best float32
	for i, v := range x {
		l := clamp(nearest(float32(inv*(v-lo))), 0, most)
		q[i] = byte(l)
		diff := float32(scale*float32(l)) + lo - v
		best += float32(w[i] * float32(diff*diff))
	}
	var try [32]byte
	for step := range steps + 1 {
		inv := (from + float32(0.1*float32(step)) + float32(most)) / (hi - lo)
		var sumL, sumLL, sumLX float32
		for i, v := range x {
			l := clamp(nearest(float32(inv*(v-lo))), 0, most)
			try[i] = byte(l)
			wl := float32(w[i] * float32(l))
			sumL += wl
			sumLL += float32(wl * float32(l))
			sumLX += float32(wl * v)
		}
		det := float32(sumW*sumLL) - float32(sumL*sumL)
		if !(det > 0) {
			continue
		}
		s := (float32(sumW*sumLX) - float32(sumX*sumL)) / det
		m := (float32(sumLL*sumX) - float32(sumL*sumLX)) / det
		if m > 0 {
			m = 0
			s = sumLX / sumLL
		}
		var sum float32
		for i, v := range x {
			diff := float32(s*float32(try[i])) + m - v
			sum += float32(w[i] * float32(diff*diff))
		}
		if sum < best {
			*q, best, scale, lo = try, sum, s, m // the next scales are tried from this minimum
		}
	}
	return scale, -lo
}

// encodeQ6_K encodes a block of 256; the layout is decodeQ6_K's.
func encodeQ6_K(dst []byte, src []float32) {
	var q [256]byte
	var scales [16]float32
	for j := range scales {
		scales[j] = fitScale((*[16]byte)(q[16*j:]), (*[16]float32)(src[16*j:]))
	}
	most := extreme(scales[:])
	if abs(most) < tiny {
		clear(dst)
		return
	}
	inv := -128 / most
	binary.LittleEndian.PutUint16(dst[208:], half.F16(1/inv))
	d := f16(dst[208:])
	for j, s := range scales {
		stored := int8(min(127, nearest(float32(inv*s))))
		dst[192+j] = byte(stored)
		scale := d * float32(stored)
		if scale == 0 {
			continue
		}
		for i := 16 * j; i < 16*j+16; i++ {
			q[i] = byte(clamp(nearest(src[i]/scale), -32, 31) + 32)
		}
	}
	for h := range 2 {
		lower, upper, q := dst[64*h:][:64], dst[128+32*h:][:32], q[128*h:][:128]
		for l := range lower {
			lower[l] = q[l]&15 | q[l+64]<<4
		}
		for l := range upper {
			upper[l] = q[l]>>4 | q[l+32]>>4<<2 | q[l+64]>>4<<4 | q[l+96]>>4<<6
		}
	}
}

// tiny is the magnitude below which ggml takes a group for zeros.
const tiny = 1e-15

// fitScale returns the scale for which codes -32..31, written to q plus 32,
// give the least squared error weighted with x*x, of those that least squares
// finds for the codes of 19 scales around the one that maps the extreme to -32.
func fitScale(q *[16]byte, x *[16]float32) float32 {
	most := extreme(x[:])
	if abs(most) < tiny {
		*q = [16]byte{}
		return 0
	}
	var scale float32
	sumLX, sumLL := fitSums(q, x, -32/most)
	if sumLL != 0 {
		scale = sumLX / sumLL
	}
	best := float32(scale * sumLX)
	var try [16]byte
	for step := -9; step <= 9; step++ {
		if step == 0 {
			continue
		}
		inv := -(32 + float32(0.1*float32(step))) / most
		sumLX, sumLL := fitSums(&try, x, inv)
		if sumLL > 0 && float32(sumLX*sumLX) > float32(best*sumLL) {
			*q = try
			scale = sumLX / sumLL
			best = float32(scale * sumLX)
		}
	}
	return scale
}

// fitSums writes the codes of x times inv to q and returns the sums of least
// squares.
func fitSums(q *[16]byte, x *[16]float32, inv float32) (sumLX, sumLL float32) {
	for i, v := range x {
		l := clamp(nearest(float32(inv*v)), -32, 31)
		q[i] = byte(l + 32)
		w := float32(v * v)
		sumLX += float32(float32(w*v) * float32(l))
		sumLL += float32(float32(w*float32(l)) * float32(l))
	}
	return sumLX, sumLL
}

// nearest rounds v to nearest, ties to even, for |v| < 2^22; what it makes of
// others is ggml's to say.
func nearest(v float32) int32 {
	return int32(math.Float32bits(float32(v)+12582912)&0x7fffff) - 0x400000
}

func clamp(v, lo, hi int32) int32 { return max(lo, min(hi, v)) }

func ratio63(most float32) float32 {
	if most > 0 {
		return 63 / most
	}
	return 0
}

// smaller and larger are C's comparisons: a NaN in b is passed over.
func smaller(a, b float32) float32 {
	if b < a {
		return b
	}
	return a
}

func larger(a, b float32) float32 {
	if b > a {
		return b
	}
	return a
}
