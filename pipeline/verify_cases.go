package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"pumice/internal/dtype"
	"pumice/internal/ref"
	"pumice/vk"
)

var cacheTypes = []DType{dtype.F32, dtype.F16}

// cases runs everything on the base path, and on the row path what may go to other kernels
// or reads another layout.
func (v *verifier) cases() {
	for _, t := range WeightTypes() {
		if v.m.row && !v.m.hasRow(t) {
			continue
		}
		v.embedCases(t)
		v.linearCases(t)
	}
	v.partCases()
	v.normCases()
	for _, t := range cacheTypes {
		v.attentionCases(t)
	}
	v.softmaxCases()
	if v.m.row {
		return
	}
	for _, t := range cacheTypes {
		v.ropeCases(t)
	}
	v.elementCases()
	v.topKCases()
}

// shapes are (rows, cols) of weight matrices: the sizes at which tiles, groups and units
// break, and every one of them not a multiple of some tile. A row kernel takes columns in
// fours; what it does not take goes to the base kernel on either path.
func shapes(t DType) [][2]int {
	n := t.BlockSize()
	if n == 1 {
		return [][2]int{{1, 1}, {7, 63}, {64, 65}, {33, 4097}, {4097, 7}, {1, 4}, {7, 64}, {63, 68}, {65, 4100}, {4097, 36}, {64, 7}}
	}
	return [][2]int{{1, n}, {7, 2 * n}, {63, 3 * n}, {64, n}, {65, 4096 + n}, {4097, n}, {33, 4096}}
}

// runs are the tokens a plan is built for and those of its run.
var runs = [][2]int{{65, 65}, {7, 7}, {64, 63}, {9, 1}, {65, 33}, {2, 2}, {8, 8}}

func (v *verifier) embedCases(t DType) {
	for i, s := range shapes(t) {
		r := runs[i%len(runs)]
		v.embed([]Run{{t, s[0]}}, s[1], r[0], r[1], []float32{1, 0.7}[i%2])
	}
}

func (v *verifier) embed(runs []Run, cols, tokens, count int, scale float32) {
	v.check(fmt.Sprintf("embed %s, cols %d, scale %g, %d of %d tokens", describe(runs), cols, scale, count, tokens), func() error {
		rows := totalRows(runs)
		table, err := v.operand(runs, cols)
		if err != nil {
			return err
		}
		s := Step{Tokens: make([]int, count)}
		for i := range s.Tokens {
			s.Tokens[i] = v.rnd.IntN(rows)
		}
		s.Tokens[0], s.Tokens[count-1] = rows-1, 0
		b := v.m.NewBuilder(v.name, tokens)
		got, err := v.evaluate(b, b.Embed(table.matrix, scale), s)
		if err != nil {
			return err
		}
		want := ref.Embed(table.values, cols, s.Tokens, float64(scale))
		terms := ref.Embed(table.terms, cols, s.Tokens, float64(scale))
		for _, k := range partsByKernel(b, table.matrix) {
			pick := func(i int) bool { return k.has(s.Tokens[i/cols]) }
			if g, w, m := choose(got, want, terms, pick); len(g) > 0 {
				v.each(compare(k.kernel, v.name, g, w, m, tolerances.embed))
			}
		}
		return nil
	})
}

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

