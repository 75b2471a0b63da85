package dtype

import (
	"encoding/binary"
	"math"

	"pumice/internal/half"
)

// The quantisers in this file follow ggml's operation by operation
// (ggml-quants.c: make_qkx2_quants, make_qx_quants, make_q3_quants and the
// quantize_row functions that call them): their searches compare sums of floats,
// so that another order of additions would choose other codes. As everywhere in
// this package, float32 conversions prevent fused products and sums.
//
// ggml: MIT License, Copyright (c) 2023-2026 The ggml authors; the notice is in
// internal/licenses/works/ggml.txt.

// A search says which scales fit tries, and how it measures an error.
type search struct {
	most     int32   // codes are 0..most
	from     float32 // the first scale has from+most codes, and each next one a tenth of a code more
	steps    int
	absolute bool // measure absolute errors, not their squares
}

var (
	searchQ2_K = search{3, -0.5, 15, true}
	searchQ4_K = search{15, -1, 20, false}
	searchQ5_K = search{31, -0.5, 15, false}
)

// encodeQ2_K encodes a block of 256; the layout is decodeQ2_K's.
func encodeQ2_K(dst []byte, src []float32) {
	var q [256]byte
	var scales, mins [16]float32
	var maxScale, maxMin float32
	for j := range 16 {
		x := src[16*j:][:16]
		var weights [16]float32
		for i, v := range x {
			weights[i] = abs(v)
		}
		scales[j], mins[j] = searchQ2_K.fit(q[16*j:][:16], x, weights[:])
		maxScale, maxMin = larger(maxScale, scales[j]), larger(maxMin, mins[j])
	}
	binary.LittleEndian.PutUint16(dst[80:], half.F16(maxScale/15))
	binary.LittleEndian.PutUint16(dst[82:], half.F16(maxMin/15))
	invScale, invMin := ratio(15, maxScale), ratio(15, maxMin)
	d, m := f16(dst[80:]), f16(dst[82:])
	for j := range 16 {
		dst[j] = byte(nearest(float32(invScale*scales[j]))) | byte(nearest(float32(invMin*mins[j])))<<4
		scale, least := d*float32(dst[j]&15), float32(m*float32(dst[j]>>4))
		if scale == 0 {
			continue
		}
		for i := 16 * j; i < 16*j+16; i++ {
			q[i] = byte(clamp(nearest((src[i]+least)/scale), 0, 3))
		}
	}
	packPairs(dst[16:80], &q)
}

// packPairs packs 2-bit codes: bits 0-1 of a half's 32 bytes are its codes
// 0-31, bits 2-3 are codes 32-63, and so on.
func packPairs(dst []byte, q *[256]byte) {
	for i := range dst {
		at := i>>5<<7 + i&31
		dst[i] = q[at]&3 | q[at+32]&3<<2 | q[at+64]&3<<4 | q[at+96]&3<<6
	}
}

// encodeQ3_K encodes a block of 256; the layout is decodeQ3_K's.
func encodeQ3_K(dst []byte, src []float32) {
	clear(dst)
	var q [256]byte
	var scales [16]float32
	for j := range scales {
		scales[j] = fitQ3((*[16]byte)(q[16*j:]), (*[16]float32)(src[16*j:]))
	}
	if most := extreme(scales[:]); most != 0 {
		inv := -32 / most
		packed := dst[96:108]
		binary.LittleEndian.PutUint16(dst[108:], half.F16(1/inv))
		d := f16(dst[108:])
		for j, s := range scales {
			stored := clamp(nearest(float32(inv*s)), -32, 31)
			code := byte(stored + 32)
			packed[j&7] |= code & 15 << (j & 8 >> 1)
			packed[8+j&3] |= code >> 4 << (j >> 2 * 2)
			scale := d * float32(stored)
			if scale == 0 {
				continue
			}
			for i := 16 * j; i < 16*j+16; i++ {
				q[i] = byte(clamp(nearest(src[i]/scale), -4, 3) + 4)
			}
		}
	}
	for l := range 32 {
		for j := range 8 {
			dst[l] |= q[32*j+l] >> 2 << j
		}
	}
	packPairs(dst[32:96], &q)
}

