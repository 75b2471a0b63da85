package model

import "pumice/checkpoint"

// smollm3 is SmolLM3: Llama's decoder, with every fourth layer left unrotated (NoPE).
var smollm3 = Family{
	Name:          "smollm3",
	Architectures: []string{"SmolLM3ForCausalLM"},
	GGUF:          []string{"smollm3"},
	Names:         huggingFaceNames,
	PermutedQK:    true,
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readLlama(cfg, f)
		readQwenWindow(cfg, f)
		rotate := f.Ints("no_rope_layers") // 1 where a layer rotates, despite the name
		if len(rotate) == 0 {
			every := f.IntOr("no_rope_layer_interval", 4)
			if every < 1 {
				f.Fail("no_rope_layer_interval", "%d must be positive", every)
				return
			}
			cfg.NoRope = everyLayer(cfg, func(i int) bool { return (i+1)%every == 0 })
			return
		}
		if len(rotate) != cfg.NumHiddenLayers {
			f.Fail("no_rope_layers", "%d entries for %d layers", len(rotate), cfg.NumHiddenLayers)
			return
		}
		cfg.NoRope = everyLayer(cfg, func(i int) bool { return rotate[i] == 0 })
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readLlamaGGUF(cfg, f, c)
		cfg.NoRope = everyLayer(cfg, func(i int) bool { return (i+1)%4 == 0 })
	},
}
