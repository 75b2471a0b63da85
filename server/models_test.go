package server

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pumice"
)

// TestHealthSaysWhenTheFirstModelIsReady: from the first request on, hosts that poll it know.
func TestHealthSaysWhenTheFirstModelIsReady(t *testing.T) {
	ready := make(chan struct{})
	c := newClient(t, func(o *Options) {
		o.Preload = true
		open := o.Models[0].Open
		o.Models[0].Open = func(ctx context.Context) (*pumice.Engine, error) {
			<-ready
			return open(ctx)
		}
	})
	if code, text := c.ask("/health", ""); code != http.StatusServiceUnavailable || !strings.Contains(string(text), "Loading model") {
		t.Errorf("while it loads: %d %s", code, text)
	}
	close(ready)
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	if code, text := c.ask("/health", ""); code != http.StatusOK {
		t.Errorf("%d %s", code, text)
	}
}

// TestModelsAreUnloadedOnRequest: a model that answers stays; one that does not is loaded again when it is asked for.
func TestModelsAreUnloadedOnRequest(t *testing.T) {
	c := newClient(t, nil)
	state := func() any { return at(get[map[string]any](c, "/v1/models", ""), "data", 0, "status", "value") }
	if got := state(); got != "unloaded" {
		t.Errorf("at first it is %v", got)
	}
	answer, err := http.Post(c.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a","max_tokens":150,"ignore_eos":true,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if code, text := c.ask("/models/unload", `{"model":"small"}`); code != http.StatusConflict || state() != "loaded" {
		t.Errorf("while it answers: %d %s, %v", code, text, state())
	}
	io.Copy(io.Discard, answer.Body)
	for c.engine.Metrics().Sessions > 0 {
		time.Sleep(time.Millisecond)
	}
	for code := 0; code != http.StatusOK; code, _ = c.ask("/models/unload", `{"model":"tiny"}`) { // the use ends after the session
	}
	if got := state(); got != "unloaded" {
		t.Errorf("then it is %v", got)
	}
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	if got := state(); got != "loaded" {
		t.Errorf("asked for again it is %v", got)
	}
	if code, _ := c.ask("/models/unload", `{"model":"nobody"}`); code != http.StatusNotFound {
		t.Errorf("an unknown name: %d", code)
	}
}

func TestModelsAreLoadedWhenTheyAreAskedFor(t *testing.T) {
	c := newClient(t, nil)
	if list := get[map[string]any](c, "/v1/models", ""); at(list, "data", 0, "meta") != nil || at(list, "data", 0, "id") != "tiny" {
		t.Errorf("%v", list)
	}
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	list := get[map[string]any](c, "/v1/models", "")
	if at(list, "data", 0, "status", "value") != "loaded" || at(list, "data", 0, "meta", "sessions") != 0.0 {
		t.Errorf("%v", list)
	}
	if at(list, "data", 0, "meta", "n_ctx") != 200.0 || !slices.Equal(at(list, "data", 0, "aliases").([]any), []any{"small"}) {
		t.Errorf("%v", list)
	}
}
