package pumice

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"pumice/internal/gputest"
	"pumice/internal/ref"
	"pumice/model"
	"pumice/pipeline"
	"pumice/sample"
)

func TestLogProbsOfAPrompt(t *testing.T) {
	f := newFake(t, map[int]int{1: 7, 2: 8, 3: 9})
	s := fakeEngine(f, nil).NewSession()
	sum := math.Log(5999 + math.E)
	for top := range 4 {
		got, err := s.LogProbs(t.Context(), []int{5, 7, 6, 9}, top)
		if err != nil {
			t.Fatal(err)
		}
		want := []LogProb{{TokenProb: TokenProb{7, 1 - sum}}, {TokenProb: TokenProb{6, -sum}}, {TokenProb: TokenProb{9, 1 - sum}}}
		for i, best := range []int{7, 8, 9} {
			want[i].Top = []TokenProb{{best, 1 - sum}, {0, -sum}, {1, -sum}}[:top:top]
		}
		near := gocmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-5 })
		none := gocmp.Transformer("none", func(x []TokenProb) string { return fmt.Sprint(len(x)) })
		if diff := gocmp.Diff(want, got, near, gocmp.FilterValues(func(a, b []TokenProb) bool { return len(a)+len(b) == 0 }, none)); diff != "" {
			t.Errorf("top %d (-want +got):\n%s", top, diff)
		}
	}
	if got, err := s.LogProbs(t.Context(), []int{5}, 2); err != nil || len(got) != 0 {
		t.Errorf("one token: %v, %v", got, err)
	}
}

// What LogProbs evaluated is in the cache, and what the cache had before is evaluated again, because its logits are gone.
func TestLogProbsFillTheCache(t *testing.T) {
	f := newFake(t, map[int]int{5: 11, 6: 12})
	e := fakeEngine(f, nil)
	s := e.NewSession()
	prompt := []int{1, 2, 3, 4, 5}
	probs := func(s *Session) error {
		_, err := s.LogProbs(t.Context(), prompt, 0)
		return err
	}
	next := func(want ...int) {
		t.Helper()
		if !slices.Equal(f.calls, want) {
			t.Errorf("calls of %v tokens, want %v", f.calls, want)
		}
		f.calls = nil
	}
	if err := probs(s); err != nil {
		t.Fatal(err)
	}
	next(5)
	generate(t, s, prompt, GenerateOptions{MaxTokens: 2})
	if got := s.Result().Stats.CachedN; got != 4 || !slices.Equal(s.Result().Tokens, []int{11, 12}) {
		t.Errorf("%d tokens cached, continued with %v", got, s.Result().Tokens)
	}
	next(1, 1)
	if err := probs(s); err != nil {
		t.Fatal(err)
	}
	next(5)
	generate(t, s, append(prompt[:5:5], 6, 7), GenerateOptions{MaxTokens: 1})
	next(2)
	other := e.NewSession()
	if err := probs(other); err != nil {
		t.Fatal(err)
	}
	next(5)
	generate(t, s, prompt, GenerateOptions{MaxTokens: 1})
	next(1)

	f.err = &model.NotFiniteError{Position: 3, ID: -1}
	var e3 *model.NotFiniteError
	if err := probs(s); !errors.As(err, &e3) || e3.Position != 3 {
		t.Errorf("a logit that is not finite: %v", err)
	}
	f.err = nil
	generate(t, s, prompt, GenerateOptions{MaxTokens: 1})
	next(1)
}

