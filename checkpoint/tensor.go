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
// several goroutines.
type Tensor struct {
	Name    string
	DType   dtype.DType
	Shape   []int // outermost first; empty for a scalar
	Strides []int // in elements, one for each dimension; nil when the elements are contiguous
	File    string
	Offset  int64  // of Data in File
	Data    []byte // from the first element to the last, mapped: read it in Guard. Valid until the checkpoint's Close. nil when DType is Unknown

	typeName string // when DType is Unknown
}

// TypeName returns the name of the element type as the file gives it, also for
// a type that DType can't express.
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
		n *= d // Open has seen to it that this does not overflow
	}
	return n
}

// NumBytes returns the size of all elements in their stored type, 0 when
// DType is Unknown.
func (t *Tensor) NumBytes() int64 {
	if t.DType == dtype.Unknown {
		return 0
	}
	return int64(t.NumElements()/t.DType.BlockSize()) * int64(t.DType.BlockBytes())
}

// Cols returns the last dimension, 1 for a scalar.
func (t *Tensor) Cols() int {
	if len(t.Shape) == 0 {
		return 1
	}
	return t.Shape[len(t.Shape)-1]
}

// Rows returns the number of rows of the tensor seen as a matrix, the product
// of all dimensions but the last. A vector is one row.
func (t *Tensor) Rows() int {
	n := 1
	for _, d := range t.Shape[:max(len(t.Shape), 1)-1] {
		n *= d
	}
	return n
}

// Row returns the bytes of row i in the stored type, Cols elements. They lie
// in the mapped file when the row is contiguous there, else in scratch, which
// is replaced if it is too short. Call it and read the bytes in Guard. DType
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

// Prefetch has the system read rows first to first+n into its cache while the caller does
// something else: a page that is only read when it is touched makes whoever touches it wait.
func (t *Tensor) Prefetch(first, n int) {
	if t.Strides != nil || t.DType == dtype.Unknown || n < 1 {
		return
	}
	rowBytes := int(t.DType.RowBytes(t.Cols()))
	// Advice that is not taken costs time only, and a file that cannot be read fails when it is.
	_ = willNeed(t.Data[first*rowBytes:(first+n)*rowBytes], t.Offset+int64(first*rowBytes))
}

// numElements returns the product of the dimensions, and whether none is
// negative and no product, in whatever order, leaves room for overflow when
// sizes in bytes are computed from it.
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
