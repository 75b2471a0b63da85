package sample

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// chiSquare is Pearson's statistic of counts against probabilities. Tokens of probability 0 must not occur.
func chiSquare(t *testing.T, got []int, want []Choice) (chi float64, freedom int) {
	t.Helper()
	n, expected := 0, make([]float64, len(got))
	for _, c := range got {
		n += c
	}
	for _, c := range want {
		expected[c.ID] = c.Probability * float64(n)
	}
	for id, c := range got {
		switch {
		case expected[id] > 0:
			d := float64(c) - expected[id]
			chi += d * d / expected[id]
			freedom++
		case c > 0:
			t.Errorf("token %d was chosen %d times, its probability is 0", id, c)
		}
	}
	return chi, freedom - 1
}

// chiLimit is the 0.999 quantile of the chi-square distribution (Wilson and Hilferty 1931), which it exceeds by less
// than 0.3 % from two degrees of freedom on.
func chiLimit(freedom int) float64 {
	f := float64(freedom)
	return f * math.Pow(1-2/(9*f)+3.0902*math.Sqrt(2/(9*f)), 3)
}

// guessing are filters and the distributions of guesses over eight tokens.
var (
	guessLogits  = []float32{0, .5, 1, -1, 2, -.5, .25, 1.5}
	guessHistory = []int{4, 4, 1, 7}
	guessParams  = map[string]Params{
		"plain":     {Temperature: 1.3},
		"filters":   {Temperature: .9, TopK: 6, TopP: .9, MinP: .05},
		"min-p":     {Temperature: 1.5, MinP: .2},
		"penalties": {Temperature: 1, RepeatPenalty: 1.4, FrequencyPenalty: .3, PresencePenalty: .2},
	}
	guessFrom = map[string][]Choice{
		"uniform":      {{0, .125}, {1, .125}, {2, .125}, {3, .125}, {4, .125}, {5, .125}, {6, .125}, {7, .125}},
		"peaked right": {{4, .7}, {7, .2}, {2, .1}},
		"peaked wrong": {{3, .9}, {5, .05}, {0, .05}},
		"one likely":   {{4, 1}},
		"one unlikely": {{3, 1}},
		"in two parts": {{4, .25}, {2, .5}, {4, .25}},
	}
)

// TestVerifiedTokensFollowTheDistribution draws guesses, and lets Verify decide about them. With a rule that is almost
// right the test must fail.
func TestVerifiedTokensFollowTheDistribution(t *testing.T) {
	const n = 100000
	run := func(t *testing.T, p Params, from []Choice, choose func(s *Sampler, g Guess) int) (chi, limit float64, right int) {
		p.Seed = 5
		s := New(p)
		want, err := New(p).Distribution(nil, guessLogits, guessHistory)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]int, len(guessLogits))
		for i := range n {
			g := Guess{ID: Draw(from, Uniform(p.Seed, i)), From: from}
			id := choose(s, g)
			got[id]++
			if id == g.ID {
				right++
			}
		}
		chi, freedom := chiSquare(t, got, want)
		return chi, chiLimit(freedom), right
	}
	overlap := func(p Params, from []Choice) float64 {
		want, _ := New(p).Distribution(nil, guessLogits, guessHistory)
		q := make([]float64, len(guessLogits))
		for _, c := range from {
			q[c.ID] += c.Probability
		}
		sum := 0.0
		for _, c := range want {
			sum += min(c.Probability, q[c.ID])
		}
		return sum
	}
	for name, p := range guessParams {
		for guesses, from := range guessFrom {
			t.Run(name+"/"+guesses, func(t *testing.T) {
				chi, limit, right := run(t, p, from, func(s *Sampler, g Guess) int {
					id, err := s.Verify(g, nil, guessLogits, guessHistory)
					if err != nil {
						t.Fatal(err)
					}
					return id
				})
				if !(chi < limit) {
					t.Errorf("chi-square %.1f, want less than %.1f", chi, limit)
				}
				if got, want := float64(right)/n, overlap(p, from); math.Abs(got-want) > .01 {
					t.Errorf("%.3f of the guesses were right, want %.3f, the sum of min(p, q)", got, want)
				}
			})
		}
	}
	p, from := guessParams["plain"], guessFrom["peaked right"]
	for name, choose := range map[string]func(s *Sampler, g Guess) int{
		"every guess is accepted": func(_ *Sampler, g Guess) int { return g.ID },
		"what is not accepted is drawn from p": func(s *Sampler, g Guess) int {
			id, _ := s.Verify(g, nil, guessLogits, guessHistory)
			if id != g.ID {
				id, _ = s.Sample(guessLogits, guessHistory)
			}
			return id
		},
		"q is taken for another": func(s *Sampler, g Guess) int {
			g.From = []Choice{{4, .65}, {7, .25}, {2, .1}}
			id, _ := s.Verify(g, nil, guessLogits, guessHistory)
			return id
		},
	} {
		if chi, limit, _ := run(t, p, from, choose); chi < 2*limit {
			t.Errorf("%s: chi-square %.1f does not tell, the limit is %.1f", name, chi, limit)
		}
	}
}

