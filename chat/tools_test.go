package chat

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// testdata/tools.jsonl holds what transformers renders (make_tools.py), from messages as a client of OpenAI's API writes
// them.
func TestToolsRenderAsInTransformers(t *testing.T) {
	file, err := os.Open("testdata/tools.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	formats := map[string]*Format{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var given struct {
		Conversations map[string][]Message
		Tools         []Tool
	}
	if lines.Scan(); json.Unmarshal(lines.Bytes(), &given) != nil || len(given.Tools) != 2 {
		t.Fatalf("the first line holds %d tools", len(given.Tools))
	}
	n := 0
	for ; lines.Scan(); n++ {
		var row struct {
			Template, Name, Text string
			Tools                bool
			Variables            map[string]any
		}
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			t.Fatal(err)
		}
		if formats[row.Template] == nil {
			formats[row.Template] = template(t, row.Template, "<s>", "</s>")
		}
		o := Options{Variables: row.Variables}
		if row.Tools {
			o.Tools = given.Tools
		}
		got, err := formats[row.Template].Text(t.Context(), given.Conversations[row.Name], o)
		if err != nil {
			t.Errorf("%s, %s: %v", row.Template, row.Name, err)
		} else if diff := cmp.Diff(row.Text, got); diff != "" {
			t.Errorf("%s, %s, tools %t (-want +got):\n%s", row.Template, row.Name, row.Tools, diff)
		}
	}
	if err := lines.Err(); err != nil || n < 100 {
		t.Errorf("%d rows, %v", n, err)
	}
}

