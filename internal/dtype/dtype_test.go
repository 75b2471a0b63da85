package dtype

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pumice/internal/half"
)

func TestEncodeRefusesStorageTypes(t *testing.T) {
	defer func() {
		if s := fmt.Sprint(recover()); s != "dtype: IQ2_S is not a weight type" {
			t.Errorf("Encode to IQ2_S: %s", s)
		}
	}()
	IQ2_S.Encode(make([]byte, 82), make([]float32, 256))
}

func TestParseTakesEveryNameInAnyCase(t *testing.T) {
	for d := F32; d < Unknown; d++ {
		for _, s := range []string{d.String(), lower(d.String())} {
			got, err := Parse(s)
			if err != nil || got != d {
				t.Errorf("Parse(%q) = %v, %v", s, got, err)
			}
		}
		if d.BlockSize() == 0 || d.BlockBytes() == 0 {
			t.Errorf("%v has no size", d)
		}
	}
	for _, s := range []string{"", "invalid", "unknown", "q3"} {
		if d, err := Parse(s); err == nil {
			t.Errorf("Parse(%q) = %v", s, d)
		}
	}
}

func lower(s string) string { return string(bytes.ToLower([]byte(s))) }

func TestForRow(t *testing.T) {
	for _, tt := range []struct {
		d    DType
		cols int
		want DType
	}{
		{Q4_K, 512, Q4_K}, {Q4_K, 576, Q5_0}, {Q5_K, 576, Q5_1}, {Q6_K, 576, Q8_0}, {Q2_K, 32, IQ4_NL}, {Q3_K, 96, IQ4_NL},
		{IQ4_XS, 288, IQ4_NL}, {Q4_K, 100, F16}, {Q8_0, 100, F16}, {Q8_0, 32, Q8_0}, {TQ2_0, 288, Q4_0}, {F32, 7, F32}, {BF16, 7, BF16},
	} {
		if got := tt.d.ForRow(tt.cols); got != tt.want {
			t.Errorf("%v for %d columns: %v, want %v", tt.d, tt.cols, got, tt.want)
		}
	}
	for _, d := range Weights() {
		if got := d.ForRow(d.BlockSize() + 1); got.BlockSize() != 1 {
			t.Errorf("%v for %d columns: %v", d, d.BlockSize()+1, got)
		}
	}
}

// The blocks were written by hand from the layouts in ggml-common.h.
func TestDecodeReadsBlockLayouts(t *testing.T) {
	half16 := func(f float32) []byte { return binary.LittleEndian.AppendUint16(nil, half.F16(f)) }

	q8 := half16(0.5)
	for i := range 32 {
		q8 = append(q8, byte(int8(4*i-128)))
	}
	q40, q41 := half16(-0.25), append(half16(0.125), half16(-1)...)
	for i := range 16 {
		q40 = append(q40, byte(i|(15-i)<<4))
		q41 = append(q41, byte(i|(15-i)<<4))
	}
	tests := []struct {
		d     DType
		block []byte
		want  func(i int) float32
	}{
		{Q8_0, q8, func(i int) float32 { return 0.5 * float32(4*i-128) }},
		{Q4_0, q40, func(i int) float32 {
			if i < 16 {
				return -0.25 * float32(i-8)
			}
			return -0.25 * float32(15-(i-16)-8)
		}},
		{Q4_1, q41, func(i int) float32 {
			if i < 16 {
				return 0.125*float32(i) - 1
			}
			return 0.125*float32(15-(i-16)) - 1
		}},
	}
	for _, tt := range tests {
		got := make([]float32, 64)
		tt.d.Decode(got, append(bytes.Clone(tt.block), tt.block...))
		for i, g := range got {
			if w := tt.want(i % 32); g != w {
				t.Errorf("%v: weight %d: got %v, want %v", tt.d, i, g, w)
			}
		}
	}
}

// The expected codes follow ggml's reference quantisers step by step, in the
// plainest form: one weight at a time, math.Round, no tables.
func TestEncodeFollowsReferenceQuantisers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for trial := range 2000 {
		x := make([]float32, 32)
		for i := range x {
			x[i] = float32(rng.NormFloat64())
			if trial%7 == 0 {
				x[i] = float32(rng.IntN(9)-4) / 2 // exact halves, ties of the extreme
			}
			if trial == 0 {
				x[i] = 0
			}
		}
		for _, d := range []DType{Q8_0, Q4_0, Q4_1} {
			got := make([]byte, d.BlockBytes())
			d.Encode(got, x)
			if want := reference(d, x); !bytes.Equal(got, want) {
				t.Fatalf("trial %d, %v of %v:\n got %x\nwant %x", trial, d, x, got, want)
			}
		}
	}
}

