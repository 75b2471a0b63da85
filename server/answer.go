package server

import (
	"cmp"
	"context"
	"io"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"pumice"
)

// maxChoices bounds the answers that a request asks for.
const maxChoices = 128

// A task is an answer that a request asks for.
type task struct {
	index   int // in the answer to the request
	engine  *use
	cold    bool // what the KV cache has of the prompt is not reused, but by tasks with the same one
	request pumice.Request
	g       *pumice.Generation
	each    func(*task, pumice.Token) error // called with each token; tasks call it one at a time

	probs []*pumice.LogProb // with LogProbs
}

// start checks all tasks and begins them. The caller closes them.
func start(tasks []*task) error {
	evaluated := map[*int]bool{} // by the prompt
	for _, t := range tasks {
		s := t.engine.NewSession()
		g, err := s.Start(t.request)
		if err != nil {
			closeAll(tasks)
			return err
		}
		key := &t.request.Prompt[0]
		if t.cold && !evaluated[key] {
			s.Reset()
		}
		evaluated[key] = true
		t.g = g
	}
	return nil
}

func closeAll(tasks []*task) {
	for _, t := range tasks {
		if t.g != nil {
			_ = t.g.Close() // only a call under way is an error
		}
	}
}

// run generates the answers side by side. Those with the same prompt wait until it is evaluated once.
func run(ctx context.Context, tasks []*task) error {
	group, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	evaluated := map[*int]chan struct{}{} // by the prompt
	for _, t := range tasks {
		key := &t.request.Prompt[0]
		ready, again := evaluated[key]
		if !again {
			ready = make(chan struct{})
			evaluated[key] = ready
		}
		group.Go(func() error {
			begun := sync.OnceFunc(func() { close(ready) })
			if again {
				begun = func() {}
				select {
				case <-ready:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			defer begun()
			for {
				token, err := t.g.Next(ctx)
				begun()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				mu.Lock()
				if token.Prob != nil {
					t.probs = append(t.probs, token.Prob)
				}
				err = t.each(t, token)
				mu.Unlock()
				if err == errEnough {
					return nil
				}
				if err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// usage is how many tokens a request took.
type usage struct {
	PromptTokens     int          `json:"prompt_tokens"`
	CompletionTokens int          `json:"completion_tokens"`
	TotalTokens      int          `json:"total_tokens"`
	Details          usageDetails `json:"prompt_tokens_details"`
}

type usageDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// usageOf counts each prompt once.
func usageOf(tasks []*task) (u usage) {
	seen := map[*int]bool{}
	for _, t := range tasks {
		r := t.g.Result()
		u.CompletionTokens += len(r.Tokens)
		if key := &t.request.Prompt[0]; !seen[key] {
			seen[key] = true
			u.PromptTokens += len(t.request.Prompt)
			u.Details.CachedTokens += r.Stats.CachedN
		}
	}
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
	return u
}

// timings are llama-server's, which clients show.
type timings struct {
	CacheN             int     `json:"cache_n"`
	PromptN            int     `json:"prompt_n"`
	PromptMS           float64 `json:"prompt_ms"`
	PromptPerSecond    float64 `json:"prompt_per_second"`
	PredictedN         int     `json:"predicted_n"`
	PredictedMS        float64 `json:"predicted_ms"`
	PredictedPerSecond float64 `json:"predicted_per_second"`
}

func timingsOf(t *task) timings {
	s := t.g.Result().Stats
	return timings{s.CachedN, s.PromptN, s.PromptMS, s.PromptPerSecond, s.PredictedN, s.PredictedMS, s.PredictedPerSecond}
}

// choices is how many answers n asks for.
func choices(n *int, stream bool, best *int) (count, generated int, err error) {
	count = 1
	set(&count, n)
	generated = count
	set(&generated, best)
	switch {
	case count < 1 || count > maxChoices:
		return 0, 0, invalid("n", "n is %d; 1 to %d are possible", count, maxChoices)
	case generated < count || generated > maxChoices:
		return 0, 0, invalid("best_of", "best_of is %d with n %d; n to %d are possible", generated, count, maxChoices)
	case stream && generated > count:
		return 0, 0, invalid("best_of", "best_of %d above n %d can't be streamed", generated, count)
	}
	return count, generated, nil
}

// likeliest keeps n of a prompt's answers: those whose tokens are likeliest on average.
func likeliest(tasks []*task, n int) []*task {
	mean := func(t *task) float64 {
		sum := 0.0
		for _, p := range t.probs {
			sum += p.LogProb
		}
		return sum / float64(max(1, len(t.probs)))
	}
	slices.SortStableFunc(tasks, func(a, b *task) int { return cmp.Compare(mean(b), mean(a)) })
	return tasks[:n]
}
