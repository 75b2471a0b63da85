// Package ggufwrite writes GGUF files (version 3, little-endian) from tensors in
// memory or from tensors that are computed while they are written, so that it can
// write models of any size. It knows nothing of what keys and tensors mean.
package ggufwrite

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"

	"pumice/internal/dtype"
)

// KV is one key-value pair. Value is a bool, a string, a sized integer or
// float, a slice of one of these (the Go type decides the stored type), or Raw.
type KV struct {
	Key   string
	Value any
}

// Raw is a value in GGUF's encoding: the number of its type, and its bytes.
type Raw []byte

// Tensor is one array. Shape is outermost first. Data has the elements in the
// stored type, little-endian, row by row. If Fill is set, it writes them
// instead, when the file reaches this tensor.
type Tensor struct {
	Name  string
	DType dtype.DType
	Shape []int
	Data  []byte
	Fill  func(w io.Writer) error
}

// Float32s returns a tensor of type d with the values converted to it.
func Float32s(name string, d dtype.DType, shape []int, values []float32) Tensor {
	cols := 1
	if len(shape) > 0 {
		cols = shape[len(shape)-1]
	}
	if cols == 0 {
		return Tensor{Name: name, DType: d, Shape: shape}
	}
	data := make([]byte, d.RowBytes(cols)*int64(len(values)/cols))
	d.Encode(data, values)
	return Tensor{Name: name, DType: d, Shape: shape, Data: data}
}

// types has ggml's numbers of types (ggml.h, enum ggml_type).
var types = map[dtype.DType]uint32{
	dtype.F32: 0, dtype.F16: 1, dtype.Q4_0: 2, dtype.Q4_1: 3, dtype.Q5_0: 6, dtype.Q5_1: 7, dtype.Q8_0: 8,
	dtype.Q2_K: 10, dtype.Q3_K: 11, dtype.Q4_K: 12, dtype.Q5_K: 13, dtype.Q6_K: 14, dtype.IQ4_NL: 20, dtype.IQ4_XS: 23,
	dtype.I8: 24, dtype.I16: 25, dtype.I32: 26, dtype.I64: 27, dtype.F64: 28, dtype.BF16: 30, dtype.TQ2_0: 35,
}

// alignment is the default of general.alignment, which this package doesn't write.
const alignment = 32

// Write creates the file path.
func Write(path string, meta []KV, tensors []Tensor) error {
	layout, err := New(meta, tensors)
	if err != nil {
		return fmt.Errorf("ggufwrite: %s: %w", path, err)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("ggufwrite: %w", err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err = w.Write(layout.Header); err == nil {
		err = layout.WriteTensors(w)
	}
	if err == nil {
		err = w.Flush()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("ggufwrite: %s: %w", path, err)
	}
	return nil
}

// WriteHollow creates the file path with a hole instead of the tensors' bytes, which reads as zeros and takes no disk
// space.
func WriteHollow(path string, meta []KV, tensors []Tensor) error {
	f, err := New(meta, tensors)
	if err == nil {
		err = os.WriteFile(path, f.Header, 0o644)
	}
	if err == nil {
		err = os.Truncate(path, f.Size)
	}
	if err != nil {
		return fmt.Errorf("ggufwrite: %s: %w", path, err)
	}
	return nil
}

// A File is a file whose offsets are known and whose tensors are still to be written.
type File struct {
	Header []byte // all bytes before the tensors
	Size   int64  // size of the whole file

	tensors []Tensor
	sizes   []int64
}

// New computes the header and the offsets of a file.
func New(meta []KV, tensors []Tensor) (*File, error) {
	b := []byte("GGUF")
	b = binary.LittleEndian.AppendUint32(b, 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(tensors)))
	b = binary.LittleEndian.AppendUint64(b, uint64(len(meta)))
	for _, kv := range meta {
		b = appendString(b, kv.Key)
		var err error
		if b, err = appendValue(b, kv.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
	}
	f := &File{tensors: tensors}
	for _, t := range tensors {
		id, ok := types[t.DType]
		if !ok {
			return nil, fmt.Errorf("%s: no number for %s", t.Name, t.DType)
		}
		n := int64(1)
		for _, d := range t.Shape {
			n *= int64(d)
		}
		size := n / int64(t.DType.BlockSize()) * int64(t.DType.BlockBytes())
		if t.Fill == nil && size != int64(len(t.Data)) {
			return nil, fmt.Errorf("%s: %d bytes, want %d for %v of %s", t.Name, len(t.Data), size, t.Shape, t.DType)
		}
		f.sizes = append(f.sizes, size)
		b = appendString(b, t.Name)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(t.Shape)))
		for i := len(t.Shape) - 1; i >= 0; i-- {
			b = binary.LittleEndian.AppendUint64(b, uint64(t.Shape[i]))
		}
		b = binary.LittleEndian.AppendUint32(b, id)
		b = binary.LittleEndian.AppendUint64(b, uint64(f.Size))
		f.Size += size + padding(size)
	}
	f.Header = append(b, make([]byte, padding(int64(len(b))))...)
	f.Size += int64(len(f.Header))
	return f, nil
}

