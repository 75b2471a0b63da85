package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"pumice"
)

// TestErrorsSayWhatIsWrong: a bad request is 400 in OpenAI's form, before anything is generated.
func TestErrorsSayWhatIsWrong(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Models = append(o.Models, Model{Name: "other", Open: func(context.Context) (*pumice.Engine, error) { return nil, os.ErrNotExist }})
	})
	long := strings.Repeat("word ", 300)
	for _, x := range []struct {
		path, body string
		code       int
		kind, want string
	}{
		{"/v1/chat/completions", `{`, 400, "invalid_request_error", "no JSON object"},
		{"/v1/chat/completions", `{"messages":[]} more`, 400, "invalid_request_error", ""},
		{"/v1/chat/completions", `{"messages":7}`, 400, "invalid_request_error", "messages"},
		{"/v1/chat/completions", `{}`, 400, "invalid_request_error", "no messages"},
		{"/v1/chat/completions", `{"messages":[{"role":"developer","content":"x"},{"role":"user","content":"x"}]}`, 400, "invalid_request_error", "system"},
		{"/v1/chat/completions", `{"messages":[{"role":"martian","content":"x"}]}`, 400, "invalid_request_error", `"martian"`},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "invalid_request_error", "image_url"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"xml"}}`, 400, "invalid_request_error", "xml"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema"}}`, 400, "invalid_request_error", "no schema"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema","json_schema":{"schema":{"contains":{}}}}}`, 400, "invalid_request_error", "contains"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"},"grammar":"root ::= \"a\""}`, 400, "invalid_request_error", "one of"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"},"ignore_eos":true}`, 400, "invalid_request_error", "ignore_eos"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f"}}]}`, 400, "invalid_request_error", "no place for tools"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tool_choice":"always"}`, 400, "invalid_request_error", "always"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tool_choice":"required"}`, 400, "invalid_request_error", "not in tools"},
		{"/v1/completions", `{"prompt":"a","json_schema":{"type":"string","pattern":"(?=a)"}}`, 400, "invalid_request_error", "pattern"},
		{"/v1/responses", `{"input":"x","previous_response_id":"resp_1"}`, 400, "invalid_request_error", "keeps no responses"},
		{"/v1/responses", `{"input":[{"type":"item_reference","id":"x"}]}`, 400, "invalid_request_error", "item_reference"},
		{"/v1/responses", `{"input":"x","text":{"format":{"type":"json_schema","name":"n","schema":{"type":"array","uniqueItems":true}}}}`, 400, "invalid_request_error", "uniqueItems"},
		{"/infill", `{"input_prefix":"a","input_suffix":"b"}`, 400, "invalid_request_error", "middle"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"tools":[{}]}`, 400, "invalid_request_error", "no function"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"temperature":-1}`, 400, "invalid_request_error", "temperature is -1"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"top_p":2}`, 400, "invalid_request_error", "top_p is 2"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"n":0}`, 400, "invalid_request_error", "n is 0"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"top_logprobs":3}`, 400, "invalid_request_error", "without logprobs"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":99}`, 400, "invalid_request_error", "TopLogProbs"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"logit_bias":{"x":1}}`, 400, "invalid_request_error", "logit_bias"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"x"}],"logit_bias":{"600000":1}}`, 400, "invalid_request_error", "LogitBias"},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"` + long + `"}]}`, 400, "exceed_context_size_error", "maximum context length is 200"},
		{"/v1/completions", `{"prompt":"` + long + `"}`, 400, "exceed_context_size_error", "exceeds the available context size (200 tokens)"},
		{"/v1/completions", `{"prompt":[]}`, 400, "invalid_request_error", "empty"},
		{"/v1/completions", `{"prompt":"a","temperature":"hot"}`, 400, "invalid_request_error", "temperature is a JSON string"},
		{"/v1/completions", `["a"]`, 400, "invalid_request_error", "the request is a JSON array, and no object"},
		{"/v1/completions", `{"prompt":[6016]}`, 400, "invalid_request_error", "token 0 is 6016"},
		{"/v1/completions", `{"prompt":[[1],"a",7]}`, 400, "invalid_request_error", "prompt 2"},
		{"/v1/completions", `{"prompt":"a","suffix":"b"}`, 400, "invalid_request_error", "middle"},
		{"/v1/completions", `{"prompt":"a","best_of":2,"stream":true}`, 400, "invalid_request_error", "best_of"},
		{"/v1/completions", `{"prompt":"a","model":"nobody"}`, 404, "not_found_error", "nobody"},
		{"/v1/completions", `{"prompt":"a","model":"other"}`, 500, "server_error", "log"},
		{"/v1/models/nobody", ``, 404, "not_found_error", "nobody"},
		{"/nowhere", ``, 404, "not_found_error", "/nowhere"},
		{"/v1/embeddings", `{"input":["a",""],"encoding_format":"bits"}`, 400, "invalid_request_error", "bits"},
		{"/detokenize", `{"tokens":[-1]}`, 400, "invalid_request_error", "token -1"},
		{"/completion", `{"prompt":"a","grammar":"root ::= rest"}`, 400, "invalid_request_error", "rest"},
	} {
		code, text := c.ask(x.path, x.body)
		var v map[string]any
		if err := json.Unmarshal(text, &v); err != nil || code != x.code || at(v, "error", "type") != x.kind ||
			!strings.Contains(fmt.Sprint(at(v, "error", "message")), x.want) || strings.Contains(string(text), "sampling.") || at(v, "error", "code") != float64(x.code) {
			t.Errorf("%s %.120s: %d %s; want %d, %s, %q", x.path, x.body, code, text, x.code, x.kind, x.want)
		}
	}
	if code, text := c.ask("/v1/completions", `{"prompt":"`+strings.Repeat("x", maxBody)+`"}`); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %d %s", code, text)
	}
}

// TestHostileRequestsAreBounded sends what a stranger may: each is answered in seconds, and the server goes on.
func TestHostileRequestsAreBounded(t *testing.T) {
	c := newClient(t, nil)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	deepObject := func(n int) string { return strings.Repeat(`{"items":`, n) + "{}" + strings.Repeat("}", n) }
	user := `{"role":"user","content":"x"}`
	many := func(n int) string { return strings.Repeat(user+",", n-1) + user } // 500,000 are 15 MB
	for _, x := range []struct {
		name, path, body string
		code             int
	}{
		{"deep", "/v1/chat/completions", `{"messages":` + deep(100_000) + `}`, 400},
		{"deep in a field that nobody reads", "/v1/completions", `{"prompt":"a","max_tokens":1,"x":` + deep(100_000) + `}`, 400},
		{"a deep schema", "/v1/completions", `{"prompt":"a","json_schema":` + deepObject(100_000) + `}`, 400},
		{"a schema almost too deep for JSON", "/v1/completions", `{"prompt":"a","max_tokens":1,"json_schema":` + deepObject(4_000) + `}`, 400},
		{"a deep tool", "/v1/messages", `{"max_tokens":1,"messages":[` + user + `],"tools":[{"name":"f","input_schema":` + deepObject(100_000) + `}]}`, 400},
		{"more messages than fit", "/v1/chat/completions", `{"messages":[` + many(600_000) + `]}`, 413},
		{"many messages", "/v1/chat/completions", `{"messages":[` + many(100_000) + `]}`, 400},
		{"many messages", "/v1/messages", `{"max_tokens":1,"messages":[` + many(50_000) + `]}`, 400},
		{"many items", "/v1/responses", `{"input":[` + many(50_000) + `]}`, 400},
		{"many prompts", "/v1/completions", `{"prompt":[` + strings.Repeat(`"a",`, 1_000_000) + `"a"]}`, 400},
		{"a long text", "/tokenize", `{"content":"` + strings.Repeat("a", 1<<20) + `"}`, 200},
		{"no number", "/v1/completions", `{"prompt":"a","temperature":NaN}`, 400},
		{"a number as a text", "/v1/completions", `{"prompt":"a","temperature":"NaN"}`, 400},
		{"no float32", "/v1/completions", `{"prompt":"a","temperature":1e39}`, 400},
		{"no float64", "/v1/completions", `{"prompt":"a","logit_bias":{"1":1e999}}`, 400},
		{"no integer", "/v1/completions", `{"prompt":"a","max_tokens":1e30}`, 400},
		{"half a token", "/v1/completions", `{"prompt":[1.5]}`, 400},
		{"bytes that are no text", "/v1/chat/completions", "{\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"\xff\xfe\xed\xa0\x80\"}]}", 200},
		{"half a character", "/v1/completions", `{"prompt":"\ud800","max_tokens":1}`, 200},
		{"a null character", "/v1/completions", `{"prompt":"\u0000","max_tokens":1}`, 200},
		{"no object", "/v1/completions", `"a"`, 400},
		{"nothing but spaces", "/v1/completions", strings.Repeat(" ", 15<<20), 400},
		{"a field many times", "/v1/completions", `{` + strings.Repeat(`"max_tokens":1,`, 100_000) + `"prompt":"a"}`, 200},
	} {
		begun := time.Now()
		code, text := c.ask(x.path, x.body)
		if took := time.Since(begun); code != x.code || took > time.Minute || !json.Valid(text) {
			t.Errorf("%s %s: %d %.300s after %v; want %d", x.path, x.name, code, text, took, x.code)
		}
	}
	if text := at(get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`), "choices", 0, "text"); text == nil {
		t.Error("the server does not go on")
	}
}

