package pipeline

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"pumice/internal/dtype"
)

// rowsOf is a step of a walk: each token is a sequence of its own.
func rowsOf(tokens ...int) Step {
	var s Step
	for _, token := range tokens {
		s.Sequences = append(s.Sequences, Sequence{Tokens: []int{token}})
	}
	return s
}

// only is a mask that allows some tokens of a walk.
func only(tokens ...int) []uint32 {
	words := make([]uint32, maskWords(walkVocab))
	for _, token := range tokens {
		words[token/32] |= 1 << (token % 32)
	}
	return words
}

// choosing is a plan over a walk that leaves the largest logit of each of several sequences, and whose step may change
// what it is.
func (w *walk) choosing(name string, sequences int, adjust, allow bool) *Plan {
	b := w.b.m.NewBuilder(name, sequences)
	b.Batch(sequences, 0)
	logits := b.Embed(w.table, 1)
	if adjust {
		b.Adjust(logits)
	}
	if allow {
		b.Allow(logits)
	}
	b.Output("top", b.TopK(logits, 1))
	return w.b.build(b)
}

// top is what a choosing plan has found in each row.
func top(t *testing.T, p *Plan, rows int) (ids []int) {
	t.Helper()
	pairs := outputOf(t, p, "top", rows, 2)
	for i := range rows {
		ids = append(ids, int(math.Float32bits(pairs[2*i+1])))
	}
	return ids
}

// TestAdjustIsOfTheStep changes rows in some steps of a plan and not in others, of two plans in turn, and counts what
// crosses to the device besides the step.
func TestAdjustIsOfTheStep(t *testing.T) {
	w := newWalk(t, Options{})
	p, q := w.choosing("three", 3, true, true), w.choosing("two", 2, true, true)
	forbid := AdjustedToken{ID: next(1), Bias: float32(math.Inf(-1))}
	often := AdjustedToken{ID: next(2), Count: 3}
	s := rowsOf(1, 2, 3)
	for _, c := range []struct {
		name  string
		p     *Plan
		rows  []Adjust
		want  []int
		bytes int64 // -1: not counted
	}{
		{"nothing", p, nil, []int{next(1), next(2), next(3)}, -1},
		{"a ban, a penalty, a mask", p, []Adjust{
			{Tokens: []AdjustedToken{forbid}}, {Tokens: []AdjustedToken{often}, PresencePenalty: 2}, {Allowed: only(40, 41)},
		}, []int{0, 0, 40}, 4 + 4 + 8 /* 1: repeat, ban */ + 4 + 8 + 8 /* 2 */ + 8 /* 3: masks, a word */},
		{"the same", p, []Adjust{
			{Tokens: []AdjustedToken{forbid}}, {Tokens: []AdjustedToken{often}, PresencePenalty: 2}, {Allowed: only(40, 41)},
		}, []int{0, 0, 40}, 0},
		{"more of it", p, []Adjust{
			{Tokens: []AdjustedToken{forbid, {ID: 5, Bias: .5}}}, {Tokens: []AdjustedToken{often}, PresencePenalty: 3}, {Allowed: only(63)},
		}, []int{5, 0, 63}, 4 + 8 + 4 + 4},
		{"nothing again", p, nil, []int{next(1), next(2), next(3)}, 12},
		{"one row", p, []Adjust{{Allowed: only(9)}}, []int{9, next(2), next(3)}, 8},
		{"another plan", q, []Adjust{{}, {Allowed: only(8)}}, []int{next(1), 8}, -1},
		{"another plan, nothing", q, nil, []int{next(1), next(2)}, 4},
		{"the first plan", p, nil, []int{next(1), next(2), next(3)}, -1},
		{"nothing is allowed", p, []Adjust{{}, {Allowed: only()}}, []int{next(1), noToken, next(3)}, 8},
	} {
		s.Sequences, s.Adjust = rowsOf(1, 2, 3).Sequences[:len(c.want)], c.rows
		counters := run(t, c.p, s)
		if got := top(t, c.p, len(c.want)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
		if got := counters.HostToDeviceBytes; c.bytes >= 0 && got != c.bytes {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.bytes)
		}
		for _, m := range []*mirror{&w.b.m.frame.adjust.lists, &w.b.m.frame.adjust.masks} {
			for i, have := range m.words {
				if is := word(m.buffer.Mapped(), 4*i); is != have {
					t.Fatalf("%s: word %d is %#x, the host has %#x", c.name, i, is, have)
				}
			}
		}
	}
}

