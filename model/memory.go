package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/hostmem"
	"pumice/internal/humanize"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

// A MemoryPlan has the device memory that a model takes, in bytes, computed before any of it is allocated. It includes
// what every plan needs that the model may record later.
type MemoryPlan struct {
	Context        int    `json:"context"`      // positions of a sequence
	CacheTokens    int    `json:"cache_tokens"` // positions of the KV cache, for all sequences together
	KVType         string `json:"kv_type"`
	WeightsBytes   int64  `json:"weights_bytes"` // in the device layout, padding included
	CacheBytes     int64  `json:"cache_bytes"`
	PageBytes      int64  `json:"page_bytes"`    // of the cache, for 64 positions
	TableBytes     int64  `json:"table_bytes"`   // rotary angles
	ArenaBytes     int64  `json:"arena_bytes"`   // activations, shared by all plans
	OutputBytes    int64  `json:"output_bytes"`  // buffers that the host reads and writes: shared by all plans, and page tables
	StagingBytes   int64  `json:"staging_bytes"` // staging buffers while loading; 0 if the host writes weights directly
	TotalBytes     int64  `json:"total_bytes"`
	AvailableBytes int64  `json:"available_bytes"`
	AvailableLimit string `json:"available_limit,omitempty"` // the limit that AvailableBytes is; "" for free memory

	WeightTypes []TypeShare `json:"weight_types"` // the matrices by type
}

// A TypeShare says how many bytes of matrices the device keeps in one type.
type TypeShare struct {
	Type    string `json:"type"`
	Bytes   int64  `json:"bytes"`
	Instead string `json:"instead_of,omitempty"` // Options.DType, if its blocks do not divide these rows; else ""
}

// addShare counts s among those of its type.
func addShare(list []TypeShare, s TypeShare) []TypeShare {
	for i := range list {
		if list[i].Type == s.Type {
			list[i].Bytes += s.Bytes
			return list
		}
	}
	return append(list, s)
}

// A FitError says that a device has too little memory for a model.
type FitError struct {
	Device            string
	Needed, Available int64  // bytes
	Limit             string // the limit that Available comes from, as "memory.max of cgroup /x"; "" for free memory
	Plan              MemoryPlan
	Fits              Smaller // changes of Options that would make it fit
}

// Smaller lists changes of Options that would make a model fit. Each one is enough by itself. If a field is zero, no
// value of it is known to be enough.
type Smaller struct {
	Context    int    `json:"context,omitempty"` // positions
	KVType     string `json:"kv_type,omitempty"` // of the KV cache
	CacheBytes int64  `json:"cache_bytes,omitempty"`
	DType      string `json:"dtype,omitempty"` // of all matrices
}

func (e *FitError) Error() string {
	msg := fmt.Sprintf("model: needs %s on %s, which has %s available", humanize.Bytes(e.Needed), e.Device, humanize.Bytes(e.Available))
	if e.Limit != "" {
		msg += " by " + e.Limit
	}
	return msg
}

// Estimate returns the memory that loading would take, and a *FitError beside it if the device has less. It reads no
// weights, so it does not know of layers whose keys and values need an F32 cache.
func Estimate(ctx context.Context, m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) (MemoryPlan, error) {
	l, err := openLoading(ctx, c, o)
	if err != nil {
		return MemoryPlan{}, err
	}
	defer l.Close()
	w, err := l.bind(m, l.cfg.allLayers())
	if err != nil {
		return MemoryPlan{}, err
	}
	need, err := l.need(m, w)
	if err != nil {
		return MemoryPlan{}, err
	}
	room, err := available(m.Device())
	if err != nil {
		return MemoryPlan{}, err
	}
	g := &stage{m: m, weights: w, room: room}
	pages, err := l.fit(g, need)
	l.opts.pages = pages
	return l.plan(g, need), err
}

// plan is the memory that a stage takes, whose plans share what need says. Without Options.pages its KV cache has room for
// one sequence.
func (l *loading) plan(g *stage, need pipeline.Need) MemoryPlan {
	w, shape := g.weights, g.weights.cacheShape(l.cfg, &l.opts)
	more := shape
	more.Pages, more.LocalPages = more.Pages+1, more.LocalPages+1
	p := MemoryPlan{
		Context: l.opts.Context, CacheTokens: shape.Pages * kernels.PageSize, KVType: l.opts.KVType.String(),
		WeightsBytes: w.bytes, WeightTypes: w.types, CacheBytes: shape.Bytes(), PageBytes: more.Bytes() - shape.Bytes(),
		TableBytes: w.tableBytes, ArenaBytes: need.Arena, OutputBytes: need.FrameBytes() + shape.TableBytes(),
		AvailableBytes: g.room.Bytes, AvailableLimit: g.room.Limit,
	}
	if !g.m.Device().HostVisible() {
		p.StagingBytes = pipeline.StagingBytes
	}
	p.TotalBytes = p.WeightsBytes + p.CacheBytes + p.TableBytes + p.ArenaBytes + p.OutputBytes + p.StagingBytes
	return p
}

