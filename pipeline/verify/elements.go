package verify

import (
	"encoding/binary"
	"errors"
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

func (v *verifier) elementCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 4097} {
		r := sizes[i%len(sizes)]
		tokens, count := r[0], r[1]
		v.add(cols, tokens, count)
		v.softCap(cols, count)
	}
	v.digestCases()
	v.prefetchCases()
	v.peakCases()
	v.addPlacesCases()
	v.softCapNotFinite()
	for i, cols := range []int{1, 7, 64, 65, 4097, 49152} {
		r, notFinite := sizes[i%len(sizes)], i == 3
		if notFinite {
			r = [2]int{9, 8}
		}
		for _, sums := range []bool{false, true} {
			v.logProbs(cols, min(r[0], 9), min(r[1], 8), sums, i%2 == 0, notFinite)
		}
		v.logSumExp(cols, notFinite)
	}
}

func (v *verifier) add(cols, tokens, count int) {
	v.check(fmt.Sprintf("add, cols %d, %d of %d tokens", cols, count, tokens), func() error {
		x, y := v.normal(tokens*cols), v.normal(tokens*cols)
		want := ref.Add(x[:count*cols], y[:count*cols])
		return v.one(x, tokens, inputStep(0, count), func(b *pipeline.Builder, xt *pipeline.Tensor) (*pipeline.Tensor, error) {
			yt, err := v.input(b, y, cols)
			if err != nil {
				return nil, err
			}
			b.Add(yt, xt)
			return yt, nil
		}, want, magnitudes(want), tolerances.add)
	})
}

func (v *verifier) softCap(cols, count int) {
	v.check(fmt.Sprintf("softcap, cols %d, %d tokens", cols, count), func() error {
		x := v.normal(count * cols)
		for i := range x {
			x[i] *= []float64{1, 0.01, 50, 1000}[i%4]
		}
		const limit = float32(30)
		return v.one(x, count, inputStep(0, count), func(b *pipeline.Builder, x *pipeline.Tensor) (*pipeline.Tensor, error) {
			b.SoftCap(x, limit)
			return x, nil
		}, ref.SoftCap(x, float64(limit)), constant(len(x), float64(limit)), tolerances.softCap)
	})
}

// digestCases reads memory of as many units as no workgroup divides, and of as many as one and several do.
func (v *verifier) digestCases() {
	const lanes, units = 64, 64 // of a workgroup, and of each invocation
	for _, n := range []int{1, 7, 63, 64, 65, lanes * units, 4097, 3*lanes*units - 5} {
		v.check(fmt.Sprintf("digest, %d units", n), func() (err error) {
			memory, err := v.m.Device().NewBuffer(int64(16*n), vk.Upload)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, memory.Close()) }()
			want := make([]uint32, ceilDiv(n, lanes*units)*lanes)
			for at := range n {
				for word := range 4 {
					w := v.rnd.Uint32()
					binary.LittleEndian.PutUint32(memory.Mapped()[16*at+4*word:], w)
					want[at/(lanes*units)*lanes+at%lanes] ^= w
				}
			}
			b := v.m.NewBuilder(v.name, 1)
			got, err := v.evaluate(b, b.Digest(memory.Whole()), inputStep(0, 1))
			if err != nil {
				return err
			}
			v.each(compare(lastKernel(b), v.name, halves(got), wide(want), constant(2*len(want), 1), 0))
			return nil
		})
	}
}

