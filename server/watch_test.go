package server

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"pumice"
)

// TestWatchTellsOfStepsWithoutTexts: whoever watches sees what an answer has taken, and no token of it.
func TestWatchTellsOfStepsWithoutTexts(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Keys = []string{"key"} })
	if code, text := c.ask("/watch", ""); code != http.StatusUnauthorized {
		t.Errorf("without a key: %d %s", code, text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/watch", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer key")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	lines := bufio.NewScanner(a.Body)
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
	if name, data := next(); name != "engine" || json.Unmarshal([]byte(data), &about) != nil || about.Model != "tiny" ||
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
