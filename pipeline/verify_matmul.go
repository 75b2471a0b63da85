package pipeline

import (
	"fmt"
	"math"

	"pumice/internal/dtype"
	"pumice/internal/ref"
)

func (v *verifier) linearCases(t DType) {
	for i, s := range shapes(t) {
		if v.m.row && s[1]%4 != 0 && i > 0 {
			continue // the base kernel again
		}
		// Bias and addition are the same source for all types: one plain and one quantised
		// type have each alone and neither, which other types are spared compiling.
		bias, add := true, true
		if t == dtype.F32 || t == dtype.Q4_0 {
			bias, add = i%2 == 0, i/2%2 == 0
		}
		run := []Run{{t, s[0]}}
		v.linear(run, s[1], 1, 1, bias, add)
		r := runs[i%len(runs)]
		v.linear(run, s[1], r[0], r[1], bias, add)
		if s[0]%2 == 0 || i == 1 {
			v.fused([]Run{{t, s[0] + s[0]%2}}, s[1], Activation(i%3))
		}
	}
}

// fused has a norm before a product of one token and a gated activation after it.
func (v *verifier) fused(runs []Run, cols int, act Activation) {
	v.check(fmt.Sprintf("fused norm, linear, gated activation %d, %s, cols %d", act, describe(runs), cols), func() error {
		const eps = float32(1e-5)
		rows := totalRows(runs)
		w, err := v.operand(runs, cols)
		if err != nil {
			return err
		}
		x, gain, bias := v.normal(cols), v.normal(cols), v.normal(rows)
		n := &Norm{Eps: eps}
		if n.Weights, err = v.vector(gain); err != nil {
			return err
		}
		biasVector, err := v.vector(bias)
		if err != nil {
			return err
		}
		b := v.m.NewBuilder(v.name, 1)
		xt, err := v.input(b, x, cols)
		if err != nil {
			return err
		}
		y := b.Project(xt, Projection{W: w.matrix, Norm: n, Bias: biasVector, Activate: true, Gated: true, Act: act})
		got, err := v.evaluate(b, y, inputStep(0, 1))
		if err != nil {
			return err
		}
		f := []func(float64) float64{ref.SiLU, ref.GELU, ref.GELUTanh}[act]
		normed := ref.RMSNorm(x, gain, float64(eps))
		product := ref.Linear(normed, w.values, bias, rows, cols)
		terms := ref.Linear(magnitudes(normed), w.terms, magnitudes(bias), rows, cols)
		v.each(compare(b.nodes[len(b.nodes)-1].kernel, v.name, got, ref.ActMul(product, f), fusedTerms(product, terms, f), tolerances.fused(cols)))
		return nil
	})
}

// fusedTerms bounds how an error of the products, relative to their terms, moves act(g) u: no
// activation is steeper than 1.13. The last term is of second order, where u is near zero.
func fusedTerms(product, terms []float64, f func(float64) float64) []float64 {
	out := make([]float64, len(product)/2)
	for i := range out {
		g, u := product[2*i], product[2*i+1]
		tg, tu := terms[2*i], terms[2*i+1]
		out[i] = 1.13*tg*math.Abs(u) + math.Abs(f(g))*tu + math.Abs(g*u) + 1e-4*tg*tu
	}
	return out
}

func (v *verifier) linear(runs []Run, cols, tokens, count int, withBias, add bool) {
	name := fmt.Sprintf("%s, cols %d, %d of %d tokens", describe(runs), cols, count, tokens)
	if withBias {
		name += ", bias"
	}
	if add {
		name += ", added"
	}
	v.check("linear "+name, func() error {
		rows := totalRows(runs)
		w, err := v.operand(runs, cols)
		if err != nil {
			return err
		}
		x := v.normal(tokens * cols)
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, cols)
		if err != nil {
			return err
		}
		var bias []float64
		var biasVector *Vector
		if withBias {
			bias = v.normal(rows)
			if biasVector, err = v.vector(bias); err != nil {
				return err
			}
		}
		x = x[:count*cols]
		want := ref.Linear(x, w.values, bias, rows, cols)
		terms := ref.Linear(magnitudes(x), w.terms, magnitudes(bias), rows, cols)
		var y *Tensor
		if add {
			old := v.normal(tokens * rows)
			if y, err = v.input(b, old, rows); err != nil {
				return err
			}
			b.LinearAdd(y, xt, w.matrix, biasVector)
			want = ref.Add(want, old[:len(want)])
			terms = ref.Add(terms, magnitudes(old[:len(terms)]))
		} else {
			y = b.Linear(xt, w.matrix, biasVector)
		}
		got, err := v.evaluate(b, y, inputStep(0, count))
		if err != nil {
			return err
		}
		for _, k := range partsByKernel(b, w.matrix) {
			g, r, m := choose(got, want, terms, func(i int) bool { return k.has(i % rows) })
			v.each(compare(k.kernel, v.name, g, r, m, tolerances.linear(cols)))
		}
		return nil
	})
}
