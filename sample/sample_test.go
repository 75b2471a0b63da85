package sample

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"
)

var inf = float32(math.Inf(1))

func mustSample(t *testing.T, s *Sampler, logits []float32, history []int) int {
	t.Helper()
	id, err := s.Sample(logits, history)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Hand-computed cases of the order and the meaning of the steps. Logarithms as logits make the probabilities round
// numbers.
func TestDistributionMatchesHandComputedCases(t *testing.T) {
	ln := func(p float64) float32 { return float32(math.Log(p)) }
	half := []float32{ln(.5), ln(.25), ln(.125), ln(.125)}
	cases := []struct {
		name    string
		p       Params
		logits  []float32
		history []int
		want    map[int]float64
	}{
		{"plain", Params{Temperature: 1}, half, nil, map[int]float64{0: .5, 1: .25, 2: .125, 3: .125}},
		// p^(1/0.5) = .25 .0625 .015625 .015625, sum .34375
		{"temperature one half squares", Params{Temperature: .5}, half, nil, map[int]float64{0: .25 / .34375, 1: .0625 / .34375, 2: .015625 / .34375, 3: .015625 / .34375}},
		{"top-k of equals keeps lower id", Params{Temperature: 1, TopK: 3}, half, nil, map[int]float64{0: .5 / .875, 1: .25 / .875, 2: .125 / .875}},
		{"top-p includes the token that crosses", Params{Temperature: 1, TopP: .6}, half, nil, map[int]float64{0: .5 / .75, 1: .25 / .75}},
		{"top-p reached exactly stops", Params{Temperature: 1, TopP: .5}, half, nil, map[int]float64{0: 1}},
		{"top-p tiny keeps one", Params{Temperature: 1, TopP: 1e-9}, half, nil, map[int]float64{0: 1}},
		// After top-k 2 the first has 2/3 >= .6; without renormalising it would be .5 < .6 and two would stay.
		{"top-k before top-p, renormalised", Params{Temperature: 1, TopK: 2, TopP: .6}, half, nil, map[int]float64{0: 1}},
		// T = 0.5 first: the first has .727 >= .7. At T = 1 two would stay.
		{"temperature before top-p", Params{Temperature: .5, TopP: .7}, half, nil, map[int]float64{0: 1}},
		{"min-p relative to largest", Params{Temperature: 1, MinP: .3}, half, nil, map[int]float64{0: .5 / .75, 1: .25 / .75}},
		// T = 2: ratios become sqrt: .707, .5, .5, all >= .45.
		{"temperature before min-p", Params{Temperature: 2, MinP: .45}, half, nil, map[int]float64{
			0: 1 / (1 + math.Sqrt(.5) + 1), 1: math.Sqrt(.5) / (2 + math.Sqrt(.5)), 2: .5 / (2 + math.Sqrt(.5)), 3: .5 / (2 + math.Sqrt(.5))}},
		// A positive logit is divided and a negative one multiplied, once however often the token occurs: 2/2 = 1, -1*2
		// = -2; 1 and -2 stay.
		{"repetition penalty", Params{Temperature: 1, RepeatPenalty: 2}, []float32{2, -1, 1, -2}, []int{0, 1, 0, 0}, map[int]float64{
			0: 1 / (2 + 2*math.Exp(-3)), 2: 1 / (2 + 2*math.Exp(-3)), 1: math.Exp(-3) / (2 + 2*math.Exp(-3)), 3: math.Exp(-3) / (2 + 2*math.Exp(-3))}},
		// 3 - 2*.5 - 1 = 1; 2.5 - .5 - 1 = 1; 1.
		{"presence and frequency", Params{Temperature: 1, PresencePenalty: 1, FrequencyPenalty: .5}, []float32{3, 2.5, 1}, []int{0, 1, 0}, map[int]float64{0: 1. / 3, 1: 1. / 3, 2: 1. / 3}},
		{"window forgets", Params{Temperature: 1, PresencePenalty: 1, RepeatLastN: 1}, []float32{1, 2}, []int{0, 0, 0, 1}, map[int]float64{0: .5, 1: .5}},
		{"penalty decides top-k", Params{Temperature: 1, TopK: 1, RepeatPenalty: 4}, []float32{4, 2}, []int{0}, map[int]float64{1: 1}},
		{"minus infinity is forbidden", Params{Temperature: 1}, []float32{-inf, 0, 0}, nil, map[int]float64{1: .5, 2: .5}},
		{"huge logits", Params{Temperature: 1}, []float32{math.MaxFloat32, math.MaxFloat32}, nil, map[int]float64{0: .5, 1: .5}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := New(c.p).Distribution(nil, c.logits, c.history)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(c.want) {
				t.Fatalf("kept %v, want %v", got, c.want)
			}
			for _, g := range got {
				if w, ok := c.want[g.ID]; !ok || math.Abs(g.Probability-w) > 1e-6 {
					t.Errorf("token %d: probability %v, want %v (of %v)", g.ID, g.Probability, w, c.want)
				}
			}
		})
	}
}

