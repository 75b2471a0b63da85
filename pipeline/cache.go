package pipeline

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"pumice/internal/dtype"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A Cache is the KV cache of a model: for each layer, keys and values in pages of kernels.PageSize positions,
// (pages, KVHeads, PageSize, HeadDim) each, resident in device memory. Page tables say which pages a sequence has.
// Kwon et al. 2023, arXiv:2309.06180.
//
// There are two pools of pages: that of the layers that keep every position, and that of the layers that keep a window.
// Page 0 of each belongs to no sequence.
type Cache struct {
	Layers []*LayerCache
	Bytes  int64
	m      *Manager
	shape  CacheShape
	pool   *vk.Pool
	tables *vk.Buffer

	abandoned []io.Closer // commands that failed, and what they use
}

// A LayerCache is the keys and the values of one layer.
type LayerCache struct {
	DType        DType // one of kernels.CacheTypes
	Positions    int   // most that it keeps of a sequence
	Pages        int
	Local        bool // its pages are of the pool of layers with a window
	Keys, Values vk.Span
	tables       vk.Span
}

// places is how many positions the layer's pages have together.
func (c *LayerCache) places() int { return c.Pages * kernels.PageSize }

// CacheShape describes a KV cache before it has memory.
type CacheShape struct {
	DType                    DType
	Layers, KVHeads, HeadDim int
	Positions                int // most that a sequence has
	Tables                   int // page tables; 0 means one
	Pages, LocalPages        int // of the two pools, without page 0; 0 means what one sequence takes

	// Local lists the layers that keep only the last LocalPositions positions of a sequence; nil means none.
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

// local reports whether layer i keeps a window.
func (s CacheShape) local(i int) bool {
	return i < len(s.Local) && s.Local[i] && s.LocalPositions < s.Positions
}

// positions is how many positions of a sequence layer i keeps.
func (s CacheShape) positions(i int) int {
	if s.local(i) {
		return s.LocalPositions
	}
	return s.Positions
}

// entries is how many entries a page table has.
func (s CacheShape) entries() int { return ceilDiv(s.Positions, kernels.PageSize) }

// localPages is how many pages LocalPositions consecutive positions can be in.
func (s CacheShape) localPages() int {
	return min(s.entries(), (s.LocalPositions+kernels.PageSize-2)/kernels.PageSize+1)
}

// SequencePages is how many pages of each pool one sequence takes at most.
func (s CacheShape) SequencePages() (pages, local int) { return s.entries(), s.localPages() }

// HasLocal reports whether there are layers that keep a window.
func (s CacheShape) HasLocal() bool {
	for i := range s.Layers {
		if s.local(i) {
			return true
		}
	}
	return false
}

// pages is how many pages layer i has, with the one that belongs to no sequence.
func (s CacheShape) pages(i int) int {
	if s.local(i) {
		return 1 + cmp.Or(s.LocalPages, s.localPages())
	}
	return 1 + cmp.Or(s.Pages, s.entries())
}

// layerBytes is the size of layer i's keys, which is also that of its values.
func (s CacheShape) layerBytes(i int) int64 {
	rows := int64(s.KVHeads) * int64(s.pages(i)) * kernels.PageSize
	return alignUp(rows*kernels.CacheRowBytes(s.layerType(i), s.HeadDim), 16)
}

// TableBytes is the host-visible memory of the page tables: two page numbers an entry.
func (s CacheShape) TableBytes() int64 { return 8 * int64(max(1, s.Tables)) * int64(s.entries()) }

// Bytes is the device memory that the pages take.
func (s CacheShape) Bytes() int64 {
	var n int64
	for i := range s.Layers {
		n += 2 * alignUp(s.layerBytes(i), weightAlign)
	}
	return n
}

// NewCache allocates a cache, all pages at once. Table 0 names them in order. The caller closes it after the plans
// that use it.
func (m *Manager) NewCache(s CacheShape) (_ *Cache, err error) {
	if !slices.Contains(kernels.CacheTypes, s.DType) {
		return nil, fmt.Errorf("pipeline: no kernel reads a KV cache of type %s; there are %s", s.DType, kernels.CacheTypes)
	}
	if s.HeadDim%4 != 0 {
		return nil, fmt.Errorf("pipeline: a KV cache of heads of %d; kernels take multiples of four", s.HeadDim)
	}
	if most := m.MaxCachePositions(s); most < max(s.Positions, s.Pages*kernels.PageSize, s.LocalPages*kernels.PageSize) {
		return nil, fmt.Errorf("pipeline: the device binds at most %d bytes, which is %d positions of one layer's keys in %s, not %d",
			m.pd.Limits.MaxStorageBufferRange, most, s.DType,
			max(s.Positions, s.Pages*kernels.PageSize, s.LocalPages*kernels.PageSize))
	}
	c := &Cache{pool: m.dev.NewPool(vk.DeviceLocal, weightBlockBytes), Bytes: s.Bytes(), m: m, shape: s}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("pipeline: KV cache of %d bytes: %w", s.Bytes(), err), c.Close())
		}
	}()
	var sizes []int64
	for i := range s.Layers {
		sizes = append(sizes, s.layerBytes(i), s.layerBytes(i))
	}
	if err := c.pool.Reserve(weightAlign, sizes...); err != nil {
		return nil, err
	}
	if c.tables, err = m.dev.NewBuffer(s.TableBytes(), vk.Upload); err != nil {
		return nil, err
	}
	clear(c.tables.Mapped())
	for i := range s.Layers {
		l := s.layer(i)
		l.tables = c.tables.Whole()
		var errK, errV error
		l.Keys, errK = c.pool.Alloc(s.layerBytes(i), weightAlign)
		l.Values, errV = c.pool.Alloc(s.layerBytes(i), weightAlign)
		if err := errors.Join(errK, errV); err != nil {
			return nil, err
		}
		c.Layers = append(c.Layers, l)
	}
	for i := range s.entries() {
		c.SetPages(0, i, 1+i, 1+i%s.localPages())
	}
	return c, nil
}