// prefetchCases read memory in which the units of every invocation make the key, so that each is found that has read all of its
// units and no other; and the same with one bit changed, so that one invocation is not.
func (v *verifier) prefetchCases() {
	const lanes, units = 64, 8 // of a workgroup, and of each invocation
	const apart = 256          // bytes: every device binds at such offsets
	for _, n := range []int{1, 7, 63, 64, 65, lanes * units, 4097, 3*lanes*units - 5} {
		v.check(fmt.Sprintf("prefetch, %d units", n), func() (err error) {
			changed := int64(ceilDiv(16*n, apart) * apart) // where the copy is
			found := 2 * changed
			buffer, err := v.m.Device().NewBuffer(found+2*apart, vk.Readback)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, buffer.Close()) }()
			memory, sums := buffer.Mapped(), map[int][4]uint32{} // by invocation
			for at := range n {
				i := at/(lanes*units)*lanes + at%lanes
				sum := sums[i]
				for word := range sum {
					w := v.rnd.Uint32()
					if at+lanes >= n || at/lanes%units == units-1 { // the last one of the invocation
						w = sum[word] ^ kernels.PrefetchKey
					}
					sum[word] ^= w
					binary.LittleEndian.PutUint32(memory[16*at+4*word:], w)
				}
				sums[i] = sum
			}
			copy(memory[changed:found], memory[:16*n])
			memory[changed+int64(v.rnd.IntN(16*n))] ^= 1 << v.rnd.IntN(8)
			const before = 100 // what is counted on from
			b := v.m.NewBuilder(v.name, 1)
			for i := range int64(2) {
				binary.LittleEndian.PutUint32(memory[found+i*apart:], before)
				b.Prefetch(buffer.Whole().Slice(i*changed, int64(16*n)), buffer.Whole().Slice(found+i*apart, 4))
			}
			if _, err := v.evaluate(b, b.Digest(buffer.Whole()), inputStep(0, 1)); err != nil {
				return err
			}
			var got []float32
			for i := range int64(2) {
				got = append(got, float32(binary.LittleEndian.Uint32(memory[found+i*apart:])))
			}
			want := []float64{before + float64(len(sums)), before + float64(len(sums)) - 1}
			v.each(compare(kernels.Ahead{}.Op(), v.name, got, want, constant(2, 1), 0))
			return nil
		})
	}
}

// peakCases do arithmetic on small integers, with which the results of every kernel are exact: of numbers that grow and that
// change signs, and of dot products that wrap around.
func (v *verifier) peakCases() {
	path, a := v.path(), v.path().Arithmetic()
	if a.Path() != path || !v.m.Offers(kernels.Burst{}.Op(), path) {
		return
	}
	bursts := []kernels.Burst{{Rounds: 0, Workgroups: 1}, {Rounds: 1, Workgroups: 3}, {Rounds: 2, Workgroups: 2}}
	if a == kernels.Matrix {
		bursts = append(bursts, kernels.Burst{Rounds: 2, Workgroups: 2, Fresh: true})
	}
	for _, burst := range bursts {
		name := fmt.Sprintf("peak, %d rounds of %d workgroups", burst.Rounds, burst.Workgroups)
		if burst.Fresh {
			name += ", fresh matrices"
		}
		v.check(name, func() (err error) {
			machine := v.m.Machine()
			units := burst.Units(machine, a)
			memory, err := v.m.Device().NewBuffer(int64(8*units), vk.Upload)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, memory.Close()) }()
			want := v.peakOperands(memory.Mapped(), burst, a, units)
			b := v.m.NewBuilder(v.name, 1)
			got, err := v.evaluate(b, b.Peak(memory.Whole(), burst), inputStep(0, 1))
			if err != nil {
				return err
			}
			v.each(compare(lastKernel(b), v.name, halves(got), wide(want), constant(2*len(want), 1), 0))
			return nil
		})
	}
}

// peakOperands fills memory with the operands of a Burst and returns the words that it leaves.
func (v *verifier) peakOperands(memory []byte, burst kernels.Burst, a kernels.Arithmetic, units int) (want []uint32) {
	chains, steps := a.Chains(), burst.Steps()
	word := func(i int, w uint32) { binary.LittleEndian.PutUint32(memory[4*i:], w) }
	small := func(n int) float64 { return float64(v.rnd.IntN(2*n+1) - n) }
	if a == kernels.Matrix {
		s := v.m.Machine().Matrix
		values := make([]float64, 4*units) // A, then B by columns
		for i := range values {
			values[i] = small(1)
			binary.LittleEndian.PutUint16(memory[2*i:], half.F16(float32(values[i])))
		}
		one := make([]uint32, 0, s.M*s.N)
		for row := range s.M {
			for col := range s.N {
				sum := 0.
				for k := range s.K {
					sum += values[row*s.K+k] * values[(s.M+col)*s.K+k]
				}
				one = append(one, math.Float32bits(float32(float64(chains*(chains-1)/2)+float64(chains*steps)*sum)))
			}
		}
		return slices.Repeat(one, burst.Words(v.m.Machine(), a)/len(one))
	}
	one := make([]uint32, units)
	for i := range one {
		switch a {
		case kernels.F32, kernels.F16:
			var sums [2]float64
			var bits [2]uint32
			for lane := range sums { // of a pair, or the same twice
				x, y := float64(v.rnd.IntN(3)-1), small(3)
				for j := range chains {
					z := float64(j)
					for range steps {
						z = z*x + y
					}
					sums[lane] += z
				}
				bits[0] |= uint32(half.F16(float32(x))) << (16 * lane)
				bits[1] |= uint32(half.F16(float32(y))) << (16 * lane)
				one[i] |= uint32(half.F16(float32(sums[lane]))) << (16 * lane)
				if a == kernels.F32 {
					bits = [2]uint32{math.Float32bits(float32(x)), math.Float32bits(float32(y))}
					one[i] = math.Float32bits(float32(sums[lane]))
				}
			}
			word(2*i, bits[0])
			word(2*i+1, bits[1])
		case kernels.Int8:
			x, y := v.rnd.Uint32(), v.rnd.Uint32()
			for j := range chains {
				z := uint32(j)
				for range steps {
					sum := y
					for byte := 0; byte < 32; byte += 8 {
						sum += uint32(int32(int8(z>>byte)) * int32(int8(x>>byte)))
					}
					z = sum
				}
				one[i] += z
			}
			word(2*i, x)
			word(2*i+1, y)
		}
	}
	return slices.Repeat(one, burst.Workgroups)
}

