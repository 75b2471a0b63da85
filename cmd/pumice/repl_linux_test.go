package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"pumice"
	"pumice/chat"
)

// conversant is a person at a terminal with `pumice chat`.
type conversant struct {
	*display
	t        *testing.T
	terminal *os.File
	command  *exec.Cmd
}

// converse starts the program and waits for its prompt.
func converse(t *testing.T, args ...string) *conversant {
	t.Helper()
	c := command(t, append([]string{"chat"}, args...)...)
	terminal, err := openTerminal(c)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	p := &conversant{watch(terminal), t, terminal, c}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	c.Stdin.(*os.File).Close()
	t.Cleanup(func() { c.Process.Kill() })
	p.await(t, ">>> ")
	return p
}

// types sends keys.
func (p *conversant) types(keys string) {
	p.t.Helper()
	if _, err := fmt.Fprint(p.terminal, keys); err != nil {
		p.t.Fatal(err)
	}
}

// enter types a line and waits for each of the texts, and then for the next prompt.
func (p *conversant) enter(line string, want ...string) {
	p.t.Helper()
	p.types(line + "\r")
	for _, text := range want {
		p.await(p.t, text)
	}
	p.await(p.t, ">>> ")
}

// refused enters a question that is not answered and waits for each of the texts, and for the question to come back, which it drops.
func (p *conversant) refused(question string, want ...string) {
	p.t.Helper()
	p.enter(question, want...)
	p.await(p.t, question)
	p.types("\x03")
	p.await(p.t, "^C")
}

// interrupt presses Ctrl-C.
func (p *conversant) interrupt() {
	p.t.Helper()
	p.types("\x03")
}

// leaves waits for the program's end.
func (p *conversant) leaves(status int) {
	p.t.Helper()
	done := make(chan struct{})
	go func() {
		p.command.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		p.t.Fatalf("the program doesn't leave; screen:\n%q", p.text())
	}
	if got := p.command.ProcessState.ExitCode(); got != status {
		p.t.Errorf("status %d, want %d; screen:\n%q", got, status, p.text())
	}
}

// chatModel makes a model that answers anything.
func chatModel(t *testing.T) string {
	t.Helper()
	model := filepath.Join(t.TempDir(), "model")
	if err := writeXVERSE(model, filepath.Join(top(t), "tokenizer", "testdata", "xverse-a")); err != nil {
		t.Fatal(err)
	}
	return model
}

const alternate = `"Conversation roles must alternate user/assistant/user/assistant/..."`

