package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pumice"
)

// promised is how soon a command ends after a signal.
const promised = 2 * time.Second

// signalled sends a signal to a running command and returns how long it took to end. It fails the test unless the command's status is
// that of an interrupted one.
func signalled(t *testing.T, c *exec.Cmd, s syscall.Signal) time.Duration {
	t.Helper()
	skipIgnored(t, s)
	start := time.Now()
	if err := c.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(time.Minute, func() { c.Process.Kill() })
	defer kill.Stop()
	c.Wait()
	took := time.Since(start)
	if got := c.ProcessState.ExitCode(); got != exitInterrupted {
		t.Errorf("%v after %v, want status %d; %s", c.ProcessState, took, exitInterrupted, c.Stderr)
	}
	if took > promised {
		t.Errorf("it took %v to end", took)
	}
	return took
}

// skipIgnored skips a test of hangups where these are ignored, as under nohup: the commands inherit it.
func skipIgnored(t *testing.T, s syscall.Signal) {
	t.Helper()
	if s == syscall.SIGHUP && signal.Ignored(s) {
		t.Skip("hangups are ignored here")
	}
}

// TestSignalEndsACommandThatWaits sends a signal to commands that wait for what never comes.
func TestSignalEndsACommandThatWaits(t *testing.T) {
	t.Parallel()
	model := filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, bytes.Repeat([]byte("Hello, world! "), 1e4), 0o600); err != nil {
		t.Fatal(err)
	}
	const atOnce, forced = "pumice: interrupted\n", "pumice: stopped without finishing: "
	for name, c := range map[string]struct {
		args    []string
		signal  syscall.Signal
		reading string // a pipe that it opens to read
		line    string // that it answers on standard output
		says    string
	}{
		"lines from a pipe":         {[]string{"tokenize", model, "--jsonl"}, syscall.SIGTERM, "", `{"text":"a"}` + "\n", atOnce},
		"ids from a pipe":           {[]string{"detokenize", model, "--jsonl"}, syscall.SIGHUP, "", `{"ids":[1]}` + "\n", atOnce},
		"messages from a FIFO":      {[]string{"chat", model, "--messages", fifo}, syscall.SIGINT, fifo, "", atOnce},
		"a prompt from a FIFO":      {[]string{"generate", model, "--prompt-file", fifo + "2"}, syscall.SIGTERM, fifo + "2", "", atOnce},
		"nobody reads what it says": {[]string{"tokenize", model, "--file", long}, syscall.SIGTERM, "", "\n", forced + "the command had not ended"},
		"a second signal":           {[]string{"tokenize", model, "--file", long, "--json"}, syscall.SIGINT, "", "\n", forced + "a second signal"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command("pumice", c.args...)
			cmd.Stderr = &bytes.Buffer{}
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if c.reading != "" && c.reading != fifo {
				if err := syscall.Mkfifo(c.reading, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			if c.reading != "" {
				pipe, err := os.OpenFile(c.reading, os.O_WRONLY, 0) // waits for the reader
				if err != nil {
					t.Fatal(err)
				}
				defer pipe.Close()
			}
			if c.line != "" {
				fmt.Fprint(in, c.line)
				if _, err := io.ReadFull(out, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
			}
			if strings.HasSuffix(c.says, "second signal") {
				cmd.Process.Signal(syscall.SIGTERM)
				time.Sleep(3 * repeat / 2)
			}
			signalled(t, cmd, c.signal)
			if got := fmt.Sprint(cmd.Stderr); !strings.HasPrefix(got, c.says) || strings.Count(got, "\n") != 1 {
				t.Errorf("it said %q, want %q", got, c.says)
			}
		})
	}
}

// TestSignalEndsALongPrompt interrupts the evaluation of a prompt that takes longer than the promise.
func TestSignalEndsALongPrompt(t *testing.T) {
	t.Parallel()
	c, _, messages := begin(t, "--log-level", "debug", "bench", filepath.Join(top(t), "testdata", "fixtures", "llama"), "-p", "60000", "-n", "0", "-r", "1000", "--stamp=false")
	lines := bufio.NewScanner(messages)
	for lines.Scan() && !strings.Contains(lines.Text(), "weights are on the device") {
	}
	go io.Copy(io.Discard, messages)
	time.Sleep(500 * time.Millisecond) // the prompt takes a minute
	signalled(t, c, syscall.SIGTERM)
}

// begin starts the program, whose standard output is collected, and returns the end of its messages to read from.
func begin(t *testing.T, args ...string) (c *exec.Cmd, out *bytes.Buffer, messages io.Reader) {
	t.Helper()
	c, out = command(t, args...), &bytes.Buffer{}
	c.Stdout = out
	messages, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c, out, messages
}

// TestInterruptedAnswerIsWritten interrupts a generation whose answer is written at the end. A moment after the model is there it has
// some tokens, sooner or later.
func TestInterruptedAnswerIsWritten(t *testing.T) {
	t.Parallel()
	for delay := 100 * time.Millisecond; ; delay *= 2 {
		c, out, messages := begin(t, "--log-level", "debug", "generate", filepath.Join(top(t), "testdata", "fixtures", "llama"), "--tokens", "51", "--temp", "0", "-n", "0", "--ignore-eos", "--json")
		lines := bufio.NewScanner(messages)
		for lines.Scan() && !strings.Contains(lines.Text(), "weights are on the device") {
		}
		time.Sleep(delay)
		if err := c.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		rest, _ := io.ReadAll(messages)
		c.Wait()
		var r pumice.Result
		var err error
		if out.Len() > 0 { // perhaps before the first token
			err = json.Unmarshal(out.Bytes(), &r)
		}
		if err == nil && len(r.Tokens) == 0 && delay < 5*time.Second {
			continue
		}
		if err != nil || len(r.Tokens) == 0 || r.FinishReason != "" || c.ProcessState.ExitCode() != exitInterrupted {
			t.Errorf("%v; %d tokens, finish reason %q: %v\n%s", c.ProcessState, len(r.Tokens), r.FinishReason, err, rest)
		}
		return
	}
}

// TestSignalEndsAConversation sends signals to a conversation at its prompt and in an answer; the terminal is as before.
func TestSignalEndsAConversation(t *testing.T) {
	t.Parallel()
	model := filepath.Join(t.TempDir(), "model")
	if err := writeXVERSE(model, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		signal syscall.Signal
		answer bool // in an answer
	}{
		"TERM at the prompt": {syscall.SIGTERM, false},
		"HUP at the prompt":  {syscall.SIGHUP, false},
		"TERM in an answer":  {syscall.SIGTERM, true},
		"HUP in an answer":   {syscall.SIGHUP, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, "chat", model, "--temp", "1", "--seed", "1")
			terminal, err := openTerminal(cmd)
			if err != nil {
				t.Skipf("no pseudo-terminal: %v", err)
			}
			defer terminal.Close()
			inner := cmd.Stdin.(*os.File)
			defer inner.Close()
			before, err := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			screen := watch(terminal)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Process.Kill()
			screen.await(t, ">>> ")
			if c.answer {
				fmt.Fprint(terminal, "ask\r")
				screen.await(t, "ask\r\n")
				screen.awaitAnswer(t)
			}
			signalled(t, cmd, c.signal)
			if !c.answer {
				screen.await(t, "\r\n") // after the prompt
				screen.await(t, "pumice: interrupted\r\n")
			}
			after, err := unix.IoctlGetTermios(int(inner.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v and is %+v: %v", before, after, err)
			}
		})
	}
}

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
	for name, s := range map[string]syscall.Signal{"KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "HUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			skipIgnored(t, s)
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
			if err := c.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if s == syscall.SIGTERM {
				c.Process.Signal(s) // as timeout(1) does
			}
			c.Wait()
			if left := partials(t, dir); len(left) > 0 && s != syscall.SIGKILL {
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
