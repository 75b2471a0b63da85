// Package jinja renders the Jinja templates that checkpoints carry for their chat formats, as Hugging Face transformers
// does: jinja2's immutable sandbox with trim_blocks and lstrip_blocks on, loop controls, the generation tag, and the
// globals raise_exception and strftime_now.
//
// A Template is parsed once and rendered any number of times, from several goroutines too. Two things set this
// implementation apart. Every string carries which of its bytes came from the variables and which from the template,
// through slicing, splitting, stripping and joining, so the caller knows which special tokens the template wrote and
// which a user typed. And a template is a stranger's program: rendering is bounded in steps, bytes, depth and time, and
// there is no way to a file, to another template or to the host program.
//
// Not supported, and an error that says so: include, import, extends, block, call, recursive loops, and whatever changes a list
// or a dict in place (the immutable sandbox forbids that as well).
package jinja

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Span is a piece of the rendered text. Foreign text came from the variables, the rest from the template itself.
type Span struct {
	Text    string
	Foreign bool
}

// An Error says what is wrong with a template and where. Raised is set when the template itself refused the variables by
// raise_exception; Msg is then its message.
type Error struct {
	Template string
	Line     int
	Msg      string
	Raised   bool
	Err      error // the context's error when rendering was cancelled, else nil
}

func (e *Error) Error() string {
	if e.Raised { // words of the template's author
		return fmt.Sprintf("template %s: line %d: %q", e.Template, e.Line, e.Msg)
	}
	return fmt.Sprintf("template %s: line %d: %s", e.Template, e.Line, e.Msg)
}

// Unwrap returns the context's error, if it was that.
func (e *Error) Unwrap() error { return e.Err }

// A Template is a parsed template.
type Template struct {
	name string
	body []stmt
}

// Variables are what a template sees besides the globals. Values are nil, bool, int, float64, string, json.RawMessage, Own,
// []any and map[string]any of the same (a map is seen with its keys sorted, a json.RawMessage in its own order).
type Variables struct {
	Template map[string]any // strings count as the template's own text: bos_token, eos_token
	Foreign  map[string]any // strings count as foreign text: messages, tools
	Now      time.Time      // what strftime_now tells; zero = the time of rendering
}

// An Own string among foreign variables counts as the template's own text.
type Own string

// Parse reads a template. name appears in errors, which are of type *Error; ctx ends it as a limit does.
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

// Render runs the template. Neighbouring spans differ in Foreign; empty ones are left out. Errors are of type *Error.
func (t *Template) Render(ctx context.Context, v Variables) (spans []Span, err error) {
	in := &interp{budget: newBudget(ctx), now: v.Now}
	defer func() { err = recovered(recover(), t.name, in.line, err) }()
	out := in.builder()
	in.run(t.body, in.globals(v), out)
	return out.text().spans(), nil
}

// globals takes the variables in.
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

// printable is a message, which may quote any piece of a template, with characters that can't be printed as escapes.
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

// interp is one rendering.
type interp struct {
	budget
	now  time.Time
	line int
}
