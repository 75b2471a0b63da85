package verify

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"pumice/internal/dtype"
	"pumice/internal/half"
	"pumice/internal/ref"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/vk"
)

func oracleHeads(h pipeline.Heads, slopes []float64) ref.Heads {
	return ref.Heads{Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, RotaryDim: h.RotaryDim, Interleaved: h.Interleaved,
		Clip: float64(h.Clip), Window: h.Window, SoftCap: float64(h.SoftCap), Slopes: slopes, Bidirectional: h.Bidirectional}
}

func (v *verifier) ropeCases(t pipeline.DType) {
	for _, c := range []struct {
		h                           pipeline.Heads
		position, tokens, count, of int
	}{
		{pipeline.Heads{Heads: 3, KVHeads: 1, HeadDim: 64, RotaryDim: 64}, 0, 1, 1, 5},
		{pipeline.Heads{Heads: 4, KVHeads: 2, HeadDim: 32, RotaryDim: 32, Interleaved: true}, 63, 65, 63, 130},
		{pipeline.Heads{Heads: 2, KVHeads: 2, HeadDim: 80, RotaryDim: 20}, 7, 7, 7, 64},
		{pipeline.Heads{Heads: 2, KVHeads: 1, HeadDim: 80, RotaryDim: 32, Interleaved: true}, 1, 2, 1, 3},
		{pipeline.Heads{Heads: 8, KVHeads: 1, HeadDim: 128, RotaryDim: 128, Clip: 1.5}, 4000, 64, 64, 4097},
		{pipeline.Heads{Heads: 1, KVHeads: 1, HeadDim: 256, RotaryDim: 0}, 2, 3, 3, 7},
		{pipeline.Heads{Heads: 1, KVHeads: 1, HeadDim: 4, RotaryDim: 2}, 2, 7, 7, 65},
		{pipeline.Heads{Heads: 3, KVHeads: 3, HeadDim: 96, RotaryDim: 96}, 11, 5, 4, 21},
		{pipeline.Heads{Heads: 2, KVHeads: 1, HeadDim: 40, RotaryDim: 10}, 5, 3, 3, 9},               // the partners of a pair are of two pairs
		{pipeline.Heads{Heads: 2, KVHeads: 2, HeadDim: 64, RotaryDim: 64, Window: 16}, 30, 8, 7, 32}, // wraps around
	} {
		v.rope(t, c.h, c.position, c.tokens, c.count, c.of)
	}
	v.rope(t, pipeline.Heads{Heads: 3, KVHeads: 1, HeadDim: 64, RotaryDim: 64}, 5, 17, 15, 23, 3, 1, 9, 2)
	v.rope(t, pipeline.Heads{Heads: 2, KVHeads: 2, HeadDim: 64, RotaryDim: 64, Window: 16}, 30, 8, 7, 32, 5, 2)
}

func (v *verifier) rope(t pipeline.DType, h pipeline.Heads, position, tokens, count, positions int, lengths ...int) {
	name := fmt.Sprintf("rope %s, %d + 2 * %d heads of %d, rotary %d, interleaved %t, clip %g, %d of %d tokens%s at %d of %d", t, h.Heads, h.KVHeads,
		h.HeadDim, h.RotaryDim, h.Interleaved, h.Clip, count, tokens, inSequences(lengths), position, positions)
	v.check(name, func() error {
		width := (h.Heads + 2*h.KVHeads) * h.HeadDim
		x := v.normal(tokens * width)
		angles := ropeAngles(h, position+tokens)
		table, err := v.vector(append(angles, make([]float64, 1)...)) // never empty
		if err != nil {
			return err
		}
		cache, err := v.newCache(t, h, position, count, positions)
		if err != nil {
			return err
		}
		defer cache.Close()
		l := cache.layer()
		for _, s := range []vk.Span{l.Keys, l.Values} {
			if err := v.m.Device().Fill(v.ctx, s, poison); err != nil {
				return err
			}
		}
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, width)
		if err != nil {
			return err
		}
		q := b.RopeStore(xt, h, table, l)
		kernel := lastKernel(b)
		step := packed(inputStep(position, count), lengths)
		got, err := v.evaluate(b, q, step)
		if err != nil {
			return err
		}
		var wantQ, wantK, wantV []float64
		for _, s := range spans(step) {
			q, k, v := oracleHeads(h, nil).RopeStore(x[s.start*width:s.end*width], angles, position)
			wantQ, wantK, wantV = append(wantQ, q...), append(wantK, k...), append(wantV, v...)
		}
		v.each(compare(kernel, v.name+": queries", got, wantQ, headTerms(wantQ, h.HeadDim), tolerances.rope))
		for _, kv := range []struct {
			name string
			span vk.Span
			want []float64
		}{{"keys", l.Keys, wantK}, {"values", l.Values, wantV}} {
			raw := make([]byte, kv.span.Size)
			if err := v.m.Device().Read(kv.span, raw); err != nil {
				return err
			}
			got, untouched := cache.rows(raw, position, count)
			terms, tolerance := storedTerms(t, kv.want, h.HeadDim)
			r := compare(kernel, v.name+": "+kv.name, got, kv.want, terms, tolerance)
			if !untouched {
				r.Case, r.OK = r.Case+": wrote outside the run's positions", false
			}
			v.each(r)
		}
		return nil
	})
}