// partCases has matrices of several parts: of different types, and cut by a small limit on
// what one binding holds.
func (v *verifier) partCases() {
	var mixed []Run
	cols := 32
	for i, t := range WeightTypes() {
		mixed = append(mixed, Run{t, 37 + i})
		cols = max(cols, t.BlockSize())
	}
	v.linear(mixed, 2*cols, 1, 1, true, true)
	v.linear(mixed, 3*cols, 1, 1, true, true)
	v.linear(mixed, 2*cols, 17, 13, true, true)
	v.embed(mixed, 2*cols, 65, 65, 1)

	defer func() { v.binding = 0 }()
	for _, t := range WeightTypes() {
		cols := max(64, t.BlockSize())
		cut := []Run{{t, 150}}
		v.binding = 48 * t.RowBytes(cols) // a few groups of rows
		v.linear(cut, cols, 1, 1, true, true)
		v.linear(cut, cols, 11, 9, true, true)
		v.embed(cut, cols, 65, 65, 1)
	}
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

// kernelRows are the rows of a matrix that one kernel handled.
type kernelRows struct {
	kernel string
	parts  []*Part
}

func (k *kernelRows) has(row int) bool {
	for _, p := range k.parts {
		if p.First <= row && row < p.First+p.Rows {
			return true
		}
	}
	return false
}

// partsByKernel sorts the parts of x by the kernels of the builder's last nodes, one a part.
func partsByKernel(b *Builder, x *Matrix) []*kernelRows {
	var out []*kernelRows
	at := map[string]*kernelRows{}
	for i, p := range x.Parts {
		name := b.nodes[len(b.nodes)-len(x.Parts)+i].kernel
		if at[name] == nil {
			at[name] = &kernelRows{kernel: name}
			out = append(out, at[name])
		}
		at[name].parts = append(at[name].parts, p)
	}
	return out
}

func choose(got []float32, want, terms []float64, pick func(i int) bool) (g []float32, w, t []float64) {
	for i := range got {
		if pick(i) {
			g, w, t = append(g, got[i]), append(w, want[i]), append(t, terms[i])
		}
	}
	return g, w, t
}

func totalRows(runs []Run) int {
	n := 0
	for _, r := range runs {
		n += r.Rows
	}
	return n
}

func describe(runs []Run) string {
	var s []string
	for _, r := range runs {
		s = append(s, fmt.Sprintf("%d rows of %s", r.Rows, r.DType))
	}
	return strings.Join(s, " + ")
}

// lastKernel is the kernel of the newest node.
func (b *Builder) lastKernel() string {
	if len(b.nodes) == 0 {
		return ""
	}
	return b.nodes[len(b.nodes)-1].kernel
}

// one runs an op that has one float32 input x, (tokens, cols), and compares the rows of its
// result with want, relative to terms.
func (v *verifier) one(x []float64, tokens int, s Step, op func(b *Builder, x *Tensor) (*Tensor, error),
	want, terms []float64, tolerance float64) error {
	b := v.m.NewBuilder(v.name, tokens)
	xt, err := v.input(b, x, len(x)/tokens)
	if err != nil {
		return err
	}
	y, err := op(b, xt)
	if err != nil {
		return err
	}
	kernel := b.lastKernel()
	got, err := v.evaluate(b, y, s)
	if err != nil {
		return err
	}
	v.each(compare(kernel, v.name, got, want, terms, tolerance))
	return nil
}

func (v *verifier) normCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 576, 4096, 4097, 4100} {
		r := runs[i%len(runs)]
		for _, last := range []bool{false, true} {
			v.norm(cols, r[0], r[1], last, false, false, 1)
			v.norm(cols, r[0], r[1], last, true, false, 1)
			v.norm(cols, r[0], r[1], last, true, true, 1)
		}
	}
	v.norm(64, 1, 1, false, false, false, 1e-4) // eps decides
	v.norm(64, 2, 2, false, true, true, 1e3)
	if v.m.row {
		return
	}
	for _, headDim := range []int{32, 64, 80, 128, 256} {
		v.headNorm(Heads{Heads: 5, KVHeads: 2, HeadDim: headDim}, 9, 7)
	}
}

func (v *verifier) norm(cols, tokens, count int, last, layer, withBias bool, scale float64) {
	kind := "rms_norm"
	if layer {
		kind = "layer_norm"
	}
	v.check(fmt.Sprintf("%s, cols %d, %d of %d tokens, last %t, bias %t, scale %g", kind, cols, count, tokens, last, withBias, scale), func() error {
		const eps = float32(1e-5)
		x, w, bias := v.normal(tokens*cols), v.normal(cols), v.normal(cols)
		for i := range x {
			x[i] = float64(float32(scale * (x[i] + 0.5)))
		}
		n := &Norm{Layer: layer, Eps: eps}
		var err error
		if n.Weights, err = v.vector(w); err != nil {
			return err
		}
		if !withBias {
			bias = nil
		} else if n.Bias, err = v.vector(bias); err != nil {
			return err
		}
		rows := x[:count*cols]
		if last {
			rows = rows[(count-1)*cols:]
		}
		want, tolerance := ref.RMSNorm(rows, w, float64(eps)), tolerances.rmsNorm(cols)
		terms := magnitudes(want)
		if layer {
			want, tolerance = ref.LayerNorm(rows, w, bias, float64(eps)), tolerances.layerNorm(cols)
			terms = layerNormTerms(rows, w, bias, float64(eps))
		}
		return v.one(x, tokens, inputStep(0, count), func(b *Builder, x *Tensor) (*Tensor, error) {
			if last {
				return b.NormLast(x, n), nil
			}
			return b.Norm(x, n), nil
		}, want, terms, tolerance)
	})
}

