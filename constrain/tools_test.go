package constrain

import (
	"errors"
	"testing"
)

func TestTools(t *testing.T) {
	v := testVocabulary(t)
	tools := []Tool{
		{"now", nil},
		{"add", []byte(`{"type":"object","properties":{"a":{"$ref":"#/$defs/n"},"b":{"$ref":"#/$defs/n"}},"required":["a","b"],"additionalProperties":false,"$defs":{"n":{"type":"integer"}}}`)},
	}
	g, err := CompileTools(v, tools, ToolOptions{Prefix: "<call>\n", Suffix: "\n</call>", Separator: "\n", MaxCalls: 2})
	if err != nil {
		t.Fatal(err)
	}
	now, add := "<call>\n{\"name\": \"now\", \"arguments\": {}}\n</call>", "<call>\n{\"name\":\"add\",\"arguments\":{\"a\":1,\"b\":2}}\n</call>"
	for _, text := range []string{now, add, now + "\n" + add} {
		if !accepts(t, g, text) {
			t.Errorf("%s is refused", text)
		}
	}
	for _, text := range []string{"", now + "\n", now + "\n" + now + "\n" + now, now[1:], `{"name":"now","arguments":{}}`,
		"<call>\n{\"name\":\"add\",\"arguments\":{}}\n</call>", "<call>\n{\"name\":\"now\",\"arguments\":{\"a\":1}}\n</call>"} {
		if accepts(t, g, text) {
			t.Errorf("%s is accepted", text)
		}
	}
	if forced, err := g.Matcher().forced(); err != nil || string(forced) != "<call>\n{" {
		t.Errorf("forced %q (%v)", forced, err)
	}

	g, err = CompileTools(v, tools[1:], ToolOptions{ArgumentsKey: "parameters", SchemaOptions: SchemaOptions{Compact: true, InOrder: true}})
	if err != nil {
		t.Fatal(err)
	}
	if forced, err := g.Matcher().forced(); err != nil || string(forced) != `{"name":"add","parameters":{"a":` {
		t.Errorf("forced %q (%v)", forced, err)
	}

	g, err = CompileTools(v, tools[:1], ToolOptions{Begin: "[CALLS][", End: "]", Separator: ", ", MaxCalls: 2, SchemaOptions: SchemaOptions{Compact: true}})
	if err != nil {
		t.Fatal(err)
	}
	const one = `{"name":"now","arguments":{}}`
	for text, want := range map[string]bool{"[CALLS][" + one + "]": true, "[CALLS][" + one + ", " + one + "]": true, "[CALLS][" + one: false, one: false} {
		if accepts(t, g, text) != want {
			t.Errorf("%s: accepted %t", text, !want)
		}
	}

	var e *SchemaError
	if _, err := CompileTools(v, []Tool{{"bad", []byte(`{"properties":{"x":{"contains":true}}}`)}}, ToolOptions{}); !errors.As(err, &e) || e.Keyword != "contains" {
		t.Errorf("a schema that is refused: %v", err)
	}
	if _, err := CompileTools(v, []Tool{{"a", nil}, {"a", nil}}, ToolOptions{}); err == nil {
		t.Error("two tools of the same name are accepted")
	}
	if _, err := CompileTools(v, nil, ToolOptions{}); !errors.Is(err, ErrNoText) {
		t.Errorf("no tools: %v", err)
	}
}
