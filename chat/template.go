package chat

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"pumice/chat/internal/jinja"
	"pumice/internal/regular"
)

// Jinja returns the format that a Jinja template describes, as Hugging Face transformers renders it: trim_blocks and
// lstrip_blocks on, and messages, tools, add_generation_prompt, bos_token, eos_token, raise_exception, strftime_now and
// Options.Variables in scope. name appears in errors, which are *TemplateError.
//
// Rendering distinguishes the template's own text from text of the messages, through any trimming, splitting and
// joining that the template does. Special tokens and other marks count as such only in the template's own text. The
// segments of one rendering are joined: they are tokenized as the one text that transformers would tokenize.
//
// A template is an untrusted program. It can't access files or other templates, and the time, memory and recursion of
// parsing and rendering it are bounded: exceeding a bound is an error, and so is the end of the context passed to
// either.
func Jinja(ctx context.Context, name, source, bos, eos string) (*Format, error) {
	t, err := jinja.Parse(ctx, name, source)
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	f := &Format{name: name, template: &jinjaTemplate{parsed: t, source: source, bos: bos, eos: eos}}
	if eos != "" {
		f.stop = append(f.stop, eos)
	}
	f.addStops(source)
	return f, nil
}

// WithToolTemplate returns a format that renders conversations with tools or calls by a second template of the model, and
// others as f does, which must have a template. In transformers its name is tool_use.
func (f *Format) WithToolTemplate(ctx context.Context, source string) (*Format, error) {
	t, err := jinja.Parse(ctx, f.name, source)
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	with := *f
	with.stop = slices.Clone(f.stop)
	with.addStops(source)
	with.toolTemplate = &jinjaTemplate{parsed: t, source: source, bos: f.template.bos, eos: f.template.eos}
	return &with, nil
}

// addStops adds the ends of turns that a template writes.
func (f *Format) addStops(source string) {
	for _, end := range turnEnds {
		if strings.Contains(source, end) && !slices.Contains(f.stop, end) {
			f.stop = append(f.stop, end)
		}
	}
}

// A jinjaTemplate is a Jinja template with what it needs besides a conversation.
type jinjaTemplate struct {
	parsed   *jinja.Template
	source   string
	bos, eos string

	mu    sync.Mutex
	takes *takes // nil until tools, calls or parts are to be rendered
}

// segments renders a conversation.
func (t *jinjaTemplate) segments(ctx context.Context, name string, msgs []Message, o Options) ([]Segment, error) {
	var takes takes
	if len(o.Tools) > 0 || slices.ContainsFunc(msgs, func(m Message) bool { return len(m.Parts)+len(m.ToolCalls) > 0 }) {
		var err error
		if takes, err = t.tried(ctx); err != nil {
			return nil, fmt.Errorf("chat: %w", err)
		}
	}
	if len(o.Tools) > 0 && !takes.tools {
		return nil, &NoToolsError{name, -1}
	}
	list := make([]any, len(msgs))
	names := map[string]string{} // of the functions called, by the call's id
	for i, m := range msgs {
		if len(m.ToolCalls) > 0 && takes.calls == nil {
			return nil, &NoToolsError{name, i}
		}
		for _, c := range m.ToolCalls {
			names[c.ID] = c.Name
		}
		if m.Role == "tool" && m.Name == "" { // OpenAI's API leaves it out, and some templates need it
			m.Name = names[m.ToolCallID]
		}
		var err error
		if list[i], err = takes.message(m); err != nil {
			return nil, &Error{name, i, err.Error()}
		}
	}
	spans, err := t.render(ctx, list, o)
	if err != nil {
		return nil, fmt.Errorf("chat: %w", err)
	}
	p := &page{parse: o.ParseSpecial}
	for _, s := range spans {
		if s.Foreign {
			p.said(s.Text)
		} else {
			p.own(s.Text)
		}
	}
	return p.done(), nil
}

