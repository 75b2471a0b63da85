package toolcall

import (
	"crypto/rand"
	"iter"
	"strings"
)

// Limits. What exceeds them is content.
const (
	maxCall  = 1 << 20 // bytes of a call, or of calls in one list
	maxDepth = 100     // nested values
	maxSpace = 1 << 10 // bytes of white space that are held back because a mark may follow
)

// A Parser parses one answer. It is for one goroutine at a time, and must be closed.
//
// The grammar is written as ordinary recursive functions that read byte after byte. They run in a coroutine, which
// waits where the text pushed so far ends; so nothing depends on how the text is cut.
type Parser struct {
	o       Options
	grammar grammar
	types   map[string]map[string][]string // of the tools' parameters, by function and name

	resume func() (struct{}, bool) // runs the coroutine until it needs more text
	yield  func(struct{}) bool     // leaves it
	closed bool                    // no more text comes

	buf   []byte
	pos   int // the next byte to read
	out   int // bytes before it are accounted for
	safe  int // bytes from out to here are of kind, whatever comes
	kind  Kind
	limit int // where reading ends in a call, or 0

	held   []call  // complete calls of the one being read
	from   int     // where arguments that are written as they are returned go on, or -1
	calls  int     // returned, whole or not
	deltas []Delta // not yet returned
}

type call struct {
	id, name string
	args     []byte
}

// New returns a parser. An unknown syntax is None.
func New(syntax Syntax, o Options) *Parser {
	p := &Parser{o: o, types: map[string]map[string][]string{}, from: -1}
	for _, t := range o.Tools {
		p.types[t.Name] = parameterTypes(t.Parameters)
	}
	if len(o.Tools) > 0 {
		p.grammar = grammars[syntax]
	}
	if p.o.NewID == nil {
		p.o.NewID = func() string { return rand.Text()[:9] }
	}
	p.resume, _ = iter.Pull(func(yield func(struct{}) bool) {
		p.yield = yield
		p.answer(syntax)
	})
	return p
}

// Push takes the next piece of the answer and returns what is known now.
func (p *Parser) Push(text string) []Delta {
	if p.closed || text == "" {
		return nil
	}
	p.buf = append(p.buf, text...)
	p.resume()
	return p.take()
}

// Close says that the answer has ended and returns the rest of it. Later calls do nothing.
func (p *Parser) Close() []Delta {
	if p.closed {
		return nil
	}
	p.closed = true
	p.resume()
	return p.take()
}

func (p *Parser) take() []Delta {
	d := p.deltas
	p.deltas = nil
	return d
}

// at returns the byte that is i bytes ahead, and false if the text ends before it.
func (p *Parser) at(i int) (byte, bool) {
	if p.limit > 0 && p.pos+i >= p.limit {
		return 0, false
	}
	for p.pos+i >= len(p.buf) {
		if p.closed {
			return 0, false
		}
		p.flush()
		p.yield(struct{}{})
	}
	return p.buf[p.pos+i], true
}

// next reports whether the next byte is c, and reads it then.
func (p *Parser) next(c byte) bool {
	b, ok := p.at(0)
	if ok = ok && b == c; ok {
		p.pos++
	}
	return ok
}

// literal reads text if it comes next.
func (p *Parser) literal(text string) bool {
	for i := range len(text) {
		if b, ok := p.at(i); !ok || b != text[i] {
			return false
		}
	}
	p.pos += len(text)
	return true
}

// space reads white space.
func (p *Parser) space() {
	for b, ok := p.at(0); ok && isSpace(b); b, ok = p.at(0) {
		p.pos++
	}
}

func isSpace(b byte) bool { return b == ' ' || b == '\n' || b == '\t' || b == '\r' }

// drop accounts for what was read as a mark.
func (p *Parser) drop() { p.out, p.safe = p.pos, p.pos }

// flush returns the text and the arguments that are known.
func (p *Parser) flush() {
	if p.out < p.safe {
		p.deltas = append(p.deltas, Delta{Kind: p.kind, Text: string(p.buf[p.out:p.safe])})
		p.out = p.safe
	}
	if from := p.from; from >= 0 && from < p.pos {
		p.from = p.pos
		p.fragment(string(p.buf[from:p.pos]))
	}
}