// layer is layer i without memory.
func (s CacheShape) layer(i int) *LayerCache {
	return &LayerCache{DType: s.layerType(i), Positions: s.positions(i), Pages: s.pages(i), Local: s.local(i)}
}

// Table is what names page table i in Sequence.Table.
func (c *Cache) Table(i int) int { return i * c.shape.entries() }

// SetPages names the pages of an entry of a page table: those of the layers that keep every position, and of those that
// keep a window. No plan that uses the table may be running.
func (c *Cache) SetPages(table, entry, page, local int) {
	at := c.tables.Mapped()[8*(table*c.shape.entries()+entry):]
	binary.LittleEndian.PutUint32(at, uint32(page))
	binary.LittleEndian.PutUint32(at[4:], uint32(local))
}

// Close frees the cache.
func (c *Cache) Close() error {
	var err error
	for _, x := range c.abandoned {
		err = errors.Join(err, x.Close())
	}
	c.abandoned = nil
	err = errors.Join(err, c.pool.Close())
	if c.tables != nil {
		err = errors.Join(err, c.tables.Close())
		c.tables = nil
	}
	return err
}

// Dry is a cache of this shape without memory, to build plans that are only measured.
func (s CacheShape) Dry() *Cache {
	c := &Cache{Bytes: s.Bytes(), shape: s}
	for i := range s.Layers {
		c.Layers = append(c.Layers, s.layer(i))
	}
	return c
}

// MaxTablePositions is how many positions a table of rotary angles of so many components can have
// that the device can bind.
func (m *Manager) MaxTablePositions(dim int) int {
	limit := m.pd.Limits.MaxStorageBufferRange
	return int(limit / max(1, 4*int64(dim)))
}

// MaxCachePositions is the most positions of all sequences together, in a cache of this shape, whose layers the device
// can bind.
func (m *Manager) MaxCachePositions(s CacheShape) int {
	row := kernels.CacheRowBytes(s.DType, s.HeadDim)
	for i := range s.Layers {
		row = max(row, kernels.CacheRowBytes(s.layerType(i), s.HeadDim))
	}
	page := kernels.PageSize * int64(s.KVHeads) * row
	return int(max(0, m.pd.Limits.MaxStorageBufferRange/page-1)) * kernels.PageSize
}
