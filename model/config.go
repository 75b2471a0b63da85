// Package model runs decoder-only transformers, and encoders that make embeddings.
//
// Load reads a checkpoint's configuration as a Config, puts its tensors into the memory of one or more devices as Weights,
// and returns a Model, which evaluates tokens of many texts and keeps their keys and values in a KV cache there.
//
// The forward pass is written once, in decoder.go, and depends only on Config's fields. A Family translates one kind of
// checkpoint's configuration and tensor names into these fields. The package reads files only through package
// checkpoint, and knows nothing of text.
package model

import (
	"cmp"
	"fmt"
	"math"
	"strings"

	"pumice/checkpoint"
	"pumice/pipeline"
	"pumice/pipeline/kernels"
)

// Config has the hyper-parameters of a model. Fields have Hugging Face's names, also for a GGUF checkpoint.
type Config struct {
	Family string `json:"family"` // Family.Name, such as "llama" or "xverse"

	HiddenSize            int `json:"hidden_size"`
	IntermediateSize      int `json:"intermediate_size"`
	NumHiddenLayers       int `json:"num_hidden_layers"`
	NumAttentionHeads     int `json:"num_attention_heads"`
	NumKeyValueHeads      int `json:"num_key_value_heads"` // each serves NumAttentionHeads / NumKeyValueHeads query heads
	HeadDim               int `json:"head_dim"`
	VocabSize             int `json:"vocab_size"`
	MaxPositionEmbeddings int `json:"max_position_embeddings"` // positions the model was trained for

	// Norms are RMSNorm unless LayerNorm is set. With NormPlusOne the checkpoint stores each gain less 1.
	LayerNorm   bool    `json:"layer_norm,omitempty"`
	NormBias    bool    `json:"norm_bias,omitempty"`
	NormPlusOne bool    `json:"norm_plus_one,omitempty"`
	NormEps     float32 `json:"norm_eps"`

	// Positions are encoded by Rope, or by ALiBi if ALiBiMaxBias is not 0: the least slope is then 2^-ALiBiMaxBias.
	Rope         Rope    `json:"rope"`
	LocalRope    *Rope   `json:"local_rope,omitempty"` // Rope of the Local layers; nil if it is the same
	NoRope       []bool  `json:"no_rope,omitempty"`    // for each layer, whether it has no rotation; nil if all have one
	ALiBiMaxBias float64 `json:"alibi_max_bias,omitempty"`

	// With LearnedPositions a vector of the position, and that of the first of TypeVocabSize token types, is added to each
	// embedding.
	LearnedPositions bool `json:"learned_positions,omitempty"`
	TypeVocabSize    int  `json:"type_vocab_size,omitempty"`

	// An Encoder's tokens see the whole text, also what follows, and it has no head.
	Encoder bool `json:"encoder,omitempty"`

	// Attention. Local says for each layer whether a token sees only the last SlidingWindow positions; nil if none does.
	AttentionScale       float32 `json:"attention_scale"`
	AttnLogitSoftcapping float32 `json:"attn_logit_softcapping,omitempty"`
	SlidingWindow        int     `json:"sliding_window,omitempty"`
	Local                []bool  `json:"local,omitempty"`
	QKNorm               bool    `json:"qk_norm,omitempty"` // RMSNorm of each query and key head
	ClipQKV              float32 `json:"clip_qkv,omitempty"`
	QKVBias              bool    `json:"qkv_bias,omitempty"`
	OBias                bool    `json:"o_bias,omitempty"`

	// MLP: Down(act(Gate x) * Up x), or Down(act(Up x)) where PlainMLP is set.
	HiddenAct kernels.Activation `json:"hidden_act"`
	PlainMLP  bool               `json:"plain_mlp,omitempty"`
	MLPBias   bool               `json:"mlp_bias,omitempty"`

	// Layer: with Parallel, attention and MLP both take the output of one norm; else the MLP follows attention. With
	// PostNorms, the output of each has a norm too. With NormedStream the residual stream goes on from the output of each
	// norm, not from its input ("post-LN": such a norm is written behind the branch before).
	Parallel  bool `json:"parallel,omitempty"`
	PostNorms bool `json:"post_norms,omitempty"`

	NormedStream bool `json:"normed_stream,omitempty"`

	// Embedding and head. EmbeddingScale multiplies the embeddings; with TieWordEmbeddings the head is the embedding.
	EmbeddingScale        float32 `json:"embedding_scale"`
	TieWordEmbeddings     bool    `json:"tie_word_embeddings"`
	NormalizedHead        bool    `json:"normalized_head,omitempty"` // rows of the head are scaled to length 1
	FinalLogitSoftcapping float32 `json:"final_logit_softcapping,omitempty"`

	BOSTokenID  int   `json:"bos_token_id"` // -1 if the checkpoint names none
	EOSTokenIDs []int `json:"eos_token_ids"`

	names   Names // of the tensors in this checkpoint
	modules Names // of the same in a Hugging Face directory, which adapters go by
	unused  []string
	// permutedQK: in each query and key head, rows j and j + HeadDim/2 of the directory's tensors
	// lie side by side in this checkpoint's.
	permutedQK bool
}

