package pumice_test

import (
	"encoding/json"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/chat"
)

// TestSmolLM2Goldens compares the default model, trained weights in Q4_1 and Q8_0, with float32 arithmetic over the
// same weights (testdata/smollm2/goldens.json, made by transformers). Greedy tokens must be equal wherever the
// reference is sure, and the ten largest logits within 0.05.
func TestSmolLM2Goldens(t *testing.T) {
	engine := openSmolLM2(t)
	text, err := os.ReadFile("testdata/smollm2/goldens.json")
	if err != nil {
		t.Fatal(err)
	}
	var goldens struct {
		Prompts []struct {
			Name string `json:"name"`
			Text string `json:"text"`
			IDs  []int  `json:"ids"`
			FP32 struct {
				Greedy  []int     `json:"greedy_ids"`
				Margins []float64 `json:"margins"`
				Top     []struct {
					ID    int     `json:"id"`
					Logit float64 `json:"logit"`
				} `json:"top10"`
			} `json:"fp32"`
		} `json:"prompts"`
	}
	if err := json.Unmarshal(text, &goldens); err != nil {
		t.Fatal(err)
	}
	if len(goldens.Prompts) != 5 {
		t.Fatalf("%d prompts, want 5", len(goldens.Prompts))
	}
	for _, p := range goldens.Prompts {
		t.Run(p.Name, func(t *testing.T) {
			ids, err := engine.Encode(p.Text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(p.IDs, ids); diff != "" {
				t.Fatalf("prompt (-want +got):\n%s", diff)
			}
			session := engine.NewSession()
			for row, err := range session.Logits(t.Context(), ids, false) {
				if err != nil {
					t.Fatal(err)
				}
				worst := 0.0
				for _, top := range p.FP32.Top {
					d := math.Abs(float64(row[top.ID]) - top.Logit)
					worst = max(worst, d)
					if !(d <= 0.05) {
						t.Errorf("logit of token %d: got %g, want %g within 0.05", top.ID, row[top.ID], top.Logit)
					}
				}
				t.Logf("largest difference of ten logits: %.2g", worst)
			}
			for token, err := range session.Generate(t.Context(), ids, pumice.GenerateOptions{MaxTokens: len(p.FP32.Greedy)}) {
				if err != nil {
					t.Fatal(err)
				}
				i := len(session.Result().Tokens) - 1
				if token.ID == p.FP32.Greedy[i] {
					continue
				}
				if p.FP32.Margins[i] >= 0.1 {
					t.Errorf("token %d: got %d, want %d, which leads by %g", i, token.ID, p.FP32.Greedy[i], p.FP32.Margins[i])
				}
				return // the continuations differ from here on
			}
			r := session.Result()
			end := engine.EndTokens()[0]
			if n := len(p.FP32.Greedy); p.FP32.Greedy[n-1] == end && r.FinishReason != pumice.FinishStop {
				t.Errorf("finish reason %q after token %d, want %q", r.FinishReason, end, pumice.FinishStop)
			}
			c := r.Counters
			if c.Submits != 1 || c.Records != 0 || c.HostToDeviceBytes > 64 || c.DeviceToHostBytes > 64 {
				t.Errorf("counters of a greedy token: %+v; want one submit, nothing recorded, at most 64 bytes each way", c)
			}
			if weights := engine.Memory().WeightsBytes; float64(c.WeightBytes) > 1.02*float64(weights) {
				t.Errorf("a token reads %d bytes of weights, the model has %d", c.WeightBytes, weights)
			}
		})
	}
}

// TestSmolLM2SecondTurnReusesTheFirst runs a conversation of two turns.
func TestSmolLM2SecondTurnReusesTheFirst(t *testing.T) {
	engine := openSmolLM2(t)
	session := engine.NewSession()
	var messages []chat.Message
	evaluated := 0
	for turn, question := range []string{"What is the capital of France?", "And of Italy?"} {
		messages = append(messages, chat.Message{Role: "user", Content: question})
		prompt, err := engine.EncodeChat(t.Context(), messages, chat.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range session.Generate(t.Context(), prompt.IDs, pumice.GenerateOptions{MaxTokens: 24}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		r := session.Result()
		t.Logf("%q: %d evaluated, %d reused", r.Text, r.Stats.PromptN, r.Stats.CachedN)
		if r.Stats.PromptN+r.Stats.CachedN != len(prompt.IDs) {
			t.Errorf("%d evaluated and %d reused of %d", r.Stats.PromptN, r.Stats.CachedN, len(prompt.IDs))
		}
		if turn == 1 && r.Stats.CachedN < evaluated {
			t.Errorf("second turn reuses %d tokens, the first one evaluated %d", r.Stats.CachedN, evaluated)
		}
		evaluated = len(prompt.IDs)
		messages = append(messages, chat.Message{Role: "assistant", Content: r.Text})
	}
}

// openSmolLM2 opens the default model from the path in PUMICE_TEST_SMOLLM2.
func openSmolLM2(t *testing.T) *pumice.Engine {
	t.Helper()
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		t.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	return openEngine(t, path, pumice.Options{})
}

// BenchmarkLogProbs takes the log-probabilities of 512 tokens from the device, and from rows of logits.
func BenchmarkLogProbs(b *testing.B) {
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		b.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	engine, err := pumice.Open(b.Context(), path, pumice.Options{Device: os.Getenv("PUMICE_DEVICE")})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	tokens := make([]int, 512)
	for i := range tokens {
		tokens[i] = 20 + (i*i*131+17*i)%(engine.Config().VocabSize-20)
	}
	session := engine.NewSession()
	if _, err := session.LogProbs(b.Context(), tokens[:1], 0); err != nil { // compiles kernels
		b.Fatal(err)
	}
	for _, err := range session.Logits(b.Context(), tokens[:1], true) {
		if err != nil {
			b.Fatal(err)
		}
	}
	var fromDevice, fromLogits float64
	b.Run("device", func(b *testing.B) {
		for b.Loop() {
			fromDevice = 0
			probs, err := session.LogProbs(b.Context(), tokens, 0)
			if err != nil {
				b.Fatal(err)
			}
			for _, p := range probs {
				fromDevice += p.LogProb
			}
		}
	})
	b.Run("logits", func(b *testing.B) {
		for b.Loop() {
			fromLogits = 0
			next := tokens[1:]
			for row, err := range session.Logits(b.Context(), tokens, true) {
				if err != nil {
					b.Fatal(err)
				}
				if len(next) == 0 {
					break
				}
				sum := 0.0
				for _, l := range row {
					sum += math.Exp(float64(l)) // below 1e300 for these logits
				}
				fromLogits += float64(row[next[0]]) - math.Log(sum)
				next = next[1:]
			}
		}
	})
	if d := math.Abs(fromDevice - fromLogits); fromDevice != 0 && fromLogits != 0 && !(d < 1e-4*float64(len(tokens))) {
		b.Errorf("log-probability of all tokens %g, from logits %g", fromDevice, fromLogits)
	}
}
