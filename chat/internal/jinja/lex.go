package jinja

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind uint8

const (
	kEOF kind = iota
	kData
	kVarBegin
	kVarEnd
	kBlockBegin
	kBlockEnd
	kName
	kString
	kInt
	kFloat
	kOp
)

type token struct {
	kind kind
	s    string
	line int
}

func (t token) String() string {
	switch t.kind {
	case kEOF:
		return "the end of the template"
	case kVarEnd:
		return "'}}'"
	case kBlockEnd:
		return "'%}'"
	case kData:
		return "text"
	}
	return quote(t.s)
}

// lexer splits a source into text and tags. It returns one token at a time, since a list of them would be many times as
// large as the source. White space around tags follows jinja2 3.1 with trim_blocks and lstrip_blocks: a newline right
// after a block or comment tag is removed, and so is blank space before one at the start of a line; '-' in a tag strips
// all white space on its side, '+' keeps it.
type lexer struct {
	*budget
	src       string
	at        int
	line      int
	ready     []token // tokens read but not yet returned, at most the beginning of one tag
	lineStart bool    // the text begins at the start of a line
	end       string  // the end of the tag being read, "" outside tags
	ending    kind
	open      []byte // the brackets still open in the tag
	busy      bool   // an error now is on line
}

func newLexer(b *budget, src string) *lexer {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	return &lexer{budget: b, src: strings.TrimSuffix(src, "\n"), line: 1, lineStart: true}
}

// next returns the next token; at the end it returns kEOF each time.
func (l *lexer) next() token {
	l.busy = true
	for len(l.ready) == 0 {
		from := l.at
		switch {
		case l.end != "":
			l.inside()
		case l.at == len(l.src):
			l.emit(kEOF, "")
		default:
			l.outside()
		}
		l.step(1 + (l.at-from)/bytesPerStep)
	}
	l.busy = false
	t := l.ready[0]
	l.ready = append(l.ready[:0], l.ready[1:]...)
	return t
}

// outside reads text up to a tag and the beginning of the tag, a comment, or a raw block.
func (l *lexer) outside() {
	i := tagAt(l.src[l.at:])
	if i < 0 {
		l.emit(kData, l.src[l.at:])
		l.advance(len(l.src))
		return
	}
	data := l.src[l.at : l.at+i]
	open := l.src[l.at+i+1]
	tag := l.at + i + 2
	sign := byte(0)
	if tag < len(l.src) && (l.src[tag] == '-' || l.src[tag] == '+') {
		sign = l.src[tag]
		tag++
	}
	kept := data
	if sign == '-' {
		kept = strings.TrimRightFunc(data, isSpace)
	} else if sign == 0 && open != '{' {
		if from := strings.LastIndexByte(data, '\n') + 1; (from > 0 || l.lineStart) && strings.TrimFunc(data[from:], isSpace) == "" {
			kept = data[:from]
		}
	}
	if kept != "" {
		l.emit(kData, kept)
	}
	l.advance(l.at + i)
	switch open {
	case '#':
		n := strings.Index(l.src[tag:], "#}")
		if n < 0 {
			fail("'{#' without '#}'")
		}
		l.leaveTag(l.afterEnd(tag+n, tag, true))
	case '%':
		if body, after, ok := l.raw(tag); ok {
			if body != "" {
				l.emit(kData, body)
			}
			l.leaveTag(after)
			return
		}
		l.enterTag(tag, kBlockBegin, "%}", kBlockEnd)
	default:
		l.enterTag(tag, kVarBegin, "}}", kVarEnd)
	}
}

func (l *lexer) enterTag(at int, beginning kind, end string, ending kind) {
	l.emit(beginning, "")
	l.advance(at)
	l.end, l.ending = end, ending
}

func (l *lexer) leaveTag(at int) {
	l.advance(at)
	l.end = ""
	l.lineStart = l.src[at-1] == '\n'
}

