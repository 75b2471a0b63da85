package server

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pumice"
)

// named are the events of a stream that have names, which their JSON has too.
func named(t *testing.T, text []byte) (list []map[string]any) {
	t.Helper()
	lines, name := bufio.NewScanner(strings.NewReader(string(text))), ""
	for lines.Scan() {
		if n, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
			name = n
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			var v map[string]any
			if err := json.Unmarshal([]byte(data), &v); err != nil || v["type"] != name {
				t.Fatalf("event %q: %v: %s", name, err, data)
			}
			list = append(list, v)
		}
	}
	return list
}

// kinds are the types of events in order, those in a row as one.
func kinds(list []map[string]any) (all []string) {
	for _, e := range list {
		if kind := e["type"].(string); len(all) == 0 || all[len(all)-1] != kind {
			all = append(all, kind)
		}
	}
	return all
}

const anthropicTools = `"tools":[{"name":"add","description":"Adds.","strict":true,"input_schema":{"type":"object",
	"properties":{"a":{"type":"integer","minimum":0,"maximum":99},"b":{"enum":[1,2,3]}},"required":["a","b"],"additionalProperties":false}}]`

func TestMessages(t *testing.T) {
	c := newToolClient(t)
	const history = `"system":[{"type":"text","text":"x-anthropic-billing-header: cch=1;"},{"type":"text","text":"Be short."}],"messages":[
		{"role":"user","content":"Add 1 and 2."},
		{"role":"assistant","content":[{"type":"thinking","thinking":"Easy.","signature":""},{"type":"text","text":"Well."},
			{"type":"tool_use","id":"toolu_1","name":"add","input":{"a":1,"b":2}}]},
		{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[{"type":"text","text":"3"}]},{"type":"text","text":"And 5 and 3?"}]}]`
	body := fmt.Sprintf(`{"max_tokens":300,%s,%s,%s`, history, anthropicTools, c.calm())
	forced := get[map[string]any](c, "/v1/messages", body+`,"tool_choice":{"type":"tool","name":"add"}}`)
	block := at(forced, "content", 0)
	if at(forced, "type") != "message" || at(forced, "role") != "assistant" || at(forced, "stop_reason") != "tool_use" || at(block, "type") != "tool_use" ||
		at(block, "name") != "add" || at(block, "input", "a") == nil || at(block, "id") == "" {
		t.Errorf("%v", forced)
	}
	used := at(forced, "usage", "input_tokens").(float64) + at(forced, "usage", "cache_read_input_tokens").(float64)
	count := get[map[string]any](c, "/v1/messages/count_tokens", body+`}`)
	if at(count, "input_tokens") != used {
		t.Errorf("%v counted, %v used", count, at(forced, "usage"))
	}
	other := get[map[string]any](c, "/v1/messages/count_tokens", strings.Replace(body, "cch=1", "cch=2 and more", 1)+`}`)
	if at(other, "input_tokens") != used {
		t.Error("the billing header is in the prompt")
	}

	_, text := c.ask("/v1/messages", body+`,"tool_choice":{"type":"any","disable_parallel_tool_use":true},"stream":true}`)
	list := named(t, text)
	if got := strings.Join(kinds(list), " "); got != "message_start ping content_block_start content_block_delta content_block_stop message_delta message_stop" {
		t.Errorf("%s", got)
	}
	arguments := ""
	for _, e := range list {
		if e["type"] == "content_block_delta" && at(e, "delta", "type") == "input_json_delta" {
			arguments += at(e, "delta", "partial_json").(string)
		}
	}
	var input map[string]any
	if err := json.Unmarshal([]byte(arguments), &input); err != nil || input["a"] == nil {
		t.Errorf("%q: %v", arguments, err)
	}
	if start := list[0]; at(start, "message", "stop_reason") != nil || len(at(start, "message", "content").([]any)) != 0 || at(start, "message", "usage", "input_tokens") != used {
		t.Errorf("%v", start)
	}
	if delta := list[len(list)-2]; at(delta, "delta", "stop_reason") != "tool_use" || at(delta, "usage", "output_tokens").(float64) == 0 {
		t.Errorf("%v", delta)
	}

	for _, x := range []struct{ body, reason string }{
		{`"max_tokens":3`, "max_tokens"},
		{`"max_tokens":300,"output_config":{"format":{"type":"json_schema","schema":{"const":"abcde"}}}`, "end_turn"},
		{`"max_tokens":300,"stop_sequences":["cd"],"output_format":{"type":"json_schema","schema":{"const":"abcde"}}`, "stop_sequence"},
	} {
		out := get[map[string]any](c, "/v1/messages", `{"messages":[{"role":"user","content":"x"}],`+x.body+"}")
		if at(out, "stop_reason") != x.reason || (at(out, "stop_sequence") == "cd") != (x.reason == "stop_sequence") {
			t.Errorf("%s: %v", x.body, out)
		}
	}
	for _, x := range []struct {
		body string
		code int
		want string
	}{
		{`{"messages":[]}`, 400, "no messages"},
		{`{"messages":[{"role":"user","content":[{"type":"image"}]}]}`, 400, "image"},
		{`{"messages":[{"role":"tool","content":"x"}]}`, 400, "tool"},
		{`{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"web_search_20250305","name":"web_search"}]}`, 400, "web_search"},
		{`{"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"tool"}}`, 400, "tool_choice"},
		{`{"messages":[{"role":"user","content":"x"}],"tool_choice":{"type":"any"},"tools":[{"name":"f","input_schema":{"not":{"items":{}}}}]}`, 400, "not"},
		{`{`, 400, "JSON"},
	} {
		code, text := c.ask("/v1/messages", x.body)
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil || code != x.code || v["type"] != "error" || at(v, "error", "type") != "invalid_request_error" ||
			!strings.Contains(at(v, "error", "message").(string), x.want) {
			t.Errorf("%s: %d %s", x.body, code, text)
		}
	}
}

