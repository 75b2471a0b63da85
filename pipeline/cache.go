package pipeline

import (
	"errors"
	"fmt"
	"slices"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Cache is the KV cache of a model: for each layer, keys and values of every position,
// (KVHeads, Positions, HeadDim) each, resident in device memory.
type Cache struct {
	Layers []*LayerCache
	Bytes  int64
	pool   *vk.Pool
}

// A LayerCache is the keys and the values of one layer.
type LayerCache struct {
	DType        DType // one of kernels.CacheTypes
	Positions    int
	Keys, Values vk.Span
}

// CacheShape describes a KV cache before it has memory.
type CacheShape struct {
	DType                               DType
	Layers, KVHeads, HeadDim, Positions int

	// Local lists the layers that keep only LocalPositions positions, a multiple of eight,
	// position j at j % LocalPositions; nil means none.
	Local          []bool
	LocalPositions int

	// Float lists the layers that are F32 whatever DType is; nil means none.
	Float []bool
}

// layerType is the type of layer i.
func (s CacheShape) layerType(i int) DType {
	if i < len(s.Float) && s.Float[i] {
		return dtype.F32
	}
	return s.DType
}

// positions is how many positions layer i has room for.
func (s CacheShape) positions(i int) int {
	if i < len(s.Local) && s.Local[i] {
		return min(s.Positions, s.LocalPositions)
	}
	return s.Positions
}

// layerBytes is the size of layer i's keys, which is also that of its values.
func (s CacheShape) layerBytes(i int) int64 {
	return alignUp(int64(s.KVHeads)*int64(s.positions(i))*kernels.CacheRowBytes(s.layerType(i), s.HeadDim), 16)
}

// Bytes is the device memory the cache takes.
func (s CacheShape) Bytes() int64 {
	var n int64
	for i := range s.Layers {
		n += 2 * alignUp(s.layerBytes(i), weightAlign)
	}
	return n
}

// NewCache allocates a cache, all positions at once. The caller closes it after the plans
// that use it.
func (m *Manager) NewCache(s CacheShape) (*Cache, error) {
	if !slices.Contains(kernels.CacheTypes, s.DType) {
		return nil, fmt.Errorf("pipeline: no kernel reads a KV cache of type %s; there are %s", s.DType, kernels.CacheTypes)
	}
	if s.HeadDim%4 != 0 {
		return nil, fmt.Errorf("pipeline: a KV cache of heads of %d; kernels take multiples of four", s.HeadDim)
	}
	if most := m.MaxCachePositions(s); most < s.Positions {
		return nil, fmt.Errorf("pipeline: the device binds at most %d bytes, which is %d positions of one layer's keys in %s, not %d",
			m.dev.PhysicalDevice().Limits.MaxStorageBufferRange, most, s.DType, s.Positions)
	}
	c := &Cache{pool: m.dev.NewPool(vk.DeviceLocal, weightBlockBytes), Bytes: s.Bytes()}
	var sizes []int64
	for i := range s.Layers {
		sizes = append(sizes, s.layerBytes(i), s.layerBytes(i))
	}
	if err := c.pool.Reserve(weightAlign, sizes...); err != nil {
		return nil, errors.Join(fmt.Errorf("pipeline: KV cache of %d bytes: %w", s.Bytes(), err), c.pool.Close())
	}
	for i := range s.Layers {
		l := &LayerCache{DType: s.layerType(i), Positions: s.positions(i)}
		var errK, errV error
		l.Keys, errK = c.pool.Alloc(s.layerBytes(i), weightAlign)
		l.Values, errV = c.pool.Alloc(s.layerBytes(i), weightAlign)
		if err := errors.Join(errK, errV); err != nil {
			return nil, errors.Join(fmt.Errorf("pipeline: KV cache of %d bytes: %w", s.Bytes(), err), c.pool.Close())
		}
		c.Layers = append(c.Layers, l)
	}
	return c, nil
}

// Close frees the cache.
func (c *Cache) Close() error { return c.pool.Close() }

// Dry is a cache of this shape without memory, to build plans that are only measured.
func (s CacheShape) Dry() *Cache {
	c := &Cache{Bytes: s.Bytes()}
	for i := range s.Layers {
		c.Layers = append(c.Layers, &LayerCache{DType: s.layerType(i), Positions: s.positions(i)})
	}
	return c
}

// MaxTablePositions is how many positions a table of rotary angles of so many components can have
// that the device can bind.
func (m *Manager) MaxTablePositions(dim int) int {
	limit := m.dev.PhysicalDevice().Limits.MaxStorageBufferRange
	return int(limit / max(1, 4*int64(dim)))
}

// MaxCachePositions is the longest cache of this shape whose layers the device can bind.
func (m *Manager) MaxCachePositions(s CacheShape) int {
	row := kernels.CacheRowBytes(s.DType, s.HeadDim)
	for i := range s.Layers {
		row = max(row, kernels.CacheRowBytes(s.layerType(i), s.HeadDim))
	}
	position := int64(s.KVHeads) * row
	return int(m.dev.PhysicalDevice().Limits.MaxStorageBufferRange / position)
}
