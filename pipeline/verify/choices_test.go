package verify

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"pumice/internal/dtype"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
	"pumice/sample"
)

// A wish is what someone asks of a row: parameters, a text so far, biases, and a mask.
type wish struct {
	params  sample.Params
	history []int
	bias    map[int]float32
	allowed []uint32
}

// A device chooses from adjusted logits what package sample chooses with the same random number. Only where that falls
// within rounding of the edge between two tokens may the other one be chosen.
func TestChoicesAreThoseOfSample(t *testing.T) {
	const vocab, rounds = 1030, 40
	m := newManager(t, pipeline.Options{})
	err := onPath(t.Context(), m, kernels.Base, func(r Result) { t.Error(r) }, nil, func(v *verifier) {
		all := []sample.Params{
			{RepeatPenalty: 1.5},
			{RepeatPenalty: 1.2, FrequencyPenalty: 1, PresencePenalty: -.5},
			{Temperature: 1, TopK: pipeline.TopLogits},
			{Temperature: .8, TopK: 40, TopP: .95, MinP: .05, RepeatPenalty: 1.3},
			{Temperature: 1.5, TopK: 20, TopP: .9, FrequencyPenalty: .7, PresencePenalty: .4, RepeatLastN: 30},
			{Temperature: 3, TopK: 7, RepeatPenalty: .8, FrequencyPenalty: -.3},
		}
		for _, p := range all {
			v.check(fmt.Sprintf("choices by %+v", p), func() error { return v.choices(t, vocab, rounds, p) })
		}
		v.check("choices of rows", func() error { return v.rowChoices(t, vocab, rounds, all) })
	})
	if err != nil {
		t.Error(err)
	}
}

func (v *verifier) choices(t *testing.T, vocab, rounds int, p sample.Params) (err error) {
	table := v.normal(vocab * vocab)
	for i := range table {
		table[i] = float64(float32(4 * table[i]))
	}
	w, err := v.store(rowsOf(dtype.F32, vocab), table, vocab)
	if err != nil {
		return err
	}
	plan, err := v.plan(1, func(b *pipeline.Builder) {
		logits := b.Embed(w.matrix, 1)
		b.Adjust(logits)
		b.Allow(logits)
		if p.Temperature > 0 {
			b.AdvanceDraw(logits)
		} else {
			b.Advance(logits)
		}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plan.Close()) }()
	edges := 0
	for round := range rounds {
		x := v.wish(vocab, p, round)
		token := v.rnd.IntN(vocab)
		logits := x.logits(table[token*vocab:][:vocab])
		s := inputStep(0, 1)
		s.Sequences[0].Tokens[0] = token
		s.Adjust = []pipeline.Adjust{x.adjust()}
		u := x.uniform()
		if p.Temperature > 0 {
			s.Draw = x.draw(u)
		}
		if _, err := plan.Run(v.ctx, s); err != nil {
			return err
		}
		got, _, err := plan.Chosen(0, nil, nil)
		if err != nil {
			return err
		}
		if !x.chooses(t, logits, u, got) {
			edges++
		}
	}
	if edges > rounds/20 {
		t.Errorf("%s: %d of %d choices are those beside", v.name, edges, rounds)
	}
	return nil
}

// rowChoices draws in a step for rows with parameters of their own.
func (v *verifier) rowChoices(t *testing.T, vocab, rounds int, all []sample.Params) (err error) {
	rows := len(all)
	table := v.normal(rows * vocab)
	for i := range table {
		table[i] = float64(float32(4 * table[i]))
	}
	plan, err := v.plan(rows, func(b *pipeline.Builder) {
		var logits *pipeline.Tensor
		if logits, err = v.input(b, table, vocab); err == nil {
			b.Adjust(logits)
			b.Allow(logits)
			b.Draw(logits)
		}
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, plan.Close()) }()
	edges := 0
	for round := range rounds {
		s := rowsStep(rows)
		var wishes []*wish
		for row, p := range all {
			x := v.wish(vocab, p, rows*round+row)
			s.Adjust = append(s.Adjust, x.adjust())
			s.Draws = append(s.Draws, *x.draw(x.uniform()))
			wishes = append(wishes, x)
		}
		if _, err := plan.Run(v.ctx, s); err != nil {
			return err
		}
		for row, x := range wishes {
			got, _, err := plan.Chosen(row, nil, nil)
			if err != nil {
				return err
			}
			if !x.chooses(t, x.logits(table[row*vocab:][:vocab]), x.uniform(), got) {
				edges++
			}
		}
	}
	if edges > rows*rounds/20 {
		t.Errorf("%s: %d of %d choices are those beside", v.name, edges, rows*rounds)
	}
	return nil
}

