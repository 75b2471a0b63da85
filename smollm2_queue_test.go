package pumice_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/sample"
)

// TestSmolLM2QueuedAndGuessedTokensAreTheSame generates tokens one by one, several at once and with guesses, both
// greedy and sampled.
func TestSmolLM2QueuedAndGuessedTokensAreTheSame(t *testing.T) {
	engine := openSmolLM2(t)
	list := "Repeat this list twice.\n\n- apples from the garden\n- bread from the baker\n- milk from the farm\n\nList:\n- apples from the garden\n"
	lookup := func(n int) pumice.GenerateOptions {
		return pumice.GenerateOptions{Drafter: pumice.PromptLookup{}, DraftTokens: n, DraftAlways: true}
	}
	sampled := sample.Default()
	sampled.Seed = 11
	for _, c := range []struct {
		name, prompt string
		o            pumice.GenerateOptions
		others       []pumice.GenerateOptions
	}{
		{"greedy", "The capital of France is", pumice.GenerateOptions{MaxTokens: 40}, []pumice.GenerateOptions{{Pipeline: 3}, {Pipeline: 16}, lookup(7)}},
		{"repetition", list, pumice.GenerateOptions{MaxTokens: 60}, []pumice.GenerateOptions{{Pipeline: 8}, lookup(7), lookup(15)}},
		{"sampled", "Once upon a time", pumice.GenerateOptions{MaxTokens: 32, Sampling: sampled}, []pumice.GenerateOptions{{Pipeline: 2}, {Pipeline: 8}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids, err := engine.Encode(c.prompt)
			if err != nil {
				t.Fatal(err)
			}
			run := func(o pumice.GenerateOptions) pumice.Result {
				session := engine.NewSession()
				o.MaxTokens, o.Sampling = c.o.MaxTokens, c.o.Sampling
				for _, err := range session.Generate(t.Context(), ids, o) {
					if err != nil {
						t.Fatal(err)
					}
				}
				r := session.Result()
				t.Logf("pipeline %d, lookup %d: %.1f t/s, %d of %d guesses, %+v", o.Pipeline, o.DraftTokens, r.Stats.PredictedPerSecond, r.Stats.DraftNAccepted, r.Stats.DraftN, r.Counters)
				return r
			}
			want := run(pumice.GenerateOptions{Pipeline: 1})
			for _, o := range c.others {
				got := run(o)
				if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" || got.FinishReason != want.FinishReason {
					t.Errorf("pipeline %d, lookup %d (-one by one +this):\n%s", o.Pipeline, o.DraftTokens, diff)
				}
				if k := got.Counters; o.DraftTokens == 0 && c.o.Sampling.Greedy() && (k.HostToDeviceBytes > 1 || k.DeviceToHostBytes > 9) {
					t.Errorf("pipeline %d: %d bytes to the device and %d back a token", o.Pipeline, k.HostToDeviceBytes, k.DeviceToHostBytes)
				}
				if c.name == "repetition" && o.DraftTokens > 0 && got.Stats.DraftNAccepted < 10 {
					t.Errorf("lookup %d: %d of %d guesses were right", o.DraftTokens, got.Stats.DraftNAccepted, got.Stats.DraftN)
				}
			}
		})
	}
}
