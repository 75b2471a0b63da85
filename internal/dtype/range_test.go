package dtype

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// randomRow returns 512 weights around a magnitude, and their encoding.
func randomRow(rnd *rand.Rand, d DType, magnitude float32) (src []float32, dst []byte) {
	src = make([]float32, 512)
	for i := range src {
		src[i] = magnitude * float32(rnd.NormFloat64())
	}
	dst = make([]byte, d.RowBytes(len(src)))
	d.Encode(dst, src)
	return src, dst
}

// Largest returns the largest weight, or for quantised types at most sixteen times as much, whatever the codes.
func TestLargestBoundsEveryWeight(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, d := range Weights() {
		_, encoded := randomRow(rnd, d, 3)
		random := slices.Clone(encoded) // random codes and sub-block scales with the same float16 numbers
		if halves := d.Halves(); halves != nil {
			for i := range random {
				if in := i % d.BlockBytes(); !slices.Contains(halves, in) && !slices.Contains(halves, in-1) {
					random[i] = byte(rnd.Uint32())
				}
			}
		}
		for name, b := range map[string][]byte{"encoded": encoded, "random codes": random} {
			values := make([]float32, 512)
			d.Decode(values, b)
			var most float32
			for _, v := range values {
				most = max(most, abs(v))
			}
			bound, loose := d.Largest(b), float32(1)
			if d.BlockSize() > 1 {
				loose = 16
			}
			if bound < most || bound > loose*most {
				t.Errorf("%v, %s: bound %g of weights up to %g", d, name, bound, most)
			}
		}
	}
}

func TestLargestLeavesOutWhatIsNotFinite(t *testing.T) {
	t.Parallel()
	for _, d := range []DType{F32, F16, BF16} {
		src := []float32{1, float32(math.NaN()), -2, float32(math.Inf(1)), float32(math.Inf(-1)), 0.5}
		b := make([]byte, d.RowBytes(len(src)))
		d.Encode(b, src)
		if got := d.Largest(b); got != 2 {
			t.Errorf("%v: %v, want 2", d, got)
		}
	}
}

// Scaling by a power of two changes no bit of a mantissa, or Scale reports that it does.
func TestScaleIsExactOrSaysSo(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, d := range Weights() {
		_, b := randomRow(rnd, d, 100) // block scales of no type are subnormal
		want := make([]float32, 512)
		d.Decode(want, b)
		scaled := slices.Clone(b)
		if !d.Scale(scaled, 4) {
			t.Errorf("%v: not exact by 2^4", d)
		}
		got := make([]float32, 512)
		d.Decode(got, scaled)
		for i := range got {
			if got[i] != 16*want[i] {
				t.Fatalf("%v: element %d is %v, want 16 * %v", d, i, got[i], want[i])
			}
		}
		if !d.Scale(scaled, -4) || !slices.Equal(scaled, b) {
			t.Errorf("%v: scaling back does not give the same bytes", d)
		}
		for _, e := range []int{-300, 300} {
			if d.Scale(slices.Clone(b), e) {
				t.Errorf("%v: exact by 2^%d", d, e)
			}
		}
	}
	nan := make([]byte, 4)
	F32.Encode(nan, []float32{float32(math.NaN())})
	if !F32.Scale(nan, 3) || F32.Largest(nan) != 0 {
		t.Error("a NaN does not stay one")
	}
}

func TestEncodeFiniteRefusesWhatTypesCannotHold(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(5, 6))
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, d := range Weights() {
		src, want := randomRow(rnd, d, 1)
		dst := make([]byte, len(want))
		if err := d.EncodeFinite(dst, src, 9); err != nil || !slices.Equal(dst, want) {
			t.Errorf("%v: finite weights: %v, or other bytes than Encode's", d, err)
		}
		bad := []float32{nan, inf, -inf}
		if d != F32 && d != BF16 {
			bad = append(bad, 1e9, -1e12, 3e38) // the block scale is beyond float16, or the search for it overflows
		}
		if d == BF16 {
			bad = append(bad, math.MaxFloat32) // rounds to infinity
		}
		for _, v := range bad {
			for _, at := range []int{0, 77, 511} {
				spoilt := slices.Clone(src)
				spoilt[at] = v
				err := d.EncodeFinite(dst, spoilt, 9)
				var e *RangeError
				if !errors.As(err, &e) || e.Index != at || e.Row != 9 || e.Type != d || e.Value != v && v == v {
					t.Errorf("%v: %v at %d: %v", d, v, at, err)
				}
			}
		}
	}
	// Just inside and just outside the range of a block's scale.
	for v, ok := range map[float32]bool{65504 * 8: true, 65536 * 8: false} {
		block := make([]float32, 32)
		block[3] = -v
		if err := Q4_0.EncodeFinite(make([]byte, 18), block, 0); (err == nil) != ok {
			t.Errorf("Q4_0 of %v: %v", v, err)
		}
	}
}