// ropeAngles is a table of cosines and sines, (positions, RotaryDim / 2, 2).
func ropeAngles(h pipeline.Heads, positions int) []float64 {
	var angles []float64
	for p := range positions {
		for j := range h.RotaryDim / 2 {
			sin, cos := math.Sincos(float64(p) * math.Pow(10000, -2*float64(j)/float64(h.RotaryDim)))
			angles = append(angles, float64(float32(cos)), float64(float32(sin)))
		}
	}
	return angles
}

// headTerms is twice the largest magnitude of each head.
func headTerms(x []float64, headDim int) []float64 {
	out := make([]float64, len(x))
	for i := range out {
		for _, v := range x[i/headDim*headDim:][:headDim] {
			out[i] = max(out[i], 2*math.Abs(v))
		}
	}
	return out
}

// storedTerms is what rotated keys, or values, err by in a cache of a type: terms, and the tolerance relative to those.
func storedTerms(t pipeline.DType, want []float64, headDim int) (terms []float64, tolerance float64) {
	terms = headTerms(want, headDim)
	for i := range terms {
		switch t {
		case dtype.F16:
			terms[i] = math.Abs(want[i]) + terms[i]*0x1p-11
		case dtype.Q8_0:
			terms[i] = blockMax(want, i, headDim) + terms[i]*0x1p-11
		}
	}
	switch t {
	case dtype.F16:
		return terms, tolerances.ropeF16
	case dtype.Q8_0:
		return terms, tolerances.ropeQ8
	}
	return terms, tolerances.rope
}

// blockMax is the largest magnitude in the block of a Q8_0 cache that value i is in.
func blockMax(x []float64, i, headDim int) float64 {
	n := dtype.Q8_0.BlockSize()
	row := x[i/headDim*headDim:][:headDim]
	from := i % headDim / n * n
	largest := 0.0
	for _, v := range row[from:min(from+n, headDim)] {
		largest = max(largest, math.Abs(v))
	}
	return largest
}

// A testCache is a KV cache of one layer, whose pages are in random order. A sequence has only those that hold what it
// sees from a position on, and what it writes.
type testCache struct {
	*pipeline.Cache
	h      pipeline.Heads
	places int   // of the sequence
	pages  []int // of each kernels.PageSize places; 0: none
}

// newCache makes a cache for count tokens at a position of a sequence that may have so many positions. If these are too
// few, the layer keeps only so many.
func (v *verifier) newCache(t pipeline.DType, h pipeline.Heads, position, count, positions int) (*testCache, error) {
	s := pipeline.CacheShape{DType: t, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: max(positions, position+count)}
	first := 0
	if s.Positions > positions {
		s.Local, s.LocalPositions = []bool{true}, positions
		first = max(0, position-h.Window+1)
	}
	cache, err := v.m.NewCache(s)
	if err != nil {
		return nil, err
	}
	c := &testCache{Cache: cache, h: h, places: s.Positions, pages: make([]int, ceilDiv(s.Positions, kernels.PageSize))}
	order := v.rnd.Perm(c.layer().Pages - 1)
	for i := range c.pages {
		if i >= first/kernels.PageSize && i <= (position+count-1)/kernels.PageSize {
			c.pages[i], order = 1+order[0], order[1:]
		}
		c.SetPages(0, i, c.pages[i], c.pages[i])
	}
	return c, nil
}

