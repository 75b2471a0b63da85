package dtype

import (
	"encoding/binary"
	"math"

	"pumice/internal/half"
)

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

// encodeQ4_0 gives the value of largest magnitude the code 0, which stands for -8.
func encodeQ4_0(dst []byte, src []float32) {
	scale := extreme(src) / -8
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	q := dst[2:18]
	for i := range q {
		lo := code(float32(src[i]*inv)+8.5, 15)
		hi := code(float32(src[i+16]*inv)+8.5, 15)
		q[i] = lo | hi<<4
	}
}

func encodeQ4_1(dst []byte, src []float32) {
	least, most := span(src)
	scale := (most - least) / 15
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	binary.LittleEndian.PutUint16(dst[2:], half.F16(least))
	q := dst[4:20]
	for i := range q {
		lo := code(float32((src[i]-least)*inv)+0.5, 15)
		hi := code(float32((src[i+16]-least)*inv)+0.5, 15)
		q[i] = lo | hi<<4
	}
}

// encodeQ5_0 gives the value of largest magnitude the code 0, which stands for -16.
func encodeQ5_0(dst []byte, src []float32) {
	scale := extreme(src) / -16
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	var fifth uint32
	q := dst[6:22]
	for i := range q {
		lo := code(float32(src[i]*inv)+16.5, 31)
		hi := code(float32(src[i+16]*inv)+16.5, 31)
		q[i] = lo&15 | hi<<4
		fifth |= uint32(lo>>4)<<i | uint32(hi>>4)<<(i+16)
	}
	binary.LittleEndian.PutUint32(dst[2:], fifth)
}

func encodeQ5_1(dst []byte, src []float32) {
	least, most := span(src)
	scale := (most - least) / 31
	inv := inverse(scale)
	binary.LittleEndian.PutUint16(dst, half.F16(scale))
	binary.LittleEndian.PutUint16(dst[2:], half.F16(least))
	var fifth uint32
	q := dst[8:24]
	for i := range q {
		lo := code(float32((src[i]-least)*inv)+0.5, 31)
		hi := code(float32((src[i+16]-least)*inv)+0.5, 31)
		q[i] = lo&15 | hi<<4
		fifth |= uint32(lo>>4)<<i | uint32(hi>>4)<<(i+16)
	}
	binary.LittleEndian.PutUint32(dst[4:], fifth)
}

// extreme returns the value of largest magnitude, the first of equals.
func extreme(src []float32) float32 {
	var amax, v float32
	for _, x := range src {
		if a := abs(x); a > amax {
			amax, v = a, x
		}
	}
	return v
}

func span(src []float32) (least, most float32) {
	least, most = src[0], src[0]
	for _, v := range src {
		least, most = min(least, v), max(most, v)
	}
	return least, most
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

// roundAway is C's roundf for |v| < 2^31: it rounds halves away from zero. The
// sum is exact in float64, so 0.49999997 does not become 1.
func roundAway(v float32) int32 {
	if v < 0 {
		return int32(float64(v) - 0.5)
	}
	return int32(float64(v) + 0.5)
}

// code truncates v to 0..most.
func code(v float32, most int32) byte {
	return byte(max(0, min(most, int32(v))))
}
