// Package model runs decoder-only transformers: it reads a checkpoint's configuration as
// one Config, binds its tensors to device memory, and evaluates tokens against a resident
// KV cache.
//
// The forward pass is written once, in decoder.go, over Config's axes; a family is a file
// that maps its configuration and tensor names to them. The package knows nothing of file
// formats' bytes, which are checkpoint's, or of text.
package model

import (
	"fmt"
	"math"

	"pumice/checkpoint"
	"pumice/pipeline"
)

// Config is the hyper-parameters of a model, under their Hugging Face names, whatever the
// checkpoint's format spells them.
type Config struct {
	Family string `json:"family"` // registered name: "llama", "xverse"

	HiddenSize            int `json:"hidden_size"`
	IntermediateSize      int `json:"intermediate_size"`
	NumHiddenLayers       int `json:"num_hidden_layers"`
	NumAttentionHeads     int `json:"num_attention_heads"`
	NumKeyValueHeads      int `json:"num_key_value_heads"` // each serves NumAttentionHeads / NumKeyValueHeads query heads
	HeadDim               int `json:"head_dim"`
	VocabSize             int `json:"vocab_size"`
	MaxPositionEmbeddings int `json:"max_position_embeddings"` // positions the model was trained for

	RMSNormEps        float32 `json:"rms_norm_eps"`
	Rope              Rope    `json:"rope"`
	AttentionBias     bool    `json:"attention_bias"` // q, k, v and o projections have biases
	MLPBias           bool    `json:"mlp_bias"`       // gate, up and down projections have biases
	TieWordEmbeddings bool    `json:"tie_word_embeddings"`

	BOSTokenID  int   `json:"bos_token_id"` // -1 when the checkpoint names none
	EOSTokenIDs []int `json:"eos_token_ids"`

	names Names
}

// Rope is rotary position embedding (Su et al. 2021, arXiv:2104.09864).
type Rope struct {
	Theta       float64     `json:"rope_theta"`
	Dim         int         `json:"rotary_dim"`  // leading components of a head that rotate
	Interleaved bool        `json:"interleaved"` // pairs are 2j, 2j+1 rather than j, j + Dim/2
	Scaling     RopeScaling `json:"scaling"`
}

// RopeScaling stretches the rotary frequencies to more positions than were trained.
type RopeScaling struct {
	Type   string  `json:"type"`             // "", "linear", "llama3" or "factors"
	Factor float64 `json:"factor,omitempty"` // positions are stretched by

	// llama3: wavelengths over OriginalContext / LowFreqFactor are stretched, those under
	// OriginalContext / HighFreqFactor are kept, those between are interpolated.
	LowFreqFactor   float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor  float64 `json:"high_freq_factor,omitempty"`
	OriginalContext int     `json:"original_max_position_embeddings,omitempty"`

	// factors: a tensor of one divisor for each frequency (GGUF's rope_freqs).
	Tensor string `json:"tensor,omitempty"`
}

// Heads is the attention shape as the pipeline takes it.
func (c *Config) Heads() pipeline.Heads {
	return pipeline.Heads{
		Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, HeadDim: c.HeadDim,
		RotaryDim: c.Rope.Dim, Interleaved: c.Rope.Interleaved,
	}
}

// AttentionScale multiplies attention scores.
func (c *Config) AttentionScale() float32 { return float32(1 / math.Sqrt(float64(c.HeadDim))) }

// A ConfigError is a configuration that contradicts itself or asks for what the program
// does not have.
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
	case c.HeadDim%2 != 0:
		return fail("head_dim %d is odd", c.HeadDim)
	case c.Rope.Dim < 0 || c.Rope.Dim > c.HeadDim || c.Rope.Dim%2 != 0:
		return fail("%d rotary dimensions in a head of %d", c.Rope.Dim, c.HeadDim)
	case !(c.Rope.Theta > 0):
		return fail("rope theta is %v, must be positive", c.Rope.Theta)
	case !(c.RMSNormEps > 0) || c.RMSNormEps > 1:
		return fail("rms_norm_eps is %v, must be between 0 and 1", c.RMSNormEps)
	}
	return nil
}

// ReadConfig reads the configuration of a checkpoint of a registered family.
func ReadConfig(c *checkpoint.Checkpoint) (*Config, error) {
	f, err := familyOf(c)
	if err != nil {
		return nil, err
	}
	cfg := &Config{Family: f.Name, BOSTokenID: -1}
	var fields *checkpoint.Fields
	if fields = c.Metadata(); fields != nil {
		cfg.names = ggufNames
		f.ReadGGUF(cfg, fields, c)
	} else {
		fields = c.Config()
		cfg.names = huggingFaceNames
		f.ReadHF(cfg, fields)
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
	return cfg, cfg.check(fields.File())
}

func readTokenIDs(cfg *Config, f *checkpoint.Fields) {
	if ids := f.Ints("bos_token_id"); len(ids) > 0 {
		cfg.BOSTokenID = ids[0]
	}
	if ids := f.Ints("eos_token_id"); len(ids) > 0 {
		cfg.EOSTokenIDs = ids
	}
}