// TestGuessesThatWereNotDrawnChangeNoToken compares with sampling without guesses, of the whole vocabulary and of
// candidates.
func TestGuessesThatWereNotDrawnChangeNoToken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Temperature: rapid.SampledFrom([]float32{0, .5, 1, 2}).Draw(t, "T"), TopK: rapid.IntRange(0, 9).Draw(t, "k"),
			RepeatPenalty: rapid.SampledFrom([]float32{1, 1.3}).Draw(t, "R"), Seed: rapid.Uint64().Draw(t, "seed")}
		ids := []int{0, 1, 2, 3, 4, 5, 6, 7}
		a, b, c := New(p), New(p), New(p)
		for range 20 {
			g := Guess{ID: rapid.IntRange(0, 7).Draw(t, "guess")}
			want, err := a.Sample(guessLogits, guessHistory)
			if err != nil {
				t.Fatal(err)
			}
			one, err1 := b.Verify(g, nil, guessLogits, guessHistory)
			two, err2 := c.Verify(g, ids, guessLogits, guessHistory)
			if err1 != nil || err2 != nil || one != want || two != want {
				t.Fatalf("%d and %d, %v, %v; want %d", one, two, err1, err2, want)
			}
		}
	})
}

func TestVerifyTakesOneRandomNumber(t *testing.T) {
	s := New(Params{Temperature: 1, Seed: 3})
	next := s.Preview(nil, 9)
	for i, from := range [][]Choice{nil, guessFrom["uniform"], guessFrom["one unlikely"], guessFrom["peaked right"]} {
		if _, err := s.Verify(Guess{ID: 3, From: from}, nil, guessLogits, nil); err != nil && i < 3 {
			t.Fatal(err)
		}
		if i == 3 {
			break // the guess can't have been drawn, so nothing was
		}
		if got := s.Preview(nil, 1)[0]; got != next[i+1] {
			t.Errorf("%d guesses: the next number is %g, want %g", i+1, got, next[i+1])
		}
	}
}

func TestBadGuessesAreErrors(t *testing.T) {
	for _, c := range []struct {
		g    Guess
		want string
	}{
		{Guess{ID: -1}, "guessed token -1"},
		{Guess{ID: 8}, "the vocabulary has 8 tokens"},
		{Guess{ID: 1, From: []Choice{}}, "sum to 0"},
		{Guess{ID: 1, From: []Choice{{1, .5}, {2, .4}}}, "sum to 0.9"},
		{Guess{ID: 1, From: []Choice{{1, math.NaN()}}}, "probability NaN"},
		{Guess{ID: 1, From: []Choice{{1, 2}, {2, -1}}}, "probability -1"},
		{Guess{ID: 1, From: []Choice{{1, .5}, {8, .5}}}, "drawn from token 8"},
		{Guess{ID: 1, From: []Choice{{2, 1}}}, "probability 0"},
		{Guess{ID: 1}, ""},
		{Guess{ID: 1, From: []Choice{{1, .5}, {2, .5}}}, ""},
	} {
		err := c.g.Validate(8)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: error %v, want %q", c.g, err, c.want)
		}
	}
	s := New(Params{Temperature: 1})
	for _, g := range []Guess{{ID: 1, From: []Choice{{2, 1}}}, {ID: 1, From: []Choice{{-1, 1}}}, {ID: -1, From: []Choice{{1, 1}}}} {
		if id, err := s.Verify(g, nil, guessLogits, nil); err == nil {
			t.Errorf("%+v: chose %d", g, id)
		}
	}
	if _, err := s.Verify(Guess{ID: 1, From: []Choice{{1, 1}}}, []int{1}, []float32{1, 2}, nil); err == nil {
		t.Error("lengths differ: no error")
	}
	if _, err := s.CandidateDistribution(nil, nil, nil, nil); err == nil {
		t.Error("no candidates: no error")
	}
}

func TestLeadIsThatAfterPenalties(t *testing.T) {
	for _, c := range []struct {
		p       Params
		logits  []float32
		history []int
		want    float32
	}{
		{Params{}, []float32{1, 4, 2.5}, nil, 1.5},
		{Params{PresencePenalty: 1}, []float32{1, 4, 2.5}, []int{1}, .5},
		{Params{PresencePenalty: 2}, []float32{1, 4, 2.5}, []int{1}, .5},
		{Params{RepeatPenalty: 2}, []float32{1, 4, 2}, []int{1}, 0},
		{Params{}, []float32{1, -inf}, nil, inf},
	} {
		if got, err := New(c.p).Lead(c.logits, c.history); err != nil || got != c.want {
			t.Errorf("%+v: %g, %v; want %g", c, got, err, c.want)
		}
	}
	if _, err := New(Params{}).Lead([]float32{inf}, nil); err == nil {
		t.Error("infinity leads")
	}
}

func TestVerifyAllocatesOnlyOnTheFirstCall(t *testing.T) {
	logits := vocabulary(50000)
	s := New(Default())
	from, err := New(Default()).Distribution(nil, logits, nil)
	if err != nil {
		t.Fatal(err)
	}
	verify := func() {
		if _, err := s.Verify(Guess{ID: from[0].ID, From: from}, nil, logits, nil); err != nil {
			t.Fatal(err)
		}
	}
	verify()
	if n := testing.AllocsPerRun(3, verify); n != 0 {
		t.Errorf("%v allocations per call", n)
	}
}
