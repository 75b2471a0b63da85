package server

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pumice"
)

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
