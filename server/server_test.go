package server

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"pumice"
	"pumice/internal/dtype"
	"pumice/internal/gputest"
	"pumice/internal/synth"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		if err := gputest.ReportCompiles(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			status = 1
		}
		os.Exit(status)
	}))
}

// writeModel writes a tiny XVERSE with random weights and a tokenizer.
func writeModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	s, err := synth.Lookup("xverse", synth.Tiny)
	if err != nil {
		t.Fatal(err)
	}
	s.Vocab = 6016 // 6000 are the tokenizer's
	if err := synth.Write(t.Context(), dir, s, synth.Options{DType: dtype.F32, Seed: 3}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		text, err := os.ReadFile(filepath.Join("..", "tokenizer", "testdata", "xverse-a", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// A client asks a server under test.
type client struct {
	*httptest.Server
	t      *testing.T
	engine *pumice.Engine
}

func newClient(t *testing.T, change func(o *Options)) *client {
	t.Helper()
	return newClientOf(t, writeModel(t), pumice.Options{Context: 200}, change)
}

// newClientOf is newClient for a model and how to open it.
func newClientOf(t *testing.T, dir string, with pumice.Options, change func(o *Options)) *client {
	t.Helper()
	gputest.Open(t) // or skip
	c := &client{t: t}
	o := Options{Models: []Model{{Name: "tiny", Aliases: []string{"small"}, Open: func(ctx context.Context) (*pumice.Engine, error) {
		with.DType, with.KVType, with.Device = "f32", "f32", os.Getenv("PUMICE_DEVICE")
		e, err := pumice.Open(ctx, dir, with)
		c.engine = e
		return e, err
	}}}}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		c.Close()
		http.DefaultClient.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// ask posts a body, or gets without one, and returns what comes back.
func (c *client) ask(path, body string, header ...string) (int, []byte) {
	c.t.Helper()
	method := http.MethodPost
	if body == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Error(err)
		return 0, nil
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		c.t.Error(err)
	}
	return a.StatusCode, text
}

// get is ask for an answer that is as it should be.
func get[T any](c *client, path, body string) (v T) {
	c.t.Helper()
	code, text := c.ask(path, body)
	if code != http.StatusOK {
		c.t.Errorf("%s %s: %d %s", path, body, code, text)
		return v
	}
	if err := json.Unmarshal(text, &v); err != nil {
		c.t.Errorf("%s: %v in %s", path, err, text)
	}
	return v
}

// events are the JSON values of a stream, which ends as OpenAI's does.
func events(t *testing.T, text []byte) (list []map[string]any) {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(text))
	ended := false
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok:
		case data == "[DONE]":
			ended = true
		default:
			var v map[string]any
			if err := json.Unmarshal([]byte(data), &v); err != nil || ended {
				t.Fatalf("%v, ended %t: %s", err, ended, data)
			}
			list = append(list, v)
		}
	}
	if !ended {
		t.Errorf("no [DONE] in %s", text)
	}
	return list
}

// at is a value inside others: keys of objects and places in lists.
func at(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}

func TestChatStreamedIsChat(t *testing.T) {
	c := newClient(t, nil)
	const body = `{"model":"small","messages":[{"role":"user","content":[{"type":"text","text":"How "},{"type":"text","text":"are you?"}]}],
		"temperature":0,"max_completion_tokens":9,"logprobs":true,"top_logprobs":2,"n":2,"unknown":{"x":1}%s}`
	whole := get[map[string]any](c, "/v1/chat/completions", fmt.Sprintf(body, ""))
	if at(whole, "object") != "chat.completion" || at(whole, "model") != "tiny" || len(at(whole, "choices").([]any)) != 2 {
		t.Errorf("%v", whole)
	}
	choice := at(whole, "choices", 1)
	if at(choice, "message", "role") != "assistant" || at(choice, "finish_reason") != "length" || at(choice, "index") != 1.0 ||
		len(at(choice, "logprobs", "content").([]any)) != 9 || len(at(choice, "logprobs", "content", 0, "top_logprobs").([]any)) != 2 {
		t.Errorf("%v", choice)
	}
	if at(whole, "usage", "completion_tokens") != 18.0 || at(whole, "usage", "prompt_tokens").(float64) < 5 {
		t.Errorf("%v", at(whole, "usage"))
	}
	code, text := c.ask("/v1/chat/completions", fmt.Sprintf(body, `,"stream":true,"stream_options":{"include_usage":true}`))
	if code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	list := events(t, text)
	begun := map[any]bool{}
	texts, probs, ended := map[any]string{}, map[any]int{}, 0
	for i, e := range list[:len(list)-1] {
		if at(e, "usage") != nil || at(e, "object") != "chat.completion.chunk" || len(at(e, "choices").([]any)) != 1 {
			t.Errorf("event %d: %v", i, e)
		}
		x := at(e, "choices", 0)
		if role := at(x, "delta", "role"); (role == "assistant") == begun[at(x, "index")] {
			t.Errorf("event %d: role %v", i, role)
		}
		begun[at(x, "index")] = true
		if s, ok := at(x, "delta", "content").(string); ok {
			texts[at(x, "index")] += s
		}
		if l, ok := at(x, "logprobs", "content").([]any); ok {
			probs[at(x, "index")] += len(l)
		}
		if at(x, "finish_reason") == "length" {
			ended++
		}
	}
	for i := range 2 {
		if want := at(whole, "choices", i, "message", "content"); texts[float64(i)] != want || probs[float64(i)] != 9 {
			t.Errorf("choice %d: %q with %d log-probabilities, want %q", i, texts[float64(i)], probs[float64(i)], want)
		}
	}
	if last := list[len(list)-1]; len(at(last, "choices").([]any)) != 0 || at(last, "usage", "completion_tokens") != 18.0 || ended != 2 {
		t.Errorf("%v, %d ends", last, ended)
	}
}

