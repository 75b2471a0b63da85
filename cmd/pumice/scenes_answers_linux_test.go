package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// got waits until the terminal was sent a text, control sequences and all.
func (s *stage) got(text string) {
	s.t.Helper()
	if s.tmux {
		return
	}
	s.until(fmt.Sprintf("%q was not sent", text), func() bool { return strings.Contains(s.sent(), text) })
}

// sent is all that the terminal was sent.
func (s *stage) sent() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.String()
}

// promptly presses Ctrl-C and waits for a text. Of a few times one must be within a tenth of a second: other programs may have
// the machine.
func (s *stage) promptly(begin func(), text string, end func()) {
	s.t.Helper()
	var times []time.Duration
	for range 8 {
		begin()
		start := time.Now()
		s.keys("\x03")
		s.has(text)
		times = append(times, time.Since(start))
		end()
		if last := times[len(times)-1]; last < 100*time.Millisecond {
			s.t.Logf("it stopped after %v", last)
			return
		}
	}
	s.t.Errorf("it stopped after %v", times)
}

func TestScenesOfAnswers(t *testing.T) {
	model := scriptedModel(t)
	everySize(t, func(t *testing.T, w, h int) {
		s := chatOn(t, w, h, nil, model, "--context", "32768")
		s.clear()
		s.scene(t, "words are not broken", func() {
			want := []string{"Hunting snarks needs thimbles, care, forks, hope, railway-shares, smiles and", "soap, which nobody in this whole crew had ever brought along before."}
			if w == 120 {
				want = []string{"Hunting snarks needs thimbles, care, forks, hope, railway-shares, smiles and soap, which nobody in this whole crew had",
					"ever brought along before."}
			}
			s.enter("wrap", append([]string{">>> wrap"}, want...)...)
		})
		s.scene(t, "Chinese is broken between characters", func() {
			s.keys("chinese\r")
			s.until("no answer", func() bool {
				return strings.HasSuffix(s.text(), "\n>>>") && strings.Contains(s.text(), "没有空格。")
			})
			for _, row := range strings.Split(s.text(), "\n") {
				if strings.HasPrefix(row, "你好，世界") && len([]rune(row)) < w/2-10 {
					t.Errorf("the row is short: %s", row)
				}
			}
		})
		s.scene(t, "Markdown", func() {
			s.clear()
			s.enter("layout", ">>> layout", "Title", "", "Some bold and slanted code.", "", "• first", "• second", "",
				"a │  b", "──┼───", "x │ 10", "", "│ func main() {}", "", "So x₁² ≤ α holds.")
			for _, styled := range []string{"\x1b[1mbold\x1b[m", "\x1b[3mslanted\x1b[m", "\x1b[36mcode\x1b[m", "\x1b[35mfunc\x1b[m"} {
				s.got(styled)
			}
		})
		s.scene(t, "reasoning is folded", func() {
			s.clear()
			s.keys("think\r")
			s.has("Forty-two.\n>>>")
			if text := s.text(); !regexp.MustCompile(`^>>> think\n\(thought for [0-9.]+m?s; /show thoughts shows it\)\nForty-two\.\n>>>$`).MatchString(text) {
				t.Errorf("%s", text)
			}
			s.enter("/show thoughts", ">>> /show thoughts", "The user wants thought.")
			s.enter("/set thinking show", ">>> /set thinking show", "thinking is show")
			s.enter("think", ">>> think", "The user wants thought.", "Forty-two.")
			s.enter("/set thinking hide", ">>> /set thinking hide", "thinking is hide")
			s.enter("think", ">>> think", "Forty-two.")
		})
		s.scene(t, "what a terminal would obey is shown", func() {
			s.clear()
			s.enter("evil", ">>> evil", `a\x1b]0;pwned\x07b\x1b[2Jc\x1b[31md\u202ee`)
		})
		s.scene(t, "what is typed during an answer waits", func() {
			s.clear()
			s.keys("endless\r")
			s.has("round and about")
			s.keys("wrap\rlater")
			s.until("it is not seen to wait", func() bool { return strings.HasSuffix(s.text(), "(next) wrap\n(next) later") })
			s.keys("\x03")
			s.has("(stopped)\n>>> wrap\nHunting")
			s.ends(">>> later")
			s.keys("\x15")
			s.ends(">>>")
		})
		s.scene(t, "an answer that is longer than the screen scrolls, and the terminal may become narrower meanwhile", func() {
			s.clear()
			s.keys("endless\r")
			s.until("the answer doesn't fill the screen", func() bool {
				rows, _, _ := s.rows()
				return len(rows) >= h-3
			})
			s.resize(w-10, h)
			time.Sleep(300 * time.Millisecond)
			s.keys("\x03")
			s.has("(stopped)\n>>>")
			rows, _, _ := s.rows()
			for i, row := range rows[:len(rows)-2] {
				if first, _, _ := strings.Cut(row, " "); first != "and" && first != "about" && first != "round" && first != ">>>" {
					t.Errorf("row %d is %q", i, row)
				}
			}
			s.resize(w, h)
			s.clear()
		})
		s.scene(t, "Ctrl-C stops an answer at once, and the conversation goes on", func() {
			s.promptly(func() {
				s.clear()
				s.keys("endless\r")
				s.has("round and about")
			}, "(stopped)", func() { s.ends("(stopped)", ">>>") })
			s.enter("more", ">>> more", "All is well.")
		})
		s.scene(t, "the first token is seen at once", func() {
			if s.tmux {
				return
			}
			s.clear()
			s.enter("/verbose", ">>> /verbose", "the speed of each answer is shown")
			var late []time.Duration
			for range 10 { // since other programs may have the machine
				s.keys("wrap")
				s.ends(">>> wrap")
				before, start := len(s.sent()), time.Now()
				s.keys("\r")
				for !strings.Contains(s.sent()[before:], "\x1b[JHunting") {
					time.Sleep(50 * time.Microsecond)
				}
				seen := time.Since(start)
				s.has(" t/s, first")
				s.ends(">>>")
				told := regexp.MustCompile(`first\s+token (\d+) ms`).FindStringSubmatch(s.text())
				if told == nil {
					t.Fatal(s.text())
				}
				engine, _ := time.ParseDuration(told[1] + "ms")
				if late = append(late, seen-engine); seen-engine < 5*time.Millisecond {
					t.Logf("it is seen %v after the engine has it", seen-engine)
					return
				}
				s.clear()
			}
			t.Errorf("it is seen %v after the engine has it", late)
		})
		s.scene(t, "the progress of a long prompt is seen, Ctrl-C stops it at once, and the question is there to be edited", func() {
			long := strings.Repeat("words that take time ", 1100)
			s.promptly(func() {
				s.keys("/reset\r")
				s.has("the conversation is forgotten")
				s.clear()
				s.keys(paste(long) + "\r")
				s.until("no progress", func() bool {
					return regexp.MustCompile(`[|/\\-] reading the prompt: \d+ of \d{5} tokens`).MatchString(s.text())
				})
			}, "(stopped) before the answer began: the conversation is as it was", func() {
				s.until("the question is lost", func() bool {
					return strings.HasSuffix(s.text(), "\n that take time") || strings.HasSuffix(s.text(), " take time")
				})
				s.keys("\x03")
				s.ends(">>>")
			})
		})
	})
}

