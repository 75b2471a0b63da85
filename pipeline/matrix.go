package pipeline

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync/atomic"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Matrix is a weight matrix, (Rows, Cols), in device memory, cut by rows into Shards: at
// type changes (projections of different types share one Matrix) and where a shard would
// exceed what the device can bind.
type Matrix struct {
	Name       string
	Rows, Cols int
	Shards     []*Shard
}

// A Shard is consecutive rows of a matrix, of one type, that one binding holds.
type Shard struct {
	kernels.Packed
	First int // row of the matrix

	units, meta vk.Span

	measured bool          // while it is packed: kernels may have the weights in float16
	largest  atomic.Uint32 // bits of a bound on the magnitude of the weights
}

// Planes is the device memory of the shard: of units, and of records.
func (p *Shard) Planes() (units, records vk.Span) { return p.units, p.meta }

// metaSpan is the plane of records, or the units again for types that have none: every binding
// of a kernel must name some memory.
func (p *Shard) metaSpan() vk.Span {
	if p.MetaBytes() == 0 {
		return p.units
	}
	return p.meta
}

// measure notes weights of the shard. Several goroutines may call it.
func (p *Shard) measure(row []byte) {
	bits := math.Float32bits(p.DType.Largest(row)) // of positive numbers in their order
	for old := p.largest.Load(); bits > old && !p.largest.CompareAndSwap(old, bits); old = p.largest.Load() {
	}
}

// exponent is e such that the weights divided by 2^e are below 2^15, and the largest, unless it is a bound or of float16 numbers
// less than 1/2, 2^14 or more. half_acts.comp has the same of activations.
func (p *Shard) exponent() int {
	most := math.Float32frombits(p.largest.Load())
	if most == 0 {
		return 0
	}
	_, e := math.Frexp(float64(most)) // most is below 2^e
	if p.DType == dtype.F16 {
		return max(e-15, -15) // 2^15 is the largest power that float16 numbers can be multiplied by (tiles.glsl)
	}
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

// DeviceBytes is the memory the shard takes on the device, padding included.
func (p *Shard) DeviceBytes() int64 {
	return alignUp(p.UnitBytes(), weightAlign) + alignUp(p.MetaBytes(), weightAlign)
}

// DeviceBytes is the memory the matrix takes on the device, padding included.
func (w *Matrix) DeviceBytes() int64 {
	var n int64
	for _, p := range w.Shards {
		n += p.DeviceBytes()
	}
	return n
}

// A Run is a number of consecutive matrix rows of one type.
type Band struct {
	DType DType
	Rows  int
}

// NewMatrix lays out a matrix of the given rows; it has no memory until Loader.Matrix.
// An error says what about the shape or type this device cannot hold.
func (m *Manager) NewMatrix(name string, bands []Band, cols int) (*Matrix, error) {
	w := &Matrix{Name: name, Cols: cols}
	if cols < 1 {
		return nil, fmt.Errorf("pipeline: %s: %d columns", name, cols)
	}
	for _, band := range bands {
		t := band.DType
		if !slices.Contains(kernels.WeightTypes(), t) {
			return nil, fmt.Errorf("pipeline: %s: no kernel reads %s weights", name, t)
		}
		if band.Rows < 1 || cols%t.BlockSize() != 0 {
			return nil, fmt.Errorf("pipeline: %s: (%d, %d) is not a matrix of whole %s blocks of %d", name, band.Rows, cols, t, t.BlockSize())
		}
		packed := m.layout(t, cols).Pack(m.machine, t, band.Rows, cols)
		binding := m.bindingBytes(packed.Group)
		limit, measured := packed.RowLimit(binding), m.takesHalves(t)
		if limit < 1 {
			return nil, fmt.Errorf("pipeline: %s: one group of rows of %d %s weights exceeds the device's binding limit of %d bytes",
				name, cols, t, binding)
		}
		for left := band.Rows; left > 0; left -= packed.Rows {
			packed.Rows = min(left, limit)
			w.Shards = append(w.Shards, &Shard{Packed: packed, First: w.Rows, measured: measured})
			w.Rows += packed.Rows
		}
	}
	return w, nil
}

// bindingBytes is what one binding of a matrix can hold.
func (m *Manager) bindingBytes(group int) int64 {
	l := m.pd.Limits
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

// LimitBinding makes matrices laid out from now on have shards of at most so many bytes; 0 is the device's limit.
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

func (w *Weights) alloc(x *Matrix) error {
	for _, p := range x.Shards {
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
