package model

import "pumice/checkpoint"

// phi3 is Phi-3 and Phi-4: Llama's decoder with fused qkv and gate/up projections, a window
// on some sizes (Abdin et al. 2024, arXiv:2404.14219). Rope scaling of the long-context
// versions ("longrope") is not supported.
var phi3 = Family{
	Name:          "phi3",
	Architectures: []string{"Phi3ForCausalLM"},
	GGUF:          []string{"phi3"},
	Names: huggingFaceNames.with(func(n *Names) {
		n.QKVProj, n.GateUpProj = "self_attn.qkv_proj", "mlp.gate_up_proj"
	}),
	Windowed:  true,
	GGUFNames: ggufNames.with(func(n *Names) { n.QKVProj, n.GateUpProj = "attn_qkv", "ffn_up" }),
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readLlama(cfg, f)
		cfg.SlidingWindow = f.IntOr("sliding_window", 0)
		cfg.Local = everyLayer(cfg, func(int) bool { return true })
	},
	WriteGGUF: func(cfg *Config, add func(key string, value any)) {
		add("rope.scaling.original_context_length", uint32(cfg.MaxPositionEmbeddings))
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGGUF(cfg, f, c)
		cfg.Local = everyLayer(cfg, func(int) bool { return true })
		for _, name := range []string{"rope_factors_long.weight", "rope_factors_short.weight"} {
			if _, ok := c.Tensor(name); ok {
				f.Fail("phi3.rope.scaling.type", "longrope (tensor %s) is not supported", name)
			}
		}
	},
}