func (l *lexer) emit(k kind, s string) { l.ready = append(l.ready, token{k, s, l.line}) }

func (l *lexer) advance(to int) {
	l.line += strings.Count(l.src[l.at:to], "\n")
	l.at = to
}

// tagAt finds the first '{{', '{%' or '{#'.
func tagAt(s string) int {
	for i := 0; ; i++ {
		n := strings.IndexByte(s[i:], '{')
		if n < 0 || i+n+1 >= len(s) {
			return -1
		}
		i += n
		if c := s[i+1]; c == '{' || c == '%' || c == '#' {
			return i
		}
	}
}

// afterEnd returns the position at which text continues after a tag's end at at. It depends on the sign before the end
// and the newline after it.
func (l *lexer) afterEnd(at, tag int, trim bool) int {
	sign := byte(0)
	if at > tag {
		sign = l.src[at-1]
	}
	end := at + 2
	switch {
	case sign == '-':
		end = len(l.src) - len(strings.TrimLeftFunc(l.src[end:], isSpace))
	case sign != '+' && trim && end < len(l.src) && l.src[end] == '\n':
		end++
	}
	return end
}

// raw reads the rest of a raw block from inside its '{%'. ok says whether it is one.
func (l *lexer) raw(tag int) (body string, after int, ok bool) {
	rest := strings.TrimLeftFunc(l.src[tag:], isSpace)
	if !strings.HasPrefix(rest, "raw") {
		return "", 0, false
	}
	rest = strings.TrimLeftFunc(rest[3:], isSpace)
	switch {
	case strings.HasPrefix(rest, "-%}"):
		rest = strings.TrimLeftFunc(rest[3:], isSpace)
	case strings.HasPrefix(rest, "%}"):
		rest = rest[2:]
	default:
		return "", 0, false
	}
	start := len(l.src) - len(rest)
	for i := start; ; i += 2 {
		n := strings.Index(l.src[i:], "{%")
		if n < 0 {
			fail("'{%% raw %%}' without '{%% endraw %%}'")
		}
		i += n
		in := i + 2
		sign := byte(0)
		if in < len(l.src) && (l.src[in] == '-' || l.src[in] == '+') {
			sign = l.src[in]
			in++
		}
		word := strings.TrimLeftFunc(l.src[in:], isSpace)
		if !strings.HasPrefix(word, "endraw") {
			continue
		}
		word = strings.TrimLeftFunc(word[6:], isSpace)
		at := len(l.src) - len(word)
		end := at
		if strings.HasPrefix(word, "-%}") || strings.HasPrefix(word, "+%}") {
			end++
		} else if !strings.HasPrefix(word, "%}") {
			continue
		}
		body = l.src[start:i]
		if sign == '-' {
			body = strings.TrimRightFunc(body, isSpace)
		} else if from := strings.LastIndexByte(body, '\n') + 1; sign == 0 && from > 0 && strings.TrimFunc(body[from:], isSpace) == "" {
			body = body[:from]
		}
		return body, l.afterEnd(end, at, true), true
	}
}

var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", ";"}