// Rope configures rotary position embedding (Su et al. 2021, arXiv:2104.09864).
type Rope struct {
	Theta       float64     `json:"rope_theta"`
	Dim         int         `json:"rotary_dim"`  // number of leading components of a head that rotate; 0 for none
	Interleaved bool        `json:"interleaved"` // components 2j and 2j+1 rotate together, not j and j + Dim/2
	Scaling     RopeScaling `json:"scaling"`
}

// RopeScaling changes the rotary frequencies, so that a model can use more positions than it was first trained on.
type RopeScaling struct {
	Type   string  `json:"type"`             // "", "linear", "llama3" or "factors"
	Factor float64 `json:"factor,omitempty"` // wavelengths are this many times as long

	// For "llama3": wavelengths above OriginalContext / LowFreqFactor are multiplied by Factor, those below
	// OriginalContext / HighFreqFactor are kept, and those between are interpolated.
	LowFreqFactor   float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor  float64 `json:"high_freq_factor,omitempty"`
	OriginalContext int     `json:"original_max_position_embeddings,omitempty"`

	// For "factors": the name of a tensor with one divisor for each frequency (GGUF's rope_freqs).
	Tensor string `json:"tensor,omitempty"`
}

// local says whether layer i attends to a sliding window only.
func (c *Config) local(i int) bool { return c.SlidingWindow > 0 && i < len(c.Local) && c.Local[i] }

// heads is the shape of layer i's attention; slopes are ALiBi's or nil.
func (c *Config) heads(i int, slopes *pipeline.Vector) pipeline.Heads {
	h := pipeline.Heads{
		Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim,
		RotaryDim: c.Rope.Dim, Interleaved: c.Rope.Interleaved,
		Clip: c.ClipQKV, SoftCap: c.AttnLogitSoftcapping, Slopes: slopes, Bidirectional: c.Encoder,
	}
	if i < len(c.NoRope) && c.NoRope[i] {
		h.RotaryDim = 0
	}
	if c.local(i) {
		h.Window = c.SlidingWindow
	}
	return h
}

// alibiSlopes are the slopes of Press et al. 2022 (arXiv:2108.12409), section 3: a geometric
// sequence for a power of two of heads; else that of the next power of two, its odd elements
// first, cut to the number of heads.
func (c *Config) alibiSlopes() []float32 {
	n := c.NumAttentionHeads
	power := 1
	for power < n {
		power *= 2
	}
	all := make([]float32, power)
	for i := range all {
		all[i] = float32(math.Pow(2, -c.ALiBiMaxBias*float64(i+1)/float64(power)))
	}
	if power == n {
		return all
	}
	var out []float32
	for _, start := range []int{1, 0} {
		for i := start; i < power; i += 2 {
			out = append(out, all[i])
		}
	}
	return out[:n]
}

