package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

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
		Description: "On a terminal this starts a conversation; /help lists its commands. /new begins another one beside it, and /switch goes\n" +
			"from one to another. With -p, TEXT, --messages or text on standard input, it writes one answer and exits. Ctrl-C stops\n" +
			"an answer, and takes the question back if the answer has not begun. At the prompt Ctrl-C drops the typed text, and a\n" +
			"second Ctrl-C leaves. In --messages a content is a string or a list of {\"type\":\"text\",\"text\":...}.",
		Flags: slices.Concat([]cli.Flag{stringFlag("prompt", "", "answer `TEXT` and exit", "p")}, chatFlags(), answerFlags(), samplingFlags(), speedFlags(),
			modelFlags(), splitFlags()),
		Action: p.chat,
	}
}

func (p *program) chat(c *cli.Context) error {
	if err := checkAnswer(c); err != nil {
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
	ctx := c.Context
	engine, err := p.open(ctx, c, name)
	if err != nil {
		return err
	}
	defer engine.Close()
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
		p.interrupt.converse(p.stdin)
		return p.repl(c, t)
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

	number int // at a terminal, from 1
	name   string
}

func newTalk(c *cli.Context, engine *pumice.Engine) (*talk, error) {
	format, err := engine.ChatFormat()
	if err != nil {
		return nil, err
	}
	t := &talk{engine: engine, session: engine.NewSession()}
	t.options, err = generateOptions(c, engine.SamplingDefaults())
	t.options.Stop = append(format.Stop(), t.options.Stop...)
	return t, err
}

// answer generates the answer to a prompt of the messages, passes its text to show as it comes, and adds it to the
// messages. When ctx is cancelled, it adds the answer so far.
func (t *talk) answer(ctx context.Context, prompt chat.Prompt, show func(text string) error) error {
	defer func() { t.options.Sampling.Seed++ }() // or asking again would give the same answer
	var err error
	for token, tokenErr := range t.session.Generate(ctx, prompt.IDs, t.options) {
		if err = tokenErr; err != nil {
			break
		}
		if token.Text == "" {
			continue
		}
		if err = show(token.Text); err != nil {
			break
		}
	}
	if r := t.session.Result(); len(r.Tokens) > 0 {
		t.messages = append(t.messages, chat.Message{Role: "assistant", Content: r.Text})
	}
	return err
}

// prompt encodes the messages so that a quarter of the context is free for the answer, and removes the messages that
// it leaves out. If it has to remove any, it frees half of the context at once: after each change of the beginning,
// all of the rest is evaluated again.
func (t *talk) prompt(ctx context.Context) (p chat.Prompt, err error) {
	for _, limit := range []int{t.engine.Context() * 3 / 4, t.engine.Context() / 2} {
		shorter, err := t.engine.EncodeChat(ctx, t.messages, chat.Options{MaxTokens: limit})
		if p.IDs != nil && err != nil {
			break // the newest message alone is longer than half
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