// layerNormTerms is (mean |x| + |x - mean|) / sigma |w| + |b|.
func layerNormTerms(x, w, b []float64, eps float64) []float64 {
	cols := len(w)
	out := make([]float64, len(x))
	for row := 0; row < len(x); row += cols {
		mean, size, variance := 0.0, 0.0, 0.0
		for _, v := range x[row:][:cols] {
			mean += v / float64(cols)
			size += math.Abs(v) / float64(cols)
		}
		for _, v := range x[row:][:cols] {
			variance += (v - mean) * (v - mean) / float64(cols)
		}
		for c := range cols {
			out[row+c] = (size + math.Abs(x[row+c]-mean)) / math.Sqrt(variance+eps) * math.Abs(w[c])
			if b != nil {
				out[row+c] += math.Abs(b[c])
			}
		}
	}
	return out
}

func (v *verifier) headNorm(h Heads, tokens, count int) {
	v.check(fmt.Sprintf("head_norm, %d + 2 * %d heads of %d, %d of %d tokens", h.Heads, h.KVHeads, h.HeadDim, count, tokens), func() error {
		const eps = float32(1e-6)
		x := v.normal(tokens * (h.Heads + 2*h.KVHeads) * h.HeadDim)
		q, k := v.normal(h.HeadDim), v.normal(h.HeadDim)
		qv, err := v.vector(q)
		if err != nil {
			return err
		}
		kv, err := v.vector(k)
		if err != nil {
			return err
		}
		want := oracleHeads(h, nil).HeadNorm(x[:len(x)/tokens*count], q, k, float64(eps))
		return v.one(x, tokens, inputStep(0, count), func(b *Builder, x *Tensor) (*Tensor, error) {
			b.HeadNorm(x, h, qv, kv, eps)
			return x, nil
		}, want, magnitudes(want), tolerances.rmsNorm(h.HeadDim))
	})
}

func oracleHeads(h Heads, slopes []float64) ref.Heads {
	return ref.Heads{Heads: h.Heads, KVHeads: h.KVHeads, HeadDim: h.HeadDim, RotaryDim: h.RotaryDim, Interleaved: h.Interleaved,
		Clip: float64(h.Clip), Window: h.Window, SoftCap: float64(h.SoftCap), Slopes: slopes}
}

func (v *verifier) elementCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 4097} {
		r := runs[i%len(runs)]
		tokens, count := r[0], r[1]
		v.check(fmt.Sprintf("add, cols %d, %d of %d tokens", cols, count, tokens), func() error {
			x, y := v.normal(tokens*cols), v.normal(tokens*cols)
			want := ref.Add(x[:count*cols], y[:count*cols])
			return v.one(x, tokens, inputStep(0, count), func(b *Builder, xt *Tensor) (*Tensor, error) {
				yt, err := v.input(b, y, cols)
				if err != nil {
					return nil, err
				}
				b.Add(yt, xt)
				return yt, nil
			}, want, magnitudes(want), tolerances.add)
		})
		v.check(fmt.Sprintf("softcap, cols %d, %d tokens", cols, count), func() error {
			x := v.normal(count * cols)
			for i := range x {
				x[i] *= []float64{1, 0.01, 50, 1000}[i%4]
			}
			const limit = float32(30)
			return v.one(x, count, inputStep(0, count), func(b *Builder, x *Tensor) (*Tensor, error) {
				b.SoftCap(x, limit)
				return x, nil
			}, ref.SoftCap(x, float64(limit)), constant(len(x), float64(limit)), tolerances.softCap)
		})
		for _, act := range []Activation{SiLU, GELU, GELUTanh} {
			v.act(cols, tokens, count, act, true)
			v.act(cols, tokens, count, act, false)
		}
	}
}

func constant(n int, x float64) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = x
	}
	return out
}

