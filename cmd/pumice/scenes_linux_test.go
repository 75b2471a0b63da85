package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// A stage is a terminal with a program on it. Scenes press keys and compare the screen.
type stage struct {
	t        *testing.T
	terminal *os.File
	command  *exec.Cmd
	width    int
	patience time.Duration // with which scenes wait
	tmux     bool          // it is tmux that draws, in its own way

	mu  sync.Mutex
	vt  *vt.Emulator
	all strings.Builder // what the terminal got
}

// inTmux is the program in a tmux of its own that has no keys and no status of its own.
func inTmux(t *testing.T, c *exec.Cmd) *exec.Cmd {
	t.Helper()
	dir := shortDir(t)
	options := filepath.Join(dir, "conf")
	const conf = "set -g status off\nset -g prefix None\nset -s escape-time 0\nset -g default-terminal tmux-256color\n"
	if err := os.WriteFile(options, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "socket")
	t.Cleanup(func() {
		out, err := exec.Command("tmux", "-S", socket, "display-message", "-p", "#{pane_pid}").Output()
		exec.Command("tmux", "-S", socket, "kill-server").Run()
		if pid, _ := strconv.Atoi(strings.TrimSpace(string(out))); err == nil && pid > 0 {
			unix.Kill(pid, unix.SIGKILL)
			for deadline := time.Now().Add(10 * time.Second); unix.Kill(pid, 0) == nil && time.Now().Before(deadline); { // it may still write
				time.Sleep(10 * time.Millisecond)
			}
		}
	})
	wrapped := exec.Command("tmux", append([]string{"-u", "-S", socket, "-f", options, "new-session", "--", c.Path}, c.Args[1:]...)...)
	wrapped.Env, wrapped.Dir = c.Env, c.Dir
	return wrapped
}

// newStage starts a program on a terminal. With PUMICE_TEST_TMUX the terminal is tmux's, and the screen is what tmux makes of it.
func newStage(t *testing.T, width, height int, c *exec.Cmd) *stage {
	t.Helper()
	tmux := os.Getenv("PUMICE_TEST_TMUX") != ""
	if tmux {
		c = inTmux(t, c)
	}
	terminal, err := openTerminal(c)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	s := &stage{t: t, terminal: terminal, command: c, patience: 20 * time.Second, tmux: tmux, vt: vt.NewEmulator(width, height)}
	s.resize(width, height)
	go func() { // what the terminal answers
		b := make([]byte, 256)
		for {
			n, err := s.vt.Read(b)
			if err != nil {
				return
			}
			terminal.Write(b[:n])
		}
	}()
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := terminal.Read(b)
			s.mu.Lock()
			s.vt.Write(b[:n])
			s.all.Write(b[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.Stdin.(*os.File).Close()
	t.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
	})
	return s
}

// chatOn starts a conversation and waits for its prompt. The terminal is one that doesn't break rows anew.
func chatOn(t *testing.T, width, height int, environment []string, args ...string) *stage {
	t.Helper()
	c := command(t, append([]string{"--log-level", "error", "chat"}, args...)...)
	c.Env = append(append(c.Env, "XTERM_VERSION=XTerm", "TERM=xterm-256color", "NO_COLOR="), environment...)
	s := newStage(t, width, height, c)
	s.ends(">>>")
	return s
}

func (s *stage) resize(width, height int) {
	s.t.Helper()
	s.mu.Lock()
	s.vt.Resize(width, height)
	s.width = width
	s.mu.Unlock()
	if err := unix.IoctlSetWinsize(int(s.terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: uint16(width), Row: uint16(height)}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) keys(keys string) {
	s.t.Helper()
	if _, err := io.WriteString(s.terminal, keys); err != nil {
		s.t.Fatal(err)
	}
}

// rows are the rows of the screen up to the last that has text, and where the cursor is.
func (s *stage) rows() (rows []string, x, y int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	rows = strings.Split(s.vt.String(), "\n")
	for i := range rows {
		rows[i] = strings.TrimRight(rows[i], " ")
	}
	for len(rows) > 1 && rows[len(rows)-1] == "" {
		rows = rows[:len(rows)-1]
	}
	at := s.vt.CursorPosition()
	return rows, at.X, at.Y
}

func (s *stage) text() string {
	rows, _, _ := s.rows()
	return strings.Join(rows, "\n")
}

func (s *stage) until(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(s.patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s; screen:\n%s", what, s.text())
		}
	}
}

