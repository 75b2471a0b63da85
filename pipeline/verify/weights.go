package verify

import (
	"errors"
	"fmt"
	"math"

	"pumice/pipeline"
)

// weightsCases have one of several single tokens leave its weights of attention: of a head, or the mean over all.
func (v *verifier) weightsCases(t pipeline.DType) {
	plain := pipeline.Heads{Heads: 6, KVHeads: 2, HeadDim: 64}
	capped, sloped, window := plain, plain, plain
	capped.SoftCap, window.Window = 5, 13
	sloped.Slopes = &pipeline.Vector{} // filled in below
	for i, h := range []pipeline.Heads{plain, capped, sloped, window, {Heads: 14, KVHeads: 2, HeadDim: 32}, {Heads: 3, KVHeads: 3, HeadDim: 80}, {Heads: 1, KVHeads: 1, HeadDim: 4}} {
		v.attentionWeights(t, h, 0, pipeline.MeanOfHeads, 1040, 70)
		v.attentionWeights(t, h, 1+i%2, i%h.Heads, 1040, 0, 700, 63)
	}
	v.attentionWeights(t, window, 0, pipeline.MeanOfHeads, 40, 91) // a cache shorter than the context
}

// attentionWeights has single tokens at positions of their sequences, and asks for the weights of one of them.
func (v *verifier) attentionWeights(t pipeline.DType, h pipeline.Heads, sequence, head, positions int, at ...int) {
	name := fmt.Sprintf("weights of attention %s, %d / %d heads of %d, window %d, soft cap %g, slopes %t, head %d of sequence %d at %v of %d", t, h.Heads, h.KVHeads,
		h.HeadDim, h.Window, h.SoftCap, h.Slopes != nil, head, sequence, at, positions)
	v.check(name, func() (err error) {
		var slopes []float64
		if h.Slopes != nil {
			for i := range h.Heads {
				slopes = append(slopes, math.Exp2(-float64(i+1)))
			}
			if h.Slopes, err = v.vector(slopes); err != nil {
				return err
			}
		}
		var parts, cached []part
		step := pipeline.Step{}
		for i, position := range at {
			parts, cached = append(parts, part{position, 1}), append(cached, part{position + 1, 0})
			step.Sequences = append(step.Sequences, pipeline.Sequence{Position: position, Tokens: []int{i}})
		}
		var caches []*testCache
		if len(parts) == 1 {
			c, err := v.newCache(t, h, at[0], 1, positions)
			if err != nil {
				return err
			}
			caches = []*testCache{c}
		} else if caches, err = v.newCaches(t, h, positions, parts); err != nil {
			return err
		}
		defer caches[0].Close()
		for i := range step.Sequences {
			step.Sequences[i].Table = caches[0].Table(i)
		}
		keys, err := v.sides(caches, cached, true)
		if err != nil {
			return err
		}
		into := max(positions, at[sequence]+5)
		to, err := v.m.NewCapture(into, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, to.Close()) }()
		to.Choose(sequence, head)
		if err := v.m.Device().Fill(v.ctx, to.Weights(), unset); err != nil {
			return err
		}
		width, scale := h.Heads*h.HeadDim, 1/math.Sqrt(float64(h.HeadDim))
		b := v.m.NewBuilder(v.name, len(at))
		b.Batch(len(at), 0)
		x := v.normal(len(at) * width)
		q, err := v.input(b, x, width)
		if err != nil {
			return err
		}
		before := len(b.Dispatched())
		b.AttentionWeights(q, h, caches[0].layer(), float32(scale), to)
		dispatched := b.Dispatched()[before:]
		if _, err := v.evaluate(b, q, step); err != nil {
			return err
		}
		got := make([]float32, into)
		if _, err := to.Read(got); err != nil {
			return err
		}
		oracle, own := oracleHeads(h, slopes), x[sequence*width:][:width]
		want, terms := make([]float64, into), make([]float64, into)
		first, end := head, head+1
		if head == pipeline.MeanOfHeads {
			first, end = 0, h.Heads
		}
		places := caches[sequence].places
		for i := first; i < end; i++ {
			from, weights := oracle.Weights(own, keys[sequence], places, at[sequence], scale, i)
			errs := 1 + scoreTerms(oracle, own[i*h.HeadDim:][:h.HeadDim], keys[sequence], i, at[sequence], places, scale)
			for j, w := range weights {
				want[from+j] += w / float64(end-first)
				terms[from+j] += w * errs / float64(end-first)
			}
		}
		for _, kernel := range dispatched { // which have the result together
			v.each(compare(kernel, v.name, got, want, terms, tolerances.attention(at[sequence]+1, h.HeadDim)))
		}
		return nil
	})
}
