#!/usr/bin/env python3
"""Write goldens.bin.gz: blocks of every quantised type, what they decode to, and what floats encode to.

    make_goldens.py libggml-base.so goldens.bin.gz      (gguf 0.19.0, numpy 2.4.6, ggml 0.20.0 of llama.cpp b10434)
    make_goldens.py model.gguf hashes.json              (the SHA-256 of each tensor's float32s, little-endian)

Decoding is gguf's (gguf.quants.dequantize); ggml's own dequantize_row functions must give the same bits.
Encoding is ggml_quantize_chunk without an importance matrix; where gguf can quantise, it must give the same bytes. The library must be
one compiled without fused multiply-add, as ggml-base is unless it is built for one machine.

The file is one line of JSON, [{"op", "type", "bytes", "floats"}], then for each entry its blocks
and its float32s. "decode": the blocks decode to the floats. "encode": the floats encode to the blocks.
"""
import ctypes
import gzip
import hashlib
import json
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGUFReader
from gguf import GGMLQuantizationType as T
from gguf import quants

TYPES = [T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS, T.TQ2_0]
# Where a block's binary16s are.
HALVES = {T.Q8_0: [0], T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q2_K: [80, 82], T.Q3_K: [108],
          T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0], T.IQ4_XS: [0], T.TQ2_0: [64]}
# Zeros, the smallest and largest subnormal, the smallest normal, the largest, and an ordinary one.
ODD = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x2e66], dtype="<u2")


def symbol(t):
    return t.name[0].lower() + t.name[1:] if t.name.endswith("_K") else t.name.lower()


def row_function(lib, name):
    f = getattr(lib, name)
    f.argtypes, f.restype = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64], None
    return f


def decode(lib, t, blocks):
    out = quants.dequantize(blocks, t).astype("<f4")
    check = np.empty_like(out)
    row_function(lib, f"dequantize_row_{symbol(t)}")(blocks.ctypes.data, check.ctypes.data, out.size)
    assert out.tobytes() == check.tobytes(), f"{t.name}: gguf and ggml differ"
    return out


def encode(lib, t, floats):
    n, size = GGML_QUANT_SIZES[t]
    out = np.zeros(floats.size // n * size, dtype=np.uint8)
    chunk = lib.ggml_quantize_chunk
    chunk.argtypes, chunk.restype = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3, ctypes.c_void_p], ctypes.c_size_t
    assert chunk(t.value, floats.ctypes.data, out.ctypes.data, 0, floats.size // n, n, None) == out.size
    try:
        check = quants.quantize(floats, t)
    except NotImplementedError:
        return out
    assert out.tobytes() == check.tobytes(), f"{t.name}: gguf and ggml differ"
    return out


def random_blocks(rng, t):
    n, size = GGML_QUANT_SIZES[t]
    count = max(2048 // n, 12)
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for k, at in enumerate(HALVES[t]):
        scales = (rng.standard_normal(count) * 0.05).astype("<f2").view("<u2")
        scales[:len(ODD)] = ODD if k == 0 else np.roll(ODD, 3)
        blocks[:, at:at + 2] = scales.view(np.uint8).reshape(count, 2)
    return blocks.reshape(-1)


def sources(rng):
    """Superblocks of floats: 24 of 256."""
    normal = lambda: rng.standard_normal(256)
    rows = [normal() * 0.02 for _ in range(6)]
    rows += [normal() * s for s in (1e-6, 1, 1e4, 1e-12)]
    rows += [np.zeros(256), np.full(256, 0.75), np.full(256, -0.75)]
    rows += [rng.integers(-8, 9, 256) / 4 for _ in range(2)]           # ties, of extremes and of codes
    rows += [abs(normal()), -abs(normal()), normal() + 5, normal() - 5]
    rows += [rng.uniform(-1, 1, 256), rng.standard_cauchy(256), normal() ** 5]
    rows += [np.where(np.arange(256) % 64 < 32, 0, normal())]          # whole sub-blocks of zeros
    rows += [normal() * np.repeat(10.0 ** np.arange(-9, 7), 16)]
    return np.array(rows, dtype="<f4").reshape(-1)


def goldens(library, path):
    lib = ctypes.CDLL(library)
    entries, blobs = [], []

    def add(op, t, blocks, floats):
        entries.append({"op": op, "type": t.name, "bytes": blocks.size, "floats": floats.size})
        blobs.extend([blocks.tobytes(), floats.tobytes()])

    rng = np.random.default_rng(11)
    floats = sources(rng)
    for t in TYPES:
        blocks = random_blocks(rng, t)
        add("decode", t, blocks, decode(lib, t, blocks))
        blocks = encode(lib, t, floats[:6 * 256])
        add("decode", t, blocks, decode(lib, t, blocks))
    for t in TYPES:
        add("encode", t, encode(lib, t, floats), floats)
    with open(path, "wb") as f:
        f.write(gzip.compress(json.dumps(entries).encode() + b"\n" + b"".join(blobs), 9, mtime=0))


def hashes(model, path):
    out = {}
    for t in GGUFReader(model).tensors:
        floats = np.ascontiguousarray(quants.dequantize(t.data, t.tensor_type), dtype="<f4")
        out[t.name] = [t.tensor_type.name, hashlib.sha256(floats.data).hexdigest()]
    with open(path, "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(out[k])}" for k in sorted(out)) + "\n}\n")


if __name__ == "__main__":
    (hashes if sys.argv[1].endswith(".gguf") else goldens)(sys.argv[1], sys.argv[2])
