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

// parameterTypes returns the types of each parameter of a schema.
func parameterTypes(schema json.RawMessage) map[string][]string {
	var s struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	if json.Unmarshal(schema, &s) != nil { // a schema without types
		return nil
	}
	types := map[string][]string{}
	for name, property := range s.Properties {
		types[name] = schemaTypes(property)
	}
	return types
}

func schemaTypes(schema json.RawMessage) []string {
	var s struct {
		Type         json.RawMessage   `json:"type"`
		AnyOf, OneOf []json.RawMessage // of which each has types
	}
	if json.Unmarshal(schema, &s) != nil {
		return nil
	}
	var types []string
	var one string
	if json.Unmarshal(s.Type, &one) == nil {
		types = []string{one}
	} else if json.Unmarshal(s.Type, &types) != nil {
		types = nil
	}
	for _, alternative := range slices.Concat(s.AnyOf, s.OneOf) {
		types = append(types, schemaTypes(alternative)...)
	}
	return types
}

// typed returns what a model wrote for a parameter as JSON of one of its types, and as a string if it is none of them or
// there are none.
func typed(types []string, text string) string {
	value := strings.TrimSpace(text)
	if !json.Valid([]byte(value)) { // perhaps a literal of Python
		p := &Parser{buf: []byte(value), closed: true}
		literal, ok := p.python(maxDepth)
		if !ok || !p.ended() {
			return quote(text)
		}
		value = literal
	}
	var kinds []string
	switch value[0] {
	case '{':
		kinds = []string{"object"}
	case '[':
		kinds = []string{"array"}
	case '"':
	case 't', 'f':
		kinds = []string{"boolean"}
	case 'n':
		kinds = []string{"null"}
	default:
		kinds = []string{"number"}
		if !strings.ContainsAny(value, ".eE") {
			kinds = []string{"number", "integer"}
		}
	}
	for _, kind := range kinds {
		if slices.Contains(types, kind) && (kind == "null" || !slices.Contains(types, "string")) {
			return value
		}
	}
	return quote(text)
}