func (c *testCache) layer() *pipeline.LayerCache { return c.Layers[0] }

// has reports whether the sequence has the page of a place.
func (c *testCache) has(place int) bool { return c.pages[place/kernels.PageSize] > 0 }

// A cacheRow is where the row of a key-value head at a place is in a side's bytes: components, and for Q8_0 behind all
// rows the scales.
type cacheRow struct {
	t           pipeline.DType
	row, scales []byte
}

func (c *testCache) row(raw []byte, kv, place int) cacheRow {
	l := c.layer()
	at := (c.pages[place/kernels.PageSize]*c.h.KVHeads+kv)*kernels.PageSize + place%kernels.PageSize
	if l.DType != dtype.Q8_0 {
		size := c.h.HeadDim * l.DType.BlockBytes()
		return cacheRow{l.DType, raw[at*size:][:size], nil}
	}
	scales := int(kernels.CacheRowBytes(l.DType, c.h.HeadDim)) - c.h.HeadDim
	behind := l.Pages * kernels.PageSize * c.h.KVHeads * c.h.HeadDim
	return cacheRow{l.DType, raw[at*c.h.HeadDim:][:c.h.HeadDim], raw[behind+at*scales:][:scales]}
}

func (c cacheRow) decode(dst []float32) {
	if c.t != dtype.Q8_0 {
		c.t.Decode(dst, c.row)
		return
	}
	for d := range dst {
		scale := half.FromF16(binary.LittleEndian.Uint16(c.scales[d/c.t.BlockSize()*2:]))
		dst[d] = scale * float32(int8(c.row[d]))
	}
}

// encode stores a row; the end of an incomplete last block is never read.
func (c cacheRow) encode(src []float32) {
	if c.t != dtype.Q8_0 {
		c.t.Encode(c.row, src)
		return
	}
	n := c.t.BlockSize()
	full := make([]float32, ceilDiv(len(src), n)*n)
	copy(full, src)
	blocks := make([]byte, c.t.RowBytes(len(full)))
	c.t.Encode(blocks, full)
	for b := range len(full) / n {
		block := blocks[b*c.t.BlockBytes():]
		copy(c.scales[2*b:], block[:2])
		copy(c.row[b*n:], block[2:c.t.BlockBytes()])
	}
}

// rows returns what is at count positions from position on, (count, KVHeads, HeadDim),
// and whether all the rest is still poison.
func (c *testCache) rows(raw []byte, position, count int) (rows []float32, untouched bool) {
	rest := slices.Clone(raw)
	for i := range count {
		for kv := range c.h.KVHeads {
			row := make([]float32, c.h.HeadDim)
			c.row(raw, kv, position+i).decode(row)
			rows = append(rows, row...)
			own := c.row(rest, kv, position+i)
			for _, b := range [][]byte{own.row, own.scales} {
				for j := range b {
					b[j] = poison & 0xff
				}
			}
		}
	}
	return rows, !slices.ContainsFunc(rest, func(b byte) bool { return b != poison&0xff })
}

