package model

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"pumice/checkpoint"
)

// The float64 pass on the host has the logits and the best token at every position that another program computed, of every
// family.
func TestExactMatchesGoldens(t *testing.T) {
	long(t)
	for _, name := range fixtures {
		t.Run(name, func(t *testing.T) {
			c, err := checkpoint.Open(t.Context(), fixtureDir+"/"+name)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			p := readGolden(t, fixtureDir+"/"+name)
			bound := 1e-6
			if strings.HasPrefix(p.Reference, "transformers") { // which rounds angles of rotation to float32
				bound = 3e-5
			}
			for _, prompt := range p.Prompts {
				got, err := Exact(t.Context(), c, prompt.IDs)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, prompt.Name, narrow(got[len(got)-1]), p.floats(prompt.Logits), bound)
				for i, logits := range got {
					if best := slices.Index(logits, slices.Max(logits)); best != prompt.Top1[i] && prompt.Margin[i] > bound {
						t.Errorf("%s: token %d at position %d, want %d", prompt.Name, best, i, prompt.Top1[i])
					}
				}
			}
		})
	}
}

func TestExactErrors(t *testing.T) {
	long(t)
	c, err := checkpoint.Open(t.Context(), fixtureDir+"/llama")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var wrong *TokenError
	if _, err := Exact(t.Context(), c, []int{1, 1 << 20}); !errors.As(err, &wrong) || wrong.Index != 1 {
		t.Errorf("of a token that is not in the vocabulary: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Exact(ended, c, []int{1, 2}); !errors.Is(err, context.Canceled) {
		t.Errorf("after cancelling: %v", err)
	}
	encoder, err := checkpoint.Open(t.Context(), fixtureDir+"/bert")
	if err != nil {
		t.Fatal(err)
	}
	defer encoder.Close()
	if _, err := Exact(t.Context(), encoder, []int{1}); !errors.Is(err, ErrEncoder) {
		t.Errorf("of an encoder: %v", err)
	}
}