func TestFormsThatTemplatesTake(t *testing.T) {
	text, null := callForm{text: true}, callForm{null: true}
	for name, want := range map[string]takes{
		"qwen3": {tools: true, calls: &callForm{}}, "llama3-tools": {tools: true, calls: &callForm{}}, "coder": {tools: true, calls: &callForm{}},
		"mistral-tools": {tools: true, calls: &callForm{}, parts: true}, "deepseek": {tools: true, calls: &callForm{text: true, null: true}},
		"mistral": {tools: true}, "gemma": {parts: true}, "smollm2": {}, "llama3": {}, "zephyr": {},
		"{{ tools }}{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}{% endfor %}{% endfor %}": {tools: true, calls: &text},
		"{% for m in messages %}{% if m.content is none %}{{ m.tool_calls|tojson }}{% else %}{{ m.content|tojson }}{% endif %}{% endfor %}": {calls: &null},
		"{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments }}{% endfor %}{% endfor %}":                              {calls: &text}, // an object would be Python's repr
		"{% for m in messages %}{% for c in m.content %}{{ c.text }}{% endfor %}{% endfor %}":                                               {parts: true},
		"{% for m in messages %}{{ raise_exception('never') }}{% endfor %}":                                                                 {},
	} {
		f, err := Open(t.Context(), filepath.Join("testdata/templates", name+".jinja"), "<s>", "</s>")
		if strings.Contains(name, "{") {
			f, err = Jinja(t.Context(), "t", name, "<s>", "</s>")
		}
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.template.tried(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(takes{}, callForm{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestWhatFormatsCannotSayIsATypedError(t *testing.T) {
	tools := []Tool{{Name: "f"}}
	called := append(talk("u"), Message{Role: "assistant", ToolCalls: []ToolCall{{Name: "f"}}})
	picture := []Message{{Role: "user", Parts: []Part{{"text", "see"}, {"image_url", ""}}}}
	for _, f := range []*Format{builtin(t, "chatml"), builtin(t, "xverse"), template(t, "smollm2", "", ""), template(t, "gemma", "", "")} {
		var none *NoToolsError
		if _, err := f.RenderWith(t.Context(), talk("u"), Options{Tools: tools}); !errors.As(err, &none) || none.Message != -1 {
			t.Errorf("%s: tools: %v", f.Name(), err)
		}
		if _, err := f.RenderWith(t.Context(), called, Options{}); !errors.As(err, &none) || none.Message != 1 {
			t.Errorf("%s: a call: %v", f.Name(), err)
		}
		var part *PartError
		if _, err := f.RenderWith(t.Context(), picture, Options{}); !errors.As(err, &part) || *part != (PartError{f.Name(), 0, 1, "image_url"}) {
			t.Errorf("%s: a picture: %v", f.Name(), err)
		}
	}
	got, err := builtin(t, "chatml").Text(t.Context(), []Message{{Role: "user", Parts: []Part{{"text", "a"}, {"text", "b"}}}}, Options{})
	if want := "<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\n"; err != nil || got != want {
		t.Errorf("parts: got %q, %v; want %q", got, err, want)
	}
}

func TestConversationsWithToolsHaveATemplateOfTheirOwn(t *testing.T) {
	plain, err := Jinja(t.Context(), "t", "{{ messages[0].content }}<|im_end|>", "", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	const source = "{% for t in tools or [] %}{{ t.function.name + eos_token }}<|eot_id|>{% endfor %}" +
		"{% for m in messages %}{% for c in m.tool_calls %}{{ c.function.arguments|tojson }}{% endfor %}{% endfor %}<|im_end|>"
	f, err := plain.WithToolTemplate(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{"u<|im_end|>": {}, "f</s><|eot_id|><|im_end|>": {Tools: []Tool{{Name: "f"}}}} {
		if got, err := f.Text(t.Context(), talk("u"), o); err != nil || got != want {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
	if f.Template() != source || plain.Template() == source || builtin(t, "chatml").Template() != "" {
		t.Errorf("templates %q and %q", f.Template(), plain.Template())
	}
	if diff := cmp.Diff([]string{"</s>", "<|im_end|>", "<|eot_id|>"}, f.Stop()); diff != "" {
		t.Errorf("stop (-want +got):\n%s", diff)
	}
	called := append(talk("u"), Message{Role: "assistant", ToolCalls: []ToolCall{{Name: "f"}}})
	if got, err := f.Text(t.Context(), called, Options{}); err != nil || got != "{}<|im_end|>" {
		t.Errorf("calls: got %q, %v", got, err)
	}
	var e *TemplateError
	if _, err := plain.WithToolTemplate(t.Context(), "{% if %}"); !errors.As(err, &e) {
		t.Errorf("error %v", err)
	}
}

func TestMessagesAreReadAndWrittenAsJSON(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Message
		out  string // "" if as in
	}{
		{`{"role":"user","content":"a"}`, Message{Role: "user", Content: "a"}, ""},
		{`{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"x"}}]}`,
			Message{Role: "user", Parts: []Part{{"text", "a"}, {"image_url", ""}}},
			`{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","text":""}]}`},
		{`{"role":"assistant","content":null,"reasoning":"r","tool_calls":[{"id":"1","function":{"name":"f","arguments":{"a": 1}}}],"more":[]}`,
			Message{Role: "assistant", Reasoning: "r", ToolCalls: []ToolCall{{"1", "f", `{"a": 1}`}}},
			`{"role":"assistant","content":"","reasoning_content":"r","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{\"a\": 1}"}}]}`},
		{`{"role":"assistant","content":"","tool_calls":[{"type":"function","function":{"name":"f","arguments":"not JSON"}}]}`,
			Message{Role: "assistant", ToolCalls: []ToolCall{{"", "f", "not JSON"}}}, ""},
		{`{"role":"assistant","content":"a","reasoning":{"effort":"low"},"tool_calls":[{"function":{"name":"f","arguments":null}}]}`,
			Message{Role: "assistant", Content: "a", ToolCalls: []ToolCall{{"", "f", ""}}},
			`{"role":"assistant","content":"a","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{}"}}]}`},
		{`{"role":"tool","content":"42","tool_call_id":"1","name":"f"}`, Message{Role: "tool", Content: "42", ToolCallID: "1", Name: "f"}, ""},
	} {
		var m Message
		if err := json.Unmarshal([]byte(c.in), &m); err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if diff := cmp.Diff(c.want, m); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.in, diff)
		}
		if c.out == "" {
			c.out = c.in
		}
		if out, err := json.Marshal(m); err != nil || string(out) != c.out {
			t.Errorf("%s: written as %s, %v", c.in, out, err)
		}
	}
	for _, bad := range []string{`{"content":3}`, `{"content":["a"]}`, `{"tool_calls":[{"function":[]}]}`, `[]`} {
		if err := json.Unmarshal([]byte(bad), new(Message)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	const tool = `{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object","z":1,"a":2}}}`
	var d Tool
	if err := json.Unmarshal([]byte(tool), &d); err != nil {
		t.Fatal(err)
	}
	if out, err := json.Marshal(d); err != nil || string(out) != tool {
		t.Errorf("written as %s, %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"type":"web_search"}`), &d); err == nil {
		t.Error("a web search was read as a function")
	}
}

// Arguments that are no JSON object reach the template as text, whatever form it takes.
func TestArgumentsThatAreNoObjectAreText(t *testing.T) {
	for arguments, want := range map[string]string{"": "{}", "{": "{", "no": "no", `"s"`: `"s"`, "\"\x80": "\"\ufffd"} {
		msgs := append(talk("u"), Message{Role: "assistant", ToolCalls: []ToolCall{{Name: "f", Arguments: arguments}}})
		got, err := template(t, "qwen3", "", "").Text(t.Context(), msgs, Options{})
		if err != nil || !strings.Contains(got, `"arguments": `+want+"}\n") {
			t.Errorf("%q: %q, %v", arguments, got, err)
		}
	}
}

func TestPromptsSayThatThinkingBegan(t *testing.T) {
	tok := open(t, "bbpe-qwen2")
	for _, c := range []struct {
		template string
		text     string
		o        Options
		want     string
	}{
		{"coder", "u", Options{}, "<think>"}, {"deepseek", "u", Options{}, "<think>"}, {"coder", "u", Options{NoGenerationPrompt: true}, ""},
		{"qwen3", "<think>", Options{}, ""}, {"qwen3", "u", Options{Variables: map[string]any{"enable_thinking": false}}, ""},
		{"mistral-tools", "[THINK]", Options{}, ""},
	} {
		p, err := template(t, c.template, "", "").EncodeWith(t.Context(), tok, talk(c.text), c.o)
		if err != nil || p.Thinking != c.want {
			t.Errorf("%s: %q, %v", c.template, p.Thinking, err)
		}
	}
	f, err := Jinja(t.Context(), "t", "{{ messages[0].content }}", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := f.EncodeWith(t.Context(), tok, talk("<think>\n"), Options{}); err != nil || p.Thinking != "" {
		t.Errorf("a message began to think: %q, %v", p.Thinking, err)
	}
}

// A conversation may begin at any user message but those between a call and its result.
func TestDroppingKeepsCallsWithTheirResults(t *testing.T) {
	user, call := Message{Role: "user"}, func(id string) Message {
		return Message{Role: "assistant", ToolCalls: []ToolCall{{ID: id, Name: "f"}}}
	}
	result := func(id string) Message { return Message{Role: "tool", ToolCallID: id} }
	for _, c := range []struct {
		name string
		msgs []Message
		want []int
	}{
		{"rounds", []Message{{Role: "system"}, user, {Role: "assistant"}, user, user}, []int{3, 4}},
		{"calls in rounds", []Message{user, call("a"), result("a"), user, call("b"), call("c"), result("b"), result("c"), user}, []int{3, 8}},
		{"a question before the result", []Message{user, call("a"), user, result("a"), user}, []int{4}},
		{"crossed", []Message{user, call("a"), user, call("b"), result("b"), user, result("a"), user}, []int{7}},
		{"no ids", []Message{user, call(""), user, result(""), user, call(""), result(""), user}, []int{4, 7}},
		{"unknown ids", []Message{user, call("a"), user, result("x"), user}, []int{4}},
		{"ids again", []Message{user, call("a"), result("a"), user, call("a"), result("a"), user}, []int{3, 6}},
		{"no call", []Message{user, result("a"), user}, []int{2}},
	} {
		first := 0
		if c.msgs[0].Role == "system" {
			first = 1
		}
		if diff := cmp.Diff(c.want, rounds(c.msgs, first)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
	}
	tok, f := open(t, "bbpe-qwen2"), template(t, "qwen3", "", "")
	long := strings.Repeat("word ", 40)
	msgs := []Message{{Role: "developer", Content: "Be brief."}, {Role: "user", Content: long}, call("a"), {Role: "tool", ToolCallID: "a", Content: long},
		{Role: "user", Content: "u2"}, call("b"), {Role: "tool", ToolCallID: "b", Content: "42"}}
	p, err := f.EncodeWith(t.Context(), tok, msgs, Options{MaxTokens: 200})
	if err != nil {
		t.Fatal(err)
	}
	text := tok.Decode(p.IDs, true)
	if p.Dropped != 3 || strings.Contains(text, "word") || !strings.Contains(text, "tool_call") || !strings.Contains(text, "42") {
		t.Errorf("dropped %d: %q", p.Dropped, text)
	}
}

func ExampleOptions_tools() {
	f, err := Jinja(context.Background(), "mine", `{% for t in tools %}{{ t.function.name ~ " takes " ~ t.function.parameters|tojson ~ "\n" }}{% endfor %}`+
		`{% for m in messages %}{{ m.role ~ ": " ~ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments|tojson }}){% endfor %}{{ "\n" }}{% endfor %}`, "", "")
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := f.Text(context.Background(), []Message{
		{Role: "user", Content: "Weather in Paris?"},
		{Role: "assistant", ToolCalls: []ToolCall{{ID: "call00001", Name: "get_weather", Arguments: `{"city": "Paris"}`}}},
		{Role: "tool", Content: "sunny", ToolCallID: "call00001", Name: "get_weather"},
	}, Options{Tools: []Tool{{Name: "get_weather", Parameters: json.RawMessage(`{"city": "string"}`)}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(text)
	// Output:
	// get_weather takes {"city": "string"}
	// user: Weather in Paris?
	// assistant: get_weather({"city": "Paris"})
	// tool: sunny
}