// halves are the upper and the lower 16 bits of words, which float32 holds exactly.
func halves(words []float32) (out []float32) {
	for _, w := range words {
		bits := math.Float32bits(w)
		out = append(out, float32(bits>>16), float32(bits&0xffff))
	}
	return out
}

// wide is halves of words of the host.
func wide(words []uint32) (out []float64) {
	for _, w := range words {
		out = append(out, float64(w>>16), float64(w&0xffff))
	}
	return out
}

// addPlacesCases add rows of a table by the tokens' places: of one sequence, behind others, and of endings.
func (v *verifier) addPlacesCases() {
	for i, cols := range []int{1, 7, 64, 65, 4097} {
		for _, s := range []pipeline.Step{
			inputStep(0, 9), inputStep(5, 7), packed(inputStep(3, 9), []int{4, 1, 4}),
			{Sequences: []pipeline.Sequence{{Position: 2, Tokens: []int{0, 1, 2}}, {Position: 11, Tokens: []int{3, 4, 5, 6}, Endings: []int{1, 3}}}},
		} {
			count, tokens := s.Len(), s.Len()+i%2
			v.check(fmt.Sprintf("add_places, cols %d, %d of %d tokens, %d sequences, %d endings, at %d", cols, count, tokens,
				len(s.Sequences), s.Rows(), s.Sequences[0].Position), func() error {
				const places = 16
				table, y := v.normal(places*cols), v.normal(tokens*cols)
				var rows []float64
				for _, q := range s.Sequences {
					lengths := q.Endings
					if lengths == nil {
						lengths = []int{len(q.Tokens)}
					}
					for _, n := range lengths {
						rows = append(rows, table[q.Position*cols:(q.Position+n)*cols]...)
					}
				}
				want := ref.Add(y[:count*cols], rows)
				vector, err := v.vector(table)
				if err != nil {
					return err
				}
				b := v.m.NewBuilder(v.name, tokens)
				if len(s.Sequences) > 1 {
					b.Batch(0, len(s.Sequences))
				}
				yt, err := v.input(b, y, cols)
				if err != nil {
					return err
				}
				b.AddPlaces(yt, vector)
				got, err := v.evaluate(b, yt, s)
				if err != nil {
					return err
				}
				v.each(compare(lastKernel(b), v.name, got, want, magnitudes(want), tolerances.add))
				return nil
			})
		}
	}
}

