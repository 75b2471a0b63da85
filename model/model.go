package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pumice/model/pages"
	"pumice/pipeline"
)

// A Model is a checkpoint in the memory of one or more devices, with a KV cache. Several devices have consecutive layers
// each: the residual stream, HiddenSize float32 values a token, passes from one to the next through the host. They work in
// turn, so that is for models that are too large for one of them.
//
// Texts are sequences of Pages. Only one goroutine at a time may use a Model and its sequences.
type Model struct {
	cfg    *Config
	opts   Options
	stages []*stage // one for each device, in the order of their layers
	pool   *pages.Pool
	tables tables
	memory MemoryPlan // of all stages

	// Memory that is used again: of the last step, and of the last Decode.
	sequences []pipeline.Sequence
	adjusts   []pipeline.Adjust
	first     [1]int

	capture *Capture // of the evaluations to come; nil means none

	fingerprint string
}

// head is the stage with the head.
func (x *Model) head() *stage { return x.stages[len(x.stages)-1] }

// Pages is the KV cache: it has the sequences that Run evaluates.
func (x *Model) Pages() *pages.Pool { return x.pool }

// Config returns the model's configuration. The caller must not change it.
func (x *Model) Config() *Config { return x.cfg }

// Context returns how many positions a sequence can have.
func (x *Model) Context() int { return x.opts.Context }

// Memory returns what the model takes on all its devices together.
func (x *Model) Memory() MemoryPlan { return x.memory }

// sumMemory is what the stages take together.
func (x *Model) sumMemory() MemoryPlan {
	sum := x.stages[0].memory
	sum.WeightTypes = slices.Clone(sum.WeightTypes)
	for _, g := range x.stages[1:] {
		p := g.memory
		sum.WeightsBytes += p.WeightsBytes
		for _, t := range p.WeightTypes {
			sum.WeightTypes = addShare(sum.WeightTypes, t)
		}
		sum.CacheBytes += p.CacheBytes
		sum.PageBytes += p.PageBytes
		sum.TableBytes += p.TableBytes
		sum.ArenaBytes += p.ArenaBytes
		sum.OutputBytes += p.OutputBytes
		sum.StagingBytes += p.StagingBytes
		sum.TotalBytes += p.TotalBytes
		sum.AvailableBytes += p.AvailableBytes
	}
	return sum
}

// Profile returns the device time of each kernel, at each size, in the last execution of a plan: of the last chunk, or of the last token
// of a burst; of one device after another. The Managers must have been made with pipeline.Options.Profile.
func (x *Model) Profile() ([]pipeline.Timing, error) {
	var all []pipeline.Timing
	for _, g := range x.stages {
		list, err := g.profile()
		if err != nil {
			return nil, err
		}
		all = append(all, list...)
	}
	return all, nil
}

// String names the layers of each device, as in "layers 0 to 15 on NVIDIA H200, layers 16 to 31 on ...".
func (x *Model) String() string {
	var stages []string
	for _, g := range x.stages {
		at := g.weights.layerRange
		stages = append(stages, fmt.Sprintf("layers %d to %d on %s", at.first, at.end-1, g.m.Device().PhysicalDevice().Name))
	}
	return strings.Join(stages, ", ")
}

// Close frees plans, cache and weights of every device. It may be called twice.
func (x *Model) Close() error {
	var errs []error
	for _, g := range x.stages {
		errs = append(errs, g.close())
	}
	x.stages = nil
	return errors.Join(errs...)
}
