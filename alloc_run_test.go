package pumice

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"

	"pumice/sample"
)

// TestStepsAllocateNothing has eight sessions generate at the same time, between two ends of pages: one chooses greedily,
// the others from all logits or from the largest. Nothing is allocated from token to token.
func TestStepsAllocateNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: the run on the main driver has it")
	}
	e := openOn(t, filepath.Join("testdata", "fixtures", "smollm2"), Options{Context: 256, Device: os.Getenv("PUMICE_DEVICE")})
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const sessions, prompt, warm, tokens = 8, 66, 10, 12
	var wait sync.WaitGroup
	var rounds [4]struct {
		ready, done sync.WaitGroup
		begin, end  chan struct{}
	}
	for i := range rounds {
		r := &rounds[i]
		r.ready.Add(sessions)
		r.done.Add(sessions)
		r.begin, r.end = make(chan struct{}), make(chan struct{})
	}
	for i := range sessions {
		wait.Go(func() {
			text := make([]int, prompt)
			for at := range text {
				text[at] = (7*at + i) % e.vocab
			}
			o := GenerateOptions{MaxTokens: warm + len(rounds)*tokens + 1, IgnoreEOS: true}
			switch i % 4 {
			case 1:
				o.Sampling = sample.Params{Temperature: 1, Seed: 3}
			case 2:
				o.Sampling = sample.Params{Temperature: 1, TopK: 20, Seed: 3}
			}
			g, err := e.NewSession().Start(Request{text, o})
			if err != nil {
				t.Error(err)
				return
			}
			defer g.Close()
			next := func(n int) {
				for range n {
					if _, err := g.Next(t.Context()); err != nil {
						t.Error(err)
					}
				}
			}
			next(warm)
			for i := range rounds {
				r := &rounds[i]
				r.ready.Done()
				<-r.begin
				next(tokens)
				r.done.Done()
				<-r.end
			}
		})
	}
	// Seldom a step has fewer sessions and needs a plan that is not there yet, and Go's runtime makes what blocked goroutines
	// wait with when they are more than before: a round in three, mostly. So the best one counts.
	least := uint64(math.MaxUint64)
	for i := range rounds {
		r := &rounds[i]
		r.ready.Wait()
		var before, after runtime.MemStats
		steps := e.Metrics().Steps
		runtime.ReadMemStats(&before)
		close(r.begin)
		r.done.Wait()
		runtime.ReadMemStats(&after)
		steps = e.Metrics().Steps - steps
		close(r.end)
		objects, bytes := after.Mallocs-before.Mallocs, after.TotalAlloc-before.TotalAlloc
		t.Logf("%d objects, %d bytes in %d steps", objects, bytes, steps)
		if least = min(least, objects); steps < tokens {
			t.Errorf("%d steps for %d tokens", steps, tokens)
		}
	}
	wait.Wait()
	if least >= tokens {
		t.Errorf("%d objects in %d steps at best", least, tokens)
	}
}