// TestRequestsBeyondTheLimitAreRefused: those that only look at the server are not.
func TestRequestsBeyondTheLimitAreRefused(t *testing.T) {
	c := newClient(t, func(o *Options) { o.MaxRequests = 1 })
	body, more := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.URL+"/v1/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		a, err := http.DefaultClient.Do(r)
		if err == nil {
			err = a.Body.Close()
			if a.StatusCode != http.StatusOK {
				err = errors.New(a.Status)
			}
		}
		done <- err
	}()
	if _, err := io.WriteString(more, `{"prompt":"a",`); err != nil {
		t.Fatal(err)
	}
	short := `{"prompt":"a","max_tokens":1}`
	code, text := 0, []byte{}
	for range 500 { // until the server has seen the first
		if code, text = c.ask("/v1/completions", short); code != http.StatusOK {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if code != http.StatusServiceUnavailable || !strings.Contains(string(text), "works on 1 requests already") {
		t.Errorf("%d %s", code, text)
	}
	if code, text := c.ask("/v1/messages", `{}`); code != http.StatusServiceUnavailable || !strings.Contains(string(text), "overloaded_error") {
		t.Errorf("%d %s", code, text)
	}
	for _, path := range []string{"/health", "/v1/models", "/props", "/slots", "/metrics"} {
		if code, text := c.ask(path, ""); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if _, err := io.WriteString(more, `"max_tokens":1}`); err != nil {
		t.Fatal(err)
	}
	more.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code, text := c.ask("/v1/completions", short); code != http.StatusOK {
		t.Errorf("afterwards: %d %s", code, text)
	}
}

func TestGuards(t *testing.T) {
	if _, err := New(Options{Keys: []string{"one", ""}}); err == nil {
		t.Error("a key may be empty")
	}
	c := newClient(t, func(o *Options) { o.Keys, o.Local = []string{"one", "two"}, true })
	for _, x := range []struct {
		path   string
		code   int
		header []string
	}{
		{"/props", 401, nil},
		{"/props", 401, []string{"Authorization", "Bearer three"}},
		{"/props", 200, []string{"Authorization", "bearer two"}},
		{"/props", 200, []string{"X-Api-Key", "one"}},
		{"/health", 200, nil},
		{"/v1/models", 200, nil},
		{"/props", 401, []string{"Host", "chat.example"}},
		{"/props", 200, []string{"Host", "chat.example", "X-Api-Key", "one"}}, // behind a proxy
	} {
		if code, text := c.ask(x.path, "", x.header...); code != x.code {
			t.Errorf("%s %v: %d %s, want %d", x.path, x.header, code, text, x.code)
		}
	}
	if code, _ := c.ask("/tokenize", `{"content":"a"}`, "Origin", "https://attacker.example"); code != http.StatusUnauthorized {
		t.Errorf("a page of another site: %d", code)
	}
	if code, _ := c.ask("/tokenize", `{"content":"a"}`, "X-Api-Key", "one", "Origin", "http://localhost:3000"); code != http.StatusOK {
		t.Errorf("a page of this machine: %d", code)
	}
}

// TestOnlyPublicNamesAreRefused: on a loopback address without a key, a proxy such as llama-swap may pass on the Host that it was
// asked by, unless a stranger may have made that point here.
func TestOnlyPublicNamesAreRefused(t *testing.T) {
	s, err := New(Options{Local: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	own, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for host, code := range map[string]int{
		"localhost:80": 200, "[::1]:80": 200, "127.0.0.1": 200, "192.168.1.7:8080": 200, "[fd00::7]": 200, own + ":80": 200, "not-" + own: 403, "Box.local:8080": 200, "gpu.internal": 200,
		"attacker.example": 403, "attacker.example.": 403, "attacker.example:8080": 403, "127.0.0.1.attacker.example": 403, "local.attacker.example": 403,
	} {
		r := httptest.NewRequest("GET", "/health", nil)
		r.Host = host
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != code {
			t.Errorf("%s: %d, want %d", host, w.Code, code)
		}
	}
}