func (v *verifier) attentionCases(t pipeline.DType) {
	type attention struct {
		h                           pipeline.Heads
		position, tokens, count, of int
		lengths                     []int
		peaks                       bool
	}
	var list []attention
	add := func(h pipeline.Heads, position, tokens, count, of int, lengths ...int) {
		list = append(list, attention{h: h, position: position, tokens: tokens, count: count, of: of, lengths: lengths})
	}
	plain := pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64}
	for _, length := range []int{1, 7, 8, 9, 63, 64, 65, 300} {
		add(plain, length-1, 1, 1, 300)
	}
	add(plain, 0, 65, 63, 80)
	add(plain, 57, 9, 9, 80)
	add(plain, 64, 8, 3, 80)
	add(plain, 5, 7, 1, 20)
	for _, length := range []int{1, 31, 300, 1031} {
		add(pipeline.Heads{Heads: 8, KVHeads: 2, HeadDim: 128}, length-1, 1, 1, 1040)
	}
	for _, headDim := range []int{4, 16, 32, 80, 96, 128, 256} {
		h := pipeline.Heads{Heads: 3, KVHeads: 3, HeadDim: headDim}
		if headDim == 80 || headDim == 256 {
			h.KVHeads = 1
		}
		add(h, 40, 1, 1, 64)
		add(h, 17, 13, 11, 64)
	}
	capped := plain
	capped.SoftCap = 5
	tight := plain
	tight.SoftCap = 0.02 // scores are up to some hundred times as large
	sloped := plain
	sloped.Slopes = &pipeline.Vector{} // filled in below
	window := plain
	window.Window = 13
	for _, h := range []pipeline.Heads{capped, tight, sloped, window} {
		add(h, 70, 1, 1, 96)
		add(h, 33, 20, 17, 96)
		add(h, 0, 9, 9, 96)
	}
	grouped := pipeline.Heads{Heads: 14, KVHeads: 2, HeadDim: 64} // more heads share keys than a workgroup takes
	add(grouped, 50, 1, 1, 64)
	for _, heads := range []int{5, 8} { // as many as a workgroup takes
		add(pipeline.Heads{Heads: heads, KVHeads: 1, HeadDim: 128}, 700, 1, 1, 1040)
	}
	add(grouped, 90, 21, 19, 130)
	add(plain, 190, 70, 70, 264)
	add(pipeline.Heads{Heads: 8, KVHeads: 2, HeadDim: 128}, 45, 40, 37, 96)
	sloped.KVHeads = 1
	for _, length := range []int{1, 63, 65, 120, 128, 500, 700, 1031} { // keys in several splits
		add(plain, length-1, 1, 1, 1040)
		add(sloped, length-1, 1, 1, 1040)
	}
	// 512 keys fill four splits of the base path and eight of the sg path: longer splits would be fewer.
	peaked := pipeline.Heads{Heads: 6, KVHeads: 3, HeadDim: 64}
	list = append(list, attention{h: peaked, position: 511, tokens: 1, count: 1, of: 1040, peaks: true})
	wide := plain
	wide.Window = 600
	for _, position := range []int{500, 599, 607, 900, 2000} {
		add(wide, position, 1, 1, 1040)
	}
	add(wide, 620, 40, 40, 664)
	add(window, 100, 1, 1, 40) // a cache shorter than the context
	add(window, 91, 1, 1, 40)  // keys from 79 on, which no power of two divides
	add(window, 100, 20, 17, 40)
	add(window, 6, 20, 20, 40)
	for _, h := range []pipeline.Heads{plain, capped, sloped, window} {
		add(h, 0, 40, 37, 96, 1, 20, 7, 9)
		add(h, 21, 40, 40, 96, 3, 30, 5, 2)
		add(h, 40, 70, 66, 160, 17, 15, 16, 18)
	}
	add(window, 100, 20, 17, 40, 4, 9, 4)
	add(window, 100, 20, 20, 40, 1, 19)
	both := plain
	both.Bidirectional = true
	add(both, 0, 1, 1, 64)
	for _, count := range []int{2, 7, 8, 9, 31, 33, 63, 65, 300} {
		add(both, 0, count+count%2, count, 320)
	}
	add(both, 21, 40, 40, 96)
	add(both, 64, 8, 3, 80)
	cappedBoth := both
	cappedBoth.SoftCap = 5
	for _, h := range []pipeline.Heads{both, cappedBoth, {Heads: 4, KVHeads: 4, HeadDim: 32, Bidirectional: true}, {Heads: 8, KVHeads: 2, HeadDim: 128, Bidirectional: true}} {
		add(h, 0, 40, 37, 96, 1, 20, 7, 9)
		add(h, 0, 70, 66, 160, 17, 15, 16, 18)
		add(h, 0, 130, 130, 160, 2, 64, 1, 63)
		add(h, 21, 40, 40, 96, 3, 30, 5, 2)
	}
	for _, headDim := range []int{4, 16, 80, 96, 256} {
		add(pipeline.Heads{Heads: 3, KVHeads: 3, HeadDim: headDim, Bidirectional: true}, 0, 24, 21, 64, 13, 8)
	}
	sixteen := []int{3, 1, 9, 2, 5, 8, 1, 1, 4, 7, 2, 6, 3, 1, 10, 1} // as many as a step has
	add(both, 0, 64, 64, 96, sixteen...)
	path := v.path()
	takes := func(a attention) bool { // the others are another path's
		if path == kernels.Base || path == kernels.Row {
			return true
		}
		shape := kernels.Attention{Type: t, Tokens: a.tokens, Single: a.tokens == 1, HeadDim: a.h.HeadDim}
		k := kernels.AttentionOp(shape.Single).Of(path)
		if k == nil || !k.Fits(v.m.Machine(), shape, kernels.RowMajor) || !v.m.Offers(shape.Op(), path) {
			return false
		}
		return path != kernels.CM || !(v.options.Quick && a.h.HeadDim > 64)
	}
	if v.fusesRope(t) {
		v.ropeAttentionCases(t)
	}
	v.batchCases(t)
	defer func() { v.peaks = false }()
	for _, c := range list {
		if takes(c) {
			v.peaks = c.peaks
			v.attention(t, c.h, c.position, c.tokens, c.count, c.of, c.lengths...)
		}
	}
}

