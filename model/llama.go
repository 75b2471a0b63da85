package model

import (
	"math"

	"pumice/checkpoint"
)

// llama is Llama, Llama-2, Vicuna, SmolLM2 and whatever else is a LlamaForCausalLM
// (Touvron et al. 2023, arXiv:2302.13971 and 2307.09288; Llama 3's rope scaling).
var llama = Family{
	Name:          "llama",
	Architectures: []string{"LlamaForCausalLM", "LLaMAForCausalLM"},
	GGUF:          []string{"llama"},
	ReadHF:        readLlama,
	ReadGGUF: func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
		readLlamaGGUF(cfg, f, c, "llama.")
	},
}

// readLlama reads the keys of Hugging Face's LlamaConfig.
func readLlama(cfg *Config, f *checkpoint.Fields) {
	cfg.HiddenSize = f.Int("hidden_size")
	cfg.IntermediateSize = f.Int("intermediate_size")
	cfg.NumHiddenLayers = f.Int("num_hidden_layers")
	cfg.NumAttentionHeads = f.Int("num_attention_heads")
	cfg.NumKeyValueHeads = f.IntOr("num_key_value_heads", cfg.NumAttentionHeads)
	cfg.HeadDim = f.IntOr("head_dim", cfg.HiddenSize/max(cfg.NumAttentionHeads, 1))
	cfg.VocabSize = f.Int("vocab_size")
	cfg.MaxPositionEmbeddings = f.Int("max_position_embeddings")
	cfg.RMSNormEps = float32(f.Float("rms_norm_eps"))
	cfg.AttentionBias = f.BoolOr("attention_bias", false)
	cfg.MLPBias = f.BoolOr("mlp_bias", false)
	cfg.TieWordEmbeddings = f.BoolOr("tie_word_embeddings", false)
	if act := f.String("hidden_act"); act != "silu" && act != "swish" {
		f.Fail("hidden_act", "%q is not supported; this family has silu", act)
	}
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

// readLlamaGGUF reads the keys that llama.cpp writes for architectures built like Llama,
// whose q and k rows it permutes so that rotation pairs neighbours.
func readLlamaGGUF(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint, arch string) {
	cfg.HiddenSize = f.Int(arch + "embedding_length")
	cfg.IntermediateSize = f.Int(arch + "feed_forward_length")
	cfg.NumHiddenLayers = f.Int(arch + "block_count")
	cfg.NumAttentionHeads = f.Int(arch + "attention.head_count")
	cfg.NumKeyValueHeads = f.IntOr(arch+"attention.head_count_kv", cfg.NumAttentionHeads)
	cfg.HeadDim = f.IntOr(arch+"attention.key_length", cfg.HiddenSize/max(cfg.NumAttentionHeads, 1))
	if v := f.IntOr(arch+"attention.value_length", cfg.HeadDim); v != cfg.HeadDim {
		f.Fail(arch+"attention.value_length", "%d differs from the keys' %d", v, cfg.HeadDim)
	}
	cfg.MaxPositionEmbeddings = f.Int(arch + "context_length")
	cfg.RMSNormEps = float32(f.Float(arch + "attention.layer_norm_rms_epsilon"))
	if n := f.IntOr(arch+"expert_count", 0); n > 0 {
		f.Fail(arch+"expert_count", "mixtures of %d experts are not supported", n)
	}
	embed, ok := c.Tensor(ggufNames.Embed + ".weight")
	if ok {
		cfg.VocabSize = embed.Rows()
	}
	cfg.VocabSize = f.IntOr(arch+"vocab_size", cfg.VocabSize)
	_, head := c.Tensor(ggufNames.LMHead + ".weight")
	cfg.TieWordEmbeddings = !head
	_, cfg.AttentionBias = c.Tensor("blk.0." + ggufNames.QProj + ".bias")
	_, cfg.MLPBias = c.Tensor("blk.0." + ggufNames.GateProj + ".bias")

	cfg.Rope = Rope{
		Theta:       f.FloatOr(arch+"rope.freq_base", 10000),
		Dim:         f.IntOr(arch+"rope.dimension_count", cfg.HeadDim),
		Interleaved: true,
	}
	switch kind := f.StringOr(arch+"rope.scaling.type", "none"); kind {
	case "none":
	case "linear":
		cfg.Rope.Scaling = RopeScaling{Type: kind, Factor: f.Float(arch + "rope.scaling.factor")}
	default:
		f.Fail(arch+"rope.scaling.type", "%q is not supported", kind)
	}
	if _, ok := c.Tensor(ropeFactors); ok {
		cfg.Rope.Scaling = RopeScaling{Type: "factors", Tensor: ropeFactors}
	}
	cfg.BOSTokenID = f.IntOr("tokenizer.ggml.bos_token_id", -1)
	if id := f.IntOr("tokenizer.ggml.eos_token_id", -1); id >= 0 {
		cfg.EOSTokenIDs = []int{id}
	}
}

// ropeFactors is the tensor in which GGUF keeps llama3 scaling: a divisor a frequency.
const ropeFactors = "rope_freqs.weight"
