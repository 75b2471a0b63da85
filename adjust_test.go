package pumice

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"testing"

	"pumice/pipeline"
	"pumice/sample"
)

// A failing is a Constraint with errors.
type failing struct{ mask, accept error }

func (f failing) Mask(mask []uint32) error {
	clear(mask)
	if !errors.Is(f.mask, ErrNothingAllowed) {
		mask[0] = ^uint32(0)
		return f.mask
	}
	return nil
}

func (f failing) Accept(int) error { return f.accept }

func TestErrorsOfConstraintsEndTheAnswer(t *testing.T) {
	bad := errors.New("bad")
	for _, c := range []failing{{mask: bad}, {mask: ErrNothingAllowed}, {accept: bad}} {
		want := cmp.Or(c.mask, c.accept)
		s := fakeEngine(newFake(t, nil), nil).NewSession()
		var got error
		for _, err := range s.Generate(t.Context(), []int{1}, GenerateOptions{MaxTokens: 2, Constraint: c}) {
			got = err
		}
		if !errors.Is(got, want) {
			t.Errorf("%+v: error %v", c, got)
		}
		if _, err := s.Start(Request{Prompt: []int{1}}); err != nil { // the session goes on
			t.Error(err)
		}
	}
}

// A rail is a Forcer: a token is free, and those after it up to the next multiple of ten are forced. A token is 9 of each ten.
type rail struct{ accepted []int }

func (r *rail) Mask(mask []uint32) error {
	for i := range mask {
		mask[i] = ^uint32(0)
	}
	return nil
}

func (r *rail) Accept(id int) error { r.accepted = append(r.accepted, id); return nil }

func (r *rail) Forced() ([]int, error) {
	if n := len(r.accepted); n%10 != 0 {
		return []int{1, 2, 3, 4, 5, 6, 7, 8, 9}[n%10-1:], nil
	}
	return nil, nil
}

// TestForcedTokensAreEvaluatedTogether takes tokens without a draw, up to every limit there is.
func TestForcedTokensAreEvaluatedTogether(t *testing.T) {
	ten := []int{7, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	for _, c := range []struct {
		name   string
		o      GenerateOptions
		calls  []int // tokens evaluated
		tokens []int
		forced int
	}{
		{"to the end", GenerateOptions{MaxTokens: 20}, []int{2, 10}, slices.Concat(ten, ten), 18},
		{"past the limit", GenerateOptions{MaxTokens: 14}, []int{2, 10}, slices.Concat(ten, ten[:4]), 12},
		{"with guesses", GenerateOptions{MaxTokens: 20, Drafter: PromptLookup{}, DraftAlways: true}, []int{2, 10}, slices.Concat(ten, ten), 18},
		{"one forbidden", GenerateOptions{MaxTokens: 5, LogitBias: map[int]float32{3: float32(math.Inf(-1))}}, []int{2, 3}, []int{7, 1, 2, 7, 4}, 3},
		{"with probabilities", GenerateOptions{MaxTokens: 3, LogProbs: true}, []int{2, 1, 1}, []int{7, 7, 7}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := map[int]int{}
			for n := range 40 {
				script[n] = 7
			}
			f, constraint := newFake(t, script), &rail{}
			s := fakeEngine(f, nil).NewSession()
			c.o.Constraint = constraint
			generate(t, s, []int{1, 2}, c.o)
			r := s.Result()
			if !slices.Equal(r.Tokens, c.tokens) || !slices.Equal(constraint.accepted, c.tokens) || r.Stats.ForcedN != c.forced || !slices.Equal(f.calls, c.calls) {
				t.Errorf("evaluated %v: %v, told of %v, %d forced; want %v: %v, %d forced", f.calls, r.Tokens, constraint.accepted, r.Stats.ForcedN,
					c.calls, c.tokens, c.forced)
			}
		})
	}
}

func TestBadBiasesAreErrors(t *testing.T) {
	e := fakeEngine(newFake(t, nil), nil)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, bias := range []map[int]float32{{-1: 0}, {e.vocab: 0}, {1: nan}, {1: inf}} {
		var want *OptionError
		if _, err := e.NewSession().Start(Request{[]int{1}, GenerateOptions{LogitBias: bias}}); !errors.As(err, &want) || want.Field != "LogitBias" {
			t.Errorf("%v: %v", bias, err)
		}
	}
}

// TestTheDeviceIsToldOfTheWindow follows a text, whose window the list for the device counts.
func TestTheDeviceIsToldOfTheWindow(t *testing.T) {
	o := GenerateOptions{Sampling: sample.Params{PresencePenalty: 1, RepeatLastN: 4}, LogitBias: map[int]float32{2: -1, 9: 3}}
	a, err := newAdjustment(o, 10)
	if err != nil {
		t.Fatal(err)
	}
	text := []int{1, 2, 2, 3, 1, 4, 4, 4, 5, 2}
	for n := 3; n <= len(text); n++ {
		want := map[int]pipeline.AdjustedToken{2: {ID: 2, Bias: -1}, 9: {ID: 9, Bias: 3}}
		for _, id := range text[max(0, n-4):n] {
			w := want[id]
			w.ID, w.Count = id, w.Count+1
			want[id] = w
		}
		r := a.onDevice(text[:n])
		for _, got := range r.Tokens {
			if w := want[got.ID]; got != w && (got != pipeline.AdjustedToken{ID: got.ID}) {
				t.Errorf("%d tokens: %+v, want %+v", n, got, w)
			}
			delete(want, got.ID)
		}
		if len(want) > 0 || r.PresencePenalty != 1 || r.Allowed != nil {
			t.Errorf("%d tokens: %+v, without %v", n, r, want)
		}
	}
	long := make([]int, pipeline.MaxAdjusted+1)
	for i := range long {
		long[i] = i
	}
	if a, _ = newAdjustment(GenerateOptions{Sampling: sample.Params{PresencePenalty: 1}}, len(long)); a.onDevice(long[:pipeline.MaxAdjusted]) == nil || a.onDevice(long) != nil {
		t.Errorf("%d tokens; the device takes %d", len(a.row.Tokens), pipeline.MaxAdjusted)
	}
}
