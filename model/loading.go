package model

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sort"
	"sync"
	"time"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// A loading is a checkpoint on its way to one or several devices.
type loading struct {
	file     *checkpoint.Checkpoint
	cfg      *Config
	opts     Options  // with the defaults filled in
	adapters adapters // nil until openAdapters
}

// newLoading reads a checkpoint's configuration and checks the options.
func newLoading(c *checkpoint.Checkpoint, o Options) (*loading, error) {
	cfg, err := ReadConfig(c)
	if err != nil {
		return nil, err
	}
	if err := o.normalise(cfg); err != nil {
		return nil, err
	}
	return &loading{file: c, cfg: cfg, opts: o}, nil
}

// openLoading is newLoading with the adapters open. The caller closes it when the weights are loaded.
func openLoading(ctx context.Context, c *checkpoint.Checkpoint, o Options) (*loading, error) {
	l, err := newLoading(c, o)
	if err != nil {
		return nil, err
	}
	if l.adapters, err = openAdapters(ctx, o.LoRA); err != nil {
		return nil, err
	}
	return l, nil
}

// Close closes the adapters. The checkpoint is the caller's.
func (l *loading) Close() error { return l.adapters.Close() }

// Load puts a checkpoint on the devices of managers. The checkpoint may be closed afterwards; the caller closes the Model
// before the Managers. Several devices get layers in proportion to their available memory, at least one each; two managers
// of one device count its memory twice. A *FitError says which device has too little memory.
func Load(ctx context.Context, c *checkpoint.Checkpoint, o Options, managers ...*pipeline.Manager) (_ *Model, err error) {
	l, err := openLoading(ctx, c, o)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ranges, err := shareLayers(managers, l.cfg.NumHiddenLayers)
	if err != nil {
		return nil, err
	}
	x := &Model{cfg: l.cfg}
	if x.fingerprint, err = l.fingerprint(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	name := func(layers layerRange, err error) error {
		if err == nil || len(managers) == 1 {
			return err
		}
		return fmt.Errorf("model: layers %d to %d: %w", layers.first, layers.end-1, err)
	}
	var needs []pipeline.Need
	for i, m := range managers { // all before any memory is allocated, since they have as many pages as the least of them
		g, need, err := l.stage(ctx, m, ranges[i])
		if err != nil {
			return nil, name(ranges[i], err)
		}
		x.stages, needs = append(x.stages, g), append(needs, need)
	}
	parts, err := l.cacheParts(x.stages)
	if err != nil {
		return nil, err
	}
	for i, g := range x.stages {
		part := *l
		part.opts.CacheBytes = parts[i]
		n, err := part.fit(g, needs[i])
		if err != nil {
			return nil, name(ranges[i], err)
		}
		if i == 0 || n < l.opts.pages {
			l.opts.pages = n
		}
	}
	x.opts = l.opts
	var before, total int64
	for _, g := range x.stages {
		total += g.weights.read
	}
	for i, g := range x.stages {
		g.opts, g.memory = l.opts, l.plan(g, needs[i])
		if o.Progress != nil {
			others := before
			g.opts.Progress = func(done, _ int64) { o.Progress(others+done, total) }
		}
		before += g.weights.read
		if err := l.load(ctx, g, needs[i]); err != nil {
			return nil, name(ranges[i], err)
		}
	}
	x.memory = x.sumMemory()
	if err := x.newPool(); err != nil {
		return nil, err
	}
	return x, nil
}

// cacheParts divides Options.CacheBytes among stages, which get as many pages each. 0 stays 0.
func (l *loading) cacheParts(stages []*stage) ([]int64, error) {
	parts := make([]int64, len(stages))
	divide := func(pages int) (sum int64) {
		with := l.opts
		with.pages = pages
		for i, g := range stages {
			parts[i] = g.weights.cacheShape(l.cfg, &with).Bytes()
			sum += parts[i]
		}
		return sum
	}
	switch n, least := l.opts.CacheBytes, divide(0); {
	case n == 0:
		clear(parts)
	case n < least:
		return nil, &CacheError{n, least, l.opts.Context}
	case len(stages) == 1:
		parts[0] = n
	default:
		divide(sort.Search(math.MaxInt32, func(pages int) bool { return divide(pages+1) > n }))
	}
	return parts, nil
}

// stage describes a range of layers on the device of m, the first one with the embedding and the last one with the head,
// and what its plans share.
func (l *loading) stage(ctx context.Context, m *pipeline.Manager, layers layerRange) (*stage, pipeline.Need, error) {
	w, err := l.bind(m, layers)
	if err != nil {
		return nil, pipeline.Need{}, err
	}
	if err := w.fitCache(ctx, m, l.cfg, &l.opts); err != nil {
		return nil, pipeline.Need{}, err
	}
	need, err := l.need(m, w)
	if err != nil {
		return nil, need, err
	}
	room, err := available(m.Device())
	return &stage{
		cfg: l.cfg, m: m, weights: w, room: room, buckets: buckets(l.opts.Chunk), plans: map[planKey]*pipeline.Plan{},
	}, need, err
}

// load allocates what a stage has on its device, and fills it.
func (l *loading) load(ctx context.Context, g *stage, need pipeline.Need) (err error) {
	if g.cache, err = g.m.NewCache(g.weights.cacheShape(l.cfg, &l.opts)); err != nil {
		return err
	}
	if err = g.m.Reserve(need); err != nil {
		return err
	}
	g.store = g.m.NewWeights(g.weights.vectorBytes)
	if err = g.upload(ctx); err != nil {
		return fmt.Errorf("model: %s: %w", l.file.Path(), err)
	}
	return nil
}

// shareLayers divides n layers in proportion to the devices' available memory, at least one to each.
func shareLayers(managers []*pipeline.Manager, n int) ([]layerRange, error) {
	if len(managers) == 0 || len(managers) > n {
		return nil, fmt.Errorf("model: %d devices for %d layers", len(managers), n)
	}
	memory := make([]int64, len(managers))
	var total int64
	for i, m := range managers {
		room, err := available(m.Device())
		if err != nil {
			return nil, err
		}
		memory[i] = room.Bytes
		total += memory[i]
	}
	out := make([]layerRange, len(managers))
	var before int64
	for i := range managers {
		before += memory[i]
		first := 0
		if i > 0 {
			first = out[i-1].end
		}
		end := int(float64(n)*float64(before)/float64(max(total, 1)) + 0.5)
		out[i] = layerRange{first, min(max(end, first+1), n-(len(managers)-1-i))}
	}
	return out, nil
}

// upload reads, converts and copies the weights.
func (g *stage) upload(ctx context.Context) error {
	start := time.Now()
	l, err := g.store.NewLoader(ctx)
	if err != nil {
		return err
	}
	l.Workers = g.opts.Workers
	if progress := g.opts.Progress; progress != nil {
		var mu sync.Mutex
		var done int64
		l.Progress = func(n int64) {
			mu.Lock()
			defer mu.Unlock()
			done += n
			progress(done, g.weights.read)
		}
	}
	err = g.weights.load(ctx, l)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	g.opts.Logger.Debug().Int64("bytes", g.store.Bytes()).Dur("took", time.Since(start)).Msg("weights are on the device")
	return err
}
