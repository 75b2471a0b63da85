package toolcall

import (
	"cmp"
	"encoding/json"
	"strings"
)

// value reads a JSON value (RFC 8259) with at most depth nested lists and objects.
func (p *Parser) value(depth int) bool {
	p.space()
	b, _ := p.at(0)
	switch {
	case b == '{':
		return p.object(depth, func(string) bool { return p.value(depth - 1) })
	case b == '[':
		return p.items('[', ']', depth, func() bool { return p.value(depth - 1) })
	case b == '"':
		_, ok := p.text()
		return ok
	case b == '-' || isDigit(b):
		return p.number()
	}
	return p.literal("true") || p.literal("false") || p.literal("null")
}

// object reads a JSON object; member reads the value of a key.
func (p *Parser) object(depth int, member func(key string) bool) bool {
	return p.items('{', '}', depth, func() bool {
		key, ok := p.text()
		p.space()
		if !ok || !p.next(':') {
			return false
		}
		p.space()
		return member(key)
	})
}

// items reads items with commas between them.
func (p *Parser) items(open, end byte, depth int, item func() bool) bool {
	if depth == 0 || !p.next(open) {
		return false
	}
	p.space()
	if p.next(end) {
		return true
	}
	for item() {
		p.space()
		if p.next(end) {
			return true
		}
		if !p.next(',') {
			return false
		}
		p.space()
	}
	return false
}

// text reads a JSON string.
func (p *Parser) text() (string, bool) {
	from := p.pos
	if !p.next('"') {
		return "", false
	}
	for {
		b, ok := p.at(0)
		if !ok || b < ' ' {
			return "", false
		}
		p.pos++
		switch b {
		case '"':
			var s string
			err := json.Unmarshal(p.buf[from:p.pos], &s)
			return s, err == nil
		case '\\':
			if b, ok = p.at(0); !ok || strings.IndexByte(`"\/bfnrtu`, b) < 0 {
				return "", false
			}
			p.pos++
			if b == 'u' && !p.digits(4, 4, isHex) {
				return "", false
			}
		}
	}
}

// number reads a JSON number.
func (p *Parser) number() bool {
	p.next('-')
	if !p.next('0') && !p.digits(1, maxCall, isDigit) {
		return false
	}
	if p.next('.') && !p.digits(1, maxCall, isDigit) {
		return false
	}
	if p.next('e') || p.next('E') {
		_ = p.next('+') || p.next('-')
		return p.digits(1, maxCall, isDigit)
	}
	return true
}

// digits reads from least to most digits.
func (p *Parser) digits(least, most int, is func(byte) bool) bool {
	n := 0
	for b, ok := p.at(0); ok && n < most && is(b); b, ok = p.at(0) {
		p.pos++
		n++
	}
	return n >= least
}

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isHex(b byte) bool { return isDigit(b) || 'a' <= b|0x20 && b|0x20 <= 'f' }

// jsonCall reads a call that is a JSON object.
func (p *Parser) jsonCall() bool {
	var id, name, arguments string
	inner, opened := false, false
	var member func(key string) bool
	member = func(key string) (ok bool) {
		switch b, _ := p.at(0); {
		case key == "function" && b == '{' && !inner: // as in OpenAI's API
			inner = true
			return p.object(maxDepth, member)
		case key == "name" || key == "function":
			if name != "" {
				return false
			}
			name, ok = p.text()
			return ok && p.known(name)
		case key == "id":
			id, ok = p.text()
			return ok
		case key == "type":
			kind, ok := p.text()
			return ok && kind == "function"
		case key == "arguments" || key == "parameters":
			if arguments != "" {
				return false
			}
			if p.o.Eager && name != "" && b == '{' {
				arguments, opened = "{}", true
				return p.objectArguments(id, name)
			}
			arguments, ok = p.arguments()
			return ok
		}
		return false
	}
	if !p.object(maxDepth, member) || name == "" {
		return false
	}
	if !opened {
		p.open(id, name)
		p.fragment(cmp.Or(arguments, "{}"))
	}
	return true
}

// arguments reads a JSON object: itself, or as text. None are no arguments.
func (p *Parser) arguments() (string, bool) {
	p.space()
	from := p.pos
	switch b, _ := p.at(0); b {
	case '{':
		ok := p.value(maxDepth)
		return string(p.buf[from:p.pos]), ok
	case '"':
		text, ok := p.text()
		text = strings.TrimSpace(text)
		return text, ok && strings.HasPrefix(text, "{") && json.Valid([]byte(text))
	}
	return "{}", p.literal("null")
}

// objectArguments opens a call and reads its arguments, an object.
func (p *Parser) objectArguments(id, name string) bool {
	if b, _ := p.at(0); b != '{' {
		return false
	}
	p.open(id, name)
	p.from = p.pos
	ok := p.value(maxDepth)
	p.flush()
	p.from = -1
	return ok
}