func TestResponses(t *testing.T) {
	c := newToolClient(t)
	tools := `"tools":[{"type":"web_search"},{"type":"function","name":"add","strict":true,"parameters":{"type":"object",
		"properties":{"a":{"type":"integer","minimum":0,"maximum":99},"b":{"enum":[1,2,3]}},"required":["a","b"],"additionalProperties":false}}]`
	const history = `"instructions":"Be short.","input":[{"role":"developer","content":"Be kind."},{"type":"message","role":"user","content":[{"type":"input_text","text":"Add 1 and 2."}]},
		{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"Easy."}]},
		{"type":"function_call","call_id":"call00001","name":"add","arguments":"{\"a\":1,\"b\":2}"},
		{"type":"function_call_output","call_id":"call00001","output":[{"type":"input_text","text":"3"}]}]`
	body := `{` + c.calm() + `,` + history + `,` + tools
	forced := get[map[string]any](c, "/v1/responses", body+`,"tool_choice":{"type":"function","name":"add"}}`)
	item := at(forced, "output", 0)
	if at(forced, "status") != "completed" || at(forced, "object") != "response" || at(item, "type") != "function_call" || at(item, "name") != "add" ||
		!json.Valid([]byte(at(item, "arguments").(string))) || at(forced, "usage", "output_tokens") == nil {
		t.Errorf("%v", forced)
	}
	for name, want := range map[string]string{
		"a call": "response.created response.in_progress response.output_item.added response.function_call_arguments.delta " +
			"response.function_call_arguments.done response.output_item.done response.completed",
		"a text": "response.created response.in_progress response.output_item.added response.content_part.added response.output_text.delta " +
			"response.output_text.done response.content_part.done response.output_item.done response.completed",
	} {
		more := `,"tool_choice":"required","parallel_tool_calls":false,"stream":true}`
		if name == "a text" {
			more = `,"tool_choice":"none","text":{"format":{"type":"json_schema","name":"x","schema":{"const":"abcde"}}},"stream":true,
				"include":["message.output_text.logprobs"],"top_logprobs":1}`
		}
		_, text := c.ask("/v1/responses", body+more)
		list := named(t, text)
		if got := strings.Join(kinds(list), " "); got != want {
			t.Errorf("%s: %s", name, got)
		}
		joined, probs := "", 0
		for i, e := range list {
			if at(e, "sequence_number") != float64(i) {
				t.Errorf("%s: event %d: %v", name, i, e)
			}
			if delta, ok := at(e, "delta").(string); ok {
				joined += delta
				l, _ := at(e, "logprobs").([]any)
				probs += len(l)
			}
		}
		last := at(list[len(list)-1], "response", "output", 0)
		if at(last, "arguments") != joined && at(last, "content", 0, "text") != joined || joined == "" {
			t.Errorf("%s: %q, in the end %v", name, joined, last)
		}
		if name == "a text" && (joined != `"abcde"` || probs == 0) {
			t.Errorf("%s: %q with %d log-probabilities", name, joined, probs)
		}
	}
	// Reasoning, text and a call are three items.
	var q responsesRequest
	if err := parse(strings.NewReader(body+"}"), &q); err != nil {
		t.Fatal(err)
	}
	conversation, err := q.conversation()
	if err != nil {
		t.Fatal(err)
	}
	m := conversation.messages
	if len(m) != 4 || m[0].Content != "Be short.\n\nBe kind." || m[2].Reasoning != "Easy." || len(m[2].ToolCalls) != 1 || m[3].Role != "tool" {
		t.Errorf("%+v", m)
	}
	short := get[map[string]any](c, "/v1/responses", `{"input":"x","max_output_tokens":3}`)
	if at(short, "status") != "incomplete" || at(short, "incomplete_details", "reason") != "max_output_tokens" {
		t.Errorf("%v", short)
	}
}

