package pumice

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestRestoredTextsAreTheSameToTheBit saves a text and restores it in another engine: what follows has the same logits as
// where the text stayed. A model with another KV cache refuses the file.
func TestRestoredTextsAreTheSameToTheBit(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	var file bytes.Buffer
	for _, c := range []struct{ fixture, kv string }{{"llama", "f16"}, {"gemma2", "q8_0"}, {"mistral", "f32"}} {
		t.Run(c.fixture+"/"+c.kv, func(t *testing.T) {
			file.Reset()
			engine := func() *Engine {
				e, _ := metered(t, "testdata/fixtures/"+c.fixture, Options{KVType: c.kv, Context: 200})
				return e
			}
			logits := func(s *Session, text []int) (row []float32) {
				for r, err := range s.Logits(t.Context(), text, false) {
					if err != nil {
						t.Fatal(err)
					}
					row = slices.Clone(r)
				}
				return row
			}
			e := engine()
			s := e.NewSession()
			text := someTokens(e, 130)
			logits(s, text[:120])
			if n, err := s.Save(t.Context(), &file); err != nil || n != 120 {
				t.Fatalf("%d tokens: %v", n, err)
			}
			want := logits(s, text)
			other := engine()
			s = other.NewSession()
			got, err := s.Restore(t.Context(), bytes.NewReader(file.Bytes()))
			if err != nil || !slices.Equal(got, text[:120]) {
				t.Fatalf("%d tokens: %v", len(got), err)
			}
			before := other.Metrics().PromptTokens
			if row := logits(s, text); !slices.Equal(row, want) {
				t.Error("the logits differ")
			}
			if n := other.Metrics().PromptTokens - before; n != 10 {
				t.Errorf("%d tokens were evaluated, want 10", n)
			}
			var wrong *SavedError
			third, _ := metered(t, "testdata/fixtures/"+c.fixture, Options{KVType: map[string]string{"f16": "f32"}[c.kv], DType: "q8_0"})
			if _, err := third.NewSession().Restore(t.Context(), bytes.NewReader(file.Bytes())); !errors.As(err, &wrong) {
				t.Error(fmt.Sprint("another KV cache: ", err))
			}
		})
	}
}
