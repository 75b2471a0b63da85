package synth

import (
	"fmt"

	"maps"

	"pumice/internal/ggufwrite"
)

// The configurations have the keys of the config.json of real models.

// llamaKeys returns the keys of Hugging Face's LlamaConfig, which most families share, and those of more.
func (s *Shape) llamaKeys(architecture, modelType string, more map[string]any) map[string]any {
	c := map[string]any{
		"architectures": []string{architecture}, "model_type": modelType,
		"hidden_size": s.Hidden, "intermediate_size": s.Intermediate, "num_hidden_layers": s.Layers, "num_attention_heads": s.Heads,
		"vocab_size": s.Vocab, "max_position_embeddings": s.Context, "rms_norm_eps": s.Eps, "hidden_act": "silu",
		"tie_word_embeddings": s.Tied, "use_cache": true, "bos_token_id": 1, "eos_token_id": 2,
	}
	maps.Copy(c, more)
	return c
}

func xverseConfig(s *Shape) map[string]any {
	return s.llamaKeys("XverseForCausalLM", "xverse", map[string]any{"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3})
}

func llamaConfig(s *Shape) map[string]any {
	return s.llamaKeys("LlamaForCausalLM", "llama", map[string]any{
		"num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "rope_theta": s.Theta, "rope_scaling": nil,
	})
}

func baichuanConfig(s *Shape) map[string]any {
	architecture := "BaiChuanForCausalLM"
	if s.Second {
		architecture = "BaichuanForCausalLM"
	}
	return s.llamaKeys(architecture, "baichuan", map[string]any{"pad_token_id": 0})
}

func bertConfig(s *Shape) map[string]any {
	return map[string]any{
		"architectures": []string{"BertModel"}, "model_type": "bert",
		"hidden_size": s.Hidden, "intermediate_size": s.Intermediate, "num_hidden_layers": s.Layers, "num_attention_heads": s.Heads,
		"vocab_size": s.Vocab, "max_position_embeddings": s.Context, "type_vocab_size": 2, "layer_norm_eps": s.Eps, "hidden_act": "gelu",
		"position_embedding_type": "absolute", "pad_token_id": 0,
	}
}

func internlmConfig(s *Shape) map[string]any {
	return s.llamaKeys("InternLMForCausalLM", "internlm", map[string]any{"bias": true})
}

func mistralConfig(s *Shape) map[string]any {
	return s.llamaKeys("MistralForCausalLM", "mistral", map[string]any{
		"num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "rope_theta": s.Theta, "sliding_window": s.Window,
	})
}

func qwen2Config(s *Shape) map[string]any {
	return s.llamaKeys("Qwen2ForCausalLM", "qwen2", map[string]any{
		"num_key_value_heads": s.KVHeads, "rope_theta": s.Theta, "use_sliding_window": false,
	})
}

func qwen3Config(s *Shape) map[string]any {
	return s.llamaKeys("Qwen3ForCausalLM", "qwen3", map[string]any{
		"num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "rope_theta": s.Theta, "use_sliding_window": false, "attention_bias": false,
	})
}

func gemma2Config(s *Shape) map[string]any {
	return s.llamaKeys("Gemma2ForCausalLM", "gemma2", map[string]any{
		"num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "rope_theta": s.Theta, "sliding_window": s.Window,
		"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": s.HeadDim, "attn_logit_softcapping": 50.0,
		"final_logit_softcapping": 30.0, "bos_token_id": 2, "eos_token_id": 1,
	})
}

func gemma3Config(s *Shape) map[string]any {
	return s.llamaKeys("Gemma3ForCausalLM", "gemma3_text", map[string]any{
		"num_key_value_heads": s.KVHeads, "head_dim": s.HeadDim, "rope_theta": s.Theta, "rope_local_base_freq": 10000.0,
		"sliding_window": s.Window, "sliding_window_pattern": s.LocalInterval, "hidden_activation": "gelu_pytorch_tanh",
		"query_pre_attn_scalar": s.HeadDim, "bos_token_id": 2, "eos_token_id": 1,
	})
}

func phi3Config(s *Shape) map[string]any {
	return s.llamaKeys("Phi3ForCausalLM", "phi3", map[string]any{
		"num_key_value_heads": s.KVHeads, "rope_theta": s.Theta, "rope_scaling": nil, "sliding_window": s.Window,
		"original_max_position_embeddings": s.Context,
	})
}

func smollm3Config(s *Shape) map[string]any {
	return s.llamaKeys("SmolLM3ForCausalLM", "smollm3", map[string]any{
		"num_key_value_heads": s.KVHeads, "rope_theta": s.Theta, "no_rope_layer_interval": 4, "use_sliding_window": false,
	})
}

func chatglmConfig(s *Shape) map[string]any {
	return map[string]any{
		"architectures": []string{"ChatGLMModel"}, "model_type": "chatglm",
		"hidden_size": s.Hidden, "ffn_hidden_size": s.Intermediate, "num_layers": s.Layers, "num_attention_heads": s.Heads,
		"multi_query_attention": true, "multi_query_group_num": s.KVHeads, "kv_channels": s.HeadDim, "padded_vocab_size": s.Vocab,
		"seq_length": s.Context, "layernorm_epsilon": s.Eps, "rmsnorm": true, "add_bias_linear": false, "add_qkv_bias": true,
		"post_layer_norm": true, "apply_residual_connection_post_layernorm": false, "apply_query_key_layer_scaling": true,
		"original_rope": true, "tie_word_embeddings": s.Tied, "eos_token_id": 2, "pad_token_id": 0,
	}
}

func falconConfig(s *Shape) map[string]any {
	return map[string]any{
		"architectures": []string{"FalconForCausalLM"}, "model_type": "falcon",
		"hidden_size": s.Hidden, "ffn_hidden_size": s.Intermediate, "num_hidden_layers": s.Layers, "num_attention_heads": s.Heads,
		"vocab_size": s.Vocab, "max_position_embeddings": s.Context, "layer_norm_epsilon": s.Eps, "rope_theta": s.Theta,
		"alibi": false, "bias": false, "multi_query": true, "parallel_attn": true, "new_decoder_architecture": false,
		"apply_residual_connection_post_layernorm": false, "tie_word_embeddings": s.Tied, "bos_token_id": 11, "eos_token_id": 11,
	}
}

func mptConfig(s *Shape) map[string]any {
	return map[string]any{
		"architectures": []string{"MPTForCausalLM"}, "model_type": "mpt",
		"d_model": s.Hidden, "expansion_ratio": s.Intermediate / s.Hidden, "n_layers": s.Layers, "n_heads": s.Heads,
		"vocab_size": s.Vocab, "max_seq_len": s.Context, "layer_norm_epsilon": s.Eps, "no_bias": true,
		"norm_type": "low_precision_layernorm", "tie_word_embeddings": s.Tied, "logit_scale": nil,
		"attn_config": map[string]any{"alibi": true, "alibi_bias_max": 8, "attn_type": "multihead_attention", "clip_qkv": nil,
			"prefix_lm": false, "qk_ln": false, "softmax_scale": nil},
	}
}

// metadata returns the key-value pairs of the shape in a GGUF file ("Standardized key-value pairs").
func (s *Shape) metadata(f *family) []ggufwrite.KV {
	kv := []ggufwrite.KV{{Key: "general.architecture", Value: f.arch}, {Key: "general.name", Value: "random weights"}}
	add := func(key string, value any) { kv = append(kv, ggufwrite.KV{Key: f.arch + "." + key, Value: value}) }
	count := func(key string, n int) { add(key, uint32(n)) }
	count("context_length", s.Context)
	count("embedding_length", s.Hidden)
	count("block_count", s.Layers)
	count("feed_forward_length", s.Intermediate)
	count("attention.head_count", s.Heads)
	count("attention.head_count_kv", s.KVHeads)
	count("attention.key_length", s.HeadDim)
	count("attention.value_length", s.HeadDim)
	count("vocab_size", s.Vocab)
	if f.arch == "falcon" || f.arch == "mpt" || f.arch == "bert" {
		add("attention.layer_norm_epsilon", float32(s.Eps))
	} else {
		add("attention.layer_norm_rms_epsilon", float32(s.Eps))
	}
	if f.arch == "bert" {
		add("attention.causal", false)
		add("pooling_type", uint32(1)) // the mean
		kv = append(kv, ggufwrite.KV{Key: "tokenizer.ggml.token_type_count", Value: uint32(2)})
	} else if s.Theta > 0 {
		add("rope.freq_base", float32(s.Theta))
		rotary := s.HeadDim
		if f.arch == "chatglm" {
			rotary /= 2
		}
		count("rope.dimension_count", rotary)
	} else {
		add("attention.max_alibi_bias", float32(8))
	}
	if s.Window > 0 {
		count("attention.sliding_window", s.Window)
	}
	if f.arch == "gemma2" {
		add("attn_logit_softcapping", float32(50))
		add("final_logit_softcapping", float32(30))
	}
	return append(kv, dummyVocabulary(s.Vocab)...)
}

// dummyVocabulary returns a meaningless SentencePiece vocabulary of n tokens, since other programs open no file without
// one: the three usual special tokens, the bytes, and numbered words. It returns nil if n is too small for the bytes.
func dummyVocabulary(n int) []ggufwrite.KV {
	const special, bytes = 3, 256
	if n < special+bytes {
		return nil
	}
	const normal, unknown, control, byteToken = int32(1), int32(2), int32(3), int32(6) // llama.cpp's llama_token_type
	tokens, scores, types := []string{"<unk>", "<s>", "</s>"}, make([]float32, n), []int32{unknown, control, control}
	for i := range bytes {
		tokens, types = append(tokens, fmt.Sprintf("<0x%02X>", i)), append(types, byteToken)
	}
	for i := len(tokens); i < n; i++ {
		tokens, types = append(tokens, fmt.Sprintf("\u2581w%d", i)), append(types, normal)
	}
	for i := range scores {
		scores[i] = -float32(i)
	}
	return []ggufwrite.KV{
		{Key: "tokenizer.ggml.model", Value: "llama"}, {Key: "tokenizer.ggml.tokens", Value: tokens}, {Key: "tokenizer.ggml.scores", Value: scores},
		{Key: "tokenizer.ggml.token_type", Value: types}, {Key: "tokenizer.ggml.unknown_token_id", Value: uint32(0)},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)}, {Key: "tokenizer.ggml.eos_token_id", Value: uint32(2)},
		{Key: "tokenizer.ggml.add_bos_token", Value: false},
	}
}
