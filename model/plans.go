package model

import (
	"context"
	"fmt"
	"slices"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// MaxDraft is the largest number of guessed tokens that is worth evaluating at once.
const MaxDraft = 31

// everyLogitsBytes bounds the logits of every row that a plan has in device memory.
const everyLogitsBytes = 16 << 20

// A planKey says what a plan is recorded for: up to so many tokens evaluated together, up to so many rows of results
// (with LastRows one for each sequence), and what they leave.
type planKey struct {
	tokens, rows int
	tail         Tail

	singles, sequences int // of Builder.Batch; 0 and 0: one sequence

	capture *Capture // the plan leaves weights of attention in it; nil means none
}

// between is the key of the plan by which a stage without the head evaluates what that of k continues.
func (k planKey) between() planKey {
	k.rows, k.tail = 0, Tail{Stream: true}
	return k
}

// advances reports whether the plan chooses the next token itself: it has one token, and leaves what Builder.Advance or
// AdvanceDraw find.
func (k planKey) advances() bool {
	t := k.tail
	return k.tokens == 1 && t.Rows == LastRows && !t.LogProbs && !t.Adjusted && (t.Top == 1 && !t.Margin || t.Top == pipeline.TopLogits)
}

// draws reports whether the plan advances by AdvanceDraw.
func (k planKey) draws() bool { return k.advances() && k.tail.Top > 1 }

// A plannedTail is what evaluations leave of one sequence, and with several of several.
type plannedTail struct {
	tail    Tail
	several bool
}

// planned lists those that the memory plan has room for.
// The plan of another Tail may need more, which is an error when it is built.
var planned = []plannedTail{
	{tail: Tail{Rows: EveryRow, Logits: true}},
	{tail: Tail{}},
	{tail: Tail{Rows: LastRows, Top: 1}},
	{tail: Tail{Rows: LastRows, Logits: true}, several: true},
	{tail: Tail{Rows: LastRows, Top: pipeline.TopLogits}},
	{tail: Tail{Rows: EveryRow, Top: 1, Margin: true}},
	{tail: Tail{Rows: EveryRow, LogProbs: true}},
	{tail: Tail{Rows: EveryRow, Top: pipeline.TopLogits}},
	{tail: Tail{Rows: EveryRow, Margin: true, Logits: true}},
	{tail: Tail{Rows: EveryRow, Top: pipeline.TopLogits, LogProbs: true}},
	{tail: Tail{Rows: LastRows, Top: pipeline.TopLogits, LogProbs: true}},
	{tail: Tail{Rows: LastRows, Top: 1, Adjusted: true}},
	{tail: Tail{Rows: LastRows, Top: pipeline.TopLogits, Adjusted: true}},
	{tail: Tail{Rows: LastRows, Top: pipeline.TopLogits, LogProbs: true, Adjusted: true}},
	{tail: Tail{Rows: LastRows, Hidden: true}, several: true},
	{tail: Tail{Rows: EveryRow, Hidden: true}},
}

// planned lists those that the model can leave: an encoder has no head.
func (g *stage) planned() []plannedTail {
	return slices.DeleteFunc(slices.Clone(planned), func(p plannedTail) bool { return g.cfg.Encoder && p.tail.head() })
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

// maxTokens is the most tokens that are evaluated together for a tail.
func (g *stage) maxTokens(t Tail) int {
	n := g.opts.Chunk
	if t.Rows == EveryRow && (t.Logits || t.LogProbs) {
		n = min(n, everyLogitsBytes/(4*g.cfg.VocabSize))
	}
	if t.Rows == EveryRow && t.pairs() > 0 && !t.LogProbs {
		n = min(n, MaxDraft+1)
	}
	return max(1, n)
}

// MaxRows is the most tokens that are evaluated together for a tail.
func (x *Model) MaxRows(t Tail) int { return x.head().maxTokens(t) }

// bucket is the number of tokens of the plan that evaluates n of them, or the first of them if they are too many. All
// logits of every row have one plan, unless they decide about a draft, which asks for the margin too.
func (g *stage) bucket(n int, t Tail) int {
	most := g.maxTokens(t)
	if t.Rows == EveryRow && (t.LogProbs || t.Logits && t.pairs() == 0) {
		return most
	}
	for _, r := range g.buckets {
		if n <= r {
			return min(r, most)
		}
	}
	return most
}

// maxSequences is the most sequences that so many tokens can be.
func maxSequences(tokens int) int { return min(pipeline.MaxSequences, tokens) }

// key is the key of the plan that evaluates a chunk of n tokens, one sequence or several.
func (g *stage) key(n int, several bool, t Tail) planKey {
	k := planKey{tokens: g.bucket(n, t), tail: t}
	switch {
	case t.Rows == EveryRow:
		k.rows = k.tokens
	case t.Rows == LastRows && several:
		k.rows = maxSequences(k.tokens)
	case t.Rows == LastRows:
		k.rows = 1
	}
	return k
}

// builder describes a plan.
func (g *stage) builder(k planKey) *pipeline.Builder {
	b := g.m.NewBuilder(fmt.Sprintf("plan of %d tokens for %s", k.tokens, k.tail), k.tokens)
	if g.opts.Taps {
		b.EnableTaps()
	}
	if k.singles+k.sequences > 0 {
		b.Batch(k.singles, k.sequences)
	}
	decode(b, g.cfg, g.weights, g.cache, k)
	return b
}

// plan is the plan of a key, recorded if it was not yet.
func (g *stage) plan(ctx context.Context, k planKey) (*pipeline.Plan, error) {
	if p, ok := g.plans[k]; ok {
		return p, nil
	}
	p, err := g.builder(k).Build(ctx)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	g.plans[k] = p
	return p, nil
}

// Plan returns the plan that evaluates a chunk of n tokens of one sequence, or of Options.Chunk if n is more, on the
// device with the head. It records the plan if it is new. The Model owns the plan; tests read taps from it.
func (x *Model) Plan(ctx context.Context, n int, t Tail) (*pipeline.Plan, error) {
	return x.head().plan(ctx, x.head().key(n, false, t))
}

// dry is a stage without memory: its plans can be described but not recorded.
func (l *loading) dry(m *pipeline.Manager, w *Weights) *stage {
	cache := w.cacheShape(l.cfg, &l.opts).Dry()
	return &stage{cfg: l.cfg, opts: l.opts, m: m, weights: w, cache: cache, buckets: buckets(l.opts.Chunk)}
}

// planKeys lists every plan that the memory plan has room for.
func (g *stage) planKeys() []planKey {
	var keys []planKey
	seen := map[planKey]bool{}
	head := g.weights.layerRange.hasHead(g.cfg)
	add := func(k planKey) {
		if !head {
			k = k.between()
		}
		if !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	for _, tokens := range g.buckets {
		for _, p := range g.planned() {
			add(g.key(tokens, false, p.tail))
			if p.several {
				add(g.key(tokens, true, p.tail))
			}
		}
	}
	for _, k := range g.batchKeys() {
		add(k)
	}
	return keys
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
	dry := l.dry(m, w)
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

// Dispatches lists the dispatches of the plan that evaluates a step of one sequence and leaves t, on the device of m, in order.
// The step's tokens count, not their values. It compiles and allocates nothing.
func Dispatches(m *pipeline.Manager, c *checkpoint.Checkpoint, o Options, s pipeline.Step, t Tail) ([]pipeline.Dispatch, error) {
	l, err := newLoading(c, o)
	if err != nil {
		return nil, err
	}
	w, err := l.bind(m, l.cfg.allLayers())
	if err != nil {
		return nil, err
	}
	dry := l.dry(m, w)
	return dry.builder(dry.key(s.Len(), false, t)).Dispatches(s)
}
