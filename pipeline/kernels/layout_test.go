package kernels

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pumice/internal/dtype"
)

// unpack reads a part back by the formulas of shaders/include/weights.glsl.
func unpack(p Packed, units, scales []byte, row int) []float32 {
	unitCols := map[DType]int{dtype.F32: 4, dtype.F16: 8, dtype.BF16: 8, dtype.Q8_0: 16, dtype.Q4_0: 32, dtype.Q4_1: 32}[p.DType]
	nunits, blocks, group, size := ceilDiv(p.Cols, unitCols), p.Cols/32, p.Group, formats[p.DType].metaBytes
	scale := func(block int) []byte { return scales[size*((row/group*blocks+block)*group+row%group):] }
	switch {
	case p.Lanes > 0:
		units, scales = gather(units, p.UnitOffsets(row)), gather(scales, p.RecordOffsets(row))
		row, group = 0, 1
	case p.Group == 1:
		perWord := max(1, 4/max(1, size))
		words := ceilDiv(blocks, perWord)
		scale = func(block int) []byte {
			return scales[4*((row/4*words+block/perWord)*4+row%4)+size*(block%perWord):]
		}
	}
	out := make([]float32, p.Cols)
	half := func(b []byte) float32 {
		var f [1]float32
		dtype.F16.Decode(f[:], b[:2])
		return f[0]
	}
	for c := range out {
		unit := units[16*((row/group*nunits+c/unitCols)*group+row%group):][:16]
		i := c % unitCols
		word := func(bits int) uint32 {
			w := binary.LittleEndian.Uint32(unit[i*bits/32*4:])
			return w >> (i * bits % 32) & (1<<bits - 1)
		}
		switch p.DType {
		case dtype.F32:
			out[c] = math.Float32frombits(binary.LittleEndian.Uint32(unit[4*i:]))
		case dtype.F16:
			out[c] = half(unit[2*i:])
		case dtype.BF16:
			out[c] = math.Float32frombits(word(16) << 16)
		case dtype.Q8_0:
			out[c] = half(scale(c/32)) * float32(int(word(8))-128)
		case dtype.Q4_0:
			out[c] = half(scale(c/32)) * float32(int(word(4))-8)
		case dtype.Q4_1:
			out[c] = float32(half(scale(c/32))*float32(word(4))) + half(scale(c / 32)[2:])
		}
	}
	return out
}

// gather is what lies at places of a plane.
func gather(plane []byte, from Offsets) []byte {
	var out []byte
	for at := range from.At {
		out = append(out, plane[at:][:from.Size]...)
	}
	return out
}

func randomRows(rnd *rand.Rand, t DType, rows, cols int) []byte {
	f := make([]float32, rows*cols)
	for i := range f {
		f[i] = float32(rnd.NormFloat64())
	}
	b := make([]byte, int64(rows)*t.RowBytes(cols))
	t.Encode(b, f)
	return b
}

func TestPackRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]DType{dtype.F32, dtype.F16, dtype.BF16, dtype.Q8_0, dtype.Q4_0, dtype.Q4_1}).Draw(t, "type")
		rows := rapid.IntRange(1, 70).Draw(t, "rows")
		cols := kind.BlockSize() * rapid.IntRange(1, 200/kind.BlockSize()).Draw(t, "blocks")
		p := Packed{Rows: rows, DType: kind, Group: rapid.SampledFrom([]int{1, 8, 16, 32}).Draw(t, "group"), Cols: cols}
		src := randomRows(rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed"))), kind, rows, cols)
		size := int(kind.RowBytes(cols))
		units, scales := make([]byte, p.UnitBytes()), make([]byte, p.MetaBytes())
		for r := range rows {
			p.Pack(units, scales, r, src[r*size:][:size])
		}
		want := make([]float32, cols)
		for r := range rows {
			kind.Decode(want, src[r*size:][:size])
			if d := cmp.Diff(want, unpack(p, units, scales, r)); d != "" {
				t.Fatalf("row %d (-want +got):\n%s", r, d)
			}
		}
		for r := rows; r < p.UnitRows(); r++ {
			for c, w := range unpack(p, units, scales, r) {
				if w != 0 { // a scale of zero makes it so for every type
					t.Fatalf("padding row %d, column %d is %g", r, c, w)
				}
			}
		}
	})
}

// The addr kernels' layout has the same words as rows one by one, in the places that
// shaders/include/weights_addr.glsl tells its lanes to look.
func TestPackForLanes(t *testing.T) {
	for _, kind := range WeightTypes() {
		for _, lanes := range []int{4, 8, 16} {
			cols := max(64, 2*kind.BlockSize())
			p := Packed{Rows: 3*lanes*addrGroupRows - 5, DType: kind, Group: lanes * addrGroupRows, Lanes: lanes, Cols: cols}
			src := make([]byte, int64(p.Rows)*kind.RowBytes(cols))
			rnd := rand.New(rand.NewPCG(uint64(lanes), uint64(kind)))
			for i := range src {
				src[i] = byte(rnd.Uint32())
			}
			size := int(kind.RowBytes(cols))
			units, meta := make([]byte, p.UnitBytes()), make([]byte, p.MetaBytes())
			unitBytes, metaBytes := p.UnitRowBytes(), p.MetaRowBytes()
			wantUnits, wantMeta := make([]byte, int64(p.Rows)*unitBytes), make([]byte, int64(p.Rows)*metaBytes)
			for row := range p.Rows {
				p.Pack(units, meta, row, src[row*size:][:size])
				formats[kind].packPlain(wantUnits[int64(row)*unitBytes:], wantMeta[int64(row)*metaBytes:], src[row*size:][:size])
			}
			record := formats[kind].metaBytes
			for base := 0; base < p.Rows; base += p.Group {
				for r := range addrGroupRows {
					for lane := range lanes {
						row := base + r/2*2*lanes + 2*lane + r%2
						if row >= p.Rows {
							continue
						}
						for u := range p.UnitsPerRow() {
							for k := range 4 {
								at := 16*base*p.UnitsPerRow() + 4*((u*p.Group+r*lanes)*4+k*lanes+lane)
								if want := wantUnits[16*(row*p.UnitsPerRow()+u)+4*k:][:4]; !bytes.Equal(units[at:at+4], want) {
									t.Fatalf("%s, %d lanes: row %d, unit %d, word %d", kind, lanes, row, u, k)
								}
							}
						}
						for i := range p.RecordsPerRow() {
							want := wantMeta[record*(row*p.RecordsPerRow()+i):][:record]
							var got []byte
							first := record * base * p.RecordsPerRow()
							if record == 2 { // a word has two rows' records
								at := first + 2*(i*p.Group+r/2*2*lanes) + 4*lane + 2*(r%2)
								got = meta[at : at+2]
							} else {
								for w := range record / 4 {
									at := first + 4*((i*p.Group+r*lanes)*record/4+w*lanes+lane)
									got = append(got, meta[at:at+4]...)
								}
							}
							if !bytes.Equal(got, want) {
								t.Fatalf("%s, %d lanes: row %d, record %d", kind, lanes, row, i)
							}
						}
					}
				}
			}
		}
	}
}
