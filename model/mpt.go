package model

import (
	"pumice/checkpoint"
	"pumice/pipeline/kernels"
)

// mpt is MPT-7B and its Instruct and Chat versions: LayerNorm without bias, ALiBi, a plain MLP
// with exact GELU, a tied head (MosaicML 2023, llm-foundry).
var mpt = Family{
	Name:          "mpt",
	Architectures: []string{"MPTForCausalLM", "MptForCausalLM"},
	GGUF:          []string{"mpt"},
	Names: Names{
		Embed: "transformer.wte", FinalNorm: "transformer.norm_f", LMHead: "lm_head",
		Layer: "transformer.blocks.%d.", InputNorm: "norm_1", MLPNorm: "norm_2",
		QKVProj: "attn.Wqkv", OProj: "attn.out_proj", UpProj: "ffn.up_proj", DownProj: "ffn.down_proj",
	},
	GGUFNames: ggufNames.with(func(n *Names) { n.QKVProj = "attn_qkv" }),
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		cfg.HiddenSize = f.Int("d_model")
		cfg.IntermediateSize = f.IntOr("expansion_ratio", 4) * cfg.HiddenSize
		cfg.NumHiddenLayers = f.Int("n_layers")
		cfg.NumAttentionHeads = f.Int("n_heads")
		cfg.NumKeyValueHeads = cfg.NumAttentionHeads
		cfg.HeadDim = cfg.HiddenSize / max(cfg.NumAttentionHeads, 1)
		cfg.VocabSize = f.Int("vocab_size")
		cfg.MaxPositionEmbeddings = f.Int("max_seq_len")
		cfg.LayerNorm, cfg.NormEps = true, float32(f.FloatOr("layer_norm_epsilon", 1e-5))
		cfg.HiddenAct, cfg.PlainMLP = kernels.GELU, true
		cfg.TieWordEmbeddings = f.BoolOr("tie_word_embeddings", true)
		cfg.Rope = Rope{Theta: 10000} // nothing rotates
		mustBe(f, "no_bias", true)
		if norm := f.StringOr("norm_type", "low_precision_layernorm"); norm != "low_precision_layernorm" && norm != "layernorm" {
			f.Fail("norm_type", "%q is not supported", norm)
		}
		if f.Has("logit_scale") {
			f.Fail("logit_scale", "a scale of the logits is not supported")
		}
		attn := f.Object("attn_config")
		if attn == nil {
			f.Fail("attn_config", "is missing; without it the model has learned positions, which are not supported")
			return
		}
		mustBe(attn, "alibi", true)
		if !attn.Has("alibi") {
			attn.Fail("alibi", "is missing; learned positions are not supported")
		}
		mustBe(attn, "qk_ln", false)
		mustBe(attn, "prefix_lm", false)
		mustBe(attn, "rope", false)
		cfg.ALiBiMaxBias = attn.FloatOr("alibi_bias_max", 8)
		cfg.ClipQKV = float32(attn.FloatOr("clip_qkv", 0))
		cfg.AttentionScale = float32(attn.FloatOr("softmax_scale", 0))
		if kind := attn.StringOr("attn_type", "multihead_attention"); kind != "multihead_attention" {
			attn.Fail("attn_type", "%q is not supported", kind)
		}
	},
	WriteGGUF: func(cfg *Config, add func(key string, value any)) {
		add("attention.max_alibi_bias", float32(cfg.ALiBiMaxBias))
		if cfg.ClipQKV > 0 {
			add("attention.clamp_kqv", cfg.ClipQKV)
		}
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGGUF(cfg, f, c)
		cfg.LayerNorm = true
		cfg.HiddenAct, cfg.PlainMLP = kernels.GELU, true
		cfg.Rope.Dim = 0
		cfg.NormBias = hasTensor(c, "blk.0.attn_norm.bias")
		cfg.ALiBiMaxBias = f.FloatOr("mpt.attention.max_alibi_bias", 8)
		if cfg.ALiBiMaxBias == 0 || hasTensor(c, "position_embd.weight") {
			f.Fail("mpt.attention.max_alibi_bias", "a model without ALiBi has learned positions, which are not supported")
		}
		cfg.ClipQKV = float32(f.FloatOr("mpt.attention.clamp_kqv", 0))
	},
}
