package model

import (
	"path/filepath"
	"slices"
	"testing"

	"pumice/pipeline"
)

// TestOverlapChangesNoResult continues a prompt token by token, and then in one go, with weights that are read ahead and without:
// tokens and logits are the same, bit for bit.
func TestOverlapChangesNoResult(t *testing.T) {
	tokens, logits, c := continued(t, "smollm2", pipeline.Options{Overlap: pipeline.Overlap{Prefetch: 64 << 10, Split: 4 << 10}})
	wantTokens, wantLogits, plain := continued(t, "smollm2", pipeline.Options{Walkers: -1})
	if !slices.Equal(tokens, wantTokens) || !slices.Equal(logits, wantLogits) {
		t.Errorf("tokens %v, without it %v; the same logits: %t", tokens, wantTokens, slices.Equal(logits, wantLogits))
	}
	if c.PrefetchBytes == 0 || c.Splits == 0 || c.Dispatches <= plain.Dispatches || plain.PrefetchBytes != 0 || plain.Splits != 0 {
		t.Errorf("counted %+v, without it %+v", c, plain)
	}
	if c.Dispatches, c.Splits, c.PrefetchBytes = plain.Dispatches, 0, 0; c != plain {
		t.Errorf("counted besides %+v, without it %+v", c, plain)
	}
}

// continued returns the tokens that follow a prompt, the logits of the first ones, and what the last of these took.
func continued(t *testing.T, name string, o pipeline.Options) (tokens []int, logits []float32, c pipeline.Counters) {
	t.Helper()
	x := load(t, filepath.Join(fixtureDir, name), Options{Context: 64}, o)
	tokens = []int{5, 6, 7, 8, 9}
	for at := 0; len(tokens) < 12; {
		out, err := x.forward(t.Context(), tokens[at:], at, lastLogits)
		if err != nil {
			t.Fatal(err)
		}
		logits, c = append(logits, out.Logits...), out.Counters
		at = len(tokens)
		tokens = append(tokens, argmax(out.Logits))
	}
	out, err := x.decode(t.Context(), tokens[len(tokens)-1], len(tokens)-1, 20, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, choice := range out.Choices {
		tokens = append(tokens, choice.ID)
	}
	return tokens, logits, c
}