// logProbs takes the log-probability of each token after the one before, the last of which may have no logit. With
// notFinite some rows have logits that are not.
func (v *verifier) logProbs(cols, tokens, count int, sums, large, notFinite bool) {
	name := fmt.Sprintf("logprob, cols %d, %d of %d tokens, sums %t, large %t, not finite %t", cols, count, tokens, sums, large, notFinite)
	v.check(name, func() error {
		x := v.normal(tokens * cols)
		for t := 0; large && t < tokens; t++ { // exp of the peak alone is infinite
			row := x[t*cols:][:cols]
			for c := range row {
				row[c] *= 50
			}
			row[(cols-1)*(t%2)] = 500
		}
		step := inputStep(0, count)
		next := append(slices.Clone(step.Sequences[0].Tokens[1:]), v.rnd.IntN(cols+2)) // input makes tokens the rows of x
		step.Next = &next[count-1]
		var want, terms []float64
		for t := range count {
			row := x[t*cols:][:cols]
			lp, sum, largest := notFiniteLogProb, notFiniteLogProb, 1.0
			if notFinite && t%2 == 0 {
				row[(1+37*t/2)%cols] = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[t/2%3]
			} else {
				sum, largest = ref.LogSumExp(row), slices.Max(magnitudes(row))
				lp = 0
				if next[t] < cols {
					lp = row[next[t]] - sum
				}
			}
			want, terms = append(want, lp), append(terms, 1+2*largest)
			if sums {
				want, terms = append(want, sum), append(terms, 1+largest)
			}
		}
		b := v.m.NewBuilder(v.name, tokens)
		xt, err := v.input(b, x, cols)
		if err != nil {
			return err
		}
		y := b.LogProbs(xt, sums)
		got, err := v.evaluate(b, y, step)
		if err != nil {
			return err
		}
		v.each(compare(lastKernel(b), v.name, replaceNaN(got), want, terms, 2*tolerances.softmax(cols)))
		return nil
	})
}

// notFiniteLogProb stands for NaN, which compare takes for wrong, where NaN is right; no log-probability or sum of a
// case comes near.
const notFiniteLogProb = 1e6

func replaceNaN(x []float32) []float32 {
	for i := range x {
		if math.IsNaN(float64(x[i])) {
			x[i] = notFiniteLogProb
		}
	}
	return x
}

// softCapNotFinite has logits that no cap may hide: an infinity or NaN stays what it is.
func (v *verifier) softCapNotFinite() {
	v.check("softcap, not finite", func() error {
		x := []float64{math.Inf(1), math.NaN(), math.Inf(-1)}
		b := v.m.NewBuilder(v.name, 1)
		xt, err := v.input(b, x, len(x))
		if err != nil {
			return err
		}
		b.SoftCap(xt, 30)
		kernel := lastKernel(b)
		got, err := v.evaluate(b, xt, inputStep(0, 1))
		if err != nil {
			return err
		}
		want := []float64{x[0], 1, x[2]} // compare takes every NaN for wrong
		if math.IsNaN(float64(got[1])) {
			got[1] = 1
		}
		v.each(compare(kernel, v.name, got, want, constant(len(want), 1), 0))
		return nil
	})
}

func (v *verifier) actCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 4097, 36, 4100} {
		for _, act := range []kernels.Activation{kernels.SiLU, kernels.GELU, kernels.GELUTanh} {
			r := sizes[i%len(sizes)]
			v.act(cols, r[0], r[1], act, true)
			v.act(cols, r[0], r[1], act, false)
		}
	}
}

func (v *verifier) act(cols, tokens, count int, act kernels.Activation, gated bool) {
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
		case kernels.GELU:
			f, tolerance = ref.GELU, tolerances.gelu
		case kernels.GELUTanh:
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
			if act == kernels.SiLU {
				terms[i] = math.Abs(want[i]) * (1 + g)
			}
		}
		return v.one(x, tokens, inputStep(0, count), func(b *pipeline.Builder, x *pipeline.Tensor) (*pipeline.Tensor, error) {
			if gated {
				return b.ActMul(x, act), nil
			}
			return b.Act(x, act), nil
		}, want, terms, tolerance)
	})
}

func (v *verifier) softmaxCases() {
	for i, cols := range []int{1, 7, 63, 64, 65, 4096, 4097, 4100} {
		v.softmax(cols, sizes[i%len(sizes)][0], []float32{1, 0.5, 8}[i%3], false)
	}
	v.softmax(128, 3, 1, true)
}

// softmax has a peak in the last column of each row, if one is asked for: to miss it is to add infinities.
func (v *verifier) softmax(cols, tokens int, scale float32, peak bool) {
	name := fmt.Sprintf("softmax, cols %d, %d rows, scale %g", cols, tokens, scale)
	if peak {
		name += ", peak last"
	}
	v.check(name, func() error {
		x := v.normal(tokens * cols)
		if peak {
			for t := range tokens {
				x[(t+1)*cols-1] = 120 / float64(scale)
			}
		}
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
		return v.one(x, tokens, inputStep(0, tokens), func(b *pipeline.Builder, x *pipeline.Tensor) (*pipeline.Tensor, error) {
			return b.Softmax(x, scale), nil
		}, want, terms, tolerances.softmax(cols))
	})
}