// A ConfigError says that a configuration contradicts itself or the tensors, or that it needs something that the
// package does not support.
type ConfigError struct {
	File string
	Msg  string
}

func (e *ConfigError) Error() string { return fmt.Sprintf("model: %s: %s", e.File, e.Msg) }

// Bounds that no real model exceeds and that keep sizes computed from a hostile
// configuration within 64 bits.
const (
	maxDim    = 1 << 20
	maxLayers = 1 << 12
	maxVocab  = 1 << 24
)

// check refuses shapes that cannot be a model's.
func (c *Config) check(file string) error {
	fail := func(format string, args ...any) error {
		return &ConfigError{File: file, Msg: fmt.Sprintf(format, args...)}
	}
	for _, x := range []struct {
		name       string
		value, max int
	}{
		{"hidden_size", c.HiddenSize, maxDim},
		{"intermediate_size", c.IntermediateSize, maxDim},
		{"num_hidden_layers", c.NumHiddenLayers, maxLayers},
		{"num_attention_heads", c.NumAttentionHeads, maxDim},
		{"num_key_value_heads", c.NumKeyValueHeads, maxDim},
		{"head_dim", c.HeadDim, maxDim},
		{"vocab_size", c.VocabSize, maxVocab},
		{"max_position_embeddings", c.MaxPositionEmbeddings, 1 << 30},
	} {
		if x.value < 1 || x.value > x.max {
			return fail("%s is %d, must be between 1 and %d", x.name, x.value, x.max)
		}
	}
	switch {
	case c.NumAttentionHeads%c.NumKeyValueHeads != 0:
		return fail("%d attention heads do not share %d key-value heads evenly", c.NumAttentionHeads, c.NumKeyValueHeads)
	case c.NumAttentionHeads*c.HeadDim > maxDim:
		return fail("%d heads of %d exceed %d", c.NumAttentionHeads, c.HeadDim, maxDim)
	case c.HeadDim%4 != 0:
		return fail("head_dim %d is not a multiple of four", c.HeadDim)
	case c.Rope.Dim < 0 || c.Rope.Dim > c.HeadDim || c.Rope.Dim%2 != 0:
		return fail("%d rotary dimensions in a head of %d", c.Rope.Dim, c.HeadDim)
	case !(c.Rope.Theta > 0):
		return fail("rope theta is %v, must be positive", c.Rope.Theta)
	case !(c.AttentionScale > 0) || c.AttentionScale > math.MaxFloat32 || !(c.EmbeddingScale > 0) || c.EmbeddingScale > math.MaxFloat32:
		return fail("an attention scale of %v and an embedding scale of %v, must be positive and finite", c.AttentionScale, c.EmbeddingScale)
	case !(c.NormEps > 0) || c.NormEps > 1:
		return fail("the norms' epsilon is %v, must be between 0 and 1", c.NormEps)
	case c.LocalRope != nil && (c.LocalRope.Dim != c.Rope.Dim || !(c.LocalRope.Theta > 0)):
		return fail("local rope of %d dimensions with theta %v beside one of %d", c.LocalRope.Dim, c.LocalRope.Theta, c.Rope.Dim)
	case c.SlidingWindow < 0 || len(c.Local) > 0 && len(c.Local) != c.NumHiddenLayers:
		return fail("a window of %d in %d of %d layers", c.SlidingWindow, len(c.Local), c.NumHiddenLayers)
	case c.LearnedPositions && (c.TypeVocabSize < 1 || c.TypeVocabSize > maxVocab):
		return fail("type_vocab_size is %d, must be between 1 and %d", c.TypeVocabSize, maxVocab)
	case c.ALiBiMaxBias < 0 || c.ClipQKV < 0 || c.AttnLogitSoftcapping < 0 || c.FinalLogitSoftcapping < 0:
		return fail("a negative alibi bias, clip or soft cap")
	case max(c.ClipQKV, c.AttnLogitSoftcapping, c.FinalLogitSoftcapping) > math.MaxFloat32:
		return fail("a clip or soft cap beyond %g", math.MaxFloat32)
	}
	return nil
}