// TestBlocks: reasoning, text and a call are a block each of a message, and an item each of a response, whole or streamed.
func TestBlocks(t *testing.T) {
	c := newToolClient(t)
	said := c.said("[THINK]Hm.[/THINK]Now.\n<tool_call>{\"name\":\"now\"}</tool_call>")
	for _, x := range []struct{ path, body, blocks, kind, text, thought string }{
		{"/v1/messages", `{"messages":[{"role":"user","content":"x"}],"tools":[{"name":"now","input_schema":{}}],`, "content", "thinking text tool_use", "text", "thinking"},
		{"/v1/responses", `{"input":"x","tools":[{"type":"function","name":"now"}],`, "output", "reasoning message function_call", "content 0 text", "content 0 text"},
	} {
		whole := get[map[string]any](c, x.path, x.body+said+"}")
		_, text := c.ask(x.path, x.body+said+`,"stream":true}`)
		var streamed []any // blocks as they begin, or of a response as they end
		for _, e := range named(t, text) {
			if e["type"] == "content_block_start" {
				streamed = append(streamed, e["content_block"])
			}
			if e["type"] == "response.output_item.done" {
				streamed = append(streamed, e["item"])
			}
		}
		list, _ := at(whole, x.blocks).([]any)
		for name, list := range map[string][]any{"whole": list, "streamed": streamed} {
			var kinds []string
			for _, b := range list {
				kinds = append(kinds, at(b, "type").(string))
			}
			if got := strings.Join(kinds, " "); got != x.kind {
				t.Fatalf("%s %s: %s in %v", x.path, name, got, whole)
			}
		}
		field := func(i int, path string) any {
			var keys []any
			for _, k := range strings.Fields(path) {
				if k == "0" {
					keys = append(keys, 0)
				} else {
					keys = append(keys, k)
				}
			}
			return at(list[i], keys...)
		}
		if field(0, x.thought) != "Hm." || field(1, x.text) != "Now." || at(list[2], "name") != "now" {
			t.Errorf("%s: %v", x.path, list)
		}
	}
}

