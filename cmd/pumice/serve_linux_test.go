package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startServer starts a server with a small model and returns its address.
func startServer(t *testing.T, flags ...string) (*exec.Cmd, string) {
	t.Helper()
	args := []string{"serve", "tiny=" + filepath.Join(top(t), "testdata", "fixtures", "llama"), "--port", "0", "--context", "512"}
	c := command(t, append(args, flags...)...)
	messages, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Process.Kill() })
	url, lines := "", bufio.NewScanner(messages)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "tiny is loaded") {
		if m := regexp.MustCompile(`^listening on (http://127\.0\.0\.1:\d+)$`).FindStringSubmatch(lines.Text()); m != nil {
			url = m[1]
		}
	}
	return c, url
}

// TestServeFinishesAnswers asks a server for an answer and has it end meanwhile: the answer is whole, and nobody else is let in.
func TestServeFinishesAnswers(t *testing.T) {
	t.Parallel()
	c, url := startServer(t)
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

// TestServeFindsTextsAfterAKill kills a server that keeps texts in files. The next one evaluates a prompt's beginning no more,
// whichever files are damaged, and answers as before.
func TestServeFindsTextsAfterAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prompt := make([]int, 200) // three pages and a part
	for i := range prompt {
		prompt[i] = 3 + i*7%300
	}
	body, err := json.Marshal(map[string]any{"prompt": prompt, "max_tokens": 20, "temperature": 0, "ignore_eos": true})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(url string) (text string, cached int) {
		t.Helper()
		answer, err := http.Post(url+"/v1/completions", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		var a struct {
			Choices []struct{ Text string }
			Usage   struct {
				Details struct {
					Cached int `json:"cached_tokens"`
				} `json:"prompt_tokens_details"`
			}
		}
		if err := json.NewDecoder(answer.Body).Decode(&a); err != nil || len(a.Choices) != 1 {
			t.Fatalf("%s: %v", answer.Status, err)
		}
		return a.Choices[0].Text, a.Usage.Details.Cached
	}
	pages := func() []string {
		list, err := filepath.Glob(filepath.Join(dir, "kv", "*", "*.global"))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	first := ""
	for run, want := range []int{0, 192, 0} {
		c, url := startServer(t, "--cache-dir", dir)
		text, cached := ask(url)
		if run == 0 {
			first = text
		}
		if text != first || cached != want {
			t.Errorf("run %d: %d tokens found, want %d; the answer is %q, was %q", run, cached, want, text, first)
		}
		for range 200 { // written behind the answer
			if len(pages()) == 3 {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		c.Process.Kill()
		c.Wait()
		files := pages()
		if len(files) != 3 {
			t.Fatalf("run %d: %d pages are kept", run, len(files))
		}
		if run == 1 {
			for i, name := range files {
				b, err := os.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				b[i*len(b)/3]++
				if err := os.WriteFile(name, b[:len(b)-i%2], 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
