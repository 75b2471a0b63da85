package eval

import (
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pumice"
	"pumice/internal/gputest"
)

// openSmolLM2 opens the default model from the path PUMICE_TEST_SMOLLM2, in float32 throughout.
func openSmolLM2(t *testing.T, context int) *pumice.Engine {
	t.Helper()
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		t.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	gputest.RecordDriver(t)
	engine, err := pumice.Open(t.Context(), path, pumice.Options{DType: "f32", KVType: "f32", Context: context})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	return engine
}

// TestSmolLM2Perplexity compares with the float32 arithmetic of another program (testdata/perplexity/exact.py), to 4
// digits.
func TestSmolLM2Perplexity(t *testing.T) {
	engine := openSmolLM2(t, 64)
	text, err := os.ReadFile("testdata/perplexity/text.txt")
	if err != nil {
		t.Fatal(err)
	}
	ids, bos, err := PerplexityTokens(engine.Tokenizer(), string(text))
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("testdata/perplexity/tokens.txt")
	if err != nil {
		t.Fatal(err)
	}
	var tokens []int
	for field := range strings.SplitSeq(string(list), ",") {
		id, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, id)
	}
	if bos != -1 || len(ids) < len(tokens) || !slices.Equal(ids[:len(tokens)], tokens) {
		t.Errorf("tokens of the text: %v, BOS %d; want %v and none", ids, bos, tokens)
	}
	for _, c := range []struct {
		o    PerplexityOptions
		want float64
		n    int
	}{
		{PerplexityOptions{Context: 64, BOS: -1}, 49.58215607978064, 62},
		{PerplexityOptions{Context: 48, Stride: 16, BOS: -1}, 87.44178977905294, 80},
	} {
		got, err := Perplexity(t.Context(), engine, tokens, c.o)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", got)
		if got.Tokens != c.n || math.Abs(got.Perplexity-c.want) > 0.5e-4*c.want {
			t.Errorf("perplexity %.6f over %d tokens, want %.6f over %d", got.Perplexity, got.Tokens, c.want, c.n)
		}
	}
}

// TestSmolLM2MatchesGoldens asks the model that made the goldens, in float32 throughout, and compares question by
// question: first everything about the prompt, then log-probabilities within 0.002 (0.0001 was measured on Mesa's CPU
// driver, which is the rounding of the files), then the chosen letter if the reference's margin is over twice that. If
// PUMICE_SHARED is set it asks all questions, which takes long on a CPU driver, else the first two of each task of
// this repository.
func TestSmolLM2MatchesGoldens(t *testing.T) {
	engine := openSmolLM2(t, 4096)
	const bound = 0.002
	all := os.Getenv("PUMICE_SHARED") != ""
	for _, set := range goldenSets() {
		if set.name == "shared" && !all {
			continue
		}
		t.Run(set.name, func(t *testing.T) {
			for _, g := range set.tasks(t) {
				t.Run(g.tag(), func(t *testing.T) {
					plan := set.plan(t, engine.Tokenizer(), g)
					if !all {
						plan.Requests = plan.Requests[:min(2, len(plan.Requests))]
					}
					got, err := Run(t.Context(), []*pumice.Engine{engine}, plan.Requests, nil, nil)
					if err != nil {
						t.Fatal(err)
					}
					worst, sum, n := 0.0, 0.0, 0
					for i, e := range got {
						want := g.answers[i]
						if e.PromptSHA256 != want.PromptSHA256 || e.NumShots != want.NumShots || e.IDsSHA256 != want.IDsSHA256 {
							t.Fatalf("question %s was asked differently: got %+v, want %+v", want.ID, e.Answer, want)
						}
						for c := range want.LogProbs {
							d := math.Abs(e.LogProbs[c] - want.LogProbs[c])
							worst, sum, n = max(worst, d), sum+d, n+1
							if !(d <= bound) {
								t.Errorf("question %s, choice %c: log-probability %g, want %g", want.ID, letters[c], e.LogProbs[c], want.LogProbs[c])
							}
						}
						if want.Margin > 2*bound && (e.Pred != want.Pred || e.Correct != want.Correct) {
							t.Errorf("question %s: answer %s (correct: %t), want %s (%t)", want.ID, e.Pred, e.Correct, want.Pred, want.Correct)
						}
					}
					t.Logf("%d questions: |log-probability - reference| mean %.2g, greatest %.2g", len(got), sum/float64(n), worst)
				})
			}
		})
	}
}