func (v *verifier) act(cols, tokens, count int, act Activation, gated bool) {
	v.check(fmt.Sprintf("act_mul, activation %d, gated %t, cols %d, %d of %d tokens", act, gated, cols, count, tokens), func() error {
		width := cols
		if gated {
			width *= 2
		}
		x := v.normal(tokens * width)
		gate := func(i int) *float64 { return &x[i*width/cols] }
		extremes := []float64{0, -0.001, 20, -20, 100, -100, 5, -5}
		for i := range count * cols {
			if i%3 == 0 {
				*gate(i) = float64(float32(*gate(i)))
			}
			if i%5 == 0 {
				*gate(i) = extremes[i/5%len(extremes)]
			}
		}
		f, tolerance := ref.SiLU, tolerances.silu
		switch act {
		case GELU:
			f, tolerance = ref.GELU, tolerances.gelu
		case GELUTanh:
			f, tolerance = ref.GELUTanh, tolerances.gelu
		}
		rows := x[:count*width]
		want := ref.Act(rows, f)
		if gated {
			want = ref.ActMul(rows, f)
		}
		terms := make([]float64, len(want))
		for i := range terms {
			g := math.Abs(*gate(i))
			terms[i] = g
			if gated {
				terms[i] *= math.Abs(x[2*i+1])
			}
			if act == SiLU {
				terms[i] = math.Abs(want[i]) * (1 + g)
			}
		}
		return v.one(x, tokens, inputStep(0, count), func(b *Builder, x *Tensor) (*Tensor, error) {
			if gated {
				return b.ActMul(x, act), nil
			}
			return b.Act(x, act), nil
		}, want, terms, tolerance)
	})
}

func (v *verifier) softmaxCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 4096, 4097, 4100} {
		tokens := runs[i%len(runs)][0]
		scale := []float32{1, 0.5, 8}[i%3]
		v.check(fmt.Sprintf("softmax, cols %d, %d rows, scale %g", cols, tokens, scale), func() error {
			x := v.normal(tokens * cols)
			want := ref.Softmax(x, cols, float64(scale))
			terms := make([]float64, len(want))
			for row := 0; row < len(x); row += cols {
				largest := 0.0
				for _, v := range x[row:][:cols] {
					largest = max(largest, 2*float64(scale)*math.Abs(v))
				}
				for c := range cols {
					terms[row+c] = want[row+c] * (1 + largest)
				}
			}
			return v.one(x, tokens, inputStep(0, tokens), func(b *Builder, x *Tensor) (*Tensor, error) {
				return b.Softmax(x, scale), nil
			}, want, terms, tolerances.softmax(cols))
		})
	}
}

func (v *verifier) topKCases() {
	for _, c := range []struct {
		n, k int
		kind string
	}{
		{1, 1, "normal"}, {7, 2, "normal"}, {63, 63, "normal"}, {64, 1, "ties"}, {65, 7, "ties"}, {1024, 1, "normal"}, {1025, 40, "ties"},
		{4097, 1, "normal"}, {4097, 256, "ties"}, {49152, 1, "ties"}, {49152, 40, "normal"}, {7, 9, "normal"},
		{4097, 9, "nan"}, {4097, 1, "nan"}, {2050, 5, "minus infinity"}, {65, 65, "minus infinity"},
	} {
		v.check(fmt.Sprintf("topk, %d of %d, %s", c.k, c.n, c.kind), func() error {
			x := v.normal(c.n)
			for i := range x {
				switch {
				case c.kind == "ties":
					x[i] = math.Round(x[i])
				case c.kind == "nan" && i%1000 == 999:
					x[i] = math.NaN()
				case c.kind == "nan" && i%1000 == 500:
					x[i] = math.Inf(1)
				case c.kind == "minus infinity" && i > 2:
					x[i] = math.Inf(-1)
				}
			}
			var want []float64
			for _, id := range ref.TopK(x, c.k) {
				value := x[id]
				if math.IsNaN(value) {
					value = math.Inf(1)
				}
				want = append(want, value, float64(id))
			}
			for len(want) < 2*c.k {
				want = append(want, math.Inf(-1), math.MaxUint32)
			}
			b := v.m.NewBuilder(v.name, 1)
			xt, err := v.input(b, x, c.n)
			if err != nil {
				return err
			}
			y := b.TopK(xt, c.k)
			got, err := v.evaluate(b, y, inputStep(0, 1))
			if err != nil {
				return err
			}
			// Ids are told apart as float32: they are below 2^24, or the largest of all.
			for i := 1; i < len(got); i += 2 {
				got[i] = float32(math.Float32bits(got[i]))
			}
			for i := 1; i < len(want); i += 2 {
				want[i] = float64(float32(want[i]))
			}
			v.each(compare("topk", v.name, got, want, constant(len(want), 1), tolerances.topK))
			return nil
		})
	}
}

