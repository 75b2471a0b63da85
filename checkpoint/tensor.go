package checkpoint

import (
	"math"

	"pumice/internal/dtype"
)

// Limits for all formats.
const (
	maxDims    = 8       // dimensions of a tensor
	maxTensors = 1 << 18 // tensors in a file
	maxName    = 1 << 10 // bytes of a tensor's name or a GGUF key
)

// Tensor is one named array of a checkpoint. It is read-only and safe for
// concurrent use.
type Tensor struct {
	Name    string
	DType   dtype.DType
	Shape   []int // outermost first; empty for a scalar
	Strides []int // in elements, one for each dimension; nil if the elements are contiguous
	File    string
	Offset  int64 // of Data in File
	// Data has the bytes from the first element to the last, mapped from File: read it in Guard. It is valid until the
	// checkpoint's Close, and nil if DType is Unknown.
	Data []byte

	typeName string // if DType is Unknown
}

// TypeName returns the name of the element type, also of a type that DType can't
// express.
func (t *Tensor) TypeName() string {
	if t.typeName != "" {
		return t.typeName
	}
	return t.DType.String()
}

// NumElements returns the product of the dimensions.
func (t *Tensor) NumElements() int {
	n := 1
	for _, d := range t.Shape {
		n *= d // can't overflow, as Open has checked
	}
	return n
}

// NumBytes returns the size of all elements in their stored type, or 0 if
// DType is Unknown.
func (t *Tensor) NumBytes() int64 {
	if t.DType == dtype.Unknown {
		return 0
	}
	return int64(t.NumElements()/t.DType.BlockSize()) * int64(t.DType.BlockBytes())
}

// Cols returns the last dimension, or 1 for a scalar.
func (t *Tensor) Cols() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows returns the number of rows of the tensor taken as a matrix, which is the
// product of all dimensions but the last. A vector is one row.
func (t *Tensor) Rows() int {
	n := 1
	for _, d := range t.Shape[:max(len(t.Shape), 1)-1] {
		n *= d
	}
	return n
}

// Row returns the bytes of row i, Cols elements in the stored type. They are in
// the mapped file if the row is contiguous there, else in scratch, or in new
// memory if scratch is too short. Call it and read the bytes in Guard. DType
// must not be Unknown.
func (t *Tensor) Row(i int, scratch []byte) []byte {
	cols := t.Cols()
	rowBytes := int(t.DType.RowBytes(cols))
	if t.Strides == nil {
		return t.Data[i*rowBytes : (i+1)*rowBytes : (i+1)*rowBytes]
	}
	last := len(t.Shape) - 1
	start := 0
	for d := last - 1; d >= 0; d-- {
		start += i % t.Shape[d] * t.Strides[d]
		i /= t.Shape[d]
	}
	size := t.DType.BlockBytes() // strided tensors are never quantised
	start *= size
	if t.Strides[last] == 1 || cols <= 1 {
		return t.Data[start : start+rowBytes : start+rowBytes]
	}
	if cap(scratch) < rowBytes {
		scratch = make([]byte, rowBytes)
	}
	scratch = scratch[:rowBytes]
	step := t.Strides[last] * size
	for at := 0; at < rowBytes; at += size {
		copy(scratch[at:at+size], t.Data[start:])
		start += step
	}
	return scratch
}

// Prefetch asks the system to read rows first to first+n-1 into its cache, so that later accesses
// to their pages don't wait for the disk. It returns at once.
func (t *Tensor) Prefetch(first, n int) {
	if t.Strides != nil || t.DType == dtype.Unknown || n < 1 {
		return
	}
	rowBytes := int(t.DType.RowBytes(t.Cols()))
	// The error does not matter: ignored advice only costs time, and a file that can't be read fails when it is read.
	_ = willNeed(t.Data[first*rowBytes:(first+n)*rowBytes], t.Offset+int64(first*rowBytes))
}

// numElements returns the product of the dimensions, and whether the shape is
// valid: no dimension is negative, and sizes in bytes computed from products of
// dimensions, in any order, can't overflow.
func numElements(shape []int) (int, bool) {
	n, nonzero := 1, 1
	for _, d := range shape {
		if d < 0 || d > math.MaxInt/64/nonzero {
			return 0, false
		}
		nonzero *= max(d, 1)
		n *= d
	}
	return n, true
}
