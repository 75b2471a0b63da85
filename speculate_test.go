package pumice

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"pumice/model"
	"pumice/model/pages"
	"pumice/pipeline"
	"pumice/sample"
	"pumice/tokenizer"
)

// A scriptDrafter guesses a text that it knows. It can be wrong, late or broken on request.
type scriptDrafter struct {
	script map[int]int // next token by position, as of a fake
	wrong  bool        // add 1 to each token
	each   time.Duration
	calls  int
	asked  []int // guesses asked for, call by call
	fail   int   // the call that fails, from 1
	err    error
	before func()
}

func (d *scriptDrafter) Draft(_ context.Context, tokens []int, n int, _ sample.Params) ([]sample.Guess, error) {
	d.calls++
	d.asked = append(d.asked, n)
	if d.before != nil {
		d.before()
	}
	if d.calls == d.fail {
		return []sample.Guess{{ID: 1}}, d.err
	}
	var out []sample.Guess
	for i := range n {
		time.Sleep(d.each)
		id := d.script[len(tokens)+i]
		if d.wrong {
			id++
		}
		out = append(out, sample.Guess{ID: id})
	}
	return out, nil
}

// TestGuessesEndAsSingleTokensDo ends an answer in every way in the middle of right guesses. Tokens, text and what the
// next turn finds in the cache are as without guesses.
func TestGuessesEndAsSingleTokensDo(t *testing.T) {
	tok := xverseTokenizer(t)
	text := tok.Encode("one two three\n\nHuman: four five six", tokenizer.EncodeOptions{})
	penalised := sample.Params{RepeatPenalty: 1.01}
	unlimited := sample.Params{Temperature: .8} // needs all logits
	for _, c := range []struct {
		name       string
		ids        []int
		o          GenerateOptions
		breakAfter int
	}{
		{"an end token", []int{9, 8, 7, 6, 3, 5, 4, 9, 9, 9}, GenerateOptions{}, 0},
		{"a stop string", text, GenerateOptions{Stop: []string{"\n\nHuman"}}, 0},
		{"a limit", text, GenerateOptions{MaxTokens: 6}, 0},
		{"a limit of one", text, GenerateOptions{MaxTokens: 1}, 0},
		{"a full context", nil, GenerateOptions{IgnoreEOS: true}, 0},
		{"a caller who has enough", text, GenerateOptions{}, 5},
		{"sampling", text, GenerateOptions{Sampling: sample.Default(), MaxTokens: 9}, 0},
		{"sampling from all tokens", text, GenerateOptions{Sampling: unlimited, MaxTokens: 9}, 0},
		{"penalties", text, GenerateOptions{Sampling: penalised, MaxTokens: 9}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			turn := func(d *scriptDrafter, n int) (Result, int) {
				f := newFake(t, follow(2, c.ids...))
				f.sure, f.context = 100, 40
				s := fakeEngine(f, tok, 3).NewSession()
				o := c.o
				if d != nil {
					d.script = f.script
					o.Drafter, o.DraftTokens, o.DraftAlways = d, n, true
				}
				count := 0
				for _, err := range s.Generate(t.Context(), []int{100, 101}, o) {
					if err != nil {
						t.Fatal(err)
					}
					if count++; count == c.breakAfter {
						break
					}
				}
				first := s.Result()
				next := append(append([]int{100, 101}, first.Tokens...), 7)
				generate(t, s, next[:min(len(next), f.context)], GenerateOptions{MaxTokens: 1})
				return first, s.Result().Stats.CachedN
			}
			want, wantCached := turn(nil, 0)
			for _, n := range []int{1, 2, 3, 7, 31} {
				for _, wrong := range []bool{false, true} {
					got, cached := turn(&scriptDrafter{wrong: wrong}, n)
					if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" || want.Text != got.Text || want.FinishReason != got.FinishReason {
						t.Errorf("%d guesses, wrong %t: %q, %q; want %q, %q; tokens (-without +with):\n%s", n, wrong, got.Text, got.FinishReason, want.Text, want.FinishReason, diff)
					}
					if cached != wantCached {
						t.Errorf("%d guesses, wrong %t: the next turn finds %d tokens, want %d", n, wrong, cached, wantCached)
					}
					s := got.Stats
					if wrong && s.DraftNAccepted > 0 || !wrong && s.DraftNAccepted < s.DraftN/2 || c.o.MaxTokens != 1 && s.DraftN == 0 {
						t.Errorf("%d guesses, wrong %t: %d of %d were right", n, wrong, s.DraftNAccepted, s.DraftN)
					}
				}
			}
		})
	}
}