// TestPings: a client that waits for a token is told that the answer is on the way.
func TestPings(t *testing.T) {
	c := newClient(t, nil)
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	for path, want := range map[string]string{"/v1/chat/completions": ": ping\n", "/v1/messages": "event: ping\n", "/v1/completions": ": ping\n"} {
		w := &slowWriter{header: http.Header{}}
		out := newStream(w, 5*time.Millisecond)
		if path == "/v1/messages" {
			(&messagesProtocol{}).writer(out)
		}
		if err := out.send("x"); err != nil {
			t.Fatal(err)
		}
		for range 400 {
			if time.Sleep(5 * time.Millisecond); strings.Contains(w.text(out), want) {
				break
			}
		}
		if got := w.text(out); !strings.HasPrefix(got, "data: \"x\"\n\n"+want) || w.code != http.StatusOK {
			t.Errorf("%s: %q", path, got)
		}
		out.close()
		if err := out.send("x"); err == nil {
			t.Error("a stream that is closed takes more")
		}
	}
}

// A slowWriter keeps what is written under the lock of its stream.
type slowWriter struct {
	header http.Header
	code   int
	all    strings.Builder
}

func (w *slowWriter) Header() http.Header         { return w.header }
func (w *slowWriter) WriteHeader(code int)        { w.code = code }
func (w *slowWriter) Flush()                      {}
func (w *slowWriter) Write(b []byte) (int, error) { return w.all.Write(b) }
func (w *slowWriter) text(x *stream) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return w.all.String()
}

// TestInfill: the texts around a gap reach the model in the order of its training, and as text.
func TestInfill(t *testing.T) {
	dir := writeModel(t)
	file := filepath.Join(dir, "tokenizer.json")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := pumice.OpenTokenizer(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	added, first := "", tok.VocabSize()
	for i, name := range fimTexts[0] {
		added += fmt.Sprintf(`{"id":%d,"content":%q,"single_word":false,"lstrip":false,"rstrip":false,"normalized":false,"special":true},`, first+i, name)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte(`"added_tokens": [`), []byte(`"added_tokens": [`+added), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newClientOf(t, dir, pumice.Options{Context: 200}, nil)
	ids := func(text string) []int {
		return get[struct{ Tokens []int }](c, "/tokenize", fmt.Sprintf(`{"content":%q,"parse_special":false}`, text)).Tokens
	}
	const prefix, suffix = "def f(x): <|fim_suffix|>", "return y"
	prompt := slices.Concat([]int{first}, ids(prefix), []int{first + 1}, ids(suffix), []int{first + 2})
	list, _ := json.Marshal(prompt)
	want := at(get[map[string]any](c, "/v1/completions", fmt.Sprintf(`{"prompt":%s,"max_tokens":6,"temperature":0}`, list)), "choices", 0, "text")
	got := get[map[string]any](c, "/v1/completions", fmt.Sprintf(`{"prompt":%q,"suffix":%q,"max_tokens":6,"temperature":0}`, prefix, suffix))
	if at(got, "choices", 0, "text") != want || at(got, "usage", "prompt_tokens") != float64(len(prompt)) {
		t.Errorf("%v, want %q after %d tokens", got, want, len(prompt))
	}
	llama := get[map[string]any](c, "/infill", fmt.Sprintf(`{"input_prefix":%q,"input_suffix":%q,"n_predict":6,"temperature":0}`, prefix, suffix))
	if at(llama, "content") != want {
		t.Errorf("%v, want %q", llama, want)
	}
	begun := get[map[string]any](c, "/infill", fmt.Sprintf(`{"input_prefix":%q,"input_suffix":%q,"prompt":"y = x","n_predict":6,"temperature":0}`, prefix, suffix))
	if n := len(prompt) + len(ids("y = x")); at(begun, "tokens_evaluated") != float64(n) {
		t.Errorf("%v, want %d tokens", begun, n)
	}
}
