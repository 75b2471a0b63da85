package model

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// A Split is a model whose layers are divided among several devices, consecutive layers to each. The residual stream,
// HiddenSize float32 values a token, passes from device to device through the host. The devices work in turn, so a
// Split is for models that are too large for one device. Only one goroutine at a time may use it.
type Split struct {
	stages []*Model // in the order of their layers
}

// LoadSplit puts a checkpoint on the devices of the managers. Each gets layers in proportion to its available memory,
// at least one; two managers of one device count its memory twice. The checkpoint may be closed afterwards; the caller
// closes the Split before the managers. A *FitError says which device has too little memory.
func LoadSplit(ctx context.Context, managers []*pipeline.Manager, c *checkpoint.Checkpoint, o Options) (_ *Split, err error) {
	l, err := openLoading(ctx, c, o)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	ranges, err := shareLayers(managers, l.cfg.NumHiddenLayers)
	if err != nil {
		return nil, err
	}
	s := &Split{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for i, m := range managers {
		layers := ranges[i]
		if o.Progress != nil {
			l.opts.Progress = layers.progress(o.Progress, l.cfg.NumHiddenLayers)
		}
		x, err := l.load(ctx, m, layers)
		if err != nil {
			return nil, fmt.Errorf("model: layers %d to %d: %w", layers.first, layers.end-1, err)
		}
		s.stages = append(s.stages, x)
	}
	return s, nil
}

// progress turns the progress of loading r into that of all n layers, which are loaded in order: every layer counts as
// much as one of r's.
func (r layerRange) progress(report func(done, total int64), n int) func(done, total int64) {
	return func(done, total int64) {
		all := total * int64(n) / int64(r.count())
		report(all*int64(r.first)/int64(n)+done, all)
	}
}

// shareLayers divides n layers in proportion to the devices' available memory, at least one to each.
func shareLayers(managers []*pipeline.Manager, n int) ([]layerRange, error) {
	if len(managers) > n {
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

// Forward is Model.Forward.
func (s *Split) Forward(ctx context.Context, tokens []int, position int, t Tail) (Output, error) {
	var out Output
	last := s.last()
	if err := errors.Join(last.checkTokens(tokens, position), t.check()); err != nil {
		return out, err
	}
	for done := 0; done < len(tokens); {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n := min(len(tokens)-done, last.bucket(len(tokens)-done, t))
		now := t
		if done+n < len(tokens) {
			now = t.before()
		}
		chunk, err := s.evaluate(ctx, chunkOf(tokens, position, done, n), now)
		out.Counters.Add(chunk.Counters)
		if err != nil {
			return out, err
		}
		if n == len(tokens) {
			return chunk, nil
		}
		out.Choices = append(out.Choices, chunk.Choices...)
		out.LogProbs = append(out.LogProbs, chunk.LogProbs...)
		out.Logits = append(out.Logits, chunk.Logits...)
		out.Hidden = append(out.Hidden, chunk.Hidden...)
		out.Stream = append(out.Stream, chunk.Stream...)
		done += n
	}
	return out, nil
}

// last is the model with the head.
func (s *Split) last() *Model { return s.stages[len(s.stages)-1] }

// evaluate evaluates a chunk on one device after another. The counters of the output are sums over those that did so
// without an error.
func (s *Split) evaluate(ctx context.Context, step pipeline.Step, t Tail) (out Output, err error) {
	var counters pipeline.Counters
	for _, x := range s.stages {
		x.stream = out.Stream
		now := Tail{Stream: true}
		if x == s.last() {
			now = t
		}
		if out, err = x.evaluateOne(ctx, step, now); err != nil {
			break
		}
		counters.Add(out.Counters)
	}
	out.Counters = counters
	return out, err
}

// Sequences is Model.Sequences.
func (s *Split) Sequences() (n, tokens int) { return s.stages[0].Sequences() }

// ForwardSequences is Model.ForwardSequences.
func (s *Split) ForwardSequences(ctx context.Context, sequences [][]int, position int, t Tail) (Output, error) {
	step, err := s.last().sequences(sequences, position, t)
	if err != nil {
		return Output{}, err
	}
	return s.evaluate(ctx, step, t)
}

// MaxSteps is 1: a token passes through the host on its way to the first device.
func (s *Split) MaxSteps() int { return 1 }

// Decode is Model.Decode for one step; more steps are an error.
func (s *Split) Decode(ctx context.Context, token, position, steps int, draw *pipeline.Draw) (Output, error) {
	if steps != 1 {
		return Output{}, fmt.Errorf("model: %d tokens in one go on several devices; only one is possible", steps)
	}
	return s.Forward(ctx, []int{token}, position, decodeTail(draw))
}

// CanResume is Model.CanResume.
func (s *Split) CanResume(length, position int) bool { return s.stages[0].CanResume(length, position) }

// Context is the number of positions of the KV cache.
func (s *Split) Context() int { return s.stages[0].Context() }

// Config is the model's configuration.
func (s *Split) Config() *Config { return s.stages[0].Config() }

// Memory is what the model takes on all devices together.
func (s *Split) Memory() MemoryPlan {
	sum := s.stages[0].Memory()
	sum.WeightTypes = slices.Clone(sum.WeightTypes)
	for _, x := range s.stages[1:] {
		p := x.Memory()
		sum.WeightsBytes += p.WeightsBytes
		for _, t := range p.WeightTypes {
			sum.WeightTypes = addShare(sum.WeightTypes, t)
		}
		sum.CacheBytes += p.CacheBytes
		sum.TableBytes += p.TableBytes
		sum.ArenaBytes += p.ArenaBytes
		sum.OutputBytes += p.OutputBytes
		sum.StagingBytes += p.StagingBytes
		sum.TotalBytes += p.TotalBytes
		sum.AvailableBytes += p.AvailableBytes
	}
	return sum
}

// Profile returns what Model.Profile does for each device's layers, one device after another.
func (s *Split) Profile() ([]pipeline.Timing, error) {
	var all []pipeline.Timing
	for _, x := range s.stages {
		list, err := x.Profile()
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// String names the layers of each device, as in "layers 0 to 15 on NVIDIA H200, layers 16 to 31 on ...".
func (s *Split) String() string {
	var stages []string
	for _, x := range s.stages {
		at := x.weights.layerRange
		stages = append(stages, fmt.Sprintf("layers %d to %d on %s", at.first, at.end-1, x.m.Device().PhysicalDevice().Name))
	}
	return strings.Join(stages, ", ")
}

// Close frees plans, caches and weights of every device. It may be called twice.
func (s *Split) Close() error {
	var errs []error
	for _, x := range s.stages {
		errs = append(errs, x.Close())
	}
	s.stages = nil
	return errors.Join(errs...)
}
