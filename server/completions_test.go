package server

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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
