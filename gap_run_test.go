package pumice_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"pumice"
)

// BenchmarkPromptBesideSessions has a prompt of 2000 tokens arrive while four sessions generate, with SmolLM2-135M, and reports
// the longest time and the most steps from one of their tokens to the next, first while kernels are compiled for such steps, then
// when they are.
func BenchmarkPromptBesideSessions(b *testing.B) {
	path := os.Getenv("PUMICE_TEST_SMOLLM2")
	if path == "" {
		b.Skip("PUMICE_TEST_SMOLLM2 is not set: give it the path of SmolLM2-135M-Instruct.Q4_1.gguf, which tools/model.sh prints")
	}
	engine, err := pumice.Open(b.Context(), path, pumice.Options{Device: os.Getenv("PUMICE_DEVICE")})
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	text := func(first, n int) []int {
		tokens := make([]int, n)
		for i := range tokens {
			tokens[i] = 20 + (i*i*131+17*i+first)%(engine.Config().VocabSize-20)
		}
		return tokens
	}
	for round, name := range []string{"cold", "warm", "warm again"} {
		b.Run(name, func(b *testing.B) {
			ctx, stop := context.WithCancel(b.Context())
			var wait, ready sync.WaitGroup
			var mu sync.Mutex
			var arrived bool
			var longest time.Duration
			most := int64(0)
			for i := range 4 {
				ready.Add(1)
				wait.Go(func() {
					n, last, steps := 0, time.Now(), int64(0)
					for _, err := range engine.NewSession().Generate(ctx, text(100*i+round, 1), pumice.GenerateOptions{IgnoreEOS: true}) {
						if err != nil {
							if ctx.Err() == nil {
								b.Error(err)
							}
							return
						}
						now, made := time.Now(), engine.Metrics().Steps
						mu.Lock()
						if arrived {
							longest, most = max(longest, now.Sub(last)), max(most, made-steps)
						}
						mu.Unlock()
						if last, steps = now, made; n == 8 {
							ready.Done()
						}
						n++
					}
				})
			}
			ready.Wait()
			before := engine.Metrics()
			mu.Lock()
			arrived = true
			mu.Unlock()
			begun := time.Now()
			for _, err := range engine.NewSession().Generate(ctx, text(1000+round, 2000), pumice.GenerateOptions{MaxTokens: 1}) {
				if err != nil {
					b.Error(err)
				}
			}
			took := time.Since(begun)
			after := engine.Metrics()
			stop()
			wait.Wait()
			b.ReportMetric(float64(longest.Milliseconds()), "gap-ms")
			b.ReportMetric(float64(most), "gap-steps")
			b.ReportMetric(took.Seconds(), "prompt-s")
			b.ReportMetric(float64(after.Tokens-before.Tokens), "tokens")
			b.ReportMetric(float64(after.Counters.Records-before.Counters.Records), "records")
			b.ReportMetric(0, "ns/op")
		})
	}
}
