package verify

import (
	"fmt"
	"math"
	"slices"

	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// A part is what a batch has of a sequence: so many tokens at a position.
type part struct{ position, tokens int }

// batchCases have several sequences in a step, each with a page table: single tokens, longer pieces, both. Attention of
// each is as if it were alone.
func (v *verifier) batchCases(t pipeline.DType) {
	plain := pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64, RotaryDim: 64}
	window, capped := plain, plain
	window.Window, capped.SoftCap = 13, 5
	large := pipeline.Heads{Heads: 8, KVHeads: 2, HeadDim: 128, RotaryDim: 128}
	singles := []part{{0, 1}, {7, 1}, {63, 1}, {64, 1}, {700, 1}}
	pieces := []part{{0, 20}, {61, 37}, {130, 1}, {5, 9}}
	for _, h := range []pipeline.Heads{plain, window, capped, large} {
		v.batch(t, h, 8, 0, 8, singles)
		v.batch(t, h, 0, 4, 70, pieces)
	}
	v.batch(t, plain, 4, 2, 64, []part{{90, 1}, {3, 1}, {200, 30}, {0, 17}})
	v.batch(t, window, 2, 1, 40, []part{{90, 1}, {3, 1}, {64, 33}})
	v.batch(t, plain, 4, 1, 40, []part{{64, 33}}) // no single token, as it happens
}

// batch runs rotation, cache write and attention in a plan for so many single tokens, other sequences, and tokens.
func (v *verifier) batch(t pipeline.DType, h pipeline.Heads, singles, others, tokens int, parts []part) {
	const positions = 1040
	name := fmt.Sprintf("batch %s, %d + 2 * %d heads of %d, window %d, soft cap %g, %v in %d single tokens and %d sequences, %d tokens", t, h.Heads, h.KVHeads,
		h.HeadDim, h.Window, h.SoftCap, parts, singles, others, tokens)
	v.check(name, func() error {
		scale := float32(1 / math.Sqrt(float64(h.HeadDim)))
		width := (h.Heads + 2*h.KVHeads) * h.HeadDim
		x := v.normal(tokens * width)
		angles := ropeAngles(h, positions)
		table, err := v.vector(angles)
		if err != nil {
			return err
		}
		caches, err := v.newCaches(t, h, positions, parts)
		if err != nil {
			return err
		}
		defer caches[0].Close()
		l := caches[0].layer()
		keys, err := v.sides(caches, parts, true)
		if err != nil {
			return err
		}
		values, err := v.sides(caches, parts, false)
		if err != nil {
			return err
		}
		var step pipeline.Step
		count := 0
		for i, p := range parts {
			q := pipeline.Sequence{Table: caches[0].Table(i), Position: p.position}
			for range p.tokens {
				q.Tokens = append(q.Tokens, count)
				count++
			}
			step.Sequences = append(step.Sequences, q)
		}
		b := v.m.NewBuilder(v.name, tokens)
		b.Batch(singles, others)
		xt, err := v.input(b, x, width)
		if err != nil {
			return err
		}
		before := len(b.Dispatched())
		y := b.RopeAttention(xt, h, table, l, scale)
		dispatched := b.Dispatched()
		dispatched = dispatched[min(before, len(dispatched)):]
		b.Output("input", xt) // else y may lie where it was
		got, err := v.evaluate(b, y, step)
		if err != nil {
			return err
		}
		rawKeys, rawValues := make([]byte, l.Keys.Size), make([]byte, l.Values.Size)
		for _, side := range []struct {
			raw  []byte
			keys bool
		}{{rawKeys, true}, {rawValues, false}} {
			span := l.Values
			if side.keys {
				span = l.Keys
			}
			if err := v.m.Device().Read(span, side.raw); err != nil {
				return err
			}
		}
		// The oracle takes new keys and values as the cache has them: that these are right is shown by the cases of one
		// sequence. Here they must be in this sequence's pages, or its own attention is wrong.
		var want, terms []float64
		oracle := oracleHeads(h, nil)
		at := 0
		for i, p := range parts {
			c := caches[i]
			own := x[at*width : (at+p.tokens)*width]
			q, k, w := oracle.RopeStore(own, angles, p.position)
			if err := v.stored(c, rawKeys, keys[i], k, p); err != nil {
				return err
			}
			if err := v.stored(c, rawValues, values[i], w, p); err != nil {
				return err
			}
			want = append(want, oracle.Attention(q, keys[i], values[i], c.places, p.position, float64(scale))...)
			for j, m := range oracle.Attention(q, keys[i], magnitudes(values[i]), c.places, p.position, float64(scale)) {
				row := q[j/h.HeadDim*h.HeadDim:][:h.HeadDim]
				terms = append(terms, m*(1+scoreTerms(oracle, row, keys[i], j/h.HeadDim%h.Heads, p.position+j/(h.Heads*h.HeadDim), c.places, float64(scale))))
			}
			at += p.tokens
		}
		tolerance := tolerances.attention(701, h.HeadDim) + 2*tolerances.rope*float64(h.HeadDim)
		if slices.ContainsFunc(dispatched, func(k string) bool { return kernels.PathOf(k) == kernels.CM }) {
			tolerance += tolerances.attentionCM(t, h.HeadDim)
		}
		for _, kernel := range dispatched { // which have the result together
			v.each(compare(kernel, v.name, got, want, terms, tolerance))
		}
		return nil
	})
}