// TestCloseCallsOfPenalisedLogitsAreEvaluatedAlone: a token whose lead after penalties is small is not decided together
// with others.
func TestCloseCallsOfPenalisedLogitsAreEvaluatedAlone(t *testing.T) {
	f := newFake(t, follow(1, 7, 8, 7, 9, 7))
	// The logit of the chosen token is 1 and others are 0; where it was chosen before, the penalty leaves it 0.04.
	o := GenerateOptions{MaxTokens: 5, Sampling: sample.Params{PresencePenalty: .96}, Drafter: &scriptDrafter{script: f.script}, DraftTokens: 7, DraftAlways: true}
	s := fakeEngine(f, nil).NewSession()
	generate(t, s, []int{1}, o)
	if diff := cmp.Diff([]int{7, 8, 7, 9, 7}, s.Result().Tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	// The prompt; 8 with 7 and 9 after it, of which 7 is too close; 7 alone; 9 with 7, which is too close; 7 alone.
	if diff := cmp.Diff([]int{1, 4, 1, 2, 1}, f.calls); diff != "" {
		t.Errorf("evaluations (-want +got):\n%s", diff)
	}
}

// TestABrokenDrafterDoesNotEndTheAnswer lets the third call fail, or return what is no guess.
func TestABrokenDrafterDoesNotEndTheAnswer(t *testing.T) {
	ids := []int{11, 12, 13, 14, 15, 16, 17, 18, 19}
	for name, c := range map[string]struct {
		err  error
		want string
	}{"an error": {errors.New("lost"), "lost"}, "no guess": {nil, "guessed token 6001"}} {
		f := newFake(t, follow(2, ids...))
		d := &scriptDrafter{script: map[int]int{}, fail: 3, err: c.err}
		if c.err == nil {
			d.fail, d.before = 0, func() {
				if d.calls == 3 {
					d.script = map[int]int{5: 6001}
				}
			}
		}
		s := fakeEngine(f, nil).NewSession()
		generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 9, Drafter: d, DraftTokens: 2, DraftAlways: true})
		r := s.Result()
		if diff := cmp.Diff(ids, r.Tokens); diff != "" || !strings.Contains(r.Stats.DraftError, c.want) || d.calls != 3 {
			t.Errorf("%s: %d calls, error %q; tokens (-want +got):\n%s", name, d.calls, r.Stats.DraftError, diff)
		}
		generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: 1})
		if got := s.Result().Stats.DraftError; got != "" {
			t.Errorf("the next answer has the error %q", got)
		}
	}
}

// TestCancellingWhileGuessing: the answer ends with the context's error, whatever the Drafter returns.
func TestCancellingWhileGuessing(t *testing.T) {
	for _, failed := range []error{nil, context.Canceled} {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFake(t, follow(2, 11, 12, 13, 14))
		d := &scriptDrafter{script: f.script, fail: 1, err: failed, before: cancel}
		s := fakeEngine(f, nil).NewSession()
		var last error
		for _, err := range s.Generate(ctx, []int{1, 2}, GenerateOptions{Drafter: d, DraftAlways: true}) {
			last = err
		}
		if r := s.Result(); !errors.Is(last, context.Canceled) || !slices.Equal(r.Tokens, []int{11}) || r.Stats.DraftError != "" {
			t.Errorf("error %v, tokens %v, draft error %q", last, r.Tokens, r.Stats.DraftError)
		}
		generate(t, s, []int{1, 2, 11}, GenerateOptions{MaxTokens: 1})
		if n := s.Result().Stats.CachedN; n != 2 {
			t.Errorf("the cache has %d tokens, want 2", n)
		}
	}
}