func reference(d DType, x []float32) []byte {
	var amax, extreme float32
	lo, hi := float32(math.MaxFloat32), float32(-math.MaxFloat32)
	for _, v := range x {
		if float32(math.Abs(float64(v))) > amax {
			amax, extreme = float32(math.Abs(float64(v))), v
		}
		lo, hi = min(lo, v), max(hi, v)
	}
	put := func(b []byte, f float32) []byte { return binary.LittleEndian.AppendUint16(b, half.F16(f)) }
	inv := func(f float32) float32 {
		if f == 0 {
			return 0
		}
		return 1 / f
	}
	var out []byte
	var code func(v float32) byte
	switch d {
	case Q8_0:
		scale := amax / 127
		out = put(out, scale)
		for _, v := range x {
			out = append(out, byte(int8(math.Round(float64(v*inv(scale))))))
		}
		return out
	case Q4_0:
		scale := extreme / -8
		out = put(out, scale)
		code = func(v float32) byte {
			p := v * inv(scale)
			s := p + 8.5
			return byte(min(15, int8(s)))
		}
	case Q4_1:
		scale := (hi - lo) / 15
		out = put(put(out, scale), lo)
		code = func(v float32) byte {
			p := (v - lo) * inv(scale)
			s := p + 0.5
			return byte(min(15, int8(s)))
		}
	}
	for i := range 16 {
		out = append(out, code(x[i])|code(x[i+16])<<4)
	}
	return out
}

// The error of a quantised weight is at most half a step; rounding the step to
// f16 adds 2^-11 of the weight (in Q4_0 and Q5_0 the far end may lose a whole
// step). The K types round the steps of sub-blocks and their minimums to 1/63
// of the largest (Q2_K: 1/15, Q3_K: 1/32, Q6_K: 1/128), and trade small errors
// for large ones: their bound is a whole step of the largest range, 2 amax
// of the superblock. The IQ4 types' widest step is 24 of 240, TQ2_0's step is amax.
func TestEncodeDecodeErrorIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	x := make([]float32, 4096)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for _, d := range Weights() {
		b := make([]byte, d.RowBytes(len(x)))
		d.Encode(b, x)
		got := make([]float32, len(x))
		d.Decode(got, b)
		worst, at := 0.0, 0
		for i := range x {
			if e := math.Abs(float64(got[i] - x[i])); e > worst {
				worst, at = e, i
			}
		}
		n := max(32, d.BlockSize())
		block := x[at/n*n:][:n]
		var amax float64
		for _, v := range block {
			amax = max(amax, math.Abs(float64(v)))
		}
		bound := map[DType]float64{F32: 0, F16: amax * 0x1p-11, BF16: amax * 0x1p-8,
			Q8_0: amax/254 + amax*0x1p-10, Q4_0: amax/8 + amax*0x1p-10, Q4_1: amax/15 + amax*0x1p-9,
			Q5_0: amax/16 + amax*0x1p-10, Q5_1: amax/31 + amax*0x1p-9, Q4_K: 2 * amax / 15, Q5_K: 2 * amax / 31, Q6_K: 2 * amax / 63,
			Q2_K: 2 * amax / 3, Q3_K: 2 * amax / 7, IQ4_NL: 24 * amax / 113, IQ4_XS: 24 * amax / 113, TQ2_0: amax/2 + amax*0x1p-10}[d]
		if worst > bound {
			t.Errorf("%v: weight %d: %v became %v, off by %v, bound %v", d, at, x[at], got[at], worst, bound)
		}
	}
}

func TestEncodeSurvivesNaNAndInfinity(t *testing.T) {
	x := make([]float32, 256)
	x[3], x[20], x[70], x[150] = float32(math.NaN()), float32(math.Inf(-1)), float32(math.Inf(1)), math.MaxFloat32
	for _, d := range Weights() {
		d.Encode(make([]byte, d.RowBytes(len(x))), x)
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, d := range Weights() {
		b.Run(d.String(), func(b *testing.B) {
			x := make([]float32, 1<<14)
			src := make([]byte, d.RowBytes(len(x)))
			for i := range src {
				src[i] = byte(37 * i)
			}
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				d.Decode(x, src)
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, d := range Weights() {
		b.Run(d.String(), func(b *testing.B) {
			x := make([]float32, 1<<14)
			for i := range x {
				x[i] = float32(i%97) - 48
			}
			dst := make([]byte, d.RowBytes(len(x)))
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				d.Encode(dst, x)
			}
		})
	}
}
