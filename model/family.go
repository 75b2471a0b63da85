package model

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pumice/checkpoint"
)

// A Family describes one kind of checkpoint: how to recognise it, what its tensors are called, and how to read its
// configuration into a Config. The decoder looks only at the Config.
type Family struct {
	Name          string   // value of Config.Family
	Architectures []string // values of config.json's "architectures"
	GGUF          []string // values of GGUF's "general.architecture"
	Names         Names    // names of the tensors in a Hugging Face directory
	GGUFNames     Names    // names of the tensors in a GGUF file; empty means those of the GGUF specification
	PermutedQK    bool     // llama.cpp's converter reorders the rows of q and k so that rotation pairs neighbours
	Windowed      bool     // the GGUF architecture has a sliding window
	WrittenAs     string   // family whose GGUF architecture this one's files have; empty means its own
	Encoder       bool     // it makes embeddings alone: tokens see those after them, and there is no head
	Unused        []string // beginnings of names of tensors that directories have for other uses

	// ReadHF fills cfg from config.json. f keeps the first error.
	ReadHF func(cfg *Config, f *checkpoint.Fields)
	// ReadGGUF fills cfg from the metadata f and, if it must, from the tensors of c. f keeps the first error.
	ReadGGUF func(cfg *Config, f *checkpoint.Fields, c *checkpoint.Checkpoint)
	// WriteGGUF adds the keys that only this architecture has, without its prefix; nil if there are none.
	WriteGGUF func(cfg *Config, add func(key string, value any))
}

func (f *Family) ggufNames() Names { return cmp.Or(f.GGUFNames, ggufNames) }

// families is the registry.
var families = []Family{
	baichuan, bert, chatglm, falcon, gemma2, gemma3, internlm, llama, mistral, mpt, phi3, qwen2, qwen3, smollm3, xverse,
}

func familyOf(c *checkpoint.Checkpoint) (*Family, error) {
	var file string
	var want []string
	spelt := func(f *Family) []string { return f.Architectures }
	if meta := c.Metadata(); meta != nil {
		file, want = meta.File(), meta.Strings("general.architecture")
		spelt = func(f *Family) []string { return f.GGUF }
		if err := meta.Err(); err != nil {
			return nil, err
		}
	} else {
		cfg := c.Config()
		if cfg == nil {
			return nil, &checkpoint.UnsupportedError{File: c.Path(), Feature: "a checkpoint without config.json"}
		}
		file, want = cfg.File(), cfg.Strings("architectures")
		if err := cfg.Err(); err != nil {
			return nil, err
		}
	}
	var known []string
	for i := range families {
		f := &families[i]
		for _, arch := range want {
			if slices.Contains(spelt(f), arch) {
				return f, nil
			}
		}
		known = append(known, spelt(f)...)
	}
	if len(want) == 0 {
		return nil, &checkpoint.UnsupportedError{File: file, Feature: "a checkpoint that names no architecture"}
	}
	return nil, &checkpoint.UnsupportedError{File: file,
		Feature: fmt.Sprintf("architecture %s; known: %s", quoted(want), strings.Join(known, ", "))}
}

// Names is the names that a format gives tensors, without ".weight" and ".bias". QKVProj and
// GateUpProj are set by families that store projections as one tensor: query, key and value
// rows one under another, gate rows above up rows. Names that a family lacks stay empty.
type Names struct {
	Embed, FinalNorm, LMHead string
	Positions, TokenTypes    string // learned vectors that are added to the embeddings

	Layer                      string // prefix with the layer's number, e.g. "model.layers.%d."
	InputNorm, MLPNorm         string
	AttnPostNorm, MLPPostNorm  string
	QNorm, KNorm               string
	QKVProj                    string
	QProj, KProj, VProj, OProj string
	GateUpProj                 string
	GateProj, UpProj, DownProj string

	// Families that write a norm behind what it normalises have these instead of InputNorm and FinalNorm.
	EmbedNorm, OutputNorm string
}

// inputNorm is the name of the norm before layer i, or, where i is the number of layers, of the one after the last.
func (n *Names) inputNorm(i, layers int) string {
	switch {
	case n.OutputNorm != "" && i == 0:
		return n.EmbedNorm
	case n.OutputNorm != "":
		return fmt.Sprintf(n.Layer, i-1) + n.OutputNorm
	case i == layers:
		return n.FinalNorm
	}
	return fmt.Sprintf(n.Layer, i) + n.InputNorm
}

// huggingFaceNames are those of Llama and of the families built on it.
var huggingFaceNames = Names{
	Embed: "model.embed_tokens", FinalNorm: "model.norm", LMHead: "lm_head",
	Layer: "model.layers.%d.", InputNorm: "input_layernorm", MLPNorm: "post_attention_layernorm",
	QNorm: "self_attn.q_norm", KNorm: "self_attn.k_norm",
	QProj: "self_attn.q_proj", KProj: "self_attn.k_proj", VProj: "self_attn.v_proj", OProj: "self_attn.o_proj",
	GateProj: "mlp.gate_proj", UpProj: "mlp.up_proj", DownProj: "mlp.down_proj",
}

// with is a copy of n that f has changed.
func (n Names) with(f func(n *Names)) Names {
	f(&n)
	return n
}

// ggufNames are those of the GGUF specification, "Standardized tensor names".
var ggufNames = Names{
	Embed: "token_embd", FinalNorm: "output_norm", LMHead: "output",
	Layer: "blk.%d.", InputNorm: "attn_norm", MLPNorm: "ffn_norm",
	AttnPostNorm: "post_attention_norm", MLPPostNorm: "post_ffw_norm",
	QNorm: "attn_q_norm", KNorm: "attn_k_norm",
	QProj: "attn_q", KProj: "attn_k", VProj: "attn_v", OProj: "attn_output",
	GateProj: "ffn_gate", UpProj: "ffn_up", DownProj: "ffn_down",
}

// quoted lists names that come from a file.
func quoted(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = strconv.Quote(name)
	}
	return strings.Join(out, ", ")
}