// chain is a model without a device whose logits depend on the last token alone.
type chain struct {
	fake
	logits [][]float32 // by token
}

func newChain(t *testing.T, logits [][]float32) *chain {
	c := &chain{logits: logits}
	c.t, c.context, c.vocab = t, 64, len(logits)
	return c
}

func (c *chain) Run(ctx context.Context, spans []model.Span, t model.Tail) (out model.Output, err error) {
	if _, err := c.fake.Run(ctx, spans, model.Tail{}); err != nil || t.Rows == model.NoRows {
		return out, err
	}
	tokens := spans[0].Tokens
	if t.Rows == model.LastRows {
		tokens = tokens[len(tokens)-1:]
	}
	for _, id := range tokens {
		if t.Logits {
			out.Logits = append(out.Logits, c.logits[id]...)
		}
		if t.Top > 0 {
			out.Choices = append(out.Choices, c.choice(id))
		}
	}
	return out, nil
}

// choice returns all tokens, since a chain has fewer than 64.
func (c *chain) choice(last int) model.Choice {
	row := c.logits[last]
	ids := make([]int, len(row))
	for i := range ids {
		ids[i] = i
	}
	slices.SortFunc(ids, func(a, b int) int { return int(math.Copysign(1, float64(row[b]-row[a]))) })
	x := model.Choice{ID: ids[0], Margin: row[ids[0]] - row[ids[1]], IDs: ids}
	for _, id := range ids {
		x.Logits = append(x.Logits, row[id])
	}
	return x
}

func (c *chain) Decode(ctx context.Context, q *pages.Sequence, token, steps int, draw *pipeline.Draw) (out model.Output, err error) {
	if steps != 1 {
		c.t.Errorf("%d steps", steps)
	}
	t := model.Tail{Rows: model.LastRows, Top: 1}
	if draw != nil {
		t.Top = pipeline.TopLogits
	}
	return c.Run(ctx, []model.Span{{Sequence: q, Tokens: []int{token}}}, t)
}

// A chainDrafter draws guesses from a chain of its own, or takes the likeliest.
type chainDrafter struct {
	logits [][]float32
	likely bool // guess the likeliest token, which is not drawn

	lie bool // say that the guesses were drawn uniformly
}

func (d chainDrafter) Draft(_ context.Context, tokens []int, n int, p sample.Params) (out []sample.Guess, err error) {
	text := slices.Clone(tokens)
	s := sample.New(p)
	if d.likely {
		s = sample.New(sample.Params{})
	}
	for range n {
		row := d.logits[text[len(text)-1]]
		from, err := s.Distribution(nil, row, text)
		if err != nil {
			return nil, err
		}
		g := sample.Guess{ID: sample.Draw(from, sample.Uniform(p.Seed, len(text))), From: from}
		if d.likely {
			g.From = nil
		}
		if d.lie {
			g.From = make([]sample.Choice, len(row))
			for id := range row {
				g.From[id] = sample.Choice{ID: id, Probability: 1 / float64(len(row))}
			}
		}
		out, text = append(out, g), append(text, g.ID)
	}
	return out, nil
}

// Chains over five tokens: one for the target, others for the guesses.
var (
	targetChain = [][]float32{{0, 1, .5, -1, 2}, {1, 0, 0, 1.5, -.5}, {2, 1, 0, 0, 1}, {0, 0, .2, .4, .6}, {-1, 2, 1, 1, 0}}
	closeChain  = [][]float32{{0, .8, .5, -.5, 1.5}, {1, .5, 0, 1, -.5}, {1.5, 1, 0, .5, 1}, {.5, 0, .2, .4, .6}, {-1, 1.5, 1, .5, 0}}
	otherChain  = [][]float32{{3, 0, 0, 2, 0}, {0, 3, 2, 0, 0}, {0, 0, 3, 2, 0}, {3, 0, 0, 0, 1}, {2, 0, 0, 3, 0}}
)

