package model

import "pumice/checkpoint"

// mistral is Mistral-7B: Llama's decoder, every layer of which sees a sliding window where the
// configuration has one (Jiang et al. 2023, arXiv:2310.06825). GGUF files call it llama and
// drop the window.
var mistral = Family{
	Name:          "mistral",
	Architectures: []string{"MistralForCausalLM", "MistralModel"},
	Names:         huggingFaceNames,
	WrittenAs:     "llama",
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readLlama(cfg, f)
		cfg.SlidingWindow = f.IntOr("sliding_window", 0)
		cfg.Local = everyLayer(cfg, func(int) bool { return true })
	},
}

// everyLayer lists a property of each layer; none for a number of layers that is refused later.
func everyLayer(cfg *Config, is func(i int) bool) []bool {
	if cfg.NumHiddenLayers < 1 || cfg.NumHiddenLayers > maxLayers {
		return nil
	}
	out := make([]bool, cfg.NumHiddenLayers)
	for i := range out {
		out[i] = is(i)
	}
	return out
}

// readLayerTypes reads which layers are local from "layer_types", if the configuration has it.
func readLayerTypes(cfg *Config, f *checkpoint.Fields) bool {
	types := f.Strings("layer_types")
	if len(types) == 0 {
		return false
	}
	if len(types) != cfg.NumHiddenLayers {
		f.Fail("layer_types", "%d entries for %d layers", len(types), cfg.NumHiddenLayers)
		return true
	}
	cfg.Local = make([]bool, len(types))
	for i, t := range types {
		switch t {
		case "sliding_attention":
			cfg.Local[i] = true
		case "full_attention":
		default:
			f.Fail("layer_types", "layer %d is %q; known are sliding_attention and full_attention", i, t)
		}
	}
	return true
}