// TestEchoedLogProbsAreTheLogits asks as lm-evaluation-harness does.
func TestEchoedLogProbsAreTheLogits(t *testing.T) {
	c := newClient(t, nil)
	ids := []int{2, 70, 300, 45, 801}
	list, _ := json.Marshal([][]int{ids, ids[:3]})
	out := get[map[string]any](c, "/v1/completions", fmt.Sprintf(`{"prompt":%s,"echo":true,"logprobs":1,"max_tokens":1,"temperature":0}`, list))
	for i, prompt := range [][]int{ids, ids[:3]} {
		probs := at(out, "choices", i, "logprobs")
		values := at(probs, "token_logprobs").([]any)
		if len(values) != len(prompt)+1 || values[0] != nil || len(at(probs, "tokens").([]any)) != len(values) ||
			len(at(probs, "top_logprobs").([]any)) != len(values) || len(at(probs, "text_offset").([]any)) != len(values) {
			t.Fatalf("%v", probs)
		}
		at := 0
		for row, err := range c.engine.NewSession().Logits(t.Context(), prompt, true) {
			if err != nil {
				t.Fatal(err)
			}
			if at++; at == len(prompt) {
				break
			}
			sum := 0.0
			for _, l := range row {
				sum += math.Exp(float64(l))
			}
			if want, got := float64(row[prompt[at]])-math.Log(sum), values[at].(float64); math.Abs(got-want) > 1e-4 {
				t.Errorf("prompt %d, token %d: %g, want %g", i, at, got, want)
			}
		}
	}
	none := get[map[string]any](c, "/v1/completions", fmt.Sprintf(`{"prompt":%s,"echo":true,"logprobs":1,"max_tokens":0}`, list))
	if got := len(at(none, "choices", 0, "logprobs", "tokens").([]any)); got != len(ids) || at(none, "usage", "completion_tokens") != 0.0 {
		t.Errorf("%v", none)
	}
}

