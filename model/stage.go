package model

import (
	"context"
	"errors"

	"pumice/internal/hostmem"
	"pumice/pipeline"
)

// A stage is consecutive layers of a model on a device: the first has the embedding too, the last the head.
type stage struct {
	cfg     *Config
	opts    Options
	m       *pipeline.Manager
	store   *pipeline.Weights
	weights *Weights
	cache   *pipeline.Cache
	room    hostmem.Room // what the device had before it was loaded
	memory  MemoryPlan
	plans   map[planKey]*pipeline.Plan
	last    *pipeline.Plan // the plan that profile reads: the last one submitted; nil means none
	buckets []int          // numbers of tokens that plans are recorded for, ascending; the last is Options.Chunk
	results results        // of the last evaluation

	captures []*Capture // of its layers
}

// evaluate evaluates a chunk by the plan of a key and adds its results to out, which has those of done tokens before it.
// stream is the residual stream of the tokens, where the layers don't begin with the embedding.
func (g *stage) evaluate(ctx context.Context, k planKey, s pipeline.Step, stream []float32, done int, out *Output) error {
	p, err := g.plan(ctx, k)
	if err != nil {
		return err
	}
	if k.draws() && s.Draw == nil { // the caller chooses
		s.Draw = &pipeline.Draw{Temperature: 1, TopK: 1, TopP: 1, Uniform: make([]float32, 1)}
	}
	var sent int64
	if !g.weights.layerRange.hasEmbedding() {
		if sent, err = p.Input(ctx, stream); err != nil {
			return err
		}
	}
	g.last = p
	c, err := p.Run(ctx, s)
	if err != nil {
		return err
	}
	c.HostToDeviceBytes += sent
	if c.DeviceToHostBytes, err = g.read(p, k, s, done, out); err != nil {
		return err
	}
	out.Counters.Add(c)
	return nil
}

// profile is Model.Profile for the layers of the stage.
func (g *stage) profile() ([]pipeline.Timing, error) {
	if g.last == nil {
		return nil, errors.New("model: no profile before a token has been evaluated")
	}
	return g.last.Profile()
}

// close frees plans, cache and weights. It may be called twice.
func (g *stage) close() error {
	var errs []error
	for _, p := range g.plans {
		errs = append(errs, p.Close())
	}
	g.plans = nil
	for _, c := range g.captures {
		errs = append(errs, c.to.Close())
	}
	g.captures = nil
	if g.cache != nil {
		errs = append(errs, g.cache.Close())
		g.cache = nil
	}
	if g.store != nil {
		errs = append(errs, g.store.Close())
		g.store = nil
	}
	return errors.Join(errs...)
}
