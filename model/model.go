package model

import (
	"errors"

	"pumice/pipeline"
)

// A Model is a checkpoint on a device, with one KV cache. Only one goroutine at a time may use it. It does not record
// which tokens the cache holds: Forward writes the positions that it is given, and the caller must know which positions
// are valid.
type Model struct {
	cfg     *Config
	opts    Options
	m       *pipeline.Manager
	store   *pipeline.Weights
	weights *Weights
	cache   *pipeline.Cache
	memory  MemoryPlan
	plans   map[planKey]*pipeline.Plan
	last    *pipeline.Plan // the plan that Profile reads: the last one submitted; nil means none
	pool    *pool          // nil without Options.Pages
	buckets []int          // numbers of tokens that plans are recorded for, ascending; the last is Options.Chunk
	results results        // of the last evaluation
	stream  []float32      // the residual stream of the tokens, where the layers don't begin with the embedding
}

// CanResume reports whether evaluation can continue at position when positions 0 to length-1 have been written. It
// cannot always go back: layers with a sliding window overwrite old pages, and the token at position may need
// some of these.
func (x *Model) CanResume(length, position int) bool {
	if position > length {
		return false
	}
	shape := x.cfg.cacheShape(&x.opts, x.opts.Context, x.cfg.allLayers())
	// The token at position sees back to position - window + 1.
	return max(0, position-x.cfg.SlidingWindow+1) >= shape.FirstKept(length)
}

// Config returns the model's configuration. The caller must not change it.
func (x *Model) Config() *Config { return x.cfg }

// Memory returns the device memory that the model takes.
func (x *Model) Memory() MemoryPlan { return x.memory }

// Context returns the number of positions of the KV cache.
func (x *Model) Context() int { return x.opts.Context }

// Close frees plans, cache and weights. It may be called twice.
func (x *Model) Close() error {
	var errs []error
	for _, p := range x.plans {
		errs = append(errs, p.Close())
	}
	x.plans = nil
	if x.cache != nil {
		errs = append(errs, x.cache.Close())
		x.cache = nil
	}
	if x.store != nil {
		errs = append(errs, x.store.Close())
		x.store = nil
	}
	return errors.Join(errs...)
}
