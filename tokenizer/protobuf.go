package tokenizer

import (
	"encoding/binary"
	"errors"
	"math"
)

// protoReader reads the fields of one protocol-buffer message in wire format.
type protoReader struct {
	data []byte // bytes not yet read
	err  error

	field int    // number of the current field
	wire  int    // its wire type: 0 varint, 1 fixed64, 2 bytes, 5 fixed32
	num   uint64 // value, for the numeric wire types
	bytes []byte // value, for wire type 2; shares the input's memory
}

var errWire = errors.New("broken protocol buffer")

func (p *protoReader) varint() uint64 {
	v, n := binary.Uvarint(p.data)
	if n <= 0 {
		p.err = errWire
		p.data = nil
		return 0
	}
	p.data = p.data[n:]
	return v
}

func (p *protoReader) take(n uint64) []byte {
	if n > uint64(len(p.data)) {
		p.err = errWire
		p.data = nil
		return make([]byte, 8)
	}
	b := p.data[:n]
	p.data = p.data[n:]
	return b
}

// next reads the next field, and returns false at the end or on error.
func (p *protoReader) next() bool {
	if p.err != nil || len(p.data) == 0 {
		return false
	}
	key := p.varint()
	p.field, p.wire = int(key>>3), int(key&7)
	if key>>3 == 0 || key>>3 > 1<<29-1 {
		p.err = errWire
	}
	switch p.wire {
	case 0:
		p.num = p.varint()
	case 1:
		p.num = binary.LittleEndian.Uint64(p.take(8))
	case 2:
		p.bytes = p.take(p.varint())
	case 5:
		p.num = uint64(binary.LittleEndian.Uint32(p.take(4)))
	default:
		p.err = errWire
	}
	return p.err == nil
}

// The next methods return the value of the current field as a type; a wire type that doesn't fit is an error.

func (p *protoReader) check(wire int) bool {
	if p.wire != wire && p.err == nil {
		p.err = errWire
	}
	return p.err == nil
}

func (p *protoReader) int(v *int) {
	if p.check(0) {
		*v = int(int32(p.num))
	}
}

func (p *protoReader) bool(v *bool) {
	if p.check(0) {
		*v = p.num != 0
	}
}

func (p *protoReader) float(v *float32) {
	if p.check(5) {
		*v = math.Float32frombits(uint32(p.num))
	}
}

func (p *protoReader) string(v *string) {
	if p.check(2) {
		*v = string(p.bytes)
	}
}

func (p *protoReader) message() *protoReader {
	if !p.check(2) {
		return &protoReader{}
	}
	return &protoReader{data: p.bytes}
}
