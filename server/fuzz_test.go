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
		`{"content":"a","add_special":true}`, `{"tokens":[1,-1]}`, `{"prompt":[[[1]]]}`, `[]`, `{"seed":1e400}`, `{"logit_bias":[1]}`, "\xff", ``,
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		for _, v := range []any{&chatRequest{}, &completionRequest{}, &llamaRequest{}, &embeddingsRequest{}, &tokenizeRequest{}} {
			err := parse(strings.NewReader(body), v)
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
