package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"

	"github.com/urfave/cli/v2"

	"pumice"
	"pumice/chat"
	"pumice/internal/atomicfile"
)

const replHelp = `/bye            leave (also Ctrl-D)
/reset          forget the conversation
/regen          answer the last question again
/undo           take back the last question and its answer
/system TEXT    set the system message; without TEXT remove it
/stats          how fast the last answer was, and how full the context is
/save FILE      write the conversation as JSON
/load FILE      continue a conversation that was saved
/help           this list
"""             begins and ends a message of many lines
Ctrl-C          stops an answer; at the prompt it leaves`

// repl talks with the person at the terminal until they leave.
func (p *program) repl(c *cli.Context, t *talk) error {
	if system := c.String("system"); system != "" {
		t.messages = withSystem(nil, system)
	}
	editor := newEditor(p.stdin, p.stdout)
	r := &repl{p: p, talk: t, verbose: c.Bool("verbose"), limit: c.Context}
	p.note("%s on %s. /help lists the commands.", t.engine.Source().Path, t.engine.Device().Name)
	for {
		text, err := editor.message()
		if err == io.EOF || errors.Is(err, errCtrlC) {
			return p.printf("\n")
		}
		if err != nil {
			return err
		}
		if leave, err := r.do(text); leave || err != nil {
			return err
		}
	}
}

// repl is the state of a conversation at the terminal.
type repl struct {
	p       *program
	talk    *talk
	verbose bool
	limit   context.Context
}

// do acts on one message or command. An error ends the program; what a person can put right is only told.
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
		r.p.note("the conversation is forgotten")
		return false, nil
	case "/system":
		t.messages = withSystem(t.messages, argument)
		return false, nil
	case "/stats":
		return false, r.stats()
	case "/undo":
		if !t.undo() {
			r.p.note("there is nothing to take back")
		}
		return false, nil
	case "/regen":
		if n := len(t.messages); n > 0 && t.messages[n-1].Role == "assistant" {
			t.messages = t.messages[:n-1]
		}
		if n := len(t.messages); n == 0 || t.messages[n-1].Role != "user" {
			r.p.note("there is no question to answer")
			return false, nil
		}
		return false, r.answer()
	case "/save", "/load":
		if err := r.file(command, argument); err != nil {
			r.p.note("%s", line(err))
		}
		return false, nil
	}
	if strings.HasPrefix(command, "/") && !strings.Contains(text, "\n") {
		r.p.note("unknown command %s; /help lists them", command)
		return false, nil
	}
	t.messages = append(t.messages, chat.Message{Role: "user", Content: text})
	return false, r.answer()
}

// answer shows the answer to the messages. An interrupt stops it, a second one the program.
func (r *repl) answer() error {
	t, p := r.talk, r.p
	prompt, err := t.prompt()
	if prompt.Dropped > 0 {
		p.note("(the context is full: %d old messages are forgotten)", prompt.Dropped)
	}
	if prompt.Cut > 0 {
		p.note("(the context is full: the first %d tokens of the message are cut off)", prompt.Cut)
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(r.limit, os.Interrupt)
		context.AfterFunc(ctx, stop)
		spinner := p.spin()
		err = t.answer(ctx, prompt, func(text string) error {
			spinner.stop()
			return p.prose(text)
		})
		spinner.stop()
		stop()
	}
	var long *chat.TooLongError
	var wrong *chat.Error
	if errors.As(err, &long) || errors.As(err, &wrong) { // nothing was evaluated
		p.note("%s", line(err))
		t.undo()
		return nil
	}
	if err := p.printf("\n"); err != nil {
		return err
	}
	switch {
	case err == nil && t.session.Result().FinishReason == pumice.FinishLength:
		p.note("(cut off: %d tokens)", len(t.session.Result().Tokens))
	case errors.Is(err, context.Canceled) && r.limit.Err() == nil:
		p.note("(stopped)")
	case err != nil:
		return err
	}
	if r.verbose {
		p.note("%s", statsLine(t.session.Result()))
	}
	return nil
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
	return r.p.printf("context %d of %d tokens; device memory %s\n", used, t.engine.Context(), size(t.engine.Memory().TotalBytes))
}

// file saves or loads the conversation.
func (r *repl) file(command, name string) error {
	if name == "" {
		return &usageError{command + " needs a file"}
	}
	if command == "/save" {
		text, err := json.MarshalIndent(r.talk.messages, "", " ")
		if err != nil {
			return err
		}
		return atomicfile.WriteBytes(name, append(text, '\n'))
	}
	messages, err := r.p.readMessages(name)
	if err != nil {
		return err
	}
	r.talk.messages = messages
	r.p.note("%d messages", len(messages))
	return nil
}

// system returns the text of the system message, "" if there is none.
func (t *talk) system() string {
	if len(t.messages) > 0 && t.messages[0].Role == "system" {
		return t.messages[0].Content
	}
	return ""
}

// undo removes the last question and what came after it.
func (t *talk) undo() bool {
	for i := len(t.messages) - 1; i >= 0; i-- {
		if t.messages[i].Role == "user" {
			t.messages = t.messages[:i]
			return true
		}
	}
	return false
}
