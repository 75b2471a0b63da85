package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pumice/internal/vkfault"
)

// command prepares the program as a child process, on fixtures and caches of the test.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	c := exec.Command("pumice", args...) // testscript.Main put it into PATH
	c.Env = append(os.Environ(), "XDG_CACHE_HOME="+t.TempDir(), "XDG_STATE_HOME="+t.TempDir())
	return c
}

func TestInterruptEndsWithStatus130(t *testing.T) {
	c := command(t, "--quiet", "generate", filepath.Join(top(t), "testdata", "fixtures", "llama"), "--tokens", "51", "--temp", "0", "-n", "0", "--ignore-eos")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var messages bytes.Buffer
	c.Stderr = &messages
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 8)); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	c.Wait()
	if got := c.ProcessState.ExitCode(); got != exitInterrupted || messages.String() != "pumice: interrupted\n" {
		t.Errorf("status %d, %q; want %d and one line", got, messages.String(), exitInterrupted)
	}
}

// TestOneInterruptEndsACommandOnAHungDevice has the device stop working after the second token.
func TestOneInterruptEndsACommandOnAHungDevice(t *testing.T) {
	t.Parallel()
	c := command(t, "--quiet", "generate", filepath.Join(top(t), "testdata", "fixtures", "llama"), "--tokens", "51", "--temp", "0", "-n", "0", "--ignore-eos")
	c.Env = append(c.Env, vkfault.Env(t)...)
	hung := filepath.Join(t.TempDir(), "hung")
	c.Env = append(c.Env, vkfault.Variable+"=vkWaitForFences:1+:hang", vkfault.After+"="+hung)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for tokens, b := 0, make([]byte, 1); tokens < 2; { // whose evaluations ended
		if _, err := io.ReadFull(out, b); err != nil {
			t.Fatal(err)
		}
		if b[0] == ' ' {
			tokens++
		}
	}
	if err := os.WriteFile(hung, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for n, b := 0, make(chan int, 1); ; { // until no token comes any more
		go func() {
			n, _ := out.Read(make([]byte, 64))
			b <- n
		}()
		select {
		case n = <-b:
		case <-time.After(500 * time.Millisecond):
			n = 0
		}
		if n == 0 {
			break
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	io.Copy(io.Discard, out)
	c.Wait()
	if got, took := c.ProcessState.ExitCode(), time.Since(start); got != exitInterrupted || took > 4*time.Second {
		t.Errorf("status %d after %v; want %d", got, took, exitInterrupted)
	}
}

// TestControlCStopsTheAnswer talks with the program on a terminal.
func TestControlCStopsTheAnswer(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	if err := writeXVERSE(model, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	c := command(t, "chat", model, "--temp", "1", "--seed", "1", "--verbose", "--context", "32768")
	terminal, err := openTerminal(c)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	defer terminal.Close()
	screen := watch(terminal)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.Stdin.(*os.File).Close()
	defer c.Process.Kill()

	screen.await(t, ">>> ")
	fmt.Fprint(terminal, "ask\r")
	screen.await(t, "ask\r\n")
	screen.awaitAnswer(t)
	fmt.Fprint(terminal, "\x03")
	screen.await(t, "(stopped)")
	screen.await(t, ">>> ")
	fmt.Fprint(terminal, "/stats\r")
	screen.await(t, "context")
	screen.await(t, ">>> ")
	fmt.Fprint(terminal, "\x03")
	screen.await(t, "Ctrl-C again")
	fmt.Fprint(terminal, "\x03")
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("leaving by Ctrl-C at the prompt: %v", err)
		}
	case <-time.After(time.Minute):
		t.Errorf("Ctrl-C at the prompt doesn't leave; screen:\n%s", screen.text())
	}
}

// newTerminal returns a new terminal's end for a program and the other one.
func newTerminal() (slave, master *os.File, err error) {
	if master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return slave, master, nil
}

// openTerminal connects c to a new terminal and returns its other end.
func openTerminal(c *exec.Cmd) (*os.File, error) {
	slave, master, err := newTerminal()
	if err != nil {
		return nil, err
	}
	// Wide enough to break none of the lines that tests look for.
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 400, Row: 50}); err != nil {
		return nil, err
	}
	c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	return master, nil
}

// display is what a terminal has shown.
type display struct {
	mu    sync.Mutex
	all   strings.Builder
	seen  int           // up to where await has looked
	ended chan struct{} // closed when nobody has the terminal open any more, and all is read
}

func watch(terminal *os.File) *display {
	s := &display{ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		b := make([]byte, 4096)
		for {
			n, err := terminal.Read(b)
			s.mu.Lock()
			s.all.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

func (s *display) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// await waits until the terminal shows text after what was awaited before.
func (s *display) await(t *testing.T, text string) {
	t.Helper()
	s.until(t, fmt.Sprintf("%q", text), func(rest string) int {
		if i := strings.Index(rest, text); i >= 0 {
			return i + len(text)
		}
		return -1
	})
}

// awaitAnswer waits for some of an answer: rows that are drawn again and again, the spinner aside.
func (s *display) awaitAnswer(t *testing.T) {
	t.Helper()
	s.until(t, "an answer", func(rest string) int {
		at := 0
		for range 5 {
			found := answerRow.FindStringIndex(rest[at:])
			if found == nil {
				return -1
			}
			at += found[1]
		}
		return at
	})
}

var answerRow = regexp.MustCompile(`\x1b\[J(?:\n+\x1b\[\d+A)?[^\x1b\n|/\\-][^\x1b]*\x1b7`)

func (s *display) until(t *testing.T, what string, found func(rest string) int) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if n := found(s.text()[s.seen:]); n >= 0 {
			s.seen += n
			return
		}
	}
	t.Fatalf("%s never came; screen:\n%q", what, s.text())
}