// TestConversationGoesOnAfterErrors talks with a model whose template refuses much, and makes every mistake. --quiet hides none.
func TestConversationGoesOnAfterErrors(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	huge := file("huge", "[")
	if err := os.Truncate(huge, maxMessagesBytes+1); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(dir, "saved.json")
	p := converse(t, chatModel(t), "--quiet", "--chat-template", filepath.Join("testdata", "strict.jinja"), "--temp", "0", "-n", "2",
		"--context", "256", "--system", "Be brief.")
	if text := p.text(); !strings.Contains(text, `"System role not supported"`) || !strings.Contains(text, "not kept") {
		t.Errorf("--system that the template refuses: %q", text)
	}
	p.enter("/save "+saved, "nothing to save")
	p.enter("first, later", "(cut off: 2 tokens")
	// An answer that is stopped before it begins, by an impatient person.
	p.types("slow\r\x03")
	p.await(t, ">>> slow") // it is there to be changed
	time.Sleep(4 * frameTime)
	p.interrupt()
	p.await(t, "slow^C")
	p.refused("second, later", `"not later"`)
	p.enter("/undo", "taken back")
	p.enter("/undo", "nothing to take back")
	p.enter("one", "(cut off: 2 tokens")
	p.enter("two", "(cut off: 2 tokens")
	p.enter("/system Be brief.", `"System role not supported"`, "not kept")
	p.enter("/system", "there is no system message")
	p.enter("/system none", "there is no system message")
	p.refused("undefined", "is undefined")
	p.refused("later", `"not later"`)
	p.refused("endless", "too")
	p.enter(strings.Repeat("too long a message for its context ", 100), "the message has")
	p.types("\x03")
	p.await(t, "^C")
	p.enter("three", "(cut off: 2 tokens")

	p.enter("/nonsense", `unknown command "/nonsense"`)
	p.enter("/save", "/save needs a file")
	p.enter("/save "+dir, "it is a directory")
	p.enter("/save "+fifo, "only a regular file")
	p.enter("/save "+dir+"/no/such/file", "no such file or directory")
	p.enter("/load", "/load needs a file")
	for _, c := range []struct{ name, want string }{
		{dir, "not a regular file"},
		{fifo, "not a regular file"},
		{dir + "/absent", "no such file or directory"},
		{huge, "more than 16.0 MiB of messages"},
		{file("empty", ""), "the file is empty"},
		{file("none", "[]"), "empty"},
		{file("cut", `[{"role":`), "unexpected EOF"},
		{file("more", `[{"role":"user","content":"a"}]]`), "there is text after the list"},
		{file("number", "7"), "want ["},
		{file("role", `[{"role":"martian","content":"a"}]`), `role "martian" is not one of system`},
		{file("nothing", `[{"role":"user"}]`), "message 0: no content"},
		{file("type", `[{"role":7,"content":"a"}]`), `"role" is of type number`},
		{file("no parts", `[{"role":"user","content":[]}]`), `"content" must be a text or a list of`},
		{file("picture", `[{"role":"user","content":[{"type":"image_url"}]}]`), `type "image_url"`},
		{file("system", `[{"role":"system","content":"a"},{"role":"user","content":"b"}]`), `"System role not supported"`},
		{file("twice", `[{"role":"user","content":"a"},{"role":"user","content":"b"}]`), alternate},
	} {
		p.enter("/load "+c.name, c.want)
	}
	p.enter("/save "+saved, "6 messages saved in")
	p.enter("/load "+file("parts", `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`), "1 message loaded")
	p.enter("/regen", "(cut off: 2 tokens")
	p.enter("/load "+saved, "6 messages loaded")
	p.enter("four", "(cut off: 2 tokens")
	p.enter("/save "+saved, "8 messages saved in")
	p.types("/bye\r")
	p.leaves(0)

	var messages []chat.Message
	if err := json.Unmarshal(readAll(t, saved), &messages); err != nil {
		t.Fatal(err)
	}
	var questions []string
	for i, m := range messages {
		if m.Role != []string{"user", "assistant"}[i%2] {
			t.Errorf("message %d is the %s's", i, m.Role)
		}
		if m.Role == "user" {
			questions = append(questions, m.Content)
		}
	}
	if got := strings.Join(questions, ", "); got != "one, two, three, four" {
		t.Errorf("questions are %s", got)
	}
}

func TestControlCAtThePrompt(t *testing.T) {
	p := converse(t, chatModel(t), "--temp", "0", "-n", "1")
	for range 3 { // from outside, or pressed in an answer that has just ended
		if err := p.command.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * repeat)
	}
	p.types("dropped\x03")
	p.await(t, "dropped^C")
	p.enter("/nonsense", `"/nonsense"`) // and not "dropped/nonsense"
	p.types("\x03")
	p.await(t, "Ctrl-C again")
	p.types("\"\"\"dropped\rtoo\x03")
	p.await(t, "... too^C")
	p.types("\x03")
	p.await(t, "Ctrl-C again")
	p.types("typed\x03") // drops what was typed since, and does not leave
	p.await(t, "typed^C")
	p.types("\x1b[A") // the history is still there
	p.await(t, ">>> /nonsense")
	p.types("\x03\x03\x03")
	p.leaves(0)
}

// hostileKeys is a hostile text that is pasted.
const hostileKeys = "\x1b[200~\x1b]0;title\a\u202e\x1b[201~"

