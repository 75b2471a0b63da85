package pipeline

import (
	"encoding/binary"
	"iter"
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
	pack func(row []byte, to *place)
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

// metaRowBytes is what the records of a row take: whole words where rows are stored one by one.
func (p *Part) metaRowBytes() int64 {
	n := int64(layouts[p.DType].metaBytes) * int64(p.recordsPerRow())
	if p.Group == 1 {
		return alignUp(n, 4)
	}
	return n
}

// metaRows is how many adjacent rows share a stretch of the plane of records.
func (p *Part) metaRows() int {
	if p.Group == 1 {
		return rowQuad
	}
	return p.Group
}

// rowQuad is ROW_QUAD of weights.glsl: the words of as many rows' records lie side by side.
const rowQuad = 4

// pack puts one row, in the checkpoint's blocks, at row r of a piece that starts on a group's
// first row. The piece's memory is zero.
func (p *Part) pack(units, meta []byte, r int, row []byte) {
	switch {
	case p.Lanes > 0:
		p.packLanes(units, meta, r, row)
		return
	case p.Group == 1:
		p.packQuads(units, meta, r, row)
		return
	}
	l := layouts[p.DType]
	group, in := r/p.Group, r%p.Group
	if l.pack == nil {
		at := 16 * (group*p.unitsPerRow()*p.Group + in)
		for ; len(row) >= 16; at += 16 * p.Group {
			*(*[16]byte)(units[at:]) = [16]byte(row)
			row = row[16:]
		}
		if len(row) > 0 {
			copy(units[at:], row)
		}
		return
	}
	l.pack(row, &place{
		units: units[16*(group*p.unitsPerRow()*p.Group+in):], unitStep: 16 * p.Group,
		meta: meta[l.metaBytes*(group*p.recordsPerRow()*p.Group+in):], metaStep: l.metaBytes * p.Group, metaBytes: l.metaBytes,
	})
}

// packPlain packs one row into units and records that follow one another.
func (l layout) packPlain(units, records, row []byte) {
	if l.pack == nil {
		copy(units, row)
		return
	}
	l.pack(row, &place{units: units, unitStep: 16, meta: records, metaStep: l.metaBytes, metaBytes: l.metaBytes})
}

// packQuads is pack where rows are stored one by one.
func (p *Part) packQuads(units, meta []byte, r int, row []byte) {
	s := scratchPool.Get().(*packScratch)
	defer scratchPool.Put(s)
	s.records = zeroed(s.records, int(p.metaRowBytes()))
	layouts[p.DType].packPlain(units[int64(r)*p.unitRowBytes():][:p.unitRowBytes()], s.records, row)
	// What recordPlaces says, in a loop that costs the loading nothing.
	at := rowQuad*(r/rowQuad)*len(s.records) + 4*(r%rowQuad)
	for k := 0; k < len(s.records); k += 4 {
		*(*[4]byte)(meta[at+rowQuad*k:]) = [4]byte(s.records[k:])
	}
}

// packLanes is pack where the words of Lanes rows lie side by side: shaders/include/weights_addr.glsl
// says how.
func (p *Part) packLanes(units, meta []byte, r int, row []byte) {
	s := scratchPool.Get().(*packScratch)
	defer scratchPool.Put(s)
	s.records = zeroed(s.records, int(p.unitRowBytes()+p.metaRowBytes()))
	plain, records := s.records[:p.unitRowBytes()], s.records[p.unitRowBytes():]
	layouts[p.DType].packPlain(plain, records, row)
	p.unitPlaces(r).scatter(units, plain)
	p.recordPlaces(r).scatter(meta, records)
}

// places are where the pieces of a row lie in a plane, in order.
type places struct {
	at   iter.Seq[int]
	size int // of each, in bytes
}

// scatter puts a row where its pieces lie.
func (p places) scatter(plane, row []byte) {
	if p.size == 4 {
		for at := range p.at {
			*(*[4]byte)(plane[at:]) = [4]byte(row)
			row = row[4:]
		}
		return
	}
	for at := range p.at {
		copy(plane[at:][:p.size], row)
		row = row[p.size:]
	}
}

// unitPlaces are where row r's units lie.
func (p *Part) unitPlaces(r int) places {
	if p.Lanes > 0 {
		return p.laneWords(r, p.unitsPerRow(), 16)
	}
	return grouped(r, p.unitsPerRow(), p.Group, 16)
}

// recordPlaces are where row r's records lie.
func (p *Part) recordPlaces(r int) places {
	size := layouts[p.DType].metaBytes
	switch {
	case p.Lanes > 0:
		return p.laneWords(r, p.recordsPerRow(), size)
	case p.Group == 1:
		return grouped(r, int(p.metaRowBytes()/4), rowQuad, 4)
	}
	return grouped(r, p.recordsPerRow(), p.Group, size)
}

// grouped is where the n pieces of row r lie where rows are interleaved piece by piece.
func grouped(r, n, group, size int) places {
	return places{func(yield func(int) bool) {
		for i := range n {
			if !yield(size * ((r/group*n+i)*group + r%group)) {
				return
			}
		}
	}, size}
}

// laneWords is where the words of row r's n units or records of size bytes lie. Of records of two
// bytes, a word has two rows', and each has a place.
func (p *Part) laneWords(r, n, size int) places {
	group, in := r/p.Group, r%p.Group
	pair, lane, odd := in/(2*p.Lanes), in%(2*p.Lanes)/2, in%2
	first := 2*pair*p.Lanes*size + 4*lane
	if size < 4 {
		first += odd * size
	} else {
		first += odd * p.Lanes * size
	}
	return places{func(yield func(int) bool) {
		for i := range n {
			at := (group*n+i)*p.Group*size + first
			for w := 0; w < size; w += 4 {
				if !yield(at) {
					return
				}
				at += 4 * p.Lanes
			}
		}
	}, min(4, size)}
}

// A place is where a row's units and records go.
type place struct {
	units, meta                   []byte // from the row's first ones
	unitStep, metaStep, metaBytes int
}

func (p *place) unit(i int) []byte   { return p.units[i*p.unitStep:][:16] }
func (p *place) record(i int) []byte { return p.meta[i*p.metaStep:][:p.metaBytes] }

// The functions below move eight bytes at a time: loading waits for them, not for the disk,
// if they move one.

func load8(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// fourBits returns the low four bits of x's bytes in ascending order.
func fourBits(x uint64) uint32 {
	x &= 0x0f0f0f0f0f0f0f0f
	x = (x | x>>4) & 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16)
}

// twoBits returns the low two bits of x's bytes in ascending order.
func twoBits(x uint64) uint16 {
	x &= 0x0303030303030303
	x = (x | x>>6) & 0x000f000f000f000f
	x = (x | x>>12) & 0x000000ff000000ff
	return uint16(x | x>>24)
}

// oneBit returns the low bits of x's bytes in ascending order.
func oneBit(x uint64) byte {
	return byte((x & 0x0101010101010101) * 0x0102040810204080 >> 56)
}

// packFourBits sets dst to bits shift to shift + 3 of the bytes of q.
func packFourBits(dst, q []byte, shift int) {
	for i := range len(q) / 8 {
		binary.LittleEndian.PutUint32(dst[4*i:], fourBits(load8(q[8*i:])>>shift))
	}
}

// packTwoBits sets dst to bits shift and shift + 1 of the bytes of q.
func packTwoBits(dst, q []byte, shift int) {
	for i := range len(q) / 8 {
		binary.LittleEndian.PutUint16(dst[2*i:], twoBits(load8(q[8*i:])>>shift))
	}
}

// packOneBit sets dst to bit shift of the bytes of q.
func packOneBit(dst, q []byte, shift int) {
	for i := range len(q) / 8 {
		dst[i] = oneBit(load8(q[8*i:]) >> shift)
	}
}

// packNibbles turns ggml's order (byte i: column i low, column i + 16 high) into ascending
// columns.
func packNibbles(dst, q []byte) {
	packFourBits(dst[:8], q[:16], 0)
	packFourBits(dst[8:], q[:16], 4)
}

func packQ8_0(row []byte, to *place) {
	for i := range len(row) / 34 {
		b := row[i*34:][:34]
		copy(to.record(i), b[:2])
		for h := range 2 {
			u, q := to.unit(2*i+h), b[2+16*h:][:16]
			for j := 0; j < 16; j += 8 {
				binary.LittleEndian.PutUint64(u[j:], load8(q[j:])^0x8080808080808080) // q + 128
			}
		}
	}
}

// packHalfD is Q4_0 and IQ4_NL: a half d and nibbles.
func packHalfD(row []byte, to *place) {
	for i := range len(row) / 18 {
		b := row[i*18:][:18]
		copy(to.record(i), b[:2])
		packNibbles(to.unit(i), b[2:])
	}
}

func packQ4_1(row []byte, to *place) {
	for i := range len(row) / 20 {
		b := row[i*20:][:20]
		copy(to.record(i), b[:4])
		packNibbles(to.unit(i), b[4:])
	}
}

func packQ5_0(row []byte, to *place) {
	for i := range len(row) / 22 {
		b := row[i*22:][:22]
		r := to.record(i / 2)
		copy(r[2*(i%2):][:2], b[:2])
		copy(r[4+4*(i%2):][:4], b[2:6])
		packNibbles(to.unit(i), b[6:])
	}
}

func packQ5_1(row []byte, to *place) {
	for i := range len(row) / 24 {
		b := row[i*24:][:24]
		copy(to.record(i), b[:8])
		packNibbles(to.unit(i), b[8:])
	}
}

// The K types' blocks: in the order of the bits that ggml takes from the same bytes, columns
// 32 at a time.

func packQ2_K(row []byte, to *place) {
	for i := range len(row) / 84 {
		b := row[i*84:][:84]
		scales, q, d := b[:16], b[16:80], b[80:]
		r := to.record(i)
		copy(r, d)
		copy(r[4:], scales)
		packQuarters(to, 4*i, q)
	}
}

// packQuarters is the two low bits of a Q2_K or Q3_K block: 128 columns share 32 bytes.
func packQuarters(to *place, first int, q []byte) {
	for u := range 4 {
		dst := to.unit(first + u)
		for h := range 2 {
			packTwoBits(dst[8*h:][:8], q[u/2*32:][:32], 2*(2*u%4+h))
		}
	}
}

func packQ3_K(row []byte, to *place) {
	for i := range len(row) / 110 {
		b := row[i*110:][:110]
		mask, q, scales, d := b[:32], b[32:96], b[96:108], b[108:]
		r := to.record(i)
		copy(r, d)
		copy(r[4:], scales)
		for j := range 8 {
			packOneBit(r[16+4*j:][:4], mask, j)
		}
		packQuarters(to, 4*i, q)
	}
}

// packHalves is the four low bits of a Q4_K or Q5_K block: 64 columns share 32 bytes.
func packHalves(to *place, first int, q []byte) {
	for u := range 8 {
		packFourBits(to.unit(first+u), q[u/2*32:][:32], 4*(u%2))
	}
}

func packQ4_K(row []byte, to *place) {
	for i := range len(row) / 144 {
		b := row[i*144:][:144]
		copy(to.record(i), b[:16])
		packHalves(to, 8*i, b[16:])
	}
}

func packQ5_K(row []byte, to *place) {
	for i := range len(row) / 176 {
		b := row[i*176:][:176]
		r, high := to.record(i), b[16:48]
		copy(r, b[:16])
		for j := range 8 {
			packOneBit(r[16+4*j:][:4], high, j)
		}
		packHalves(to, 8*i, b[48:])
	}
}

func packQ6_K(row []byte, to *place) {
	for i := range len(row) / 210 {
		b := row[i*210:][:210]
		low, high, scales, d := b[:128], b[128:192], b[192:208], b[208:]
		r := to.record(i)
		copy(r, d)
		copy(r[4:], scales)
		for j := range 8 { // 128 columns share 64 bytes of low and 32 of high bits
			packTwoBits(r[20+8*j:][:8], high[j/4*32:][:32], 2*(j%4))
			packFourBits(to.unit(8*i+j), low[j/4*64+j%2*32:][:32], 4*(j/2%2))
		}
	}
}

func packIQ4_XS(row []byte, to *place) {
	for i := range len(row) / 136 {
		b := row[i*136:][:136]
		r := to.record(i)
		// d, then the scales' high bits as ggml has them; the low nibbles follow.
		binary.LittleEndian.PutUint32(r, binary.LittleEndian.Uint32(b))
		copy(r[4:], b[4:8])
		for u := range 8 {
			packNibbles(to.unit(8*i+u), b[8+16*u:][:16])
		}
	}
}
