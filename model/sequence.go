package model

import (
	"context"
	"errors"
	"fmt"

	"pumice/model/pages"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// A Sequence is a text in the KV cache: its tokens, and pages with their keys and values, of which it shares those of a
// common beginning with other sequences. Whoever acquired it releases it.
type Sequence struct {
	x     *Model
	pages *pages.Sequence
	table int // its page table on the device; 0: it has none at the moment
	used  int // the step that had it last
}

// maxTables is how many sequences have a page table on the device, besides that of Forward.
const maxTables = pipeline.MaxSequences

// A pool is what a model has for its sequences. It follows Forward's pages on the device.
type pool struct {
	*pages.Pool
	tables [1 + maxTables]*Sequence // whose page tables they are
	step   int                      // of Run
	before [pages.Groups]int        // pages of Forward
	host   map[hostPage][]byte
}

type hostPage struct {
	group pages.Group
	index int32
}

// newPool makes the pool of Options.Pages.
func (x *Model) newPool(shape pipeline.CacheShape) error {
	o := pages.Options{PageSize: kernels.PageSize, Mover: x}
	o.Pages[pages.Global] = 1 + x.opts.Pages
	if shape.HasLocal() {
		o.Window, o.Pages[pages.Local] = x.cfg.SlidingWindow, 1+x.opts.Pages
	}
	p, err := pages.New(o)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	x.pool = &pool{Pool: p, host: map[hostPage][]byte{}}
	x.pool.before[pages.Global], x.pool.before[pages.Local] = shape.SequencePages()
	return nil
}

// page is the page of the device that a page of the pool is; 0 stays 0.
func (p *pool) page(g pages.Group, index int32) pipeline.Page {
	if index > 0 {
		return pipeline.Page{Local: g == pages.Local, Index: p.before[g] + int(index)}
	}
	return pipeline.Page{Local: g == pages.Local}
}

// Move copies pages for the pool.
func (x *Model) Move(ctx context.Context, moves []pages.Move) error {
	var copies []pipeline.PageCopy
	for _, m := range moves {
		g := m.Group
		if x.cache.PageBytes(g == pages.Local) == 0 {
			continue // all layers keep a window, so that nothing is in the other pages
		}
		switch m.Kind {
		case pages.Copy:
			copies = append(copies, pipeline.PageCopy{From: x.pool.page(g, m.From), To: x.pool.page(g, m.To)})
		case pages.Save:
			data := make([]byte, x.cache.PageBytes(g == pages.Local))
			if err := x.cache.ReadPage(ctx, x.pool.page(g, m.From), data); err != nil {
				return err
			}
			x.pool.host[hostPage{g, m.To}] = data
		case pages.Load:
			if err := x.cache.WritePage(ctx, x.pool.page(g, m.To), x.pool.host[hostPage{g, m.From}]); err != nil {
				return err
			}
		}
	}
	if len(copies) == 0 {
		return nil
	}
	return x.cache.CopyPages(ctx, copies...)
}

// errNoPages says that the model was loaded for one sequence at a time.
var errNoPages = errors.New("model: there are no pages for sequences (Options.Pages)")

// Acquire returns a sequence with the longest beginning of tokens that the cache still has, but at most tokens of it.
// What follows that is to be evaluated: tokens[Len():].
func (x *Model) Acquire(ctx context.Context, tokens []int, most int) (*Sequence, error) {
	if x.pool == nil {
		return nil, errNoPages
	}
	s, err := x.pool.Acquire(ctx, tokens, most, pages.Batched)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return &Sequence{x: x, pages: s}, nil
}

// Len is the number of tokens that the cache has of the sequence.
func (q *Sequence) Len() int { return q.pages.Len() }

// Release gives the sequence up. Its pages are kept for others as long as there is room. It may be called twice.
func (q *Sequence) Release() {
	q.pages.Release()
	if q.table > 0 {
		q.x.pool.tables[q.table], q.table = nil, 0
	}
}

// reserve gives the sequence room for n more tokens, and a page table on the device that names the pages.
func (q *Sequence) reserve(ctx context.Context, n int) error {
	changes, err := q.pages.Reserve(ctx, n)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	p := q.x.pool
	q.used = p.step
	if q.table > 0 {
		for _, c := range changes {
			q.name(c.Index)
		}
		return nil
	}
	for i := 1; i < len(p.tables); i++ { // one that is free, else the least recently used
		switch t := p.tables[q.table]; {
		case p.tables[i] == nil:
			q.table = i
		case p.tables[i].used < p.step && (q.table == 0 || t != nil && p.tables[i].used < t.used):
			q.table = i
		}
	}
	if q.table == 0 {
		return fmt.Errorf("model: more than %d sequences in a step", maxTables)
	}
	if other := p.tables[q.table]; other != nil {
		other.table = 0
	}
	p.tables[q.table] = q
	for i := range q.pages.Table(pages.Global) {
		q.name(i)
	}
	return nil
}

// name writes an entry of the sequence's page table.
func (q *Sequence) name(entry int) {
	page := func(g pages.Group) int {
		if t := q.pages.Table(g); entry < len(t) {
			return q.x.pool.page(g, t[entry]).Index
		}
		return 0
	}
	q.x.cache.SetPages(q.table, entry, page(pages.Global), page(pages.Local))
}
