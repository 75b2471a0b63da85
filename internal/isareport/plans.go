package main

import (
	"context"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"pumice/checkpoint"
	"pumice/internal/dtype"
	"pumice/internal/synth"
	"pumice/model"
	"pumice/pipeline"
)

// A scenario is what a prediction is of.
type scenario struct {
	shape
	title  string // of the model
	tokens int    // in a step: 1 is decoding
	depth  int    // tokens before
}

// generated is how many tokens the measurements generate that predictions are compared with (pumice bench -n 128): behind a
// depth they read the cache of half as many more.
const generated = 128

// contextPlaces is the context of all plans, by which attention is divided: what pumice bench takes for depth 4096 and prompts of 512.
const contextPlaces = 4096 + 512

// test is the name in pumice bench.
func (s scenario) test() string {
	name := fmt.Sprintf("pp%d", s.tokens)
	if s.tokens == 1 {
		name = fmt.Sprintf("tg%d", generated)
	}
	if s.depth > 0 {
		name += fmt.Sprintf(" @ d%d", s.depth)
	}
	return name
}

// before is how many tokens are in the cache.
func (s scenario) before() int {
	if s.tokens == 1 {
		return s.depth + generated/2
	}
	return s.depth
}

// scenarios are what is predicted.
func scenarios() []scenario {
	var list []scenario
	add := func(family, size, title string, tokens int, depths []int, types ...dtype.DType) {
		for _, t := range types {
			for _, depth := range depths {
				list = append(list, scenario{shape{family, size, t, dtype.F16}, title, tokens, depth})
			}
		}
	}
	const prompt = 512
	add("llama", "2-7b", "Llama 2 7B", 1, []int{0, 4096}, dtype.Q4_0, dtype.Q8_0, dtype.Q4_K, dtype.F16)
	add("llama", "2-7b", "Llama 2 7B", prompt, []int{0}, dtype.Q4_0, dtype.F16)
	add("llama", "3-8b", "Llama 3 8B", 1, []int{0, 4096}, dtype.Q4_0)
	add("llama", "3-8b", "Llama 3 8B", prompt, []int{0}, dtype.Q4_0)
	add("llama", "135m", "SmolLM2 135M", 1, []int{0, 4096}, dtype.Q8_0)
	add("llama", "135m", "SmolLM2 135M", prompt, []int{0}, dtype.Q8_0)
	return list
}

// A plan is what a device does in a scenario.
type plan struct {
	*gpu
	scenario
	dispatches []pipeline.Dispatch
	weights    int64 // bytes of the model on the device
	minimum    int64 // bytes that a step reads at least
	operations int64
}

// compilers are the devices whose counts are taken.
func (g *gpu) compilers() []string {
	if g.loops != "" {
		return []string{g.standIn, g.loops}
	}
	return []string{g.standIn}
}

// plans makes the plans of all devices, without any device: package pipeline plans for what gpus describes.
func plans(ctx context.Context) ([]plan, error) {
	dir, err := os.MkdirTemp("", "isareport")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	files := map[shape]*checkpoint.Checkpoint{}
	defer func() {
		for _, c := range files {
			c.Close()
		}
	}()
	var list []plan
	for i := range gpus {
		m, err := pipeline.Describe(gpus[i].physical(), pipeline.Options{})
		if err != nil {
			return nil, err
		}
		for _, s := range scenarios() {
			c := files[s.shape]
			if c == nil {
				file, err := synth.WriteHollow(ctx, dir, s.family, s.size, s.dtype)
				if err != nil {
					return nil, err
				}
				if c, err = checkpoint.Open(ctx, file); err != nil {
					return nil, err
				}
				files[s.shape] = c
			}
			p, err := s.plan(&gpus[i], m, c)
			if err != nil {
				return nil, fmt.Errorf("%s: %s %s %s: %w", gpus[i].name, s.title, s.dtype, s.test(), err)
			}
			list = append(list, p)
		}
	}
	return list, nil
}

func (s scenario) plan(g *gpu, m *pipeline.Manager, c *checkpoint.Checkpoint) (plan, error) {
	step := pipeline.Step{Sequences: []pipeline.Sequence{{Position: s.before(), Tokens: make([]int, s.tokens)}}}
	o := model.Options{Logger: zerolog.Nop(), Context: contextPlaces}
	list, err := model.Dispatches(m, c, o, step, model.Tail{Rows: model.LastRows, Top: 1})
	p := plan{gpu: g, scenario: s, dispatches: list}
	for _, d := range list {
		p.weights += d.WeightBytes
		p.minimum += d.WeightBytes + d.KVBytes
		p.operations += d.Operations
	}
	return p, err
}
