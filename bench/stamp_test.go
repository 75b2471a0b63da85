package bench

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pumice"
	"pumice/internal/gputest"
)

// opened is an engine of a fixture.
func opened(t *testing.T, o pumice.Options) *pumice.Engine {
	t.Helper()
	e, err := pumice.Open(context.Background(), "../testdata/fixtures/llama", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// stamped measures a fixture with a stamp.
func stamped(t *testing.T) []Result {
	t.Helper()
	gputest.Open(t) // skips without a device
	o := pumice.Options{Context: 64, CacheDir: t.TempDir()}
	reference, err := NewReference(t.Context(), opened(t, ReferenceOptions(o)))
	if err != nil {
		t.Fatal(err)
	}
	e := opened(t, o)
	var rows []Result
	verified := 0
	again := func() {
		run := Options{Prompt: []int{40}, Gen: []int{4}, Reps: 1, Stamping: Stamping{Verify: &o, Reference: reference, Verifying: func() { verified++ }}}
		if err := Run(t.Context(), e, run, func(r Result) { rows = append(rows, r) }); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if verified != 1 {
		t.Errorf("kernels were verified %d times", verified)
	}
	if !rows[0].Struck {
		again()
		if verified != 1 {
			t.Error("kernels that had been right were verified again")
		}
	}
	return rows
}

func TestDivergence(t *testing.T) {
	// Of a fair coin from one that shows heads with 1/4: (ln 2 + ln 2/3) / 2.
	got := divergence(logSoftmax([]float32{3, 3}), logSoftmax([]float32{0, float32(math.Log(3))}))
	if want := (math.Log(2) + math.Log(2./3)) / 2; math.Abs(got-want) > 1e-6 {
		t.Errorf("%v, want %v", got, want)
	}
	never := float32(math.Inf(-1))
	if got := divergence(logSoftmax([]float32{1, never}), logSoftmax([]float32{1, never})); got != 0 {
		t.Errorf("%v of equal ones with a token that can't come", got)
	}
}

// Answers that differ from the reference's are counted, and strike.
func TestComparingAnswers(t *testing.T) {
	gputest.Open(t) // skips without a device
	e := opened(t, pumice.Options{Context: 64})
	r, err := NewReference(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	var same Stamp
	if err := r.compare(t.Context(), e, false, &same); err != nil {
		t.Fatal(err)
	}
	if same.Struck || math.Abs(same.KLBase) > 1e-9 || same.TokensEqual != same.TokensCompared || same.TokensCompared != 64-len(r.text) || same.KLPositions != len(r.text) {
		t.Errorf("compared with itself: %+v", same)
	}
	r.tokens[2]++
	for i := range r.logProbs[0] {
		r.logProbs[0][i] = float32(math.Inf(-1))
	}
	r.logProbs[0][0] = 0 // all on one token
	var other Stamp
	if err := r.compare(t.Context(), e, false, &other); err != nil {
		t.Fatal(err)
	}
	if !other.Struck || other.TokensEqual != 2 || other.KLBase <= klLimit {
		t.Errorf("compared with other answers: %+v", other)
	}
}

// Exact probabilities are computed once for a model, and the stamp has the divergence from them.
func TestExactProbabilities(t *testing.T) {
	gputest.Open(t) // skips without a device
	e := opened(t, pumice.Options{Context: 64})
	m, err := pumice.OpenModel(t.Context(), e.Source().Path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dir := t.TempDir()
	add := func(dir string) (r *Reference, computed bool) {
		r, err := NewReference(t.Context(), e)
		if err == nil {
			err = r.AddExact(t.Context(), m, dir, func() { computed = true })
		}
		if err != nil {
			t.Fatal(err)
		}
		return r, computed
	}
	first, computed := add(dir)
	if !computed || len(first.exact) != len(first.text) {
		t.Fatalf("computed: %v, of %d of %d tokens", computed, len(first.exact), len(first.text))
	}
	again, computed := add(dir)
	if computed || !reflect.DeepEqual(again.exact, first.exact) {
		t.Error("exact probabilities that were kept are computed again")
	}
	files, err := filepath.Glob(dir + "/*")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	data[100] ^= 1
	if err := os.WriteFile(files[0], data, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, computed := add(dir); !computed {
		t.Error("a damaged file is read")
	}
	var s Stamp
	if err := again.compare(t.Context(), e, false, &s); err != nil {
		t.Fatal(err)
	}
	if s.KLExact == nil || *s.KLExact <= 0 || *s.KLExact > 1e-4 || s.KLExactPositions != len(again.text) || s.Struck {
		t.Errorf("of right kernels: %+v", s)
	}
	again.exact[0] = logSoftmax(make([]float64, len(again.exact[0])))
	again.exact[0][1] = 0 // more than all
	for _, converted := range []bool{false, true} {
		var s Stamp
		if err := again.compare(t.Context(), e, converted, &s); err != nil {
			t.Fatal(err)
		}
		if *s.KLExact < klLimit || s.Struck == converted {
			t.Errorf("converted: %v, divergence %v, struck: %v", converted, *s.KLExact, s.Struck)
		}
	}
}

// Prompts from a text begin anywhere in it, and no two begin alike.
func TestPromptTokens(t *testing.T) {
	text := []int{10, 11, 12, 13, 14}
	rng := newRand(1)
	firsts := map[int]bool{}
	for range 50 {
		got := promptTokens(rng, text, 8, 1<<30)
		firsts[got[0]] = true
		for i := 2; i < len(got); i++ {
			if want := text[(slices.Index(text, got[i-1])+1)%len(text)]; got[i] != want {
				t.Fatalf("%v is not from %v", got, text)
			}
		}
	}
	if len(firsts) != 50 {
		t.Errorf("50 prompts with %d beginnings", len(firsts))
	}
}

func TestBuiltInText(t *testing.T) {
	for _, want := range []string{"The ferry leaves", "func insert(", "清晨六点"} {
		if !strings.Contains(BuiltInText, want) {
			t.Errorf("%q is not in it", want)
		}
	}
}