func TestGreedyTakesLowestIDOfEqualLogits(t *testing.T) {
	if id := mustSample(t, New(Params{}), []float32{-inf, 1, 3, 3, 2}, nil); id != 2 {
		t.Errorf("chose %d, want 2", id)
	}
	// With a penalty another code path scans the logits.
	if id := mustSample(t, New(Params{PresencePenalty: 2}), []float32{0, 1, 3, 3, 2}, []int{2, 3}); id != 4 {
		t.Errorf("chose %d, want 4", id)
	}
}

func TestUnusableLogitsAreErrors(t *testing.T) {
	nan := float32(math.NaN())
	for _, p := range []Params{{}, {RepeatPenalty: 1.1}, Default(), {Temperature: 1, TopP: .9}} {
		for _, c := range []struct {
			logits []float32
			id     int
		}{{[]float32{1, nan, 2}, 1}, {[]float32{1, 2, inf}, 2}, {[]float32{-inf, -inf}, -1}, {nil, -1}} {
			id, err := New(p).Sample(c.logits, nil)
			var e *LogitError
			if !errors.As(err, &e) || e.ID != c.id {
				t.Errorf("%+v %v: token %d, error %v", p, c.logits, id, err)
			}
		}
	}
	for _, id := range []int{-1, 2, 1 << 40} {
		var e *HistoryError
		if _, err := New(Params{RepeatPenalty: 2}).Sample([]float32{1, 2}, []int{0, id}); !errors.As(err, &e) || e.ID != id {
			t.Errorf("history token %d: error %v", id, err)
		}
	}
}

func TestValidateNamesTheField(t *testing.T) {
	nan := float32(math.NaN())
	for name, p := range map[string]Params{
		"Temperature": {Temperature: -1}, "TopK": {TopK: -1}, "TopP": {TopP: 1.5}, "MinP": {MinP: nan},
		"RepeatPenalty": {RepeatPenalty: inf}, "PresencePenalty": {PresencePenalty: 3},
		"FrequencyPenalty": {FrequencyPenalty: -2.5}, "RepeatLastN": {RepeatLastN: -1},
	} {
		var e *ParamError
		if err := p.Validate(); !errors.As(err, &e) || e.Field != name {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := New(p).Sample([]float32{1}, nil); !errors.As(err, &e) {
			t.Errorf("%s: Sample: %v", name, err)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	if err := (Params{}).Validate(); err != nil {
		t.Error(err)
	}
}

// Pearson's chi-square of 200,000 draws against the exact probabilities, 7 degrees of freedom: 24.3 is the 0.999 quantile.
func TestDrawsFollowTheDistribution(t *testing.T) {
	logits := []float32{0, .5, 1, -1, 2, -.5, .25, 1.5}
	for seed := range uint64(4) {
		s := New(Params{Temperature: 1.3, Seed: seed})
		total := 0.0
		for _, l := range logits {
			total += math.Exp(float64(l) / 1.3)
		}
		const n = 200000
		var got [8]int
		for range n {
			got[mustSample(t, s, logits, nil)]++
		}
		chi := 0.0
		for id, l := range logits {
			want := n * math.Exp(float64(l)/1.3) / total
			chi += (float64(got[id]) - want) * (float64(got[id]) - want) / want
		}
		if chi > 24.3 {
			t.Errorf("seed %d: chi-square %.1f: %v", seed, chi, got)
		}
	}
}

func TestSameSeedSameTokens(t *testing.T) {
	logits := make([]float32, 500)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range logits {
		logits[i] = float32(r.NormFloat64())
	}
	run := func(seed uint64) (ids []int) {
		p := Default()
		p.Seed = seed
		s := New(p)
		for range 50 {
			ids = append(ids, mustSample(t, s, logits, ids))
		}
		return ids
	}
	if !slices.Equal(run(7), run(7)) {
		t.Error("one seed gave two sequences")
	}
	if slices.Equal(run(7), run(8)) {
		t.Error("two seeds gave one sequence")
	}
}

// plain defines the filters by full sorting, independently of the code under test.
func plain(p Params, logits []float32) []Choice {
	c := make([]Choice, 0, len(logits))
	largest := slices.Max(logits)
	for id, l := range logits {
		c = append(c, Choice{id, math.Exp((float64(l) - float64(largest)) / float64(p.Temperature))})
	}
	sort.SliceStable(c, func(i, j int) bool { return logits[c[i].ID] > logits[c[j].ID] })
	if p.TopK > 0 {
		c = c[:min(p.TopK, len(c))]
	}
	sum := func() (s float64) {
		for _, x := range c {
			s += x.Probability
		}
		return s
	}
	if p.TopP > 0 && p.TopP < 1 {
		total, above := sum(), 0.0
		for i := range c {
			if i > 0 && above/total >= float64(p.TopP) {
				c = c[:i]
				break
			}
			above += c[i].Probability
		}
	}
	for i := range c {
		if c[i].Probability < float64(p.MinP) {
			c = c[:i]
			break
		}
	}
	total := sum()
	for i := range c {
		c[i].Probability /= total
	}
	return c
}

func TestFiltersMatchFullSort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few distinct values, so that ties are common; dyadic steps keep both sums exact enough to agree at the edges.
		n := rapid.IntRange(1, 300).Draw(t, "n")
		logits := make([]float32, n)
		for i := range logits {
			logits[i] = float32(rapid.IntRange(-40, 40).Draw(t, "l")) / 4
		}
		p := Params{
			Temperature: rapid.Float32Range(.1, 3).Draw(t, "T"),
			TopK:        rapid.IntRange(0, 40).Draw(t, "k"),
			TopP:        rapid.Float32Range(0, 1).Draw(t, "p"),
			MinP:        rapid.Float32Range(0, 1).Draw(t, "m"),
		}
		before := slices.Clone(logits)
		got, err := New(p).Distribution(nil, logits, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(before, logits) {
			t.Fatal("logits were changed")
		}
		want := plain(p, logits)
		if len(got) != len(want) {
			t.Fatalf("%+v: kept %d, want %d", p, len(got), len(want))
		}
		if p.TopK == 0 && (p.TopP == 0 || p.TopP == 1) && p.MinP == 0 {
			sort.Slice(want, func(i, j int) bool { return want[i].ID < want[j].ID })
		}
		for i := range got {
			if got[i].ID != want[i].ID || math.Abs(got[i].Probability-want[i].Probability) > 1e-9 {
				t.Fatalf("%+v: index %d: %v, want %v", p, i, got[i], want[i])
			}
		}
	})
}

func TestCandidatesChooseAsTheWholeVocabulary(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 200).Draw(t, "n")
		logits := make([]float32, n)
		ids := make([]int, n)
		for i := range logits {
			logits[i] = float32(rapid.IntRange(-100, 100).Draw(t, "l")) / 8
			ids[i] = i
		}
		history := rapid.SliceOfN(rapid.IntRange(0, n-1), 0, 20).Draw(t, "history")
		k := rapid.IntRange(1, 30).Draw(t, "k")
		p := Params{Temperature: 1, TopK: k, TopP: .9, RepeatPenalty: 1.3, PresencePenalty: .5, Seed: rapid.Uint64().Draw(t, "seed")}
		// If penalties only lower logits, the filters can keep only tokens among the top k + distinct history tokens.
		sort.SliceStable(ids, func(i, j int) bool { return logits[ids[i]] > logits[ids[j]] })
		ids = ids[:min(n, k+len(history))]
		rand.New(rand.NewPCG(p.Seed, 1)).Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		some := make([]float32, len(ids))
		for i, id := range ids {
			some[i] = logits[id]
		}
		a, err := New(p).Sample(logits, history)
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(p).SampleCandidates(ids, some, history)
		if err != nil {
			t.Fatal(err)
		}
		if a != b {
			t.Fatalf("whole vocabulary chose %d, candidates %d", a, b)
		}
	})
}

