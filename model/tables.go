package model

import (
	"context"
	"fmt"
	"math"

	"pumice/model/pages"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// tables says which sequences have a page table on the devices, at most as many as a step has.
type tables struct {
	of   [MaxSpans]*pages.Sequence // nil: none
	used [MaxSpans]int             // the step that had it last
	step int                       // counts steps
}

// MaxSpans is how many spans a step can have.
const MaxSpans = pipeline.MaxSequences

// newPool makes the pool of the stages' pages.
func (x *Model) newPool() (err error) {
	o := pages.Options{PageSize: kernels.PageSize, Mover: &mover{x: x}}
	o.Pages[pages.Global] = 1 + x.opts.pages
	for _, g := range x.stages {
		shape := g.weights.cacheShape(x.cfg, &x.opts)
		if shape.HasLocal() {
			o.Window, o.Pages[pages.Local] = x.cfg.SlidingWindow, 1+shape.LocalPages
		}
	}
	if both := x.PageBytes(pages.Global) + x.PageBytes(pages.Local); both > 0 { // both groups get as many pages
		o.HostPages[pages.Global] = int(min(x.opts.HostBytes/both, math.MaxInt32))
		if o.Window > 0 {
			o.HostPages[pages.Local] = o.HostPages[pages.Global]
		}
	}
	if x.pool, err = pages.New(o); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	return nil
}

// reserve gives a sequence room for n more tokens, and a page table that names its pages, which it returns.
func (x *Model) reserve(ctx context.Context, q *pages.Sequence, n int) (table int, err error) {
	changes, err := q.Reserve(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("model: %w", err)
	}
	t := &x.tables
	for i := range t.of {
		if t.of[i] == q {
			for _, c := range changes {
				x.name(i, q, c.Index)
			}
			t.used[i] = t.step
			return x.stages[0].cache.Table(i), nil
		}
		if t.used[i] < t.used[table] {
			table = i // the least recently used
		}
	}
	if t.of[table] != nil && t.used[table] == t.step {
		return 0, fmt.Errorf("model: more than %d sequences in a step", MaxSpans)
	}
	t.of[table], t.used[table] = q, t.step
	for i := range q.Table(pages.Global) {
		x.name(table, q, i)
	}
	return x.stages[0].cache.Table(table), nil
}

// name writes an entry of a sequence's page table.
func (x *Model) name(table int, q *pages.Sequence, entry int) {
	page := func(g pages.Group) int {
		if t := q.Table(g); entry < len(t) {
			return int(t[entry])
		}
		return 0
	}
	for _, g := range x.stages {
		g.cache.SetPages(table, entry, page(pages.Global), page(pages.Local))
	}
}
