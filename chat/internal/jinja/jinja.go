// Package jinja renders the Jinja templates that checkpoints carry for their chat formats, as Hugging Face transformers
// does: jinja2's immutable sandbox with trim_blocks and lstrip_blocks on, loop controls, the generation tag, and the
// globals raise_exception and strftime_now.
//
// A Template is parsed once and rendered any number of times, from several goroutines too. It differs from jinja2 in
// two ways. Every string records which of its bytes came from the variables and which from the template, through
// slicing, splitting, stripping and joining, so the caller knows which special tokens the template wrote and which a
// user typed. And a template is an untrusted program: rendering is bounded in steps, bytes, depth and time, and can't
// access files, other templates or the host program.
//
// These are errors: include, import, extends, block, call, recursive loops, and changing a list or a dict in place
// (which the immutable sandbox forbids as well).
package jinja

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Span is a stretch of rendered text. Foreign text came from the variables, the rest from the template itself.
type Span struct {
	Text    string
	Foreign bool
}

// An Error reports an error in a template and its line. Raised is set if the template itself refused the variables by
// raise_exception; Msg is then its message.
type Error struct {
	Template string
	Line     int
	Msg      string
	Raised   bool
	Err      error // the context's error if rendering was cancelled, else nil
}

func (e *Error) Error() string {
	if e.Raised { // the message is the template's and is quoted
		return fmt.Sprintf("template %s: line %d: %q", e.Template, e.Line, e.Msg)
	}
	return fmt.Sprintf("template %s: line %d: %s", e.Template, e.Line, e.Msg)
}

// Unwrap returns the context's error if that was the cause.
func (e *Error) Unwrap() error { return e.Err }

// A Template is a parsed template.
type Template struct {
	name string
	body []stmt
}

// Variables are a template's variables besides the globals. Values are nil, bool, int, float64, string,
// json.RawMessage, Own, and []any and map[string]any of these (a template sees a map's keys sorted, and a
// json.RawMessage's in their own order).
type Variables struct {
	Template map[string]any // strings count as the template's own text: bos_token, eos_token
	Foreign  map[string]any // strings count as foreign text: messages, tools
	Now      time.Time      // the time for strftime_now; the zero value stands for the time of rendering
}

// An Own string among foreign variables counts as the template's own text.
type Own string

// Parse parses a template. name appears in errors, which are of type *Error. The end of ctx ends parsing with an error.
func Parse(ctx context.Context, name, source string) (t *Template, err error) {
	p := &parser{budget: newBudget(ctx), line: 1}
	defer func() { err = recovered(recover(), name, p.at(), err) }()
	if len(source) > maxSourceBytes {
		fail("the template has %d bytes, the limit is %d", len(source), maxSourceBytes)
	}
	p.step(1)
	p.lex = newLexer(&p.budget, source)
	body, _ := p.block()
	return &Template{name: name, body: body}, nil
}

// Render executes the template. Adjacent spans differ in Foreign, and none is empty. Errors are of type *Error.
func (t *Template) Render(ctx context.Context, v Variables) (spans []Span, err error) {
	in := &interp{budget: newBudget(ctx), now: v.Now}
	defer func() { err = recovered(recover(), t.name, in.line, err) }()
	out := in.builder()
	in.run(t.body, in.globals(v), out)
	return out.text().spans(), nil
}

// globals converts the variables and adds the global functions.
func (in *interp) globals(v Variables) *scope {
	in.step(1)
	if in.now.IsZero() {
		in.now = time.Now()
	}
	sc := in.child(nil)
	in.convert = true
	for name, x := range v.Template {
		in.set(sc, name, in.value(x, false))
	}
	for name, x := range v.Foreign {
		in.set(sc, name, in.value(x, true))
	}
	in.convert = false
	return sc
}

// bail carries an error from anywhere in this package up to Parse or Render, which turn it into an *Error. No other
// panic is caught.
type bail struct {
	msg    string
	raised bool
	err    error
}

func fail(format string, args ...any) { panic(bail{msg: fmt.Sprintf(format, args...)}) }

func recovered(r any, name string, line int, err error) error {
	switch b := r.(type) {
	case nil:
		return err
	case bail:
		if b.raised {
			b.msg = strings.ToValidUTF8(b.msg, "\ufffd")
		} else {
			b.msg = printable(b.msg)
		}
		return &Error{Template: name, Line: max(line, 1), Msg: b.msg, Raised: b.raised, Err: b.err}
	}
	panic(r)
}

// printable escapes the characters of a message that can't be printed: it may quote text of a template.
func printable(msg string) string {
	var b strings.Builder
	for _, r := range msg {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		escape := strconv.QuoteRune(r)
		b.WriteString(escape[1 : len(escape)-1])
	}
	return b.String()
}

// interp is the state of one rendering.
type interp struct {
	budget
	now  time.Time
	line int
}
