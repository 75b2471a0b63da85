package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestLogSaysWhereThePromptsPart has two prompts with a common beginning, and looks for the log's lines about them.
func TestLogSaysWhereThePromptsPart(t *testing.T) {
	lines := make(logLines, 1000)
	c := newClient(t, func(o *Options) { o.Logger = zerolog.New(lines) })
	looked := func(prompt []int) string {
		t.Helper()
		body, err := json.Marshal(map[string]any{"prompt": prompt, "max_tokens": 1})
		if err != nil {
			t.Fatal(err)
		}
		if code, text := c.ask("/v1/completions", string(body)); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
		for {
			select {
			case line := <-lines:
				if strings.Contains(line, "looked up") && strings.Contains(line, fmt.Sprintf(`"tokens":%d,`, len(prompt))) {
					return line
				}
			case <-time.After(time.Second):
				return ""
			}
		}
	}
	for try := 0; looked([]int{5}) == ""; try++ { // the log begins a moment after the model is loaded
		if try == 20 {
			t.Fatal("the log has no lookups")
		}
	}
	first, second := make([]int, 150), make([]int, 150)
	for i := range first {
		first[i], second[i] = 10+i, 10+i
	}
	second[100] = 7
	if line, want := looked(first), `"cached":0,"differs_at":0`; !strings.Contains(line, want) {
		t.Errorf("the log has %s, not %s", line, want)
	}
	if line, want := looked(second), `"cached":100,"differs_at":100`; !strings.Contains(line, want) {
		t.Errorf("the log has %s, not %s", line, want)
	}
}

// logLines are the lines of a log.
type logLines chan string

func (l logLines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestManyClients has clients ask at the same time, some of whom leave, and compares each answer with that to the same question
// alone.
func TestManyClients(t *testing.T) {
	c := newClient(t, nil)
	body := func(i int) string {
		return fmt.Sprintf(`{"prompt":"Question %d of many","max_tokens":%d,"temperature":0}`, i, 3+i%17)
	}
	const questions = 24
	var want [questions]any
	for i := range questions {
		want[i] = at(get[map[string]any](c, "/v1/completions", body(i)), "choices", 0, "text")
	}
	var wait sync.WaitGroup
	for client := range 12 {
		wait.Go(func() {
			for n := range 8 {
				i := (client*7 + n*5) % questions
				if n%4 == 3 {
					ctx, cancel := context.WithCancel(t.Context())
					r, _ := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/v1/completions", strings.NewReader(`{"prompt":"`+body(i)[11:20]+`","stream":true,"max_tokens":100}`))
					if a, err := http.DefaultClient.Do(r); err == nil {
						_, _ = a.Body.Read(make([]byte, 10))
						cancel()
						a.Body.Close()
					}
					cancel()
					continue
				}
				if got := at(get[map[string]any](c, "/v1/completions", body(i)), "choices", 0, "text"); got != want[i] {
					t.Errorf("question %d: %q, alone %q", i, got, want[i])
				}
			}
		})
	}
	wait.Wait()
	if m := c.engine.Metrics(); m.SharedSteps == 0 {
		t.Error("no step was shared")
	}
	var metrics string
	for range 200 { // until those that have left are gone
		_, text := c.ask("/metrics", "")
		if metrics = string(text); strings.Contains(metrics, `llamacpp:requests_processing{model_name="tiny"} 0`) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(metrics, `llamacpp:tokens_predicted_total{model_name="tiny"}`) || !strings.Contains(metrics, `llamacpp:requests_processing{model_name="tiny"} 0`) {
		t.Error(metrics)
	}
}
