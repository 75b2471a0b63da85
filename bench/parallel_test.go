package bench

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/internal/gputest"
)

func TestParallelTestsAreEveryCombination(t *testing.T) {
	o := ParallelOptions{Prompt: []int{128, 256}, Gen: []int{32}, Sequences: []int{1, 8}, Shared: true}
	want := []ParallelTest{{128, 32, 1, true}, {128, 32, 8, true}, {256, 32, 1, true}, {256, 32, 8, true}}
	if diff := cmp.Diff(want, o.Tests()); diff != "" {
		t.Error(diff)
	}
	if got, want := o.Context(), 256+32; got != want {
		t.Errorf("context %d, want %d: that of one sequence", got, want)
	}
}

// The values are computed by hand from the definitions in llama.cpp's tools/batched-bench/README.md.
func TestParallelColumns(t *testing.T) {
	for _, c := range []struct {
		name        string
		test        ParallelTest
		prompt, gen time.Duration
		positions   int
		want        Columns
	}{
		{"one sequence", ParallelTest{Prompt: 100, Gen: 20, Sequences: 1}, 2 * time.Second, 4 * time.Second, 120,
			Columns{PromptTime: 2, PromptSpeed: 50, GenTime: 4, GenSpeed: 5, Time: 6, Speed: 20}},
		{"a prompt each", ParallelTest{Prompt: 100, Gen: 20, Sequences: 8}, 2 * time.Second, 500 * time.Millisecond, 960,
			Columns{PromptTime: 2, PromptSpeed: 400, GenTime: 0.5, GenSpeed: 320, Time: 2.5, Speed: 384}},
		{"one prompt", ParallelTest{Prompt: 100, Gen: 20, Sequences: 8, Shared: true}, 2 * time.Second, 500 * time.Millisecond, 260,
			Columns{PromptTime: 2, PromptSpeed: 50, GenTime: 0.5, GenSpeed: 320, Time: 2.5, Speed: 104}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.test.positions(); got != c.positions {
				t.Errorf("%d positions, want %d", got, c.positions)
			}
			if diff := cmp.Diff(c.want, c.test.columns(c.prompt, c.gen)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParallelResultIsMeanAndDeviation(t *testing.T) {
	test := ParallelTest{Prompt: 8, Gen: 4, Sequences: 2}
	r := ParallelResult{Samples: []Columns{test.columns(time.Second, 2*time.Second), test.columns(4*time.Second, 4*time.Second)}}
	r.summarise()
	// Speeds are 16 and 4, 4 and 2, 8 and 3. Two values that are d apart deviate by d/sqrt(2).
	if diff := cmp.Diff(Columns{PromptTime: 2.5, PromptSpeed: 10, GenTime: 3, GenSpeed: 3, Time: 5.5, Speed: 5.5}, r.Columns); diff != "" {
		t.Error(diff)
	}
	near := cmp.Comparer(func(a, b float64) bool { return a-b < 1e-4 && b-a < 1e-4 })
	want := Columns{PromptTime: 2.12132, PromptSpeed: 8.48528, GenTime: 1.41421, GenSpeed: 1.41421, Time: 3.53553, Speed: 3.53553}
	if diff := cmp.Diff(want, r.Stddev, near); diff != "" {
		t.Error(diff)
	}
}

// Every sequence goes on from its own prompt, or from the one that all have, and generates as many tokens as asked for.
func TestParallelSequences(t *testing.T) {
	gputest.Open(t) // skips without a device
	e, err := pumice.Open(t.Context(), "../testdata/fixtures/llama", pumice.Options{Context: 9})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, shared := range []bool{false, true} {
		sessions := []*pumice.Session{e.NewSession(), e.NewSession(), e.NewSession()}
		test := ParallelTest{Prompt: 6, Gen: 3, Sequences: 3, Shared: shared}
		prompt, gen, err := measureParallel(t.Context(), func(ctx context.Context, i int, prompt []int, n int) (int, error) {
			_, _, err := generate(ctx, sessions[i], prompt, n)
			return 0, err
		}, test, test.texts(rand.New(rand.NewPCG(1, 2)), nil, e.Config().VocabSize))
		if err != nil {
			t.Fatal(err)
		}
		if prompt <= 0 || gen <= 0 {
			t.Errorf("shared %v: the prompts took %v, the tokens %v", shared, prompt, gen)
		}
		first := sessions[0].Result().PromptTokens
		for i, s := range sessions {
			r := s.Result()
			if len(r.Tokens) != test.Gen || len(r.PromptTokens) != test.Prompt+1 {
				t.Errorf("shared %v: sequence %d generated %d tokens after %d", shared, i, len(r.Tokens), len(r.PromptTokens))
			}
			if i > 0 && (slices.Equal(r.PromptTokens[:6], first[:6]) != shared || r.PromptTokens[6] == first[6]) {
				t.Errorf("shared %v: sequence %d has %v, the first %v", shared, i, r.PromptTokens, first)
			}
		}
	}

	never := func(ParallelResult) { t.Error("a result") }
	for what, o := range map[string]ParallelOptions{
		"need a context of 10": {Prompt: []int{7}, Gen: []int{3}, Sequences: []int{2}, Reps: 1},
		"0 repetitions":        {Prompt: []int{6}, Gen: []int{3}, Sequences: []int{2}},
		"want at least 1 of":   {Prompt: []int{6}, Gen: []int{3}, Sequences: []int{1, 0}, Reps: 1},
	} {
		if err := RunParallel(t.Context(), e, o, never); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%+v: %v, want %q", o, err, what)
		}
	}
	e.Close()
	o := ParallelOptions{Prompt: []int{6}, Gen: []int{3}, Sequences: []int{3}, Reps: 1}
	ended := 0
	if err := RunParallel(t.Context(), e, o, func(r ParallelResult) {
		if ended++; r.Error == "" {
			t.Errorf("%+v", r)
		}
	}); !errors.Is(err, pumice.ErrClosed) || ended != 1 {
		t.Errorf("on a closed engine: %v, %d rows", err, ended)
	}
}

// TestParallelPeers: a server has the engine's prompts, in the same rounds, and is compared with it in each part. One that evaluates
// prompts again can't be measured.
func TestParallelPeers(t *testing.T) {
	gputest.Open(t) // skips without a device
	e, err := pumice.Open(t.Context(), "../testdata/fixtures/llama", pumice.Options{Context: 16})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	calls, again := atomic.Int64{}, 1
	peer := Peer{Setup: Setup{Program: "other"}, Sequence: func(_ context.Context, i int, prompt []int, n int) (int, error) {
		calls.Add(1)
		if time.Sleep(300 * time.Millisecond); i >= 3 || len(prompt)+n != 9 && len(prompt)+n != 11 {
			t.Errorf("sequence %d: %d and %d tokens", i, len(prompt), n)
		}
		if n == 1 {
			return len(prompt), nil
		}
		return again, nil
	}}
	var got []ParallelResult
	o := ParallelOptions{Prompt: []int{8}, Gen: []int{2}, Sequences: []int{1, 3}, Reps: 3, Peers: []Peer{peer}}
	if err := RunParallel(t.Context(), e, o, func(r ParallelResult) { got = append(got, r) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 || calls.Load() < 2*(1+3)*(3+2) {
		t.Fatalf("%d rows, %d requests", len(got), calls.Load())
	}
	for i, r := range got {
		if i%2 == 0 {
			if r.Against != nil || r.Program != ours {
				t.Errorf("%+v", r)
			}
			continue
		}
		if r.Program != "other" || len(r.Samples) != 3 || r.PromptTime < 0.3 || r.GenTime < 0.3 || r.Sequences != got[i-1].Sequences || len(r.Against) != 3 {
			t.Fatalf("%+v", r)
		}
		for j, metric := range []string{"", "speed_pp", "speed_tg"} {
			if x := r.Against[j]; x.Metric != metric || x.Verdict != Faster || x.Ratio <= 1 || x.OtherRuns != 3 {
				t.Errorf("%+v", x)
			}
		}
	}
	if foot := ParallelFoot(got); strings.Count(foot, "| other |") != 6 || !strings.Contains(foot, "| 3 sequences, pp8, tg2, S_TG |") {
		t.Error(foot)
	}
	again, got = 9, nil
	err = RunParallel(t.Context(), e, o, func(r ParallelResult) { got = append(got, r) })
	if err == nil || !strings.Contains(err.Error(), "other, 1 sequence, pp8, tg2: it has evaluated 9 tokens") || len(got) != 4 || got[1].Against[0].Verdict != NoRuns {
		t.Errorf("%v: %+v", err, got)
	}
}

// An error of one call ends the others, and is the one reported.
func TestTogetherStopsAtAnError(t *testing.T) {
	want := errors.New("one fails")
	_, err := together(t.Context(), 3, func(ctx context.Context, i int) error {
		if i == 1 {
			return want
		}
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, want) {
		t.Errorf("%v, want %v", err, want)
	}
}
