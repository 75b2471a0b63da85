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
	return strconv.Quote(t.s)
}

// lexer cuts a source into text and tags. White space around tags follows jinja2 3.1 with trim_blocks and lstrip_blocks:
// one newline after a block or comment tag goes, and so does blank space before one at the start of a line; '-' in a
// tag strips all white space on its side, '+' keeps it.
type lexer struct {
	src  string
	at   int
	line *int
	toks []token
}

func lex(src string, line *int) []token {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	src = strings.TrimSuffix(src, "\n")
	l := &lexer{src: src, line: line}
	lineStart := true // the text begins at the start of a line
	for l.at < len(l.src) {
		i := tagAt(l.src[l.at:])
		if i < 0 {
			l.emit(kData, l.src[l.at:])
			l.advance(len(l.src))
			break
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
			if from := strings.LastIndexByte(data, '\n') + 1; (from > 0 || lineStart) && strings.TrimFunc(data[from:], isSpace) == "" {
				kept = data[:from]
			}
		}
		if kept != "" {
			l.emit(kData, kept)
		}
		l.advance(l.at + i)
		end := tag
		switch open {
		case '#':
			n := strings.Index(l.src[tag:], "#}")
			if n < 0 {
				fail("'{#' without '#}'")
			}
			end = l.afterEnd(tag+n, tag, true)
		case '%':
			if body, after, ok := l.raw(tag); ok {
				if body != "" {
					l.emit(kData, body)
				}
				end = after
				break
			}
			l.emit(kBlockBegin, "")
			l.advance(tag)
			end = l.inside("%}", kBlockEnd)
		default:
			l.emit(kVarBegin, "")
			l.advance(tag)
			end = l.inside("}}", kVarEnd)
		}
		l.advance(end)
		lineStart = l.src[end-1] == '\n'
	}
	l.emit(kEOF, "")
	return l.toks
}

func (l *lexer) emit(k kind, s string) { l.toks = append(l.toks, token{k, s, *l.line}) }

func (l *lexer) advance(to int) {
	*l.line += strings.Count(l.src[l.at:to], "\n")
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

// afterEnd returns the position behind a tag's end, which is at; the sign before it and the newline behind it decide.
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

// raw reads from inside '{%' the rest of a raw block, if it is one.
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
	for i := start; ; {
		n := strings.Index(l.src[i:], "{%")
		if n < 0 {
			fail("'{%% raw %%}' without '{%% endraw %%}'")
		}
		i += n
		in := i + 2
		body = l.src[start:i]
		if in < len(l.src) && (l.src[in] == '-' || l.src[in] == '+') {
			if l.src[in] == '-' {
				body = strings.TrimRightFunc(body, isSpace)
			}
			in++
		} else if from := strings.LastIndexByte(body, '\n') + 1; from > 0 && strings.TrimFunc(body[from:], isSpace) == "" {
			body = body[:from]
		}
		word := strings.TrimLeftFunc(l.src[in:], isSpace)
		if strings.HasPrefix(word, "endraw") {
			word = strings.TrimLeftFunc(word[6:], isSpace)
			at := len(l.src) - len(word)
			if strings.HasPrefix(word, "-%}") || strings.HasPrefix(word, "+%}") {
				return body, l.afterEnd(at+1, at, true), true
			}
			if strings.HasPrefix(word, "%}") {
				return body, l.afterEnd(at, at, true), true
			}
		}
		i += 2
	}
}

var operators = []string{"**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "(", ")", "[", "]", "{", "}", ",", ":", ".", "|", ";"}

// inside reads the tokens of a tag up to its end and returns the position behind it.
func (l *lexer) inside(end string, ending kind) int {
	var open []byte
	for {
		rest := l.src[l.at:]
		trimmed := strings.TrimLeftFunc(rest, isSpace)
		l.advance(len(l.src) - len(trimmed))
		if trimmed == "" {
			fail("a tag is not closed by '%s'", end)
		}
		if len(open) == 0 {
			at := -1
			if strings.HasPrefix(trimmed, end) {
				at = l.at
			} else if (trimmed[0] == '-' || (trimmed[0] == '+' && end == "%}")) && strings.HasPrefix(trimmed[1:], end) {
				at = l.at + 1
			}
			if at >= 0 {
				l.emit(ending, "")
				return l.afterEnd(at, l.at, end == "%}")
			}
		}
		c, _ := utf8.DecodeRuneInString(trimmed)
		switch {
		case c == '\'' || c == '"':
			l.str(byte(c))
		case c >= '0' && c <= '9':
			l.number()
		case c == '_' || unicode.IsLetter(c):
			n := strings.IndexFunc(trimmed, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
			if n < 0 {
				n = len(trimmed)
			}
			l.emit(kName, trimmed[:n])
			l.advance(l.at + n)
		default:
			op := ""
			for _, o := range operators {
				if strings.HasPrefix(trimmed, o) {
					op = o
					break
				}
			}
			switch op {
			case "":
				fail("unexpected character %q", c)
			case "(", "[", "{":
				if len(open) >= maxNesting {
					fail("nested too deeply: more than %d brackets", maxNesting)
				}
				open = append(open, map[string]byte{"(": ')', "[": ']', "{": '}'}[op])
			case ")", "]", "}":
				if len(open) == 0 || open[len(open)-1] != op[0] {
					fail("unexpected '%s'", op)
				}
				open = open[:len(open)-1]
			}
			l.emit(kOp, op)
			l.advance(l.at + len(op))
		}
	}
}

// number reads an integer or a float as Python writes them.
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

// str reads a string literal with Python's escapes.
func (l *lexer) str(quote byte) {
	s := l.src[l.at:]
	var b strings.Builder
	simple := map[byte]string{'n': "\n", 't': "\t", 'r': "\r", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'v': "\v", '\n': ""}
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
		if r, ok := simple[e]; ok {
			b.WriteString(r)
			continue
		}
		base, width := 16, map[byte]int{'x': 2, 'u': 4, 'U': 8}[e]
		if e >= '0' && e <= '7' {
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
