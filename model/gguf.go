package model

import "pumice/checkpoint"

// ropeFactors is the tensor in which GGUF keeps llama3 scaling: a divisor a frequency.
const ropeFactors = "rope_freqs.weight"

// readGGUF reads the keys that all architectures share ("Standardized key-value pairs" of the
// GGUF specification); their prefix is the architecture's name. Rotation pairs halves, and
// biases are wherever the first layer has them.
func readGGUF(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint) {
	arch := f.String("general.architecture") + "."
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
	if f.Has(arch + "attention.layer_norm_rms_epsilon") {
		cfg.NormEps = float32(f.Float(arch + "attention.layer_norm_rms_epsilon"))
	} else {
		cfg.NormEps = float32(f.Float(arch + "attention.layer_norm_epsilon"))
	}
	if n := f.IntOr(arch+"expert_count", 0); n > 0 {
		f.Fail(arch+"expert_count", "mixtures of %d experts are not supported", n)
	}
	mustBe(f, arch+"attention.causal", !cfg.Encoder)
	embed, ok := c.Tensor(ggufNames.Embed + ".weight")
	if ok {
		cfg.VocabSize = embed.Rows()
	}
	cfg.VocabSize = f.IntOr(arch+"vocab_size", cfg.VocabSize)
	has := func(name string) bool { return hasTensor(c, name) }
	cfg.TieWordEmbeddings = !has(ggufNames.LMHead + ".weight")
	cfg.QKVBias = has("blk.0.attn_q.bias") || has("blk.0.attn_qkv.bias")
	cfg.OBias = has("blk.0.attn_output.bias")
	cfg.MLPBias = has("blk.0.ffn_up.bias")
	cfg.SlidingWindow = f.IntOr(arch+"attention.sliding_window", 0)
	cfg.AttnLogitSoftcapping = float32(f.FloatOr(arch+"attn_logit_softcapping", 0))
	cfg.FinalLogitSoftcapping = float32(f.FloatOr(arch+"final_logit_softcapping", 0))

	cfg.Rope = readGGUFRope(f, arch, cfg.HeadDim)
	if has(ropeFactors) {
		cfg.Rope.Scaling = RopeScaling{Type: "factors", Tensor: ropeFactors}
	}
	cfg.BOSTokenID = f.IntOr("tokenizer.ggml.bos_token_id", -1)
	if id := f.IntOr("tokenizer.ggml.eos_token_id", -1); id >= 0 {
		cfg.EOSTokenIDs = []int{id}
	}
}

// readGGUFRope reads the rotary keys of an architecture, whose prefix is arch.
func readGGUFRope(f *checkpoint.Fields, arch string, headDim int) Rope {
	r := Rope{
		Theta: f.FloatOr(arch+"rope.freq_base", 10000),
		Dim:   f.IntOr(arch+"rope.dimension_count", headDim),
	}
	// Files from before rope.scaling have scale_linear; without a type, a factor means linear.
	factor := f.FloatOr(arch+"rope.scaling.factor", f.FloatOr(arch+"rope.scale_linear", 1))
	switch kind := f.StringOr(arch+"rope.scaling.type", "linear"); kind {
	case "none":
	case "linear":
		if !(factor > 0) {
			f.Fail(arch+"rope.scaling.factor", "%v must be positive", factor)
		} else if factor != 1 {
			r.Scaling = RopeScaling{Type: kind, Factor: factor}
		}
	default:
		f.Fail(arch+"rope.scaling.type", "%q is not supported", kind)
	}
	return r
}

func hasTensor(c *checkpoint.Checkpoint, name string) bool {
	_, ok := c.Tensor(name)
	return ok
}
