package model

import "pumice/checkpoint"

// qwen2 is Qwen2 and Qwen2.5: Llama's decoder with biases on q, k and v (Yang et al. 2024,
// arXiv:2407.10671).
var qwen2 = Family{
	Name:          "qwen2",
	Architectures: []string{"Qwen2ForCausalLM", "Qwen2Model"},
	GGUF:          []string{"qwen2"},
	Names:         huggingFaceNames,
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readLlama(cfg, f)
		cfg.QKVBias = true
		readQwenWindow(cfg, f)
	},
	ReadGGUF: readGGUF,
}

// qwen3 has no biases and normalises each query and key head (Yang et al. 2025,
// arXiv:2505.09388).
var qwen3 = Family{
	Name:          "qwen3",
	Architectures: []string{"Qwen3ForCausalLM", "Qwen3Model"},
	GGUF:          []string{"qwen3"},
	Names:         huggingFaceNames,
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readLlama(cfg, f)
		cfg.QKNorm = true
		readQwenWindow(cfg, f)
	},
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readGGUF(cfg, f, c)
		cfg.QKNorm = true
	},
}

// readQwenWindow reads the sliding window, which layers from max_window_layers on have.
func readQwenWindow(cfg *Config, f *checkpoint.Fields) {
	if !f.BoolOr("use_sliding_window", false) {
		return
	}
	cfg.SlidingWindow = f.Int("sliding_window")
	if !readLayerTypes(cfg, f) {
		first := f.Int("max_window_layers")
		cfg.Local = everyLayer(cfg, func(i int) bool { return i >= first })
	}
}
