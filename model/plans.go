package model

import (
	"context"
	"errors"
	"fmt"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// MaxDraft is the largest number of guessed tokens that is worth evaluating at once.
const MaxDraft = 31

// allLogitsBytes bounds the logits that a plan of AllLogits has in device memory.
const allLogitsBytes = 16 << 20

// A planKey says what a plan is recorded for: up to so many tokens evaluated together, and what they leave.
type planKey struct {
	tokens int
	want   Want
}

// buckets lists the numbers of tokens that plans are recorded for, ascending. A chunk is evaluated by the plan of the
// smallest bucket that takes it.
func buckets(chunk int) []int {
	var out []int
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024} {
		if n < chunk {
			out = append(out, n)
		}
	}
	return append(out, chunk)
}

// bucket is the number of tokens of the plan that evaluates n of them, or the first of them if they are too many.
func (x *Model) bucket(n int, want Want) int {
	if want == AllLogits {
		return x.allLogitsTokens()
	}
	most := x.buckets[len(x.buckets)-1]
	if want == AllArgmax {
		most = x.allArgmaxTokens()
	}
	for _, r := range x.buckets {
		if n <= r {
			return min(r, most)
		}
	}
	return most
}

// allLogitsTokens is the number of tokens of the one plan of AllLogits.
func (x *Model) allLogitsTokens() int {
	return max(1, min(x.opts.Chunk, allLogitsBytes/(4*x.cfg.VocabSize)))
}

// allArgmaxTokens bounds the rows of logits that a plan of AllArgmax has in device memory.
func (x *Model) allArgmaxTokens() int { return min(x.opts.Chunk, MaxDraft+1) }

// builder describes a plan.
func (x *Model) builder(k planKey) *pipeline.Builder {
	b := x.m.NewBuilder(fmt.Sprintf("plan of %d tokens for %s", k.tokens, k.want), k.tokens)
	if x.opts.Taps {
		b.EnableTaps()
	}
	decode(b, x.cfg, x.weights, x.cache, k.want)
	return b
}

// plan is the plan of a key, recorded if it was not yet.
func (x *Model) plan(ctx context.Context, k planKey) (*pipeline.Plan, error) {
	if p, ok := x.plans[k]; ok {
		return p, nil
	}
	p, err := x.builder(k).Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	x.plans[k] = p
	return p, nil
}

// Plan returns the plan that evaluates a chunk of n tokens, or of Options.Chunk if n is more. It records the plan if it
// is new. The Model owns the plan; tests read taps from it.
func (x *Model) Plan(ctx context.Context, n int, want Want) (*pipeline.Plan, error) {
	return x.plan(ctx, planKey{x.bucket(n, want), want})
}

// Profile returns the device time of each kernel in the last execution of a plan: of the last chunk, or of the last
// token of a burst. The Manager must have been made with pipeline.Options.Profile.
func (x *Model) Profile() ([]pipeline.Timing, error) {
	if x.last == nil {
		return nil, errors.New("model: no profile before a token has been evaluated")
	}
	return x.last.Profile()
}

// dryModel is a model without memory: its plans can be described but not recorded.
func (l *loading) dryModel(m *pipeline.Manager, w *Weights) *Model {
	cache := w.cacheShape(l.cfg, &l.opts, l.opts.Context).Dry()
	return &Model{cfg: l.cfg, opts: l.opts, m: m, weights: w, cache: cache, buckets: buckets(l.opts.Chunk)}
}

// planKeys lists every plan that a model can come to have.
func (x *Model) planKeys() []planKey {
	if !x.weights.layerRange.hasHead(x.cfg) {
		var keys []planKey
		for _, tokens := range x.buckets {
			keys = append(keys, planKey{tokens, Hidden})
		}
		return keys
	}
	keys := []planKey{{x.allLogitsTokens(), AllLogits}}
	for _, tokens := range x.buckets {
		keys = append(keys, planKey{tokens, Nothing}, planKey{tokens, Argmax}, planKey{tokens, Logits}, planKey{tokens, SequenceLogits}, planKey{tokens, Candidates})
		if tokens < x.allArgmaxTokens() {
			keys = append(keys, planKey{tokens, AllArgmax})
		}
	}
	return append(keys, planKey{x.allArgmaxTokens(), AllArgmax})
}

// Kernels lists the kernels that the model's plans would use on the device of m, each combination of kernel and
// constants once. It compiles and allocates nothing.
func Kernels(m *pipeline.Manager, c *checkpoint.Checkpoint, o Options) ([]pipeline.KernelUse, error) {
	l, err := newLoading(c, o) // adapters don't change kernels
	if err != nil {
		return nil, err
	}
	w, err := l.bind(m, l.cfg.allLayers())
	if err != nil {
		return nil, err
	}
	dry := l.dryModel(m, w)
	var list []pipeline.KernelUse
	seen := map[string]bool{}
	for _, key := range dry.planKeys() {
		kernels, err := dry.builder(key).Kernels()
		if err != nil {
			return nil, err
		}
		for _, k := range kernels {
			if !seen[k.Config.Name] {
				seen[k.Config.Name] = true
				list = append(list, k)
			}
		}
	}
	return list, nil
}
