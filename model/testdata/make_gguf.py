#!/usr/bin/env python3
"""Write the checkpoints of testdata/fixtures as gzip'ed GGUF, as llama.cpp's convert_hf_to_gguf.py lays them out.

    make_gguf.py FIXTURES OUT [NAME...]

Needs gguf 0.19.0 and numpy (2.4.6 wrote the committed files). Matrices keep their type; vectors become F32.
Tensor by tensor:

  llama, xverse, baichuan   q and k rows reordered so that rotation pairs neighbours; W_pack split into q, k, v
  baichuan2                 the head's rows divided by their length, as the converter's users must do beforehand; F32
  llama3                    the scaling becomes the tensor rope_freqs, one divisor a frequency
  gemma2, gemma3            1 added to the norms' weights
  chatglm, falcon, mpt, qwen2, qwen3   renamed only
  bert                      position and type embeddings in F32, without the pooler; with the vocabulary, in which words
                            begin with U+2581 and continuations have no mark

Two things are not what every version of the converter writes. InternLM-7B, which it does not know, is written as llama with
biases. Gemma 3's pattern of local layers, 6 unless the file says otherwise, is given by attention.sliding_window_pattern.
"""
import gzip
import json
import math
import pathlib
import pickle
import struct
import sys
import zipfile

import gguf
import numpy as np

BF16 = "bf16"  # numpy has none: such arrays are uint16
TYPES = {"F32": np.float32, "F16": np.float16, "BF16": BF16,
         "FloatStorage": np.float32, "HalfStorage": np.float16, "BFloat16Storage": BF16}


def typed(raw, kind, shape):
    """An array of the bytes raw, and whether it is bf16."""
    return np.frombuffer(raw, np.uint16 if kind is BF16 else kind).reshape(shape), kind is BF16


def read_safetensors(path):
    data = path.read_bytes()
    n, = struct.unpack("<Q", data[:8])
    for name, t in json.loads(data[8:8 + n]).items():
        if name != "__metadata__":
            first, last = t["data_offsets"]
            yield name, *typed(data[8 + n + first:8 + n + last], TYPES[t["dtype"]], t["shape"])


def read_torch(path):
    archive = zipfile.ZipFile(path)
    root = next(n for n in archive.namelist() if n.endswith("/data.pkl")).removesuffix("data.pkl")

    class Storage:
        def __init__(self, kind, key):
            self.kind, self.key = kind, key

    def rebuild(storage, offset, shape, strides, *_):
        kind = TYPES[storage.kind]
        flat, bf16 = typed(archive.read(f"{root}data/{storage.key}"), kind, (-1,))
        item = flat.itemsize
        view = np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * item for s in strides])
        return np.ascontiguousarray(view), bf16

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            if name == "_rebuild_tensor_v2":
                return rebuild
            if name == "OrderedDict":
                return dict
            if module == "torch" and name in TYPES:
                return name
            raise pickle.UnpicklingError(f"{module}.{name}")

        def persistent_load(self, pid):
            return Storage(pid[1], pid[2])

    for name, (array, bf16) in Unpickler(archive.open(root + "data.pkl")).load().items():
        yield name, array, bf16


def read(directory):
    """All tensors of a directory by name: (array, is it bf16)."""
    tensors = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors.update((n, (a, b)) for n, a, b in read_safetensors(path))
    for path in sorted(directory.glob("*.bin")):
        tensors.update((n, (a, b)) for n, a, b in read_torch(path))
    return {n: t for n, t in tensors.items() if not n.endswith("inv_freq")}


def to_f32(array, bf16):
    if bf16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32)


