package kernels

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"pumice/internal/dtype"
)

// BenchmarkPack measures the host's part of loading: bytes of the checkpoint laid out as kernels
// read them, one goroutine.
func BenchmarkPack(b *testing.B) {
	for _, kind := range []DType{dtype.F32, dtype.F16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1, dtype.Q4_K, dtype.Q6_K} {
		for _, group := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/group%d", kind, group), func(b *testing.B) {
				const rows, cols = 512, 4096
				p := Packed{DType: kind, Rows: rows, Cols: cols, Group: group}
				src := randomRows(rand.New(rand.NewPCG(1, 2)), kind, rows, cols)
				size := int(kind.RowBytes(cols))
				units, meta := make([]byte, p.UnitBytes()), make([]byte, p.MetaBytes())
				b.SetBytes(int64(len(src)))
				for b.Loop() {
					clear(units)
					clear(meta)
					for r := range rows {
						p.Pack(units, meta, r, src[r*size:][:size])
					}
				}
			})
		}
	}
}

// TestPackKMatchesColumns compares with the columns one by one, as ggml's dequantize_row functions
// find them.
func TestPackKMatchesColumns(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	low4 := func(q []byte, c int) byte { return q[c/64*32+c%32] >> (4 * (c / 32 % 2)) & 15 }
	low2 := func(q []byte, c int) byte { return q[c/128*32+c%32] >> (2 * (c / 32 % 4)) & 3 }
	mask := func(q []byte, c int) byte { return q[c%32] >> (c / 32) & 1 }
	for _, x := range []struct {
		kind      DType
		low, high func(b []byte, c int) byte // high is nil without
		lowBits   int
		highBits  int
		highAt    int // in the record
	}{
		{dtype.TQ2_0, func(b []byte, c int) byte { return low2(b, c) }, nil, 2, 0, 0},
		{dtype.Q2_K, func(b []byte, c int) byte { return low2(b[16:], c) }, nil, 2, 0, 0},
		{dtype.Q3_K, func(b []byte, c int) byte { return low2(b[32:], c) }, mask, 2, 1, 16},
		{dtype.Q4_K, func(b []byte, c int) byte { return low4(b[16:], c) }, nil, 4, 0, 0},
		{dtype.Q5_K, func(b []byte, c int) byte { return low4(b[48:], c) }, func(b []byte, c int) byte { return mask(b[16:], c) }, 4, 1, 16},
		{dtype.Q6_K, func(b []byte, c int) byte { return b[c/128*64+c%64] >> (4 * (c / 64 % 2)) & 15 },
			func(b []byte, c int) byte { return b[128+c/128*32+c%32] >> (2 * (c / 32 % 4)) & 3 }, 4, 2, 20},
	} {
		p := Packed{DType: x.kind, Rows: 1, Cols: 512, Group: 1}
		row := make([]byte, x.kind.RowBytes(512))
		for i := range row {
			row[i] = byte(rnd.Uint32())
		}
		units, meta := make([]byte, p.UnitBytes()), make([]byte, p.MetaBytes())
		formats[x.kind].packPlain(units, meta, row)
		for block := range 2 {
			b := row[block*x.kind.BlockBytes():]
			want := make([]byte, 256*x.lowBits/8)
			for c := range 256 {
				want[c*x.lowBits/8] |= x.low(b, c) << (c * x.lowBits % 8)
			}
			if got := units[block*len(want):][:len(want)]; !bytes.Equal(got, want) {
				t.Errorf("%s block %d: low bits %x, want %x", x.kind, block, got, want)
			}
			if x.high == nil {
				continue
			}
			want = make([]byte, 256*x.highBits/8)
			unit, fields := 128/x.lowBits, 8/x.lowBits // columns of a unit, fields of a byte
			for c := range 256 {
				field, n := c%unit/(4*fields)*fields+c%fields, c%(4*fields)/fields // high_at of weights.glsl
				bit := x.highBits * field
				want[c/unit*(unit*x.highBits/8)+4*(bit/8)+n] |= x.high(b, c) << (bit % 8)
			}
			if got := meta[block*formats[x.kind].metaBytes+x.highAt:][:len(want)]; !bytes.Equal(got, want) {
				t.Errorf("%s block %d: high bits %x, want %x", x.kind, block, got, want)
			}
		}
	}
}
