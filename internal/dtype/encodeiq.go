package dtype

import (
	"encoding/binary"

	"pumice/internal/half"
)

// The quantisers of the types whose nibbles stand for fixed levels follow
// ggml's quantize_row_iq4_nl_impl operation by operation, with 15 tries as in
// quantize_iq4_nl and quantize_iq4_xs (MIT License, Copyright (c)
// 2023-2026 The ggml authors; internal/licenses/works/ggml.txt).

// encodeIQ4_NL encodes a block of 32; the layout is decodeIQ4_NL's.
func encodeIQ4_NL(dst []byte, src []float32) {
	scale := fitLevels(src)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	packLevels(dst[2:18], src, inverse(scale))
}

// encodeIQ4_XS encodes a block of 256; the layout is decodeIQ4_XS's.
func encodeIQ4_XS(dst []byte, src []float32) {
	var scales [8]float32
	for j := range scales {
		scales[j] = fitLevels(src[32*j:][:32])
	}
	d := -extreme(scales[:]) / 32
	inv := inverse(d)
	var upper uint16
	var lower uint32
	for j, s := range scales {
		stored := clamp(nearest(float32(inv*s)), -32, 31)
		code := uint32(stored + 32)
		lower |= code & 15 << (4 * j)
		upper |= uint16(code >> 4 << (2 * j))
		packLevels(dst[8+16*j:][:16], src[32*j:][:32], inverse(float32(d*float32(stored))))
	}
	binary.LittleEndian.PutUint16(dst, half.F16(d))
	binary.LittleEndian.PutUint16(dst[2:], upper)
	binary.LittleEndian.PutUint32(dst[4:], lower)
}

// packLevels writes the levels nearest to the 32 values of x times inv.
func packLevels(dst []byte, x []float32, inv float32) {
	for i := range dst {
		dst[i] = nearestLevel(float32(inv*x[i])) | nearestLevel(float32(inv*x[i+16]))<<4
	}
}

// fitLevels returns the scale with the least squared error weighted with x*x. It
// tries 16 scales, which map the extreme near the lowest level, and fits a scale
// by least squares to the levels that each gives.
func fitLevels(x []float32) float32 {
	most := extreme(x)
	if abs(most) < tiny {
		return 0
	}
	sumQX, sumQQ := levelSums(x, 1/(-most/levels[0]))
	scale := sumQX / sumQQ
	best := float32(scale * sumQX)
	for try := -7; try <= 7; try++ {
		sumQX, sumQQ := levelSums(x, (float32(try)+levels[0])/most)
		if sumQQ > 0 && float32(sumQX*sumQX) > float32(best*sumQQ) {
			scale = sumQX / sumQQ
			best = float32(scale * sumQX)
		}
	}
	return scale
}

// levelSums returns the sums for a least-squares fit to the levels of x times inv.
func levelSums(x []float32, inv float32) (sumQX, sumQQ float32) {
	for _, v := range x {
		q, w := levels[nearestLevel(float32(inv*v))], float32(v*v)
		wq := float32(w * q)
		sumQX += float32(wq * v)
		sumQQ += float32(wq * q)
	}
	return sumQX, sumQQ
}

// nearestLevel returns the index of the level nearest to v, or the higher of two.
func nearestLevel(v float32) byte {
	if v <= levels[0] {
		return 0
	}
	if v >= levels[15] {
		return 15
	}
	lo := levelBelow[byte(int32(v+127))] // if v+127 is rounded up to a level, that is the nearest one
	if v-levels[lo] < levels[lo+1]-v {
		return lo
	}
	return lo + 1
}

// levelBelow has at index 127+i the index of the last level not above i, at most
// 14. Searching for it takes four times as long.
var levelBelow = func() (table [256]byte) {
	for i := range table {
		for table[i] < 14 && levels[table[i]+1] <= float32(i-127) {
			table[i]++
		}
	}
	return table
}()
