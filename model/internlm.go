package model

import "pumice/checkpoint"

// internlm is InternLM-7B and -Chat: Llama's decoder with biases on q, k, v and o, all or none
// by the key "bias". InternLM2 is another architecture. GGUF files call it llama.
var internlm = Family{
	Name:          "internlm",
	Architectures: []string{"InternLMForCausalLM"},
	Names:         huggingFaceNames,
	WrittenAs:     "llama",
	ReadHF: func(cfg *Config, f *checkpoint.Fields) {
		readLlama(cfg, f)
		bias := f.Bool("bias")
		cfg.QKVBias, cfg.OBias = bias, bias
	},
}