func (v *verifier) topKCases() {
	for _, c := range []struct {
		rows, n, k int
		kind       string
	}{
		{1, 1, 1, "normal"}, {1, 7, 2, "normal"}, {1, 63, 63, "normal"}, {1, 64, 1, "ties"}, {1, 65, 7, "ties"}, {3, 1024, 1, "normal"},
		{1, 1025, 40, "ties"}, {5, 1028, 1, "ties"}, {4, 1025, 3, "normal"},
		{1, 4097, 1, "normal"}, {1, 4097, 256, "ties"}, {1, 49152, 1, "ties"}, {1, 49152, 40, "normal"}, {2, 7, 9, "normal"},
		{1, 4097, 9, "nan"}, {1, 4097, 1, "nan"}, {1, 4100, 1, "nan"}, {1, 2050, 5, "minus infinity"}, {1, 65, 65, "minus infinity"},
		{2, 64, 1, "all minus infinity"}, {3, 1028, 2, "ties"}, {1, 49152, 2, "ties"}, {1, 4100, 2, "nan"}, {1, 2052, 2, "minus infinity"}, {1, 4, 2, "normal"},
	} {
		v.topK(c.rows, c.n, c.k, c.kind)
	}
}

func (v *verifier) topK(rows, n, k int, kind string) {
	v.check(fmt.Sprintf("topk, %d of %d in %d rows, %s", k, n, rows, kind), func() error {
		x := v.normal(rows * n)
		for i := range x {
			switch {
			case kind == "ties":
				x[i] = math.Round(x[i])
			case kind == "nan" && i%1000 == 999:
				x[i] = math.NaN()
			case kind == "nan" && i%1000 == 500:
				x[i] = math.Inf(1)
			case kind == "minus infinity" && i > 2, kind == "all minus infinity":
				x[i] = math.Inf(-1)
			}
		}
		var want []float64
		for row := range rows {
			for _, id := range ref.TopK(x[row*n:][:n], k) {
				value := x[row*n+id]
				if math.IsNaN(value) {
					value = math.Inf(1)
				}
				want = append(want, value, float64(id))
			}
			for len(want) < 2*k*(row+1) {
				want = append(want, math.Inf(-1), noID)
			}
		}
		b := v.m.NewBuilder(v.name, rows)
		xt, err := v.input(b, x, n)
		if err != nil {
			return err
		}
		y := b.TopK(xt, k)
		kernel := b.Dispatched()[1]
		got, err := v.evaluate(b, y, inputStep(0, rows))
		if err != nil {
			return err
		}
		v.each(compare(kernel, v.name, idsOf(got), want, constant(len(want), 1), tolerances.topK))
		return nil
	})
}

// logSumExp takes the rows of the last tokens of three sequences. With notFinite the second has an infinity.
func (v *verifier) logSumExp(cols int, notFinite bool) {
	v.check(fmt.Sprintf("logprob, cols %d, last tokens, not finite %t", cols, notFinite), func() error {
		const rows = 3
		x := v.normal(rows * cols)
		step := packed(inputStep(0, 7), []int{2, 4, 1})
		var want, terms []float64
		for i := range rows {
			row := x[i*cols:][:cols]
			if notFinite && i == 1 {
				row[cols-1] = math.Inf(-1)
				want, terms = append(want, notFiniteLogProb), append(terms, 1)
				continue
			}
			want, terms = append(want, ref.LogSumExp(row)), append(terms, 1+slices.Max(magnitudes(row)))
		}
		b := v.m.NewBuilder(v.name, 7)
		table, err := v.store(rowsOf(dtype.F32, 7), append(x, v.normal(4*cols)...), cols)
		if err != nil {
			return err
		}
		y := b.LogSumExp(b.Embed(table.matrix, 1))
		got, err := v.evaluate(b, y, step)
		if err != nil {
			return err
		}
		v.each(compare(lastKernel(b), v.name, replaceNaN(got[:rows]), want, terms, 2*tolerances.softmax(cols)))
		return nil
	})
}
