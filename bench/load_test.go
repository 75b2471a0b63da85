package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
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

// All views ask the same number of requests, in rounds; a slower one has its overhead, and a peer is compared with the server.
func TestRunLoad(t *testing.T) {
	gputest.Open(t) // skips without a device
	e := opened(t, pumice.Options{Context: 16})
	inside := inEngine(e)
	var asked, peered [][]int // prompts
	record := func(to *[][]int, wait time.Duration) Asker {
		var lock sync.Mutex
		return func(ctx context.Context, prompt []int, n int, each func()) (int, error) {
			lock.Lock()
			*to = append(*to, prompt)
			lock.Unlock()
			time.Sleep(wait)
			return inside(ctx, prompt, n, each)
		}
	}
	refusals := atomic.Int64{}
	peer := Peer{Setup: Setup{Program: "other", GPUInfo: "its device", Backends: "CUDA"}}
	answer := record(&peered, 150*time.Millisecond)
	peer.Ask = func(ctx context.Context, prompt []int, n int, each func()) (int, error) {
		if refusals.Add(1) < 4 {
			return 0, fmt.Errorf("%w: no UTF-8", ErrRefused)
		}
		return answer(ctx, prompt, n, each)
	}
	var rows []LoadResult
	var rounds [][]LoadResult
	o := LoadOptions{Prompt: 6, Gen: 3, Load: []int{1, 2}, Reps: 3, Asker: record(&asked, 50*time.Millisecond), Peers: []Peer{peer}}
	o.Partial = func(list []LoadResult) { rounds = append(rounds, list) }
	if err := RunLoad(t.Context(), e, o, func(r LoadResult) { rows = append(rows, r) }); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 4 || len(rounds) != 2 || len(rounds[0]) != 4 || rounds[1][3].Completed != 8 || rounds[1][3].Reasons[0] != "2 of 3 runs so far" {
		t.Fatalf("%d rows, %d rounds", len(rows), len(rounds))
	}
	for i, r := range rows {
		if r.Concurrency != i/2+1 || r.Completed != 12 || r.InputTokens != 72 || r.OutputTokens != 36 || r.Error != "" || len(r.SampleTS) != 3 || len(r.TTFTs) != 12 || len(r.TPOTs) != 12 {
			t.Errorf("%+v", r)
		}
		if i%2 == 1 {
			if r.Program != "other" || r.Engine != nil || len(r.Against) != 3 || r.MedianTTFT < 150 {
				t.Fatalf("%+v", r)
			}
			for j, metric := range []string{"", "median_ttft_ms", "median_tpot_ms"} {
				if x := r.Against[j]; x.Metric != metric || j == 1 && math.Abs(x.Base-r.MedianTTFT) > 1e-6 || x.File != rows[i-1].GPUInfo || j < 2 && (x.Verdict != Faster || x.Ratio < 1.2 || x.Low > x.Ratio || x.High < x.Ratio) {
					t.Errorf("%+v", x)
				}
			}
			continue
		}
		if r.Against != nil || r.Engine.Completed != 12 || r.MedianTTFT < r.Engine.MedianTTFT+45 || r.OverheadTTFT <= 0 || r.MeanE2EL < 50 {
			t.Errorf("TTFT %v and %v, overhead %v", r.MedianTTFT, r.Engine.MedianTTFT, r.OverheadTTFT)
		}
	}
	last := func(prompts [][]int) [][]int { return prompts[len(prompts)-4:] } // of the last test's last round
	if same := func(a, b []int) int { return slices.Compare(a, b) }; !slices.EqualFunc(slices.SortedFunc(slices.Values(last(asked)), same), slices.SortedFunc(slices.Values(last(peered)), same), slices.Equal) {
		t.Errorf("the server had %v, the peer %v", last(asked), last(peered))
	}
	foot := LoadFoot(rows)
	for text, times := range map[string]int{"| other |": 6, "other: its device, CUDA\n": 1, "device: ": 1, "| 2 at a time, pp6, tg3, TTFT ms |": 1} {
		if strings.Count(foot, text) != times {
			t.Errorf("not %d times %q in\n%s", times, text, foot)
		}
	}
	if c := Compare(NewFile("a", rows), NewFile("b", rows)); len(c.Rows) != 12 || len(c.Missing) != 0 || c.Rows[4].Ratio != 1 {
		t.Errorf("%+v", c)
	}
	o.Gen = 11
	if err := RunLoad(t.Context(), e, o, nil); err == nil {
		t.Error("a request that exceeds the context ran")
	}
	o.Gen, rows = 3, nil
	o.Peers[0].Ask = func(context.Context, []int, int, func()) (int, error) { return 0, errors.New("it has gone") }
	err := RunLoad(t.Context(), e, o, func(r LoadResult) { rows = append(rows, r) })
	if err == nil || len(rows) != 4 || !strings.Contains(rows[3].Error, "other, 1 at a time, pp6, tg3: it has gone") || rows[1].Against[0].Verdict != NoRuns {
		t.Errorf("%v: %+v", err, rows)
	}
}
