#!/usr/bin/env python3
"""Perplexities of a Llama-shaped GGUF over windows of a text's tokens, in float32 arithmetic on dequantized weights: what
the tests of pumice's own are compared with. Windows are laid as tools/perplexity of llama.cpp lays them.

  exact.py MODEL.gguf TOKENS    # TOKENS: a file of ids with commas between

Made with gguf 0.19.0 and numpy 2.4.6 (any that have these functions will do).
"""

import sys

import gguf
import numpy as np


class Llama:
    def __init__(self, path):
        r = gguf.GGUFReader(path)
        arch = str(bytes(r.fields["general.architecture"].parts[-1]), "utf-8")
        field = lambda k, d=None: r.fields[f"{arch}.{k}"].contents() if f"{arch}.{k}" in r.fields else d
        self.w = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in r.tensors}
        self.layers = field("block_count")
        self.heads = field("attention.head_count")
        self.kv = field("attention.head_count_kv", self.heads)
        self.eps = field("attention.layer_norm_rms_epsilon")
        self.base = field("rope.freq_base", 10000.0)

    def norm(self, x, name):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * self.w[name]

    def rope(self, x):  # [tokens, heads, head]; neighbouring pairs, as GGUF's llama keeps them
        n, _, d = x.shape
        angle = np.arange(n)[:, None] * self.base ** (-np.arange(0, d, 2) / d)
        c, s = np.cos(angle)[:, None, :], np.sin(angle)[:, None, :]
        out = np.empty_like(x)
        out[..., 0::2] = x[..., 0::2] * c - x[..., 1::2] * s
        out[..., 1::2] = x[..., 0::2] * s + x[..., 1::2] * c
        return out

    def logprobs(self, tokens):
        w = self.w
        x = w["token_embd.weight"][tokens]
        n = len(tokens)
        mask = np.triu(np.full((n, n), -np.inf, np.float32), 1)
        for i in range(self.layers):
            p = f"blk.{i}."
            h = self.norm(x, p + "attn_norm.weight")
            q = self.rope((h @ w[p + "attn_q.weight"].T).reshape(n, self.heads, -1))
            k = self.rope((h @ w[p + "attn_k.weight"].T).reshape(n, self.kv, -1))
            v = (h @ w[p + "attn_v.weight"].T).reshape(n, self.kv, -1)
            k, v = (np.repeat(a, self.heads // self.kv, axis=1) for a in (k, v))
            s = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(np.float32(q.shape[-1])) + mask
            s = np.exp(s - s.max(-1, keepdims=True))
            s /= s.sum(-1, keepdims=True)
            o = np.einsum("hqk,khd->qhd", s, v).reshape(n, -1)
            x = x + o @ w[p + "attn_output.weight"].T
            h = self.norm(x, p + "ffn_norm.weight")
            g = h @ w[p + "ffn_gate.weight"].T
            x = x + (g / (1 + np.exp(-g)) * (h @ w[p + "ffn_up.weight"].T)) @ w[p + "ffn_down.weight"].T
        x = self.norm(x, "output_norm.weight")
        logits = (x @ w.get("output.weight", w["token_embd.weight"]).T).astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def perplexity(model, tokens, windows, first, length):
    nll, n = 0.0, 0
    for start in windows:
        logprobs = model.logprobs(tokens[start:start + length]).astype(np.float64)
        for j in range(first, length - 1):
            nll -= logprobs[j][tokens[start + j + 1]]
            n += 1
    return float(np.exp(nll / n)), n


if __name__ == "__main__":
    model = Llama(sys.argv[1])
    tokens = [int(t) for t in open(sys.argv[2]).read().split(",")]
    print("windows of 64:", perplexity(model, tokens, range(0, len(tokens) - 63, 64), 32, 64))
    length, stride = 40 + 16 // 2, 16
    count = (len(tokens) - length + stride - 1) // stride
    print("windows of 40, stride 16:", perplexity(model, tokens, range(0, count * stride, stride), length - stride - 1, length))