// TestAPlanThatAdjustsAdvances takes a burst in which one token is forbidden.
func TestAPlanThatAdjustsAdvances(t *testing.T) {
	w := newWalk(t, Options{})
	p := w.plan("forbids", 1, func(b *Builder, logits *Tensor) {
		b.Adjust(logits)
		b.Allow(logits)
		b.Advance(logits)
	})
	s := one(0, 9)
	third := next(next(next(9)))
	s.Burst, s.Adjust = 4, []Adjust{{Tokens: []AdjustedToken{{ID: third, Bias: -2}}}}
	run(t, p, s)
	for i, want := range []int{next(9), next(next(9)), 0, next(0)} {
		if got, _, err := p.Chosen(i, nil, nil); got != want || err != nil {
			t.Errorf("step %d chose %d, %v, want %d", i, got, err, want)
		}
	}
}

// TestAPlanWithoutAdjustCostsNothingMore compares dispatches, barriers and bytes of plans.
func TestAPlanWithoutAdjustCostsNothingMore(t *testing.T) {
	w := newWalk(t, Options{})
	plain := run(t, w.choosing("plain", 2, false, false), rowsOf(1, 2))
	masked := run(t, w.choosing("masked", 2, false, true), rowsOf(1, 2))
	both := run(t, w.choosing("adjusted", 2, true, true), rowsOf(1, 2))
	if plain.Dispatches != 2 || masked.Dispatches != 2 || both.Dispatches != 3 {
		t.Errorf("%d, %d and %d dispatches", plain.Dispatches, masked.Dispatches, both.Dispatches)
	}
	if masked.Barriers != plain.Barriers || both.Barriers != plain.Barriers+1 {
		t.Errorf("%d, %d and %d barriers", plain.Barriers, masked.Barriers, both.Barriers)
	}
}

func TestAdjustIsChecked(t *testing.T) {
	w := newWalk(t, Options{})
	p, plain := w.choosing("both", 2, true, true), w.choosing("plain", 2, false, false)
	advancing := w.plan("advancing", 1, func(b *Builder, logits *Tensor) {
		b.Adjust(logits)
		b.Advance(logits)
	})
	token := func(tokens ...AdjustedToken) []Adjust { return []Adjust{{Tokens: tokens}} }
	nan := float32(math.NaN())
	for _, c := range []struct {
		p     *Plan
		rows  []Adjust
		burst int
		parts []string
	}{
		{plain, token(AdjustedToken{}), 1, []string{"row 0 of logits: 1 tokens are adjusted, and the plan adjusts 0 rows"}},
		{plain, []Adjust{{}, {Allowed: only(1)}}, 1, []string{"row 1 of logits: a mask, and the plan takes those of 0 rows"}},
		{p, make([]Adjust, 3), 1, []string{"3 rows of logits are adjusted, the step has 2"}},
		{p, []Adjust{{Allowed: make([]uint32, 3)}}, 1, []string{"a mask of 3 words; the plan takes 2"}},
		{p, token(make([]AdjustedToken, MaxAdjusted+1)...), 1, []string{"4097 tokens are adjusted; at most 4096"}},
		{p, token(AdjustedToken{ID: walkVocab}), 1, []string{"token {ID:64", "of 64"}},
		{p, token(AdjustedToken{ID: -1}), 1, []string{"token {ID:-1"}},
		{p, token(AdjustedToken{Bias: nan}), 1, []string{"Bias:NaN"}},
		{p, token(AdjustedToken{Bias: float32(math.Inf(1))}), 1, []string{"Bias:+Inf"}},
		{p, token(AdjustedToken{Count: -1}), 1, []string{"Count:-1"}},
		{p, token(AdjustedToken{ID: 3}, AdjustedToken{ID: 4}, AdjustedToken{ID: 3}), 1, []string{"token 3 is adjusted twice"}},
		{p, []Adjust{{Tokens: make([]AdjustedToken, 1), RepeatPenalty: -1}}, 1, []string{"penalties -1, 0, 0"}},
		{p, []Adjust{{Tokens: make([]AdjustedToken, 1), FrequencyPenalty: nan}}, 1, []string{"penalties 0, NaN, 0"}},
		{p, []Adjust{{Tokens: make([]AdjustedToken, 1), PresencePenalty: float32(math.Inf(1))}}, 1, []string{"penalties 0, 0, +Inf"}},
		{advancing, []Adjust{{Tokens: []AdjustedToken{{Count: 1}}, RepeatPenalty: 2}}, 2, []string{"2 steps with penalties"}},
	} {
		s := rowsOf(1, 2)
		if c.p == advancing {
			s = one(0, 1)
			s.Burst = c.burst
		}
		s.Adjust = c.rows
		_, err := c.p.Run(t.Context(), s)
		wantError(t, fmt.Sprint(c.parts), err, append(c.parts, "pipeline: "+c.p.name+": ")...)
	}
	s := rowsOf(1, 2) // a list that was refused leaves no marks
	s.Adjust = token(AdjustedToken{ID: 3}, AdjustedToken{ID: 4})
	run(t, p, s)
}

