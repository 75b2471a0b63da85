package verify

import (
	"fmt"
	"math"
	"strings"

	"pumice/internal/ref"
	"pumice/pipeline"
)

// rowsStep is the step for which input works, each token with a row of results.
func rowsStep(rows int) pipeline.Step {
	lengths := make([]int, rows)
	for i := range lengths {
		lengths[i] = 1
	}
	return packed(inputStep(0, rows), lengths)
}

// adjustCases change rows by lists of few and of many tokens.
func (v *verifier) adjustCases() {
	for _, c := range []struct {
		cols                        int
		lists                       []int // tokens in the list of each row, which may be fewer rows than there are
		room                        int   // rows of the plan
		repeat, frequency, presence float32
		wide, notFinite             bool
	}{
		{cols: 1, lists: []int{1}, room: 1, repeat: 1.3, frequency: .5, presence: .25},
		{cols: 7, lists: []int{7, 0, 3}, room: 5, repeat: 1.1},
		{cols: 65, lists: []int{1, 63, 64, 65}, room: 4, frequency: -1.5, presence: 2, notFinite: true},
		{cols: 4097, lists: []int{pipeline.MaxAdjusted, 300}, room: 2, repeat: .7, frequency: .01, presence: -.3},
		{cols: 151, lists: []int{20, 100, 0, 151, 7, 80, 1, 2, 64, 65, 66, 0, 0, 3, 129, 9}, room: pipeline.MaxSequences, repeat: 4, wide: true},
		{cols: 300, lists: []int{200}, room: 3},
	} {
		name := fmt.Sprintf("adjust, %v of %d columns, %d rows, penalties %g, %g, %g, wide %t, not finite %t", c.lists, c.cols, c.room,
			c.repeat, c.frequency, c.presence, c.wide, c.notFinite)
		v.check(name, func() error {
			x := v.normal(c.room * c.cols)
			for i := range x {
				switch {
				case c.wide && i%3 == 0: // a penalty makes it infinite
					x[i] = math.Copysign(float64(float32(3e38)), x[i])
				case c.notFinite && i%4 == 0:
					x[i] = []float64{math.NaN(), math.Inf(1), math.Inf(-1)}[i/4%3]
				}
			}
			step := rowsStep(max(len(c.lists), c.room-2))
			for _, n := range c.lists {
				step.Adjust = append(step.Adjust, v.adjust(c.cols, n, c.repeat, c.frequency, c.presence))
			}
			want, terms := adjusted(x[:len(step.Sequences[0].Tokens)*c.cols], c.cols, step.Adjust)
			return v.oneOf(x, c.room, step, want, terms)
		})
	}
}

// oneOf is one for Adjust, with NaN where NaN is right.
func (v *verifier) oneOf(x []float64, room int, step pipeline.Step, want, terms []float64) error {
	b := v.m.NewBuilder(v.name, room)
	xt, err := v.input(b, x, len(x)/room)
	if err != nil {
		return err
	}
	b.Adjust(xt)
	kernel := lastKernel(b)
	got, err := v.evaluate(b, xt, step)
	if err != nil {
		return err
	}
	for i := range want {
		if math.IsNaN(want[i]) {
			want[i] = notFiniteLogProb
		}
	}
	v.each(compare(kernel, v.name, replaceNaN(got), want, terms, tolerances.adjust))
	return nil
}

// adjust makes a list of n tokens of random biases, most of which came before.
func (v *verifier) adjust(cols, n int, repeat, frequency, presence float32) pipeline.Adjust {
	a := pipeline.Adjust{RepeatPenalty: repeat, FrequencyPenalty: frequency, PresencePenalty: presence}
	for i, id := range v.rnd.Perm(cols)[:n] {
		t := pipeline.AdjustedToken{ID: id, Count: v.rnd.IntN(4)}
		switch i % 4 {
		case 1, 2:
			t.Bias = float32(v.rnd.NormFloat64())
		case 3:
			t.Bias = []float32{100, -100, float32(math.Inf(-1))}[v.rnd.IntN(3)]
		}
		a.Tokens = append(a.Tokens, t)
	}
	return a
}

