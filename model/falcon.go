package model

import (
	"pumice/checkpoint"
	"pumice/pipeline/kernels"
)

// falcon is Falcon-7B: attention and MLP side by side from one LayerNorm, one key-value head
// (Almazrouei et al. 2023, arXiv:2311.16867). Old checkpoints call it RefinedWebModel and
// spell n_head and n_layer. Falcon-40B and Falcon-RW order their fused qkv otherwise.
var falcon = Family{
	Name:          "falcon",
	Architectures: []string{"FalconForCausalLM", "RWForCausalLM"},
	GGUF:          []string{"falcon"},
	Names: Names{
		Embed: "transformer.word_embeddings", FinalNorm: "transformer.ln_f", LMHead: "lm_head",
		Layer: "transformer.h.%d.", InputNorm: "input_layernorm",
		QKVProj: "self_attention.query_key_value", OProj: "self_attention.dense",
		UpProj: "mlp.dense_h_to_4h", DownProj: "mlp.dense_4h_to_h",
	},
	GGUFNames: ggufNames.with(func(n *Names) { n.QKVProj = "attn_qkv" }),
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		either := func(key, old string) int {
			if f.Has(old) {
				return f.Int(old)
			}
			return f.Int(key)
		}
		cfg.HiddenSize = f.Int("hidden_size")
		cfg.IntermediateSize = f.IntOr("ffn_hidden_size", 4*cfg.HiddenSize)
		cfg.NumHiddenLayers = either("num_hidden_layers", "n_layer")
		cfg.NumAttentionHeads = either("num_attention_heads", "n_head")
		cfg.NumKeyValueHeads = 1
		cfg.HeadDim = cfg.HiddenSize / max(cfg.NumAttentionHeads, 1)
		cfg.VocabSize = f.Int("vocab_size")
		cfg.MaxPositionEmbeddings = f.IntOr("max_position_embeddings", 2048)
		cfg.NormEps = float32(f.Float("layer_norm_epsilon"))
		cfg.LayerNorm, cfg.NormBias = true, true
		cfg.HiddenAct = kernels.GELU
		if f.Has("activation") {
			cfg.HiddenAct = activation(f, "activation")
		}
		cfg.PlainMLP, cfg.Parallel = true, true
		cfg.TieWordEmbeddings = f.BoolOr("tie_word_embeddings", true)
		bias := f.BoolOr("bias", false)
		cfg.QKVBias, cfg.OBias, cfg.MLPBias = bias, bias, bias
		cfg.Rope = readRope(cfg, f)
		mustBe(f, "multi_query", true)
		mustBe(f, "parallel_attn", true)
		mustBe(f, "alibi", false)
		mustBe(f, "new_decoder_architecture", false)
		mustBe(f, "apply_residual_connection_post_layernorm", false)
	},
	WriteGGUF: func(_ *Config, add func(key string, value any)) { add("tensor_data_layout", "jploski") },
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGGUF(cfg, f, c)
		cfg.LayerNorm, cfg.NormBias = true, true
		cfg.HiddenAct = kernels.GELU
		cfg.PlainMLP, cfg.Parallel = true, true
		if _, ok := c.Tensor("blk.0.attn_norm_2.weight"); ok {
			f.Fail("falcon.attention.head_count_kv", "Falcon-40B's two norms a layer are not supported")
		}
	},
}
