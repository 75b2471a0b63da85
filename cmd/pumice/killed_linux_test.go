package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// partials lists the unfinished files of a folder.
func partials(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, ".*.pumice-partial"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestQuantizeAfterAKill ends quantize while it writes, by each signal, and runs it again.
func TestQuantizeAfterAKill(t *testing.T) {
	t.Parallel()
	model := filepath.Join(t.TempDir(), "model")
	if err := writeXVERSE(model, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	for name, signal := range map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := filepath.Join(dir, "out.gguf")
			if err := os.WriteFile(out, []byte("old"), 0o640); err != nil {
				t.Fatal(err)
			}
			args := []string{"--quiet", "quantize", model, out, "--type", "iq4_nl", "--force"}
			c := exec.Command("pumice", args...)
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(time.Minute); len(partials(t, dir)) == 0; time.Sleep(100 * time.Microsecond) {
				if time.Now().After(deadline) {
					t.Fatal("nothing is written")
				}
			}
			if err := c.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			c.Wait()
			if left := partials(t, dir); len(left) > 0 && signal != syscall.SIGKILL {
				t.Errorf("left behind: %v", left)
			}
			if got := string(readAll(t, out)); got != "old" && !strings.HasPrefix(got, "GGUF") {
				t.Errorf("neither the old file nor a new one: %.20q", got)
			}
			if messages, err := exec.Command("pumice", args...).CombinedOutput(); err != nil {
				t.Fatalf("the next run: %v: %s", err, messages)
			}
			if left := partials(t, dir); len(left) > 0 {
				t.Errorf("left behind after the next run: %v", left)
			}
			info, err := os.Stat(out)
			if err != nil || info.Mode() != 0o640 || info.Size() < 1e5 {
				t.Errorf("%v bytes, permissions %v: %v", info.Size(), info.Mode(), err)
			}
		})
	}
}
