package verify

import (
	"fmt"
	"math"
	"slices"

	"pumice/internal/dtype"
	"pumice/internal/half"
	"pumice/internal/ref"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

func (v *verifier) linearCases(t pipeline.DType) {
	for i, s := range v.shapes(t) {
		if path := v.path(); i > 0 && (path == kernels.Row && !kernels.Grouped.Takes(s[1]) || path == kernels.Addr && !kernels.LaneWords.Takes(s[1])) {
			continue // the base kernel again
		}
		// Bias and addition are the same source for all types: one plain and one quantised
		// type have each alone and neither, which other types are spared compiling.
		bias, add := true, true
		if t == dtype.F32 || t == dtype.Q4_0 {
			bias, add = i%2 == 0, i/2%2 == 0
		}
		run := rowsOf(t, s[0])
		v.linear(run, s[1], 1, 1, bias, add)
		r := sizes[i%len(sizes)]
		v.linear(run, s[1], r[0], r[1], bias, add)
		if s[0]%2 == 0 || i == 1 {
			v.fused(rowsOf(t, s[0]+s[0]%2), s[1], 1, 1, kernels.Activation(i%3), true)
		}
	}
}

// fused has a norm before a product and an activation after it.
func (v *verifier) fused(bands []pipeline.Band, cols, tokens, count int, act kernels.Activation, gated bool) {
	name := fmt.Sprintf("fused norm, linear, activation %d, %s, cols %d, %d of %d tokens", act, describe(bands), cols, count, tokens)
	if gated {
		name += ", gated"
	}
	v.check(name, func() error {
		const eps = float32(1e-5)
		rows := totalRows(bands)
		w, err := v.operand(bands, cols)
		if err != nil {
			return err
		}
		x, gain, bias := v.normal(tokens*cols), v.normal(cols), v.normal(rows)
		n := &pipeline.Norm{Eps: eps}
		if n.Weights, err = v.vector(gain); err != nil {
			return err
		}
		biasVector, err := v.vector(bias)
		if err != nil {
			return err
		}
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, cols)
		if err != nil {
			return err
		}
		y := b.Project(xt, pipeline.Projection{W: w.matrix, Norm: n, Bias: biasVector, Activate: true, Gated: gated, Act: act})
		if tokens > 1 && kernels.PathOf(lastKernel(b)) != v.path() {
			return nil // the columns are not for this path: the base kernel, with nothing fused to it
		}
		b.Output("input", xt) // else y may lie where it was
		got, err := v.evaluate(b, y, inputStep(0, count))
		if err != nil {
			return err
		}
		f := []func(float64) float64{ref.SiLU, ref.GELU, ref.GELUTanh}[act]
		normed := ref.RMSNorm(x[:count*cols], gain, float64(eps))
		product := ref.Linear(normed, w.values, bias, rows, cols)
		terms := ref.Linear(magnitudes(normed), w.terms, magnitudes(bias), rows, cols)
		if kernels.PathOf(lastKernel(b)) == kernels.DP2 {
			terms = planesTerms(terms, normed, w.values, rows, cols, tolerances.fused(cols))
		}
		if gated {
			product, terms = ref.ActMul(product, f), fusedTerms(product, terms, f)
		} else {
			for i := range product { // no activation is steeper than 1.13
				product[i], terms[i] = f(product[i]), 1.13*terms[i]
			}
		}
		v.each(compare(lastKernel(b), v.name, got, product, terms, tolerances.fused(cols)))
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

func (v *verifier) linear(bands []pipeline.Band, cols, tokens, count int, withBias, add bool) {
	name := fmt.Sprintf("%s, cols %d, %d of %d tokens", describe(bands), cols, count, tokens)
	if withBias {
		name += ", bias"
	}
	if add {
		name += ", added"
	}
	if v.tiling != (kernels.Tiling{}) {
		name += fmt.Sprintf(", %v", v.tiling)
	}
	if v.wPower != 0 || v.xPower != 0 {
		name += fmt.Sprintf(", w * 2^%d, x * 2^%d", v.wPower, v.xPower)
	}
	v.check("linear "+name, func() error {
		rows := totalRows(bands)
		w, err := v.operand(bands, cols)
		if err != nil {
			return err
		}
		x := v.normal(tokens * cols)
		for i := range x { // a token of zeros, and tokens of different magnitudes
			x[i] = math.Ldexp(x[i], v.xPower*(i/cols%3))
			if v.xPower != 0 && i/cols == 1 {
				x[i] = 0
			}
		}
		b := v.m.NewBuilder(v.name, tokens)
		b.Tile(v.tiling)
		xt, err := v.input(b, x, cols)
		if err != nil {
			return err
		}
		var bias []float64
		var biasVector *pipeline.Vector
		if withBias {
			bias = v.normal(rows)
			if biasVector, err = v.vector(bias); err != nil {
				return err
			}
		}
		x = x[:count*cols]
		y := xt
		var old []float64
		if add {
			old = v.normal(tokens * rows)
			if y, err = v.input(b, old, rows); err != nil {
				return err
			}
			b.LinearAdd(y, xt, w.matrix, biasVector)
		} else {
			y = b.Linear(xt, w.matrix, biasVector)
		}
		expect := func(x []float64) (want, terms []float64) {
			want = ref.Linear(x, w.values, bias, rows, cols)
			terms = ref.Linear(magnitudes(x), w.terms, magnitudes(bias), rows, cols)
			if add {
				want, terms = ref.Add(want, old[:len(want)]), ref.Add(terms, magnitudes(old[:len(terms)]))
			}
			return want, terms
		}
		kernel, acts := b.Converted()
		if acts != nil {
			b.Output("input", xt) // else y may lie where it was
		}
		got, err := v.evaluateAll(b, inputStep(0, count), append([]*pipeline.Tensor{y}, acts...)...)
		if err != nil {
			return err
		}
		want, terms := expect(x)
		if kernel == halfActs {
			v.halves(x, cols, got[1], got[2])
		}
		for _, k := range shardsByKernel(b, w.matrix) {
			want, terms, tolerance := want, terms, tolerances.linear(cols)
			switch kernels.PathOf(k.kernel) {
			case kernels.CM, kernels.CM2, kernels.CM2E, kernels.FP16:
				tolerance = tolerances.linearHalves(cols)
			case kernels.DP: // of the activations as the device has rounded them
				want, terms = expect(v.quantised(x, got[1], got[2]))
			case kernels.DP2:
				terms = planesTerms(terms, x, w.values, rows, cols, tolerance)
			}
			g, r, m := choose(got[0], want, terms, func(i int) bool { return k.has(i % rows) })
			v.each(compare(k.kernel, v.name, g, r, m, tolerance))
		}
		return nil
	})
}

// planesTerms adds to terms, to which a tolerance is relative, those of rounding x, (tokens, cols), to two planes of bytes: of
// weights w, (rows, cols).
func planesTerms(terms, x, w []float64, rows, cols int, tolerance float64) []float64 {
	const block = 32 // or less: of some types 16
	largest := magnitudes(x)
	for b := range slices.Chunk(largest, block) {
		most := slices.Max(b)
		for i := range b {
			b[i] = most
		}
	}
	out := slices.Clone(terms)
	for i, sum := range ref.Linear(largest, magnitudes(w), nil, rows, cols) {
		out[i] += sum * tolerances.planes(cols) / tolerance
	}
	return out
}

// The kernels that round activations.
var (
	halfActs     = kernels.Acts{To: kernels.Halves}.Op()
	quantizeActs = kernels.Acts{To: kernels.Bytes}.Op()
)

// halves judges what the device made of x, (tokens, cols), as float16 numbers.
func (v *verifier) halves(x []float64, cols int, halves, exponents []float32) {
	pitch := kernels.Acts{To: kernels.Halves, Cols: cols}.ValueCols()
	var got []float32
	var want, terms []float64
	for t, e := range exponents {
		row := x[t*cols:][:cols]
		largest := slices.Max(magnitudes(row))
		exponent := int(int32(math.Float32bits(e)))
		for c := range 2 * pitch {
			bits := math.Float32bits(halves[t*pitch+c/2]) >> (16 * (c % 2))
			value, wanted := math.Ldexp(float64(half.FromF16(uint16(bits))), exponent), 0.0
			if c < cols {
				wanted = row[c]
			}
			got, want = append(got, float32(value)), append(want, wanted)
			// Half a unit in the last place. What is less than 2^-14 of 2^e, and 2^-28 of the largest, may be flushed.
			terms = append(terms, math.Abs(wanted)+math.Ldexp(largest, -17))
		}
	}
	v.each(compare(halfActs, v.name, got, want, terms, 0x1p-11))
}

// quantised judges what the device made of x, in blocks of 32, and returns its values.
func (v *verifier) quantised(x []float64, integers, scales []float32) []float64 {
	const block = 32
	values, steps := make([]float64, len(x)), make([]float64, len(x))
	var wantScales, magnitudes []float64
	for i := 0; i < len(x); i += block {
		most, sum, terms := 0.0, 0.0, 0.0
		d := float64(scales[2*(i/block)])
		for j := i; j < i+block; j++ {
			q := float64(int8(math.Float32bits(integers[j/4]) >> (8 * (j % 4))))
			values[j] = q * d
			sum, terms, most = sum+q*d, terms+math.Abs(q*d), max(most, math.Abs(x[j]))
		}
		for j := i; j < i+block; j++ {
			steps[j] = most / 127
		}
		wantScales = append(wantScales, most/127, sum)
		magnitudes = append(magnitudes, most/127, max(terms, most/127))
	}
	got := make([]float32, len(values))
	for i, value := range values {
		got[i] = float32(value)
	}
	v.each(compare(quantizeActs, v.name+", values", got, x, steps, tolerances.quantised))
	v.each(compare(quantizeActs, v.name+", scales", scales, wantScales, magnitudes, tolerances.blockScale))
	return values
}

// tileCases has the products with several tokens that a path has kernels for. Tiles and what is
// added are the same source for all types: one plain and one quantised type have them all,
// the others, which are spared compiling, the largest, and in Quick no tile that their rows fill a part of.
func (v *verifier) tileCases() {
	all := [][2]int{{65, 65}, {7, 7}, {64, 63}, {20, 17}, {130, 129}, {2, 2}, {9, 3}, {32, 31}, {16, 16}, {4, 4}, {3, 3}}
	large := [][2]int{{65, 65}, {130, 129}}
	path := v.path()
	for _, t := range v.types() {
		if !v.m.HasKernel(path.Variant("matmul_" + kernels.Lower(t))) {
			continue
		}
		for i, s := range v.shapes(t) {
			if t == dtype.F32 || t == dtype.Q4_0 {
				tokens := all[i%len(all)]
				v.linear(rowsOf(t, s[0]), s[1], tokens[0], tokens[1], i%4 < 2, i%2 == 0)
				if kernels.Matmul.Of(path).Activates {
					few := [][2]int{{8, 7}, {20, 17}, {3, 2}}[i%3] // RMSNorm is fused to the products of up to 8
					v.fused(rowsOf(t, s[0]+s[0]%2), s[1], few[0], few[1], kernels.Activation(i/2%3), i%4 != 1)
				}
			} else if i > 0 || !v.options.Quick {
				tokens := large[i%len(large)]
				v.linear(rowsOf(t, s[0]), s[1], tokens[0], tokens[1], true, true)
			}
		}
	}
	v.linear(v.mixed(), 512, 17, 13, true, true)
	v.rangeCases()
	if kernels.Matmul.Of(path).Rounds == kernels.Halves {
		v.lastLargest()
	}
	v.linear(rowsOf(dtype.Q4_1, 577), 1536, 512, 512, true, true) // of a long prompt
	if path == kernels.CM2 {
		rows, tokens := v.m.Machine().LargeTileProduct()
		v.linear(rowsOf(dtype.Q4_0, rows-1), 32, tokens, tokens-1, true, false)
	}
	v.tilingCases(path)
}

// tilingCases has every tile by which workgroups may share a product, with splits, and splits of types whose columns end, and
// whose blocks are cut, between two.
func (v *verifier) tilingCases(path kernels.Path) {
	k := kernels.Matmul.Of(path)
	if k.Tilings == nil {
		return
	}
	defer func() { v.tiling = kernels.Tiling{} }()
	const rows, cols, tokens = 131, 11 * 32, 65 // a tile of the largest that rules choose and a bit
	p := kernels.Product{Packed: kernels.Packed{DType: dtype.Q4_0, Rows: rows, Cols: cols}, Tokens: tokens}
	splits := []int{4, 2, 3, 6}
	seen := map[kernels.Tiling]bool{}
	for _, t := range k.Tilings(v.m.Machine(), p) {
		if t.Splits = 0; !seen[t] {
			i := len(seen)
			seen[t] = true
			v.tiling, v.tiling.Splits = t, splits[i%len(splits)]
			v.linear(rowsOf(p.DType, rows), cols, tokens, tokens-i%2, i%3 == 0, i%2 == 0)
		}
	}
	v.tiling.Splits = 8
	v.linear(rowsOf(dtype.F32, 70), 673, 20, 20, false, true)
	v.linear(rowsOf(dtype.Q6_K, 70), 768, 20, 19, true, false)
}

// lastLargest rounds tokens whose largest activation, in the last column, decides how: one that a loop or a reduction misses
// leaves no room for it.
func (v *verifier) lastLargest() {
	v.check("the largest activation last", func() error {
		const cols, tokens = 512, 20 // two steps of 64 invocations, of which the last has the largest
		w, err := v.operand(rowsOf(dtype.F32, 7), cols)
		if err != nil {
			return err
		}
		x := v.normal(tokens * cols)
		for t := range tokens {
			x[(t+1)*cols-1] = math.Ldexp(1, 10+t)
		}
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, cols)
		if err != nil {
			return err
		}
		y := b.Linear(xt, w.matrix, nil)
		_, acts := b.Converted()
		b.Output("input", xt)
		got, err := v.evaluateAll(b, inputStep(0, tokens), append([]*pipeline.Tensor{y}, acts...)...)
		if err != nil {
			return err
		}
		v.halves(x, cols, got[1], got[2])
		return nil
	})
}

// rangeCases has operands far from 1, almost as large and as small as their types hold, and tokens and rows of very different
// magnitudes. (Every other row of a quantised matrix is of ordinary ones.)
func (v *verifier) rangeCases() {
	defer func() { v.wPower, v.xPower = 0, 0 }()
	for _, c := range []struct {
		t      pipeline.DType
		rows   int
		cols   int
		powers [][2]int // of the weights, and of the second and third token of three
	}{
		{dtype.F32, 65, 65, [][2]int{{40, -40}, {-40, 40}, {100, -50}, {-90, 60}}},
		{dtype.F16, 65, 260, [][2]int{{12, 20}, {-8, -20}}},
		{dtype.Q4_0, 66, 96, [][2]int{{12, 40}, {-8, -40}}},
		{dtype.Q4_K, 66, 512, [][2]int{{12, 40}, {-8, -40}}},
	} {
		for _, powers := range c.powers {
			v.wPower, v.xPower = powers[0], powers[1]
			v.linear(rowsOf(c.t, c.rows), c.cols, 20, 17, false, false)
		}
	}
}
