package model

import (
	"context"
	"errors"
	"fmt"
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

// Load puts a checkpoint on the device of m. The checkpoint may be closed afterwards; the
// caller closes the Model before the Manager. A *FitError says that the device has too little memory.
func Load(ctx context.Context, m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) (*Model, error) {
	l, err := openLoading(ctx, c, o)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.load(ctx, m, l.cfg.allLayers())
}

// load puts a range of layers on the device of m: the first one with the embedding, the last one with the head.
func (l *loading) load(ctx context.Context, m *pipeline.Manager, layers layerRange) (_ *Model, err error) {
	w, err := l.bind(m, layers)
	if err != nil {
		return nil, err
	}
	if err := w.fitCache(ctx, m, l.cfg, &l.opts); err != nil {
		return nil, err
	}
	x := &Model{
		cfg: l.cfg, opts: l.opts, m: m, weights: w,
		buckets: buckets(l.opts.Chunk), plans: map[planKey]*pipeline.Plan{},
	}
	need, err := l.need(m, w)
	if err != nil {
		return nil, err
	}
	if x.memory, err = l.estimate(m, w, need); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.Close())
		}
	}()
	shape := w.cacheShape(l.cfg, &l.opts, l.opts.Context)
	if x.cache, err = m.NewCache(shape); err != nil {
		return nil, err
	}
	if l.opts.Pages > 0 {
		if err = x.newPool(shape); err != nil {
			return nil, err
		}
	}
	if err = m.Reserve(need); err != nil {
		return nil, err
	}
	x.store = m.NewWeights(w.vectorBytes)
	if err = x.upload(ctx); err != nil {
		return nil, fmt.Errorf("model: %s: %w", l.file.Path(), err)
	}
	return x, nil
}

// upload reads, converts and copies the weights.
func (x *Model) upload(ctx context.Context) error {
	start := time.Now()
	l, err := x.store.NewLoader(ctx)
	if err != nil {
		return err
	}
	l.Workers = x.opts.Workers
	if progress := x.opts.Progress; progress != nil {
		var mu sync.Mutex
		var done int64
		l.Progress = func(n int64) {
			mu.Lock()
			defer mu.Unlock()
			done += n
			progress(done, x.weights.read)
		}
	}
	err = x.weights.load(ctx, l)
	if cerr := l.Close(); err == nil {
		err = cerr
	}
	x.opts.Logger.Debug().Int64("bytes", x.store.Bytes()).Dur("took", time.Since(start)).Msg("weights are on the device")
	return err
}