func (v *verifier) ropeCases(t DType) {
	for _, c := range []struct {
		h                           Heads
		position, tokens, count, of int
	}{
		{Heads{Heads: 3, KVHeads: 1, HeadDim: 64, RotaryDim: 64}, 0, 1, 1, 5},
		{Heads{Heads: 4, KVHeads: 2, HeadDim: 32, RotaryDim: 32, Interleaved: true}, 63, 65, 63, 130},
		{Heads{Heads: 2, KVHeads: 2, HeadDim: 80, RotaryDim: 20}, 7, 7, 7, 64},
		{Heads{Heads: 2, KVHeads: 1, HeadDim: 80, RotaryDim: 32, Interleaved: true}, 1, 2, 1, 3},
		{Heads{Heads: 8, KVHeads: 1, HeadDim: 128, RotaryDim: 128, Clip: 1.5}, 4000, 64, 64, 4097},
		{Heads{Heads: 1, KVHeads: 1, HeadDim: 256, RotaryDim: 0}, 2, 3, 3, 7},
		{Heads{Heads: 1, KVHeads: 1, HeadDim: 2, RotaryDim: 2}, 2, 7, 7, 65},
		{Heads{Heads: 2, KVHeads: 2, HeadDim: 64, RotaryDim: 64, Window: 16}, 30, 8, 7, 32}, // wraps around
	} {
		v.rope(t, c.h, c.position, c.tokens, c.count, c.of)
	}
}

func (v *verifier) rope(t DType, h Heads, position, tokens, count, positions int) {
	name := fmt.Sprintf("rope %s, %d + 2 * %d heads of %d, rotary %d, interleaved %t, clip %g, %d of %d tokens at %d of %d", t, h.Heads, h.KVHeads,
		h.HeadDim, h.RotaryDim, h.Interleaved, h.Clip, count, tokens, position, positions)
	v.check(name, func() error {
		width := (h.Heads + 2*h.KVHeads) * h.HeadDim
		x := v.normal(tokens * width)
		var angles []float64
		for p := range position + tokens {
			for j := range h.RotaryDim / 2 {
				sin, cos := math.Sincos(float64(p) * math.Pow(10000, -2*float64(j)/float64(h.RotaryDim)))
				angles = append(angles, float64(float32(cos)), float64(float32(sin)))
			}
		}
		table, err := v.vector(append(angles, make([]float64, 1)...)) // never empty
		if err != nil {
			return err
		}
		cache, err := v.m.NewCache(CacheShape{DType: t, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: positions})
		if err != nil {
			return err
		}
		defer cache.Close()
		l := cache.Layers[0]
		for _, s := range []vk.Span{l.keys, l.values} {
			if err := v.m.fill(s, poison); err != nil {
				return err
			}
		}
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, width)
		if err != nil {
			return err
		}
		q := b.RopeStore(xt, h, table, l)
		kernel := b.lastKernel()
		got, err := v.evaluate(b, q, inputStep(position, count))
		if err != nil {
			return err
		}
		wantQ, wantK, wantV := oracleHeads(h, nil).RopeStore(x[:count*width], angles, position)
		v.each(compare(kernel, v.name+": queries", got, wantQ, headTerms(wantQ, h.HeadDim), tolerances.rope))
		for _, kv := range []struct {
			name string
			span vk.Span
			want []float64
		}{{"keys", l.keys, wantK}, {"values", l.values, wantV}} {
			raw := make([]byte, kv.span.Size)
			if err := v.m.dev.Read(kv.span, raw); err != nil {
				return err
			}
			got, untouched := cacheRows(l.DType, h, raw, position, count, positions)
			terms, tolerance := headTerms(kv.want, h.HeadDim), tolerances.rope
			if t == dtype.F16 {
				for i := range terms {
					terms[i] = math.Abs(kv.want[i]) + terms[i]*0x1p-11
				}
				tolerance = tolerances.ropeF16
			}
			r := compare(kernel, v.name+": "+kv.name, got, kv.want, terms, tolerance)
			if !untouched {
				r.Case, r.OK = r.Case+": wrote outside the run's positions", false
			}
			v.each(r)
		}
		return nil
	})
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

// cacheRows returns what is at count positions from position on, (count, KVHeads, HeadDim),
// and whether all the rest is still poison.
func cacheRows(t DType, h Heads, raw []byte, position, count, positions int) (rows []float32, untouched bool) {
	size := h.HeadDim * t.BlockBytes()
	written := make([]bool, h.KVHeads*positions)
	row := make([]float32, h.HeadDim)
	for i := range count {
		for kv := range h.KVHeads {
			at := kv*positions + (position+i)%positions
			written[at] = true
			t.Decode(row, raw[at*size:][:size])
			rows = append(rows, row...)
		}
	}
	untouched = true
	for at, w := range written {
		for i := 0; i < size && !w; i += 2 {
			untouched = untouched && binary.LittleEndian.Uint16(raw[at*size+i:]) == poison&0xffff
		}
	}
	return rows, untouched
}

