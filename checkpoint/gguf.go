package checkpoint

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"pumice/internal/dtype"
)

// A GGUF file consists of "GGUF", a version, the numbers of tensors and of
// key-value pairs, the pairs, a description of each tensor, padding, and the
// tensors' bytes, each at a multiple of general.alignment from the end of the
// padding. All integers are little-endian. (GGUF specification, ggml/docs/gguf.md.)

const (
	maxGGUFPairs  = 1 << 16
	ggufAlignment = 32
)

// ggmlTypes is ggml's enumeration of tensor types (ggml.h, enum ggml_type).
var ggmlTypes = map[uint32]dtype.DType{
	0: dtype.F32, 1: dtype.F16, 2: dtype.Q4_0, 3: dtype.Q4_1, 6: dtype.Q5_0, 7: dtype.Q5_1, 8: dtype.Q8_0, 9: dtype.Q8_1,
	10: dtype.Q2_K, 11: dtype.Q3_K, 12: dtype.Q4_K, 13: dtype.Q5_K, 14: dtype.Q6_K, 15: dtype.Q8_K,
	16: dtype.IQ2_XXS, 17: dtype.IQ2_XS, 18: dtype.IQ3_XXS, 19: dtype.IQ1_S, 20: dtype.IQ4_NL, 21: dtype.IQ3_S, 22: dtype.IQ2_S, 23: dtype.IQ4_XS,
	24: dtype.I8, 25: dtype.I16, 26: dtype.I32, 27: dtype.I64, 28: dtype.F64, 29: dtype.IQ1_M, 30: dtype.BF16,
	34: dtype.TQ1_0, 35: dtype.TQ2_0, 39: dtype.MXFP4,
}

// ggufFile is one parsed file.
type ggufFile struct {
	pairs   *ggufPairs
	tensors []*Tensor
}

func parseGGUF(ctx context.Context, file string, data []byte) (*ggufFile, error) {
	c := &cursor{ctx: ctx, file: file, data: data}
	if magic := c.bytes(4); string(magic) != "GGUF" {
		c.fail(0, "not a GGUF file: it begins with %q", magic)
	}
	version := c.u32()
	if c.err != nil {
		return nil, c.err
	}
	if swapped := bits.ReverseBytes32(version); swapped > 0 && swapped < 1<<16 {
		return nil, &UnsupportedError{file, fmt.Sprintf("big-endian GGUF (version %d)", swapped)}
	}
	if version != 2 && version != 3 {
		return nil, &UnsupportedError{file, fmt.Sprintf("GGUF version %d", version)}
	}
	// A pair takes at least 13 bytes, a tensor's description 24.
	numTensors := c.count("tensors", 24, maxTensors)
	numPairs := c.count("key-value pairs", 13, maxGGUFPairs)
	g := &ggufFile{pairs: &ggufPairs{file: file, data: data, values: map[string]ggufValue{}}}
	for range numPairs {
		g.pairs.read(c)
	}
	if c.err != nil {
		return nil, c.err
	}
	alignment, err := g.pairs.alignment()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for range numTensors {
		c.pause()
		start := c.pos
		t := c.tensor(alignment)
		if c.err != nil {
			return nil, c.err
		}
		if seen[t.Name] {
			return nil, badFormat(file, int64(start), "tensor %q appears twice", t.Name)
		}
		seen[t.Name] = true
		g.tensors = append(g.tensors, t)
	}
	// The last tensor's padding may be missing, and without tensors all padding.
	base := (int64(c.pos) + alignment - 1) / alignment * alignment
	return g, placeTensors(file, g.tensors, data, base)
}

