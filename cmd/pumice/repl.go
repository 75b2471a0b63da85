package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/chat"
	"pumice/internal/atomicfile"
	"pumice/internal/humanize"
	"pumice/internal/regular"
)

const replHelp = `/bye            leave (also Ctrl-D)
/reset          forget this conversation
/regen          answer the last question again
/undo           take back the last question and its answer
/system TEXT    set the system message; /system none removes it, /system alone shows it
/stats          show the speed of the last answer, and how full the context is
/save FILE      write this conversation as JSON
/load FILE      continue a saved conversation in the place of this one
/new [NAME]     begin another conversation beside this one
/list           list the conversations
/switch NAME    go to the conversation with this name or number; the beginning of a name is enough
/close [NAME]   end a conversation, this one without a name
/help           show this list
"""             begin and end a message of several lines
Ctrl-C          stop an answer; at the prompt, drop the typed text, and leave if pressed again`

// repl talks with the person at the terminal until they leave.
func (p *program) repl(c *cli.Context, t *talk) error {
	// Between answers an interrupt does nothing: a person who presses Ctrl-C twice means the answer. At the prompt
	// Ctrl-C is a key.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)

	editor := p.newEditor()
	_, seeded := seed(c)
	r := &repl{p: p, talk: t, seeded: seeded, verbose: c.Bool("verbose"), limit: c.Context}
	p.note("%s on %s. /help lists the commands.", t.engine.Source().Path, t.engine.Devices()[0].Info().Name)
	if system := c.String("system"); system != "" {
		r.setSystem(system)
	}
	r.fresh = *t
	r.begin("")
	for {
		text, err := editor.message(r.prompt())
		if err == io.EOF {
			return errors.Join(p.printf("\n"), r.dead)
		}
		if errors.Is(err, errCtrlC) {
			r.say("(Ctrl-C again, Ctrl-D or /bye leaves)")
			continue
		}
		if err != nil {
			return err
		}
		leave, err := r.do(text)
		switch {
		case err != nil:
			return err
		case leave:
			return r.dead
		case r.limit.Err() != nil:
			return r.limit.Err()
		}
	}
}

// repl is the state of the conversations at the terminal.
type repl struct {
	p       *program
	talk    *talk   // the current one
	talks   []*talk // those that are not closed, in the order of their numbers
	begun   int     // the highest number so far; a number is given once
	fresh   talk    // what each begins as
	seeded  bool    // --seed is given: each begins with the same random numbers
	verbose bool
	limit   context.Context
	dead    error // why the model can't answer any more
}

// say answers the person. They asked for it, so --quiet does not hide it.
func (r *repl) say(format string, args ...any) { fmt.Fprintf(r.p.stderr, format+"\n", args...) }

// do acts on one message or command. It returns errors of writing to standard output, which end the program, and shows
// all others.
func (r *repl) do(text string) (leave bool, err error) {
	t := r.talk
	command, argument, _ := strings.Cut(strings.TrimSpace(text), " ")
	argument = strings.TrimSpace(argument)
	switch command {
	case "":
		return false, nil
	case "/bye", "/exit", "/quit":
		return true, nil
	case "/help", "/?":
		return false, r.p.printf("%s\n", replHelp)
	case "/reset", "/clear":
		t.messages = withSystem(nil, t.system())
		t.session.Reset()
		r.say("the conversation is forgotten")
		return false, nil
	case "/new":
		r.open(argument)
		return false, nil
	case "/switch":
		return false, r.goTo(argument)
	case "/close":
		return false, r.close(argument)
	case "/list":
		return false, r.list()
	case "/system":
		return false, r.system(argument)
	case "/stats":
		return false, r.stats()
	case "/undo":
		if t.undo() {
			r.say("taken back: the last question and its answer")
		} else {
			r.say("there is nothing to take back")
		}
		return false, nil
	case "/regen":
		questions := t.messages
		if n := len(questions); n > 0 && questions[n-1].Role == "assistant" {
			questions = questions[:n-1]
		}
		if n := len(questions); n == 0 || questions[n-1].Role != "user" {
			r.say("there is no question to answer")
			return false, nil
		}
		return false, r.answer(questions)
	case "/save", "/load":
		if err := r.file(command, argument); err != nil {
			r.p.complain(err)
		}
		return false, nil
	}
	if strings.HasPrefix(command, "/") && !strings.Contains(text, "\n") {
		r.say("unknown command %q; /help lists them", command)
		return false, nil
	}
	return false, r.answer(append(slices.Clip(t.messages), chat.Message{Role: "user", Content: text}))
}

const deadHint = "the model can't answer any more; /save FILE keeps the conversation, /bye leaves"