// render renders messages in the form that the template takes.
func (t *jinjaTemplate) render(ctx context.Context, msgs []any, o Options) ([]jinja.Span, error) {
	v := jinja.Variables{
		Template: map[string]any{"bos_token": t.bos, "eos_token": t.eos, "add_generation_prompt": !o.NoGenerationPrompt},
		Foreign:  map[string]any{"tools": nil, "documents": nil}, // defined, as in transformers
		Now:      o.Now,
	}
	for k, x := range o.Variables {
		v.Foreign[k] = x
	}
	v.Foreign["messages"] = msgs
	if len(o.Tools) > 0 {
		tools, err := json.Marshal(o.Tools)
		if err != nil {
			return nil, err
		}
		v.Foreign["tools"] = json.RawMessage(tools)
	}
	return t.parsed.Render(ctx, v)
}

// roles are the role names that count as the template's own text, since some templates write <|{{ role }}|> for a mark.
// This is safe: the author of a message can only choose among these names.
var roles = []string{"system", "developer", "user", "assistant", "tool", "ipython"}

// turnEnds are the tokens that end the assistant's turn in published templates. A template contains them but does not
// say which of its tokens ends a turn.
var turnEnds = []string{"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|end|>", "<eoa>", "<|end_of_turn|>", "<|return|>", "<|endoftext|>"}

// A NoFormatError says that a model has no chat template and that no built-in format is known to fit it.
type NoFormatError struct{ Family string }

func (e *NoFormatError) Error() string {
	of := ""
	if e.Family != "" {
		of = fmt.Sprintf(" of family %q", e.Family)
	}
	return fmt.Sprintf("chat: the model%s has no chat template and may be no chat model", of)
}

// Detect chooses the format of a model: its Jinja template if it has one, else the built-in format that its family
// (model_type or general.architecture) and vocabulary indicate. If there is none, the error is a *NoFormatError. has
// reports whether the vocabulary has a token with the given text. ctx ends the parsing of a template.
func Detect(ctx context.Context, family, template, bos, eos string, has func(token string) bool) (*Format, error) {
	if template != "" {
		return Jinja(ctx, "chat_template", template, bos, eos)
	}
	fits := func(name string) bool { // the vocabulary has every token that the format needs
		f, err := Builtin(name)
		return err == nil && !slices.ContainsFunc(f.needs, func(t string) bool { return !has(t) })
	}
	family = strings.ToLower(family)
	// Families whose vocabulary is shared by other families, or whose format has no token of its own, are recognised by
	// name.
	switch {
	case family == "xverse":
		return Builtin("xverse")
	case strings.HasPrefix(family, "baichuan") && fits("baichuan2"):
		return Builtin("baichuan2")
	case family == "chatglm" && fits("chatglm2") && !has("<|user|>"): // ChatGLM3 has that token and another format
		return Builtin("chatglm2")
	case family == "internlm" && fits("internlm"):
		return Builtin("internlm")
	}
	for _, name := range []string{"chatml", "llama3", "gemma"} {
		if fits(name) {
			return Builtin(name)
		}
	}
	switch family {
	case "falcon", "refinedweb", "refinedwebmodel":
		return Builtin("falcon")
	case "mpt":
		return Builtin("mpt-instruct")
	}
	return nil, &NoFormatError{family}
}

// Open returns the format given by name or file: a built-in format, or the Jinja template in a file.
func Open(ctx context.Context, nameOrFile, bos, eos string) (*Format, error) {
	if f, err := Builtin(nameOrFile); err == nil {
		return f, nil
	}
	const limit = 1 << 20
	source, err := regular.ReadFile(nameOrFile, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("chat: %s is neither a file nor one of the built-in formats %s", nameOrFile,
			strings.Join(Names(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("chat: template: %w", err)
	}
	return Jinja(ctx, nameOrFile, string(source), bos, eos)
}