// ends waits until the screen ends with rows.
func (s *stage) ends(want ...string) {
	s.t.Helper()
	var got []string
	defer func() {
		if s.t.Failed() {
			s.t.Logf("(-want +got):\n%s", cmp.Diff(want, got))
		}
	}()
	s.until("the screen doesn't end so", func() bool {
		rows, _, _ := s.rows()
		got = rows[max(0, len(rows)-len(want)):]
		return cmp.Equal(want, got)
	})
}

// has waits for a text on the screen.
func (s *stage) has(text string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%q is not on the screen", text), func() bool { return strings.Contains(s.text(), text) })
}

// cursor waits until the cursor is in a column of the row so many above the last.
func (s *stage) cursor(column, above int) {
	s.t.Helper()
	s.until(fmt.Sprintf("the cursor is not in column %d", column), func() bool {
		rows, x, y := s.rows()
		return x == column && y == len(rows)-1-above
	})
}

// enter types a line and waits until the screen ends with rows and the next prompt.
func (s *stage) enter(line string, want ...string) {
	s.t.Helper()
	s.keys(line + "\r")
	s.ends(append(want, ">>>")...)
}

// clear empties the screen.
func (s *stage) clear() {
	s.t.Helper()
	s.keys("\x0c")
	s.until("the screen is not cleared", func() bool { return s.text() == ">>>" })
}

// shortDir makes a folder whose name fits into rows.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "p")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

const bracketed = "\x1b[200~%s\x1b[201~"

func paste(text string) string { return fmt.Sprintf(bracketed, strings.ReplaceAll(text, "\n", "\r")) }

// sizes are those of the terminals that scenes play on.
var sizes = []struct{ width, height int }{{80, 24}, {120, 40}}

// scene is a part of a test that goes on with the stage of the part before.
func (s *stage) scene(t *testing.T, name string, play func()) {
	t.Helper()
	before := s.t
	t.Run(name, func(t *testing.T) {
		s.t = t
		play()
	})
	if s.t = before; t.Failed() {
		t.FailNow()
	}
}

func everySize(t *testing.T, play func(t *testing.T, width, height int)) {
	for _, size := range sizes {
		t.Run(fmt.Sprint(size.width, "x", size.height), func(t *testing.T) { play(t, size.width, size.height) })
	}
}

