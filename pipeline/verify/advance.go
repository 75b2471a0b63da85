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
	v.check("advance, the largest of many tiles", func() error { return v.wide(70_001, [][]int{{70_000}, {40_000, 50_000}, {7, 33_000, 66_000}}) })
	for _, d := range draws {
		v.check(fmt.Sprintf("advance, temperature %g, top-k %d, top-p %g, min-p %g", d.Temperature, d.TopK, d.TopP, d.MinP), func() error {
			return errors.Join(v.walk(9, &d, 3, 20), v.walk(1030, &d, 7, 20))
		})
	}
}

// drawCases choose a token for each row of a step, in each row by other rules, in plans with room for more.
func (v *verifier) drawCases() {
	for _, c := range []struct{ room, rows, vocab, rounds int }{{1, 1, 9, 20}, {4, 3, 1030, 10}, {pipeline.MaxSequences, pipeline.MaxSequences, 200, 5}, {8, 5, 65, 10}} {
		v.check(fmt.Sprintf("draw, %d of %d rows of %d tokens", c.rows, c.room, c.vocab), func() error {
			return v.rows(c.room, c.rows, c.vocab, c.rounds)
		})
	}
}

func (v *verifier) rows(room, rows, vocab, rounds int) (err error) {
	x := v.normal(room * vocab)
	x[0] = math.Inf(-1)
	p, err := v.plan(room, func(b *pipeline.Builder) {
		var logits *pipeline.Tensor
		if logits, err = v.input(b, x, vocab); err == nil {
			b.Draw(logits)
		}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var got []float32
	var want []float64
	for round := range rounds {
		s := rowsStep(rows)
		for row := range rows {
			d := draws[(row+round)%len(draws)]
			d.Uniform = []float32{v.rnd.Float32()}
			s.Draws = append(s.Draws, d)
		}
		if _, err := p.Run(v.ctx, s); err != nil {
			return err
		}
		for row, d := range s.Draws {
			values := x[row*vocab:][:vocab]
			best, err := v.found(p, row, values, pipeline.TopLogits, &got, &want)
			if err != nil {
				return err
			}
			token := best[0]
			if d.Temperature > 0 {
				token = ref.Draw(values, best[:min(len(best), d.TopK)], float64(d.Temperature), float64(d.TopP), float64(d.MinP), float64(d.Uniform[0]))
			}
			want = append(want, float64(token))
		}
	}
	v.each(compare("draw", v.name, got, want, constant(len(want), 1), tolerances.topK))
	return nil
}

// found appends what a step or row has found to got, its choice last, and to want all that it should find but the choice.
// It returns the largest of values.
func (v *verifier) found(p *pipeline.Plan, step int, values []float64, candidates int, got *[]float32, want *[]float64) (best []int, err error) {
	logits, ids := make([]float32, candidates), make([]int, candidates)
	chosen, _, err := p.Chosen(step, logits, ids)
	if err != nil {
		return nil, err
	}
	best = ref.TopK(values, candidates)
	for i := range candidates {
		value, id := math.Inf(-1), math.MaxUint32
		if i < len(best) {
			value, id = values[best[i]], best[i]
		}
		*got = append(*got, logits[i], float32(ids[i]))
		*want = append(*want, value, float64(float32(id)))
	}
	*got = append(*got, float32(chosen))
	return best, nil
}

// draws are ways to draw a token.
var draws = []pipeline.Draw{
	{Temperature: 1, TopK: pipeline.TopLogits, TopP: 1},
	{Temperature: .8, TopK: 40, TopP: .95, MinP: .05},
	{Temperature: 2, TopK: 5, TopP: .5},
	{Temperature: .1, TopK: pipeline.TopLogits, TopP: 1, MinP: .3},
	{Temperature: 5, TopK: 1, TopP: 1},
	{},
}

// wide chooses the first of the largest of so many logits, of rows in which they stand at several places.
func (v *verifier) wide(vocab int, largest [][]int) (err error) {
	table := v.normal(len(largest) * vocab)
	for row, ids := range largest {
		for _, id := range ids {
			table[row*vocab+id] = 10
		}
	}
	w, err := v.store(rowsOf(dtype.F32, len(largest)), table, vocab)
	if err != nil {
		return err
	}
	p, err := v.walker(w.matrix, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var got []float32
	var want []float64
	for row, ids := range largest {
		if _, err := p.Run(v.ctx, pipeline.Step{Sequences: []pipeline.Sequence{{Tokens: []int{row}}}}); err != nil {
			return err
		}
		chosen, _, err := p.Chosen(0, nil, nil)
		if err != nil {
			return err
		}
		got, want = append(got, float32(chosen)), append(want, float64(ids[0]))
	}
	v.each(compare("advance", v.name, got, want, constant(len(want), 1), tolerances.topK))
	return nil
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
			best, err := v.found(p, run, row, candidates, &got, &want)
			if err != nil {
				return err
			}
			token = best[0]
			if draw != nil && draw.Temperature > 0 {
				token = ref.Draw(row, best[:min(len(best), draw.TopK)], float64(draw.Temperature), float64(draw.TopP), float64(draw.MinP), float64(s.Draw.Uniform[run]))
			}
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
	if !v.wanted(b.Dispatched()) {
		return nil, errLeftOut
	}
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
