package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"pumice"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/synth"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := gputest.ReportCompiles(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}))
}

// writeModel writes a tiny XVERSE with random weights and a tokenizer.
func writeModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	s.Vocab = 6016 // 6000 are the tokenizer's
	if err := synth.Write(t.Context(), dir, s, synth.Options{DType: dtype.F32, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join("..", "tokenizer", "testdata", "xverse-a", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A client asks a server under test.
type client struct {
	*httptest.Server
	t      *testing.T
	engine *pumice.Engine
}

func newClient(t *testing.T, change func(o *Options)) *client {
	t.Helper()
	return newClientOf(t, writeModel(t), pumice.Options{Context: 200}, change)
}

// newClientOf is newClient for a model and how to open it.
func newClientOf(t *testing.T, dir string, with pumice.Options, change func(o *Options)) *client {
	t.Helper()
	gputest.Open(t) // or skip
	c := &client{t: t}
	o := Options{Models: []Model{{Name: "tiny", Aliases: []string{"small"}, Open: func(ctx context.Context) (*pumice.Engine, error) {
		with.DType, with.KVType, with.Device = "f32", "f32", os.Getenv("PUMICE_DEVICE")
		e, err := pumice.Open(ctx, dir, with)
		c.engine = e
		return e, err
	}}}}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		c.Close()
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// ask posts a body, or gets without one, and returns what comes back.
func (c *client) ask(path, body string, header ...string) (int, []byte) {
	c.t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		c.t.Error(err)
	}
	return a.StatusCode, text
}

// get is ask for an answer that is as it should be.
func get[T any](c *client, path, body string) (v T) {
	c.t.Helper()
	code, text := c.ask(path, body)
	if code != http.StatusOK {
		c.t.Errorf("%s %s: %d %s", path, body, code, text)
		return v
	}
	if err := json.Unmarshal(text, &v); err != nil {
		c.t.Errorf("%s: %v in %s", path, err, text)
	}
	return v
}

// events are the JSON values of a stream, which ends as OpenAI's does.
func events(t *testing.T, text []byte) (list []map[string]any) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(text))
	ended := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok:
		case data == "[DONE]":
			ended = true
		default:
			var v map[string]any
			if err := json.Unmarshal([]byte(data), &v); err != nil || ended {
				t.Fatalf("%v, ended %t: %s", err, ended, data)
			}
			list = append(list, v)
		}
	}
	if !ended {
		t.Errorf("no [DONE] in %s", text)
	}
	return list
}

// at is a value inside others: keys of objects and places in lists.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}