// TestNothingHostileInAConversation shows hostile text in every way that a conversation has.
func TestNothingHostileInAConversation(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	model := writeHostile(t, t.TempDir())["model"]
	p := converse(t, model, "--temp", "3", "--seed", "1", "-n", "8", "--system", hostile)
	p.enter("\x1b[200~"+hostileBytes+"\x1b[201~", `\x1b]0;title\x07`) // the answer too is hostile
	p.enter("\x1b[A", `\x1b]0;title\x07`)
	p.enter("/system", `\x1b]0;title\x07`)
	p.refused("refuse", `\x1b]0;title\a`)
	p.refused("undefined", `\x1b]0;title\a`)
	for _, command := range []string{"/load ", "/save no/such/", "/"} {
		p.enter("\x1b[200~"+command+hostile+"\x1b[201~", `\x1b]0;title\x07`)
	}
	p.enter("\x1b[200~/new \x1b]0;title\a\u200b\x1b[201~", `conversation \x1b]0;title\x07\u200b begins`, `\x1b]0;title\x07\u200b`)
	p.enter("/list", `\x1b]0;title\x07`, `*  2  `)
	p.enter("/switch 1", `1 >>> /\x1b]0;title\x07`) // its question, and a hostile answer
	p.enter("/set "+hostileKeys, `there is no parameter`)
	p.enter("/show "+hostileKeys, `/show \x1b]0;title\x07`)
	p.enter("/resume "+hostileKeys, `no such conversation`)
	p.enter("@no/"+hostileKeys+" ", `there is no file no/\x1b]0;title\x07`)
	p.types("\x04")
	p.leaves(0)
	editors := regexp.MustCompile(`\x1b\[\?2026h\r|\x1b\[(?:\?2004[hl]|\?2026[hl]|[0-9]*A|[JK])|\x1b[78]`)
	text := editors.ReplaceAllString(p.text(), "")
	for _, bad := range uncontrolled(text) {
		t.Fatalf("%q at byte %d of %q", bad.text, bad.at, text)
	}
}

// TestUnansweredQuestionIsTakenBack stops questions before their answers begin, with a template and a built-in format that want
// user and assistant in turn, and asks others.
func TestUnansweredQuestionIsTakenBack(t *testing.T) {
	if !hasDevice(t) {
		t.Skip("no Vulkan device")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	model := chatModel(t)
	for _, format := range []string{"xverse", filepath.Join("testdata", "strict.jinja")} {
		t.Run(filepath.Base(format), func(t *testing.T) {
			engine, err := pumice.Open(context.Background(), model, pumice.Options{ChatTemplate: format, Context: 128})
			if err != nil {
				t.Fatal(err)
			}
			defer engine.Close()
			files := [2]*os.File{}
			for i := range files {
				if files[i], err = os.Create(filepath.Join(t.TempDir(), fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
				defer files[i].Close()
			}
			stopped, cancel := context.WithCancel(context.Background())
			cancel()
			r := &repl{p: newProgram(nil, files[0], files[1]), talk: &talk{engine: engine, session: engine.NewSession(), options: pumice.GenerateOptions{MaxTokens: 2}}}
			do := func(limit context.Context, text string, messages int) {
				t.Helper()
				r.limit = limit
				if _, err := r.do(text); err != nil {
					t.Fatal(err)
				}
				if got := len(r.talk.messages); got != messages {
					t.Errorf("%d messages after %q, want %d; %s", got, text, messages, readAll(t, files[1].Name()))
				}
			}
			do(stopped, "one", 0)
			do(context.Background(), "two", 2)
			do(stopped, "three", 2)
			answer := r.talk.messages[1].Content
			do(stopped, "/regen", 2)
			if got := r.talk.messages[1].Content; got != answer {
				t.Errorf("the answer is %q, was %q before /regen was stopped", got, answer)
			}
			do(context.Background(), "/system Be brief.", 2)
			do(context.Background(), "four", 4)

			// A model that can't answer any more ends no conversation: it can be saved.
			engine.Close()
			do(context.Background(), "five", 4)
			if !errors.Is(r.dead, pumice.ErrClosed) {
				t.Errorf("the model is dead of %v", r.dead)
			}
			do(context.Background(), "six", 4)
			saved := filepath.Join(t.TempDir(), "saved")
			do(context.Background(), "/save "+saved, 4)
			if text := string(readAll(t, saved)); !strings.Contains(text, "two") || !strings.Contains(text, "four") {
				t.Errorf("saved: %s", text)
			}
			if status(r.dead) != exitFailure {
				t.Errorf("status %d", status(r.dead))
			}
		})
	}
}
