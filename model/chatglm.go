package model

import "pumice/checkpoint"

// chatglm is ChatGLM2-6B and ChatGLM3-6B: fused qkv with bias, fused gate/up, rotation of
// neighbouring pairs in the first half of each head, two key-value heads (Du et al. 2022,
// arXiv:2103.10360; the THUDM modelling code).
var chatglm = Family{
	Name:          "chatglm",
	Architectures: []string{"ChatGLMModel", "ChatGLMForConditionalGeneration"},
	GGUF:          []string{"chatglm"},
	Names: Names{
		Embed: "transformer.embedding.word_embeddings", FinalNorm: "transformer.encoder.final_layernorm",
		LMHead: "transformer.output_layer",
		Layer:  "transformer.encoder.layers.%d.", InputNorm: "input_layernorm", MLPNorm: "post_attention_layernorm",
		QKVProj: "self_attention.query_key_value", OProj: "self_attention.dense",
		GateUpProj: "mlp.dense_h_to_4h", DownProj: "mlp.dense_4h_to_h",
	},
	GGUFNames: ggufNames.with(func(n *Names) { n.QKVProj, n.GateUpProj = "attn_qkv", "ffn_up" }),
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		cfg.HiddenSize = f.Int("hidden_size")
		cfg.IntermediateSize = f.Int("ffn_hidden_size")
		cfg.NumHiddenLayers = f.Int("num_layers")
		cfg.NumAttentionHeads = f.Int("num_attention_heads")
		cfg.NumKeyValueHeads = cfg.NumAttentionHeads
		if f.Bool("multi_query_attention") {
			cfg.NumKeyValueHeads = f.Int("multi_query_group_num")
		}
		cfg.HeadDim = f.Int("kv_channels")
		cfg.VocabSize = f.Int("padded_vocab_size")
		cfg.MaxPositionEmbeddings = f.Int("seq_length")
		cfg.NormEps = float32(f.Float("layernorm_epsilon"))
		cfg.LayerNorm = !f.Bool("rmsnorm")
		cfg.NormBias = cfg.LayerNorm
		cfg.TieWordEmbeddings = f.BoolOr("tie_word_embeddings", false)
		linear := f.Bool("add_bias_linear")
		cfg.QKVBias = linear || f.Bool("add_qkv_bias")
		cfg.OBias, cfg.MLPBias = linear, linear
		cfg.Rope = Rope{Theta: 10000 * f.FloatOr("rope_ratio", 1), Dim: cfg.HeadDim / 2, Interleaved: true}
		mustBe(f, "post_layer_norm", true)
		mustBe(f, "apply_residual_connection_post_layernorm", false)
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGGUF(cfg, f, c)
		cfg.Rope.Interleaved = true
	},
}

// mustBe refuses another value of a key that may be absent.
func mustBe(f *checkpoint.Fields, key string, want bool) {
	if f.BoolOr(key, want) != want {
		f.Fail(key, "%v is not supported", !want)
	}
}