// stored takes the rows that a step wrote into the pages of a sequence into what the oracle has, and reports those that
// are far from what they should be: another sequence's, or nothing.
func (v *verifier) stored(c *testCache, raw []byte, side, want []float64, p part) error {
	h := c.h
	for j := range p.tokens {
		for kv := range h.KVHeads {
			row := make([]float32, h.HeadDim)
			c.row(raw, kv, p.position+j).decode(row)
			for d, x := range row {
				expected := want[(j*h.KVHeads+kv)*h.HeadDim+d]
				if !(math.Abs(float64(x)-expected) < 0.1) {
					return fmt.Errorf("place %d of a sequence at %d has %g, want %g", p.position+j, p.position, x, expected)
				}
				side[(kv*c.places+p.position+j)*h.HeadDim+d] = float64(x)
			}
		}
	}
	return nil
}

// newCaches makes a cache for the parts of several sequences, with the pages of each anywhere among the others'.
func (v *verifier) newCaches(t pipeline.DType, h pipeline.Heads, positions int, parts []part) ([]*testCache, error) {
	total := 0
	for _, p := range parts {
		total += ceilDiv(p.position+p.tokens, kernels.PageSize)
	}
	cache, err := v.m.NewCache(pipeline.CacheShape{DType: t, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: positions, Tables: len(parts), Pages: total})
	if err != nil {
		return nil, err
	}
	var list []*testCache
	order := v.rnd.Perm(total)
	for i, p := range parts {
		c := &testCache{Cache: cache, h: h, places: positions, pages: make([]int, ceilDiv(positions, kernels.PageSize))}
		for j := range c.pages {
			if j < ceilDiv(p.position+p.tokens, kernels.PageSize) {
				c.pages[j], order = 1+order[0], order[1:]
			}
			c.SetPages(i, j, c.pages[j], c.pages[j])
		}
		list = append(list, c)
	}
	return list, nil
}

// sides fills keys or values of the places before each part with random numbers and the rest with NaN. It returns what
// each sequence has.
func (v *verifier) sides(caches []*testCache, parts []part, keys bool) ([][]float64, error) {
	l := caches[0].layer()
	span := l.Values
	if keys {
		span = l.Keys
	}
	raw := make([]byte, span.Size)
	for i := range raw {
		raw[i] = poison & 0xff
	}
	var list [][]float64
	for i, c := range caches {
		list = append(list, v.fill(c, raw, parts[i].position, false))
	}
	return list, v.loader.Write(span, raw)
}