func TestScenesOfCommands(t *testing.T) {
	model := scriptedModel(t)
	everySize(t, func(t *testing.T, w, h int) {
		dir := shortDir(t)
		state := "XDG_STATE_HOME=" + filepath.Join(dir, "state")
		s := chatOn(t, w, h, []string{state}, "--quiet", model, "--temp", "0", "--context", "256") // which hides no answer to a command
		s.scene(t, "help fits 80 columns", func() {
			s.keys("/help\r")
			s.has("suspends the program\n>>>")
			for _, row := range strings.Split(s.sent(), "\r\n\x1b[K") {
				if text, _, _ := strings.Cut(row, "\x1b"); len([]rune(text)) > 79 && !s.tmux {
					t.Errorf("%d columns: %s", len([]rune(text)), text)
				}
			}
			for _, c := range commands {
				s.got("\x1b[K" + c.name + " ")
			}
		})
		s.scene(t, "errors of commands", func() {
			for line, want := range map[string]string{
				"/nonsense": `unknown command "/nonsense"; /help lists them`, "/load nofile": "pumice: stat nofile: no such file or directory",
				"/set x": `pumice: there is no parameter "x"; /set alone shows all`, "/set temp hot": `pumice: temp "hot": not a number`,
				"/set top-k -1": `pumice: top-k "-1": want 0 or a count`, "/set when-full maybe": `pumice: when-full "maybe": want forget or stop`,
				"/regen": "pumice: there is no question to answer", "/undo": "pumice: there is nothing to take back", "/edit": "pumice: there is no question to edit",
				"/copy": "pumice: there is no answer to copy", "/save": "pumice: /save needs a file", "/save x": "pumice: there is nothing to save",
				"/show thoughts": "pumice: no answer has reasoning", "/resume 3": "pumice: /resume 3: /resume alone lists the conversations",
				"/switch x": `pumice: there is no conversation "x"; /list shows all`, "/show x": "pumice: /show x: want model, template",
			} {
				s.keys("\x0c" + line + "\r")
				s.has(want)
				s.ends(">>>")
			}
		})
		s.scene(t, "/set shows and changes every parameter", func() {
			s.clear()
			s.keys("/set\r")
			s.has("show the speed of each answer\n>>>")
			for _, flag := range []string{"temp", "top-k", "top-p", "min-p", "repeat-penalty", "presence-penalty", "frequency-penalty", "seed", "stop", "max-tokens", "context"} {
				s.got("\x1b[K" + flag + " ")
			}
			for _, change := range [][2]string{{"temp 1.5", "temp is 1.5"}, {"temp 0", "temp is 0"}, {"top_k 7", "top-k is 7"}, {"min-p 0.1", "min-p is 0.1"},
				{"seed 42", "seed is 42"}, {"stop well", `stop is "well"`}, {"repeat-last-n 5", "repeat-last-n is 5"},
				{"parameter temperature 0", "temp is 0"}, {"parameter num_predict 0", "max-tokens is 0"}} {
				s.enter("/set "+change[0], ">>> /set "+change[0], change[1])
			}
			s.enter("x", ">>> x", "All is")
			s.enter("/set stop none", ">>> /set stop none", "stop is none")
			s.enter("/set max-tokens 2", ">>> /set max-tokens 2", "max-tokens is 2")
			s.enter("y", ">>> y", "All is", "(cut off: 2 tokens, the limit of max-tokens)")
			s.enter("/set max-tokens 0", ">>> /set max-tokens 0", "max-tokens is 0")
			s.keys("/set top-p 7\r")
			s.has("pumice: --top-p 7: want")
		})
		s.scene(t, "/set context loads the model again, and nothing is lost", func() {
			s.clear()
			s.enter("/set context 512", ">>> /set context 512", "context is 512")
			s.enter("/set context 0", ">>> /set context 0", `pumice: context "0": want a number of tokens`)
			s.enter("z", ">>> z", "All is well.")
			s.keys("/stats\r")
			s.has("of 512 tokens; device memory")
			s.enter("/list", ">>> /list", "*  1  6 messages    z")
		})
		s.scene(t, "/show", func() {
			for topic, want := range map[string]string{"": "512 tokens", "model": "scripted", "template": "{% for m in messages %}", "parameters": "frequency-penalty",
				"memory": "KV cache of", "kernels": "used: ", "system": "there is no system message"} {
				s.clear()
				s.keys("/show " + topic + "\r")
				s.has(want)
				s.ends(">>>")
			}
		})
		s.scene(t, "/system says what it did", func() {
			s.clear()
			s.enter("/system Be brief.", ">>> /system Be brief.", "the system message is set")
			s.enter("/system", ">>> /system", "Be brief.")
			s.enter("/system none", ">>> /system none", "the system message is removed")
		})
		s.scene(t, "/undo and /regen", func() {
			s.enter("/undo", ">>> /undo", "taken back: the last question and its answer")
			s.enter("/list", ">>> /list", "*  1  4 messages    y")
			s.enter("/regen", ">>> /regen", "All is well.")
			s.enter("/list", ">>> /list", "*  1  4 messages    y")
		})
		s.scene(t, "/edit", func() {
			s.enter("chess", ">>> chess", "All is well.")
			s.keys("/edit\r")
			s.ends(">>> chess")
			s.keys("!\r")
			s.ends(">>> chess!", "All is well.", ">>>")
			s.enter("/list", ">>> /list", "*  1  6 messages    chess!")
			s.keys("/edit\r")
			s.ends(">>> chess!")
			s.keys("\x03")
			s.ends(">>> chess!^C", "the last question stays as it is", ">>>")
			s.enter("/list", ">>> /list", "*  1  6 messages    chess!")
		})
		s.scene(t, "/copy gives the answer to the terminal", func() {
			s.clear()
			s.enter("/copy", ">>> /copy", "12 characters sent to the terminal's clipboard")
			s.got("\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte("All is well.")) + "\a")
			s.enter("/copy code", ">>> /copy code", "pumice: the last answer has no block of code")
			s.enter("/set context 2048", ">>> /set context 2048", "context is 2048")
			s.keys("layout\r")
			s.ends("So x₁² ≤ α holds.", ">>>")
			s.enter("/copy code", ">>> /copy code", "14 characters sent to the terminal's clipboard")
			s.got("\x1b]52;c;" + base64.StdEncoding.EncodeToString([]byte("func main() {}")) + "\a")
		})
		s.scene(t, "/save says whether it replaces, and /load shows what it loads", func() {
			file := filepath.Join(dir, "saved.json")
			s.clear()
			s.enter("/reset", ">>> /reset", "the conversation is forgotten")
			s.enter("apples", ">>> apples", "All is well.")
			s.enter("/save "+file, "2 messages saved in "+file)
			s.clear()
			s.keys("/save " + file + "\r")
			s.has("in the place of")
			s.clear()
			s.keys("/load " + file + "\r")
			s.ends("2 messages loaded", ">>> apples", "All is well.", ">>>")
		})
		s.scene(t, "conversations beside each other", func() {
			s.clear()
			s.keys("/new work\r")
			s.ends("conversation work begins; /switch 1 goes back", "work >>>")
			s.keys("/switch 1\r")
			s.ends("1 >>> apples", "All is well.", "1 >>>")
			s.keys("/close work\r")
			s.ends("conversation work is closed", ">>>")
		})
		s.scene(t, "/verbose", func() {
			s.enter("/verbose", ">>> /verbose", "the speed of each answer is shown")
			s.keys("pears\r")
			s.has(" t/s, first")
			s.ends(">>>")
			s.enter("/verbose", ">>> /verbose", "the speed of answers is not shown")
		})
		s.scene(t, "a full context is said, and forgets or stops as asked", func() {
			s.clear()
			s.enter("/set context 256", ">>> /set context 256", "context is 256")
			s.enter("/set when-full stop", ">>> /set when-full stop", "when-full is stop")
			long := strings.TrimRight(strings.Repeat("plums ", 10), " ")
			full := false
			for range 8 {
				s.clear()
				s.keys(long + "\r")
				s.until("no answer", func() bool {
					full = strings.Contains(s.text(), "pumice: the context is full: the conversation has") && strings.HasSuffix(s.text(), "\n>>> "+long)
					return full || strings.HasSuffix(s.text(), "well.\n>>>")
				})
				if full {
					break
				}
			}
			if !full {
				t.Fatal("the context is never full")
			}
			s.keys("\x15")
			s.ends(">>>")
			s.enter("/set when-full forget", ">>> /set when-full forget", "when-full is forget")
			s.keys(long + "\r")
			s.has("(the context is full: ")
			s.ends("All is well.", ">>>")
			s.keys("/set context 2048\r")
			s.ends("context is 2048", ">>>")
		})
		s.scene(t, "a message that is too long is told, and not lost", func() {
			s.clear()
			s.keys(paste(strings.Repeat("figs ", 500)) + "\r")
			s.has("pumice: the message has ")
			s.has("/set context N")
			s.until("the message is lost", func() bool { return strings.HasSuffix(s.text(), "figs") })
			s.keys("\x03")
			s.ends(">>>")
		})
		s.scene(t, "files that can't be attached", func() {
			s.clear()
			binary := filepath.Join(dir, "binary")
			if err := os.WriteFile(binary, []byte("a\x00b"), 0o600); err != nil {
				t.Fatal(err)
			}
			s.keys("see @" + binary + "\r")
			s.has("not a text file")
			s.ends(">>> see @" + binary)
			s.keys("\x15see @" + dir + "/absent\r")
			s.has("it is sent as text)")
			s.ends("All is well.", ">>>")
			s.keys("\x04")
			s.leaves()
		})
		s = chatOn(t, w, h, []string{state}, "--quiet", model, "--temp", "0", "--resume", "--context", "2048")
		s.scene(t, "--resume continues the last conversation", func() {
			s.has("conversation 1 continues: ")
			s.ends("All is well.", ">>>")
		})
		s.scene(t, "/resume lists, searches and continues", func() {
			s.clear()
			s.keys("/resume chess\r")
			s.ends("/resume N continues one", ">>>")
			s.has(" messages    x\n")
			s.keys("/resume 1\r")
			s.has("conversation 2 continues: ")
			s.ends("2 >>>")
		})
		for _, name := range []string{"history", "conversations"} {
			info, err := os.Stat(filepath.Join(dir, "state", "pumice", name))
			if err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s can be read by others: %v", name, err)
			}
		}
	})
}