func TestBadCandidatesAreErrors(t *testing.T) {
	s := New(Params{RepeatPenalty: 2})
	if _, err := s.SampleCandidates([]int{1}, []float32{1, 2}, nil); err == nil {
		t.Error("lengths differ: no error")
	}
	if _, err := s.SampleCandidates([]int{-1}, []float32{1}, nil); err == nil {
		t.Error("negative id: no error")
	}
	if _, err := s.SampleCandidates(nil, nil, nil); err == nil {
		t.Error("no candidates: no error")
	}
}

func vocabulary(n int) []float32 {
	r := rand.New(rand.NewPCG(3, 4))
	logits := make([]float32, n)
	for i := range logits {
		logits[i] = float32(3 * r.NormFloat64())
	}
	return logits
}

func TestSampleAllocatesOnlyOnTheFirstCall(t *testing.T) {
	logits, history := vocabulary(100534), []int{5, 6, 7, 100533}
	for _, p := range []Params{{}, {RepeatPenalty: 1.1}, Default(), {Temperature: 1, TopP: .9}, {Temperature: 1, MinP: .1}, {Temperature: 1}} {
		s := New(p)
		mustSample(t, s, logits, history)
		if n := testing.AllocsPerRun(3, func() { mustSample(t, s, logits, history) }); n != 0 {
			t.Errorf("%+v: %v allocations per call", p, n)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	logits := vocabulary(151936)
	for name, p := range map[string]Params{
		"greedy": {}, "default": Default(), "top-p": {Temperature: .8, TopP: .95}, "plain": {Temperature: 1},
	} {
		b.Run(name, func(b *testing.B) {
			s := New(p)
			b.SetBytes(int64(4 * len(logits)))
			for b.Loop() {
				if _, err := s.Sample(logits, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func ExampleSampler_Sample() {
	s := New(Params{Temperature: .7, TopK: 2, Seed: 1})
	var ids []int
	for range 8 {
		id, err := s.Sample([]float32{1, 5, 5.5, 2}, ids)
		if err != nil {
			fmt.Println(err)
			return
		}
		ids = append(ids, id)
	}
	fmt.Println(len(ids), slices.Contains(ids, 0))
	// Output: 8 false
}
