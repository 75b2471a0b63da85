package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"pumice"
	"pumice/chat"
)

func (p *program) chatCommand() *cli.Command {
	return &cli.Command{
		Name:      "chat",
		Aliases:   []string{"run"},
		Category:  ofTalk,
		Usage:     "talk to a model",
		ArgsUsage: "[MODEL [TEXT...]]",
		Description: "On a terminal this starts a conversation; /help lists its commands, and docs/chat.md describes it. Conversations and\n" +
			"what was typed are kept in ~/.local/state/pumice for later. With -p, TEXT, --messages or text on standard input, it writes\n" +
			"one answer and exits. Ctrl-C stops an answer, and takes the question back if the answer has not begun. At the prompt\n" +
			"Ctrl-C drops what is typed, and leaves if it is pressed twice with nothing typed. In --messages a content is a string or a\n" +
			"list of {\"type\":\"text\",\"text\":...}.",
		Flags: slices.Concat([]cli.Flag{stringFlag("prompt", "", "answer `TEXT` and exit", "p")}, chatFlags(), answerFlags(), terminalFlags(),
			samplingFlags(), speedFlags(), modelFlags(), splitFlags(), windowFlags(), profileFlags()),
		Action: p.chat,
	}
}

func (p *program) chat(c *cli.Context) error {
	if err := checkAnswer(c); err != nil {
		return err
	}
	if err := cmp.Or(checkTerminal(c), checkProfile(c)); err != nil {
		return err
	}
	name, rest, err := modelArgs(c)
	if err != nil {
		return err
	}
	text := strings.Join(rest, " ")
	if c.IsSet("prompt") {
		if text != "" {
			return &usageError{fmt.Sprintf("chat: unexpected argument %q beside -p", rest[0])}
		}
		text = c.String("prompt")
	}
	messages, err := p.conversation(c, text)
	if err == nil && messages == nil && c.IsSet("prompt") {
		err = errNothing
	}
	if err != nil {
		return err
	}
	interactive := messages == nil
	for _, flag := range []string{"json", "schema", "answers", "logprobs"} {
		if interactive && c.IsSet(flag) {
			return &usageError{fmt.Sprintf("chat: --%s needs a question: -p, TEXT, --messages or standard input", flag)}
		}
	}
	schema, err := p.schema(c)
	if err != nil {
		return err
	}
	if err := p.fetchMissing(c, name); err != nil { // before typing is hidden: it may ask
		return err
	}
	var terminal *term.State
	if interactive && p.stdout.redrawn() {
		state, restore := p.interrupt.hideTyping(p.stdin)
		defer restore()
		terminal = state
	}
	ctx := c.Context
	engine, err := p.open(ctx, c, name)
	if err != nil {
		return err
	}
	defer func() { engine.Close() }()
	t, err := newTalk(c, engine)
	if err != nil {
		return err
	}
	p.noteFormat(c, engine)
	closeDraft, err := p.openDraft(ctx, c, engine, &t.options)
	defer closeDraft()
	if err != nil {
		return err
	}
	if interactive {
		return p.converse(c, t, terminal, func(o pumice.Options) (*pumice.Engine, error) {
			engine.Close()
			var err error
			engine, err = p.load(ctx, name, o)
			return engine, err
		})
	}
	return p.answerOnce(c, t, messages, schema)
}

// withSystem puts a system message first, in the place of one that is there. An empty text removes it.
func withSystem(messages []chat.Message, text string) []chat.Message {
	if len(messages) > 0 && messages[0].Role == "system" {
		messages = messages[1:]
	}
	if text == "" {
		return messages
	}
	return slices.Insert(slices.Clone(messages), 0, chat.Message{Role: "system", Content: text})
}

// A talk is a conversation with a model.
type talk struct {
	engine   *pumice.Engine
	session  *pumice.Session
	options  pumice.GenerateOptions
	messages []chat.Message

	formatStops int // how many of options.Stop are the chat format's

	// At a terminal.
	number   int // from 1
	name     string
	file     string // in which it is kept; "": none yet
	whenFull string
}

func newTalk(c *cli.Context, engine *pumice.Engine) (*talk, error) {
	format, err := engine.ChatFormat()
	if err != nil {
		return nil, err
	}
	t := &talk{engine: engine, session: engine.NewSession()}
	t.options, err = generateOptions(c, engine.SamplingDefaults())
	t.formatStops = len(format.Stop())
	t.options.Stop = append(format.Stop(), t.options.Stop...)
	t.whenFull = c.String("when-full")
	return t, err
}

// prompt encodes the messages so that a quarter of the context is free for the answer, and removes the messages that
// it leaves out. If it has to remove any, it frees half of the context at once: after each change of the beginning,
// all of the rest is evaluated again. With whenFull stop it removes none; the error says that there is no room.
func (t *talk) prompt(ctx context.Context, whenFull string) (p chat.Prompt, err error) {
	if whenFull == stop {
		if p, err = t.engine.EncodeChat(ctx, t.messages, chat.Options{}); err == nil && len(p.IDs) > t.engine.Context()*3/4 {
			err = &fullError{"the context is full: the conversation", len(p.IDs), t.engine.Context(), "/undo, /new, /set context N or /set when-full forget makes room"}
		}
		return p, err
	}
	for _, limit := range []int{t.engine.Context() * 3 / 4, t.engine.Context() / 2} {
		shorter, err := t.engine.EncodeChat(ctx, t.messages, chat.Options{MaxTokens: limit})
		if p.IDs != nil && err != nil {
			break // the newest message alone is longer than half
		}
		var long *chat.TooLongError
		if errors.As(err, &long) {
			err = &fullError{"the message", long.Tokens, t.engine.Context(), "shorten it, or make room with /set context N"}
		}
		if err != nil {
			return p, err
		}
		if p = shorter; p.Dropped == 0 && p.Cut == 0 {
			break
		}
	}
	first := 0
	for first < len(t.messages) && t.messages[first].Role == "system" {
		first++
	}
	t.messages = slices.Delete(slices.Clone(t.messages), first, first+p.Dropped)
	return p, nil
}

// A fullError says that messages leave too little room for an answer.
type fullError struct {
	what            string
	tokens, context int
	advice          string
}

func (e *fullError) Error() string {
	return fmt.Sprintf("%s has %d tokens, and three quarters of the context of %d are for messages: %s", e.what, e.tokens, e.context, e.advice)
}

// check returns the error of the model's chat format for messages followed by a question. Messages that the format
// refuses would make every later question fail.
func (t *talk) check(ctx context.Context, messages []chat.Message) error {
	if n := len(messages); messages[n-1].Role != "user" {
		messages = append(slices.Clip(messages), chat.Message{Role: "user", Content: "?"})
	}
	format, err := t.engine.ChatFormat()
	if err == nil {
		_, err = format.Render(ctx, messages, true)
	}
	return err
}
