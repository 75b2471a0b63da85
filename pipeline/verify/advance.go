package verify

import (
	"errors"
	"fmt"
	"math"

	"pumice/internal/dtype"
	"pumice/internal/ref"
	"pumice/pipeline"
)

// advanceCases walk over tables whose row t are the logits after token t: what a step has chosen
// is what the next one starts from.
func (v *verifier) advanceCases() {
	for _, c := range []struct{ vocab, first, runs int }{{1, 1, 3}, {7, 3, 8}, {1030, 2, 9}, {1100, pipeline.MaxBurst, pipeline.MaxBurst}} {
		v.check(fmt.Sprintf("advance, %d and %d runs over %d tokens", c.first, c.runs, c.vocab), func() error {
			return v.walk(c.vocab, nil, c.first, c.runs)
		})
	}
	for _, d := range []pipeline.Draw{
		{Temperature: 1, TopK: pipeline.TopLogits, TopP: 1},
		{Temperature: .8, TopK: 40, TopP: .95, MinP: .05},
		{Temperature: 2, TopK: 5, TopP: .5},
		{Temperature: .1, TopK: pipeline.TopLogits, TopP: 1, MinP: .3},
		{Temperature: 5, TopK: 1, TopP: 1},
	} {
		v.check(fmt.Sprintf("advance, temperature %g, top-k %d, top-p %g, min-p %g", d.Temperature, d.TopK, d.TopP, d.MinP), func() error {
			return errors.Join(v.walk(9, &d, 3, 20), v.walk(1030, &d, 7, 20))
		})
	}
}

// walk takes first steps in one Run of a plan and then more in another, and compares what each
// step has found and chosen with the oracle.
func (v *verifier) walk(vocab int, draw *pipeline.Draw, first, runs int) (err error) {
	table := v.normal(vocab * vocab)
	w, err := v.store(rowsOf(dtype.F32, vocab), table, vocab)
	if err != nil {
		return err
	}
	p, err := v.walker(w.matrix, draw != nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var got []float32
	var want []float64
	token, position := 0, 5
	for _, n := range []int{first, runs} {
		s := pipeline.Step{Sequences: []pipeline.Sequence{{Position: position, Tokens: []int{token}}}, Burst: n}
		if draw != nil {
			s.Draw = &pipeline.Draw{Temperature: draw.Temperature, TopK: draw.TopK, TopP: draw.TopP, MinP: draw.MinP, Uniform: make([]float32, n)}
			for i := range s.Draw.Uniform {
				s.Draw.Uniform[i] = v.rnd.Float32()
			}
		}
		if _, err := p.Run(v.ctx, s); err != nil {
			return err
		}
		for run := range n {
			row := table[token*vocab:][:vocab]
			candidates := 1
			if draw != nil {
				candidates = pipeline.TopLogits
			}
			logits, ids := make([]float32, candidates), make([]int, candidates)
			chosen, _, err := p.Chosen(run, logits, ids)
			if err != nil {
				return err
			}
			best := ref.TopK(row, candidates)
			for i := range candidates {
				value, id := math.Inf(-1), math.MaxUint32
				if i < len(best) {
					value, id = row[best[i]], best[i]
				}
				got = append(got, logits[i], float32(ids[i]))
				want = append(want, value, float64(float32(id)))
			}
			token = best[0]
			if draw != nil {
				token = ref.Draw(row, best[:min(len(best), draw.TopK)], float64(draw.Temperature), float64(draw.TopP), float64(draw.MinP), float64(s.Draw.Uniform[run]))
			}
			got = append(got, float32(chosen))
			want = append(want, float64(token))
		}
		position += n
	}
	v.each(compare("advance", v.name, got, want, constant(len(want), 1), tolerances.topK))
	return nil
}

// walker is the plan of a walk over a table.
func (v *verifier) walker(table *pipeline.Matrix, draw bool) (*pipeline.Plan, error) {
	return v.plan(1, func(b *pipeline.Builder) {
		logits := b.Embed(table, 1)
		if draw {
			b.AdvanceDraw(logits)
		} else {
			b.Advance(logits)
		}
	})
}

// plan builds a plan of so many tokens.
func (v *verifier) plan(tokens int, ops func(b *pipeline.Builder)) (*pipeline.Plan, error) {
	b := v.m.NewBuilder(v.name, tokens)
	ops(b)
	need, err := b.Need()
	if err != nil {
		return nil, err
	}
	if err := v.m.Reserve(need); err != nil {
		return nil, err
	}
	if err := v.loader.Flush(); err != nil {
		return nil, err
	}
	return b.Build(v.ctx)
}