// fitQ3 chooses codes -4..3 with a small squared error weighted with x*x, writes
// them plus 4 to q, and returns their scale (make_q3_quants). Each weight in
// turn gets the best code for the scale of the others, in at most five passes.
func fitQ3(q *[16]byte, x *[16]float32) float32 {
	most := extreme(x[:])
	if abs(most) < tiny {
		*q = [16]byte{}
		return 0
	}
	var codes [16]int32
	inv := -4 / most
	var sumLX, sumLL float32
	for i, v := range x {
		l := clamp(nearest(float32(inv*v)), -4, 3)
		codes[i] = l
		w := float32(v * v)
		sumLX += float32(float32(w*v) * float32(l))
		sumLL += float32(float32(w*float32(l)) * float32(l))
	}
	for range 5 {
		changed := false
		for i, v := range x {
			w, l := float32(v*v), float32(codes[i])
			restLX := sumLX - float32(float32(w*v)*l)
			if !(restLX > 0) {
				continue
			}
			restLL := sumLL - float32(float32(w*l)*l)
			next := clamp(nearest(float32(v*restLL)/restLX), -4, 3)
			if next == codes[i] {
				continue
			}
			l = float32(next)
			restLX += float32(float32(w*v) * l)
			restLL += float32(float32(w*l) * l)
			if restLL > 0 && float32(float32(restLX*restLX)*sumLL) > float32(float32(sumLX*sumLX)*restLL) {
				codes[i], sumLX, sumLL = next, restLX, restLL
				changed = true
			}
		}
		if !changed {
			break
		}
	}
	for i, l := range codes {
		q[i] = byte(l + 4)
	}
	if sumLL > 0 {
		return sumLX / sumLL
	}
	return 0
}

// encodeQ4_K encodes a block of 256; the layout is decodeQ4_K's.
func encodeQ4_K(dst []byte, src []float32) {
	var q [256]byte
	fitSubBlocks(dst, &q, src, searchQ4_K)
	packNibblePairs(dst[16:144], &q)
}