// WriteTensors writes the rest of the file after the header.
func (f *File) WriteTensors(w io.Writer) error {
	for i, t := range f.tensors {
		if err := t.write(w, f.sizes[i]); err != nil {
			return err
		}
		if _, err := w.Write(make([]byte, padding(f.sizes[i]))); err != nil {
			return err
		}
	}
	return nil
}

// write writes the tensor's size bytes.
func (t *Tensor) write(w io.Writer, size int64) error {
	if t.Fill == nil {
		_, err := w.Write(t.Data)
		return err
	}
	c := &counter{w: w}
	if err := t.Fill(c); err != nil {
		return err
	}
	if c.n != size {
		return fmt.Errorf("%s: %d bytes written, want %d for %v of %s", t.Name, c.n, size, t.Shape, t.DType)
	}
	return nil
}

// counter counts the bytes written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func padding(n int64) int64 { return (alignment - n%alignment) % alignment }

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

// appendValue appends the type's number and the value.
func appendValue(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case Raw:
		return append(b, v...), nil
	case string:
		return appendString(binary.LittleEndian.AppendUint32(b, 8), v), nil
	case []string:
		b = appendArray(b, 8, len(v))
		for _, s := range v {
			b = appendString(b, s)
		}
		return b, nil
	case uint8, int8, uint16, int16, uint32, int32, float32, bool, uint64, int64, float64:
		return binary.Append(binary.LittleEndian.AppendUint32(b, number(v)), binary.LittleEndian, v)
	case []uint8:
		return binary.Append(appendArray(b, 0, len(v)), binary.LittleEndian, v)
	case []int8:
		return binary.Append(appendArray(b, 1, len(v)), binary.LittleEndian, v)
	case []uint32:
		return binary.Append(appendArray(b, 4, len(v)), binary.LittleEndian, v)
	case []int32:
		return binary.Append(appendArray(b, 5, len(v)), binary.LittleEndian, v)
	case []float32:
		return binary.Append(appendArray(b, 6, len(v)), binary.LittleEndian, v)
	case []bool:
		return binary.Append(appendArray(b, 7, len(v)), binary.LittleEndian, v)
	}
	return nil, fmt.Errorf("no GGUF type for %T", v)
}

func appendArray(b []byte, elem uint32, n int) []byte {
	b = binary.LittleEndian.AppendUint32(b, 9)
	b = binary.LittleEndian.AppendUint32(b, elem)
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}

// number returns the number of a value's type in enum gguf_metadata_value_type.
func number(v any) uint32 {
	switch v.(type) {
	case uint8:
		return 0
	case int8:
		return 1
	case uint16:
		return 2
	case int16:
		return 3
	case uint32:
		return 4
	case int32:
		return 5
	case float32:
		return 6
	case bool:
		return 7
	case uint64:
		return 10
	case int64:
		return 11
	}
	return 12
}
