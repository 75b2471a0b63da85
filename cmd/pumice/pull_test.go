package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestPull fetches a GGUF model from a server, is interrupted, goes on, and the model is found by its name.
func TestPull(t *testing.T) {
	t.Parallel()
	model, err := os.ReadFile(filepath.Join(top(t), "testdata", "fixtures", "llama", "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(model)
	hash := hex.EncodeToString(sum[:])
	var stuck atomic.Bool
	stuck.Store(true)
	begun := make(chan struct{}, 1)
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/api/models/o/n/"):
			fmt.Fprintf(w, `{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"a-Q8_0.gguf","size":%d,"lfs":{"sha256":"%s","size":%d}}]}`, len(model), hash, len(model))
		case stuck.Load():
			w.Header().Set("Content-Length", fmt.Sprint(len(model)))
			w.Write(model[:len(model)/2])
			http.NewResponseController(w).Flush()
			begun <- struct{}{}
			<-r.Context().Done()
		default:
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(model)))
		}
	}))
	defer hub.Close()
	home := t.TempDir()
	environment := append(os.Environ(), "HF_ENDPOINT="+hub.URL, "HF_HOME="+home, "HF_HUB_CACHE=", "HF_TOKEN=hf_secret", "OLLAMA_MODELS="+home, "XDG_CACHE_HOME="+home)
	run := func(args ...string) *exec.Cmd {
		c := exec.Command("pumice", args...) // testscript.Main put it into PATH
		c.Env = environment
		return c
	}
	c := run("pull", "hf:o/n:Q8_0")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-begun
	time.Sleep(50 * time.Millisecond) // what was sent may not have come
	c.Process.Signal(syscall.SIGINT)
	if err := c.Wait(); c.ProcessState.ExitCode() != exitInterrupted {
		t.Errorf("%v, want status %d", err, exitInterrupted)
	}
	part, err := os.ReadFile(filepath.Join(home, "hub", "models--o--n", "blobs", hash+".incomplete"))
	if err != nil || len(part) == 0 || !strings.HasPrefix(string(model), string(part)) {
		t.Errorf("%d bytes, %v; want a beginning", len(part), err)
	}
	stuck.Store(false)
	out, err := run("pull", "hf:o/n:Q8_0", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	fits(t, "pull", string(out))
	for _, want := range []struct{ args, out string }{
		{"pull hf:o/n:Q8_0", "hf:o/n:a-Q8_0.gguf\n"},
		{"list", "hf:o/n:a-Q8_0.gguf"},
		{"rm hf:o/n:Q8_0", "1.4 MiB freed\n"},
	} {
		out, err := run(strings.Fields(want.args)...).Output()
		if err != nil || !strings.Contains(string(out), want.out) {
			t.Errorf("%s: %q, %v; want %q", want.args, out, err, want.out)
		}
	}
}

// TestFlaggedModelIsFetched: -hf fetches what is not on this machine, once, and nothing else connects.
func TestFlaggedModelIsFetched(t *testing.T) {
	t.Parallel()
	model := ungzip(t, filepath.Join(top(t), "testdata", "gguf", "llama.gguf.gz"))
	sum := sha256.Sum256(model)
	var requests atomic.Int32
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if strings.HasPrefix(r.URL.Path, "/api/models/o/n/") {
			fmt.Fprintf(w, `{"sha":"0123456789abcdef0123456789abcdef01234567","siblings":[{"rfilename":"a-F32.gguf","size":%d,"lfs":{"sha256":"%x","size":%d}}]}`, len(model), sum, len(model))
			return
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(model))
	}))
	defer hub.Close()
	home := t.TempDir()
	for _, step := range []struct {
		args     []string
		out      string // of both streams
		requests bool
	}{
		{[]string{"inspect", "hf:o/n"}, "fetch it with `pumice pull hf:o/n`", false},
		{[]string{"inspect", "-m", "hf:o/n"}, "fetch it with `pumice pull hf:o/n`", false},
		{[]string{"inspect", "-hf", "o/n"}, "family llama", true},
		{[]string{"inspect", "-hf", "o/n:F32"}, "family llama", false},
		{[]string{"inspect", "-hf", "hf:o/n:a-F32.gguf"}, "family llama", false},
		{[]string{"inspect", "-hf", "o/n:Q8_0"}, `no file "Q8_0"`, true},
		{[]string{"inspect", "-hf", "o/../n"}, "want hf:owner/name", false},
	} {
		requests.Store(0)
		c := exec.Command("pumice", step.args...) // testscript.Main put it into PATH
		c.Env = append(os.Environ(), "HF_ENDPOINT="+hub.URL, "HF_HOME="+home, "HF_HUB_CACHE=", "HF_HUB_OFFLINE=", "OLLAMA_MODELS="+home, "XDG_CACHE_HOME="+home)
		out, _ := c.CombinedOutput()
		if !strings.Contains(string(out), step.out) || requests.Load() > 0 != step.requests {
			t.Errorf("%q: %d requests, %s; want %q", step.args, requests.Load(), out, step.out)
		}
	}
}

func ungzip(t *testing.T, name string) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(readAll(t, name)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