// BenchmarkAdjust finds the largest of each of 16 rows of the largest vocabulary, with and without lists of 300 tokens and
// masks, and reports the device time of each kernel.
func BenchmarkAdjust(b *testing.B) {
	const rows, vocab = MaxSequences, 151936
	k := newBench(b, newManager(b, Options{Profile: true}))
	table := k.store(dtype.F32, k.normal(rows*vocab), vocab).matrix
	s := rowsOf()
	masks := make([]uint32, rows*maskWords(vocab))
	for i := range masks {
		masks[i] = k.rnd.Uint32() & k.rnd.Uint32()
	}
	for row := range rows {
		a := Adjust{RepeatPenalty: 1.1, Allowed: masks[row*maskWords(vocab):][:maskWords(vocab)]}
		for _, id := range k.rnd.Perm(vocab)[:300] {
			a.Tokens = append(a.Tokens, AdjustedToken{ID: id, Bias: 1, Count: 1})
		}
		s.Sequences, s.Adjust = append(s.Sequences, Sequence{Tokens: []int{row}}), append(s.Adjust, a)
	}
	if err := k.m.Reserve(Need{Mask: logitsSize{rows, vocab}.maskBytes()}); err != nil {
		b.Fatal(err)
	}
	for _, with := range []string{"nothing", "adjust", "allow"} {
		b.Run(with, func(b *testing.B) {
			p, s := k.m.NewBuilder(with, rows), s
			p.Batch(rows, 0)
			logits := p.Embed(table, 1)
			s.Adjust = slices.Clone(s.Adjust)
			for row := range s.Adjust {
				if with != "adjust" {
					s.Adjust[row].Tokens = nil
				}
				if with != "allow" {
					s.Adjust[row].Allowed = nil
				}
			}
			switch with {
			case "adjust":
				p.Adjust(logits)
			case "allow":
				p.Allow(logits)
			}
			p.Output("top", p.TopK(logits, 1))
			plan := k.build(p)
			run(b, plan, s)
			total := map[string]time.Duration{}
			for b.Loop() {
				run(b, plan, s)
				timings, err := plan.Profile()
				if err != nil {
					b.Fatal(err)
				}
				for _, t := range timings {
					total[t.Kernel] += t.Total
				}
			}
			for kernel, d := range total {
				b.ReportMetric(d.Seconds()*1e3/float64(b.N), kernel+"-ms")
			}
		})
	}
}
