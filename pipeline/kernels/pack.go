package kernels

import "encoding/binary"

// A rowTarget is where a row's units and records go.
type rowTarget struct {
	units, meta                   []byte // from the row's first ones
	unitStep, metaStep, metaBytes int
}

func (p *rowTarget) unit(i int) []byte   { return p.units[i*p.unitStep:][:16] }
func (p *rowTarget) record(i int) []byte { return p.meta[i*p.metaStep:][:p.metaBytes] }

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

// evenBytes returns bytes 0, 2, 4 and 6 of x.
func evenBytes(x uint64) uint32 {
	x &= 0x00ff00ff00ff00ff
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16)
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

// packHigh sets dst to the high bits of the columns of a unit of nibbles: `bits` bits from bit shift on of the bytes of q, of
// each column one. Those of the two columns in byte i of a word of nibbles are side by side in byte i.
func packHigh(dst, q []byte, shift, bits int) {
	var words [2]uint32
	for j := range 4 {
		x := load8(q[8*j:]) >> shift & (0x0101010101010101 * (1<<bits - 1))
		at := 2 * bits * j
		words[at/8] |= evenBytes(x|x>>(8-bits)) << (at % 8)
	}
	for i := range bits {
		binary.LittleEndian.PutUint32(dst[4*i:], words[i])
	}
}

// packHighMask is packHigh of one bit of each column, in ascending order in 32 bits.
func packHighMask(dst, mask []byte) {
	m, high := binary.LittleEndian.Uint32(mask), uint32(0)
	for j := range 4 {
		x := m >> (8 * j) & 0xff
		x = (x | x<<12) & 0x000f000f
		x = (x | x<<6) & 0x03030303
		high |= x << (2 * j)
	}
	binary.LittleEndian.PutUint32(dst, high)
}

// packHighQuarters sets dst to bit shift of the 32 bytes of q, of each column of half a unit of pairs of bits one. Those of the
// four columns in byte i of a word of the unit are side by side in byte i.
func packHighQuarters(dst, q []byte, shift int) {
	var high uint32
	for i := range 4 {
		x := load8(q[8*i:]) >> shift & 0x0101010101010101
		x = (x | x>>7 | x>>14 | x>>21) & 0x0000000f0000000f
		pair := uint32(x|x>>24) & 0xffff // bytes 2 (i % 2) and 2 (i % 2) + 1 of word i / 2
		high |= pair << (16*(i%2) + 4*(i/2))
	}
	binary.LittleEndian.PutUint32(dst, high)
}

// packNibbles turns ggml's order (byte i: column i low, column i + 16 high) into ascending
// columns.
func packNibbles(dst, q []byte) {
	packFourBits(dst[:8], q[:16], 0)
	packFourBits(dst[8:], q[:16], 4)
}

func packQ8_0(row []byte, to *rowTarget) {
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
func packHalfD(row []byte, to *rowTarget) {
	for i := range len(row) / 18 {
		b := row[i*18:][:18]
		copy(to.record(i), b[:2])
		packNibbles(to.unit(i), b[2:])
	}
}

func packQ4_1(row []byte, to *rowTarget) {
	for i := range len(row) / 20 {
		b := row[i*20:][:20]
		copy(to.record(i), b[:4])
		packNibbles(to.unit(i), b[4:])
	}
}

func packQ5_0(row []byte, to *rowTarget) {
	for i := range len(row) / 22 {
		b := row[i*22:][:22]
		r := to.record(i / 2)
		copy(r[2*(i%2):][:2], b[:2])
		packHighMask(r[4+4*(i%2):], b[2:6])
		packNibbles(to.unit(i), b[6:])
	}
}

func packQ5_1(row []byte, to *rowTarget) {
	for i := range len(row) / 24 {
		b := row[i*24:][:24]
		r := to.record(i)
		copy(r, b[:4])
		packHighMask(r[4:], b[4:8])
		packNibbles(to.unit(i), b[8:])
	}
}

// The K types' blocks: in the order of the bits that ggml takes from the same bytes, columns
// 32 at a time.

func packQ2_K(row []byte, to *rowTarget) {
	for i := range len(row) / 84 {
		b := row[i*84:][:84]
		scales, q, d := b[:16], b[16:80], b[80:]
		r := to.record(i)
		copy(r, d)
		copy(r[4:], scales)
		packQuarters(to, 4*i, q)
	}
}

// packQuarters is the two low bits of a Q2_K, Q3_K or TQ2_0 block: 128 columns share 32 bytes.
func packQuarters(to *rowTarget, first int, q []byte) {
	for u := range 4 {
		dst := to.unit(first + u)
		for h := range 2 {
			packTwoBits(dst[8*h:][:8], q[u/2*32:][:32], 2*(2*u%4+h))
		}
	}
}

func packQ3_K(row []byte, to *rowTarget) {
	for i := range len(row) / 110 {
		b := row[i*110:][:110]
		mask, q, scales, d := b[:32], b[32:96], b[96:108], b[108:]
		r := to.record(i)
		copy(r, d)
		copy(r[4:], scales)
		for j := range 8 {
			packHighQuarters(r[16+4*j:], mask, j)
		}
		packQuarters(to, 4*i, q)
	}
}

// packHalves is the four low bits of a Q4_K or Q5_K block: 64 columns share 32 bytes.
func packHalves(to *rowTarget, first int, q []byte) {
	for u := range 8 {
		packFourBits(to.unit(first+u), q[u/2*32:][:32], 4*(u%2))
	}
}

func packQ4_K(row []byte, to *rowTarget) {
	for i := range len(row) / 144 {
		b := row[i*144:][:144]
		copy(to.record(i), b[:16])
		packHalves(to, 8*i, b[16:])
	}
}

func packQ5_K(row []byte, to *rowTarget) {
	for i := range len(row) / 176 {
		b := row[i*176:][:176]
		r, high := to.record(i), b[16:48]
		copy(r, b[:16])
		for j := range 8 {
			packHigh(r[16+4*j:], high, j, 1)
		}
		packHalves(to, 8*i, b[48:])
	}
}

func packQ6_K(row []byte, to *rowTarget) {
	for i := range len(row) / 210 {
		b := row[i*210:][:210]
		low, high, scales, d := b[:128], b[128:192], b[192:208], b[208:]
		r := to.record(i)
		copy(r, d)
		copy(r[4:], scales)
		for j := range 8 { // 128 columns share 64 bytes of low and 32 of high bits
			packHigh(r[20+8*j:], high[j/4*32:], 2*(j%4), 2)
			packFourBits(to.unit(8*i+j), low[j/4*64+j%2*32:][:32], 4*(j/2%2))
		}
	}
}

func packIQ4_XS(row []byte, to *rowTarget) {
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

func packTQ2_0(row []byte, to *rowTarget) {
	for i := range len(row) / 66 {
		b := row[i*66:][:66]
		copy(to.record(i), b[64:])
		packQuarters(to, 4*i, b)
	}
}
