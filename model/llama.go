package model

import (
	"math"

	"pumice/checkpoint"
)

// llama is Llama, Llama-2, Vicuna, SmolLM2 and whatever else is a LlamaForCausalLM
// (Touvron et al. 2023, arXiv:2302.13971 and 2307.09288; Llama 3's rope scaling).
var llama = Family{
	Name:          "llama",
	Architectures: []string{"LlamaForCausalLM", "LLaMAForCausalLM", "LlamaModel"},
	GGUF:          []string{"llama"},
	Names:         huggingFaceNames,
	PermutedQK:    true,
	ReadHF:        readLlama,
	ReadGGUF:      readLlamaGGUF,
	WriteGGUF:     writeLlamaGGUF,
}

// readLlama reads the keys of Hugging Face's LlamaConfig.
func readLlama(cfg *Config, f *checkpoint.Fields) {
	readLlamaAs(cfg, f, f.Int("max_position_embeddings"), "hidden_act")
}

// readLlamaAs is readLlama for families that spell the context's length or the activation in
// their own way.
func readLlamaAs(cfg *Config, f *checkpoint.Fields, positions int, act string) {
	cfg.HiddenSize = f.Int("hidden_size")
	cfg.IntermediateSize = f.Int("intermediate_size")
	cfg.NumHiddenLayers = f.Int("num_hidden_layers")
	cfg.NumAttentionHeads = f.Int("num_attention_heads")
	cfg.NumKeyValueHeads = f.IntOr("num_key_value_heads", cfg.NumAttentionHeads)
	cfg.HeadDim = f.IntOr("head_dim", cfg.HiddenSize/max(cfg.NumAttentionHeads, 1))
	cfg.VocabSize = f.Int("vocab_size")
	cfg.MaxPositionEmbeddings = positions
	cfg.NormEps = float32(f.Float("rms_norm_eps"))
	bias := f.BoolOr("attention_bias", false)
	cfg.QKVBias, cfg.OBias = bias, bias
	cfg.MLPBias = f.BoolOr("mlp_bias", false)
	cfg.TieWordEmbeddings = f.BoolOr("tie_word_embeddings", false)
	cfg.HiddenAct = activation(f, act)
	cfg.Rope = readRope(cfg, f)
}

// readRope reads rope_theta, rope_scaling, partial_rotary_factor and the rope_parameters
// object that newer versions of transformers write in their place.
func readRope(cfg *Config, f *checkpoint.Fields) Rope {
	r := Rope{
		Theta:       f.FloatOr("rope_theta", 10000),
		Dim:         int(math.Round(float64(cfg.HeadDim) * f.FloatOr("partial_rotary_factor", 1))),
		Interleaved: f.BoolOr("rope_interleaved", false),
	}
	s := f.Object("rope_scaling")
	if p := f.Object("rope_parameters"); p != nil {
		r.Theta = p.FloatOr("rope_theta", r.Theta)
		s = p
	}
	if s == nil {
		return r
	}
	switch kind := s.StringOr("rope_type", s.StringOr("type", "default")); kind {
	case "default":
	case "linear":
		r.Scaling = RopeScaling{Type: kind, Factor: s.Float("factor")}
	case "llama3":
		r.Scaling = RopeScaling{
			Type: kind, Factor: s.Float("factor"),
			LowFreqFactor: s.Float("low_freq_factor"), HighFreqFactor: s.Float("high_freq_factor"),
			OriginalContext: s.Int("original_max_position_embeddings"),
		}
		if x := r.Scaling; f.Err() == nil && (x.LowFreqFactor <= 0 || x.HighFreqFactor <= x.LowFreqFactor || x.OriginalContext < 1) {
			f.Fail("rope_scaling", "low_freq_factor %v, high_freq_factor %v, original_max_position_embeddings %d", x.LowFreqFactor, x.HighFreqFactor, x.OriginalContext)
		}
	default:
		f.Fail("rope_scaling", "type %q is not supported", kind)
	}
	if x := r.Scaling; x.Type != "" && f.Err() == nil && !(x.Factor > 0) {
		f.Fail("rope_scaling", "factor %v must be positive", x.Factor)
	}
	return r
}

// writeLlamaGGUF says whose order the rows of q and k have.
func writeLlamaGGUF(_ *Config, add func(key string, value any)) {
	add("tensor_data_layout", "Meta AI original pth")
}

// readLlamaGGUF reads architectures built like Llama, whose q and k rows llama.cpp permutes so
// that rotation pairs neighbours.
func readLlamaGGUF(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
	readGGUF(cfg, f, c)
	cfg.Rope.Interleaved = true
}