// open begins a call, and fragment adds to its arguments what was read up to here. Without Eager both are held.
func (p *Parser) open(id, name string) {
	if p.o.Eager {
		p.begin(id, name, "")
		p.drop()
		return
	}
	p.held = append(p.held, call{id: id, name: name})
}

func (p *Parser) fragment(text string) {
	if p.o.Eager {
		p.deltas = append(p.deltas, Delta{Kind: Call, Index: p.calls - 1, Text: text})
		p.drop()
		return
	}
	c := &p.held[len(p.held)-1]
	c.args = append(c.args, text...)
}

// begin returns the beginning of a call, with arguments so far.
func (p *Parser) begin(id, name, arguments string) {
	p.flush()
	if id == "" {
		id = p.o.NewID()
	}
	p.deltas = append(p.deltas, Delta{Kind: Call, Index: p.calls, ID: id, Name: name, Text: arguments})
	p.calls++
}

// answer reads an answer.
func (p *Parser) answer(syntax Syntax) {
	mark := p.o.Thinking
	for b, ok := p.at(0); ok && isSpace(b) && p.pos < maxSpace; b, ok = p.at(0) {
		p.pos++
	}
	for _, m := range []string{"<think>", "[THINK]"} {
		if p.literal(m) {
			mark = m
			break
		}
	}
	switch {
	case mark != "":
		p.reasoning(mark[:1] + "/" + mark[1:])
	case syntax == ChatGLM3: // a line without a name says that no call follows
		p.drop()
	default:
		p.pos = 0
	}
	p.content()
	p.flush()
}

// reasoning reads up to the closing mark.
func (p *Parser) reasoning(closing string) {
	p.space()
	p.drop()
	p.kind = Reasoning
	for {
		b, ok := p.at(0)
		switch {
		case !ok:
			p.safe = p.pos
			return
		case isSpace(b):
			p.readSpace()
		case p.literal(closing):
			p.flush()
			p.space()
			p.drop()
			p.kind = Content
			return
		default:
			p.pos++
			p.safe = p.pos
			p.forget()
		}
	}
}

// content reads content and calls up to the end.
func (p *Parser) content() {
	line := true    // only white space since a line or the text began, or a call ended
	last := byte(0) // of content; after a comma or a bracket, a line goes on with a list that is no list of calls
	for {
		b, ok := p.at(0)
		if !ok {
			p.safe = p.pos
			return
		}
		if isSpace(b) {
			line = line || b == '\n' && last != ',' && last != '['
			p.readSpace()
			continue
		}
		start := p.pos
		line = p.grammar.first != nil && p.grammar.first(b, line) && p.readCalls()
		if line {
			p.space()
			p.drop()
		} else {
			p.pos = max(p.pos, start+1)
			p.safe = p.pos
			last = p.buf[p.pos-1]
		}
		p.forget()
	}
}

// readSpace reads a byte of white space and holds it back, as it may be next to a mark.
func (p *Parser) readSpace() {
	p.pos++
	if p.pos-p.safe > maxSpace {
		p.safe = p.pos
	}
}

// forget drops bytes that are accounted for.
func (p *Parser) forget() {
	const enough = 4 << 10
	if p.out > enough {
		p.buf = p.buf[p.out:]
		p.pos, p.safe, p.out = p.pos-p.out, p.safe-p.out, 0
	}
}

// readCalls reads calls. If there are none, what was read is content, and reading goes on behind it: so each byte is read
// once.
func (p *Parser) readCalls() bool {
	p.limit = p.pos + maxCall
	ok := p.grammar.read(p)
	p.limit = 0
	if ok {
		for _, c := range p.held {
			p.begin(c.id, c.name, string(c.args))
		}
	}
	p.held = nil
	return ok
}

// known reports whether a function may be called.
func (p *Parser) known(name string) bool {
	_, ok := p.types[name]
	return ok
}

// prefix reports whether the name of a function that may be called begins so.
func (p *Parser) prefix(text string) bool {
	for name := range p.types {
		if strings.HasPrefix(name, text) {
			return true
		}
	}
	return false
}
