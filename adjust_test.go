package pumice

import (
	"cmp"
	"errors"
	"math"
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
