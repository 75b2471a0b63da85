package toolcall

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"pumice/chat"
	"pumice/internal/bounded"
)

// syntaxes are all of them, None first.
func syntaxes() []Syntax {
	return append([]Syntax{None}, slices.Sorted(maps.Keys(grammars))...)
}

// cuts cuts a text at the given places.
func cuts(text string, at []int) []string {
	at = append(slices.Clone(at), 0, len(text))
	slices.Sort(at)
	var pieces []string
	for i := range at[1:] {
		pieces = append(pieces, text[at[i]:at[i+1]])
	}
	return pieces
}

// checkAnswer checks what holds for every text.
func checkAnswer(t tester, syntax Syntax, tools []chat.Tool, thinking, text string, pieces []string) {
	t.Helper()
	for _, eager := range []bool{false, true} {
		o := Options{Tools: tools, Thinking: thinking, Eager: eager}
		whole := stream(t, syntax, o, []string{text})
		if diff := cmp.Diff(whole, stream(t, syntax, o, pieces)); diff != "" {
			t.Fatalf("%s, eager %t: %q in %q (-whole +pieces):\n%s", syntax, eager, text, pieces, diff)
		}
		size := len(whole.Content) + len(whole.Reasoning)
		for _, c := range whole.ToolCalls {
			known := slices.ContainsFunc(tools, func(d chat.Tool) bool { return d.Name == c.Name })
			if object := map[string]any(nil); !known || !eager && json.Unmarshal([]byte(c.Arguments), &object) != nil {
				t.Fatalf("%s: %q: call %+v", syntax, text, c)
			}
			if syntax == Hermes || syntax == Mistral || syntax == JSON { // arguments are as written
				size += len(c.Arguments)
			}
		}
		if size > len(text) {
			t.Fatalf("%s: %q has %d bytes of content, reasoning and arguments", syntax, text, size)
		}
		marked := thinking != "" || strings.HasPrefix(strings.TrimSpace(text), "<think>") || strings.HasPrefix(strings.TrimSpace(text), "[THINK]")
		if len(whole.ToolCalls) == 0 && !marked {
			want := text
			if syntax == ChatGLM3 {
				want = strings.TrimLeft(text, " \t\r\n")
			}
			if whole.Content != want {
				t.Fatalf("%s: content %q of %q", syntax, whole.Content, text)
			}
		}
	}
}

// Any text, cut anywhere, gives what it gives as a whole, and without calls and reasoning all of it.
func TestAnyTextCutAnywhere(t *testing.T) {
	tools, all := answers(t)
	words := []string{"<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>", "<function=now>", "<function=", "</function>", "<parameter=city>", "</parameter>",
		"[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "<|assistant|>", "```json\n", "```", "```python\ntool_call(", "now", "get_weather(", "[now()]", `{"name": "now"`,
		`, "arguments": {}}`, `{"name": "search", "arguments": {"query": "`, `"}}`, "{", "}", "[", "]", "(", ")", `"`, "'", `\`, ",", ":", "=", ";", "\n", " ", "好", "\xff", "1", "-", "\\u00", "null", "True"}
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for range rapid.IntRange(0, 12).Draw(t, "words") {
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0:
				text := rapid.SampledFrom(all).Draw(t, "answer").text()
				if from := rapid.IntRange(0, len(text)).Draw(t, "from"); rapid.Bool().Draw(t, "the end") {
					text = text[from:]
				} else {
					text = text[:from]
				}
				b.WriteString(text)
			case 1:
				b.WriteString(rapid.String().Draw(t, "any"))
			default:
				b.WriteString(rapid.SampledFrom(words).Draw(t, "word"))
			}
		}
		text := b.String()
		at := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 8).Draw(t, "cuts")
		pieces := cuts(text, at)
		if rapid.Bool().Draw(t, "bytes") {
			pieces = bytesOf(text)
		}
		checkAnswer(t, rapid.SampledFrom(syntaxes()).Draw(t, "syntax"), tools, rapid.SampledFrom([]string{"", "<think>"}).Draw(t, "thinking"), text, pieces)
	})
}

func TestLongerCallsAreContent(t *testing.T) {
	tools, _ := answers(t)
	call := func(bytes int) string {
		const before, after = `<tool_call>{"name": "search", "arguments": {"query": "`, `"}}</tool_call>`
		return before + strings.Repeat("x", bytes-len(before)-len(after)) + after
	}
	for bytes, want := range map[int]int{maxCall: 1, maxCall + 1: 0} {
		text := call(bytes)
		m := Parse(Hermes, Options{Tools: tools}, text)
		if len(m.ToolCalls) != want || want == 0 && m.Content != text || want == 1 && m.Content != "" {
			t.Errorf("%d bytes: %d calls and %d bytes of content", bytes, len(m.ToolCalls), len(m.Content))
		}
	}
}