// TestEchoEvaluatesAPromptOnce: for its own log-probabilities, and not again for answers to it.
func TestEchoEvaluatesAPromptOnce(t *testing.T) {
	c := newClient(t, nil)
	ids := make([]int, 150)
	for i := range ids {
		ids[i] = 2 + i*37%900
	}
	list, _ := json.Marshal(ids)
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`) // the model is loaded
	before := c.engine.Metrics().PromptTokens
	out := get[map[string]any](c, "/v1/completions", fmt.Sprintf(`{"prompt":%s,"echo":true,"logprobs":1,"n":2,"max_tokens":2,"temperature":1,"ignore_eos":true}`, list))
	for i := range 2 {
		if got := len(at(out, "choices", i, "logprobs", "token_logprobs").([]any)); got != len(ids)+2 {
			t.Errorf("choice %d has %d log-probabilities", i, got)
		}
	}
	if diff := cmp.Diff(at(out, "choices", 0, "logprobs", "token_logprobs").([]any)[:len(ids)], at(out, "choices", 1, "logprobs", "token_logprobs").([]any)[:len(ids)]); diff != "" {
		t.Errorf("the prompt of two answers: %s", diff)
	}
	if at(out, "usage", "prompt_tokens_details", "cached_tokens") != 0.0 {
		t.Errorf("%v", at(out, "usage"))
	}
	if n := c.engine.Metrics().PromptTokens - before; n < 150 || n > 155 {
		t.Errorf("%d tokens are evaluated for a prompt of %d", n, len(ids))
	}
}

// TestPromptIsEvaluatedAgain asks for it by each protocol that has a field for it.
func TestPromptIsEvaluatedAgain(t *testing.T) {
	c := newClient(t, nil)
	prompt := strings.Repeat("Once upon a time ", 12)
	for path, body := range map[string]string{
		"/v1/completions":      `{"prompt":%q,"n":2,"max_tokens":2%s}`,
		"/completion":          `{"prompt":%q,"n_predict":2%s}`,
		"/v1/chat/completions": `{"messages":[{"role":"user","content":%q}],"n":2,"max_tokens":2%s}`,
	} {
		timings := func(more string) (cached, evaluated float64) {
			x := at(get[map[string]any](c, path, fmt.Sprintf(body, prompt, more)), "timings")
			return at(x, "cache_n").(float64), at(x, "prompt_n").(float64)
		}
		timings("")
		if n, _ := timings(""); n < 16 {
			t.Errorf("%s: %v tokens are in the cache", path, n)
		}
		before := c.engine.Metrics().PromptTokens
		n, evaluated := timings(`,"cache_prompt":false`)
		if all := c.engine.Metrics().PromptTokens - before; n != 0 || float64(all) < evaluated || float64(all) > evaluated+1 {
			t.Errorf("%s: %v tokens are reused, %v and for all answers %d evaluated", path, n, evaluated, all)
		}
	}
}

func TestCompletionsOfBothProtocols(t *testing.T) {
	c := newClient(t, nil)
	openai := get[map[string]any](c, "/v1/completions", `{"prompt":["Once upon","a time"],"n":2,"max_tokens":6,"temperature":1,"seed":4}`)
	if got := len(at(openai, "choices").([]any)); got != 4 || at(openai, "choices", 3, "index") != 3.0 {
		t.Errorf("%d choices: %v", got, openai)
	}
	again := get[map[string]any](c, "/v1/completions", `{"prompt":"Once upon","max_tokens":6,"temperature":1,"seed":4}`)
	if at(again, "choices", 0, "text") != at(openai, "choices", 0, "text") {
		t.Errorf("a seed gives %q and %q", at(again, "choices", 0, "text"), at(openai, "choices", 0, "text"))
	}
	best := get[map[string]any](c, "/v1/completions", `{"prompt":"Once upon","max_tokens":6,"temperature":1,"seed":4,"best_of":5}`)
	if len(at(best, "choices").([]any)) != 1 || at(best, "choices", 0, "logprobs") != nil {
		t.Errorf("%v", best)
	}
	llama := get[map[string]any](c, "/completion", `{"prompt":"Once upon","n_predict":6,"temperature":1,"seed":4,"n_probs":2}`)
	if at(llama, "content") != at(again, "choices", 0, "text") || at(llama, "stop_type") != "limit" || len(at(llama, "completion_probabilities").([]any)) != 6 {
		t.Errorf("%v", llama)
	}
	_, text := c.ask("/completion", `{"prompt":"Once upon","n_predict":6,"temperature":1,"seed":4,"stream":true}`)
	joined, stopped := "", false
	for line := range strings.Lines(string(text)) {
		var e map[string]any
		if data, ok := strings.CutPrefix(line, "data: "); ok && json.Unmarshal([]byte(data), &e) == nil {
			joined += at(e, "content").(string)
			stopped = at(e, "stop") == true
		}
	}
	if joined != at(llama, "content") || !stopped {
		t.Errorf("streamed %q, stopped %t", joined, stopped)
	}
	whole := at(llama, "content").(string)
	if runes := []rune(whole); len(runes) > 2 {
		stop, _ := json.Marshal(string(runes[1:3]))
		cut := get[map[string]any](c, "/completion", fmt.Sprintf(`{"prompt":"Once upon","n_predict":6,"temperature":1,"seed":4,"stop":[%s]}`, stop))
		if at(cut, "stop_type") != "word" || at(cut, "stopping_word") != string(runes[1:3]) || at(cut, "content") != string(runes[:1]) {
			t.Errorf("stop %s of %q: %v", stop, whole, cut)
		}
	}
}

func TestTokensAndTemplates(t *testing.T) {
	c := newClient(t, nil)
	tokens := get[struct {
		Tokens []int `json:"tokens"`
	}](c, "/tokenize", `{"content":"Grüße aus 北京"}`).Tokens
	if text := get[map[string]string](c, "/detokenize", fmt.Sprintf(`{"tokens":%s}`, strings.ReplaceAll(fmt.Sprint(tokens), " ", ",")))["content"]; text != "Grüße aus 北京" {
		t.Errorf("%v is %q", tokens, text)
	}
	vllm := get[map[string]any](c, "/tokenize", `{"prompt":"Grüße aus 北京","add_special_tokens":false}`)
	if at(vllm, "count") != float64(len(tokens)) || at(vllm, "max_model_len") != 200.0 {
		t.Errorf("%v, want %v", vllm, tokens)
	}
	pieces := get[map[string]any](c, "/tokenize", `{"content":"ab","with_pieces":true}`)
	if at(pieces, "tokens", 0, "piece") == nil {
		t.Errorf("%v", pieces)
	}
	prompt := get[map[string]string](c, "/apply-template", `{"messages":[{"role":"user","content":"Hi"}]}`)["prompt"]
	if !strings.Contains(prompt, "Human: Hi") {
		t.Errorf("%q", prompt)
	}
	info := get[map[string]any](c, "/tokenizer_info", "")
	if info["bos_token"] != "<|startoftext|>" || info["eos_token"] != "<|endoftext|>" || info["pad_token"] != "<pad>" || info["unk_token"] != nil {
		t.Errorf("%v", info)
	}
}

// TestTemplatesHaveAModelsVariables: those of a Model where a request says nothing.
func TestTemplatesHaveAModelsVariables(t *testing.T) {
	template := filepath.Join(t.TempDir(), "t.jinja")
	if err := os.WriteFile(template, []byte("{{ messages[0].content }} {{ enable_thinking }} {{ style }}"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newClientOf(t, writeModel(t), pumice.Options{Context: 200, ChatTemplate: template}, func(o *Options) {
		o.Models[0].Variables = map[string]any{"enable_thinking": false, "style": "short"}
	})
	for more, want := range map[string]string{"": "Hi False short", `,"chat_template_kwargs":{"enable_thinking":true}`: "Hi True short"} {
		if got := get[map[string]string](c, "/apply-template", `{"messages":[{"role":"user","content":"Hi"}]`+more+`}`)["prompt"]; got != want {
			t.Errorf("%s: %q, want %q", more, got, want)
		}
	}
}

func TestEmbeddingsInBothEncodings(t *testing.T) {
	c := newClient(t, nil)
	floats := get[map[string]any](c, "/v1/embeddings", `{"input":["one text","two"],"model":"tiny"}`)
	coded := get[map[string]any](c, "/v1/embeddings", `{"input":["one text","two"],"encoding_format":"base64"}`)
	for i := range 2 {
		want := at(floats, "data", i, "embedding").([]any)
		raw, err := base64.StdEncoding.DecodeString(at(coded, "data", i, "embedding").(string))
		if err != nil || len(raw) != 4*len(want) {
			t.Fatalf("%d bytes for %d numbers: %v", len(raw), len(want), err)
		}
		for j, v := range want {
			if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*j:])); got != float32(v.(float64)) {
				t.Fatalf("text %d, number %d: %g and %g", i, j, got, v)
			}
		}
	}
	if got := at(get[map[string]any](c, "/v1/embeddings", `{"input":[5,6,7],"dimensions":8}`), "data", 0, "embedding").([]any); len(got) != 8 {
		t.Errorf("%d numbers", len(got))
	}
}

// TestEmbeddingsArePooledAsAModelSays: the mean is another vector than that of the last token.
func TestEmbeddingsArePooledAsAModelSays(t *testing.T) {
	c := newClient(t, func(o *Options) { o.Models[0].Pooling = pumice.PoolingMean })
	got := at(get[map[string]any](c, "/v1/embeddings", `{"input":[5,6,7]}`), "data", 0, "embedding").([]any)
	for _, x := range []struct {
		pooling pumice.Pooling
		equal   bool
	}{{pumice.PoolingMean, true}, {pumice.PoolingLast, false}} {
		want, err := c.engine.EmbedTokens(t.Context(), [][]int{{5, 6, 7}}, pumice.EmbedOptions{Pooling: x.pooling})
		if err != nil {
			t.Fatal(err)
		}
		far := 0.0
		for i, v := range want.Vectors[0] {
			far = max(far, math.Abs(got[i].(float64)-float64(v)))
		}
		if (far < 1e-6) != x.equal {
			t.Errorf("%s: %g apart", x.pooling, far)
		}
	}
}

// TestEmbeddingsOfAnEncoder: an encoder embeds several texts, and refuses to answer.
func TestEmbeddingsOfAnEncoder(t *testing.T) {
	c := newClient(t, func(o *Options) {
		o.Models[0].Open = func(ctx context.Context) (*pumice.Engine, error) {
			return pumice.Open(ctx, "../testdata/fixtures/bert", pumice.Options{Device: os.Getenv("PUMICE_DEVICE")})
		}
	})
	all := get[map[string]any](c, "/v1/embeddings", `{"input":["a rock","that floats","","a rock"]}`)
	first, last := at(all, "data", 0, "embedding").([]any), at(all, "data", 3, "embedding").([]any)
	if len(first) != 32 || len(last) != 32 || at(all, "usage", "prompt_tokens").(float64) < 8 {
		t.Fatalf("%d and %d numbers, %v", len(first), len(last), at(all, "usage"))
	}
	for i := range first {
		if math.Abs(first[i].(float64)-last[i].(float64)) > 1e-5 {
			t.Errorf("equal texts differ in component %d: %v and %v", i, first[i], last[i])
		}
	}
	long, _ := json.Marshal(strings.Repeat("rock ", 200))
	for path, body := range map[string]string{
		"/v1/completions": `{"prompt":"a"}`, "/v1/chat/completions": `{"messages":[{"role":"user","content":"a"}]}`, "/completion": `{"prompt":"a"}`,
	} {
		if code, text := c.ask(path, body); code != http.StatusBadRequest || !strings.Contains(string(text), "encoder") {
			t.Errorf("%s: %d %s", path, code, text)
		}
	}
	if code, text := c.ask("/v1/embeddings", fmt.Sprintf(`{"input":["a",%s]}`, long)); code != http.StatusBadRequest || !strings.Contains(string(text), "(202 tokens) exceeds the available context size (160 tokens)") {
		t.Errorf("a long text: %d %s", code, text)
	}
}

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

// TestLogSaysWhereThePromptsPart has two prompts with a common beginning, and looks for the log's lines about them.
func TestLogSaysWhereThePromptsPart(t *testing.T) {
	lines := make(logLines, 1000)
	c := newClient(t, func(o *Options) { o.Logger = zerolog.New(lines) })
	looked := func(prompt []int) string {
		t.Helper()
		body, err := json.Marshal(map[string]any{"prompt": prompt, "max_tokens": 1})
		if err != nil {
			t.Fatal(err)
		}
		if code, text := c.ask("/v1/completions", string(body)); code != http.StatusOK {
			t.Fatalf("%d %s", code, text)
		}
		for {
			select {
			case line := <-lines:
				if strings.Contains(line, "looked up") && strings.Contains(line, fmt.Sprintf(`"tokens":%d,`, len(prompt))) {
					return line
				}
			case <-time.After(time.Second):
				return ""
			}
		}
	}
	for try := 0; looked([]int{5}) == ""; try++ { // the log begins a moment after the model is loaded
		if try == 20 {
			t.Fatal("the log has no lookups")
		}
	}
	first, second := make([]int, 150), make([]int, 150)
	for i := range first {
		first[i], second[i] = 10+i, 10+i
	}
	second[100] = 7
	if line, want := looked(first), `"cached":0,"differs_at":0`; !strings.Contains(line, want) {
		t.Errorf("the log has %s, not %s", line, want)
	}
	if line, want := looked(second), `"cached":100,"differs_at":100`; !strings.Contains(line, want) {
		t.Errorf("the log has %s, not %s", line, want)
	}
}

// logLines are the lines of a log.
type logLines chan string

func (l logLines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestManyClients has clients ask at the same time, some of whom leave, and compares each answer with that to the same question
// alone.
func TestManyClients(t *testing.T) {
	c := newClient(t, nil)
	body := func(i int) string {
		return fmt.Sprintf(`{"prompt":"Question %d of many","max_tokens":%d,"temperature":0}`, i, 3+i%17)
	}
	const questions = 24
	var want [questions]any
	for i := range questions {
		want[i] = at(get[map[string]any](c, "/v1/completions", body(i)), "choices", 0, "text")
	}
	var wait sync.WaitGroup
	for client := range 12 {
		wait.Go(func() {
			for n := range 8 {
				i := (client*7 + n*5) % questions
				if n%4 == 3 {
					ctx, cancel := context.WithCancel(t.Context())
					r, _ := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+"/v1/completions", strings.NewReader(`{"prompt":"`+body(i)[11:20]+`","stream":true,"max_tokens":100}`))
					if a, err := http.DefaultClient.Do(r); err == nil {
						_, _ = a.Body.Read(make([]byte, 10))
						cancel()
						a.Body.Close()
					}
					cancel()
					continue
				}
				if got := at(get[map[string]any](c, "/v1/completions", body(i)), "choices", 0, "text"); got != want[i] {
					t.Errorf("question %d: %q, alone %q", i, got, want[i])
				}
			}
		})
	}
	wait.Wait()
	if m := c.engine.Metrics(); m.SharedSteps == 0 {
		t.Error("no step was shared")
	}
	var metrics string
	for range 200 { // until those that have left are gone
		_, text := c.ask("/metrics", "")
		if metrics = string(text); strings.Contains(metrics, `llamacpp:requests_processing{model_name="tiny"} 0`) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(metrics, `llamacpp:tokens_predicted_total{model_name="tiny"}`) || !strings.Contains(metrics, `llamacpp:requests_processing{model_name="tiny"} 0`) {
		t.Error(metrics)
	}
}

// TestHealthSaysWhenTheFirstModelIsReady: from the first request on, hosts that poll it know.
func TestHealthSaysWhenTheFirstModelIsReady(t *testing.T) {
	ready := make(chan struct{})
	c := newClient(t, func(o *Options) {
		o.Preload = true
		open := o.Models[0].Open
		o.Models[0].Open = func(ctx context.Context) (*pumice.Engine, error) {
			<-ready
			return open(ctx)
		}
	})
	if code, text := c.ask("/health", ""); code != http.StatusServiceUnavailable || !strings.Contains(string(text), "Loading model") {
		t.Errorf("while it loads: %d %s", code, text)
	}
	close(ready)
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	if code, text := c.ask("/health", ""); code != http.StatusOK {
		t.Errorf("%d %s", code, text)
	}
}

// TestModelsAreUnloadedOnRequest: a model that answers stays; one that does not is loaded again when it is asked for.
func TestModelsAreUnloadedOnRequest(t *testing.T) {
	c := newClient(t, nil)
	state := func() any { return at(get[map[string]any](c, "/v1/models", ""), "data", 0, "status", "value") }
	if got := state(); got != "unloaded" {
		t.Errorf("at first it is %v", got)
	}
	answer, err := http.Post(c.URL+"/v1/completions", "application/json", strings.NewReader(`{"prompt":"a","max_tokens":150,"ignore_eos":true,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if code, text := c.ask("/models/unload", `{"model":"small"}`); code != http.StatusConflict || state() != "loaded" {
		t.Errorf("while it answers: %d %s, %v", code, text, state())
	}
	io.Copy(io.Discard, answer.Body)
	for c.engine.Metrics().Sessions > 0 {
		time.Sleep(time.Millisecond)
	}
	for code := 0; code != http.StatusOK; code, _ = c.ask("/models/unload", `{"model":"tiny"}`) { // the use ends after the session
	}
	if got := state(); got != "unloaded" {
		t.Errorf("then it is %v", got)
	}
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	if got := state(); got != "loaded" {
		t.Errorf("asked for again it is %v", got)
	}
	if code, _ := c.ask("/models/unload", `{"model":"nobody"}`); code != http.StatusNotFound {
		t.Errorf("an unknown name: %d", code)
	}
}

func TestModelsAreLoadedWhenTheyAreAskedFor(t *testing.T) {
	c := newClient(t, nil)
	if list := get[map[string]any](c, "/v1/models", ""); at(list, "data", 0, "meta") != nil || at(list, "data", 0, "id") != "tiny" {
		t.Errorf("%v", list)
	}
	get[map[string]any](c, "/v1/completions", `{"prompt":"a","max_tokens":1}`)
	list := get[map[string]any](c, "/v1/models", "")
	if at(list, "data", 0, "status", "value") != "loaded" || at(list, "data", 0, "meta", "sessions") != 0.0 {
		t.Errorf("%v", list)
	}
	if at(list, "data", 0, "meta", "n_ctx") != 200.0 || !slices.Equal(at(list, "data", 0, "aliases").([]any), []any{"small"}) {
		t.Errorf("%v", list)
	}
}
