// Package chat turns conversations into the prompts that chat models were trained on.
//
// A Format is one way to write a conversation as a prompt: a built-in one, or the Jinja template of a checkpoint. It
// renders messages into Segments, and with a tokenizer into token ids. The content of a message is always text: if a
// user types "<|im_end|>" or "<think>", the model sees these letters and not the token, unless Options.ParseSpecial is
// set. tokenizer.EncodeSpans says for which tokens this holds. The package runs no model and keeps no conversation.
package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pumice/chat/internal/jinja"
)

// A Message is one turn of a conversation. Roles are "system", "user", "assistant", and "tool" in formats that have it.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A Segment is a section of a prompt: first its Tokens, each one id, then its Text. With Join, Text is tokenized
// together with the segment before it, so that tokens may cross the boundary; otherwise the tokenizer starts anew. Only
// with ParseSpecial are special tokens and other marks that Text spells out parsed as tokens.
type Segment struct {
	Tokens       []string
	Text         string
	ParseSpecial bool
	Join         bool
}

// Options configure rendering and encoding. The zero value ends the prompt with the beginning of the assistant's turn
// and has no limit.
type Options struct {
	// NoGenerationPrompt leaves out the beginning of the assistant's next turn.
	NoGenerationPrompt bool
	// ParseSpecial parses special tokens and other marks that messages spell out as tokens.
	ParseSpecial bool
	// MaxTokens, if not 0, limits the prompt. The oldest rounds are left out until it fits; system messages stay. If
	// the newest round alone does not fit, xverse and baichuan2 cut tokens off the prompt's start, as their authors do;
	// other formats return a *TooLongError, because a cut would break their structure.
	MaxTokens int
	// Variables are additional variables for a Jinja template, such as enable_thinking or tools. Values are nil, bool,
	// int, float64, string, json.RawMessage, and []any and map[string]any of these. Built-in formats ignore them.
	Variables map[string]any
	// Now is the time for a template's strftime_now; the zero value stands for the time of rendering.
	Now time.Time
}

// A Format writes conversations in the form that one model expects. It is safe for concurrent use.
type Format struct {
	name    string
	stop    []string
	needs   []string // special tokens that the vocabulary must have
	cutLeft bool
	render  func(ctx context.Context, f *Format, msgs []Message, o Options) ([]Segment, error)
}

// Name returns the built-in format's name, or the name passed to Jinja.
func (f *Format) Name() string { return f.name }

// Stop returns the texts that end an answer: special tokens such as "<|im_end|>", or plain strings. The model's own EOS
// ends it too and need not be among them.
func (f *Format) Stop() []string { return slices.Clone(f.stop) }

// Render renders messages. addGenerationPrompt ends the prompt with the beginning of the assistant's turn. Errors are
// *Error and, for Jinja templates, *TemplateError, also when ctx ends.
func (f *Format) Render(ctx context.Context, msgs []Message, addGenerationPrompt bool) ([]Segment, error) {
	return f.RenderWith(ctx, msgs, Options{NoGenerationPrompt: !addGenerationPrompt})
}

// RenderWith is Render with options. It ignores MaxTokens.
func (f *Format) RenderWith(ctx context.Context, msgs []Message, o Options) ([]Segment, error) {
	if len(msgs) == 0 {
		return nil, &Error{Format: f.name, Message: -1, Msg: "no messages"}
	}
	return f.render(ctx, f, msgs, o)
}

// Text renders messages as one string, with special tokens spelled out, so that people can read the prompt.
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

// An Error reports a conversation that a format can't express. Message is the index of the wrong message, or -1.
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

// A TemplateError reports an error in a Jinja template and its line. Raised is set if the template itself refused the
// conversation.
type TemplateError = jinja.Error

// A TooLongError says that a prompt has more tokens than Options.MaxTokens allows.
type TooLongError struct {
	Format      string
	Tokens, Max int
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("chat: format %s: the prompt of the newest round has %d tokens, the limit is %d",
		e.Format, e.Tokens, e.Max)
}

// A TokenError says that the tokenizer lacks a special token of the format, which belongs to another model.
type TokenError struct{ Format, Token string }

func (e *TokenError) Error() string {
	return fmt.Sprintf("chat: format %s: the tokenizer has no token %q: the format belongs to another model",
		e.Format, e.Token)
}