// defaultSequences is how many sequences of the whole context the KV cache has room for, where half of the memory that is
// left suffices. What a conversation does not use others can have.
const defaultSequences = 8

// A CacheError says that Options.CacheBytes is too little for one sequence.
type CacheError struct {
	Bytes, Needed int64
	Context       int // positions of a sequence
}

func (e *CacheError) Error() string {
	return fmt.Sprintf("model: a KV cache of %s is too small: one sequence of %d tokens takes %s",
		humanize.Bytes(e.Bytes), e.Context, humanize.Bytes(e.Needed))
}

// fit is how many pages the KV cache of a stage can have, at least those of one sequence. The error says why the stage does
// not fit.
func (l *loading) fit(g *stage, need pipeline.Need) (pages int, err error) {
	one := *l
	one.opts.pages = 0
	p, w, dev := one.plan(g, need), g.weights, g.m.Device()
	shape := w.cacheShape(l.cfg, &one.opts)
	fixed := p.TotalBytes - p.CacheBytes
	if n := l.opts.CacheBytes; n > 0 && n < p.CacheBytes {
		return 0, &CacheError{n, p.CacheBytes, p.Context}
	}
	if total := max(p.TotalBytes, fixed+l.opts.CacheBytes); total > p.AvailableBytes {
		weightsAs := func(t dtype.DType) int64 {
			as := *l
			as.opts.DType, as.opts.Logger = t, zerolog.Nop()
			if other, err := as.bind(g.m, w.layerRange); err == nil {
				return other.bytes
			}
			return p.WeightsBytes
		}
		fits := p.smaller(l.cfg, &one.opts, w, weightsAs)
		return 0, &FitError{Device: dev.PhysicalDevice().Name, Needed: total, Available: p.AvailableBytes,
			Limit: p.AvailableLimit, Plan: p, Fits: fits}
	}
	if err := errors.Join(p.checkHost(dev), p.checkBindings(g.m, shape, w)); err != nil {
		return 0, err
	}
	most, budget := defaultSequences*shape.Pages, (p.AvailableBytes-fixed)/2
	if l.cfg.Encoder { // it keeps nothing from one step to the next
		most = shape.Pages
	} else if l.opts.CacheBytes > 0 {
		most, budget = math.MaxInt32, l.opts.CacheBytes
	}
	most = min(most, g.m.MaxCachePositions(shape)/kernels.PageSize)
	return shape.Pages + sort.Search(most-shape.Pages, func(more int) bool {
		one.opts.pages = shape.Pages + more + 1
		return w.cacheShape(l.cfg, &one.opts).Bytes() > budget
	}), nil
}

// need is the memory that takes every plan. What follows the layers uses the arena when they have let go of it, so the
// arena of a plan is the larger one of what the layers need, whatever their tail, and what the plan needs without them.
func (l *loading) need(m *pipeline.Manager, w *Weights) (pipeline.Need, error) {
	var all pipeline.Need
	whole := l.dry(m, w)
	ends := *w
	if !l.opts.Taps { // layers are read back only where they are tapped
		ends.Layers = nil
	}
	bare := l.dry(m, &ends)
	counted := map[planKey]bool{}
	for _, k := range whole.planKeys() {
		builders := []*pipeline.Builder{bare.builder(k)}
		layers := planKey{tokens: k.tokens, singles: k.singles, sequences: k.sequences}
		if !counted[layers] {
			counted[layers] = true
			builders = append(builders, whole.builder(layers))
		}
		for _, b := range builders {
			n, err := b.Need()
			if err != nil {
				return all, err
			}
			all = all.Max(n)
		}
	}
	return all, nil
}

// available is the memory that can be allocated on a device now. CPU drivers report a heap of constant size, so for
// them it is the process's memory. What other models have on dev is taken, even where it is not in use yet.
func available(dev *vk.Device) (hostmem.Room, error) {
	info, err := dev.Memory()
	if err != nil {
		return hostmem.Room{}, fmt.Errorf("model: %w", err)
	}
	if dev.PhysicalDevice().Type == vk.CPU {
		if room, ok := hostmem.Beside(info.AllocatedBytes); ok {
			return room, nil
		}
	}
	return hostmem.Room{Bytes: info.FreeBytes}, nil
}

