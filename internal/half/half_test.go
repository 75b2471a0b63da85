package half

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exact16 is binary16 by definition: sign, 5 bits of exponent, 10 of mantissa.
func exact16(h uint16) float64 {
	sign, exp, man := 1.0, int(h>>10&31), float64(h&1023)
	if h&0x8000 != 0 {
		sign = -1
	}
	switch exp {
	case 0:
		return sign * math.Ldexp(man, -24)
	case 31:
		if man != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1024+man, exp-25)
}

func TestF16DecodesEveryBitPattern(t *testing.T) {
	src := make([]byte, 2<<16)
	for h := range 1 << 16 {
		binary.LittleEndian.PutUint16(src[2*h:], uint16(h))
	}
	got := make([]float32, 1<<16)
	F16ToF32(got, src)
	for h, g := range got {
		want := exact16(uint16(h))
		scalar := FromF16(uint16(h))
		if math.IsNaN(want) {
			if g == g || scalar == scalar {
				t.Fatalf("%#04x: got %v and %v, want NaN", h, g, scalar)
			}
			continue
		}
		if float64(g) != want || math.Signbit(float64(g)) != math.Signbit(want) || float64(scalar) != want {
			t.Fatalf("%#04x: got %v and %v, want %v", h, g, scalar, want)
		}
	}
}

func TestF16RoundTripsEveryBitPattern(t *testing.T) {
	var b [2]byte
	for h := range 1 << 16 {
		f := float32(exact16(uint16(h)))
		F32ToF16(b[:], []float32{f})
		got := binary.LittleEndian.Uint16(b[:])
		if f != f {
			if got&0x7c00 != 0x7c00 || got&0x3ff == 0 {
				t.Fatalf("NaN became %#04x", got)
			}
			continue
		}
		if got != uint16(h) {
			t.Fatalf("%#04x came back as %#04x", h, got)
		}
	}
}

// A value between two neighbours is rounded to the nearer one, and a midpoint to the even one.
func TestF16RoundsToNearestEven(t *testing.T) {
	check := func(f float32, want uint16) {
		t.Helper()
		var b [2]byte
		F32ToF16(b[:], []float32{f})
		if got := binary.LittleEndian.Uint16(b[:]); got != want || F16(f) != want {
			t.Fatalf("%v (%#08x): got %#04x and %#04x, want %#04x", f, math.Float32bits(f), got, F16(f), want)
		}
	}
	for h := uint16(0); h < 0x7bff; h++ {
		lo, hi := float32(exact16(h)), float32(exact16(h+1))
		mid := float32((float64(lo) + float64(hi)) / 2)
		even := h + h&1
		check(mid, even)
		check(-mid, even|0x8000)
		check(math.Nextafter32(mid, 0), h)
		check(math.Nextafter32(mid, 1e9), h+1)
	}
	check(65519.996, 0x7bff)
	check(65520, 0x7c00)
	check(float32(math.Inf(-1)), 0xfc00)
	check(math.MaxFloat32, 0x7c00)
	check(math.SmallestNonzeroFloat32, 0)
}

func TestBF16RoundsToNearestEven(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		w := rng.Uint32()
		f := math.Float32frombits(w)
		if f != f || w&0x7f800000 == 0x7f800000 {
			continue
		}
		lo, hi := uint16(w>>16), uint16(w>>16)+1
		want := hi
		// Distances are compared on the bit patterns, which is exact: within
		// one bfloat16 step float32 values are evenly spaced.
		if d := w & 0xffff; d < 0x8000 || d == 0x8000 && lo&1 == 0 {
			want = lo
		}
		if got := BF16(f); got != want {
			t.Fatalf("%#08x: got %#04x, want %#04x", w, got, want)
		}
	}
	if got := BF16(math.MaxFloat32); got != 0x7f80 {
		t.Errorf("largest float32: got %#04x, want infinity", got)
	}
	for _, w := range []uint32{0x7f800001, 0x7fffffff, 0xffffffff, 0xff800001} {
		if g := FromBF16(BF16(math.Float32frombits(w))); g == g {
			t.Errorf("NaN %#08x became %v", w, g)
		}
	}
}

func TestBF16BulkMatchesScalar(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	src := make([]float32, 4097)
	for i := range src {
		src[i] = float32(rng.NormFloat64())
	}
	b := make([]byte, 2*len(src))
	F32ToBF16(b, src)
	got := make([]float32, len(src))
	BF16ToF32(got, b)
	for i, f := range src {
		if got[i] != FromBF16(BF16(f)) {
			t.Fatalf("%d: %v became %v", i, f, got[i])
		}
		// The relative error of rounding to 8 significant bits is at most 2^-9.
		err := new(big.Float).Sub(big.NewFloat(float64(f)), big.NewFloat(float64(got[i])))
		if e, _ := err.Float64(); math.Abs(e) > math.Abs(float64(f))*0x1p-8 {
			t.Fatalf("%d: %v became %v", i, f, got[i])
		}
	}
}

func BenchmarkF16ToF32(b *testing.B) { benchDecode(b, F16ToF32) }

func BenchmarkBF16ToF32(b *testing.B) { benchDecode(b, BF16ToF32) }

func BenchmarkF32ToF16(b *testing.B) { benchEncode(b, F32ToF16) }

func BenchmarkF32ToBF16(b *testing.B) { benchEncode(b, F32ToBF16) }

func benchDecode(b *testing.B, f func([]float32, []byte)) {
	dst, src := make([]float32, 1<<14), make([]byte, 2<<14)
	for i := range dst {
		binary.LittleEndian.PutUint16(src[2*i:], 0x2800+uint16(i)&0x0fff)
	}
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		f(dst, src)
	}
}

func benchEncode(b *testing.B, f func([]byte, []float32)) {
	src, dst := make([]float32, 1<<14), make([]byte, 2<<14)
	for i := range src {
		src[i] = float32(i)/8192 - 1
	}
	b.SetBytes(int64(4 * len(src)))
	for b.Loop() {
		f(dst, src)
	}
}
