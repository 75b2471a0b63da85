package model

import "pumice/checkpoint"

// baichuan is Baichuan and Baichuan 2, 7B and 13B: Llama's decoder with q, k and v in W_pack
// (Yang et al. 2023, arXiv:2309.10305). The 13B models have ALiBi in place of rotation and
// say so nowhere; Baichuan 2 scales the head's rows to length 1 and does not either.
var baichuan = Family{
	Name:          "baichuan",
	Architectures: []string{"BaiChuanForCausalLM", "BaichuanForCausalLM"},
	GGUF:          []string{"baichuan"},
	Names:         huggingFaceNames.with(func(n *Names) { n.QKVProj = "self_attn.W_pack" }),
	PermutedQK:    true,
	WriteGGUF:     writeLlamaGGUF,
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		// Both spellings of the context's length occur, the 13B's under the tokenizer's name.
		readLlamaAs(cfg, f, f.IntOr("max_position_embeddings", f.IntOr("model_max_length", 4096)), "hidden_act")
		// Version 1 of the 7B spells its class BaiChuan; that of the 13B has 64000 tokens.
		second := f.Strings("architectures")
		cfg.NormalizedHead = len(second) > 0 && second[0] == "BaichuanForCausalLM" && cfg.VocabSize != 64000
		baichuan13B(cfg)
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readLlamaGGUF(cfg, f, c)
		cfg.NormalizedHead = cfg.VocabSize == 125696 // dividing a normalised head again changes nothing
		baichuan13B(cfg)
	},
}

// baichuan13B tells the 13B models by their shape.
func baichuan13B(cfg *Config) {
	if cfg.NumHiddenLayers == 40 || cfg.HiddenSize == 5120 {
		cfg.Rope.Dim = 0
		cfg.ALiBiMaxBias = 8
	}
}