// answers generates three tokens after token 0 with each seed, and returns Pearson's statistic of the triples against
// their exact probabilities, the 0.999 quantile of it (Wilson and Hilferty 1931), and the share of right guesses.
func answers(t *testing.T, gpu bool, p sample.Params, d Drafter, seeds int) (chi, limit, right float64) {
	t.Helper()
	const vocab = 5
	got := make([]int, vocab*vocab*vocab)
	c := newChain(t, targetChain)
	e := fakeEngine(&c.fake, nil)
	e.work.model = c
	if gpu { // the largest logits instead of all
		e.devices = []*Device{{}}
	}
	s := e.NewSession()
	var stats Stats
	for seed := range seeds {
		p.Seed = uint64(seed)
		// The fourth token is there so that the third may be a guess.
		o := GenerateOptions{MaxTokens: 4, Sampling: p, Drafter: d, DraftTokens: 2, DraftAlways: true, IgnoreEOS: true}
		for _, err := range s.Generate(t.Context(), []int{0}, o) {
			if err != nil {
				t.Fatal(err)
			}
		}
		r := s.Result()
		got[(r.Tokens[0]*vocab+r.Tokens[1])*vocab+r.Tokens[2]]++
		stats.DraftN += r.Stats.DraftN
		stats.DraftNAccepted += r.Stats.DraftNAccepted
	}
	freedom := -1.0
	sampler := sample.New(p)
	var walk func(text []int, probability float64)
	walk = func(text []int, probability float64) {
		if len(text) == 4 {
			n := got[(text[1]*vocab+text[2])*vocab+text[3]]
			got[(text[1]*vocab+text[2])*vocab+text[3]] = 0
			d := float64(n) - probability*float64(seeds)
			chi += d * d / (probability * float64(seeds))
			freedom++
			return
		}
		next, err := sampler.Distribution(nil, targetChain[text[len(text)-1]], text)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range next {
			walk(append(slices.Clone(text), c.ID), probability*c.Probability)
		}
	}
	walk([]int{0}, 1)
	for i, n := range got {
		if n > 0 {
			chi = math.Inf(1)
			t.Logf("%d answers %d %d %d, which have probability 0", n, i/vocab/vocab, i/vocab%vocab, i%vocab)
		}
	}
	limit = freedom * math.Pow(1-2/(9*freedom)+3.0902*math.Sqrt(2/(9*freedom)), 3)
	return chi, limit, float64(stats.DraftNAccepted) / float64(stats.DraftN)
}

// TestSampledAnswersFollowTheTargetsDistribution counts the answers of many seeds, in which guesses were drawn from
// several distributions. A Drafter that says a wrong distribution, which is as much as a wrong rule of acceptance,
// must fail the test.
func TestSampledAnswersFollowTheTargetsDistribution(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it needs no device")
	}
	const seeds = 20000
	drafters := map[string]Drafter{
		"none":                nil,
		"the same model":      chainDrafter{logits: targetChain},
		"a similar model":     chainDrafter{logits: closeChain},
		"another model":       chainDrafter{logits: otherChain},
		"the likeliest":       chainDrafter{logits: targetChain, likely: true},
		"what is less likely": chainDrafter{logits: otherChain, likely: true},
		"an engine":           chainEngineDrafter(t, closeChain),
	}
	for name, p := range map[string]sample.Params{
		"all tokens": {Temperature: 1},
		"top-k":      {Temperature: .9, TopK: 4},
		"min-p":      {Temperature: 1.2, MinP: .15},

		"filters, on a GPU": {Temperature: 1.2, TopK: 4, TopP: .95, MinP: .1},

		"penalties": {Temperature: 1, RepeatPenalty: 1.5, FrequencyPenalty: .5, PresencePenalty: .2, MinP: .05},
	} {
		for guesses, d := range drafters {
			chi, limit, right := answers(t, strings.HasSuffix(name, "on a GPU"), p, d, seeds)
			if !(chi < limit) {
				t.Errorf("%s, guesses of %s: chi-square %.1f, want less than %.1f", name, guesses, chi, limit)
			}
			if guesses == "the same model" && right != 1 {
				t.Errorf("%s: %.3f of the guesses of the same model were right", name, right)
			}
			t.Logf("%s, guesses of %s: chi-square %.1f of %.1f, %.3f right", name, guesses, chi, limit, right)
		}
	}
	chi, limit, _ := answers(t, false, sample.Params{Temperature: 1}, chainDrafter{logits: closeChain, lie: true}, seeds)
	if chi < 2*limit {
		t.Errorf("guesses with a wrong distribution: chi-square %.1f does not tell, the limit is %.1f", chi, limit)
	}
	t.Logf("guesses with a wrong distribution: chi-square %.1f, the limit is %.1f", chi, limit)
}

