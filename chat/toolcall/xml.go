package toolcall

import (
	"encoding/json"
	"slices"
	"strings"
)

// xmlCall reads <tool_call><function=NAME><parameter=KEY>VALUE</parameter></function></tool_call>.
func (p *Parser) xmlCall() bool {
	if p.literal("<tool_call>") {
		p.space()
	}
	if !p.literal("<function=") {
		return false
	}
	name, ok := p.name()
	if !ok || !p.next('>') {
		return false
	}
	p.open("", name)
	p.space()
	var w objectWriter
	for p.literal("<parameter=") {
		from := p.pos
		for b, ok := p.at(0); ok && b != '>' && b != '\n'; b, ok = p.at(0) {
			p.pos++
		}
		key := string(p.buf[from:p.pos])
		if key == "" || !p.next('>') {
			return false
		}
		value, ok := p.xmlValue()
		if !ok {
			return false
		}
		p.fragment(w.member(key, typed(p.types[name][key], value)))
		p.space()
	}
	if !p.literal("</function>") {
		return false
	}
	p.fragment(w.end())
	p.closing("</tool_call>")
	return true
}

// xmlValue reads a value up to its closing tag, which another tag follows: values may spell such tags too.
func (p *Parser) xmlValue() (string, bool) {
	from := p.pos
	for {
		b, ok := p.at(0)
		if !ok {
			return "", false
		}
		to := p.pos
		if b != '<' || !p.literal("</parameter>") {
			p.pos++
			continue
		}
		end := p.pos
		p.space()
		if p.literal("<parameter=") || p.literal("</function>") {
			p.pos = end
			value := string(p.buf[from:to])
			value = strings.TrimPrefix(value, "\n")
			return strings.TrimSuffix(value, "\n"), true
		}
	}
}

// schemaTypes are the types of a JSON schema: one name, several, or, if they are written otherwise, none.
type schemaTypes []string

func (t *schemaTypes) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*t = schemaTypes{one}
	} else if json.Unmarshal(data, (*[]string)(t)) != nil {
		*t = nil
	}
	return nil
}

// parameterTypes returns the types of each parameter of a schema. What is not as expected has none.
func parameterTypes(schema json.RawMessage) map[string][]string {
	type choice struct {
		Type schemaTypes `json:"type"`
	}
	var s struct {
		Properties map[string]struct {
			choice
			AnyOf []choice `json:"anyOf"`
			OneOf []choice `json:"oneOf"`
		} `json:"properties"`
	}
	_ = json.Unmarshal(schema, &s) // skips what is of another type
	types := map[string][]string{}
	for name, p := range s.Properties {
		types[name] = p.Type
		for _, alternative := range slices.Concat(p.AnyOf, p.OneOf) {
			types[name] = append(types[name], alternative.Type...)
		}
	}
	return types
}

// typed returns what a model wrote for a parameter as JSON of one of its types, and as a string if it is none of them or
// there are none. null is of every type but string.
func typed(types []string, text string) string {
	value := strings.TrimSpace(text)
	if !json.Valid([]byte(value)) { // perhaps a literal of Python
		p := &Parser{buf: []byte(value), closed: true}
		var ok bool
		if value, ok = p.python(maxDepth); !ok || !p.ended() {
			return quote(text)
		}
	}
	is := func(kind string) bool { return slices.Contains(types, kind) }
	fits := false
	switch b := value[0]; {
	case b == 'n':
		fits = is("null") || len(types) > 0 && !is("string")
	case is("string") || b == '"':
	case b == '{':
		fits = is("object")
	case b == '[':
		fits = is("array")
	case b == 't' || b == 'f':
		fits = is("boolean")
	default:
		fits = is("number") || is("integer") && !strings.ContainsAny(value, ".eE")
	}
	if fits {
		return value
	}
	return quote(text)
}
