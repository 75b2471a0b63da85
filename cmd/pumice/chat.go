package main

import (
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
	flags := []cli.Flag{
		stringFlag("prompt", "", "answer `TEXT` and exit", "p"),
		stringFlag("system", "", "use `TEXT` as the system message"),
		stringFlag("messages", "",
			"answer the conversation in `FILE`, [{\"role\":...,\"content\":...},...], and exit; - is standard input"),
		chatTemplateFlag(),
		intFlag("max-tokens", 0, "generate at most `N` tokens for an answer; 0 is no limit but the context", "n"),
		boolFlag("verbose", false, "report the speed of each answer on standard error"),
		jsonFlag(),
	}
	return &cli.Command{
		Name:      "chat",
		Usage:     "talk to a model",
		ArgsUsage: "MODEL [TEXT...]",
		Description: "On a terminal this starts a conversation; /help lists its commands, and docs/chat.md describes it. Conversations and\n" +
			"what was typed are kept in ~/.local/state/pumice for later. With -p, TEXT, --messages or text on standard input, it writes\n" +
			"one answer and exits. Ctrl-C stops an answer, and takes the question back if the answer has not begun. At the prompt\n" +
			"Ctrl-C drops what is typed, and leaves if it is pressed twice with nothing typed. In --messages a content is a string or a\n" +
			"list of {\"type\":\"text\",\"text\":...}.",
		Flags:  slices.Concat(flags, terminalFlags(), samplingFlags(), speedFlags(), modelFlags(), []cli.Flag{splitFlag()}),
		Action: p.chat,
	}
}

func (p *program) chat(c *cli.Context) error {
	if err := checkSampling(c); err != nil {
		return err
	}
	if err := checkTerminal(c); err != nil {
		return err
	}
	messages, err := p.conversation(c)
	if err != nil {
		return err
	}
	interactive := messages == nil
	if interactive && c.Bool("json") {
		return &usageError{"chat: --json needs -p or --messages"}
	}
	var terminal *term.State
	if interactive && p.stdout.redrawn() {
		state, restore := p.interrupt.hideTyping(p.stdin)
		defer restore()
		terminal = state
	}
	ctx := c.Context
	engine, err := p.open(ctx, c, modelName(c))
	if err != nil {
		return err
	}
	defer func() { engine.Close() }()
	t, err := newTalk(c, engine)
	if err != nil {
		return err
	}
	closeDraft, err := p.openDraft(ctx, c, engine, &t.options)
	defer closeDraft()
	if err != nil {
		return err
	}
	if interactive {
		return p.converse(c, t, terminal, func(o pumice.Options) (*pumice.Engine, error) {
			engine.Close()
			var err error
			engine, err = pumice.Open(ctx, modelName(c), o)
			return engine, err
		})
	}
	return p.answerOnce(ctx, c, t, messages)
}

// conversation returns the messages that the command line or standard input gives, nil if a person at the terminal
// will type them.
func (p *program) conversation(c *cli.Context) ([]chat.Message, error) {
	text, given := c.String("prompt"), c.IsSet("prompt")
	if c.NArg() > 1 {
		if given {
			return nil, &usageError{fmt.Sprintf("chat: unexpected argument %q beside -p", c.Args().Get(1))}
		}
		text, given = strings.Join(c.Args().Slice()[1:], " "), true
	}
	var messages []chat.Message
	if name := c.String("messages"); name != "" {
		var err error
		if messages, err = p.readMessages(name); err != nil {
			return nil, err
		}
	}
	if !given && messages == nil {
		if isTerminal(p.stdin) {
			return nil, nil
		}
		var err error
		if text, err = p.readFile("-"); err != nil {
			return nil, err
		}
		text, given = strings.TrimSuffix(text, "\n"), true // of the last line
	}
	if given {
		if text == "" {
			return nil, pumice.ErrEmptyPrompt
		}
		messages = append(messages, chat.Message{Role: "user", Content: text})
	}
	if system := c.String("system"); system != "" {
		messages = withSystem(messages, system)
	}
	return messages, nil
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

// answerOnce writes the one answer.
func (p *program) answerOnce(ctx context.Context, c *cli.Context, t *talk, messages []chat.Message) error {
	t.messages = messages
	prompt, err := t.engine.EncodeChat(ctx, messages, chat.Options{})
	if err != nil {
		return err
	}
	spinner := p.spin()
	defer spinner.stop()
	err = t.answer(ctx, prompt, func(text string) error {
		spinner.stop()
		if c.Bool("json") {
			return nil
		}
		return p.prose(text)
	})
	spinner.stop()
	if err != nil {
		return p.broken(c, answer{Result: t.session.Result()}, err)
	}
	return p.finish(c, answer{Result: t.session.Result()})
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