// chainEngineDrafter is an EngineDrafter whose model is a chain.
func chainEngineDrafter(t *testing.T, logits [][]float32) *EngineDrafter {
	t.Helper()
	c := newChain(t, logits)
	draft := fakeEngine(&c.fake, nil)
	draft.work.model = c
	d, err := NewEngineDrafter(fakeEngine(&newChain(t, targetChain).fake, nil), draft)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestSeedsRepeat: with guesses that were not drawn the tokens of a seed are those without guesses, and with others they
// repeat as long as the number of guesses does.
func TestSeedsRepeat(t *testing.T) {
	run := func(seed uint64, p sample.Params, d Drafter, n int) []int {
		c := newChain(t, targetChain)
		e := fakeEngine(&c.fake, nil)
		e.work.model = c
		p.Seed = seed
		s := e.NewSession()
		generate(t, s, []int{0}, GenerateOptions{MaxTokens: 40, Sampling: p, Drafter: d, DraftTokens: n, DraftAlways: true})
		return s.Result().Tokens
	}
	others := 0
	for seed := range uint64(50) {
		for _, p := range []sample.Params{{Temperature: 1}, {Temperature: 1.5, TopK: 4}, {Temperature: 1, FrequencyPenalty: .2}} {
			want := run(seed, p, nil, 0)
			for _, n := range []int{1, 4, 7} {
				if got := run(seed, p, chainDrafter{logits: closeChain, likely: true}, n); !slices.Equal(got, want) {
					t.Errorf("seed %d: %d guesses: %v, want %v", seed, n, got, want)
				}
				if got := run(seed, p, PromptLookup{}, n); !slices.Equal(got, want) {
					t.Errorf("seed %d: %d looked up: %v, want %v", seed, n, got, want)
				}
			}
			a, b := run(seed, p, chainDrafter{logits: closeChain}, 3), run(seed, p, chainDrafter{logits: closeChain}, 3)
			if !slices.Equal(a, b) {
				t.Errorf("seed %d gave %v and %v", seed, a, b)
			}
			if !slices.Equal(a, want) {
				others++
			}
		}
	}
	if others == 0 {
		t.Error("guesses that are drawn change no tokens: is there anything to test?")
	}
}

// engineDrafter returns an EngineDrafter over a fake that follows script, and the fake.
func engineDrafter(t *testing.T, target *Engine, script map[int]int, change func(*fake)) (*EngineDrafter, *fake) {
	t.Helper()
	f := newFake(t, script)
	f.steps, f.sure = 8, 100
	if change != nil {
		change(f)
	}
	e := fakeEngine(f, nil)
	d, err := NewEngineDrafter(target, e)
	if err != nil {
		t.Fatal(err)
	}
	return d, f
}

// TestEngineDrafterFollowsTheText generates with a draft model that is right, wrong now and then, or always, and checks
// that its cache holds the tokens that its session counts.
func TestEngineDrafterFollowsTheText(t *testing.T) {
	ids := []int{11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24}
	half := slices.Clone(ids)
	half[2], half[7], half[8] = 90, 91, 92
	for _, c := range []struct {
		name      string
		draft     []int
		sampling  sample.Params
		change    func(*fake)
		most, min int // right guesses
	}{
		{"right", ids, sample.Params{}, nil, 11, 9},
		{"right, sampled", ids, sample.Params{Temperature: .5}, nil, 11, 9},
		{"right, with penalties", ids, sample.Params{PresencePenalty: .01}, nil, 11, 9},
		{"sometimes wrong", half, sample.Params{}, nil, 10, 4},
		{"sometimes wrong, sampled", half, sample.Params{Temperature: .5, TopK: 9}, nil, 10, 4},
		{"wrong", nil, sample.Params{}, nil, 0, 0},
		{"a short context", ids, sample.Params{}, func(f *fake) { f.context = 8 }, 5, 3},
		{"a window", ids, sample.Params{}, func(f *fake) { f.kv.window = 5 }, 11, 9},
		{"one step at a time", ids, sample.Params{}, func(f *fake) { f.steps = 1 }, 11, 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t, follow(3, ids...))
			f.sure = 100
			target := fakeEngine(f, nil)
			d, draft := engineDrafter(t, target, follow(3, c.draft...), c.change)
			s := target.NewSession()
			for turn := range 2 {
				generate(t, s, []int{1, 2, 3}, GenerateOptions{MaxTokens: len(ids), Sampling: c.sampling, Drafter: d, DraftTokens: 4, DraftAlways: true})
				r := s.Result()
				if diff := cmp.Diff(ids, r.Tokens); diff != "" || r.Stats.DraftError != "" {
					t.Errorf("turn %d: error %q, tokens (-want +got):\n%s", turn, r.Stats.DraftError, diff)
				}
				if n := r.Stats.DraftNAccepted; n > c.most || n < c.min {
					t.Errorf("turn %d: %d of %d guesses were right, want %d to %d", turn, n, r.Stats.DraftN, c.min, c.most)
				}
				if n := settled(d.session.engine).Metrics().Groups[pages.Global].InUse; n > 0 {
					t.Errorf("turn %d: the drafter holds %d pages between answers", turn, n)
				}
			}
			if d.session.engine.context >= 64 && len(draft.calls) > 0 && slices.Max(draft.calls[1:]) > 5 {
				t.Errorf("calls of %v tokens: the text was evaluated again", draft.calls)
			}
		})
	}
}