func (v *verifier) attentionCases(t DType) {
	type attention struct {
		h                           Heads
		position, tokens, count, of int
	}
	var list []attention
	add := func(h Heads, position, tokens, count, of int) {
		list = append(list, attention{h, position, tokens, count, of})
	}
	plain := Heads{Heads: 6, KVHeads: 2, HeadDim: 64}
	for _, length := range []int{1, 7, 8, 9, 63, 64, 65, 300} {
		add(plain, length-1, 1, 1, 300)
	}
	add(plain, 0, 65, 63, 80)
	add(plain, 57, 9, 9, 80)
	add(plain, 64, 8, 3, 80)
	add(plain, 5, 7, 1, 20)
	for _, headDim := range []int{32, 80, 128, 256} {
		h := Heads{Heads: 3, KVHeads: 3, HeadDim: headDim}
		if headDim == 80 {
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
	sloped.Slopes = &Vector{} // filled in below
	window := plain
	window.Window = 13
	for _, h := range []Heads{capped, tight, sloped, window} {
		add(h, 70, 1, 1, 96)
		add(h, 33, 20, 17, 96)
		add(h, 0, 9, 9, 96)
	}
	add(window, 100, 1, 1, 40) // a cache shorter than the context
	add(window, 100, 20, 17, 40)
	add(window, 6, 20, 20, 40)
	for _, c := range list {
		v.attention(t, c.h, c.position, c.tokens, c.count, c.of)
	}
}

func (v *verifier) attention(t DType, h Heads, position, tokens, count, positions int) {
	name := fmt.Sprintf("attention %s, %d / %d heads of %d, window %d, soft cap %g, slopes %t, %d of %d tokens at %d of %d", t, h.Heads, h.KVHeads, h.HeadDim,
		h.Window, h.SoftCap, h.Slopes != nil, count, tokens, position, positions)
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
		cache, err := v.m.NewCache(CacheShape{DType: t, Layers: 1, KVHeads: h.KVHeads, HeadDim: h.HeadDim, Positions: positions})
		if err != nil {
			return err
		}
		defer cache.Close()
		l := cache.Layers[0]
		live := min(position+count, positions)
		keys, err := v.cacheSide(t, h, l.keys, live, positions)
		if err != nil {
			return err
		}
		values, err := v.cacheSide(t, h, l.values, live, positions)
		if err != nil {
			return err
		}
		x := v.normal(tokens * width)
		oracle := oracleHeads(h, slopes)
		q := x[:count*width]
		want := oracle.Attention(q, keys, values, positions, position, float64(scale))
		terms := oracle.Attention(q, keys, magnitudes(values), positions, position, float64(scale))
		for i := range terms {
			terms[i] *= 1 + scoreTerms(oracle, q[i/h.HeadDim*h.HeadDim:][:h.HeadDim], keys, i/h.HeadDim%h.Heads, position+i/width, positions, float64(scale))
		}
		return v.one(x, tokens, inputStep(position, count), func(b *Builder, x *Tensor) (*Tensor, error) {
			return b.Attention(x, h, l, scale), nil
		}, want, terms, tolerances.attention(min(position+count, positions), h.HeadDim))
	})
}

// cacheSide fills live positions of a cache's keys or values with random numbers and the
// rest with NaN. It returns what the cache holds, (KVHeads, positions, HeadDim), 0 for NaN.
func (v *verifier) cacheSide(t DType, h Heads, span vk.Span, live, positions int) ([]float64, error) {
	out := make([]float64, h.KVHeads*positions*h.HeadDim)
	raw := make([]byte, span.Size)
	for i := range raw {
		raw[i] = poison & 0xff
	}
	size := h.HeadDim * t.BlockBytes()
	f := make([]float32, h.HeadDim)
	for kv := range h.KVHeads {
		for j := range live {
			for d := range f {
				f[d] = float32(v.rnd.NormFloat64())
			}
			at := kv*positions + j
			t.Encode(raw[at*size:][:size], f)
			t.Decode(f, raw[at*size:][:size])
			for d := range f {
				out[at*h.HeadDim+d] = float64(f[d])
			}
		}
	}
	return out, v.loader.write(span, raw)
}

// scoreTerms is the largest magnitude of the terms of a score of the query of a head at
// position own.
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
