package model

import (
	"pumice/checkpoint"
	"pumice/pipeline/kernels"
)

// bert is BERT and the encoders that are built like it: bge, MiniLM, e5 (Devlin et al. 2018, arXiv:1810.04805). A token sees
// its whole text, positions are learned, and norms follow the branches. All tokens are of the first type: texts are not
// evaluated in pairs. Its heads (pooler, cls) are for other uses than embeddings.
var bert = Family{
	Name:          "bert",
	Architectures: []string{"BertModel", "BertForMaskedLM"},
	GGUF:          []string{"bert"},
	Names: Names{
		Embed: "bert.embeddings.word_embeddings", Positions: "bert.embeddings.position_embeddings",
		TokenTypes: "bert.embeddings.token_type_embeddings", EmbedNorm: "bert.embeddings.LayerNorm",
		Layer: "bert.encoder.layer.%d.", MLPNorm: "attention.output.LayerNorm", OutputNorm: "output.LayerNorm",
		QProj: "attention.self.query", KProj: "attention.self.key", VProj: "attention.self.value", OProj: "attention.output.dense",
		UpProj: "intermediate.dense", DownProj: "output.dense",
	},
	GGUFNames: Names{
		Embed: "token_embd", Positions: "position_embd", TokenTypes: "token_types", EmbedNorm: "token_embd_norm",
		Layer: "blk.%d.", MLPNorm: "attn_output_norm", OutputNorm: "layer_output_norm",
		QProj: "attn_q", KProj: "attn_k", VProj: "attn_v", OProj: "attn_output", UpProj: "ffn_up", DownProj: "ffn_down",
	},
	Encoder: true,
	Unused:  []string{"embeddings.position_ids", "bert.embeddings.position_ids", "pooler.", "bert.pooler.", "cls."},
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		cfg.HiddenSize = f.Int("hidden_size")
		cfg.IntermediateSize = f.Int("intermediate_size")
		cfg.NumHiddenLayers = f.Int("num_hidden_layers")
		cfg.NumAttentionHeads = f.Int("num_attention_heads")
		cfg.NumKeyValueHeads = cfg.NumAttentionHeads
		cfg.HeadDim = cfg.HiddenSize / max(cfg.NumAttentionHeads, 1)
		cfg.VocabSize = f.Int("vocab_size")
		cfg.MaxPositionEmbeddings = f.Int("max_position_embeddings")
		cfg.TypeVocabSize = f.Int("type_vocab_size")
		cfg.NormEps = float32(f.FloatOr("layer_norm_eps", 1e-12))
		cfg.HiddenAct = activation(f, "hidden_act")
		asBERT(cfg)
		mustBe(f, "is_decoder", false)
		mustBe(f, "add_cross_attention", false)
		if kind := f.StringOr("position_embedding_type", "absolute"); kind != "absolute" {
			f.Fail("position_embedding_type", "%q is not supported", kind)
		}
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGGUF(cfg, f, c)
		cfg.TieWordEmbeddings = false
		cfg.HiddenAct = kernels.GELU // llama.cpp takes the approximation by tanh
		if types, ok := c.Tensor("token_types.weight"); ok {
			cfg.TypeVocabSize = types.Rows()
		}
		asBERT(cfg)
	},
	WriteGGUF: func(_ *Config, add func(key string, value any)) { add("attention.causal", false) },
}

// asBERT sets what all BERTs have.
func asBERT(cfg *Config) {
	cfg.LearnedPositions, cfg.NormedStream = true, true
	cfg.LayerNorm, cfg.NormBias = true, true
	cfg.PlainMLP = true
	cfg.QKVBias, cfg.OBias, cfg.MLPBias = true, true, true
	cfg.Rope = Rope{Theta: 10000} // nothing rotates
}
