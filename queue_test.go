package pumice

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/model/pages"
	"pumice/sample"
	"pumice/tokenizer"
)

// TestQueuedTokensEqualSingleOnes ends an answer in every way in the middle of the queue. The caller's tokens, and
// those that the next turn finds in the cache, are as if the surplus tokens had never been evaluated.
func TestQueuedTokensEqualSingleOnes(t *testing.T) {
	tok := xverseTokenizer(t)
	text := tok.Encode("one two three\n\nHuman: four five six", tokenizer.EncodeOptions{})
	turn := func(pipeline int, ids []int, o GenerateOptions, breakAfter int) (Result, int, []int) {
		f := newFake(t, follow(2, ids...))
		f.steps, f.sure = 32, 100
		f.context = 40
		s := fakeEngine(f, tok, 3).NewSession()
		o.Pipeline = pipeline
		n := 0
		for _, err := range s.Generate(t.Context(), []int{100, 101}, o) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == breakAfter {
				break
			}
		}
		first := s.Result()
		calls := slices.Clone(f.calls)
		next := append(append([]int{100, 101}, first.Tokens...), 7)
		next = next[:min(len(next), f.context)]
		generate(t, s, next, GenerateOptions{MaxTokens: 1})
		return first, s.Result().Stats.CachedN, calls
	}
	for _, c := range []struct {
		name       string
		ids        []int
		o          GenerateOptions
		breakAfter int
	}{
		{"an end token", []int{9, 8, 7, 6, 3, 5, 4, 9, 9, 9}, GenerateOptions{}, 0},
		{"a stop string", text, GenerateOptions{Stop: []string{"\n\nHuman"}}, 0},
		{"a limit", text, GenerateOptions{MaxTokens: 6}, 0},
		{"a full context", nil, GenerateOptions{IgnoreEOS: true}, 0},
		{"a caller who has enough", text, GenerateOptions{}, 5},
		{"sampling", text, GenerateOptions{Sampling: sample.Default(), MaxTokens: 9}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			want, wantCached, _ := turn(1, c.ids, c.o, c.breakAfter)
			for _, n := range []int{2, 3, 5, 8, 32} {
				got, cached, calls := turn(n, c.ids, c.o, c.breakAfter)
				if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" || want.Text != got.Text || want.FinishReason != got.FinishReason {
					t.Errorf("%d queued: %q, %q; want %q, %q; tokens (-one by one +queued):\n%s", n, got.Text, got.FinishReason, want.Text, want.FinishReason, diff)
				}
				if cached != wantCached {
					t.Errorf("%d queued: the next turn finds %d tokens, want %d", n, cached, wantCached)
				}
				if most := slices.Max(calls[1:]); most < 2 || most > n {
					t.Errorf("%d queued: calls of %v tokens", n, calls[1:])
				}
			}
		})
	}
}

// TestQueueIsDroppedWithTheCache uses another session, Reset or Truncate between queued tokens.
func TestQueueIsDroppedWithTheCache(t *testing.T) {
	ids := []int{11, 12, 13, 14, 15, 16, 17, 18}
	for name, between := range map[string]func(a, b *Session){
		"another session": func(a, b *Session) {
			generate(t, b, []int{7, 8, 9}, GenerateOptions{MaxTokens: 2})
		},
		"reset":    func(a, b *Session) { a.Reset() },
		"truncate": func(a, b *Session) { a.Truncate(2) },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, follow(3, ids...))
			f.steps = 8
			e := fakeEngine(f, nil)
			a, b := e.NewSession(), e.NewSession()
			step := 0
			for _, err := range a.Generate(t.Context(), []int{1, 2, 3}, GenerateOptions{MaxTokens: 8, Pipeline: 4}) {
				if err != nil {
					t.Fatal(err)
				}
				if step++; step == 3 {
					between(a, b)
				}
			}
			if diff := cmp.Diff(ids, a.Result().Tokens); diff != "" {
				t.Errorf("tokens (-want +got):\n%s", diff)
			}
			text := append([]int{1, 2, 3}, ids...)
			q, err := settled(e).Acquire(t.Context(), text, len(text), pages.Batched)
			if err != nil || q.Len() != len(text)-1 {
				t.Errorf("the cache has %d tokens of the text: %v", q.Len(), err)
			}
			q.Release()
		})
	}
}