// placeTensors turns offsets from base into offsets in the file, and checks that
// the tensors are inside the file and don't overlap.
func placeTensors(file string, tensors []*Tensor, data []byte, base int64) error {
	var need uint64
	for _, t := range tensors {
		need = max(need, uint64(base)+uint64(t.Offset)+uint64(t.NumBytes()))
	}
	for _, t := range tensors {
		size := t.NumBytes()
		if t.Offset > int64(len(data))-base-size {
			return endsBefore(file, t.Name, len(data), need)
		}
		t.Offset += base
		if t.DType != dtype.Unknown {
			t.Data = data[t.Offset : t.Offset+size : t.Offset+size]
		}
	}
	sorted := slices.Clone(tensors)
	slices.SortStableFunc(sorted, func(a, b *Tensor) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(len(a.Data), len(b.Data)))
	})
	for i, t := range sorted[:max(len(sorted), 1)-1] {
		if next := sorted[i+1]; t.Offset+int64(len(t.Data)) > next.Offset {
			return badFormat(file, next.Offset, "tensors %q and %q overlap", t.Name, next.Name)
		}
	}
	return nil
}

// cursor reads a file sequentially. The first error sticks; later reads return
// zeros.
type cursor struct {
	ctx  context.Context
	file string
	data []byte
	pos  int
	err  error
}

func (c *cursor) fail(offset int, format string, args ...any) {
	if c.err == nil {
		c.err = badFormat(c.file, int64(offset), format, args...)
	}
}

// pause ends reading with an error if the context is done.
func (c *cursor) pause() {
	if c.err == nil {
		c.err = c.ctx.Err()
	}
}

// bytes returns the next n bytes, or nil if there are fewer.
func (c *cursor) bytes(n uint64) []byte {
	if c.err != nil {
		return nil
	}
	if n > uint64(len(c.data)-c.pos) {
		c.fail(c.pos, "%d bytes wanted, %d are left in the file"+incomplete, n, len(c.data)-c.pos)
		return nil
	}
	b := c.data[c.pos : c.pos+int(n)]
	c.pos += int(n)
	return b
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// count reads the number of following items, each of at least minBytes.
func (c *cursor) count(what string, minBytes, limit int) int {
	start := c.pos
	n := c.u64()
	switch {
	case n > uint64(len(c.data)-c.pos)/uint64(minBytes):
		c.fail(start, "%d %s in a file of %d bytes"+incomplete, n, what, len(c.data))
	case n > uint64(limit):
		c.fail(start, "%d %s, at most %d are read", n, what, limit)
	default:
		return int(n)
	}
	return 0
}

// name reads a string that is a key or a tensor's name.
func (c *cursor) name() string {
	start := c.pos
	n := c.u64()
	if n > maxName {
		c.fail(start, "a name of %d bytes", n)
	}
	return string(c.bytes(n))
}

// tensor reads the description of one tensor. Its Offset is relative to the data.
func (c *cursor) tensor(alignment int64) *Tensor {
	start := c.pos
	t := &Tensor{Name: c.name(), File: c.file}
	numDims := c.u32()
	if numDims > maxDims {
		c.fail(start, "tensor %q: %d dimensions", t.Name, numDims)
		return t
	}
	t.Shape = make([]int, numDims)
	for i := range t.Shape {
		size := c.u64()
		if size > math.MaxInt {
			c.fail(start, "tensor %q: invalid shape, with a size of %d", t.Name, size)
		}
		t.Shape[int(numDims)-1-i] = int(size) // the file lists the innermost dimension first
	}
	id := c.u32()
	offset := c.u64()
	if c.err != nil {
		return t
	}
	if _, ok := numElements(t.Shape); !ok {
		c.fail(start, "tensor %q: invalid shape %v", t.Name, t.Shape)
		return t
	}
	if int64(offset) < 0 || int64(offset)%alignment != 0 {
		c.fail(start, "tensor %q: offset %d is not a multiple of the alignment %d", t.Name, offset, alignment)
		return t
	}
	t.Offset = int64(offset)
	var ok bool
	if t.DType, ok = ggmlTypes[id]; !ok {
		t.DType, t.typeName = dtype.Unknown, fmt.Sprintf("ggml type %d", id)
		return t
	}
	if t.Cols()%t.DType.BlockSize() != 0 {
		c.fail(start, "tensor %q: rows of %d elements are not a multiple of %s's block", t.Name, t.Cols(), t.DType)
	}
	return t
}