// DeviceMemory is the memory of a device, and what of it can be allocated now: what plans are compared with.
func DeviceMemory(dev *vk.Device) (total, free int64, err error) {
	info, err := dev.Memory()
	if err != nil {
		return 0, 0, fmt.Errorf("model: %w", err)
	}
	room, err := available(dev)
	total = info.TotalBytes
	if host, ok := hostmem.Total(); ok && dev.PhysicalDevice().Type == vk.CPU {
		total = host
	}
	return total, room.Bytes, err
}

// checkHost is a *FitError where the process has no room for what a device that is not the processor needs of it.
func (p MemoryPlan) checkHost(dev *vk.Device) error {
	needed := p.OutputBytes + p.StagingBytes
	room, ok := hostmem.Available()
	if !ok || dev.PhysicalDevice().Type == vk.CPU || needed <= room.Bytes {
		return nil
	}
	return &FitError{Device: "the host", Needed: needed, Available: room.Bytes, Limit: room.Limit, Plan: p}
}

// checkBindings is a *FitError where the keys of a layer or the rotary angles of the context are more than a device
// binds at once.
func (p MemoryPlan) checkBindings(m *pipeline.Manager, shape pipeline.CacheShape, w *Weights) error {
	pd := m.Device().PhysicalDevice()
	table := "rotary angles"
	if w.Positions != nil {
		table = "learned positions"
	}
	for _, b := range []struct {
		what string
		most int
	}{{"one layer's keys", m.MaxCachePositions(shape)}, {table, m.MaxTablePositions(w.tableDim)}} {
		if b.most < p.Context {
			limit := pd.Limits.MaxStorageBufferRange
			return &FitError{Device: pd.Name + "'s bindings for " + b.what, Needed: int64(float64(limit) / float64(b.most) * float64(p.Context)),
				Available: limit, Plan: p, Fits: Smaller{Context: b.most}}
		}
	}
	return nil
}

// cacheShape is the KV cache: Options.pages, or as many as one sequence takes. A local layer keeps of a sequence its window
// and what one chunk adds, so that the chunk's first token still finds all it sees, and gets its share of the pages.
func (c *Config) cacheShape(o *Options, layers layerRange) pipeline.CacheShape {
	s := pipeline.CacheShape{
		DType: o.KVType, Layers: layers.count(), KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim, Positions: o.Context,
		Tables: MaxSpans,
	}
	if c.SlidingWindow > 0 {
		s.Local, s.LocalPositions = c.Local[layers.first:layers.end], (c.SlidingWindow+o.Chunk+7)/8*8
	}
	n, local := s.SequencePages()
	if c.SlidingWindow > 0 { // a burst may be longer than a chunk
		burst := s
		burst.LocalPositions = c.SlidingWindow + pipeline.MaxBurst
		_, most := burst.SequencePages()
		local = max(local, most)
	}
	s.Pages = max(n, o.pages)
	s.LocalPages = (s.Pages*local + n - 1) / n
	return s
}

// cacheShape is Config.cacheShape with the layers that need float32.
func (w *Weights) cacheShape(cfg *Config, o *Options) pipeline.CacheShape {
	s := cfg.cacheShape(o, w.layerRange)
	for _, l := range w.Layers {
		s.Float = append(s.Float, l.fit.float)
	}
	return s
}

// smaller says what would bring the total under what is available; weightsAs is what the weights take in a type.
func (p MemoryPlan) smaller(cfg *Config, o *Options, w *Weights, weightsAs func(dtype.DType) int64) (out Smaller) {
	fixed := p.TotalBytes - p.CacheBytes
	cache := func(o *Options) int64 { return max(o.CacheBytes, w.cacheShape(cfg, o).Bytes()) }
	for n := p.Context / 2; n >= 256; n /= 2 {
		short := *o
		short.Context = n
		if fixed+cache(&short) <= p.AvailableBytes {
			out.Context = n
			break
		}
	}
	q8 := *o
	q8.KVType = dtype.Q8_0
	if o.KVType != dtype.Q8_0 && fixed+cache(&q8) <= p.AvailableBytes {
		out.KVType = dtype.Q8_0.String()
	}
	if n := p.AvailableBytes - fixed; o.CacheBytes > 0 && n >= p.CacheBytes {
		out.CacheBytes = n
	}
	// Of about equal types the one that loses less (docs/quantization.md).
	for _, t := range []dtype.DType{dtype.Q8_0, dtype.Q6_K, dtype.Q5_K, dtype.Q4_K, dtype.Q3_K, dtype.Q2_K} {
		n := weightsAs(t)
		if n < p.WeightsBytes && fixed+cache(o)-p.WeightsBytes+n <= p.AvailableBytes {
			out.DType = t.String()
			break
		}
	}
	return out
}
