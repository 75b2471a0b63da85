package pipeline

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Tensor is an activation of a plan under construction: (Rows, Cols) float32, row-major.
// It has memory only while the plan runs; what must be read afterwards is an output or a tap.
type Tensor struct {
	Rows, Cols int

	id          int
	first, last int // nodes that write it first and use it last
	offset      int64
}

func (t *Tensor) bytes() int64 { return 4 * int64(t.Rows) * int64(t.Cols) }

// A Matrix is a weight matrix, (Rows, Cols), in device memory, cut by rows into Parts: at
// type changes (projections of different types share one Matrix) and where a part would
// exceed what the device can bind.
type Matrix struct {
	Name       string
	Rows, Cols int
	Parts      []*Part
}

// A Part is consecutive rows of a matrix, of one type, that one binding holds.
type Part struct {
	kernels.Packed
	First int // row of the matrix

	units, meta vk.Span

	measured bool          // while it is packed: kernels may have the weights in float16
	largest  atomic.Uint32 // bits of a bound on the magnitude of the weights
}

// Planes is the device memory of the part: of units, and of records.
func (p *Part) Planes() (units, records vk.Span) { return p.units, p.meta }

// measure notes weights of the part. Several goroutines may call it.
func (p *Part) measure(row []byte) {
	bits := math.Float32bits(p.DType.Largest(row)) // of positive numbers in their order
	for old := p.largest.Load(); bits > old && !p.largest.CompareAndSwap(old, bits); old = p.largest.Load() {
	}
}

// exponent is e such that the weights divided by 2^e are below 2^15, and the largest, unless it is a bound, 2^14 or
// more. half_acts.comp has the same of activations.
func (p *Part) exponent() int {
	most := math.Float32frombits(p.largest.Load())
	if most == 0 {
		return 0
	}
	_, e := math.Frexp(float64(most)) // most is below 2^e
	return max(e-15, -126)
}

// A Vector is float32 values in device memory: a norm's weights, a bias, the table of
// rotary angles. It has no memory until Loader.Vector.
type Vector struct {
	Name string
	Cols int
	span vk.Span
}

// DeviceBytes is the memory the vector takes on the device.
func (v *Vector) DeviceBytes() int64 { return alignUp(4*int64(v.Cols), 16) }

// DeviceBytes is the memory the part takes on the device, padding included.
func (p *Part) DeviceBytes() int64 {
	return alignUp(p.UnitBytes(), weightAlign) + alignUp(p.MetaBytes(), weightAlign)
}

// DeviceBytes is the memory the matrix takes on the device, padding included.
func (w *Matrix) DeviceBytes() int64 {
	var n int64
	for _, p := range w.Parts {
		n += p.DeviceBytes()
	}
	return n
}

// A Run is a number of consecutive matrix rows of one type.
type Run struct {
	DType DType
	Rows  int
}

// NewMatrix lays out a matrix of the given rows; it has no memory until Loader.Matrix.
// An error says what about the shape or type this device cannot hold.
func (m *Manager) NewMatrix(name string, runs []Run, cols int) (*Matrix, error) {
	w := &Matrix{Name: name, Cols: cols}
	if cols < 1 {
		return nil, fmt.Errorf("pipeline: %s: %d columns", name, cols)
	}
	for _, run := range runs {
		t := run.DType
		if !slices.Contains(kernels.WeightTypes(), t) {
			return nil, fmt.Errorf("pipeline: %s: no kernel reads %s weights", name, t)
		}
		if run.Rows < 1 || cols%t.BlockSize() != 0 {
			return nil, fmt.Errorf("pipeline: %s: (%d, %d) is not a matrix of whole %s blocks of %d", name, run.Rows, cols, t, t.BlockSize())
		}
		packed := m.layout(t, cols).Pack(m.machine, t, run.Rows, cols)
		binding := m.bindingBytes(packed.Group)
		limit, measured := packed.RowLimit(binding), m.takesHalves(t)
		if limit < 1 {
			return nil, fmt.Errorf("pipeline: %s: one group of rows of %d %s weights exceeds the device's binding limit of %d bytes",
				name, cols, t, binding)
		}
		for left := run.Rows; left > 0; left -= packed.Rows {
			packed.Rows = min(left, limit)
			w.Parts = append(w.Parts, &Part{Packed: packed, First: w.Rows, measured: measured})
			w.Rows += packed.Rows
		}
	}
	return w, nil
}

// bindingBytes is what one binding of a matrix can hold.
func (m *Manager) bindingBytes(group int) int64 {
	l := m.dev.PhysicalDevice().Limits
	limit := min(l.MaxStorageBufferRange, 1<<31-1)
	if m.maxBinding > 0 {
		limit = min(limit, m.maxBinding)
	}
	if l.MaxBufferSize > 0 {
		limit = min(limit, l.MaxBufferSize)
	}
	if group > 1 {
		limit = min(limit, 16*l.MaxTexelBufferElements)
	}
	return limit
}

// LimitBinding makes matrices laid out from now on have parts of at most so many bytes; 0 is the device's limit.
func (m *Manager) LimitBinding(bytes int64) { m.maxBinding = bytes }

// Weights is the device memory that matrices and vectors live in.
type Weights struct {
	m    *Manager
	pool *vk.Pool
}

// weightAlign separates spans: the strictest offset alignment in use is 256 bytes.
const weightAlign = 256

// weightBlockBytes is the size of one allocation for vectors whose sum is not known.
const weightBlockBytes = 64 << 20

// NewWeights returns an empty store whose vectors will take so many bytes, 0 where that is not known. Matrices get what
// they need. The caller closes the store after the plans that use it.
func (m *Manager) NewWeights(vectorBytes int64) *Weights {
	return &Weights{m: m, pool: m.dev.NewPool(vk.DeviceLocal, cmp.Or(vectorBytes, weightBlockBytes))}
}

// Bytes is the device memory in use, padding of tensors included.
func (w *Weights) Bytes() int64 { return w.pool.UsedBytes() }

// Close frees the memory of every matrix and vector made in the store.
func (w *Weights) Close() error { return w.pool.Close() }

// reserve takes the memory of matrices, for which alloc is called next in the same order.
func (w *Weights) reserve(fills []Fill) error {
	var sizes []int64
	for _, f := range fills {
		for _, p := range f.Matrix.Parts {
			if sizes = append(sizes, p.UnitBytes()); p.MetaBytes() > 0 {
				sizes = append(sizes, p.MetaBytes())
			}
		}
	}
	if err := w.pool.Reserve(weightAlign, sizes...); err != nil {
		return fmt.Errorf("pipeline: memory of %d matrices: %w", len(fills), err)
	}
	return nil
}

func (w *Weights) alloc(x *Matrix) error {
	for _, p := range x.Parts {
		var err error
		if p.units, err = w.pool.Alloc(p.UnitBytes(), weightAlign); err == nil && p.MetaBytes() > 0 {
			p.meta, err = w.pool.Alloc(p.MetaBytes(), weightAlign)
		}
		if err != nil {
			return fmt.Errorf("pipeline: %s: %w", x.Name, err)
		}
	}
	return nil
}

var errClosed = errors.New("pipeline: closed")

func alignUp(n, align int64) int64 { return (n + align - 1) / align * align }