// adjusted is x, of cols columns, with its first rows adjusted in float64 and as large as float32 can be, and the magnitude of
// what each value is made of.
func adjusted(x []float64, cols int, rows []pipeline.Adjust) (want, terms []float64) {
	want, terms = append(want, x...), constant(len(x), 1)
	for row, a := range rows {
		repeat, f, p := float64(a.RepeatPenalty), float64(a.FrequencyPenalty), float64(a.PresencePenalty)
		if repeat == 0 {
			repeat = 1
		}
		for _, t := range a.Tokens {
			at := row*cols + t.ID
			if math.IsNaN(x[at]) || math.IsInf(x[at], 0) {
				continue
			}
			y := ref.Adjust(x[at], float64(t.Bias), t.Count, repeat, f, p)
			terms[at] = (math.Abs(x[at])+math.Abs(float64(t.Bias)))*max(repeat, 1/repeat) + float64(t.Count)*math.Abs(f) + math.Abs(p)
			if y < -math.MaxFloat32 {
				y = math.Inf(-1)
			}
			want[at] = min(y, math.MaxFloat32)
		}
	}
	return want, terms
}

// maskCases search rows for the largest among allowed columns, and rows without a mask beside them.
func (v *verifier) maskCases() {
	for _, c := range []struct {
		n, k  int
		masks string // of each row, as mask makes them
	}{
		{1, 1, "all"}, {1, 1, "empty"}, {64, 1, "some,none,one"}, {65, 7, "one,some"}, {1024, 2, "empty,some,none"}, {1028, 1, "one,some,some"},
		{4100, 2, "some,empty,all"}, {4097, 64, "some,few,none"}, {49152, 1, "some"}, {49152, 40, "few"}, {1025, 3, "last,some"}, {4100, 1, "last,first"},
		{100, 1, "some,none,some,some,some,some,some,some,some,some,some,some,some,some,none,one"},
	} {
		v.masked(c.n, c.k, c.masks)
	}
}

func (v *verifier) masked(n, k int, masks string) {
	v.check(fmt.Sprintf("topk, %d of %d among %s", k, n, masks), func() error {
		kinds := strings.Split(masks, ",")
		rows := len(kinds)
		x := v.normal(rows * n)
		for i := range x {
			x[i] = math.Round(4*x[i]) / 4
		}
		step := rowsStep(rows)
		var want []float64
		for row, kind := range kinds {
			a := pipeline.Adjust{Allowed: v.mask(n, kind)}
			step.Adjust = append(step.Adjust, a)
			values := x[row*n:][:n]
			for _, id := range ref.TopK(values, n) {
				if len(want) < 2*k*(row+1) && (a.Allowed == nil || a.Allowed[id/32]>>(id%32)&1 != 0) {
					want = append(want, values[id], float64(id))
				}
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
		b.Allow(xt)
		y := b.TopK(xt, k)
		kernel := b.Dispatched()[1]
		got, err := v.evaluate(b, y, step)
		if err != nil {
			return err
		}
		v.each(compare(kernel, v.name, idsOf(got), want, constant(len(want), 1), tolerances.topK))
		return nil
	})
}

// noID is the id of a missing pair as idsOf has it.
const noID = 1 << 32

// idsOf makes pairs' ids numbers: they are below 2^24, or the largest of all.
func idsOf(pairs []float32) []float32 {
	for i := 1; i < len(pairs); i += 2 {
		pairs[i] = float32(math.Float32bits(pairs[i]))
	}
	return pairs
}

// mask is a mask of n tokens, of a kind; bits behind them are set.
func (v *verifier) mask(n int, kind string) []uint32 {
	words := make([]uint32, (n+31)/32)
	set := func(id int) { words[id/32] |= 1 << (id % 32) }
	for id := n; id < 32*len(words); id++ {
		set(id)
	}
	switch kind {
	case "none":
		return nil
	case "one":
		set(v.rnd.IntN(n))
	case "first":
		set(0)
	case "last":
		set(n - 1)
	}
	for id := range n {
		if kind == "all" || kind == "some" && v.rnd.IntN(2) == 0 || kind == "few" && v.rnd.IntN(100) == 0 {
			set(id)
		}
	}
	return words
}