func TestScenesOfTerminals(t *testing.T) {
	if os.Getenv("PUMICE_TEST_TMUX") != "" {
		t.Skip("of other terminals than tmux")
	}
	model := scriptedModel(t)
	everySize(t, func(t *testing.T, w, h int) {
		s := chatOn(t, w, h, []string{"NO_COLOR=1"}, model)
		s.scene(t, "NO_COLOR", func() {
			s.clear()
			s.keys("layout\r")
			s.ends("So x₁² ≤ α holds.", ">>>")
			s.got("\x1b[1mbold\x1b[m")
			if coloured := regexp.MustCompile(`\x1b\[(?:\d;)*3\d[m;]`).FindString(s.sent()); coloured != "" {
				t.Errorf("%q", coloured)
			}
		})
		state := t.TempDir()
		s = chatOn(t, w, h, []string{"XDG_STATE_HOME=" + state}, model, "--plain", "--no-history")
		s.scene(t, "--plain and --no-history", func() {
			s.clear()
			s.enter("layout", append([]string{">>> layout"}, strings.Split(scripts["layout"], "\n")...)...)
			s.keys("/resume\r")
			s.ends("pumice: conversations are not kept (--no-history)", ">>>")
			s.keys("\x04")
			s.leaves()
			if left, _ := os.ReadDir(state); len(left) > 0 {
				t.Errorf("%v is kept", left)
			}
		})
		s = chatOn(t, w, h, []string{"TERM=dumb"}, model)
		s.scene(t, "a terminal that can only print", func() {
			s.keys("\"\"\"layout\n")
			s.ends(`>>> """layout`, "...")
			s.keys("\"\"\"\n")
			s.ends(`So \(x_1^2 \leq \alpha\) holds.`, ">>>")
			s.keys("/bye\n")
			s.leaves()
			if strings.Contains(s.sent(), "\x1b") {
				t.Errorf("%q", s.sent())
			}
		})
		early := command(t, "--quiet", "chat", model)
		early.Env = append(early.Env, "TERM=xterm-256color")
		s = newStage(t, w, h, early)
		s.scene(t, "what is typed while the model loads", func() {
			s.keys("early\rhalf")
			s.ends(">>> early", "All is well.", ">>> half")
			s.keys("\x03\x03\x03")
			s.leaves()
		})
		shell := exec.Command("bash", "--norc", "--noprofile", "-i")
		shell.Env = append(command(t).Env, "PS1=$ ", "TERM=xterm-256color", "XTERM_VERSION=XTerm", "INPUTRC=/dev/null")
		s = newStage(t, w, h, shell)
		s.scene(t, "Ctrl-Z suspends, and fg goes on", func() {
			s.ends("$")
			s.keys("pumice --quiet chat " + model + "\r")
			s.ends(">>>")
			s.keys("half\x1a")
			s.has("Stopped")
			s.ends("$")
			s.keys("echo cooked\r")
			s.ends("cooked", "$")
			s.keys("fg\r")
			s.ends(">>> half")
			s.keys(" a message\r")
			s.ends(">>> half a message", "All is well.", ">>>")
			s.keys("\x04")
			s.ends("$")
		})
	})
}
