// Command soak asks a server questions from many clients at once, for a while, and checks what comes back.
//
//	go run ./tools/soak [-clients 64] [-for 20m] [-pid PID] URL
//
// It first asks each of its prompts, whose lengths differ, once with nobody else asking. Then clients ask them in random order
// as streams; a fifth of the requests are cancelled on the way. An answer has to have the tokens of the first one. Tokens
// that are evaluated together with others have logits that differ by less than 0.01, so an answer may part from the first
// where two tokens were that close; it is compared up to there. Every minute it prints what was asked and, of the process
// PID, the memory. It fails if an answer is wrong or broken, if more than 1 % of the headers take longer than -first, or if the
// memory after a fifth of the time is exceeded by a tenth at the end.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// closeCall is how close two logarithms of probabilities are that may change places.
const closeCall = 0.02

// A question is a prompt with its answer.
type question struct {
	prompt []int
	tokens int
	answer []token
}

type token struct {
	text   string
	margin float64 // to the second likeliest
}

func main() {
	clients := flag.Int("clients", 64, "how many clients ask")
	duration := flag.Duration("for", 20*time.Minute, "how long they do")
	pid := flag.Int("pid", 0, "process of the server, for its memory; 0: not looked at")
	first := flag.Duration("first", 50*time.Millisecond, "what 99 % of the headers take at most")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	s := &soak{url: strings.TrimSuffix(flag.Arg(0), "/"), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: *clients}}}
	if err := s.run(*clients, *duration, *pid, *first); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

type soak struct {
	url       string
	client    *http.Client
	questions []*question

	mu        sync.Mutex
	whole     int // answers
	close     int // of these, those that were compared up to a close call
	cancelled int
	headers   []time.Duration
}

func (s *soak) run(clients int, duration time.Duration, pid int, first time.Duration) error {
	random := rand.New(rand.NewPCG(1, 2))
	for range 40 {
		q := &question{prompt: make([]int, 1+random.IntN(1<<random.IntN(9))), tokens: 1 + random.IntN(48)}
		for i := range q.prompt {
			q.prompt[i] = 1000 + random.IntN(5000)
		}
		got, _, err := s.ask(context.Background(), q, nil)
		if err != nil {
			return err
		}
		q.answer = got
		s.questions = append(s.questions, q)
	}
	fmt.Printf("%d prompts were answered with nobody else asking\n", len(s.questions))

	ctx, cancel := context.WithTimeout(context.Background(), duration)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	for i := range clients {
		group.Go(func() error { return s.asker(ctx, rand.New(rand.NewPCG(3, uint64(i)))) })
	}
	var early, late int64
	group.Go(func() error {
		begun := time.Now()
		for tick := time.NewTicker(min(time.Minute, duration/10)); ; {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
			var err error
			if late, err = memory(pid); err != nil {
				return err
			}
			if early == 0 && time.Since(begun) > duration/5 {
				early = late
			}
			s.mu.Lock()
			fmt.Printf("%s: %d answers, %d cancelled, %d compared up to a close call; %d MB\n",
				time.Since(begun).Round(time.Second), s.whole, s.cancelled, s.close, late>>20)
			s.mu.Unlock()
		}
	})
	if err := group.Wait(); err != nil {
		return err
	}
	slices.Sort(s.headers)
	p99 := s.headers[len(s.headers)*99/100]
	fmt.Printf("%d answers, %d cancelled; headers p50 %s, p99 %s; memory %d MB after a fifth of the time, %d MB at the end\n", s.whole, s.cancelled,
		s.headers[len(s.headers)/2].Round(10*time.Microsecond), p99.Round(10*time.Microsecond), early>>20, late>>20)
	if late > early+early/10 {
		return errors.New("the server's memory grows")
	}
	if p99 > first {
		return fmt.Errorf("the headers' p99 is above %s", first)
	}
	return nil
}

// asker asks until ctx ends.
func (s *soak) asker(ctx context.Context, random *rand.Rand) error {
	for ctx.Err() == nil {
		q := s.questions[random.IntN(len(s.questions))]
		asking, cancel := context.WithCancel(ctx)
		var after *int
		if random.IntN(5) == 0 {
			n := random.IntN(q.tokens)
			after = &n
		}
		got, headers, err := s.ask(asking, q, after)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		near, err := q.compare(got, after != nil)
		if err != nil {
			return err
		}
		s.mu.Lock()
		s.headers = append(s.headers, headers)
		switch {
		case after != nil:
			s.cancelled++
		default:
			s.whole++
		}
		if near {
			s.close++
		}
		s.mu.Unlock()
	}
	return nil
}

// compare reports whether an answer parts from the first one where that was a close call. Elsewhere it is an error.
func (q *question) compare(got []token, part bool) (near bool, err error) {
	for i, t := range got {
		if i >= len(q.answer) {
			return false, fmt.Errorf("an answer of %d tokens has more", len(q.answer))
		}
		if t.text != q.answer[i].text {
			if q.answer[i].margin < closeCall {
				return true, nil
			}
			return false, fmt.Errorf("token %d behind %d tokens is %q, and %q with nobody else asking, by a margin of %.3f",
				i, len(q.prompt), t.text, q.answer[i].text, q.answer[i].margin)
		}
	}
	if !part && len(got) < len(q.answer) {
		return false, fmt.Errorf("an answer of %d tokens has %d", len(q.answer), len(got))
	}
	return false, nil
}

// ask asks a question, up to a token if after is not nil, and returns the tokens and how long the headers took.
func (s *soak) ask(ctx context.Context, q *question, after *int) (got []token, headers time.Duration, err error) {
	body, err := json.Marshal(map[string]any{"prompt": q.prompt, "max_tokens": q.tokens, "temperature": 0, "stream": true, "logprobs": 2})
	if err != nil {
		return nil, 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/completions", bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	begun := time.Now()
	a, err := s.client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer a.Body.Close()
	headers = time.Since(begun)
	if a.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("status %s", a.Status)
	}
	finish := ""
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok || data == "[DONE]" {
			continue
		}
		var event struct {
			Error   *struct{ Message string }
			Choices []struct {
				Finish *string `json:"finish_reason"`
				Probs  *struct {
					Tokens []string
					Probs  []float64            `json:"token_logprobs"`
					Top    []map[string]float64 `json:"top_logprobs"`
				} `json:"logprobs"`
			}
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return nil, 0, fmt.Errorf("an event is %q: %w", data, err)
		}
		if event.Error != nil {
			return nil, 0, errors.New(event.Error.Message)
		}
		for _, choice := range event.Choices {
			if choice.Finish != nil {
				finish = *choice.Finish
			}
			for i := 0; choice.Probs != nil && i < len(choice.Probs.Tokens); i++ {
				t := token{text: choice.Probs.Tokens[i], margin: 1e9}
				for other, p := range choice.Probs.Top[i] {
					if other != t.text {
						t.margin = min(t.margin, choice.Probs.Probs[i]-p)
					}
				}
				got = append(got, t)
			}
		}
		if after != nil && len(got) > *after {
			return got, headers, nil
		}
	}
	if finish == "" {
		return nil, 0, fmt.Errorf("an answer broke off after %d tokens", len(got))
	}
	return got, headers, nil
}

// memory is what a process has in memory, in bytes.
func memory(pid int) (int64, error) {
	if pid == 0 {
		return 0, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kb int64
	_, err = fmt.Sscan(rest, &kb)
	return kb << 10, err
}