// TestEngineDrafterOnAGPUConfirmsDraws lets the device draw bursts of guesses, some of which the host does not confirm.
func TestEngineDrafterOnAGPUConfirmsDraws(t *testing.T) {
	ids := []int{11, 12, 13, 14, 15, 16, 17, 18, 19}
	target := fakeEngine(newFake(t, nil), nil)
	d, f := engineDrafter(t, target, follow(2, ids...), func(f *fake) { f.misses = map[int]bool{5: true} })
	d.session.engine.devices = []*Device{{}}
	p := sample.Default()
	p.Seed = 4
	guesses, err := d.Draft(t.Context(), []int{1, 2}, 6, p)
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range guesses {
		if g.ID != ids[i] {
			t.Errorf("guess %d is %d, want %d", i, g.ID, ids[i])
		}
	}
	// The prompt gives the first guess. Of a burst of five the third, at position 5, is not confirmed: 14 is evaluated
	// again in a burst of two.
	if diff := cmp.Diff([]int{2, 5, 2}, f.calls); diff != "" || len(guesses) != 6 {
		t.Errorf("%d guesses; calls (-want +got):\n%s", len(guesses), diff)
	}
	q, err := settled(d.session.engine).Acquire(t.Context(), append([]int{1, 2}, ids...), 20, pages.Batched)
	if err != nil || q.Len() != 7 {
		t.Errorf("the cache has %d tokens of the text: %v", q.Len(), err)
	}
	q.Release()
	if want := float32(sample.Uniform(4, 3)); f.drawn[0] != want {
		t.Errorf("the token at position 3 was drawn with %g, want %g", f.drawn[0], want)
	}
}