func TestScenesOfTheInputLine(t *testing.T) {
	model := scriptedModel(t)
	everySize(t, func(t *testing.T, w, h int) {
		state := "XDG_STATE_HOME=" + t.TempDir()
		s := chatOn(t, w, h, []string{state}, model)
		s.clear()
		s.scene(t, "Chinese", func() {
			s.keys("你好世界\x1b[D\x1b[DX\x01Z")
			s.ends(">>> Z你好X世界")
			s.cursor(5, 0)
		})
		s.scene(t, "Ctrl-U leaves nothing", func() {
			s.keys("\x05\x15")
			s.ends(">>>")
			s.cursor(4, 0)
		})
		s.scene(t, "emoji", func() {
			s.keys("a👩\u200d🔬b\x1b[D\x7f\x05")
			s.ends(">>> ab")
			s.cursor(6, 0)
			s.keys("\x15")
		})
		s.scene(t, "combining marks", func() {
			s.keys("e\u0301tude\x1b[D\x1b[D\x1b[D\x1b[D\x1b[DX")
			s.ends(">>> Xe\u0301tude")
			s.cursor(5, 0)
			s.keys("\x05\x15")
		})
		s.scene(t, "Arabic and Hebrew", func() {
			s.keys("سلام שלום\x1b[D\x1b[DX")
			s.ends(">>> سلام שלXום")
			s.cursor(12, 0)
			s.keys("\x05\x15")
		})
		s.scene(t, "Home and End of tmux, screen and the Linux console", func() {
			s.keys("abc\x1b[1~X\x1b[4~Y")
			s.ends(">>> XabcY")
			s.keys("\x1b[HA\x1b[FB\x1bOHC\x1bOFD")
			s.ends(">>> CAXabcYBD")
			s.keys("\x15")
		})
		s.scene(t, "words", func() {
			s.keys("one two three\x1bb\x1b[1;5DX\x1bfY\x1b[1;5CZ")
			s.ends(">>> one XtwoY threeZ")
			s.keys("\x17\x17")
			s.ends(">>> one")
			s.keys("\x15")
		})
		s.scene(t, "Ctrl-C clears what is typed", func() {
			s.keys("dropped\x03")
			s.ends(">>> dropped^C", ">>>")
		})
		s.scene(t, "Ctrl-C at an empty prompt says how to leave", func() {
			s.keys("\x03")
			s.ends(">>>", "(Ctrl-C again, Ctrl-D or /bye leaves)")
			s.keys("x")
			s.ends(">>> x")
			s.keys("\x7f")
			s.ends(">>>")
		})
		s.scene(t, "what is pasted is one message of lines that can be edited", func() {
			s.clear()
			s.keys(paste("one\ntwo\tx\n\nfour"))
			s.ends(">>> one", "... two x", "...", "... four")
			s.keys("\x1b[A\x1b[A\x1b[AX")
			s.cursor(len(">>> oneX"), 3)
			s.ends(">>> oneX", "... two x", "...", "... four")
			s.enter("", ">>> oneX", "... two x", "...", "... four", "All is well.")
		})
		s.scene(t, "it comes back whole from the history", func() {
			s.keys("\x1b[A")
			s.ends(">>> oneX", "... two x", "...", "... four")
			s.keys("\x1b[B")
			s.ends(">>>")
			s.keys("\x1b[A\x1b[A")
			s.cursor(len("... "), 1)
			s.keys("\x03")
			s.ends("... four^C", ">>>")
		})
		s.scene(t, "quotes", func() {
			s.clear()
			s.keys("\"\"\"first\rsecond")
			s.ends(`>>> """first`, "... second")
			s.keys("\x1b[A\x1b[4~!\x1b[B\x1b[4~")
			s.ends(`>>> """first!`, "... second")
			s.enter(`"""`, `>>> """first!`, `... second"""`, "All is well.")
		})
		s.scene(t, "a long line is broken, and the terminal may become narrower meanwhile", func() {
			s.clear()
			word := strings.Repeat("x", w)
			s.keys(word)
			s.ends(">>> "+word[:w-6], "xxxxxx")
			s.resize(w-20, h)
			s.ends(">>> "+word[:w-26], strings.Repeat("x", 26))
			s.resize(w, h)
			s.ends(">>> "+word[:w-6], "xxxxxx")
			s.keys("\x03")
			s.ends("xxxxxx^C", ">>>")
		})
		s.scene(t, "Tab completes commands", func() {
			s.clear()
			s.keys("/sw\t")
			s.ends(">>> /switch")
			s.keys("\x15/s\t")
			s.ends(">>> /s", "/system  /set  /show  /stats  /switch  /save")
			s.keys("how t\tx")
			s.ends(">>> /show tx")
			s.keys("\x7f\t")
			s.ends(">>> /show t", "template  thoughts")
			s.keys("\x15/set whe\tst\t")
			s.ends(">>> /set when-full stop")
			s.keys("\x15")
			s.ends(">>>")
		})
		s.scene(t, "Tab completes files", func() {
			dir := shortDir(s.t)
			for _, name := range []string{"notes.txt", "notes.md", "my milk.txt", "evil\x1b]0;x\a"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("Remember the milk.\n"), 0o600); err != nil {
					s.t.Fatal(err)
				}
			}
			s.clear()
			s.keys("/load " + dir + "/no\t\t")
			s.has("\nnotes.md  notes.txt")
			s.keys("\x15/load " + dir + "/e\tX")
			s.has("/eX")
			s.keys("\x03")
			s.keys("see @" + dir + "/notes.t\t\r")
			s.has("is attached: 19 B)")
			s.ends("All is well.", ">>>")
			s.clear()
			s.keys("see @" + dir + "/my\t\r")
			s.has(">>> see @" + dir + `/my\ milk.txt`)
			s.has("my milk.txt is attached: 19 B)")
			s.ends("All is well.", ">>>")
		})
		s.scene(t, "Ctrl-D deletes, and leaves", func() {
			s.keys("abc\x01\x04")
			s.ends(">>> bc")
			s.keys("\x0b\x04")
			s.leaves()
		})
		s = chatOn(t, w, h, []string{state}, model)
		s.scene(t, "Ctrl-R searches what was typed in sessions before", func() {
			s.clear()
			s.keys("\x12onex")
			s.ends("(search) onex", "  oneX⏎two x⏎⏎four")
			s.keys("\x05")
			s.ends(">>> oneX", "... two x", "...", "... four")
			s.keys("\x03\x12quit\x07")
			s.ends("... four^C", ">>>")
			s.keys("\x03\x03")
			s.leaves()
		})
	})
}

// leaves waits for the program's end.
func (s *stage) leaves() {
	s.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.command.Wait() }()
	select {
	case err := <-done:
		if err != nil {
			s.t.Errorf("the program left with %v", err)
		}
	case <-time.After(s.patience):
		s.t.Fatalf("the program doesn't leave; screen:\n%s", s.text())
	}
}