def permute(array, heads):
    """The converter's LlamaModel.permute: rows 0, d/2, 1, d/2 + 1, ... of each head."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


ARCH = {
    "XverseForCausalLM": "xverse", "LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "InternLMForCausalLM": "llama",
    "BaiChuanForCausalLM": "baichuan", "BaichuanForCausalLM": "baichuan", "ChatGLMModel": "chatglm", "FalconForCausalLM": "falcon",
    "MPTForCausalLM": "mpt", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "Gemma2ForCausalLM": "gemma2",
    "Gemma3ForCausalLM": "gemma3", "BertModel": "bert",
}

# Names inside a layer and outside, without .weight and .bias.
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down",
    "norm_1": "attn_norm", "norm_2": "ffn_norm", "attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output",
    "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down",
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}
GEMMA_NAMES = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"}
OUTSIDE = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
    "transformer.embedding.word_embeddings": "token_embd", "transformer.encoder.final_layernorm": "output_norm",
    "transformer.output_layer": "output", "transformer.word_embeddings": "token_embd", "transformer.ln_f": "output_norm",
    "transformer.wte": "token_embd", "transformer.norm_f": "output_norm",
    "embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm",
}
LAYERS = ("encoder.layer.", "model.layers.", "transformer.encoder.layers.", "transformer.h.", "transformer.blocks.")


def rename(name, gemma):
    stem, suffix = name.rsplit(".", 1)
    for prefix in LAYERS:
        if stem.startswith(prefix):
            number, inner = stem[len(prefix):].split(".", 1)
            return f"blk.{number}.{(GEMMA_NAMES.get(inner) if gemma else None) or NAMES[inner]}.{suffix}"
    return f"{OUTSIDE[stem]}.{suffix}"


def add_wordpiece(w, source, size):
    tokenizer = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    special = {t["id"] for t in tokenizer["added_tokens"] if t["special"]}
    pieces = {i: t for t, i in tokenizer["model"]["vocab"].items()}
    tokens, types = [], []
    for i in range(size):
        text, kind = pieces.get(i), gguf.TokenType.NORMAL
        if text is None:
            text, kind = f"[PAD{i}]", gguf.TokenType.UNUSED
        elif i in special:
            kind = gguf.TokenType.CONTROL
        if kind != gguf.TokenType.CONTROL:
            text = text[2:] if text.startswith("##") else "\u2581" + text
        tokens.append(text)
        types.append(kind)
    w.add_tokenizer_model("bert")
    w.add_token_list(tokens)
    w.add_token_types(types)
    ids = tokenizer["model"]["vocab"]
    w.add_unk_token_id(ids["[UNK]"])
    w.add_sep_token_id(ids["[SEP]"])
    w.add_pad_token_id(ids["[PAD]"])
    w.add_uint32("tokenizer.ggml.cls_token_id", ids["[CLS]"])


def convert(source, target):
    c = json.loads((source / "config.json").read_text())
    hf = c["architectures"][0]
    arch = ARCH[hf]
    w = gguf.GGUFWriter(target, arch)

    def first(*keys):
        return next((c[k] for k in keys if c.get(k) is not None), None)

    hidden = first("hidden_size", "d_model")
    heads = first("num_attention_heads", "n_heads")
    kv = first("num_key_value_heads", "multi_query_group_num") or (1 if arch == "falcon" else heads)
    head_dim = first("head_dim", "kv_channels") or hidden // heads
    w.add_context_length(first("max_position_embeddings", "seq_length", "max_seq_len") or 2048)
    w.add_embedding_length(hidden)
    w.add_block_count(first("num_hidden_layers", "num_layers", "n_layers"))
    w.add_feed_forward_length(first("intermediate_size", "ffn_hidden_size") or 4 * hidden)
    w.add_head_count(heads)
    if arch != "mpt":
        w.add_head_count_kv(kv)
    if arch in ("falcon", "mpt", "bert"):
        w.add_layer_norm_eps(first("layer_norm_epsilon", "layer_norm_eps") or 1e-5)
    else:
        w.add_layer_norm_rms_eps(first("rms_norm_eps", "layernorm_epsilon"))
    if "rope_theta" in c:
        w.add_rope_freq_base(c["rope_theta"])
    if arch in ("llama", "xverse", "baichuan"):
        w.add_vocab_size(c["vocab_size"])
        w.add_rope_dimension_count(head_dim)
        w.add_tensor_data_layout("Meta AI original pth")
    if arch == "chatglm":
        w.add_rope_dimension_count(head_dim // 2)
        w.add_rope_freq_base(10000 * c.get("rope_ratio", 1))
    if arch == "bert":
        w.add_causal_attention(False)
        w.add_pooling_type(gguf.PoolingType.MEAN)
        w.add_token_type_count(c["type_vocab_size"])
        add_wordpiece(w, source, c["vocab_size"])
    if arch == "falcon":
        w.add_tensor_data_layout("jploski")
    if arch == "mpt":
        attention = c["attn_config"]
        w.add_max_alibi_bias(attention["alibi_bias_max"] if attention["alibi"] else 0.0)
        if attention["clip_qkv"] is not None:
            w.add_clamp_kqv(attention["clip_qkv"])
    if arch in ("qwen3", "gemma2", "gemma3"):
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    if arch in ("gemma2", "gemma3"):
        w.add_sliding_window(c["sliding_window"])
    if arch == "gemma2":
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if arch == "gemma3":
        w.add_sliding_window_pattern(c["_sliding_window_pattern"])
    for key, add in (("bos_token_id", w.add_bos_token_id), ("eos_token_id", w.add_eos_token_id)):
        ids = c.get(key)
        if ids is not None:
            add(ids[0] if isinstance(ids, list) else ids)

    def add(name, array, bf16):
        if array.ndim == 1:
            w.add_tensor(name, to_f32(array, bf16))
        elif bf16:
            raw = np.ascontiguousarray(array).view(np.uint8)
            w.add_tensor(name, raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
        else:
            w.add_tensor(name, np.ascontiguousarray(array))

    gemma = arch.startswith("gemma")
    permuted = arch in ("llama", "xverse", "baichuan")
    for name, (array, bf16) in read(source).items():
        if arch == "bert" and name.startswith("pooler."):
            continue
        if name.endswith("W_pack.weight"):
            prefix = "blk." + name.split(".")[2]
            q, k, v = np.split(array, 3)
            add(prefix + ".attn_q.weight", permute(q, heads), bf16)
            add(prefix + ".attn_k.weight", permute(k, kv), bf16)
            add(prefix + ".attn_v.weight", v, bf16)
            continue
        new = rename(name, gemma)
        if permuted and ".attn_q." in new:
            array = permute(array, heads)
        if permuted and ".attn_k." in new:
            array = permute(array, kv)
        if gemma and array.ndim == 1:
            array, bf16 = to_f32(array, bf16) + 1, False
        if hf == "BaichuanForCausalLM" and new == "output.weight":
            rows = to_f32(array, bf16).astype(np.float64)
            array, bf16 = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32), False
        add(new, array, bf16)

    scaling = c.get("rope_scaling")
    if scaling and scaling["rope_type"] == "llama3":
        original, low, high, factor = (scaling[k] for k in
                                       ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor", "factor"))
        divisors = []
        for j in range(head_dim // 2):
            wavelength = 2 * math.pi * c["rope_theta"] ** (2 * j / head_dim)
            if wavelength < original / high:
                divisors.append(1)
            elif wavelength > original / low:
                divisors.append(factor)
            else:
                smooth = (original / wavelength - low) / (high - low)
                divisors.append(1 / ((1 - smooth) / factor + smooth))
        add("rope_freqs.weight", np.array(divisors, np.float32), False)

    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    fixtures, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    names = sys.argv[3:] or ["baichuan", "baichuan2", "bert", "chatglm2", "falcon", "gemma2", "gemma3", "internlm", "llama", "llama3",
                             "mistral", "mpt", "qwen2", "qwen3", "smollm2", "xverse"]
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        plain = out / f"{name}.gguf"
        convert(fixtures / name, plain)
        (out / f"{name}.gguf.gz").write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))
        plain.unlink()


main()
