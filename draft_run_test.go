package pumice_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice"
	"pumice/chat"
	"pumice/sample"
)

// TestFixtureDraftsOnTheDevice guesses the tokens of the tiny llama, on the device that it is on, by lookup, with itself as draft model, and with a
// model of other random weights, which is never right. Greedy tokens are the same, and so are those of a seed where
// guesses are not drawn; where they are, a seed repeats.
func TestFixtureDraftsOnTheDevice(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	o := pumice.Options{DType: "f32", KVType: "f32", Context: 128}
	target := openEngine(t, "testdata/fixtures/llama", o)
	o.On = target.Devices()
	drafter := func(path string) pumice.Drafter {
		d, err := pumice.NewEngineDrafter(target, openEngine(t, path, o))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	run := func(p sample.Params, d pumice.Drafter, always bool) pumice.Result {
		s := target.NewSession()
		for _, err := range s.Generate(t.Context(), []int{51}, pumice.GenerateOptions{MaxTokens: 100, IgnoreEOS: true, Sampling: p, Drafter: d, DraftAlways: always}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		return s.Result()
	}
	same, other := drafter("testdata/fixtures/llama"), drafter("testdata/fixtures/smollm2")
	for _, c := range []struct {
		name  string
		p     sample.Params
		drawn bool // by an EngineDrafter
		right int  // tenths of the guesses of the same model; greedily, a token too close to call ends a draft
	}{
		{"greedy", sample.Params{}, false, 5},
		{"greedy with penalties", sample.Params{PresencePenalty: .5, RepeatPenalty: 1.1}, false, 5},
		{"sampled", sample.Params{Temperature: .8, TopK: 40, TopP: .95, Seed: 3}, true, 9},
		{"sampled from all tokens", sample.Params{Temperature: .4, MinP: .02, RepeatPenalty: 1.1, Seed: 3}, true, 9},
	} {
		want := run(c.p, nil, false).Tokens
		for _, always := range []bool{true, false} {
			for name, d := range map[string]pumice.Drafter{"lookup": pumice.PromptLookup{}, "the same model": same, "another model": other} {
				r := run(c.p, d, always)
				drawn := c.drawn && name != "lookup"
				if diff := cmp.Diff(want, r.Tokens); diff != "" && !drawn {
					t.Errorf("%s, %s, always %t: tokens (-without +with):\n%s", c.name, name, always, diff)
				}
				if drawn && always {
					if diff := cmp.Diff(r.Tokens, run(c.p, d, always).Tokens); diff != "" {
						t.Errorf("%s, %s: the seed does not repeat:\n%s", c.name, name, diff)
					}
				}
				s := r.Stats
				switch {
				case s.DraftError != "":
					t.Errorf("%s, %s: %s", c.name, name, s.DraftError)
				case name == "the same model" && s.DraftNAccepted < s.DraftN*c.right/10:
					t.Errorf("%s: %d of %d guesses of the same model were right", c.name, s.DraftNAccepted, s.DraftN)
				case name == "another model" && s.DraftNAccepted > s.DraftN/50:
					t.Errorf("%s: %d of %d guesses of another model were right", c.name, s.DraftNAccepted, s.DraftN)
				case name == "another model" && !always && s.DraftN > 350: // of 700; how many depends on times
					t.Errorf("%s: %d guesses of another model were evaluated", c.name, s.DraftN)
				}
				t.Logf("%s, %s, always %t: %d of %d guesses were right, %.0f t/s with and %.0f without", c.name, name, always, s.DraftNAccepted, s.DraftN, s.DraftPerSecond, s.PlainPerSecond)
			}
		}
	}
}

// TestSmolLM2DraftsForItself uses the default model in Q4_0 as its own draft model.
func TestSmolLM2DraftsForItself(t *testing.T) {
	target := openSmolLM2(t)
	draft := openEngine(t, target.Source().Path, pumice.Options{On: target.Devices(), DType: "q4_0", Context: 256})
	d, err := pumice.NewEngineDrafter(target, draft)
	if err != nil {
		t.Fatal(err)
	}
	prompt, err := target.EncodeChat(t.Context(), []chat.Message{{Role: "user", Content: "What is the capital of France?"}}, chat.Options{})
	if err != nil {
		t.Fatal(err)
	}
	run := func(p sample.Params, d pumice.Drafter) pumice.Result {
		s := target.NewSession()
		for _, err := range s.Generate(t.Context(), prompt.IDs, pumice.GenerateOptions{MaxTokens: 16, Sampling: p, Drafter: d, DraftTokens: 3, DraftAlways: true}) {
			if err != nil {
				t.Fatal(err)
			}
		}
		r := s.Result()
		t.Logf("%q, %d of %d guesses were right, %.1f t/s", r.Text, r.Stats.DraftNAccepted, r.Stats.DraftN, r.Stats.PredictedPerSecond)
		return r
	}
	want, got := run(sample.Params{}, nil), run(sample.Params{}, d)
	if diff := cmp.Diff(want.Tokens, got.Tokens); diff != "" || got.Stats.DraftNAccepted < got.Stats.DraftN/4 {
		t.Errorf("greedy: %d of %d guesses were right; tokens (-without +with):\n%s", got.Stats.DraftNAccepted, got.Stats.DraftN, diff)
	}
	if s := run(sample.Default(), d).Stats; s.DraftNAccepted < s.DraftN/4 || s.DraftError != "" {
		t.Errorf("sampled: %d of %d guesses were right, error %q", s.DraftNAccepted, s.DraftN, s.DraftError)
	}
}
