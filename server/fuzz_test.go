package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
)

// FuzzRequests decodes bodies of every request: what can't be one is an error that is the client's, and says so.
func FuzzRequests(f *testing.F) {
	for _, body := range []string{
		`{"messages":[{"role":"user","content":"Hi"}],"temperature":0.5,"stop":"x","logit_bias":{"5":-100}}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"input_text","text":"b"}]}],"stop":["a","b"],"n":2}`,
		`{"prompt":[[1,2],[3]],"logit_bias":[[5,false],[6,1.5]],"max_tokens":null,"stop":null}`,
		`{"prompt":["a",[1]],"suffix":"b","logprobs":0}`, `{"prompt":[],"n_predict":-1}`, `{"input":"a","dimensions":1e9}`,
		`{"messages":[{"role":"assistant","content":null,"reasoning":"r","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
			{"role":"tool","tool_call_id":"1","content":[{"type":"text","text":"x"}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{},"strict":true}}],
			"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"response_format":{"type":"json_schema","json_schema":{"schema":true}}}`,
		`{"system":[{"type":"text","text":"x-anthropic-billing-header: a"}],"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"1",
			"content":[{"type":"text","text":"x"}]},{"type":"text","text":"b"}]},{"role":"assistant","content":[{"type":"thinking","thinking":"t"},
			{"type":"tool_use","id":"1","name":"f","input":{"a":1}}]}],"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"tool","name":"f"},
			"thinking":{"type":"enabled"},"stop_sequences":["x"]}`,
		`{"instructions":"i","input":[{"role":"developer","content":"d"},{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},
			{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"x"}]},{"type":"reasoning","summary":[{"type":"summary_text","text":"s"}]}],
			"tools":[{"type":"web_search"},{"type":"function","name":"f","parameters":{}}],"tool_choice":{"type":"function","name":"f"},"text":{"format":{"type":"text"}}}`,
		`{"input_prefix":"a","input_suffix":"b","prompt":"c"}`, `{"content":"a","add_special":true}`, `{"tokens":[1,-1]}`, `{"prompt":[[[1]]]}`, `[]`, `{"seed":1e400}`, `{"logit_bias":[1]}`, "\xff", ``,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, v := range []any{&chatRequest{}, &completionRequest{}, &llamaRequest{}, &embeddingsRequest{}, &tokenizeRequest{},
			&messagesRequest{}, &responsesRequest{}, &infillRequest{}} {
			err := parse(strings.NewReader(body), v)
			if c, ok := v.(interface{ conversation() (*conversation, error) }); ok && err == nil {
				var q *conversation
				if q, err = c.conversation(); err == nil {
					_, err = q.callable()
					for _, f := range q.tools {
						if p := f.parameters(); p != nil && !json.Valid(p) {
							t.Fatalf("%T from %q: the schema %q", v, body, p)
						}
					}
				}
			}
			if err == nil {
				continue
			}
			var wrong *requestError
			if !errors.As(err, &wrong) || wrong.Code != http.StatusBadRequest || wrong.Message == "" {
				t.Fatalf("%T from %q: %v", v, body, err)
			}
			if _, err := json.Marshal(wrong); err != nil {
				t.Fatal(err)
			}
		}
	})
}
