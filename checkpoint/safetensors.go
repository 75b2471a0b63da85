package checkpoint

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"pumice/internal/dtype"
)

// A safetensors file consists of a length (8 bytes, little-endian), that many
// bytes of JSON, and the tensors' bytes. The JSON is one object: a tensor's name
// maps to {"dtype", "shape", "data_offsets": [begin, end]}, with offsets from
// the end of the JSON; "__metadata__" maps strings to strings. The tensors
// cover the rest of the file without gaps and overlaps.

// maxSafetensorsHeader is the reference implementation's limit.
const maxSafetensorsHeader = 100_000_000

var safetensorsTypes = map[string]dtype.DType{
	"F32": dtype.F32, "F16": dtype.F16, "BF16": dtype.BF16, "F64": dtype.F64,
	"I8": dtype.I8, "I16": dtype.I16, "I32": dtype.I32, "I64": dtype.I64,
	"U8": dtype.U8, "U16": dtype.U16, "U32": dtype.U32, "U64": dtype.U64,
	"BOOL": dtype.Bool, "F8_E4M3": dtype.F8_E4M3, "F8_E5M2": dtype.F8_E5M2,
}

// parseSafetensors returns the tensors of a file in the header's order.
func parseSafetensors(ctx context.Context, file string, data []byte) ([]*Tensor, error) {
	if len(data) < 8 {
		return nil, badFormat(file, 0, "%d bytes, too short for a safetensors file", len(data))
	}
	headerBytes := binary.LittleEndian.Uint64(data)
	if headerBytes > uint64(len(data)-8) {
		return nil, badFormat(file, 0, "a header of %d bytes in a file of %d"+incomplete, headerBytes, len(data))
	}
	if headerBytes > maxSafetensorsHeader {
		return nil, badFormat(file, 0, "a header of %d bytes, at most %d are allowed", headerBytes, maxSafetensorsHeader)
	}
	h := &safetensorsHeader{
		objectReader: newObjectReader(ctx, file, 8, data[8:8+headerBytes]),
		seen:         map[string]bool{},
	}
	h.object(h.entry)
	h.end()
	if h.err != nil {
		return nil, h.err
	}
	return h.tensors, fillBody(file, h.tensors, data, 8+int(headerBytes))
}

// fillBody turns offsets from byte begin of the file into offsets in the file, and
// checks that the tensors fill the rest of the file exactly.
func fillBody(file string, tensors []*Tensor, data []byte, begin int) error {
	var need uint64
	for _, t := range tensors {
		need = max(need, uint64(begin)+uint64(t.Offset)+uint64(t.NumBytes()))
	}
	body := data[begin:]
	for _, t := range tensors {
		size := t.NumBytes()
		if t.Offset > int64(len(body))-size {
			return endsBefore(file, t.Name, len(data), need)
		}
		t.Data = body[t.Offset : t.Offset+size : t.Offset+size]
		t.Offset += int64(begin)
	}
	return checkCover(file, tensors, int64(begin), int64(len(data)))
}

// checkCover checks that the tensors fill the bytes from begin to end of the
// file exactly.
func checkCover(file string, tensors []*Tensor, begin, end int64) error {
	sorted := slices.Clone(tensors)
	slices.SortStableFunc(sorted, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(len(a.Data), len(b.Data)))
	})
	at := begin
	for _, t := range sorted {
		switch {
		case t.Offset < at:
			return badFormat(file, t.Offset, "tensor %q overlaps another", t.Name)
		case t.Offset > at:
			return badFormat(file, at, "%d bytes before tensor %q belong to no tensor", t.Offset-at, t.Name)
		}
		at = t.Offset + int64(len(t.Data))
	}
	if at != end {
		return badFormat(file, at, "%d bytes after the last tensor", end-at)
	}
	return nil
}

// safetensorsHeader collects tensors while the header is read.
type safetensorsHeader struct {
	*objectReader
	tensors []*Tensor // with Offset from the end of the header and without Data
	seen    map[string]bool
}

// entry reads the value of one key of the header.
func (h *safetensorsHeader) entry(name string) {
	if h.seen[name] {
		h.fail("tensor %q appears twice", name)
		return
	}
	h.seen[name] = true
	if len(name) > maxName {
		h.fail("a name of %d bytes", len(name))
		return
	}
	if name == "__metadata__" {
		h.object(func(string) { h.str() })
		return
	}
	var typeName string
	var shape, offsets []int
	var have [3]bool
	h.object(func(key string) {
		field := slices.Index([]string{"dtype", "shape", "data_offsets"}, key)
		if field < 0 {
			h.fail("tensor %q: unknown key %q", name, key)
			return
		}
		if have[field] {
			h.fail("tensor %q: %q appears twice", name, key)
			return
		}
		have[field] = true
		switch field {
		case 0:
			typeName = h.str()
		case 1:
			shape = h.ints(maxDims)
		case 2:
			offsets = h.ints(2)
		}
	})
	if h.err != nil {
		return
	}
	if have != [3]bool{true, true, true} || len(offsets) != 2 {
		h.fail("tensor %q: want dtype, shape and two data_offsets", name)
		return
	}
	d, ok := safetensorsTypes[typeName]
	if !ok {
		h.err = &UnsupportedError{h.file, "tensor " + quote(name) + ": dtype " + quote(typeName)}
		return
	}
	n, ok := numElements(shape)
	if !ok {
		h.fail("tensor %q: invalid shape %v", name, shape)
		return
	}
	begin, end := offsets[0], offsets[1]
	if begin < 0 || end < begin {
		h.fail("tensor %q: bytes %d to %d", name, begin, end)
		return
	}
	if end-begin != n*d.BlockBytes() {
		h.fail("tensor %q: %d bytes for shape %v of %s", name, end-begin, shape, d)
		return
	}
	if len(h.tensors) == maxTensors {
		h.fail("more than %d tensors", maxTensors)
		return
	}
	h.tensors = append(h.tensors, &Tensor{Name: name, DType: d, Shape: shape, File: h.file, Offset: int64(begin)})
}