// TestDeviceDrawsAreOnlyGuesses makes the device choose another token than the host now and then.
func TestDeviceDrawsAreOnlyGuesses(t *testing.T) {
	ids := []int{11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}
	f := newFake(t, follow(2, ids...))
	f.steps, f.misses = 8, map[int]bool{5: true, 6: true, 9: true}
	s := fakeEngine(f, nil).NewSession()
	p := sample.Default()
	p.Seed = 5
	generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: len(ids), Pipeline: 8, Sampling: p})
	if diff := cmp.Diff(ids, s.Result().Tokens); diff != "" {
		t.Errorf("tokens (-want +got):\n%s", diff)
	}
	// Each token has its own random number, however many tokens were evaluated in vain: token i has number i+1 of the
	// seed.
	want := sample.New(p).Preview(nil, len(ids))
	if len(f.drawn) <= len(ids) || f.drawn[0] != float32(want[1]) || f.drawn[len(f.drawn)-1] != float32(want[len(ids)-1]) {
		t.Errorf("%d numbers were used, the first %g and the last %g; want %g and %g", len(f.drawn), f.drawn[0], f.drawn[len(f.drawn)-1], want[1], want[len(ids)-1])
	}
}

// TestLookupKeepsWhatTheModelWouldHaveChosen uses a text that repeats itself, exactly or almost.
func TestLookupKeepsWhatTheModelWouldHaveChosen(t *testing.T) {
	phrase := []int{11, 12, 13, 14, 15, 16}
	ids := slices.Concat(phrase, phrase, []int{11, 12, 13, 44, 45}, phrase, []int{21})
	for _, c := range []struct {
		name   string
		margin map[int]float32
		window int
	}{
		{"sure", nil, 0},
		{"too close to call now and then", map[int]float32{10: -1, 12: -.99, 13: -1}, 0},
		{"a window", nil, 4},
	} {
		f := newFake(t, follow(2, ids...))
		f.margin, f.kv.window = c.margin, c.window
		s := fakeEngine(f, nil).NewSession()
		generate(t, s, []int{1, 2}, GenerateOptions{MaxTokens: len(ids), Drafter: PromptLookup{}, DraftTokens: 5, DraftAlways: true})
		r := s.Result()
		if diff := cmp.Diff(ids, r.Tokens); diff != "" {
			t.Errorf("%s: tokens (-want +got):\n%s", c.name, diff)
		}
		if r.Stats.DraftNAccepted < 6 || r.Stats.DraftN <= r.Stats.DraftNAccepted || len(f.calls) > len(ids)-r.Stats.DraftNAccepted/2 {
			t.Errorf("%s: %d of %d guesses, in calls of %v", c.name, r.Stats.DraftNAccepted, r.Stats.DraftN, f.calls)
		}
		generate(t, s, append([]int{1, 2}, ids...), GenerateOptions{MaxTokens: 1})
		if got, want := s.Result().Stats.CachedN, len(ids)+1; got != want {
			t.Errorf("%s: the next turn finds %d tokens, want %d", c.name, got, want)
		}
	}
}

func TestLookupGuessesFromTheNewestLongestRepetition(t *testing.T) {
	for _, c := range []struct {
		tokens []int
		n      int
		want   []int
	}{
		{[]int{1, 2, 3, 9, 1, 2}, 3, []int{3, 9, 1}},
		{[]int{1, 2, 3, 1, 2, 4, 1, 2}, 2, []int{4, 1}},       // the newest of equal matches
		{[]int{7, 1, 2, 3, 1, 2, 4, 7, 1, 2}, 2, []int{3, 1}}, // the longest match
		{[]int{5, 5, 5, 5, 5}, 3, []int{5}},                   // stops at the end
		{[]int{1, 2, 3, 4}, 3, nil},                           // never seen
		{[]int{1, 9, 1}, 3, nil},                              // one token is too short a match
		{[]int{1, 2, 1, 2}, 0, nil},
		{nil, 4, nil},
	} {
		if got := lookup(c.tokens, c.n); !slices.Equal(got, c.want) {
			t.Errorf("%d after %v: %v, want %v", c.n, c.tokens, got, c.want)
		}
	}
}

func TestQueueOptionsAreChecked(t *testing.T) {
	f := newFake(t, nil)
	for _, c := range []struct {
		o    GenerateOptions
		want string
	}{
		{GenerateOptions{Pipeline: 33}, "0 (as suits the device) to 32"},
		{GenerateOptions{Pipeline: -1}, "Pipeline"},
		{GenerateOptions{TopLogProbs: 4}, "0 without LogProbs"},
		{GenerateOptions{LogProbs: true, TopLogProbs: MaxTopLogProbs + 1}, "0 to 64"},
		{GenerateOptions{LogProbs: true, TopLogProbs: -1}, "TopLogProbs"},
		{GenerateOptions{DraftTokens: MaxDraft + 1}, "0 (7) to 31"},
		{GenerateOptions{DraftTokens: -1}, "DraftTokens"},
		{GenerateOptions{Drafter: PromptLookup{}, LogProbs: true}, "none with LogProbs"},
	} {
		var got *OptionError
		for _, err := range fakeEngine(f, nil).NewSession().Generate(t.Context(), []int{1}, c.o) {
			if !errors.As(err, &got) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: error %v, want %q", c.o, err, c.want)
			}
		}
		if got == nil {
			t.Error(fmt.Sprint(c.o), "was accepted")
		}
	}
}
