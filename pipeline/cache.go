package pipeline

import (
	"errors"
	"fmt"

	"pumice/internal/dtype"
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
	DType        DType // F32 or F16
	Positions    int
	keys, values vk.Span
}

// CacheShape describes a KV cache before it has memory.
type CacheShape struct {
	DType                               DType
	Layers, KVHeads, HeadDim, Positions int
}

// layerBytes is the size of one layer's keys, which is also that of its values.
func (s CacheShape) layerBytes() int64 {
	return int64(s.KVHeads) * int64(s.Positions) * int64(s.HeadDim) * int64(s.DType.BlockBytes())
}

// Bytes is the device memory the cache takes.
func (s CacheShape) Bytes() int64 {
	return 2 * int64(s.Layers) * alignUp(s.layerBytes(), weightAlign)
}

// NewCache allocates a cache, all positions at once. The caller closes it after the plans
// that use it.
func (m *Manager) NewCache(s CacheShape) (*Cache, error) {
	if s.DType != dtype.F32 && s.DType != dtype.F16 {
		return nil, fmt.Errorf("pipeline: no kernel reads a KV cache of type %s", s.DType)
	}
	if limit := m.dev.PhysicalDevice().Limits.MaxStorageBufferRange; s.layerBytes() > limit {
		return nil, fmt.Errorf("pipeline: the keys of one layer take %d bytes for %d positions in %s, the device binds at most %d",
			s.layerBytes(), s.Positions, s.DType, limit)
	}
	c := &Cache{pool: m.dev.NewPool(vk.DeviceLocal, min(s.Bytes(), weightBlockBytes)), Bytes: s.Bytes()}
	for range s.Layers {
		l := &LayerCache{DType: s.DType, Positions: s.Positions}
		var errK, errV error
		l.keys, errK = c.pool.Alloc(s.layerBytes(), weightAlign)
		l.values, errV = c.pool.Alloc(s.layerBytes(), weightAlign)
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
	for range s.Layers {
		c.Layers = append(c.Layers, &LayerCache{DType: s.DType, Positions: s.Positions})
	}
	return c
}

// MaxCachePositions is the longest cache of this shape whose layers the device can bind.
func (m *Manager) MaxCachePositions(s CacheShape) int {
	s.Positions = 1
	return int(m.dev.PhysicalDevice().Limits.MaxStorageBufferRange / s.layerBytes())
}
