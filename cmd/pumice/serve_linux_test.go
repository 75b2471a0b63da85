package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServeFinishesAnswers asks a server for an answer and has it end meanwhile: the answer is whole, and nobody else is let in.
func TestServeFinishesAnswers(t *testing.T) {
	t.Parallel()
	c := command(t, "serve", "tiny="+filepath.Join(top(t), "testdata", "fixtures", "llama"), "--port", "0", "--context", "512")
	messages, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Process.Kill()
	url, lines := "", bufio.NewScanner(messages)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "tiny is loaded") {
		if m := regexp.MustCompile(`^listening on (http://127\.0\.0\.1:\d+)$`).FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	const tokens = 400
	body := fmt.Sprintf(`{"prompt":[51,165,336],"max_tokens":%d,"temperature":0,"ignore_eos":true,"stream":true,"logprobs":0}`, tokens)
	answer, err := http.Post(url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	got, finish := 0, ""
	for events := bufio.NewScanner(answer.Body); events.Scan(); {
		var e struct {
			Choices []struct {
				Probs  *struct{ Tokens []string } `json:"logprobs"`
				Finish *string                    `json:"finish_reason"`
			}
		}
		if data, ok := strings.CutPrefix(events.Text(), "data: "); !ok || json.Unmarshal([]byte(data), &e) != nil {
			continue
		}
		for _, x := range e.Choices {
			if x.Probs != nil {
				if got++; got == 3 {
					c.Process.Signal(syscall.SIGTERM)
				}
				if got == 200 {
					if _, err := http.Get(url + "/health"); err == nil {
						t.Error("a server that ends lets others in")
					}
				}
			}
			if x.Finish != nil {
				finish = *x.Finish
			}
		}
	}
	if got != tokens || finish != "length" {
		t.Errorf("%d tokens, finish reason %q", got, finish)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the server: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server doesn't end")
	}
}
