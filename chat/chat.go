// Package chat turns conversations into the prompts that chat models were trained on.
//
// A Format is one way to write a conversation as a prompt: a built-in one, or the Jinja template of a checkpoint. It
// renders messages into Segments, and with a tokenizer into token ids. What a message holds is always text: if a
// user types "<|im_end|>" or "<think>", the model sees these letters and not the token, unless Options.ParseSpecial is
// set. That holds for every field of a message, and for tools and variables. tokenizer.EncodeSpans says for which tokens
// it does. The package runs no model and keeps no conversation; package chat/toolcall reads what models answer.
package chat

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pumice/chat/internal/jinja"
)

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
	// Tools are the functions that the assistant may call. A format that has no place for them returns a *NoToolsError.
	Tools []Tool
	// Variables are additional variables for a Jinja template, such as enable_thinking or reasoning_effort. Values are
	// nil, bool, int, float64, string, json.RawMessage, and []any and map[string]any of these. Built-in formats ignore
	// them.
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
	render  func(f *Format, msgs []Message, o Options) ([]Segment, error)

	// Formats that are not built in have a template instead of render, and may have another for conversations with tools.
	template, toolTemplate *jinjaTemplate
}

// Name returns the built-in format's name, or the name passed to Jinja.
func (f *Format) Name() string { return f.name }

// Stop returns the texts that end an answer: special tokens such as "<|im_end|>", or plain strings. The model's own EOS
// ends it too and need not be among them.
func (f *Format) Stop() []string { return slices.Clone(f.stop) }

// Template returns the source of the Jinja template that renders conversations with tools, or "" if the format is built
// in.
func (f *Format) Template() string {
	if t := f.templateFor(true); t != nil {
		return t.source
	}
	return ""
}

// templateFor returns the template for conversations with or without tools, or nil if the format is built in.
func (f *Format) templateFor(tools bool) *jinjaTemplate {
	if tools && f.toolTemplate != nil {
		return f.toolTemplate
	}
	return f.template
}

// Render renders messages. addGenerationPrompt ends the prompt with the beginning of the assistant's turn. Errors are
// *Error, *PartError, *NoToolsError and, for Jinja templates, *TemplateError, also when ctx ends.
func (f *Format) Render(ctx context.Context, msgs []Message, addGenerationPrompt bool) ([]Segment, error) {
	return f.RenderWith(ctx, msgs, Options{NoGenerationPrompt: !addGenerationPrompt})
}

// RenderWith is Render with options. It ignores MaxTokens.
func (f *Format) RenderWith(ctx context.Context, msgs []Message, o Options) ([]Segment, error) {
	if len(msgs) == 0 {
		return nil, &Error{Format: f.name, Message: -1, Msg: "no messages"}
	}
	for i, m := range msgs {
		for j, p := range m.Parts {
			if p.Type != "text" {
				return nil, &PartError{Format: f.name, Message: i, Part: j, Type: p.Type}
			}
		}
	}
	tools := len(o.Tools) > 0 || slices.ContainsFunc(msgs, func(m Message) bool { return len(m.ToolCalls) > 0 })
	if t := f.templateFor(tools); t != nil {
		return t.segments(ctx, f.name, msgs, o)
	}
	if len(o.Tools) > 0 {
		return nil, &NoToolsError{f.name, -1}
	}
	plain := make([]Message, len(msgs))
	for i, m := range msgs {
		if len(m.ToolCalls) > 0 {
			return nil, &NoToolsError{f.name, i}
		}
		plain[i] = Message{Role: m.Role, Content: m.text()}
	}
	return f.render(f, plain, o)
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

// A PartError says that a part of a message's content is not text. Message and Part are indexes.
type PartError struct {
	Format        string
	Message, Part int
	Type          string
}

func (e *PartError) Error() string {
	return fmt.Sprintf("chat: format %s: message %d: part %d has type %q: only text can be used", e.Format, e.Message,
		e.Part, e.Type)
}

// A NoToolsError says that a format has no place for tool calls, those of the message with index Message, or, if it is
// -1, for definitions of tools.
type NoToolsError struct {
	Format  string
	Message int
}

func (e *NoToolsError) Error() string {
	if e.Message < 0 {
		return fmt.Sprintf("chat: format %s: the model's chat format has no place for tools", e.Format)
	}
	return fmt.Sprintf("chat: format %s: message %d: the model's chat format has no place for tool calls", e.Format,
		e.Message)
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
