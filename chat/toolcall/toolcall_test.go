package toolcall

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"pumice/chat"
)

// An answer is a row of testdata/answers.jsonl (make_answers.py).
type answer struct {
	Syntax   Syntax
	Name     string
	Thinking string
	Parts    [][]string // kind, text, and for calls name and arguments
}

func (a answer) text() string {
	var b strings.Builder
	for _, p := range a.Parts {
		b.WriteString(p[1])
	}
	return b.String()
}

// message is what the answer holds. Arguments are in the form of canonical.
func (a answer) message(t *testing.T) chat.Message {
	m := chat.Message{Role: "assistant"}
	for _, p := range a.Parts {
		switch p[0] {
		case "content":
			m.Content += p[1]
		case "reasoning":
			m.Reasoning += p[1]
		case "call":
			m.ToolCalls = append(m.ToolCalls, chat.ToolCall{Name: p[2], Arguments: canonical(t, p[3])})
		}
	}
	return m
}

// canonical writes JSON in one form.
func canonical(t *testing.T, text string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Errorf("arguments %q: %v", text, err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func answers(t testing.TB) ([]chat.Tool, []answer) {
	t.Helper()
	file, err := os.Open("testdata/answers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var tools []chat.Tool
	if lines.Scan(); json.Unmarshal(lines.Bytes(), &tools) != nil {
		t.Fatal("the first line holds no tools")
	}
	var all []answer
	for lines.Scan() {
		var a answer
		if err := json.Unmarshal(lines.Bytes(), &a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	if err := lines.Err(); err != nil || len(all) < 300 {
		t.Fatalf("%d answers, %v", len(all), err)
	}
	return tools, all
}

// tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// numbered returns ids in order.
func numbered() func() string {
	n := 0
	return func() string {
		n++
		return fmt.Sprint("call_", n)
	}
}

// stream parses pieces and checks the deltas' form.
func stream(t tester, syntax Syntax, o Options, pieces []string) chat.Message {
	t.Helper()
	o.NewID = numbered()
	p := New(syntax, o)
	var a Answer
	calls := 0
	add := func(deltas []Delta) {
		for _, d := range deltas {
			switch {
			case d.Kind != Call && (d.Text == "" || d.Index != 0 || d.ID+d.Name != ""):
				t.Fatalf("%+v", d)
			case d.Kind == Call && d.Name != "":
				if d.Index != calls || d.ID == "" {
					t.Fatalf("%+v is the first of call %d", d, calls)
				}
				calls++
			case d.Kind == Call && (d.Index != calls-1 || d.ID != "" || d.Text == ""):
				t.Fatalf("%+v while call %d is open", d, calls-1)
			}
		}
		a.Add(deltas...)
	}
	for _, piece := range pieces {
		add(p.Push(piece))
	}
	add(p.Close())
	if more := append(p.Push("x"), p.Close()...); more != nil {
		t.Fatalf("closed, but %+v", more)
	}
	return a.Message()
}

func bytesOf(text string) (pieces []string) {
	for i := range len(text) {
		pieces = append(pieces, text[i:i+1])
	}
	return pieces
}

// Every byte of an answer is content, reasoning, part of a call or a mark, as the file says, whether the answer comes whole,
// by characters or by bytes.
func TestAnswersAreParsedHoweverTheyAreCut(t *testing.T) {
	tools, all := answers(t)
	for _, a := range all {
		text, want := a.text(), a.message(t)
		o := Options{Tools: tools, Thinking: a.Thinking}
		whole := stream(t, a.Syntax, o, []string{text})
		o.NewID = numbered()
		if diff := cmp.Diff(whole, Parse(a.Syntax, o, text)); diff != "" {
			t.Errorf("%s, %s: %q (-Parser +Parse):\n%s", a.Syntax, a.Name, text, diff)
		}
		got := whole
		got.ToolCalls = nil
		for i, c := range whole.ToolCalls {
			if c.ID != fmt.Sprint("call_", i+1) && !strings.Contains(text, c.ID) {
				t.Errorf("%s, %s: id %q", a.Syntax, a.Name, c.ID)
			}
			got.ToolCalls = append(got.ToolCalls, chat.ToolCall{Name: c.Name, Arguments: canonical(t, c.Arguments)})
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s, %s: %q (-want +got):\n%s", a.Syntax, a.Name, text, diff)
		}
		for how, pieces := range map[string][]string{"bytes": bytesOf(text), "characters": strings.Split(text, "")} {
			if diff := cmp.Diff(whole, stream(t, a.Syntax, o, pieces)); diff != "" {
				t.Errorf("%s, %s by %s: %q (-whole +pieces):\n%s", a.Syntax, a.Name, how, text, diff)
			}
		}
		o.Eager = true
		eager := stream(t, a.Syntax, o, []string{text})
		if diff := cmp.Diff(eager, stream(t, a.Syntax, o, bytesOf(text))); diff != "" {
			t.Errorf("%s, %s, eager: %q (-whole +bytes):\n%s", a.Syntax, a.Name, text, diff)
		}
		if len(eager.ToolCalls) == len(whole.ToolCalls) { // no call broke off
			for i := range eager.ToolCalls {
				eager.ToolCalls[i].ID = whole.ToolCalls[i].ID // without Eager it may follow the arguments
			}
			if diff := cmp.Diff(whole, eager); diff != "" {
				t.Errorf("%s, %s: %q (-held +eager):\n%s", a.Syntax, a.Name, text, diff)
			}
		}
	}
}

// brief writes deltas as text: content as it is, reasoning in parentheses, and calls as name:fragment.
func brief(deltas []Delta) string {
	var b strings.Builder
	for _, d := range deltas {
		switch {
		case d.Kind == Reasoning:
			b.WriteString("(" + d.Text + ")")
		case d.Kind == Call:
			b.WriteString(d.Name + ":" + d.Text + ";")
		default:
			b.WriteString(d.Text)
		}
	}
	return b.String()
}

// Text is held back only while it may be part of a mark or a call, or is white space that may be next to one.
func TestWhatIsKnownIsReturnedAtOnce(t *testing.T) {
	tools, _ := answers(t)
	spaces := strings.Repeat(" ", 2000)
	for _, c := range []struct {
		syntax Syntax
		eager  bool
		pushed []string // text, then what it returns, and so on
		rest   string
	}{
		{Hermes, false, []string{"a", "a", " <", "", "b", " <b", "c \n", "c", "d", " \nd", "<tool", "", "_", "", "x", "<tool_x"}, ""},
		{Hermes, false, []string{"a <tool_call>", "a", "{", "", "\"name\"", "", ":3", " <tool_call>{\"name\":3"}, ""},
		{Hermes, false, []string{"<tool_call>{\"name\": \"now\"}", "", "</tool_call>", "now:{};", "\n", "", "x", "x"}, ""},
		{Hermes, false, []string{"<tool_call>{\"na\nme", "<tool_call>{\"na\nme"}, ""},
		{Hermes, true, []string{"<tool_call>{\"name\": \"search\", \"arguments\": ", "", "{\"qu", "search:;:{\"qu;", "ery\": \"<", ":ery\": \"<;", "\"}", ":\"};",
			"}</tool_call>", ""}, ""},
		{Hermes, true, []string{"<tool_call>{\"name\": \"search\", \"arguments\": {\"a\": tr", "search:;:{\"a\": ;", "x", "trx"}, ""},
		{Hermes, false, []string{`<tool_call>{"function": {"function": {`, `<tool_call>{"function": {"function": {`}, ""},
		{Hermes, false, []string{spaces, spaces[:1025]}, spaces[1025:]},
		{None, false, []string{"<thi", "", "nk>a", "(a)", "\n</think", "", "e", "(\n</thinke)", " </think>\n", "", "\nb", "b"}, ""},
		{None, false, []string{"<thi", "", "s", "<this", "{\"", "{\"", "[now", "[now"}, ""},
		{Llama3, false, []string{"a {\"", "a {\"", "\n", "", "{\"b", "", "\": 1", "\n{\"b\": 1", "\n[1", "\n[1"}, ""},
		{Pythonic, false, []string{"[", "", "n", "", "ot", "[not", "\n[get_weather(city='x'", "", ")]", "get_weather:{\"city\": \"x\"};"}, ""},
		{Pythonic, true, []string{"[get_weather(", "get_weather:;", "city='x'", ":{\"city\": \"x\";", ", da", "", "!", ", da!"}, ""},
		{QwenXML, true, []string{"<tool_call>\n<function=now>", "now:;", "</function>", ":{};", "</tool_call>", ""}, ""},
		{ChatGLM3, false, []string{"\n a", "a", "\nget", "", "x", "\ngetx"}, ""},
		{Mistral, false, []string{"a[b", "a[b", "[TOOL", "", "_CALLS]n", "", "ow{", "", "}", "now:{};"}, ""},
		{JSON, false, []string{"``", "", "`go", "```go"}, ""},
	} {
		p := New(c.syntax, Options{Tools: tools, Eager: c.eager, NewID: numbered()})
		for i := 0; i < len(c.pushed); i += 2 {
			if got := brief(p.Push(c.pushed[i])); got != c.pushed[i+1] {
				t.Errorf("%s: %q returns %q, want %q", c.syntax, c.pushed[i], got, c.pushed[i+1])
			}
		}
		if got := brief(p.Close()); got != c.rest {
			t.Errorf("%s: closing returns %q, want %q", c.syntax, got, c.rest)
		}
	}
}

func TestDetect(t *testing.T) {
	for file, want := range map[string]Syntax{"qwen3": Hermes, "hermes": Hermes, "coder": QwenXML, "mistral-tools": Mistral, "pythonic": Pythonic, "llama3-tools": JSON,
		"mistral": JSON, "smollm2": None, "gemma": None, "zephyr": None} {
		text, err := os.ReadFile("../testdata/templates/" + file + ".jinja")
		if err != nil {
			t.Fatal(err)
		}
		if got := Detect(string(text)); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
	}
	for template, want := range map[string]Syntax{"<|python_tag|>{{ tools }}": Llama3, "[gMASK]sop<|{{ role }}|>": ChatGLM3, "{{ tools }}<tool_call>{{ name }}<arg_key>": None,
		"{{ tools }}<|channel|>": None, "{{ tools }}<｜tool▁calls▁begin｜>": None} {
		if got := Detect(template); got != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
}

func ExampleParser() {
	p := New(Hermes, Options{Tools: []chat.Tool{{Name: "get_weather"}}, NewID: func() string { return "call_1" }})
	var a Answer
	for _, piece := range []string{"<think>\nThey ask.\n</th", "ink>\n\nLet me look.\n<tool_", "call>\n{\"name\": \"get_weather\", ", "\"arguments\": {\"city\": \"Paris\"}}\n</tool_call>"} {
		a.Add(p.Push(piece)...)
	}
	a.Add(p.Close()...)
	m := a.Message()
	fmt.Printf("%q %q\n%s %s(%s)\n", m.Reasoning, m.Content, m.ToolCalls[0].ID, m.ToolCalls[0].Name, m.ToolCalls[0].Arguments)
	// Output:
	// "They ask." "Let me look."
	// call_1 get_weather({"city": "Paris"})
}

// Answers in pieces of four bytes, about a token.
func BenchmarkParser(b *testing.B) {
	tools, all := answers(b)
	bytes := 0
	for _, a := range all {
		bytes += len(a.text())
	}
	b.SetBytes(int64(bytes))
	for b.Loop() {
		for _, a := range all {
			p := New(a.Syntax, Options{Tools: tools, Thinking: a.Thinking})
			for text := a.text(); text != ""; text = text[min(4, len(text)):] {
				p.Push(text[:min(4, len(text))])
			}
			p.Close()
		}
	}
}