// fusesRope reports whether the path has attention of a token that also rotates and stores, for a cache of the type.
func (v *verifier) fusesRope(t pipeline.DType) bool {
	return v.path() != kernels.CM && v.m.HasKernel(v.path().Variant("attention_rope_"+kernels.Lower(t)))
}

func (v *verifier) ropeAttentionCases(t pipeline.DType) {
	partial := pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64, RotaryDim: 16, Interleaved: true, Clip: 1.5}
	window := pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64, RotaryDim: 64, Window: 13}
	for _, c := range []struct {
		h            pipeline.Heads
		position, of int
	}{
		{pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64, RotaryDim: 64}, 0, 20}, {pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64, RotaryDim: 64}, 70, 1040},
		{pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64, RotaryDim: 64}, 700, 1040},
		{partial, 8, 40}, {partial, 15, 16}, {window, 30, 96}, {window, 100, 40}, {window, 91, 40},
		{pipeline.Heads{Heads: 14, KVHeads: 2, HeadDim: 64, RotaryDim: 64, SoftCap: 5}, 9, 40},
		{pipeline.Heads{Heads: 2, KVHeads: 1, HeadDim: 128, RotaryDim: 128}, 33, 64}, {pipeline.Heads{Heads: 8, KVHeads: 2, HeadDim: 128, RotaryDim: 128}, 900, 1040},
		{pipeline.Heads{Heads: 3, KVHeads: 3, HeadDim: 32, RotaryDim: 32}, 512, 1040}, {pipeline.Heads{Heads: 2, KVHeads: 2, HeadDim: 16, RotaryDim: 16}, 30, 64},
		{pipeline.Heads{Heads: 3, KVHeads: 3, HeadDim: 80, RotaryDim: 20}, 17, 64},
	} {
		v.ropeAttention(t, c.h, c.position, c.of)
	}
}

