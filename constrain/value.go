package constrain

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// A value is a JSON value whose members keep their order.
type value struct {
	kind    valueKind
	text    string // of a string or a number
	items   []*value
	names   []string // of members, whose values are items
	members map[string]*value
}

type valueKind uint8

const (
	nullValue valueKind = iota
	falseValue
	trueValue
	numberValue
	stringValue
	arrayValue
	objectValue
)

func (v *value) get(name string) *value {
	if v.kind != objectValue {
		return nil
	}
	return v.members[name]
}

// parseValue reads a JSON document.
func parseValue(source string) (*value, error) {
	if len(source) > maxSource {
		return nil, &LimitError{"bytes of a schema", maxSource}
	}
	d := json.NewDecoder(strings.NewReader(source))
	d.UseNumber()
	v, err := readValue(d, "", 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, &SchemaError{"", "", "there is more after the schema"}
	}
	return v, nil
}

func readValue(d *json.Decoder, pointer string, depth int) (*value, error) {
	if depth > maxNesting {
		return nil, &LimitError{"values in values of a schema", maxNesting}
	}
	t, err := d.Token()
	if err != nil {
		return nil, &SchemaError{pointer, "", fmt.Sprintf("not JSON: %v", err)}
	}
	switch t := t.(type) {
	case nil:
		return &value{kind: nullValue}, nil
	case bool:
		if t {
			return &value{kind: trueValue}, nil
		}
		return &value{kind: falseValue}, nil
	case json.Number:
		return &value{kind: numberValue, text: t.String()}, nil
	case string:
		return &value{kind: stringValue, text: t}, nil
	case json.Delim:
		v := &value{kind: arrayValue}
		if t == '{' {
			v.kind, v.members = objectValue, map[string]*value{}
		}
		for d.More() {
			place := fmt.Sprintf("%s/%d", pointer, len(v.items))
			if t == '{' {
				name, err := d.Token()
				if err != nil {
					return nil, &SchemaError{pointer, "", fmt.Sprintf("not JSON: %v", err)}
				}
				s := name.(string)
				place = pointer + "/" + escapePointer(s)
				if v.members[s] != nil {
					return nil, &SchemaError{place, "", "the name is there twice"}
				}
				v.names = append(v.names, s)
			}
			item, err := readValue(d, place, depth+1)
			if err != nil {
				return nil, err
			}
			v.items = append(v.items, item)
			if t == '{' {
				v.members[v.names[len(v.names)-1]] = item
			}
		}
		_, err := d.Token()
		if err != nil {
			return nil, &SchemaError{pointer, "", fmt.Sprintf("not JSON: %v", err)}
		}
		return v, nil
	}
	return nil, &SchemaError{pointer, "", "not JSON"}
}

func escapePointer(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}

func unescapePointer(s string) string {
	return strings.NewReplacer("~1", "/", "~0", "~").Replace(s)
}

// quoted is a string as an object's key is written, without the first quote.
func quoted(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch escape, ok := jsonEscapes[r]; {
		case ok:
			b.WriteByte('\\')
			b.WriteByte(escape)
		case r < 0x20:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
