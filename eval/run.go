package eval

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"pumice"
)

// Progress says how far an evaluation is.
type Progress struct {
	Done, Total int // questions
	Reused      int // those of Done that the journal had
	Task        string
	Answer      *Answer       // the last one
	Right       int           // of Done
	Remaining   time.Duration // estimated from the tokens so far; 0 if there is no estimate yet
}

// The first questions compile kernels and evaluate the examples, so that their time says little about the rest.
const settled = 10 * time.Second

// Run evaluates requests and returns their answers in the same order. The engines, which must have the same model,
// share the work. Answers in the journal are reused, if the journal has the answers to the whole batch; journal may be
// nil. progress is called after each answer, one call at a time; it may be nil. After an error, or when ctx is
// cancelled, the journal has all answers so far.
func Run(ctx context.Context, engines []*pumice.Engine, requests []*Request, journal *Journal, progress func(Progress)) ([]Entry, error) {
	var sessions []session
	for _, e := range engines {
		s := e.NewSession()
		s.Alone = true
		defer s.Close()
		sessions = append(sessions, s)
	}
	return run(ctx, sessions, requests, journal, progress)
}

// maxChunk bounds the questions that a device takes at a time, so that several devices end at about the same time. At
// the start of a chunk a device evaluates the examples again.
const maxChunk = 32

// A batch is a range of requests with the same lead.
type batch struct{ first, end int }

// pending returns the batches with an unanswered question. They are never divided, so that a question is always
// evaluated with the same others.
func pending(requests []*Request, answered []bool) (out []batch) {
	for i := 0; i < len(requests); {
		b := batch{i, i + 1}
		for b.end < len(requests) && requests[b.end].lead == requests[i].lead {
			b.end++
		}
		if slices.Contains(answered[b.first:b.end], false) {
			out = append(out, b)
		}
		i = b.end
	}
	return out
}

// chunks groups batches into chunks, which end where the examples change.
func chunks(requests []*Request, batches []batch, devices int) (out [][]batch) {
	questions := 0
	for i, b := range batches {
		if i > 0 && requests[batches[i-1].first].Task == requests[b.first].Task && (devices == 1 || questions+b.end-b.first <= maxChunk) {
			out[len(out)-1] = append(out[len(out)-1], b)
		} else {
			out, questions = append(out, []batch{b}), 0
		}
		questions += b.end - b.first
	}
	return out
}

// right is 1 for a right answer.
func right(e Entry) int {
	if e.Correct {
		return 1
	}
	return 0
}

func run(ctx context.Context, sessions []session, requests []*Request, journal *Journal, progress func(Progress)) ([]Entry, error) {
	if len(sessions) == 0 {
		return nil, errors.New("eval: no engine")
	}
	out, answered := make([]Entry, len(requests)), make([]bool, len(requests))
	p := Progress{Total: len(requests)}
	for i, r := range requests {
		if journal != nil {
			out[i], answered[i] = journal.find(r)
		}
		if answered[i] {
			p.Reused++
			p.Right += right(out[i])
		}
	}
	p.Done = p.Reused
	batches := pending(requests, answered)
	var before *Request
	todo := 0 // tokens to evaluate
	for _, b := range batches {
		for _, r := range requests[b.first:b.end] {
			todo += r.cost(before)
			before = r
		}
	}
	var mu sync.Mutex
	var errs []error
	start, done := time.Now(), 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	finish := func(i int, e Entry, tokens int) error {
		mu.Lock()
		defer mu.Unlock()
		done += tokens
		if answered[i] {
			return nil
		}
		if journal != nil {
			if err := journal.add(e); err != nil {
				return fmt.Errorf("eval: journal: %w", err)
			}
		}
		out[i] = e
		p.Done++
		p.Task, p.Answer = e.Task, &e.Answer
		p.Right += right(e)
		if took := time.Since(start); took > settled || done >= todo/10 {
			p.Remaining = time.Duration(float64(took) / float64(done) * float64(max(0, todo-done)))
		}
		if progress != nil {
			progress(p)
		}
		return nil
	}
	queue := make(chan []batch, len(batches))
	for _, c := range chunks(requests, batches, len(sessions)) {
		queue <- c
	}
	close(queue)
	var wait sync.WaitGroup
	for _, s := range sessions {
		wait.Go(func() {
			s := scorer{session: s}
			for chunk := range queue {
				for _, b := range chunk {
					if err := s.ask(ctx, requests, b, finish); err != nil {
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
		return nil, errs[0] // the others are consequences of it
	}
	return out, nil
}

// ask asks a batch and calls finish for each question. A question's time is the batch's time in proportion to its
// tokens.
func (s *scorer) ask(ctx context.Context, requests []*Request, b batch, finish func(i int, e Entry, tokens int) error) error {
	var tokens []int
	total, before := 0, s.last
	for _, r := range requests[b.first:b.end] {
		n := max(1, r.cost(before))
		tokens, total, before = append(tokens, n), total+n, r
	}
	began := time.Now()
	answers, err := s.score(ctx, requests[b.first:b.end])
	if err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	for i, a := range answers {
		if err := finish(b.first+i, Entry{a, took * float64(tokens[i]) / float64(total)}, tokens[i]); err != nil {
			return err
		}
	}
	return nil
}
