package synth

import "pumice/internal/dtype"

// A family describes its checkpoints: tensors and configuration of a Hugging Face directory,
// and of a GGUF file if arch names an architecture.
type family struct {
	name    string
	presets []preset // published sizes, the best known one first

	headDim      bool // the head dim is stored, and does not follow from other sizes
	grouped      bool // key-value heads may be fewer than heads
	oneKV        bool // there is one key-value head
	fourfold     bool // the configuration stores the intermediate size as a multiple of the hidden size
	gainMinusOne bool // norms are stored as gain - 1 in Hugging Face's form

	hf     string // tensors; see Shape.tensors
	config func(s *Shape) map[string]any
	arch   string // general.architecture
	gguf   string
}

type preset struct {
	name string
	Shape
}

// The sizes of published models, from their configurations.
var families = []family{
	{
		name: "xverse", hf: llamaTensors, config: xverseConfig, arch: "xverse", gguf: llamaGGUF,
		presets: []preset{
			{"7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 11008, Vocab: 100534, Context: 8192, Eps: 1e-6, Theta: 10000}},
		},
	},
	{
		name: "llama", hf: llamaTensors, config: llamaConfig, arch: "llama", gguf: llamaGGUF, grouped: true, headDim: true,
		presets: []preset{
			{"7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 11008, Vocab: 32000, Context: 2048, Eps: 1e-6, Theta: 10000}},
			{"2-7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 11008, Vocab: 32000, Context: 4096, Eps: 1e-5, Theta: 10000}},
			{"3-8b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, Intermediate: 14336, Vocab: 128256, Context: 8192, Eps: 1e-5, Theta: 500000}},
			{"135m", Shape{Hidden: 576, Layers: 30, Heads: 9, KVHeads: 3, HeadDim: 64, Intermediate: 1536, Vocab: 49152, Context: 8192, Eps: 1e-5, Theta: 100000, Tied: true}}, // SmolLM2
		},
	},
	{
		name: "baichuan", hf: baichuanTensors, config: baichuanConfig, arch: "baichuan", gguf: llamaGGUF,
		presets: []preset{
			{"7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 11008, Vocab: 64000, Context: 4096, Eps: 1e-6, Theta: 10000}},
			{"2-7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 11008, Vocab: 125696, Context: 4096, Eps: 1e-6, Theta: 10000, Second: true}},
		},
	},
	{
		name: "bert", hf: bertTensors, config: bertConfig, arch: "bert", gguf: bertGGUF,
		presets: []preset{
			{"minilm-l6", Shape{Hidden: 384, Layers: 6, Heads: 12, KVHeads: 12, HeadDim: 32, Intermediate: 1536, Vocab: 30522, Context: 512, Eps: 1e-12}},
			{"bge-small-en", Shape{Hidden: 384, Layers: 12, Heads: 12, KVHeads: 12, HeadDim: 32, Intermediate: 1536, Vocab: 30522, Context: 512, Eps: 1e-12}},
			{"bge-base-en", Shape{Hidden: 768, Layers: 12, Heads: 12, KVHeads: 12, HeadDim: 64, Intermediate: 3072, Vocab: 30522, Context: 512, Eps: 1e-12}},
		},
	},
	{
		name: "chatglm", hf: chatglmTensors, config: chatglmConfig, arch: "chatglm", gguf: chatglmGGUF, grouped: true, headDim: true,
		presets: []preset{
			{"6b", Shape{Hidden: 4096, Layers: 28, Heads: 32, KVHeads: 2, HeadDim: 128, Intermediate: 13696, Vocab: 65024, Context: 32768, Eps: 1e-5, Theta: 10000}},
		},
	},
	{
		name: "falcon", hf: falconTensors, config: falconConfig, arch: "falcon", gguf: falconGGUF, oneKV: true,
		presets: []preset{
			{"7b", Shape{Hidden: 4544, Layers: 32, Heads: 71, KVHeads: 1, HeadDim: 64, Intermediate: 18176, Vocab: 65024, Context: 2048, Eps: 1e-5, Theta: 10000, Tied: true}},
		},
	},
	{
		name: "internlm", hf: internlmTensors, config: internlmConfig,
		presets: []preset{
			{"7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 11008, Vocab: 103168, Context: 2048, Eps: 1e-6, Theta: 10000}},
		},
	},
	{
		name: "mpt", hf: mptTensors, config: mptConfig, arch: "mpt", gguf: mptGGUF, fourfold: true,
		presets: []preset{
			{"7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 128, Intermediate: 16384, Vocab: 50432, Context: 2048, Eps: 1e-5, Tied: true}},
		},
	},
	{
		name: "mistral", hf: llamaTensors, config: mistralConfig, grouped: true, headDim: true,
		presets: []preset{
			{"7b", Shape{Hidden: 4096, Layers: 32, Heads: 32, KVHeads: 8, HeadDim: 128, Intermediate: 14336, Vocab: 32000, Context: 32768, Eps: 1e-5, Theta: 10000, Window: 4096}},
		},
	},
	{
		name: "qwen2", hf: qwen2Tensors, config: qwen2Config, arch: "qwen2", gguf: qwen2GGUF, grouped: true,
		presets: []preset{
			{"7b", Shape{Hidden: 3584, Layers: 28, Heads: 28, KVHeads: 4, HeadDim: 128, Intermediate: 18944, Vocab: 152064, Context: 32768, Eps: 1e-6, Theta: 1000000}},
		},
	},
	{
		name: "qwen3", hf: qwen3Tensors, config: qwen3Config, arch: "qwen3", gguf: qwen3GGUF, grouped: true, headDim: true,
		presets: []preset{
			{"8b", Shape{Hidden: 4096, Layers: 36, Heads: 32, KVHeads: 8, HeadDim: 128, Intermediate: 12288, Vocab: 151936, Context: 40960, Eps: 1e-6, Theta: 1000000}},
		},
	},
	{
		name: "gemma2", hf: gemma2Tensors, config: gemma2Config, arch: "gemma2", gguf: gemma2GGUF, grouped: true, headDim: true, gainMinusOne: true,
		presets: []preset{
			{"2b", Shape{Hidden: 2304, Layers: 26, Heads: 8, KVHeads: 4, HeadDim: 256, Intermediate: 9216, Vocab: 256000, Context: 8192, Eps: 1e-6, Theta: 10000, Window: 4096, Tied: true}},
		},
	},
	{
		name: "gemma3", hf: gemma3Tensors, config: gemma3Config, arch: "gemma3", gguf: gemma3GGUF, grouped: true, headDim: true, gainMinusOne: true,
		presets: []preset{
			{"270m", Shape{Hidden: 640, Layers: 18, Heads: 4, KVHeads: 1, HeadDim: 256, Intermediate: 2048, Vocab: 262144, Context: 32768, Eps: 1e-6, Theta: 1000000, Window: 512, Tied: true, LocalInterval: 6}},
			{"1b", Shape{Hidden: 1152, Layers: 26, Heads: 4, KVHeads: 1, HeadDim: 256, Intermediate: 6912, Vocab: 262144, Context: 32768, Eps: 1e-6, Theta: 1000000, Window: 512, Tied: true, LocalInterval: 6}},
		},
	},
	{
		name: "phi3", hf: phi3Tensors, config: phi3Config, arch: "phi3", gguf: phi3GGUF, grouped: true,
		presets: []preset{
			{"mini", Shape{Hidden: 3072, Layers: 32, Heads: 32, KVHeads: 32, HeadDim: 96, Intermediate: 8192, Vocab: 32064, Context: 4096, Eps: 1e-5, Theta: 10000, Window: 2047}},
		},
	},
	{
		name: "smollm3", hf: llamaTensors, config: smollm3Config, arch: "smollm3", gguf: llamaGGUF, grouped: true,
		presets: []preset{
			{"3b", Shape{Hidden: 2048, Layers: 36, Heads: 16, KVHeads: 4, HeadDim: 128, Intermediate: 11008, Vocab: 128256, Context: 65536, Eps: 1e-6, Theta: 5000000, Tied: true}},
		},
	},
}

// Tensors of Hugging Face directories.
const (
	llamaEnds = `
		model.embed_tokens.weight V H
		model.norm.weight H
		lm_head.weight V H untied
	`
	llamaNorms = `
		model.layers.#.input_layernorm.weight H
		model.layers.#.post_attention_layernorm.weight H
	`
	llamaAttention = `
		model.layers.#.self_attn.q_proj.weight Q H
		model.layers.#.self_attn.k_proj.weight K H
		model.layers.#.self_attn.v_proj.weight K H
		model.layers.#.self_attn.o_proj.weight H Q
	`
	llamaMLP = `
		model.layers.#.mlp.gate_proj.weight I H
		model.layers.#.mlp.up_proj.weight I H
		model.layers.#.mlp.down_proj.weight H I
	`
	llamaTensors = llamaNorms + llamaAttention + llamaMLP + llamaEnds

	qkvBiases = `
		model.layers.#.self_attn.q_proj.bias Q
		model.layers.#.self_attn.k_proj.bias K
		model.layers.#.self_attn.v_proj.bias K
	`
	qkNorms = `
		model.layers.#.self_attn.q_norm.weight D
		model.layers.#.self_attn.k_norm.weight D
	`
	qwen2Tensors    = qkvBiases + llamaTensors
	qwen3Tensors    = qkNorms + llamaTensors
	internlmTensors = qkvBiases + `
		model.layers.#.self_attn.o_proj.bias H
	` + llamaTensors

	baichuanTensors = llamaNorms + `
		model.layers.#.self_attn.W_pack.weight Q+2K H
		model.layers.#.self_attn.o_proj.weight H Q
	` + llamaMLP + llamaEnds

	phi3Tensors = llamaNorms + `
		model.layers.#.self_attn.qkv_proj.weight Q+2K H
		model.layers.#.self_attn.o_proj.weight H Q
		model.layers.#.mlp.gate_up_proj.weight 2I H
		model.layers.#.mlp.down_proj.weight H I
	` + llamaEnds

	gemma2Tensors = `
		model.layers.#.pre_feedforward_layernorm.weight H
		model.layers.#.post_feedforward_layernorm.weight H
	` + llamaTensors
	gemma3Tensors = qkNorms + gemma2Tensors

	bertTensors = `
		embeddings.word_embeddings.weight V H
		embeddings.position_embeddings.weight P H
		embeddings.token_type_embeddings.weight 2 H
		embeddings.LayerNorm.weight H
		embeddings.LayerNorm.bias H
		encoder.layer.#.attention.self.query.weight Q H
		encoder.layer.#.attention.self.query.bias Q
		encoder.layer.#.attention.self.key.weight K H
		encoder.layer.#.attention.self.key.bias K
		encoder.layer.#.attention.self.value.weight K H
		encoder.layer.#.attention.self.value.bias K
		encoder.layer.#.attention.output.dense.weight H Q
		encoder.layer.#.attention.output.dense.bias H
		encoder.layer.#.attention.output.LayerNorm.weight H
		encoder.layer.#.attention.output.LayerNorm.bias H
		encoder.layer.#.intermediate.dense.weight I H
		encoder.layer.#.intermediate.dense.bias I
		encoder.layer.#.output.dense.weight H I
		encoder.layer.#.output.dense.bias H
		encoder.layer.#.output.LayerNorm.weight H
		encoder.layer.#.output.LayerNorm.bias H
		pooler.dense.weight H H
		pooler.dense.bias H
	`
	chatglmTensors = `
		transformer.embedding.word_embeddings.weight V H
		transformer.encoder.layers.#.input_layernorm.weight H
		transformer.encoder.layers.#.self_attention.query_key_value.weight Q+2K H
		transformer.encoder.layers.#.self_attention.query_key_value.bias Q+2K
		transformer.encoder.layers.#.self_attention.dense.weight H Q
		transformer.encoder.layers.#.post_attention_layernorm.weight H
		transformer.encoder.layers.#.mlp.dense_h_to_4h.weight 2I H
		transformer.encoder.layers.#.mlp.dense_4h_to_h.weight H I
		transformer.encoder.final_layernorm.weight H
		transformer.output_layer.weight V H untied
	`
	falconTensors = `
		transformer.word_embeddings.weight V H
		transformer.h.#.input_layernorm.weight H
		transformer.h.#.input_layernorm.bias H
		transformer.h.#.self_attention.query_key_value.weight Q+2K H
		transformer.h.#.self_attention.dense.weight H Q
		transformer.h.#.mlp.dense_h_to_4h.weight I H
		transformer.h.#.mlp.dense_4h_to_h.weight H I
		transformer.ln_f.weight H
		transformer.ln_f.bias H
		lm_head.weight V H untied
	`
	mptTensors = `
		transformer.wte.weight V H
		transformer.blocks.#.norm_1.weight H
		transformer.blocks.#.attn.Wqkv.weight Q+2K H
		transformer.blocks.#.attn.out_proj.weight H Q
		transformer.blocks.#.norm_2.weight H
		transformer.blocks.#.ffn.up_proj.weight I H
		transformer.blocks.#.ffn.down_proj.weight H I
		transformer.norm_f.weight H
	`
)

// Tensors of GGUF files.
const (
	ggufEnds = `
		token_embd.weight V H
		output_norm.weight H
		output.weight V H untied
	`
	ggufNorms = `
		blk.#.attn_norm.weight H
		blk.#.ffn_norm.weight H
	`
	ggufFusedQKV = `
		blk.#.attn_qkv.weight Q+2K H
		blk.#.attn_output.weight H Q
	`
	ggufMLP = `
		blk.#.ffn_gate.weight I H
		blk.#.ffn_up.weight I H
		blk.#.ffn_down.weight H I
	`
	ggufPlainMLP = `
		blk.#.ffn_up.weight I H
		blk.#.ffn_down.weight H I
	`
	ggufFusedMLP = `
		blk.#.ffn_up.weight 2I H
		blk.#.ffn_down.weight H I
	`
	llamaGGUF = ggufNorms + `
		blk.#.attn_q.weight Q H
		blk.#.attn_k.weight K H
		blk.#.attn_v.weight K H
		blk.#.attn_output.weight H Q
	` + ggufMLP + ggufEnds

	qwen2GGUF = `
		blk.#.attn_q.bias Q
		blk.#.attn_k.bias K
		blk.#.attn_v.bias K
	` + llamaGGUF
	qwen3GGUF = `
		blk.#.attn_q_norm.weight D
		blk.#.attn_k_norm.weight D
	` + llamaGGUF
	gemma2GGUF = `
		blk.#.post_attention_norm.weight H
		blk.#.post_ffw_norm.weight H
	` + llamaGGUF
	gemma3GGUF = `
		blk.#.post_attention_norm.weight H
		blk.#.post_ffw_norm.weight H
	` + qwen3GGUF
	phi3GGUF = ggufNorms + ggufFusedQKV + ggufFusedMLP + ggufEnds
	bertGGUF = `
		token_embd.weight V H
		position_embd.weight P H
		token_types.weight 2 H
		token_embd_norm.weight H
		token_embd_norm.bias H
		blk.#.attn_q.weight Q H
		blk.#.attn_q.bias Q
		blk.#.attn_k.weight K H
		blk.#.attn_k.bias K
		blk.#.attn_v.weight K H
		blk.#.attn_v.bias K
		blk.#.attn_output.weight H Q
		blk.#.attn_output.bias H
		blk.#.attn_output_norm.weight H
		blk.#.attn_output_norm.bias H
		blk.#.ffn_up.weight I H
		blk.#.ffn_up.bias I
		blk.#.ffn_down.weight H I
		blk.#.ffn_down.bias H
		blk.#.layer_output_norm.weight H
		blk.#.layer_output_norm.bias H
	`
	chatglmGGUF = ggufNorms + `
		blk.#.attn_qkv.bias Q+2K
	` + ggufFusedQKV + ggufFusedMLP + ggufEnds
	falconGGUF = `
		blk.#.attn_norm.weight H
		blk.#.attn_norm.bias H
		output_norm.bias H
	` + ggufFusedQKV + ggufPlainMLP + ggufEnds
	mptGGUF = ggufNorms + ggufFusedQKV + ggufPlainMLP + ggufEnds
)

// torchNames are the values of "torch_dtype".
var torchNames = map[dtype.DType]string{dtype.F32: "float32", dtype.F16: "float16", dtype.BF16: "bfloat16"}
