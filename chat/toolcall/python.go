package toolcall

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// name reads the name of a function that may be called.
func (p *Parser) name() (string, bool) {
	from := p.pos
	for _, ok := p.at(0); ok && p.prefix(string(p.buf[from:p.pos+1])); _, ok = p.at(0) {
		p.pos++
	}
	name := string(p.buf[from:p.pos])
	return name, p.known(name)
}

func isName(b byte) bool {
	return b == '_' || b == '-' || b == '.' || isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'z' || b >= utf8.RuneSelf
}

// word reads letters, digits and the like.
func (p *Parser) word() string {
	from := p.pos
	for b, ok := p.at(0); ok && isName(b); b, ok = p.at(0) {
		p.pos++
	}
	return string(p.buf[from:p.pos])
}

// pythonCall opens a call and reads its arguments: KEY=VALUE, ... between parentheses.
func (p *Parser) pythonCall(name string) bool {
	if b, _ := p.at(0); b != '(' {
		return false
	}
	p.open("", name)
	var w objectWriter
	ok := p.items('(', ')', maxDepth, func() bool {
		if b, _ := p.at(0); b == ')' { // after a last comma
			return true
		}
		key := p.word()
		p.space()
		if key == "" || !p.next('=') {
			return false
		}
		p.space()
		value, ok := p.python(maxDepth)
		if !ok {
			return false
		}
		var text string
		if value[0] == '"' && json.Unmarshal([]byte(value), &text) == nil {
			value = typed(p.types[name][key], text)
		}
		p.fragment(w.member(key, value))
		return true
	})
	if ok {
		p.fragment(w.end())
	}
	return ok
}

// python reads a literal of Python or JSON and returns it as JSON.
func (p *Parser) python(depth int) (string, bool) {
	b, _ := p.at(0)
	switch {
	case b == '\'' || b == '"':
		text, ok := p.pythonText(b)
		return quote(text), ok
	case b == '[' || b == '(':
		return p.pythonList(b, depth)
	case b == '{':
		return p.pythonDict(depth)
	case b == '-' || isDigit(b):
		from := p.pos
		ok := p.number()
		return string(p.buf[from:p.pos]), ok
	}
	for _, c := range [][2]string{{"True", "true"}, {"False", "false"}, {"None", "null"}, {"true", "true"}, {"false", "false"}, {"null", "null"}} {
		if p.literal(c[0]) {
			return c[1], true
		}
	}
	return "", false
}

func (p *Parser) pythonList(open byte, depth int) (string, bool) {
	end := byte(']')
	if open == '(' {
		end = ')'
	}
	var items []string
	ok := p.items(open, end, depth, func() bool {
		if b, _ := p.at(0); b == end && len(items) > 0 { // after a last comma
			return true
		}
		item, ok := p.python(depth - 1)
		items = append(items, item)
		return ok
	})
	return "[" + strings.Join(items, ", ") + "]", ok
}

func (p *Parser) pythonDict(depth int) (string, bool) {
	var w objectWriter
	var b strings.Builder
	ok := p.items('{', '}', depth, func() bool {
		q, _ := p.at(0)
		if q == '}' && w.n > 0 {
			return true
		}
		if q != '\'' && q != '"' {
			return false
		}
		key, ok := p.pythonText(q)
		p.space()
		if !ok || !p.next(':') {
			return false
		}
		p.space()
		value, ok := p.python(depth - 1)
		b.WriteString(w.member(key, value))
		return ok
	})
	b.WriteString(w.end())
	return b.String(), ok
}

// pythonText reads a string literal without a prefix (Python language reference, 2.5).
func (p *Parser) pythonText(q byte) (string, bool) {
	end := string(q)
	if p.literal(strings.Repeat(end, 3)) {
		end = strings.Repeat(end, 3)
	} else {
		p.pos++
	}
	var out []byte
	for !p.literal(end) {
		b, ok := p.at(0)
		if !ok || b == '\n' && len(end) == 1 {
			return "", false
		}
		p.pos++
		if b != '\\' {
			out = append(out, b)
			continue
		}
		if b, ok = p.at(0); !ok {
			return "", false
		}
		p.pos++
		switch i := strings.IndexByte(`'"\nrtabfv`, b); {
		case i >= 0:
			out = append(out, "'\"\\\n\r\t\a\b\f\v"[i])
		case b == '\n': // continues the line
		case b == 'x' || b == 'u' || b == 'U':
			n := map[byte]int{'x': 2, 'u': 4, 'U': 8}[b]
			from := p.pos
			if !p.digits(n, n, isHex) {
				return "", false
			}
			code, err := strconv.ParseUint(string(p.buf[from:p.pos]), 16, 32)
			if err != nil || code > utf8.MaxRune {
				return "", false
			}
			out = utf8.AppendRune(out, rune(code))
		default:
			out = append(out, '\\', b)
		}
	}
	return string(out), true
}

// objectWriter writes a JSON object piece by piece, spaced as Python's json.dumps does: so templates show it again.
type objectWriter struct{ n int }

func (w *objectWriter) member(key, value string) string {
	before := ", "
	if w.n == 0 {
		before = "{"
	}
	w.n++
	return before + quote(key) + ": " + value
}

func (w *objectWriter) end() string {
	if w.n == 0 {
		return "{}"
	}
	return "}"
}

// quote returns text as a JSON string.
func quote(text string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(text); err != nil {
		panic(err) // strings have a JSON form
	}
	return strings.TrimSuffix(b.String(), "\n")
}
