package model

import (
	"cmp"
	"math"
	"slices"

	"pumice/checkpoint"
	"pumice/pipeline/kernels"
)

// gemma2 has four norms a layer, soft caps, and a window on every other layer (Gemma Team
// 2024, arXiv:2408.00118).
var gemma2 = Family{
	Name:          "gemma2",
	Architectures: []string{"Gemma2ForCausalLM"},
	GGUF:          []string{"gemma2"},
	Names:         gemmaNames,
	Windowed:      true,
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readGemma(cfg, f)
		cfg.AttnLogitSoftcapping = float32(f.FloatOr("attn_logit_softcapping", 0))
		cfg.FinalLogitSoftcapping = float32(f.FloatOr("final_logit_softcapping", 0))
		if !readLayerTypes(cfg, f) {
			cfg.Local = everyLayer(cfg, func(i int) bool { return i%2 == 0 })
		}
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGemmaGGUF(cfg, f, c)
		cfg.Local = everyLayer(cfg, func(i int) bool { return i%2 == 0 })
		if cfg.NumHiddenLayers == 46 { // the 27B alone scales by the hidden size of a head's share
			cfg.AttentionScale = float32(1 / math.Sqrt(float64(cfg.HiddenSize/max(cfg.NumAttentionHeads, 1))))
		}
	},
}

// gemma3 normalises query and key heads; five layers of six are local, with a rope theta of
// their own (Gemma Team 2025, arXiv:2503.19786).
var gemma3 = Family{
	Name:          "gemma3",
	Architectures: []string{"Gemma3ForCausalLM"},
	GGUF:          []string{"gemma3"},
	Names:         gemmaNames,
	Windowed:      true,
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readGemma(cfg, f)
		cfg.QKNorm = true
		local := cfg.Rope
		local.Theta, local.Scaling = f.FloatOr("rope_local_base_freq", 10000), RopeScaling{}
		cfg.LocalRope = &local
		if !readLayerTypes(cfg, f) {
			every := f.IntOr("sliding_window_pattern", f.IntOr("_sliding_window_pattern", 6))
			gemma3Pattern(cfg, f, every)
		}
	},
	WriteGGUF: func(cfg *Config, add func(key string, value any)) {
		if cfg.LocalRope == nil { // no layer has a window
			return
		}
		add("rope.freq_base_swa", float32(cfg.LocalRope.Theta))
		every := slices.Index(cfg.Local, false) + 1 // 0: all are local
		add("attention.sliding_window_pattern", uint32(cmp.Or(every, cfg.NumHiddenLayers+1)))
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGemmaGGUF(cfg, f, c)
		cfg.QKNorm = true
		local := cfg.Rope
		local.Theta, local.Scaling = f.FloatOr("gemma3.rope.freq_base_swa", 10000), RopeScaling{}
		cfg.LocalRope = &local
		gemma3Pattern(cfg, f, f.IntOr("gemma3.attention.sliding_window_pattern", 6)) // most files have neither key
		if cfg.NumHiddenLayers == 62 {                                               // the 27B, as in gemma2
			cfg.AttentionScale = float32(1 / math.Sqrt(float64(cfg.HiddenSize/max(cfg.NumAttentionHeads, 1))))
		}
	},
}

var gemmaNames = huggingFaceNames.with(func(n *Names) {
	n.AttnPostNorm = "post_attention_layernorm"
	n.MLPNorm = "pre_feedforward_layernorm"
	n.MLPPostNorm = "post_feedforward_layernorm"
})

func gemma3Pattern(cfg *Config, f *checkpoint.Fields, every int) {
	if every < 1 {
		f.Fail("sliding_window_pattern", "%d must be positive", every)
		return
	}
	cfg.Local = everyLayer(cfg, func(i int) bool { return (i+1)%every != 0 })
}

// readGemma reads what both have in Hugging Face's form, where norms are stored as gain - 1.
func readGemma(cfg *Config, f *checkpoint.Fields) {
	key := "hidden_activation"
	if !f.Has(key) {
		key = "hidden_act"
	}
	readLlamaAs(cfg, f, f.Int("max_position_embeddings"), key)
	cfg.NormPlusOne, cfg.PostNorms = true, true
	cfg.EmbeddingScale = float32(math.Sqrt(float64(cfg.HiddenSize)))
	cfg.AttentionScale = float32(1 / math.Sqrt(f.Float("query_pre_attn_scalar")))
	cfg.SlidingWindow = f.Int("sliding_window")
	cfg.TieWordEmbeddings = f.BoolOr("tie_word_embeddings", true)
}

// readGemmaGGUF reads what both have in GGUF, whose writers have added the 1.
func readGemmaGGUF(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
	readGGUF(cfg, f, c)
	cfg.HiddenAct = kernels.GELUTanh
	cfg.PostNorms = true
	cfg.EmbeddingScale = float32(math.Sqrt(float64(cfg.HiddenSize)))
}