// answer shows the answer to messages, which become the conversation once the answer has begun. If it does not begin,
// the conversation stays as it was: some chat formats refuse two questions in a row. An interrupt stops the answer.
// The error is one of writing it.
func (r *repl) answer(messages []chat.Message) error {
	t, p := r.talk, r.p
	if r.dead != nil {
		r.say(deadHint)
		return nil
	}
	before := t.messages
	t.messages = messages
	ctx, stop := signal.NotifyContext(r.limit, os.Interrupt)
	defer stop()
	prompt, err := t.prompt(ctx)
	if prompt.Dropped > 0 {
		r.say("(the context is full: %d old messages are forgotten)", prompt.Dropped)
	}
	if prompt.Cut > 0 {
		r.say("(the context is full: the first %d tokens of the message are cut off)", prompt.Cut)
	}
	var unwritten error
	begun := false
	if err == nil {
		spinner := p.spin()
		err = t.answer(ctx, prompt, func(text string) error {
			spinner.stop()
			begun = true
			unwritten = p.prose(text)
			return unwritten
		})
		spinner.stop()
	}
	if unwritten != nil {
		return unwritten
	}
	if begun || err == nil {
		if err := p.printf("\n"); err != nil {
			return err
		}
	} else {
		t.messages = before
	}
	switch {
	case err == nil && t.session.Result().FinishReason == pumice.FinishLength:
		r.say("(cut off: %d tokens)", len(t.session.Result().Tokens))
	case errors.Is(err, context.Canceled) && begun:
		r.say("(stopped)")
	case errors.Is(err, context.Canceled):
		r.say("(stopped) before the answer began: the conversation is as it was")
	case err != nil:
		p.complain(err)
		if errors.Is(err, pumice.ErrDeviceLost) || errors.Is(err, pumice.ErrClosed) {
			r.dead = err
			r.say(deadHint)
		}
	}
	if begun || err == nil {
		p.reportDraft(t.session.Result())
	}
	if r.verbose && (begun || err == nil) {
		p.note("%s", statsLine(t.session.Result()))
	}
	return nil
}

// system sets, removes or shows the system message.
func (r *repl) system(argument string) error {
	t := r.talk
	switch system := t.system(); {
	case argument == "" && system != "":
		return r.p.prose(system + "\n")
	case system == "" && (argument == "" || argument == "none"):
		r.say("there is no system message")
	case argument == "none":
		t.messages = withSystem(t.messages, "")
		r.say("the system message is removed")
	case r.setSystem(argument):
		r.say("the system message is set")
	}
	return nil
}

// setSystem makes text the system message, unless the model's chat format refuses it.
func (r *repl) setSystem(text string) bool {
	messages := withSystem(r.talk.messages, text)
	if err := r.check(messages); err != nil {
		r.p.complain(err)
		r.say("the system message is not kept")
		return false
	}
	r.talk.messages = messages
	return true
}

// check is talk.check until Ctrl-C.
func (r *repl) check(messages []chat.Message) error {
	ctx, stop := signal.NotifyContext(r.limit, os.Interrupt)
	defer stop()
	return r.talk.check(ctx, messages)
}

func (r *repl) stats() error {
	t := r.talk
	result := t.session.Result()
	if len(result.Tokens) > 0 {
		if err := r.p.printf("%s\n", statsLine(result)); err != nil {
			return err
		}
	}
	used := len(result.PromptTokens) + len(result.Tokens)
	return r.p.printf("context %d of %d tokens; device memory %s\n", used, t.engine.Context(), humanize.Bytes(t.engine.Memory().TotalBytes))
}

// file saves or loads the conversation.
func (r *repl) file(command, name string) error {
	if name == "" {
		return &usageError{command + " needs a file"}
	}
	if command == "/save" {
		if len(r.talk.messages) == 0 {
			return errors.New("there is nothing to save")
		}
		text, err := json.MarshalIndent(r.talk.messages, "", " ")
		if err == nil {
			err = atomicfile.Replace(name, func(f *os.File) error { // a pipe would make the conversation wait for its reader
				_, err := f.Write(append(text, '\n'))
				return err
			})
		}
		if err == nil {
			r.say("%s saved in %s", counted(len(r.talk.messages), "message"), name)
		}
		return err
	}
	f, err := regular.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	messages, err := readMessages(f, name)
	if err == nil {
		err = r.check(messages)
	}
	if err != nil {
		return err
	}
	r.talk.messages = messages
	r.say("%s loaded", counted(len(messages), "message"))
	return nil
}

// counted writes a number of things, for people.
func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// system returns the text of the system message, "" if there is none.
func (t *talk) system() string {
	if len(t.messages) > 0 && t.messages[0].Role == "system" {
		return t.messages[0].Content
	}
	return ""
}

// lastQuestion returns the index of the user's last message, -1 if there is none.
func (t *talk) lastQuestion() int {
	for i, m := range slices.Backward(t.messages) {
		if m.Role == "user" {
			return i
		}
	}
	return -1
}

// undo removes the last question and what came after it.
func (t *talk) undo() bool {
	i := t.lastQuestion()
	if i >= 0 {
		t.messages = t.messages[:i]
	}
	return i >= 0
}