func TestDraftModelsNeedTheSameVocabulary(t *testing.T) {
	tok := xverseTokenizer(t)
	small, err := tokenizer.Open(t.Context(), "tokenizer/testdata/xverse-b")
	if err != nil {
		t.Fatal(err)
	}
	pieces := func(texts ...string) *tokenizer.Tokenizer {
		tok, err := tokenizer.NewGGUF(t.Context(), tokenizer.GGUFVocab{File: "x.gguf", Model: "gpt2", Pre: "gpt-2",
			Tokens: texts, Merges: []string{"a b"}, BOS: -1, EOS: -1, UNK: -1, PAD: -1})
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	engine := func(tok *tokenizer.Tokenizer, vocab int) *Engine {
		f := newFake(t, nil)
		f.vocab = vocab
		return fakeEngine(f, tok)
	}
	for _, c := range []struct {
		name          string
		target, draft *Engine
		want          string
		shared        int
	}{
		{"the same", engine(tok, 6000), engine(tok, 6000), "", 6000},
		{"rows of padding", engine(tok, 6100), engine(tok, 6000), "", 6000},
		{"more rows of padding", engine(tok, 6000), engine(tok, 6100), "", 6000},
		{"other sizes", engine(tok, 6000), engine(small, 6000), "5000 tokens and 6000", 0},
		{"another token", engine(pieces("a", "b", "ab", "c"), 9), engine(pieces("a", "b", "ab", "d"), 9), `token 3 is "d" and "c"`, 0},
		{"no tokenizers", engine(nil, 10), engine(nil, 10), "", 10},
		{"no tokenizers, other sizes", engine(nil, 11), engine(nil, 10), "10 tokens and 11", 0},
		{"one tokenizer", engine(tok, 10), engine(nil, 10), "", 10},
	} {
		d, err := NewEngineDrafter(c.target, c.draft)
		var mismatch *VocabularyError
		switch {
		case c.want == "" && (err != nil || d.vocab != c.shared):
			t.Errorf("%s: %v, %v", c.name, d, err)
		case c.want != "" && (!errors.As(err, &mismatch) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// TestTokensThatOnlyTheDraftModelHasAreNotGuessed uses a draft model with rows beyond the target's vocabulary.
func TestTokensThatOnlyTheDraftModelHasAreNotGuessed(t *testing.T) {
	for _, p := range []sample.Params{{}, {Temperature: 1}, {Temperature: 1, TopK: 5}} {
		for _, gpu := range []bool{false, true} {
			target := fakeEngine(newFake(t, nil), nil)
			d, _ := engineDrafter(t, target, follow(2, 11, 12, 5001, 13), nil)
			d.vocab = 5000
			if gpu {
				d.session.engine.devices = []*Device{{}}
			}
			guesses, err := d.Draft(t.Context(), []int{1, 2}, 4, p)
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range guesses {
				if err := g.Validate(5000); err != nil || i < 2 && g.ID != 11+i {
					t.Errorf("%+v, GPU %t: guess %d is %d: %v", p, gpu, i, g.ID, err)
				}
			}
			if len(guesses) < 2 {
				t.Errorf("%+v, GPU %t: %d guesses", p, gpu, len(guesses))
			}
		}
	}
}

// timed is a fake that takes time.
type timed struct {
	*fake
	call, row time.Duration
}

func (f timed) Run(ctx context.Context, spans []model.Span, t model.Tail) (model.Output, error) {
	time.Sleep(f.call)
	for _, span := range spans {
		time.Sleep(time.Duration(len(span.Tokens)) * f.row)
	}
	return f.fake.Run(ctx, spans, t)
}

func (f timed) Decode(ctx context.Context, q *pages.Sequence, token, steps int, draw *pipeline.Draw) (model.Output, error) {
	time.Sleep(time.Duration(steps) * (f.call + f.row))
	return f.fake.Decode(ctx, q, token, steps, draw)
}

// TestGuessingStopsWhereItLoses generates 400 tokens, each of which takes 10 ms, and a guess 1 ms or as much as a token.
// (The times are those of a clock that stands still while anything is computed.)
func TestGuessingStopsWhereItLoses(t *testing.T) {
	const tokens = 400
	var ids []int
	for i := range tokens {
		ids = append(ids, i%50+10)
	}
	for _, c := range []struct {
		name      string
		drafter   func(f *fake) *scriptDrafter
		call, row time.Duration // of an evaluation
		most      time.Duration // that the answer may take, where 4 s are plain
		always    bool
	}{
		{"right and cheap", func(f *fake) *scriptDrafter { return &scriptDrafter{script: f.script} }, 9, 1, 1000, false},
		{"right and dear", func(f *fake) *scriptDrafter { return &scriptDrafter{script: f.script, each: 12 * time.Millisecond} }, 9, 1, 4500, false},
		{"right, rows as dear as calls", func(f *fake) *scriptDrafter { return &scriptDrafter{script: f.script, each: time.Millisecond} }, 0, 10, 4400, false},
		{"wrong", func(f *fake) *scriptDrafter {
			return &scriptDrafter{script: f.script, wrong: true, each: time.Millisecond}
		}, 9, 1, 4400, false},
		{"wrong and dear", func(f *fake) *scriptDrafter {
			return &scriptDrafter{script: f.script, wrong: true, each: 10 * time.Millisecond}
		}, 9, 1, 4900, false},
		{"wrong, but always", func(f *fake) *scriptDrafter {
			return &scriptDrafter{script: f.script, wrong: true, each: time.Millisecond}
		}, 9, 1, 9700, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(t, follow(1, ids...))
			f.context = 500
			e := fakeEngine(f, nil)
			e.work.model = timed{f, c.call * time.Millisecond, c.row * time.Millisecond}
			s := e.NewSession()
			start := time.Now()
			generate(t, s, []int{1}, GenerateOptions{MaxTokens: tokens, Drafter: c.drafter(f), DraftAlways: c.always})
			took := time.Since(start)
			r := s.Result()
			if diff := cmp.Diff(ids, r.Tokens); diff != "" {
				t.Errorf("%s: tokens (-want +got):\n%s", c.name, diff)
			}
			st := r.Stats
			line := fmt.Sprintf("%s: %v, %d of %d guesses were right, %.0f t/s with and %.0f without", c.name, took, st.DraftNAccepted, st.DraftN, st.DraftPerSecond, st.PlainPerSecond)
			if took > c.most*time.Millisecond || st.DraftN == 0 || st.PlainPerSecond != 100 && !c.always {
				t.Error(line, "; want at most", c.most*time.Millisecond)
			}
			t.Log(line)
		})
	}
}

// TestGuessesBecomeFewerAndMore follows the number of guesses asked for, as gains change.
func TestGuessesBecomeFewerAndMore(t *testing.T) {
	s := newSpeculation(GenerateOptions{Drafter: PromptLookup{}, DraftTokens: 15})
	want := func(n int, when string) {
		t.Helper()
		if got := s.ask(); got != n {
			t.Errorf("%s: asks for %d guesses, want %d", when, got, n)
		}
	}
	want(0, "before a token was timed")
	s.plainly(1, 9*time.Second, false)
	want(0, "a compilation is no measure")
	s.plainly(2, 20*time.Millisecond, true)
	want(15, "at first")
	lose := func() {
		for n := s.now; s.wait == 0; {
			s.guessed(n, 1, 20*time.Millisecond, true)
		}
	}
	for i, n := range []int{7, 3, 1, 1, 1, 1} {
		lose()
		want(0, "losing")
		pause := min(16<<i, 256)
		s.plainly(pause-1, time.Duration(pause-1)*10*time.Millisecond, true)
		want(0, "before the pause ends")
		s.plainly(1, 10*time.Millisecond, true)
		want(n, fmt.Sprint("after pause ", i))
	}
	for _, n := range []int{1, 1, 1, 3, 3, 7, 7, 15, 15} { // the first of each size is no measure, and judging takes two
		want(n, "winning")
		s.guessed(n, n+1, 10*time.Millisecond, true)
	}
	lose()
	if s.wait != 16 {
		t.Errorf("after a gain, the pause is %d tokens, want 16", s.wait)
	}
}
