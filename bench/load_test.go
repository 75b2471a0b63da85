package bench

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pumice"
	"pumice/internal/gputest"
)

// The values are computed by hand from vLLM's definitions (vllm/benchmarks/serve.py, calculate_metrics).
func TestLatencies(t *testing.T) {
	v := view{took: 2 * time.Second, requests: 3, in: 30, out: 15,
		ttft: []time.Duration{took(30), took(10), took(20)}, tpot: []time.Duration{took(5)}, itl: []time.Duration{took(4), took(6)},
		e2el: []time.Duration{took(50), took(40), took(60)}}
	l := v.latencies()
	for name, x := range map[string][2]float64{
		"duration": {l.Duration, 2}, "requests": {l.RequestRate, 1.5}, "output": {l.OutputThroughput, 7.5}, "total": {l.TotalThroughput, 22.5},
		"mean ttft": {l.MeanTTFT, 20}, "median ttft": {l.MedianTTFT, 20}, "std ttft": {l.StdTTFT, 10}, "p99 ttft": {l.P99TTFT, 29.8}, "p90 ttft": {l.P90TTFT, 28},
		"tpot": {l.MedianTPOT, 5}, "itl": {l.MeanITL, 5}, "e2el": {l.P99E2EL, 59.8},
	} {
		if math.Abs(x[0]-x[1]) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, x[0], x[1])
		}
	}
}

// One request has its first token, the gaps, and its end; an answer that is too short is an error.
func TestOneRequest(t *testing.T) {
	ask := func(_ context.Context, prompt []int, n int, each func()) (int, error) {
		for range n {
			time.Sleep(2 * time.Millisecond)
			each()
		}
		return n, nil
	}
	v, err := one(t.Context(), ask, []int{1, 2, 3}, 4)
	if err != nil || v.in != 3 || v.out != 4 || len(v.ttft) != 1 || len(v.itl) != 3 || v.ttft[0] < took(2) || v.e2el[0] < took(8) || v.tpot[0] < took(2) {
		t.Errorf("%+v, %v", v, err)
	}
	short := func(context.Context, []int, int, func()) (int, error) { return 1, nil }
	if _, err := one(t.Context(), short, []int{1}, 4); err == nil || !strings.Contains(err.Error(), "4 tokens were asked for, 1 came") {
		t.Errorf("a short answer: %v", err)
	}
}

// No more requests are under way than asked for, and they come no faster than the rate.
func TestLoadHasALimitAndARate(t *testing.T) {
	var now, most atomic.Int64
	ask := func(_ context.Context, _ []int, n int, each func()) (int, error) {
		most.Store(max(most.Load(), now.Add(1)))
		defer now.Add(-1)
		time.Sleep(3 * time.Millisecond)
		each()
		return n, nil
	}
	prompts := slices.Repeat([][]int{{1}}, 12)
	v, err := load(t.Context(), ask, prompts, 1, 3, 0)
	if err != nil || v.requests != 12 || most.Load() != 3 || v.took < took(12) {
		t.Errorf("%d requests, %d at a time, in %v: %v", v.requests, most.Load(), v.took, err)
	}
	if v, err := load(t.Context(), ask, prompts, 1, 12, 100); err != nil || v.took < took(40) { // 12 gaps of 10 ms in the mean, of these random numbers
		t.Errorf("in %v: %v", v.took, err)
	}
	failed := errors.New("failed")
	if _, err := load(t.Context(), func(context.Context, []int, int, func()) (int, error) { return 0, failed }, prompts, 1, 3, 0); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
}

// Both views ask the same number of requests; a slower one has its overhead.
func TestRunLoad(t *testing.T) {
	gputest.Open(t) // skips without a device
	e := opened(t, pumice.Options{Context: 16})
	inside := inEngine(e)
	late := func(ctx context.Context, prompt []int, n int, each func()) (int, error) {
		time.Sleep(50 * time.Millisecond)
		return inside(ctx, prompt, n, each)
	}
	var rows []LoadResult
	o := LoadOptions{Prompt: 6, Gen: 3, Load: []int{1, 2}, Requests: 8, Asker: late}
	if err := RunLoad(t.Context(), e, o, func(r LoadResult) { rows = append(rows, r) }); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	for i, r := range rows {
		if r.Concurrency != i+1 || r.Completed != 8 || r.Engine.Completed != 8 || r.InputTokens != 48 || r.OutputTokens != 24 || r.Error != "" {
			t.Errorf("%+v", r)
		}
		if r.MedianTTFT < r.Engine.MedianTTFT+45 || r.OverheadTTFT <= 0 || r.MeanE2EL < 50 {
			t.Errorf("TTFT %v and %v, overhead %v", r.MedianTTFT, r.Engine.MedianTTFT, r.OverheadTTFT)
		}
	}
	o.Gen = 11
	if err := RunLoad(t.Context(), e, o, nil); err == nil {
		t.Error("a request that exceeds the context ran")
	}
	failed := errors.New("the server has gone")
	o.Gen, o.Asker = 3, func(context.Context, []int, int, func()) (int, error) { return 0, failed }
	rows = nil
	if err := RunLoad(t.Context(), e, o, func(r LoadResult) { rows = append(rows, r) }); !errors.Is(err, failed) || len(rows) != 1 || rows[0].Error == "" {
		t.Errorf("%v, %d rows", err, len(rows))
	}
}