// ropeAttention runs rotation, cache write and attention of one token.
func (v *verifier) ropeAttention(t pipeline.DType, h pipeline.Heads, position, positions int) {
	name := fmt.Sprintf("rope and attention %s, %d + 2 * %d heads of %d, rotary %d, interleaved %t, clip %g, window %d, soft cap %g, at %d of %d", t, h.Heads, h.KVHeads,
		h.HeadDim, h.RotaryDim, h.Interleaved, h.Clip, h.Window, h.SoftCap, position, positions)
	v.check(name, func() error {
		scale := float32(1 / math.Sqrt(float64(h.HeadDim)))
		x := v.normal((h.Heads + 2*h.KVHeads) * h.HeadDim)
		angles := ropeAngles(h, position+1)
		table, err := v.vector(angles)
		if err != nil {
			return err
		}
		cache, err := v.newCache(t, h, position, 1, positions)
		if err != nil {
			return err
		}
		defer cache.Close()
		l := cache.layer()
		keys, err := v.cacheSide(cache, l.Keys, position, false)
		if err != nil {
			return err
		}
		values, err := v.cacheSide(cache, l.Values, position, false)
		if err != nil {
			return err
		}
		b := v.m.NewBuilder(v.name, 1)
		xt, err := v.input(b, x, len(x))
		if err != nil {
			return err
		}
		before := len(b.Dispatched())
		y := b.RopeAttention(xt, h, table, l, scale)
		dispatched := b.Dispatched()
		dispatched = dispatched[min(before, len(dispatched)):]
		got, err := v.evaluate(b, y, inputStep(position, 1))
		if err != nil {
			return err
		}
		// The oracle takes the new key and value as the cache has them, once they are seen to be right.
		q, k, w := oracleHeads(h, nil).RopeStore(x, angles, position)
		for _, side := range []struct {
			span          vk.Span
			cached, fresh []float64
		}{{l.Keys, keys, k}, {l.Values, values, w}} {
			raw := make([]byte, side.span.Size)
			if err := v.m.Device().Read(side.span, raw); err != nil {
				return err
			}
			rows, _ := cache.rows(raw, position, 1)
			terms, tolerance := storedTerms(t, side.fresh, h.HeadDim)
			v.each(compare(dispatched[0], v.name+": cache", rows, side.fresh, terms, tolerance))
			for i, r := range rows {
				side.cached[(i/h.HeadDim*cache.places+position)*h.HeadDim+i%h.HeadDim] = float64(r)
			}
		}
		oracle := oracleHeads(h, nil)
		want := oracle.Attention(q, keys, values, cache.places, position, float64(scale))
		terms := oracle.Attention(q, keys, magnitudes(values), cache.places, position, float64(scale))
		for i := range terms {
			own := q[i/h.HeadDim*h.HeadDim:][:h.HeadDim]
			terms[i] *= 1 + scoreTerms(oracle, own, keys, i/h.HeadDim, position, cache.places, float64(scale))
		}
		for _, kernel := range dispatched {
			// A rotated query errs by tolerances.rope of its largest component, as a term of each score.
			v.each(compare(kernel, v.name, got, want, terms, tolerances.attention(min(position+1, positions), h.HeadDim)+2*tolerances.rope*float64(h.HeadDim)))
		}
		return nil
	})
}

func (v *verifier) attention(t pipeline.DType, h pipeline.Heads, position, tokens, count, positions int, lengths ...int) {
	name := fmt.Sprintf("attention %s, %d / %d heads of %d, window %d, soft cap %g, slopes %t, bidirectional %t, %d of %d tokens%s at %d of %d", t, h.Heads, h.KVHeads, h.HeadDim,
		h.Window, h.SoftCap, h.Slopes != nil, h.Bidirectional, count, tokens, inSequences(lengths), position, positions)
	if v.peaks {
		name += ", peaks in one split"
	}
	v.check(name, func() error {
		width := h.Heads * h.HeadDim
		scale := float32(1 / math.Sqrt(float64(h.HeadDim)))
		var slopes []float64
		if h.Slopes != nil {
			for i := range h.Heads {
				slopes = append(slopes, math.Exp2(-float64(i+1)))
			}
			var err error
			if h.Slopes, err = v.vector(slopes); err != nil {
				return err
			}
		}
		cache, err := v.newCache(t, h, position, count, positions)
		if err != nil {
			return err
		}
		defer cache.Close()
		l := cache.layer()
		keys, err := v.cacheSide(cache, l.Keys, position+count, v.peaks)
		if err != nil {
			return err
		}
		values, err := v.cacheSide(cache, l.Values, position+count, false)
		if err != nil {
			return err
		}
		x := v.normal(tokens * width)
		oracle := oracleHeads(h, slopes)
		step := packed(inputStep(position, count), lengths)
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, width)
		if err != nil {
			return err
		}
		before := len(b.Dispatched())
		y := b.Attention(xt, h, l, scale)
		dispatched := b.Dispatched()
		dispatched = dispatched[min(before, len(dispatched)):]
		got, err := v.evaluate(b, y, step)
		if err != nil {
			return err
		}
		var want, terms []float64
		for _, s := range spans(step) {
			q, places := x[s.start*width:s.end*width], position+s.end-s.start
			keys, values := cache.ending(keys, position, s), cache.ending(values, position, s)
			want = append(want, oracle.Attention(q, keys, values, places, position, float64(scale))...)
			for i, m := range oracle.Attention(q, keys, magnitudes(values), places, position, float64(scale)) {
				own, last := q[i/h.HeadDim*h.HeadDim:][:h.HeadDim], position+i/width
				if h.Bidirectional {
					last = places - 1
				}
				terms = append(terms, m*(1+scoreTerms(oracle, own, keys, i/h.HeadDim%h.Heads, last, places, float64(scale))))
			}
		}
		for _, kernel := range dispatched { // a reduction has what the splits leave, and both must be right
			tolerance := tolerances.attention(min(position+count, positions), h.HeadDim)
			if kernels.PathOf(kernel) == kernels.CM {
				tolerance += tolerances.attentionCM(t, h.HeadDim)
			}
			v.each(compare(kernel, v.name, got, want, terms, tolerance))
		}
		return nil
	})
}

