package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxLiteralDepth bounds how deeply lists and dicts may be nested.
const maxLiteralDepth = 32

// parseValue parses a Python literal, or JSON if the text is not a literal. Values are map[string]any, []any, string,
// float64, bool and nil.
func parseValue(text []byte) (any, error) {
	v, err := parseLiteral(string(text))
	if err == nil {
		return v, nil
	}
	if v, jsonErr := parseJSON(text); jsonErr == nil {
		return v, nil
	}
	return nil, err
}

// parseJSON parses one JSON value. More text after it is an error.
func parseJSON(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("invalid JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("invalid JSON: text follows the value")
	}
	return v, nil
}

// parseLiteral parses a Python literal: dict, list, tuple, string, number, True, False, None (Python language
// reference, section 2.4). Nothing is evaluated; names, operators and calls are errors. Keys of dicts must be strings.
func parseLiteral(text string) (any, error) {
	p := literal{text: text}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.errorf("text follows the value")
	}
	return v, nil
}

type literal struct {
	text string
	at   int
}

func (p *literal) errorf(format string, args ...any) error {
	return fmt.Errorf("invalid Python literal at byte %d: %s", p.at, fmt.Sprintf(format, args...))
}

func (p *literal) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n\f", p.text[p.at]) >= 0 {
		p.at++
	}
}

// next returns the next byte that is not white space, or 0 at the end.
func (p *literal) next() byte {
	p.space()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

func (p *literal) value(depth int) (any, error) {
	if depth > maxLiteralDepth {
		return nil, p.errorf("nested more than %d deep", maxLiteralDepth)
	}
	c := p.next()
	switch {
	case c == 0:
		return nil, p.errorf("a value is missing")
	case c == '{':
		return p.dict(depth)
	case c == '[':
		v, _, err := p.list(']', depth)
		return v, err
	case c == '(':
		v, tuple, err := p.list(')', depth)
		if err == nil && len(v) == 1 && !tuple {
			return v[0], nil
		}
		return v, err
	case p.quoted() >= 0:
		return p.strings()
	case c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.':
		return p.number()
	}
	return p.name()
}

// list reads up to the closing bracket. tuple says that round brackets enclose a tuple and not one value.
func (p *literal) list(close byte, depth int) (v []any, tuple bool, err error) {
	p.at++
	v = []any{}
	for comma := true; ; {
		if p.next() == close {
			p.at++
			return v, comma || len(v) > 1, nil
		}
		if !comma {
			return nil, false, p.errorf("want a comma or %q", close)
		}
		item, err := p.value(depth + 1)
		if err != nil {
			return nil, false, err
		}
		v = append(v, item)
		if comma = p.next() == ','; comma {
			p.at++
		}
	}
}

func (p *literal) dict(depth int) (any, error) {
	p.at++
	v := map[string]any{}
	for comma := true; ; {
		if p.next() == '}' {
			p.at++
			return v, nil
		}
		if !comma {
			return nil, p.errorf("want a comma or '}'")
		}
		if p.quoted() < 0 {
			return nil, p.errorf("want a string as a key")
		}
		key, err := p.strings()
		if err != nil {
			return nil, err
		}
		if p.next() != ':' {
			return nil, p.errorf("want ':' after the key")
		}
		p.at++
		if v[key], err = p.value(depth + 1); err != nil {
			return nil, err
		}
		if comma = p.next() == ','; comma {
			p.at++
		}
	}
}

// quoted returns the length of the prefix of the string that begins here, or -1 if none does. Bytes and formatted
// strings are not accepted.
func (p *literal) quoted() int {
	rest := p.text[p.at:]
	for n := 0; n < min(2, len(rest)); n++ {
		switch rest[n] {
		case '"', '\'':
			return n
		case 'u', 'U', 'r', 'R':
		default:
			return -1
		}
	}
	return -1
}

// strings reads adjacent strings, which are concatenated.
func (p *literal) strings() (string, error) {
	var b strings.Builder
	for p.space(); p.quoted() >= 0; p.space() {
		if err := p.string(&b); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}

func (p *literal) string(b *strings.Builder) error {
	prefix := p.text[p.at : p.at+p.quoted()]
	raw := prefix == "r" || prefix == "R"
	p.at += len(prefix)
	quote := p.text[p.at : p.at+1]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(p.text[p.at:], long) {
		quote = long
	}
	p.at += len(quote)
	for {
		rest := p.text[p.at:]
		if rest == "" || len(quote) == 1 && rest[0] == '\n' {
			return p.errorf("the string has no end")
		}
		if strings.HasPrefix(rest, quote) {
			p.at += len(quote)
			return nil
		}
		if rest[0] != '\\' {
			b.WriteByte(rest[0])
			p.at++
			continue
		}
		if len(rest) == 1 {
			return p.errorf("the string has no end")
		}
		if raw {
			b.WriteString(rest[:2])
			p.at += 2
			continue
		}
		if err := p.escape(b); err != nil {
			return err
		}
	}
}

// simpleEscapes are the escapes with one character after the backslash.
var simpleEscapes = map[byte]string{'\n': "", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v"}

// escape reads an escape from its backslash on.
func (p *literal) escape(b *strings.Builder) error {
	c := p.text[p.at+1]
	if s, ok := simpleEscapes[c]; ok {
		b.WriteString(s)
		p.at += 2
		return nil
	}
	switch {
	case c >= '0' && c <= '7':
		n, r := 1, rune(0)
		for ; n <= 3 && p.at+n < len(p.text) && p.text[p.at+n] >= '0' && p.text[p.at+n] <= '7'; n++ {
			r = r<<3 | rune(p.text[p.at+n]-'0')
		}
		p.at += n
		b.WriteRune(r)
		return nil
	case c == 'x' || c == 'u' || c == 'U':
		r, err := p.hex()
		if err != nil {
			return err
		}
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if strings.HasPrefix(p.text[p.at:], `\u`) {
				if low, err = p.hex(); err != nil {
					return err
				}
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return p.errorf("half of a surrogate pair")
			}
		}
		b.WriteRune(r)
		return nil
	case c == 'N':
		return p.errorf("named characters are not supported")
	}
	b.WriteByte('\\') // an escape that Python doesn't know is kept
	p.at++
	return nil
}

// hex reads \xhh, \uhhhh or \Uhhhhhhhh.
func (p *literal) hex() (rune, error) {
	n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[p.text[p.at+1]]
	digits := p.text[p.at+2:]
	if len(digits) < n {
		return 0, p.errorf("want %d hexadecimal digits", n)
	}
	r, err := strconv.ParseUint(digits[:n], 16, 32)
	if err != nil || r > utf8.MaxRune {
		return 0, p.errorf("want %d hexadecimal digits of a character", n)
	}
	p.at += 2 + n
	return rune(r), nil
}

func (p *literal) number() (any, error) {
	end := p.at
	for end < len(p.text) && strings.IndexByte("0123456789+-.eE_", p.text[end]) >= 0 {
		end++
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(p.text[p.at:end], "_", ""), 64)
	if err != nil {
		return nil, p.errorf("%.20q is not a number", p.text[p.at:end])
	}
	p.at = end
	return f, nil
}

func (p *literal) name() (any, error) {
	for name, v := range map[string]any{"None": nil, "True": true, "False": false} {
		if strings.HasPrefix(p.text[p.at:], name) {
			p.at += len(name)
			return v, nil
		}
	}
	return nil, p.errorf("a name or an operator: only literals are supported")
}
