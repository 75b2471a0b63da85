package pumice_test

import (
	"context"
	"testing"
	"time"

	"pumice"
	"pumice/sample"
)

// TestWatchTellsOfKernels: the kernels of a step are those of all its dispatches, have read its weights, and took no longer than
// the step.
func TestWatchTellsOfKernels(t *testing.T) {
	e := openEngine(t, "testdata/fixtures/llama", pumice.Options{Context: 64, Profile: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		s := e.NewSession()
		for ctx.Err() == nil { // until somebody watches
			for range s.Generate(ctx, []int{1, 5, 7}, pumice.GenerateOptions{MaxTokens: 4, Sampling: sample.Params{}}) {
			}
		}
	}()
	tokens := 0
	for event := range e.Watch(ctx) {
		s := event.Step
		if s == nil || s.PromptTokens > 0 {
			continue
		}
		var read int64
		var took time.Duration
		calls := 0
		for _, k := range s.Kernels {
			read, took = read+k.Bytes, took+k.Total
			if k.Kernel != pumice.Gaps {
				calls += k.Calls
			}
		}
		if read < s.Counters.WeightBytes || int64(calls) != s.Counters.Dispatches || took <= 0 || took > s.Took {
			t.Errorf("%d bytes in %d calls and %v; the step has %d in %d and %v", read, calls, took, s.Counters.WeightBytes, s.Counters.Dispatches, s.Took)
		}
		if tokens++; tokens == 3 {
			break
		}
	}
	if tokens < 3 {
		t.Errorf("%d steps of tokens", tokens)
	}
}