func TestLogProbsErrors(t *testing.T) {
	f := newFake(t, nil)
	s := fakeEngine(f, nil).NewSession()
	run := func(tokens []int, top int) error {
		list, err := s.LogProbs(t.Context(), tokens, top)
		if err != nil && list != nil {
			t.Errorf("%v beside an error", list)
		}
		return err
	}
	if err := run(nil, 0); !errors.Is(err, ErrEmptyPrompt) {
		t.Errorf("no tokens: %v", err)
	}
	var long *PromptError
	if err := run(make([]int, 65), 0); !errors.As(err, &long) {
		t.Errorf("too many tokens: %v", err)
	}
	var token *model.TokenError
	if err := run([]int{1, 6000}, 0); !errors.As(err, &token) {
		t.Errorf("a token that does not exist: %v", err)
	}
	for _, top := range []int{-1, MaxTopLogProbs + 1} {
		var option *OptionError
		if err := run([]int{1}, top); !errors.As(err, &option) || option.Field != "TopLogProbs" {
			t.Errorf("%d of the likeliest tokens: %v", top, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.LogProbs(ctx, []int{1}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if f.calls != nil {
		t.Errorf("something was evaluated: %v", f.calls)
	}
	if err := s.engine.Close(); err != nil {
		t.Fatal(err)
	}
	if err := run([]int{1}, 0); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// Greedy and sampled tokens have log-probabilities on GPUs, where the sum comes from the device, and elsewhere, where it
// comes from all logits. Sampling with penalties needs all logits anyway.
func TestGenerateWithLogProbs(t *testing.T) {
	sampled := sample.Default()
	sampled.Seed = 3
	penalised := sampled
	penalised.RepeatPenalty = 1.2
	sum := float64(float32(math.Log(5999 + math.Exp(30))))
	for _, gpu := range []bool{false, true} {
		for name, p := range map[string]sample.Params{"greedy": {}, "sampled": sampled, "penalised": penalised} {
			t.Run(fmt.Sprintf("%s, gpu %t", name, gpu), func(t *testing.T) {
				f := newFake(t, follow(2, 11, 12, 13))
				f.sure, f.steps = 30, 8
				e := fakeEngine(f, nil)
				if gpu {
					e.devices = []*Device{{}}
				}
				s := e.NewSession()
				o := GenerateOptions{MaxTokens: 3, Sampling: p, LogProbs: true, TopLogProbs: 2, Pipeline: 4}
				i := 0
				for token, err := range s.Generate(t.Context(), []int{1, 2}, o) {
					if err != nil {
						t.Fatal(err)
					}
					want := 11 + i
					if p := token.Prob; token.ID != want || p == nil || p.ID != want || math.Abs(p.LogProb-(30-sum)) > 1e-5 || len(p.Top) != 2 ||
						p.Top[0] != p.TokenProb || p.Top[1].ID != 0 || math.Abs(p.Top[1].LogProb+sum) > 1e-5 {
						t.Errorf("token %+v with %+v, want %d", token, p, want)
					}
					i++
				}
				if !slices.Equal(f.calls, []int{2, 1, 1}) {
					t.Errorf("calls of %v tokens", f.calls)
				}
				for _, tail := range f.tails {
					if onDevice := gpu && name != "penalised"; tail.LogProbs != onDevice || tail.Logits == onDevice {
						t.Errorf("evaluated for %s", tail)
					}
				}
			})
		}
	}
}

func TestTokensHaveNoProbUnasked(t *testing.T) {
	s := fakeEngine(newFake(t, nil), nil).NewSession()
	for token, err := range s.Generate(t.Context(), []int{1}, GenerateOptions{MaxTokens: 2}) {
		if err != nil || token.Prob != nil {
			t.Errorf("%+v, %v", token, err)
		}
	}
}

// A meter passes calls on to a model, and keeps what the last Run cost and was to leave.
type meter struct {
	evaluator
	counters pipeline.Counters
	tail     model.Tail
}

func (m *meter) Run(ctx context.Context, spans []model.Span, t model.Tail) (model.Output, error) {
	out, err := m.evaluator.Run(ctx, spans, t)
	m.counters, m.tail = out.Counters, t
	return out, err
}

// metered opens a model and puts a meter before it.
func metered(t *testing.T, path string, o Options) (*Engine, *meter) {
	t.Helper()
	o.Device = os.Getenv("PUMICE_DEVICE")
	e := openOn(t, path, o)
	m := &meter{evaluator: e.work.model}
	e.work.model = m
	return e, m
}

// openOn opens a model on the devices of the options.
func openOn(t *testing.T, path string, o Options) *Engine {
	t.Helper()
	gputest.Open(t) // or skip
	o.Logger = zerolog.Nop()
	e, err := Open(t.Context(), path, o)
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

// logProbModels are the models whose log-probabilities are compared with their logits, with the number of tokens.
func logProbModels() map[string]int {
	models := map[string]int{"testdata/fixtures/llama": 150, "testdata/fixtures/gemma2": 40}
	if path := os.Getenv("PUMICE_TEST_SMOLLM2"); path != "" {
		models[path] = 100
	}
	return models
}

// someTokens returns n tokens of a model, none of which is special.
func someTokens(e *Engine, n int) []int {
	tokens := make([]int, n)
	for i := range tokens {
		tokens[i] = 20 + (i*i*131+17*i)%(e.vocab-20)
	}
	return tokens
}

// logSoftmax is the logarithm of the softmax of a row of logits.
func logSoftmax(row []float32) []float64 {
	x := make([]float64, len(row))
	for i, v := range row {
		x[i] = float64(v)
	}
	sum := ref.LogSumExp(x)
	for i := range x {
		x[i] -= sum
	}
	return x
}

// compareProb compares p, after i tokens, with the log-probabilities of all tokens.
func compareProb(t *testing.T, i int, p LogProb, all []float64, top int) {
	t.Helper()
	const bound = 1e-4
	if want := all[p.ID]; !(math.Abs(p.LogProb-want) <= bound) {
		t.Errorf("token %d, %d: log-probability %g, want %g", i, p.ID, p.LogProb, want)
	}
	if len(p.Top) != top {
		t.Fatalf("token %d: %d of the likeliest, want %d", i, len(p.Top), top)
	}
	if !slices.IsSortedFunc(p.Top, func(a, b TokenProb) int { return cmp.Compare(b.LogProb, a.LogProb) }) {
		t.Errorf("token %d: not in order: %v", i, p.Top)
	}
	sorted := slices.Sorted(slices.Values(all))
	for n, q := range p.Top {
		if largest := sorted[len(sorted)-1-n]; !(math.Abs(q.LogProb-all[q.ID]) <= bound) || !(math.Abs(q.LogProb-largest) <= bound) {
			t.Errorf("token %d, likeliest %d, %d: log-probability %g, want %g; the largest there is %g", i, n, q.ID, q.LogProb, all[q.ID], largest)
		}
	}
}

// TestLogProbsEqualLogits compares the log-probabilities of a prompt with those of its logits, and counts the bytes that
// host and device exchange for each token.
func TestLogProbsEqualLogits(t *testing.T) {
	for path, n := range logProbModels() {
		t.Run(path, func(t *testing.T) {
			e, m := metered(t, path, Options{Context: 256})
			tokens := someTokens(e, n)
			var want [][]float64
			for row, err := range e.NewSession().Logits(t.Context(), tokens, true) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, logSoftmax(row))
			}
			s := e.NewSession()
			for _, top := range []int{0, 1, 5} {
				got, err := s.LogProbs(t.Context(), tokens, top)
				if err != nil {
					t.Fatal(err)
				}
				if len(got) != n-1 {
					t.Fatalf("%d log-probabilities of %d tokens", len(got), n)
				}
				for i, p := range got {
					if p.ID != tokens[i+1] {
						t.Errorf("token %d is %d, want %d", i+1, p.ID, tokens[i+1])
					}
					compareProb(t, i+1, p, want[i], top)
				}
				// The device has these tokens' ids already, but none of others.
				others := slices.Clone(tokens)
				slices.Reverse(others)
				if _, err := s.LogProbs(t.Context(), others, top); err != nil {
					t.Fatal(err)
				}
				c := m.counters
				bytes := float64(c.HostToDeviceBytes+c.DeviceToHostBytes) / float64(n)
				t.Logf("top %d: %d bytes to the device and %d back for %d tokens, %.2f a token", top, c.HostToDeviceBytes, c.DeviceToHostBytes, n, bytes)
				if limit := float64(16 + 8*top); bytes > limit {
					t.Errorf("top %d: %.2f bytes a token, at most %g are allowed", top, bytes, limit)
				}
			}
		})
	}
}

// TestGeneratedProbsEqualLogits generates with log-probabilities as on a CPU driver and as on a GPU, and compares with the
// logits after the same tokens.
func TestGeneratedProbsEqualLogits(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	sampled := sample.Default()
	sampled.Seed, sampled.Temperature = 5, 1.3
	const n, top = 12, 6
	for path := range logProbModels() {
		t.Run(path, func(t *testing.T) {
			e, m := metered(t, path, Options{Context: 64})
			own := e.devices[0].info.Type
			prompt := someTokens(e, 9)
			for name, p := range map[string]sample.Params{"greedy": {}, "sampled": sampled} {
				o := GenerateOptions{MaxTokens: n, IgnoreEOS: true, Sampling: p}
				e.devices[0].info.Type = own
				plain := e.NewSession()
				generate(t, plain, prompt, o)
				o.LogProbs, o.TopLogProbs = true, top
				for _, device := range []string{"cpu", "discrete"} {
					t.Run(name+", "+device, func(t *testing.T) {
						e.devices[0].info.Type = device
						defer func() { e.devices[0].info.Type = own }()
						s, other := e.NewSession(), e.NewSession()
						s.Alone, other.Alone = true, true // what one has evaluated token by token differs from what is evaluated together
						defer s.Close()
						defer other.Close()
						var probs []LogProb
						for token, err := range s.Generate(t.Context(), prompt, o) {
							if err != nil {
								t.Fatal(err)
							}
							probs = append(probs, *token.Prob)
							if device == "discrete" && (!m.tail.LogProbs || m.counters.DeviceToHostBytes != 4+8*pipeline.TopLogits) {
								t.Errorf("evaluated for %s: %d bytes back", m.tail, m.counters.DeviceToHostBytes)
							}
						}
						if diff := gocmp.Diff(plain.Result().Tokens, s.Result().Tokens); diff != "" {
							t.Errorf("tokens (-without +with log-probabilities):\n%s", diff)
						}
						text := slices.Concat(prompt, s.Result().Tokens)
						for i, q := range probs {
							at := len(prompt) + i
							if q.ID != text[at] {
								t.Errorf("token %d is %d, want %d", i, q.ID, text[at])
							}
							for row, err := range other.Logits(t.Context(), text[:at], false) {
								if err != nil {
									t.Fatal(err)
								}
								compareProb(t, i, q, logSoftmax(row), top)
							}
						}
					})
				}
			}
		})
	}
}
