package eval

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"pumice"
)

// Progress says how far a run is.
type Progress struct {
	Done, Total int // questions
	Reused      int // of Done, those that the journal held
	Task        string
	Remaining   time.Duration // estimate from the tokens so far, 0 while there is none
}

// Run asks requests and returns their answers in the same order. The engines share the work; they must be of one model. Answers
// that the journal holds are not asked for again; journal may be nil. progress is called after each answer, one call at a time;
// it may be nil. After an error, or when ctx is cancelled, what was answered is in the journal.
func Run(ctx context.Context, engines []*pumice.Engine, requests []*Request, journal *Journal, progress func(Progress)) ([]Entry, error) {
	var sessions []session
	for _, e := range engines {
		sessions = append(sessions, e.NewSession())
	}
	return run(ctx, sessions, requests, journal, progress)
}

// maxChunk bounds the questions that a device takes at a time, so that several devices end at about the same time. One that
// begins a chunk evaluates the examples again.
const maxChunk = 32

// chunks cuts the questions at places that pending lacks or where the examples change.
func chunks(requests []*Request, pending []int, devices int) [][]int {
	var out [][]int
	for i, at := range pending {
		if i > 0 && requests[pending[i-1]].Task == requests[at].Task && (devices == 1 || len(out[len(out)-1]) < maxChunk) {
			out[len(out)-1] = append(out[len(out)-1], at)
			continue
		}
		out = append(out, []int{at})
	}
	return out
}

func run(ctx context.Context, sessions []session, requests []*Request, journal *Journal, progress func(Progress)) ([]Entry, error) {
	if len(sessions) == 0 {
		return nil, errors.New("eval: no engine")
	}
	out := make([]Entry, len(requests))
	var pending []int
	var before *Request
	todo := 0 // tokens
	for i, r := range requests {
		if journal != nil {
			if e, ok := journal.find(r); ok {
				out[i] = e
				continue
			}
		}
		pending = append(pending, i)
		todo += r.cost(before)
		before = r
	}
	p := Progress{Total: len(requests), Reused: len(requests) - len(pending), Done: len(requests) - len(pending)}
	var mu sync.Mutex
	var errs []error
	start, done := time.Now(), 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	finish := func(i int, e Entry, tokens int) error {
		mu.Lock()
		defer mu.Unlock()
		if journal != nil {
			if err := journal.add(e); err != nil {
				return fmt.Errorf("eval: journal: %w", err)
			}
		}
		out[i] = e
		done += tokens
		p.Done++
		p.Task = e.Task
		p.Remaining = time.Duration(float64(time.Since(start)) / float64(done) * float64(max(0, todo-done)))
		if progress != nil {
			progress(p)
		}
		return nil
	}
	queue := make(chan []int, len(pending))
	for _, c := range chunks(requests, pending, len(sessions)) {
		queue <- c
	}
	close(queue)
	var wait sync.WaitGroup
	for _, s := range sessions {
		wait.Go(func() {
			s := scorer{session: s}
			for chunk := range queue {
				for _, i := range chunk {
					r := requests[i]
					tokens := max(1, r.cost(s.last))
					began := time.Now()
					a, err := s.score(ctx, r)
					if err == nil {
						err = finish(i, Entry{a, time.Since(began).Seconds()}, tokens)
					}
					if err != nil {
						mu.Lock()
						errs = append(errs, err)
						mu.Unlock()
						cancel()
						return
					}
				}
			}
		})
	}
	wait.Wait()
	if len(errs) > 0 {
		return nil, errs[0] // the others are its consequence
	}
	return out, nil
}
