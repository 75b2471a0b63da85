package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pumice"
	"pumice/constrain"
)

// newToolClient asks a model whose template has tools and reasoning.
func newToolClient(t *testing.T) *client {
	t.Helper()
	c := newClientOf(t, writeModel(t), pumice.Options{Context: 1500, ChatTemplate: filepath.Join("..", "chat", "testdata", "templates", "qwen3.jinja")}, nil)
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`) // loads it
	return c
}

// said are the fields that make the model say a text, whatever else it might: a grammar of this text alone, and where calls are
// possible too, a preference for the text's characters, and most for the first.
func (c *client) said(text string) string {
	c.t.Helper()
	var literal strings.Builder
	biases := map[int]float32{}
	for i, r := range text {
		fmt.Fprintf(&literal, `\U%08X`, r)
		if id, ok := c.engine.Tokenizer().TokenID(string(r)); ok && biases[id] == 0 {
			biases[id] = 200
			if i == 0 {
				biases[id] = 400
			}
		}
	}
	grammar, _ := json.Marshal(`root ::= "` + literal.String() + `"`)
	bias, _ := json.Marshal(biases)
	return fmt.Sprintf(`"temperature":0,"grammar":%s,"logit_bias":%s`, grammar, bias)
}

// calm keeps a model that knows nothing from breaking lines where it may.
func (c *client) calm() string {
	c.t.Helper()
	tok := c.engine.Tokenizer()
	newline, _ := tok.TokenID("<0x0A>")
	tab, _ := tok.TokenID("<0x09>")
	return fmt.Sprintf(`"temperature":0,"logit_bias":{"%d":-50,"%d":-50}`, newline, tab)
}

const twoTools = `"tools":[{"type":"function","function":{"name":"add","description":"Adds.","strict":true,"parameters":{"type":"object",
	"properties":{"a":{"type":"integer","minimum":0,"maximum":99},"b":{"enum":[1,2,3]}},"required":["a","b"],"additionalProperties":false}}},
	{"type":"function","function":{"name":"now"}}]`

// chunks are what the chunks of a stream of one chat completion add up to.
func chunks(t *testing.T, list []map[string]any) (content, reasoning, finish string, calls []map[string]string) {
	t.Helper()
	for i, e := range list {
		delta := at(e, "choices", 0, "delta")
		if role := at(delta, "role"); (role == "assistant") != (i == 0) {
			t.Errorf("chunk %d: role %v", i, role)
		}
		text, _ := at(delta, "content").(string)
		content += text
		text, _ = at(delta, "reasoning_content").(string)
		if reasoning += text; at(delta, "reasoning") != at(delta, "reasoning_content") {
			t.Errorf("chunk %d: %v", i, delta)
		}
		if f, ok := at(e, "choices", 0, "finish_reason").(string); ok {
			finish = f
		}
		if at(delta, "tool_calls") == nil {
			continue
		}
		call := at(delta, "tool_calls", 0)
		index, arguments := int(at(call, "index").(float64)), at(call, "function", "arguments").(string)
		if first := index == len(calls); first {
			calls = append(calls, map[string]string{"id": at(call, "id").(string), "name": at(call, "function", "name").(string)})
			if at(call, "type") != "function" {
				t.Errorf("chunk %d: %v", i, call)
			}
		} else if at(call, "id") != nil || at(call, "type") != nil || at(call, "function", "name") != nil || index != len(calls)-1 {
			t.Errorf("chunk %d: %v", i, call)
		}
		calls[index]["arguments"] += arguments
	}
	return content, reasoning, finish, calls
}

// TestCallsThatTheRequestForces: they are of the right function, fit its schema, and stream as they come at once.
func TestCallsThatTheRequestForces(t *testing.T) {
	c := newToolClient(t)
	for _, x := range []struct {
		choice, names string
		calls         int // at most
	}{
		{`"required"`, "add now", maxCalls},
		{`"required","parallel_tool_calls":false`, "add now", 1},
		{`{"type":"function","function":{"name":"add"}}`, "add", 1},
	} {
		body := fmt.Sprintf(`{"messages":[{"role":"user","content":"Add 5 and 3."}],%s,"tool_choice":%s,%s,"max_tokens":700`, twoTools, x.choice, c.calm())
		whole := get[map[string]any](c, "/v1/chat/completions", body+"}")
		choice := at(whole, "choices", 0)
		message, _ := at(choice, "message").(map[string]any)
		content, there := message["content"]
		calls, _ := at(message, "tool_calls").([]any)
		if at(choice, "finish_reason") != "tool_calls" || !there || content != nil || len(calls) == 0 || len(calls) > x.calls {
			t.Errorf("%s: %v", x.choice, choice)
		}
		for i, call := range calls {
			var arguments map[string]any
			text := at(call, "function", "arguments").(string)
			name := at(call, "function", "name").(string)
			if err := json.Unmarshal([]byte(text), &arguments); err != nil || !strings.Contains(x.names, name) {
				t.Errorf("%s: call %d is %v: %v", x.choice, i, call, err)
			}
			a, ok := arguments["a"].(float64)
			b, _ := arguments["b"].(float64)
			if name == "add" && (!ok || a < 0 || a > 99 || !slices.Contains([]float64{1, 2, 3}, b) || len(arguments) != 2) {
				t.Errorf("%s: call %d has the arguments %s", x.choice, i, text)
			}
		}
		code, text := c.ask("/v1/chat/completions", body+`,"stream":true}`)
		if code != http.StatusOK {
			t.Fatalf("%s: %d %s", x.choice, code, text)
		}
		_, _, finish, streamed := chunks(t, events(t, text))
		if finish != "tool_calls" || len(streamed) != len(calls) {
			t.Fatalf("%s: %s %v, want %v", x.choice, finish, streamed, calls)
		}
		for i, s := range streamed {
			if s["name"] != at(calls[i], "function", "name") || s["arguments"] != at(calls[i], "function", "arguments") || s["id"] == "" {
				t.Errorf("%s: call %d is %v, want %v", x.choice, i, s, calls[i])
			}
		}
	}
}

// TestWhatAnAnswerHas: answers are read as content, reasoning and calls, and what is no call is content.
func TestWhatAnAnswerHas(t *testing.T) {
	c := newToolClient(t)
	const call = "<tool_call>{\"name\":\"now\"}</tool_call>"
	for _, x := range []struct {
		more, answer               string // what the request has besides, and what the model answers
		content, reasoning, finish string
		calls                      int
	}{
		{`,"stop":["never"]`, "Hello", "Hello", "", "stop", 0},
		{``, "<think>\nHm.\n</think>\n\nHello", "Hello", "Hm.", "stop", 0},
		{`,` + twoTools, "Now.\n" + call, "Now.", "", "tool_calls", 1},
		{`,` + twoTools, "[THINK]x[/THINK]" + call + "\n" + call, "", "x", "tool_calls", 2},
		{`,"parallel_tool_calls":false,` + twoTools, "so " + call + " " + call, "so", "", "tool_calls", 1},
		{`,"tool_choice":"none",` + twoTools, "no " + call, "no " + call, "", "stop", 0},
		{`,` + twoTools, "<tool_call>broken", "<tool_call>broken", "", "stop", 0},
		{`,` + twoTools, "an <tool_call>{\"name\":\"x\"}</tool_call>", "an <tool_call>{\"name\":\"x\"}</tool_call>", "", "stop", 0},
		{`,"max_tokens":6,` + twoTools, "I <tool_call>{", "I <tool_", "", "length", 0},
	} {
		body := fmt.Sprintf(`{"messages":[{"role":"user","content":"Add."}],%s%s`, c.said(x.answer), x.more)
		whole := get[map[string]any](c, "/v1/chat/completions", body+"}")
		m := at(whole, "choices", 0, "message")
		calls, _ := at(m, "tool_calls").([]any)
		content, _ := at(m, "content").(string)
		reasoning, _ := at(m, "reasoning_content").(string)
		if content != x.content || reasoning != x.reasoning || len(calls) != x.calls || at(whole, "choices", 0, "finish_reason") != x.finish {
			t.Errorf("%q is %v, want %+v", x.answer, at(whole, "choices", 0), x)
		}
		_, text := c.ask("/v1/chat/completions", body+`,"stream":true}`)
		content, reasoning, finish, streamed := chunks(t, events(t, text))
		if content != x.content || reasoning != x.reasoning || len(streamed) != x.calls || finish != x.finish {
			t.Errorf("%q streams %q, %q, %v, %s; want %+v", x.answer, content, reasoning, streamed, finish, x)
		}
	}
}

// TestConversationsWithTools: what clients send back of an answer reaches the template.
func TestConversationsWithTools(t *testing.T) {
	c := newToolClient(t)
	prompt := get[map[string]string](c, "/apply-template", `{"messages":[{"role":"developer","content":"Be short."},
		{"role":"user","content":[{"type":"text","text":"Add"},{"type":"input_text","text":"5 and 3."}]},
		{"role":"assistant","content":null,"reasoning":"I should add.","tool_calls":[{"id":"call00001","type":"function","function":{"name":"add","arguments":"{\"a\":5,\"b\":3}"}}]},
		{"role":"tool","tool_call_id":"call00001","content":[{"type":"text","text":"8"}]}],`+twoTools+`}`)["prompt"]
	for _, want := range []string{"system\nBe short.", "Add\n5 and 3.", "I should add.", `{"name": "add", "arguments": {"a": 5, "b": 3}}`,
		"<tool_response>\n8\n</tool_response>", `"name": "now"`} {
		if !strings.Contains(prompt, want) {
			t.Errorf("no %q in %s", want, prompt)
		}
	}
	none := get[map[string]string](c, "/apply-template", `{"messages":[{"role":"user","content":"x"}],"tool_choice":"none",`+twoTools+`}`)["prompt"]
	if strings.Contains(none, "now") {
		t.Errorf("tools that may not be called are in %s", none)
	}
}

// TestFormats: texts fit what the request asks for, by every way to ask.
func TestFormats(t *testing.T) {
	c := newToolClient(t)
	const schema = `{"type":"object","properties":{"n":{"enum":["one","two"]},"ok":{"type":"boolean"}},"required":["n","ok"],"additionalProperties":false}`
	fits := func(path, body, text string) {
		t.Helper()
		var v map[string]any
		if err := json.Unmarshal([]byte(text), &v); err != nil || v["n"] != "one" && v["n"] != "two" || len(v) != 2 {
			t.Errorf("%s %s: %q: %v", path, body, text, err)
		}
	}
	for _, format := range []string{
		`"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":` + schema + `}}`,
		`"response_format":{"type":"json_schema","schema":` + schema + `}`,
		`"response_format":{"type":"json_object","schema":` + schema + `}`,
		`"json_schema":` + schema,
	} {
		for _, more := range []string{"", `,"n":2,"temperature":1.5`} {
			body := `{"messages":[{"role":"user","content":"x"}],"max_tokens":300,"logprobs":true,` + format + more + "}"
			out := get[map[string]any](c, "/v1/chat/completions", body)
			for _, choice := range at(out, "choices").([]any) {
				fits("chat", body, at(choice, "message", "content").(string))
			}
		}
		body := `{"prompt":"x","max_tokens":300,"n":2,"temperature":1.5,` + format + "}"
		out := get[map[string]any](c, "/v1/completions", body)
		fits("/v1/completions", body, at(out, "choices", 1, "text").(string))
		body = `{"prompt":"x","n_predict":300,` + format + "}"
		fits("/completion", body, at(get[map[string]any](c, "/completion", body), "content").(string))
	}
	gbnf := get[map[string]any](c, "/completion", `{"prompt":"x","grammar":"root ::= (\"ab\" | \"cd\") \"!\""}`)
	if text := at(gbnf, "content"); text != "ab!" && text != "cd!" || at(gbnf, "stop_type") != "eos" {
		t.Errorf("%v", gbnf)
	}
	// With tools the answer is a call or fits the format.
	out := get[map[string]any](c, "/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"max_tokens":300,"json_schema":`+schema+`,`+twoTools+`}`)
	if m := at(out, "choices", 0, "message"); at(m, "tool_calls") == nil {
		fits("chat", "with tools", at(m, "content").(string))
	}
}

// TestConstraintsAfterReasoning draws tokens at random: the text is free up to a mark, does not end before, and then fits.
func TestConstraintsAfterReasoning(t *testing.T) {
	tokens := make([]string, 262)
	for b := range 256 {
		tokens[b] = string([]byte{byte(b)})
	}
	const end, think, tail = 256, 257, 258
	tokens[think], tokens[tail], tokens[259], tokens[260], tokens[261] = "<think>", ">\n\n{", ">!", "k>yes", "</think"
	v, err := constrain.NewVocabulary(tokens, []int{end})
	if err != nil {
		t.Fatal(err)
	}
	g, err := constrain.CompileGBNF(v, `root ::= "yes" | "no"`)
	if err != nil {
		t.Fatal(err)
	}
	calls, err := constrain.CompileGBNF(v, `root ::= "<call>" [0-9] "</call>"`)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	// draw draws a text that begins with the tokens of a script that are allowed.
	draw := func(c *constraint, script ...int) (text string, ended bool) {
		mask := make([]uint32, (v.Size()+31)/32)
		for n := 0; n < 100; {
			if err := c.Mask(mask); err != nil {
				t.Fatal(err)
			}
			allowed := func(id int) bool { return mask[id/32]>>(id%32)&1 != 0 }
			id := rng.IntN(v.Size())
			for !allowed(id) {
				id = (id + 1) % v.Size()
			}
			if len(script) == 0 {
				n++
			} else if id, script = script[0], script[1:]; !allowed(id) {
				continue
			}
			if err := c.Accept(id); err != nil {
				t.Fatalf("%q, then %q: %v", text, tokens[id], err)
			}
			if id == end {
				return text, true
			}
			text += tokens[id]
		}
		return text, false
	}
	bytesOf := func(text string) (ids []int) {
		for _, b := range []byte(text) {
			ids = append(ids, int(b))
		}
		return ids
	}
	for range 50 {
		text, ended := draw(&constraint{vocabulary: v, think: think, closing: "</think>", matchers: []*constrain.Matcher{g.Matcher()}}, slices.Concat([]int{think}, bytesOf("x</think"), []int{tail}, bytesOf("> \n"))...)
		_, rest, found := strings.Cut(text, "</think>")
		if rest = strings.TrimLeft(rest, " \n"); !strings.HasPrefix(text, "<think>x") || !found || !ended || rest != "yes" && rest != "no" {
			t.Errorf("%q, ended %t", text, ended)
		}
		text, ended = draw(&constraint{vocabulary: v, think: think, closing: "</think>", matchers: []*constrain.Matcher{g.Matcher()}}, int('n'))
		if text != "no" || !ended {
			t.Errorf("%q, ended %t", text, ended)
		}
		// Reasoning that the prompt began, then free text up to a call.
		c := &constraint{vocabulary: v, think: -1, free: []free{{until: "</think>"}, {until: "<call>", mayEnd: true, keep: true}}, matchers: []*constrain.Matcher{calls.Matcher()}}
		text, ended = draw(c, slices.Concat([]int{end}, bytesOf("</think>a <call"), []int{259, int('>')})...)
		_, rest, found = strings.Cut(text, "</think>")
		if _, call, called := strings.Cut(rest, "<call>"); !found || !ended || called && !strings.HasSuffix(call, "</call>") {
			t.Errorf("%q, ended %t", text, ended)
		}
		text, ended = draw(&constraint{vocabulary: v, think: -1, free: []free{{until: "<call>", mayEnd: true, keep: true}}, matchers: []*constrain.Matcher{calls.Matcher()}}, slices.Concat(bytesOf("hi"), []int{end})...)
		if text != "hi" || !ended {
			t.Errorf("%q, ended %t", text, ended)
		}
	}
}