// ReadConfig reads the configuration of a checkpoint of a registered family.
func ReadConfig(c *checkpoint.Checkpoint) (*Config, error) {
	f, err := familyOf(c)
	if err != nil {
		return nil, err
	}
	cfg := &Config{Family: f.Name, Encoder: f.Encoder, BOSTokenID: -1, names: f.Names, modules: f.Names, unused: f.Unused}
	var fields *checkpoint.Fields
	if fields = c.Metadata(); fields != nil {
		cfg.names, cfg.permutedQK = f.ggufNames(), f.PermutedQK
		f.ReadGGUF(cfg, fields, c)
	} else {
		fields = c.Config()
		f.ReadHF(cfg, fields)
		mustBe(fields, "is_causal", !cfg.Encoder)
		mustBe(fields, "use_bidirectional_attention", cfg.Encoder)
		cfg.nameBaseModel(c)
		readTokenIDs(cfg, fields)
		if g := c.GenerationConfig(); g != nil {
			readTokenIDs(cfg, g) // what generation says outranks the model's own
			if err := g.Err(); err != nil {
				return nil, err
			}
		}
	}
	if err := fields.Err(); err != nil {
		return nil, err
	}
	cfg.AttentionScale = cmp.Or(cfg.AttentionScale, float32(1/math.Sqrt(float64(cfg.HeadDim))))
	cfg.EmbeddingScale = cmp.Or(cfg.EmbeddingScale, 1)
	return cfg, cfg.check(fields.File())
}

// nameBaseModel adapts cfg to a directory that was saved without the head, as embedding models are: its names lack the
// prefix "model.", or the family's own. Where the head is not tied it is missing then (Qwen3-Embedding-8B). The embedding takes its place, as
// it does where llama.cpp reads such a model from GGUF, so the logits of such a model say nothing.
func (c *Config) nameBaseModel(file *checkpoint.Checkpoint) {
	prefix, _, _ := strings.Cut(c.names.Embed, ".")
	bare := c.names.with(func(n *Names) {
		for _, name := range []*string{&n.Embed, &n.Positions, &n.TokenTypes, &n.EmbedNorm, &n.FinalNorm, &n.Layer} {
			*name = strings.TrimPrefix(*name, prefix+".")
		}
	})
	if hasTensor(file, c.names.Embed+".weight") || !hasTensor(file, bare.Embed+".weight") {
		return
	}
	c.names, c.modules = bare, bare
	if !c.Encoder && !hasTensor(file, bare.LMHead+".weight") {
		c.TieWordEmbeddings = true
	}
}

// activation reads an MLP's nonlinearity by its Hugging Face name.
func activation(f *checkpoint.Fields, key string) kernels.Activation {
	switch name := f.String(key); name {
	case "silu", "swish":
		return kernels.SiLU
	case "gelu":
		return kernels.GELU
	case "gelu_new", "gelu_pytorch_tanh":
		return kernels.GELUTanh
	default:
		f.Fail(key, "%q is not supported; known are silu, gelu, gelu_new and gelu_pytorch_tanh", name)
		return 0
	}
}

func readTokenIDs(cfg *Config, f *checkpoint.Fields) {
	if ids := f.Ints("bos_token_id"); len(ids) > 0 {
		cfg.BOSTokenID = ids[0]
	}
	if ids := f.Ints("eos_token_id"); len(ids) > 0 {
		cfg.EOSTokenIDs = ids
	}
}