// encodeQ5_K encodes a block of 256; the layout is decodeQ5_K's.
func encodeQ5_K(dst []byte, src []float32) {
	var q [256]byte
	fitSubBlocks(dst, &q, src, searchQ5_K)
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
// writes the scales and minimums to the first 16 bytes of dst.
func fitSubBlocks(dst []byte, q *[256]byte, src []float32, how search) {
	var scales, mins [8]float32
	var maxScale, maxMin float32
	for j := range 8 {
		x := src[32*j:][:32]
		var sum float32
		for _, v := range x {
			sum += float32(v * v)
		}
		mean := float32(math.Sqrt(float64(sum / 32)))
		var weights [32]float32
		for i, v := range x {
			weights[i] = mean + abs(v)
		}
		scales[j], mins[j] = how.fit(q[32*j:][:32], x, weights[:])
		maxScale, maxMin = larger(maxScale, scales[j]), larger(maxMin, mins[j])
	}

	binary.LittleEndian.PutUint16(dst, half.F16(maxScale/63))
	binary.LittleEndian.PutUint16(dst[2:], half.F16(maxMin/63))
	invScale, invMin := ratio(63, maxScale), ratio(63, maxMin)
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

	// Choose the codes again, for the scales as stored. With a scale of zero
	// they do not matter and are not changed.
	d, m := f16(dst), f16(dst[2:])
	for j := range 8 {
		s, l := scaleMin(packed, j)
		scale, least := d*float32(s), float32(m*float32(l))
		if scale == 0 {
			continue
		}
		for i := 32 * j; i < 32*j+32; i++ {
			q[i] = byte(clamp(nearest((src[i]+least)/scale), 0, how.most))
		}
	}
}

// fit chooses codes 0..most with the least error weighted with w, writes them to
// q, and returns their scale and minimum >= 0 (which is subtracted). It tries
// several scales, and fits scale and minimum by weighted least squares to the
// codes that each gives. q, x and w have the same length, at most 32.
func (how search) fit(q []byte, x, w []float32) (scale, least float32) {
	q, w = q[:len(x)], w[:len(x)]
	lo, hi := x[0], x[0]
	sumW := w[0]
	sumX := float32(sumW * x[0])
	for i := 1; i < len(x); i++ {
		lo, hi = smaller(lo, x[i]), larger(hi, x[i])
		sumW += w[i]
		sumX += float32(w[i] * x[i])
	}
	lo = smaller(lo, 0)
	if lo == hi {
		clear(q)
		return 0, -lo
	}
	inv := float32(how.most) / (hi - lo)
	scale = 1 / inv
	for i, v := range x {
		q[i] = byte(clamp(nearest(float32(inv*(v-lo))), 0, how.most))
	}
	best := how.loss(q, x, w, scale, lo)
	var space [32]byte
	try := space[:len(x)]
	for step := range how.steps + 1 {
		inv := (how.from + float32(0.1*float32(step)) + float32(how.most)) / (hi - lo)
		var sumL, sumLL, sumLX float32
		for i, v := range x {
			l := clamp(nearest(float32(inv*(v-lo))), 0, how.most)
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
		if sum := how.loss(try, x, w, s, m); sum < best {
			copy(q, try)
			best, scale, lo = sum, s, m // later tries use this minimum
		}
	}
	return scale, -lo
}

// loss returns the error of codes q for x, weighted with w.
func (how search) loss(q []byte, x, w []float32, scale, lo float32) float32 {
	q, w = q[:len(x)], w[:len(x)]
	var sum float32
	if how.absolute {
		for i, v := range x {
			sum += float32(w[i] * abs(float32(scale*float32(q[i]))+lo-v))
		}
		return sum
	}
	for i, v := range x {
		diff := float32(scale*float32(q[i])) + lo - v
		sum += float32(w[i] * float32(diff*diff))
	}
	return sum
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

// tiny is the magnitude below which ggml takes all values of a group as zero.
const tiny = 1e-15

// fitScale chooses codes -32..31 with the least squared error weighted with x*x,
// writes them plus 32 to q, and returns their scale. It tries 19 scales around
// the one that maps the extreme to -32, and fits a scale by least squares to the
// codes that each gives.
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

// fitSums writes the codes of x times inv to q and returns the sums for a
// least-squares fit.
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

// nearest rounds v to nearest, ties to even, for |v| < 2^22; for other values it
// gives the same result as ggml's.
func nearest(v float32) int32 {
	return int32(math.Float32bits(float32(v)+12582912)&0x7fffff) - 0x400000
}

func clamp(v, lo, hi int32) int32 { return max(lo, min(hi, v)) }

// ratio returns codes/most, and 0 unless most is positive.
func ratio(codes, most float32) float32 {
	if most > 0 {
		return codes / most
	}
	return 0
}

// smaller and larger compare as C does: a NaN in b is ignored.
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

// encodeTQ2_0 gives the largest magnitude the scale 1; what is nearest to 0 becomes 0.
func encodeTQ2_0(dst []byte, src []float32) {
	var amax float32
	for _, v := range src {
		amax = max(amax, abs(v))
	}
	inv := inverse(amax)
	binary.LittleEndian.PutUint16(dst[64:], half.F16(amax))
	for i := range 64 {
		var q byte
		for n := range 4 {
			q |= byte(roundAway(src[i>>5<<7+i&31+32*n]*inv)+1) & 3 << (2 * n)
		}
		dst[i] = q
	}
}
