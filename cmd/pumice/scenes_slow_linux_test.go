package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// slowScenes names a folder for the model of TestScenesOfASlowModel, 0.6 GiB, which is made there once. The test takes minutes.
const slowScenes = "PUMICE_TEST_SLOW_SCENES"

// slowModel makes a model of a billion random weights with the program itself, and a tokenizer and chat format of XVERSE's.
func slowModel(t *testing.T, dir string) string {
	t.Helper()
	model := filepath.Join(dir, "xverse-1b-random-q4_0.gguf")
	if _, err := os.Stat(model); err == nil {
		return model
	}
	whole := filepath.Join(t.TempDir(), "whole")
	pumiceRun(t, "--quiet", "synth", "--family", "xverse", "--size", "7b", "--hidden", "2048", "--layers", "20", "--heads", "16", "--intermediate", "5632",
		"--vocab", "6000", "--context", "4096", "--type", "bf16", "-o", whole)
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text := readAll(t, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a", name))
		if err := os.WriteFile(filepath.Join(whole, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	pumiceRun(t, "--quiet", "quantize", whole, model, "--type", "q4_0")
	return model
}

// takes waits and returns how long it took.
func (s *stage) takes(what string, is func() bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	s.until(what, is)
	return time.Since(start)
}

// lastRow is the last row that has text.
func (s *stage) lastRow() string {
	rows, _, _ := s.rows()
	return rows[len(rows)-1]
}

// TestScenesOfASlowModel plays the scenes that a fast model is through with before anyone sees them, and reports times. What is
// typed and drawn must not wait for the device, which takes the machine's cores for itself where a CPU driver is one.
func TestScenesOfASlowModel(t *testing.T) {
	dir := os.Getenv(slowScenes)
	if dir == "" {
		t.Skip(slowScenes + " is not set")
	}
	model := slowModel(t, dir)
	s := chatOn(t, 80, 24, nil, model, "--temp", "0", "--context", "2048", "--kv-memory", "512M")
	s.patience = 5 * time.Minute
	long := strings.Repeat("words that take time ", 60)
	progress := regexp.MustCompile(`(?m)^[|/\\-] reading the prompt: (\d+) of (\d+) tokens`)
	reading := func() (done, of int) {
		m := progress.FindStringSubmatch(s.text())
		if m == nil {
			return 0, 0
		}
		done, _ = strconv.Atoi(m[1])
		of, _ = strconv.Atoi(m[2])
		return done, of
	}
	spinning := func() bool { return regexp.MustCompile(`(?m)^[|/\\-] reading the prompt`).MatchString(s.text()) }
	answering := func() bool {
		rows, _, _ := s.rows()
		return !spinning() && len(rows) > 1 && !strings.HasPrefix(s.lastRow(), ">>>")
	}
	// interrupts presses Ctrl-C and reports how long a text took to come.
	interrupts := func(text string) time.Duration {
		t.Helper()
		s.keys("\x03")
		return s.takes(fmt.Sprintf("no %q", text), func() bool { return strings.Contains(s.text(), text) })
	}

	s.clear()
	s.scene(t, "the first question compiles kernels: it is not measured", func() {
		s.keys("hello\r")
		t.Logf("first token after %v", s.takes("no answer", answering))
		interrupts("(stopped)")
		s.ends("(stopped)", ">>>")
	})
	s.scene(t, "the spinner turns until the first token", func() {
		s.keys("/reset\r")
		s.has("the conversation is forgotten")
		s.clear()
		start := time.Now()
		s.keys("another question, of a few words more than one\r")
		frames, last, gap := 0, "", time.Duration(0)
		for at := start; !answering(); time.Sleep(time.Millisecond) {
			if row := regexp.MustCompile(`(?m)^[|/\\-] reading.*$`).FindString(s.text()); row != "" && row != last {
				frames, last, gap, at = frames+1, row, max(gap, time.Since(at)), time.Now()
			}
		}
		t.Logf("first token after %v, %d pictures of the spinner, at most %v apart", time.Since(start), frames, gap)
		if frames < 3 {
			t.Errorf("%d pictures of the spinner", frames)
		}
		time.Sleep(time.Second)
	})
	s.scene(t, "Ctrl-C stops an answer within a tenth of a second", func() {
		var times []time.Duration
		for range 5 {
			times = append(times, interrupts("(stopped)"))
			s.ends("(stopped)", ">>>")
			s.clear()
			s.keys("more\r")
			s.until("no answer", answering)
			time.Sleep(700 * time.Millisecond)
		}
		t.Logf("it stopped after %v", times)
		s.quick(times)
	})
	s.scene(t, "what is typed in an answer is seen at once, and waits", func() {
		var times []time.Duration
		for i := range 8 {
			typed := strings.Repeat("x", i+1)
			s.keys("x")
			times = append(times, s.takes("the key is not seen", func() bool { return s.lastRow() == "(next) "+typed }))
			time.Sleep(100 * time.Millisecond)
		}
		t.Logf("a key was seen after %v", times)
		s.quick(times)
		s.keys("\rlater")
		s.until("it is not seen to wait", func() bool { return strings.HasSuffix(s.text(), "\n(next) xxxxxxxx\n(next) later") })
		s.keys("\x03")
		s.has("(stopped)\n>>> xxxxxxxx")
		s.until("the prompt isn't read", spinning)
		s.until("no answer", func() bool { return !spinning() })
		s.keys("\x03")
		s.ends("(stopped)", ">>> later")
		s.keys("\x15")
		s.ends(">>>")
	})
	s.scene(t, "the terminal changes its size in an answer", func() {
		s.clear()
		s.keys("again\r")
		s.until("no answer", answering)
		for _, width := range []int{60, 100, 40, 80} {
			time.Sleep(time.Second)
			s.resize(width, 24)
			s.takes("nothing is drawn", func() bool { rows, _, _ := s.rows(); return len(rows) > 1 })
		}
		time.Sleep(time.Second)
		interrupts("(stopped)")
		s.ends("(stopped)", ">>>")
		if n := strings.Count(s.text(), ">>>"); n > 2 {
			t.Errorf("%d prompts:\n%s", n, s.text())
		}
	})
	s.scene(t, "the progress of a long prompt is seen in tokens", func() {
		s.keys("/reset\r")
		s.has("the conversation is forgotten")
		s.clear()
		s.keys(paste(long) + "\r")
		var seen []int
		_, of := 0, 0
		gap, at := time.Duration(0), time.Now()
		start := at
		for !answering() {
			if done, all := reading(); done > 0 && (len(seen) == 0 || done != seen[len(seen)-1]) {
				seen, of = append(seen, done), all
				gap, at = max(gap, time.Since(at)), time.Now()
			}
			time.Sleep(2 * time.Millisecond)
			if time.Since(start) > s.patience {
				t.Fatalf("no answer; screen:\n%s", s.text())
			}
		}
		t.Logf("%d tokens in %v: %d counts, at most %v apart", of, time.Since(start), len(seen), gap)
		if len(seen) < 8 {
			t.Errorf("only %d counts", len(seen))
		}
		interrupts("(stopped)")
		s.ends("(stopped)", ">>>")
	})
	s.scene(t, "Ctrl-C stops a long prompt within a tenth of a second, and takes the question back", func() {
		var times, next []time.Duration
		for i := range 5 {
			s.keys("/reset\r")
			s.has("the conversation is forgotten")
			s.clear()
			s.keys(paste(fmt.Sprint(i, " ", long)) + "\r")
			s.until("no progress", func() bool { done, _ := reading(); return done > 0 })
			times = append(times, interrupts("(stopped) before the answer began: the conversation is as it was"))
			s.until("the question is lost", func() bool { return strings.HasSuffix(s.text(), "take time") })
			s.keys("\x03")
			s.ends(">>>")
			s.enter("/list", ">>> /list", "*  1  0 messages")
			s.keys("short\r")
			next = append(next, s.takes("no answer", answering))
			interrupts("(stopped)")
			s.ends("(stopped)", ">>>")
		}
		t.Logf("it stopped after %v; the first token of a question after that took %v", times, next)
		s.quick(times)
	})
	s.keys("\x04")
	s.leaves()
}

// quick fails unless half of some times are below a tenth of a second: other programs may have the machine.
func (s *stage) quick(times []time.Duration) {
	s.t.Helper()
	n := 0
	for _, d := range times {
		if d < 100*time.Millisecond {
			n++
		}
	}
	if 2*n < len(times) {
		s.t.Errorf("only %d of %d within 100 ms: %v", n, len(times), times)
	}
}
