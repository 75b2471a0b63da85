package checkpoint

import (
	"encoding/binary"
	"fmt"
	"math"
)

// GGUF's value types (enum gguf_metadata_value_type).
const (
	ggufU8 uint32 = iota
	ggufI8
	ggufU16
	ggufI16
	ggufU32
	ggufI32
	ggufF32
	ggufBool
	ggufString
	ggufArray
	ggufU64
	ggufI64
	ggufF64
)

// ggufScalarBytes has the size of each value type; 0 if it has no fixed size.
var ggufScalarBytes = [...]int{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

// maxGGUFText bounds the bytes of one string, or of one array of strings.
const maxGGUFText = 256 << 20

// ggufPairs are the key-value pairs of a file. Values stay in the mapped file
// and are decoded when they are read; opening only finds their ends.
type ggufPairs struct {
	file   string
	data   []byte // the file; nil after Close
	order  []string
	values map[string]ggufValue
}

// ggufValue is the type and position of one value.
type ggufValue struct {
	typ        uint32 // type of the value, or of the elements of an array
	array      bool
	count      int // number of elements; 1 for a scalar
	start, end int // offsets of the elements in the file
}

// read reads one pair.
func (p *ggufPairs) read(c *cursor) {
	c.pause()
	start := c.pos
	key := c.name()
	v := ggufValue{typ: c.u32(), count: 1}
	if c.err != nil {
		return
	}
	if _, ok := p.values[key]; ok {
		c.fail(start, "the key %q appears twice", key)
		return
	}
	if v.typ == ggufArray {
		v.array = true
		v.typ = c.u32()
		if v.typ == ggufArray && c.err == nil {
			c.err = &UnsupportedError{c.file, "the array of arrays " + quote(key)}
			return
		}
	}
	if v.typ >= uint32(len(ggufScalarBytes)) {
		c.fail(start, "the key %q has a value of unknown type %d", key, v.typ)
		return
	}
	size := ggufScalarBytes[v.typ]
	if v.array {
		// A string takes at least 8 bytes.
		v.count = c.count("elements of "+key, max(size, 1), math.MaxInt)
		if v.typ == ggufString && c.err == nil && v.count > (len(c.data)-c.pos)/8 {
			c.fail(start, "%d strings in %q, %d bytes are left in the file"+incomplete, v.count, key, len(c.data)-c.pos)
		}
	}
	if c.err != nil {
		return
	}
	v.start = c.pos
	if v.typ == ggufString {
		for i := 0; i < v.count && c.err == nil; i++ {
			if i%4096 == 0 {
				c.pause()
			}
			c.bytes(c.u64())
		}
	} else {
		c.bytes(uint64(size) * uint64(v.count)) // can't overflow, as c.count has checked
	}
	v.end = c.pos
	p.order = append(p.order, key)
	p.values[key] = v
}

// raw returns a value in the file's encoding: the number of its type, for an
// array also the type and number of its elements, and the bytes.
func (p *ggufPairs) raw(key string) []byte {
	v := p.values[key]
	var b []byte
	if v.array {
		b = binary.LittleEndian.AppendUint32(b, ggufArray)
	}
	b = binary.LittleEndian.AppendUint32(b, v.typ)
	if v.array {
		b = binary.LittleEndian.AppendUint64(b, uint64(v.count))
	}
	return append(b, p.data[v.start:v.end]...)
}

// alignment returns general.alignment.
func (p *ggufPairs) alignment() (int64, error) {
	const key = "general.alignment"
	v, ok := p.values[key]
	if !ok {
		return ggufAlignment, nil
	}
	x, offset, err := p.value(key)
	n, isNumber := x.(number)
	if err != nil || v.array || !isNumber || !n.integer || n.i <= 0 || n.i > 1<<30 || n.i&(n.i-1) != 0 {
		return 0, badFormat(p.file, offset, "%s: want a power of two, got %s", key, describe(x))
	}
	return n.i, nil
}

func (p *ggufPairs) keys() []string { return p.order }

func (p *ggufPairs) length(key string) int { return p.values[key].count }

func (p *ggufPairs) object(key string) (source, error) {
	return nil, fmt.Errorf("GGUF has no objects")
}

func (p *ggufPairs) value(key string) (x any, offset int64, err error) {
	v, ok := p.values[key]
	if !ok {
		return nil, -1, nil
	}
	err = Guard(func() (err error) {
		x, err = p.stored(v)
		return err
	})
	return x, int64(v.start), err
}

// stored reads a value from the file.
func (p *ggufPairs) stored(v ggufValue) (any, error) {
	if v.array {
		return placeholder(fmt.Sprintf("a list of %d", v.count)), nil
	}
	if v.typ == ggufString {
		if v.end-v.start > maxGGUFText {
			return nil, fmt.Errorf("a string of %d bytes, at most %d are read", v.end-v.start-8, maxGGUFText)
		}
		return string(p.data[v.start+8 : v.end]), nil
	}
	return ggufScalar(v.typ, p.data[v.start:v.end])
}

func (p *ggufPairs) each(key string, limit int, f func(any) bool) error {
	v, ok := p.values[key]
	if !ok {
		return nil
	}
	return Guard(func() error { return p.elements(v, f) })
}

// elements calls f for the elements of a list until f returns false. Strings
// share one copy of the list's bytes.
func (p *ggufPairs) elements(v ggufValue, f func(any) bool) error {
	if v.typ == ggufString {
		if v.end-v.start > maxGGUFText {
			return fmt.Errorf("%d bytes of strings, at most %d are read", v.end-v.start, maxGGUFText)
		}
		raw := p.data[v.start:v.end]
		text := string(raw)
		for pos := 0; pos < len(text); {
			n := int(binary.LittleEndian.Uint64(raw[pos:])) // inside raw, as read has checked
			pos += 8
			if !f(text[pos : pos+n]) {
				return nil
			}
			pos += n
		}
		return nil
	}
	size := ggufScalarBytes[v.typ]
	for pos := v.start; pos < v.end; pos += size {
		x, err := ggufScalar(v.typ, p.data[pos:pos+size])
		if err != nil {
			return err
		}
		if !f(x) {
			return nil
		}
	}
	return nil
}

func ggufScalar(typ uint32, b []byte) (any, error) {
	switch typ {
	case ggufU8:
		return integerNumber(int64(b[0])), nil
	case ggufI8:
		return integerNumber(int64(int8(b[0]))), nil
	case ggufU16:
		return integerNumber(int64(binary.LittleEndian.Uint16(b))), nil
	case ggufI16:
		return integerNumber(int64(int16(binary.LittleEndian.Uint16(b)))), nil
	case ggufU32:
		return integerNumber(int64(binary.LittleEndian.Uint32(b))), nil
	case ggufI32:
		return integerNumber(int64(int32(binary.LittleEndian.Uint32(b)))), nil
	case ggufI64:
		return integerNumber(int64(binary.LittleEndian.Uint64(b))), nil
	case ggufU64:
		u := binary.LittleEndian.Uint64(b)
		if u > math.MaxInt64 {
			return number{false, 0, float64(u)}, nil
		}
		return integerNumber(int64(u)), nil
	case ggufF32:
		return floatNumber(float64(math.Float32frombits(binary.LittleEndian.Uint32(b)))), nil
	case ggufF64:
		return floatNumber(math.Float64frombits(binary.LittleEndian.Uint64(b))), nil
	}
	if b[0] > 1 { // ggufBool
		return nil, fmt.Errorf("a boolean of %d", b[0])
	}
	return b[0] == 1, nil
}
