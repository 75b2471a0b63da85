// Package chat turns conversations into the prompts that chat models were trained on.
//
// A Format is one way of writing a conversation down: one of the built-in ones, or a Jinja template that a checkpoint
// brings along. It renders messages into Segments, and with a tokenizer into token ids. What a message says is always
// text: a user who types "<|im_end|>" or "<think>" gets the letters, not the token, unless Options.ParseSpecial asks for it.
// tokenizer.EncodeSpans says which tokens that holds for. The package runs no model and keeps no conversation.
package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pumice/chat/internal/jinja"
)

// A Message is one turn of a conversation. Roles are "system", "user", "assistant", and where a template knows it "tool".
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A Segment is a piece of a prompt. Its Tokens come first, each one id. Its Text is tokenized together with the segments
// before it when Join is set (a tokenizer merges across such a seam), and alone when not. Only where ParseSpecial is set
// do the texts of special tokens and other marks stand for those tokens.
type Segment struct {
	Tokens       []string
	Text         string
	ParseSpecial bool
	Join         bool
}

// Options of rendering and encoding. The zero value asks for the assistant's turn and has no limit.
type Options struct {
	// NoGenerationPrompt leaves out the beginning of the assistant's next turn.
	NoGenerationPrompt bool
	// ParseSpecial lets the texts of special tokens and other marks inside messages stand for those tokens.
	ParseSpecial bool
	// MaxTokens, if not 0, bounds the prompt. The oldest rounds are left out until it fits, system messages stay. When the
	// newest round alone does not fit, xverse and baichuan2 cut it on the left, as their authors do; other formats give a
	// *TooLongError, because a cut would break their structure.
	MaxTokens int
	// Variables are further variables of a Jinja template, such as enable_thinking or tools: nil, bool, int, float64,
	// string, json.RawMessage, and []any and map[string]any of these. Built-in formats ignore them.
	Variables map[string]any
	// Now is the time that a template's strftime_now tells; zero is the time of rendering.
	Now time.Time
}

// A Format writes conversations down in one model's way. It may be used by several goroutines.
type Format struct {
	name    string
	stop    []string
	needs   []string // special tokens without which the format means nothing
	cutLeft bool
	render  func(ctx context.Context, f *Format, msgs []Message, o Options) ([]Segment, error)
}

// Name returns the built-in format's name, or the name that Jinja was given.
func (f *Format) Name() string { return f.name }

// Stop returns the texts at which an answer ends: special tokens such as "<|im_end|>", or plain strings. The model's own EOS
// ends it too and need not be among them.
func (f *Format) Stop() []string { return slices.Clone(f.stop) }

// Render writes messages down. addGenerationPrompt ends the prompt with the beginning of the assistant's turn.
// Errors are *Error and, for Jinja templates, *TemplateError, which the end of ctx gives too.
func (f *Format) Render(ctx context.Context, msgs []Message, addGenerationPrompt bool) ([]Segment, error) {
	return f.RenderWith(ctx, msgs, Options{NoGenerationPrompt: !addGenerationPrompt})
}

// RenderWith is Render with options, of which MaxTokens has no meaning here.
func (f *Format) RenderWith(ctx context.Context, msgs []Message, o Options) ([]Segment, error) {
	if len(msgs) == 0 {
		return nil, &Error{Format: f.name, Message: -1, Msg: "no messages"}
	}
	return f.render(ctx, f, msgs, o)
}

// Text renders messages as one string, special tokens by their texts: what the model reads, for people.
func (f *Format) Text(ctx context.Context, msgs []Message, o Options) (string, error) {
	segments, err := f.RenderWith(ctx, msgs, o)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range segments {
		for _, t := range s.Tokens {
			b.WriteString(t)
		}
		b.WriteString(s.Text)
	}
	return b.String(), nil
}

// An Error is a conversation that a format can't write down. Message is the index of the message at fault, or -1.
type Error struct {
	Format  string
	Message int
	Msg     string
}

func (e *Error) Error() string {
	if e.Message < 0 {
		return fmt.Sprintf("chat: format %s: %s", e.Format, e.Msg)
	}
	return fmt.Sprintf("chat: format %s: message %d: %s", e.Format, e.Message, e.Msg)
}

// A TemplateError says what is wrong with a Jinja template and where; Raised is set when the template itself refused the
// conversation.
type TemplateError = jinja.Error

// A TooLongError says that a prompt has more tokens than Options.MaxTokens allows.
type TooLongError struct {
	Format      string
	Tokens, Max int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("chat: format %s: the newest message makes a prompt of %d tokens, the limit is %d", e.Format, e.Tokens, e.Max)
}

// A TokenError says that the tokenizer lacks a special token of the format: the format belongs to another model.
type TokenError struct{ Format, Token string }

func (e *TokenError) Error() string {
	return fmt.Sprintf("chat: format %s: the tokenizer has no token %q: the format is another model's", e.Format, e.Token)
}