// ending is a side of the cache as one ending of a step at position sees it: (KVHeads, places, HeadDim), the last of which
// are its own.
func (c *testCache) ending(side []float64, position int, s span) []float64 {
	places := position + s.end - s.start
	out := make([]float64, 0, c.h.KVHeads*places*c.h.HeadDim)
	for kv := range c.h.KVHeads {
		for at := range places {
			if at >= position {
				at += s.start
			}
			out = append(out, side[(kv*c.places+at)*c.h.HeadDim:][:c.h.HeadDim]...)
		}
	}
	return out
}

// cacheSide fills the pages of live positions of a cache's keys or values with random numbers and the
// rest with NaN. With peaks, 64 positions of each of three KV heads are 128 times as large: the first, those from 128
// on, and the last live ones. Scores of two splits then differ by more than 88, the logarithm of the largest float32.
// It returns what the cache holds, (KVHeads, places, HeadDim), 0 for NaN.
func (v *verifier) cacheSide(c *testCache, span vk.Span, live int, peaks bool) ([]float64, error) {
	raw := make([]byte, span.Size)
	for i := range raw {
		raw[i] = poison & 0xff
	}
	out := v.fill(c, raw, live, peaks)
	return out, v.loader.Write(span, raw)
}

// fill is cacheSide in the bytes of a side.
func (v *verifier) fill(c *testCache, raw []byte, live int, peaks bool) []float64 {
	h := c.h
	out := make([]float64, h.KVHeads*c.places*h.HeadDim)
	f := make([]float32, h.HeadDim)
	peak := []int{0, 128, live - 64}
	for kv := range h.KVHeads {
		for j := range live {
			if !c.has(j) {
				continue
			}
			for d := range f {
				f[d] = float32(v.rnd.NormFloat64())
				if peaks && j >= peak[kv] && j < peak[kv]+64 {
					f[d] *= 128
				}
			}
			row := c.row(raw, kv, j)
			row.encode(f)
			row.decode(f)
			for d := range f {
				out[(kv*c.places+j)*h.HeadDim+d] = float64(f[d])
			}
		}
	}
	return out
}

// scoreTerms is the largest magnitude of the terms of a score of the query of a head that sees the positions up to own.
func scoreTerms(h ref.Heads, q, keys []float64, head, own, positions int, scale float64) float64 {
	largest := 0.0
	for j := max(0, own-positions+1); j <= own; j++ {
		if h.Window > 0 && j <= own-h.Window {
			continue
		}
		s := h.SoftCap
		if h.Slopes != nil {
			s += h.Slopes[head] * float64(own-j)
		}
		key := keys[(head/(h.Heads/h.KVHeads)*positions+j%positions)*h.HeadDim:]
		for d := range q {
			s += scale * math.Abs(q[d]*key[d])
		}
		largest = max(largest, s)
	}
	return largest
}
