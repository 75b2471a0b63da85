package server

import (
	"bufio"
	"context"
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"pumice"
)

// watching are the lines of a stream of events, which ends with stop, or after a minute.
func watching(t *testing.T, c *client, path string) (lines *bufio.Scanner, stop func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer key")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(a.Body), func() {
		a.Body.Close()
		cancel()
	}
}

// TestWatchTellsOfStepsWithoutTexts: whoever watches sees what an answer has taken, and no token of it.
func TestWatchTellsOfStepsWithoutTexts(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Keys = []string{"key"} })
	if code, text := c.ask("/watch", ""); code != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", code, text)
	}
	lines, stop := watching(t, c, "/watch")
	defer stop()
	next := func() (name, data string) {
		t.Helper()
		for lines.Scan() {
			if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				name = n
			}
			if d, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return name, d
			}
		}
		t.Fatalf("the events have ended: %v", lines.Err())
		return "", ""
	}
	var about Engine
	if name, data := next(); name != "engine" || json.Unmarshal([]byte(data), &about) != nil || about.Model != "tiny" || about.Layers == 0 || about.Heads == 0 ||
		about.Context != 200 || len(about.Devices) != 1 || about.Memory.PageBytes == 0 {
		t.Errorf("first %s %s", name, data)
	}
	var metrics pumice.Metrics
	if name, data := next(); name != "metrics" || json.Unmarshal([]byte(data), &metrics) != nil || metrics.Pages.Free == 0 {
		t.Errorf("second %s %s", name, data)
	}
	for { // until the goroutine of the request watches
		if code, text := c.ask("/v1/completions", `{"prompt":[1,2,3],"max_tokens":4,"temperature":0}`, "X-Api-Key", "key"); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
		if _, data := next(); strings.Contains(data, `"lookup"`) {
			break
		}
	}
	tokens := 0
	for tokens < 4 {
		name, data := next()
		if name != "" {
			continue
		}
		var e pumice.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil || e.Time.IsZero() {
			t.Fatalf("%v: %s", err, data)
		}
		if e.Step == nil {
			continue
		}
		if len(e.Step.Pieces) != 1 || e.Step.Pieces[0].Pages != 1 || strings.Contains(data, `"tokens":[`) {
			t.Errorf("a step: %s", data)
		}
		tokens += e.Step.Tokens + e.Step.PromptTokens
	}
	c.Config.Handler.(*Server).EndWatches()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the end: %v", err)
	}
}

// TestWatchAttention: weights of attention come while somebody asks for them, those of the last tokens, and without texts.
func TestWatchAttention(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Keys = []string{"key"} })
	if code, text := c.ask("/watch/attention", ""); code != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", code, text)
	}
	for _, query := range []string{"?layer=-1", "?layer=99", "?head=99", "?head=-2", "?layer=x", "?head=x"} {
		if code, text := c.ask("/watch/attention"+query, "", "Authorization", "Bearer key"); code != http.StatusBadRequest {
			t.Errorf("%s: %d %s", query, code, text)
		}
	}
	lines, stop := watching(t, c, "/watch/attention?layer=1&head=1")
	defer stop()
	event := make(chan Attention, 1)
	go func() {
		defer close(event)
		for lines.Scan() {
			if d, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				var e Attention
				if err := json.Unmarshal([]byte(d), &e); err != nil {
					t.Errorf("%v: %s", err, d)
				}
				event <- e
				return
			}
		}
	}()
	var got Attention
	for got.Weights == nil { // until the goroutine of the request watches
		if code, text := c.ask("/v1/completions", `{"prompt":[1,2,3],"max_tokens":4,"temperature":0}`, "X-Api-Key", "key"); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
		select {
		case got = <-event:
		case <-time.After(50 * time.Millisecond):
		}
	}
	sum := 0.0
	for _, w := range got.Weights {
		sum += float64(w)
	}
	if got.Session < 1 || got.Layer != 1 || got.Head != 1 || got.First != 0 || len(got.Weights) != got.Position+1 || math.Abs(sum-1) > 1e-5 {
		t.Errorf("%+v, together %g", got, sum)
	}
}
