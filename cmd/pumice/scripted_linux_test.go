package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// scripts are the answers of scripted models to messages that have a word in them; "endless" has no end.
var scripts = map[string]string{
	"ok":      "All is well.",
	"wrap":    "Hunting snarks needs thimbles, care, forks, hope, railway-shares, smiles and soap, which nobody in this whole crew had ever brought along before.",
	"layout":  "# Title\n\nSome **bold** and *slanted* `code`.\n\n- first\n- second\n\n| a | b |\n|---|--:|\n| x | 10 |\n\n```go\nfunc main() {}\n```\n\nSo \\(x_1^2 \\leq \\alpha\\) holds.",
	"think":   "<think>\nThe user wants thought.\n</think>\n\nForty-two.",
	"evil":    "a\x1b]0;pwned\ab\x1b[2Jc&#27;[31md\u202ee",
	"chinese": "你好，世界！这是一个很长的句子，没有任何空格，所以必须在字符之间换行，而不是在空格处换行，因为中文里没有空格。",
	"endless": "round and about ",
}

// scriptedModel makes a model that answers by scripts: it has one layer that changes nothing, and the output of each token is the
// next one of its script. The last token of the prompt says which script.
func scriptedModel(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "scripted")
	const hidden, intermediate, end, first = 256, 32, 256, 257
	spelt := byteLevel()
	vocab := map[string]int{}
	for b, s := range spelt {
		vocab[s] = b
	}
	var added []map[string]any
	special := func(id int, text string) {
		vocab[text] = id
		added = append(added, map[string]any{"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	}
	special(end, "<|end|>")
	template := "{% for m in messages %}{{ m.content }}\n{% endfor %}{% set last = messages[-1].content %}"
	next := map[int]int{}
	id := first
	for i, name := range slices.Sorted(maps.Keys(scripts)) {
		special(id, "<|"+name+"|>")
		word := "elif"
		if i == 0 {
			word = "if"
		}
		template += fmt.Sprintf("{%% %s '%s' in last %%}<|%s|>", word, name, name)
		at, cycle := id, id+1
		id++
		piece := ""
		for _, part := range strings.SplitAfter(scripts[name], " ") {
			piece += part
			var token strings.Builder
			for _, b := range []byte(piece) {
				token.WriteString(spelt[b])
			}
			if _, ok := vocab[token.String()]; ok { // with the next word it is another
				continue
			}
			vocab[token.String()] = id
			next[at], at, piece = id, id, ""
			id++
		}
		if piece != "" {
			t.Fatalf("the script %s ends with words that are in another", name)
		}
		if next[at] = end; name == "endless" {
			next[at] = cycle
		}
	}
	template += "{% else %}<|ok|>{% endif %}"
	size := (id + 31) / 32 * 32

	random := rand.New(rand.NewPCG(1, 2))
	embed, head := make([]float32, size*hidden), make([]float32, size*hidden)
	for i := range embed {
		embed[i] = float32(2*random.IntN(2) - 1)
	}
	for token, to := range next {
		for i := range hidden {
			head[to*hidden+i] += embed[token*hidden+i]
		}
	}
	ones := slices.Repeat([]float32{1}, hidden)
	tensors := map[string]tensor{
		"model.embed_tokens.weight": {[]int{size, hidden}, embed}, "lm_head.weight": {[]int{size, hidden}, head}, "model.norm.weight": {[]int{hidden}, ones},
		"model.layers.0.input_layernorm.weight": {[]int{hidden}, ones}, "model.layers.0.post_attention_layernorm.weight": {[]int{hidden}, ones},
	}
	for name, shape := range map[string][]int{
		"self_attn.q_proj": {hidden, hidden}, "self_attn.k_proj": {hidden, hidden}, "self_attn.v_proj": {hidden, hidden}, "self_attn.o_proj": {hidden, hidden},
		"mlp.gate_proj": {intermediate, hidden}, "mlp.up_proj": {intermediate, hidden}, "mlp.down_proj": {hidden, intermediate},
	} {
		tensors["model.layers.0."+name+".weight"] = tensor{shape, make([]float32, shape[0]*shape[1])}
	}
	write := func(name string, v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	byteLevel := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	write("tokenizer.json", map[string]any{"version": "1.0", "added_tokens": added, "normalizer": nil, "pre_tokenizer": byteLevel, "post_processor": nil,
		"decoder": byteLevel, "model": map[string]any{"type": "BPE", "unk_token": nil, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []string{}}})
	write("tokenizer_config.json", map[string]any{"chat_template": template, "eos_token": "<|end|>"})
	write("config.json", map[string]any{"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": hidden, "intermediate_size": intermediate,
		"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": size, "hidden_act": "silu", "rms_norm_eps": 1e-6,
		"tie_word_embeddings": false, "torch_dtype": "float32", "bos_token_id": end, "eos_token_id": end, "max_position_embeddings": 32768})
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors"), safetensors(t, tensors), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

type tensor struct {
	shape  []int
	values []float32
}

func safetensors(t *testing.T, tensors map[string]tensor) []byte {
	t.Helper()
	header := map[string]any{}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		x := tensors[name]
		begin := len(data)
		for _, v := range x.values {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": x.shape, "data_offsets": []int{begin, len(data)}}
	}
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	for len(text)%8 != 0 {
		text = append(text, ' ')
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data)
}