// A schema's types are read however they are written, and a hostile schema costs no more than its size.
func TestTypesOfParameters(t *testing.T) {
	const schema = `{"properties": {"a": {"type": "integer"}, "b": {"type": ["string", "null"]}, "c": {"anyOf": [{"type": "number"}, true, {"type": "null"}]},
		"d": {"oneOf": [{"type": "object"}]}, "e": true, "f": {"type": 3}, "g": {"type": {}}, "h": {"$ref": "#/x"}, "i": {"type": "boolean"}}}`
	want := map[string][]string{"a": {"integer"}, "b": {"string", "null"}, "c": {"number", "null"}, "d": {"object"}, "i": {"boolean"}}
	got := parameterTypes(json.RawMessage(schema))
	for name := range got {
		if len(got[name]) == 0 {
			delete(got, name)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, odd := range []string{"", "null", "true", "[]", `{"properties": 1}`, `{"properties": []}`} {
		if got := parameterTypes(json.RawMessage(odd)); len(got) != 0 {
			t.Errorf("%s: %v", odd, got)
		}
	}
	deep := `{"properties": {"a": ` + strings.Repeat(`{"anyOf": [`, 4000) + "{}" + strings.Repeat("]}", 4000) + "}}"
	bounded.Run(t, len(deep), func(context.Context) { parameterTypes(json.RawMessage(deep)) })
}

func FuzzAnswer(f *testing.F) {
	tools, all := answers(f)
	for i, a := range all {
		f.Add(a.text(), slices.Index(syntaxes(), a.Syntax), i)
	}
	f.Fuzz(func(t *testing.T, text string, syntax, cut int) {
		s := syntaxes()[uint(syntax)%uint(len(grammars)+1)]
		at := int(uint(cut) % uint(len(text)+1))
		bounded.Run(t, len(text), func(context.Context) { checkAnswer(t, s, tools, "", text, cuts(text, []int{at, at / 2})) })
	})
}

// Long texts that look like calls take time and memory in proportion to their length, whole or in pieces.
func TestLongAnswersTakeLinearTime(t *testing.T) {
	const size = 9 << 17 // more than a call may have
	many := func(s string) string { return strings.Repeat(s, size/len(s)) }
	tools, _ := answers(t)
	for _, c := range []struct {
		name, text string
		syntaxes   []Syntax
	}{
		{"letters", many("a"), syntaxes()},
		{"white space", many(" \n"), syntaxes()},
		{"short lines", many("a\n"), syntaxes()},
		{"calls", many("<tool_call>{\"name\": \"now\"}</tool_call>\n"), []Syntax{Hermes}},
		{"opened", many("<tool_call>"), []Syntax{Hermes, QwenXML}},
		{"opened objects", many("<tool_call>{"), []Syntax{Hermes, Llama3}},
		{"a long string", "<tool_call>{\"name\": \"search\", \"arguments\": {\"query\": \"" + many("x"), []Syntax{Hermes}},
		{"marks in strings", many("<tool_call>{\"name\": \"search\", \"arguments\": {\"query\": \""), []Syntax{Hermes}},
		{"functions in functions", "<tool_call>" + many(`{"function": `), []Syntax{Hermes}},
		{"a long key", "{\"" + many("\\\\"), []Syntax{Llama3, JSON}},
		{"a long name", "{\"name\": \"" + many("now"), []Syntax{Llama3, JSON}},
		{"lists", "[" + many("[],"), []Syntax{Llama3, Pythonic, JSON}},
		{"brackets", many("["), []Syntax{Llama3, Pythonic, Mistral, JSON}},
		{"fences", many("```json\n"), []Syntax{JSON}},
		{"tags", many("<|python_tag|>{"), []Syntax{Llama3}},
		{"members", "[TOOL_CALLS]now[ARGS]{" + many("\"a\": 1, "), []Syntax{Mistral}},
		{"Mistral's marks", many("[TOOL_CALLS]"), []Syntax{Mistral}},
		{"Mistral's calls", many("[TOOL_CALLS]now{}"), []Syntax{Mistral}},
		{"functions", many("<function=now></function>"), []Syntax{QwenXML}},
		{"parameters", "<function=search>" + many("<parameter=query>x</parameter>"), []Syntax{QwenXML}},
		{"closing tags", "<function=search><parameter=query>" + many("</parameter> \n"), []Syntax{QwenXML}},
		{"arguments of Python", "[now(" + many("a=[1], "), []Syntax{Pythonic}},
		{"a text of Python", "[now(a=" + many("'\\n'"), []Syntax{Pythonic}},
		{"nested lists of Python", "[now(a=" + many("[{'a': (") + ")]", []Syntax{Pythonic}},
		{"deep lists of Python", "[now(a=" + strings.Repeat("[", maxDepth-2) + many("1, ") + strings.Repeat("]", maxDepth-2) + ")]", []Syntax{Pythonic}},
		{"a list of Python's calls", "[" + many("now(), "), []Syntax{Pythonic}},
		{"names", many("get_weather\n"), []Syntax{ChatGLM3}},
		{"thinking", "<think>" + many("</think"), []Syntax{None}},
		{"thoughts", "<think>" + many(" \n"), []Syntax{None}},
	} {
		for _, syntax := range c.syntaxes {
			t.Run(c.name+" "+string(syntax), func(t *testing.T) {
				for _, eager := range []bool{false, true} {
					bounded.Run(t, len(c.text), func(context.Context) {
						p := New(syntax, Options{Tools: tools, Eager: eager})
						for rest := c.text; rest != ""; {
							piece := rest
							if !eager { // in pieces
								piece = rest[:min(len(rest), 1000)]
							}
							rest = rest[len(piece):]
							p.Push(piece)
						}
						if p.Close(); p.out != len(p.buf) {
							t.Errorf("%d bytes are left", len(p.buf)-p.out)
						}
					})
				}
			})
		}
	}
}