// inside reads a token of a tag, or the tag's end.
func (l *lexer) inside() {
	rest := strings.TrimLeftFunc(l.src[l.at:], isSpace)
	l.advance(len(l.src) - len(rest))
	if rest == "" {
		fail("a tag is not closed by '%s'", l.end)
	}
	if len(l.open) == 0 {
		at := -1
		if strings.HasPrefix(rest, l.end) {
			at = l.at
		} else if (rest[0] == '-' || (rest[0] == '+' && l.end == "%}")) && strings.HasPrefix(rest[1:], l.end) {
			at = l.at + 1
		}
		if at >= 0 {
			l.emit(l.ending, "")
			l.leaveTag(l.afterEnd(at, l.at, l.end == "%}"))
			return
		}
	}
	c, _ := utf8.DecodeRuneInString(rest)
	switch {
	case c == '\'' || c == '"':
		l.str(byte(c))
	case c >= '0' && c <= '9':
		l.number()
	case c == '_' || unicode.IsLetter(c):
		n := strings.IndexFunc(rest, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		if n < 0 {
			n = len(rest)
		}
		if n > maxName {
			fail("a name of %d bytes, the limit is %d", n, maxName)
		}
		l.emit(kName, rest[:n])
		l.advance(l.at + n)
	default:
		l.operator(rest)
	}
}

// operator reads an operator and keeps track of open brackets.
func (l *lexer) operator(rest string) {
	op := ""
	for _, o := range operators {
		if strings.HasPrefix(rest, o) {
			op = o
			break
		}
	}
	switch op {
	case "":
		c, _ := utf8.DecodeRuneInString(rest)
		fail("unexpected character %q", c)
	case "(", "[", "{":
		if len(l.open) >= maxNesting {
			fail("nested too deeply: more than %d brackets", maxNesting)
		}
		l.open = append(l.open, op[0])
	case ")", "]", "}":
		if n := len(l.open); n == 0 || strings.IndexByte("([{", l.open[n-1]) != strings.IndexByte(")]}", op[0]) {
			fail("unexpected '%s'", op)
		}
		l.open = l.open[:len(l.open)-1]
	}
	l.emit(kOp, op)
	l.advance(l.at + len(op))
}

// number reads an integer or a float in Python's syntax.
func (l *lexer) number() {
	s := l.src[l.at:]
	n := 0
	digits := func(ok string) {
		for n < len(s) && strings.IndexByte(ok, s[n]) >= 0 {
			n++
		}
	}
	const decimal = "0123456789_"
	if len(s) > 2 && s[0] == '0' && strings.IndexByte("xXoObB", s[1]) >= 0 {
		n = 2
		digits("0123456789abcdefABCDEF_")
		l.emit(kInt, s[:n])
		l.advance(l.at + n)
		return
	}
	k := kInt
	digits(decimal)
	if n+1 < len(s) && s[n] == '.' && s[n+1] >= '0' && s[n+1] <= '9' {
		k = kFloat
		n++
		digits(decimal)
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		m := n
		n++
		if n < len(s) && (s[n] == '+' || s[n] == '-') {
			n++
		}
		from := n
		if digits(decimal); n == from {
			n = m
		} else {
			k = kFloat
		}
	}
	l.emit(k, strings.ReplaceAll(s[:n], "_", ""))
	l.advance(l.at + n)
}

// simpleEscapes are Python's escapes of one character.
var simpleEscapes = map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\n': ""}

// str reads a string literal with Python's escapes.
func (l *lexer) str(quote byte) {
	s := l.src[l.at:]
	var b strings.Builder
	i := 1
	for {
		if i >= len(s) {
			fail("a string is not closed by %c", quote)
		}
		c := s[i]
		if c == quote {
			break
		}
		if c != '\\' || i+1 >= len(s) {
			b.WriteByte(c)
			i++
			continue
		}
		e := s[i+1]
		i += 2
		if r, ok := simpleEscapes[e]; ok {
			b.WriteString(r)
			continue
		}
		base, width := 16, 0
		switch {
		case e == 'x':
			width = 2
		case e == 'u':
			width = 4
		case e == 'U':
			width = 8
		case e >= '0' && e <= '7':
			base, width, i = 8, 1, i-1
			for width < 3 && i+width < len(s) && s[i+width] >= '0' && s[i+width] <= '7' {
				width++
			}
		}
		if width == 0 {
			b.WriteByte('\\')
			b.WriteByte(e)
			continue
		}
		if i+width > len(s) {
			fail("a string is not closed by %c", quote)
		}
		v, err := strconv.ParseUint(s[i:i+width], base, 32)
		if err != nil || v > unicode.MaxRune {
			fail("bad escape '\\%s' in a string", string(e))
		}
		b.WriteRune(rune(v))
		i += width
	}
	l.emit(kString, b.String())
	l.advance(l.at + i + 1)
}
