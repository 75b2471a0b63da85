package pipeline

import (
	"encoding/binary"
	"slices"

	"pumice/internal/dtype"
)

// A layout is how the device stores a type: shaders/include/weights.glsl has the picture. A
// kernel reads a type if and only if it has a layout here.
type layout struct {
	unitCols  int // columns in a unit of 16 bytes
	metaCols  int // columns that a record of metadata serves; 0 = the type has none
	metaBytes int // of a record
	// pack moves one row from the checkpoint's blocks to units and records; nil = units are the
	// row's bytes.
	pack func(row []byte, unit, record func(i int) []byte)
}

var layouts = map[DType]layout{
	dtype.F32:    {unitCols: 4},
	dtype.F16:    {unitCols: 8},
	dtype.BF16:   {unitCols: 8},
	dtype.Q8_0:   {16, 32, 2, packQ8_0},
	dtype.Q4_0:   {32, 32, 2, packHalfD},
	dtype.IQ4_NL: {32, 32, 2, packHalfD},
	dtype.Q4_1:   {32, 32, 4, packQ4_1},
	dtype.Q5_0:   {32, 64, 12, packQ5_0},
	dtype.Q5_1:   {32, 32, 8, packQ5_1},
	dtype.Q2_K:   {64, 256, 20, packQ2_K},
	dtype.Q3_K:   {64, 256, 48, packQ3_K},
	dtype.Q4_K:   {32, 256, 16, packQ4_K},
	dtype.Q5_K:   {32, 256, 48, packQ5_K},
	dtype.Q6_K:   {32, 256, 84, packQ6_K},
	dtype.IQ4_XS: {32, 256, 8, packIQ4_XS},
}

// WeightTypes lists the types that kernels read.
func WeightTypes() []DType {
	var list []DType
	for t := range layouts {
		list = append(list, t)
	}
	slices.Sort(list)
	return list
}

// rowBytes is what a row of units takes, or of records if those are larger.
func (l layout) rowBytes(cols int) int64 {
	n := 16 * int64(ceilDiv(cols, l.unitCols))
	if l.metaCols > 0 {
		n = max(n, int64(l.metaBytes)*int64(ceilDiv(cols, l.metaCols)))
	}
	return n
}

func (p *Part) unitsPerRow() int { return ceilDiv(p.cols, layouts[p.DType].unitCols) }

func (p *Part) recordsPerRow() int {
	if n := layouts[p.DType].metaCols; n > 0 {
		return ceilDiv(p.cols, n)
	}
	return 0
}

func (p *Part) unitRowBytes() int64 { return 16 * int64(p.unitsPerRow()) }
func (p *Part) metaRowBytes() int64 {
	return int64(layouts[p.DType].metaBytes) * int64(p.recordsPerRow())
}

// pack puts one row, in the checkpoint's blocks, at row r of a piece that starts on a group's
// first row. The piece's memory is zero.
func (p *Part) pack(units, meta []byte, r int, row []byte) {
	l := layouts[p.DType]
	group, in := r/p.Group, r%p.Group
	unit := func(u int) []byte { return units[16*((group*p.unitsPerRow()+u)*p.Group+in):][:16] }
	if l.pack == nil {
		for u := range p.unitsPerRow() {
			copy(unit(u), row[16*u:min(16*u+16, len(row))])
		}
		return
	}
	records := p.recordsPerRow()
	l.pack(row, unit, func(i int) []byte {
		return meta[l.metaBytes*((group*records+i)*p.Group+in):][:l.metaBytes]
	})
}

// blocks calls f for every block of a row.
func blocks(row []byte, size int, f func(i int, b []byte)) {
	for i := range len(row) / size {
		f(i, row[i*size:][:size])
	}
}

// packNibbles turns ggml's order (byte i: column i low, column i + 16 high) into ascending
// columns.
func packNibbles(dst, q []byte) {
	for i := range 8 {
		lo, hi := q[2*i], q[2*i+1]
		dst[i] = lo&15 | hi<<4
		dst[8+i] = lo>>4 | hi&0xf0
	}
}

// packFields sets columns 0 to 4 * 32 / bits of a unit to fields of 2 or 4 bits.
func packFields(dst []byte, bits int, field func(c int) byte) {
	per := 8 / bits
	for c := range len(dst) * per {
		dst[c/per] |= field(c) << (bits * (c % per))
	}
}

func packQ8_0(row []byte, unit, record func(int) []byte) {
	blocks(row, 34, func(i int, b []byte) {
		copy(record(i), b[:2])
		for h := range 2 {
			u, q := unit(2*i+h), b[2+16*h:][:16]
			for j, v := range q {
				u[j] = v ^ 0x80 // q + 128
			}
		}
	})
}

