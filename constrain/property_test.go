package constrain

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"testing"
)

// A drawer draws schemas, and values that have a chance to fit them.
type drawer struct{ *rand.Rand }

func pick[T any](d drawer, list ...T) T { return list[d.IntN(len(list))] }

// some is n to m different ones of a list.
func some[T any](d drawer, n, m int, list ...T) []T {
	d.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list[:n+d.IntN(m-n+1)]
}

type members = map[string]any

func (d drawer) schema(depth int) any {
	if depth < 0 {
		return pick[any](d, true, members{"type": "integer"}, members{"const": "a"}, members{"minimum": 2}, false)
	}
	s := members{}
	if d.IntN(10) < 7 {
		types := some(d, 1, 3, "null", "boolean", "integer", "number", "string", "array", "object")
		s["type"] = types
		if len(types) == 1 {
			s["type"] = types[0]
		}
	}
	for _, k := range some(d, 0, 5,
		"enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "format",
		"properties", "required", "additionalProperties", "patternProperties", "propertyNames", "minProperties", "maxProperties",
		"dependentRequired", "items", "prefixItems", "minItems", "maxItems", "anyOf", "oneOf", "allOf", "not", "$ref", "title",
		"if", "then", "else", "dependentSchemas", "properties", "items", "anyOf", "allOf") {
		s[k] = d.keyword(k, depth)
	}
	return s
}

func (d drawer) keyword(k string, depth int) any {
	names := []string{"a", "b", "ab", "é", "x\n"}
	switch k {
	case "enum":
		return some[any](d, 1, 3, "a", "ab", "", 1, 2.5, nil, true, []any{1, "a"}, members{"a": 1})
	case "const":
		return pick[any](d, "a", "x\n\"", 1, -0.5, nil, []any{}, members{"b": []any{nil}})
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		return pick[any](d, -12, -1.5, -1, 0, 0.25, 1, 2, 2.5, 3, 10, 10.01, 100, 1e3)
	case "multipleOf":
		return pick[any](d, 1, 2, 3, 0.5, 0.25, 7, 10)
	case "minLength", "maxLength", "minItems", "maxItems", "maxProperties":
		return d.IntN(5)
	case "minProperties":
		return d.IntN(3)
	case "pattern":
		return pick(d, "a", "^a", "b$", "^[a-c]{1,3}$", "^(a|bc)*$", "\\d", "é|\n", "^.$", "^[^a]*$")
	case "format":
		return pick(d, "date", "time", "date-time", "uuid", "email", "ipv4", "ipv6", "hostname", "uri", "duration")
	case "properties", "patternProperties", "dependentSchemas":
		if k == "patternProperties" {
			names = []string{"^a", "b", "é$"}
		}
		m := members{}
		for _, name := range some(d, 1, 3, names...) {
			m[name] = d.schema(depth - 1)
		}
		return m
	case "required":
		return some(d, 0, 2, names...)
	case "dependentRequired":
		return members{"a": []string{"b"}, "b": some(d, 0, 2, "a", "ab", "é")}
	case "propertyNames":
		return pick[any](d, members{"maxLength": 1}, members{"pattern": "^[a-z]+$"}, members{"enum": []any{"a", "q"}})
	case "additionalProperties", "items", "not", "if", "then", "else":
		return d.schema(depth - 1)
	case "prefixItems", "anyOf", "oneOf", "allOf":
		list := []any{}
		for range 1 + d.IntN(3) {
			list = append(list, d.schema(depth-1))
		}
		return list
	case "$ref":
		return pick(d, "#/$defs/list", "#/$defs/tree")
	}
	return "a title"
}

func (d drawer) value(depth int) any {
	kind := d.IntN(10)
	if depth == 0 {
		kind %= 7
	}
	switch kind {
	case 0:
		return nil
	case 1:
		return d.IntN(2) == 0
	case 2, 3:
		return pick[any](d, -12, -1.5, -1, -0.5, 0, 0.1, 0.25, 1, 2, 2.5, 3, 5, 7, 10, 10.01, 12.25, 99, 100, 1001)
	case 4, 5, 6:
		return pick[any](d, "", "a", "ab", "abc", "bc", "x\n\"", "é", "1", "\n", "aaaaa", "2024-02-29", "a@b.c", "1.2.3.4", "12:00:00Z", "q", "::1", "x:y", "P1D")
	case 7:
		list := []any{}
		for range d.IntN(4) {
			list = append(list, d.value(depth-1))
		}
		return list
	}
	m := members{}
	for range d.IntN(4) {
		m[pick(d, "a", "b", "ab", "é", "x\n", "q", "abé", "", "next")] = d.value(depth - 1)
	}
	return m
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return respelled(t, text)
}

// TestSchemasMeanWhatAnotherImplementationSays draws 2,000 schemas: texts drawn under their masks are valid, and values are
// accepted if they are valid and only then, by github.com/santhosh-tekuri/jsonschema.
func TestSchemasMeanWhatAnotherImplementationSays(t *testing.T) {
	v := testVocabulary(t)
	d := drawer{rand.New(rand.NewPCG(1, 2))}
	refused := map[string]int{}
	for range 2000 {
		s := d.schema(1 + d.IntN(2)).(members)
		s["$defs"] = members{
			"list": members{"type": []any{"null", "object"}, "properties": members{"next": members{"$ref": "#/$defs/list"}}, "additionalProperties": false},
			"tree": members{"anyOf": []any{members{"type": "integer"}, members{"type": "array", "items": members{"$ref": "#/$defs/tree"}}}},
		}
		schema := []byte(marshal(t, s))
		other, err := validator(t, schema)
		if err != nil {
			t.Fatalf("%s: %v", schema, err)
		}
		g, err := CompileSchema(v, schema, SchemaOptions{Compact: d.IntN(2) == 0})
		var schemaErr *SchemaError
		if errors.As(err, &schemaErr) {
			refused[schemaErr.Keyword]++
			continue
		}
		var limit *LimitError
		if errors.As(err, &limit) { // such as a format and a pattern that have nothing in common, which is slow to find out
			refused[limit.What]++
			continue
		}
		if err != nil && !errors.Is(err, ErrNoText) {
			t.Fatalf("%s: %v", schema, err)
		}
		for range 6 {
			text := marshal(t, d.value(2))
			why := valid(t, other, text)
			if got := err == nil && accepts(t, g, text); got != (why == nil) {
				t.Errorf("%s\n%s: accepted %t, the validator says %v", schema, text, got, why)
			}
		}
		if err != nil {
			continue
		}
		if text := sample(t, g, d.Rand, 12, nil); text != "" {
			if why := valid(t, other, text); why != nil {
				t.Errorf("%s\n%s was drawn: %v", schema, text, why)
			}
		}
	}
	for k := range refused {
		switch k {
		case "oneOf", "not", "if", "minProperties", "dependentRequired":
		default:
			if refused[k] > 2 {
				t.Errorf("%d schemas are refused for %s", refused[k], k)
			}
		}
	}
	t.Logf("refused, by keyword: %v", refused)
}