// uniform is the number by which package sample draws.
func (x *wish) uniform() float64 { return sample.New(x.params).Preview(nil, 1)[0] }

// wish makes one of random texts and biases, every third with a mask. Likely tokens are in the text.
func (v *verifier) wish(vocab int, p sample.Params, seed int) *wish {
	x := &wish{params: p, bias: map[int]float32{}}
	x.params.Seed = uint64(seed)
	for range v.rnd.IntN(400) {
		x.history = append(x.history, v.rnd.IntN(1+v.rnd.IntN(vocab)))
	}
	for range v.rnd.IntN(50) {
		x.bias[v.rnd.IntN(vocab)] = float32(3 * v.rnd.NormFloat64())
	}
	x.bias[v.rnd.IntN(vocab)] = float32(math.Inf(-1))
	if seed%3 == 0 {
		x.allowed = v.mask(vocab, []string{"some", "few", "one"}[seed/3%3])
	}
	return x
}

// logits is a row as package sample takes it: with biases, and -Inf where a token is not allowed.
func (x *wish) logits(row []float64) []float32 {
	out := make([]float32, len(row))
	for id, l := range row {
		out[id] = float32(l) + x.bias[id]
		if x.allowed != nil && x.allowed[id/32]>>(id%32)&1 == 0 {
			out[id] = float32(math.Inf(-1))
		}
	}
	return out
}

// adjust is the wish as a device takes it.
func (x *wish) adjust() pipeline.Adjust {
	p := x.params
	a := pipeline.Adjust{RepeatPenalty: p.RepeatPenalty, FrequencyPenalty: p.FrequencyPenalty, PresencePenalty: p.PresencePenalty,
		Allowed: x.allowed}
	window := x.history
	if n := p.RepeatLastN; n > 0 && n < len(window) {
		window = window[len(window)-n:]
	}
	counts := map[int]int{}
	for _, id := range window {
		counts[id]++
	}
	for id, n := range counts {
		a.Tokens = append(a.Tokens, pipeline.AdjustedToken{ID: id, Count: n, Bias: x.bias[id]})
	}
	for id, bias := range x.bias {
		if counts[id] == 0 {
			a.Tokens = append(a.Tokens, pipeline.AdjustedToken{ID: id, Bias: bias})
		}
	}
	return a
}

// draw is how a device draws with the number u.
func (x *wish) draw(u float64) *pipeline.Draw {
	d := &pipeline.Draw{Temperature: x.params.Temperature, TopK: x.params.TopK, TopP: x.params.TopP, MinP: x.params.MinP, Uniform: []float32{float32(u)}}
	if d.TopP == 0 {
		d.TopP = 1
	}
	return d
}

// chooses reports whether package sample chooses got by the number u. It fails the test where got isn't even beside its
// choice.
func (x *wish) chooses(t *testing.T, logits []float32, u float64, got int) bool {
	t.Helper()
	want, err := sample.New(x.params).Sample(logits, x.history)
	if err != nil {
		t.Fatal(err)
	}
	if got == want {
		return true
	}
	const rounding = 1e-5
	for _, by := range []float32{-rounding, 0, rounding} {
		p := x.params
		if p.TopP > 0 && p.TopP < 1 {
			p.TopP += by
		}
		if p.MinP > 0 {
			p.MinP += by
		}
		list, err := sample.New(p).Distribution(nil, logits, x.history)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.
		for _, c := range list {
			if c.ID == got && u > sum-rounding && u < sum+c.Probability+rounding && p.Temperature > 0 {
				return false
			}
			sum += c.Probability
		}
	}
	t.Errorf("%+v, %d tokens before: token %d is chosen, want %d by %g", x.params, len(x.history), got, want, u)
	return false
}