// packHalfD is Q4_0 and IQ4_NL: a half d and nibbles.
func packHalfD(row []byte, unit, record func(int) []byte) {
	blocks(row, 18, func(i int, b []byte) {
		copy(record(i), b[:2])
		packNibbles(unit(i), b[2:])
	})
}

func packQ4_1(row []byte, unit, record func(int) []byte) {
	blocks(row, 20, func(i int, b []byte) {
		copy(record(i), b[:4])
		packNibbles(unit(i), b[4:])
	})
}

func packQ5_0(row []byte, unit, record func(int) []byte) {
	blocks(row, 22, func(i int, b []byte) {
		r := record(i / 2)
		copy(r[2*(i%2):][:2], b[:2])
		copy(r[4+4*(i%2):][:4], b[2:6])
		packNibbles(unit(i), b[6:])
	})
}

func packQ5_1(row []byte, unit, record func(int) []byte) {
	blocks(row, 24, func(i int, b []byte) {
		copy(record(i), b[:8])
		packNibbles(unit(i), b[8:])
	})
}

func packQ2_K(row []byte, unit, record func(int) []byte) {
	blocks(row, 84, func(i int, b []byte) {
		scales, q, d := b[:16], b[16:80], b[80:]
		r := record(i)
		copy(r, d)
		copy(r[4:], scales)
		for u := range 4 {
			packFields(unit(4*i+u), 2, func(c int) byte { return twoBits(q, 64*u+c) })
		}
	})
}

// twoBits is column c of the low bits of a Q2_K or Q3_K block: 128 columns share 32 bytes.
func twoBits(q []byte, c int) byte { return q[c/128*32+c%32] >> (2 * (c / 32 % 4)) & 3 }

func packQ3_K(row []byte, unit, record func(int) []byte) {
	blocks(row, 110, func(i int, b []byte) {
		mask, q, scales, d := b[:32], b[32:96], b[96:108], b[108:]
		r := record(i)
		copy(r, d)
		copy(r[4:], scales)
		for c := range 256 {
			r[16+c/8] |= (mask[c%32] >> (c / 32) & 1) << (c % 8)
		}
		for u := range 4 {
			packFields(unit(4*i+u), 2, func(c int) byte { return twoBits(q, 64*u+c) })
		}
	})
}

// nibbleK is column c of the low bits of a Q4_K or Q5_K block: 64 columns share 32 bytes.
func nibbleK(q []byte, c int) byte { return q[c/64*32+c%32] >> (4 * (c / 32 % 2)) & 15 }

func packQ4_K(row []byte, unit, record func(int) []byte) {
	blocks(row, 144, func(i int, b []byte) {
		copy(record(i), b[:16])
		for u := range 8 {
			packFields(unit(8*i+u), 4, func(c int) byte { return nibbleK(b[16:], 32*u+c) })
		}
	})
}

func packQ5_K(row []byte, unit, record func(int) []byte) {
	blocks(row, 176, func(i int, b []byte) {
		r, high := record(i), b[16:48]
		copy(r, b[:16])
		for c := range 256 {
			r[16+c/8] |= (high[c%32] >> (c / 32) & 1) << (c % 8)
		}
		for u := range 8 {
			packFields(unit(8*i+u), 4, func(c int) byte { return nibbleK(b[48:], 32*u+c) })
		}
	})
}

func packQ6_K(row []byte, unit, record func(int) []byte) {
	blocks(row, 210, func(i int, b []byte) {
		low, high, scales, d := b[:128], b[128:192], b[192:208], b[208:]
		r := record(i)
		copy(r, d)
		copy(r[4:], scales)
		for c := range 256 { // 128 columns share 64 bytes of low and 32 of high bits
			r[20+c/4] |= (high[c/128*32+c%32] >> (2 * (c / 32 % 4)) & 3) << (2 * (c % 4))
		}
		for u := range 8 {
			packFields(unit(8*i+u), 4, func(k int) byte {
				c := 32*u + k
				return low[c/128*64+c%64] >> (4 * (c / 64 % 2)) & 15
			})
		}
	})
}

func packIQ4_XS(row []byte, unit, record func(int) []byte) {
	blocks(row, 136, func(i int, b []byte) {
		r := record(i)
		// d, then the scales' high bits as ggml has them; the low nibbles follow.
		binary.LittleEndian.PutUint32(r, binary.LittleEndian.Uint32(b))
		copy(r[4:], b[4:8])
		for u := range 8 {
			packNibbles(unit(8*i+u), b[8+16*u:][:16])
		}
	})
}
