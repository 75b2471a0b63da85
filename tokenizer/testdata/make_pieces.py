#!/usr/bin/env python3
"""Train two more SentencePiece models and write their vectors (sentencepiece 0.2.3).

    make_pieces.py VECTORS.jsonl TESTDATA

spm-unigram: unigram, nmt_nfkc, user-defined pieces, no byte fallback. spm-suffix: BPE with the space as a suffix,
identity, byte fallback, three pieces turned into unused ones.
"""
import gzip
import io
import json
import os
import sys

import sentencepiece as spm

texts = [json.loads(line)["text"] for line in io.open(sys.argv[1], encoding="utf-8", newline="\n")]
corpus = "/tmp/pieces.txt"
with open(corpus, "w", encoding="utf-8") as out:
    for t in texts * 3:
        for line in t.replace("\x00", "").splitlines():
            out.write(line + "\n")
base = dict(input=corpus, num_threads=1, minloglevel=2, hard_vocab_limit=False)


def stream(tok, ids):
    sent, out = "", []
    for i in range(1, len(ids) + 1):
        text = tok.decode(ids[:i])
        if text.endswith("\ufffd") or not text.startswith(sent):
            out.append("")
        else:
            out.append(text[len(sent):])
            sent = text
    return out, tok.decode(ids)[len(sent):]


def varint(b, i):
    v = s = 0
    while True:
        v, s, i = v | (b[i] & 127) << s, s + 7, i + 1
        if b[i - 1] < 128:
            return v, i


def mark_unused(path, count):
    """Give some merged pieces the type UNUSED (5) by rewriting the ModelProto."""
    data, out, i, n = open(path, "rb").read(), b"", 0, 0
    while i < len(data):
        start = i
        key, i = varint(data, i)
        size, i = varint(data, i)
        body, i = data[i:i + size], i + size
        if key == 10 and body[0] == 10:
            text = body[2:2 + body[1]].decode()
            if len(text) == 3 and text.isalpha() and b"\x18" not in body[2 + body[1]:] and n < count:
                n += 1
                body += b"\x18\x05"
                out += b"\x0a" + bytes([len(body)]) + body
                continue
        out += data[start:i]
    open(path, "wb").write(out)


for name, kw in (("spm-unigram", dict(model_type="unigram", vocab_size=700, normalization_rule_name="nmt_nfkc", character_coverage=0.98,
                                      user_defined_symbols=["<|User|>", "foo_bar", "你好"])),
                 ("spm-suffix", dict(model_type="bpe", vocab_size=900, normalization_rule_name="identity", byte_fallback=True,
                                     character_coverage=0.98, treat_whitespace_as_suffix=True, remove_extra_whitespaces=False))):
    folder = os.path.join(sys.argv[2], name)
    os.makedirs(folder, exist_ok=True)
    spm.SentencePieceTrainer.train(model_prefix=os.path.join(folder, "tokenizer"), **dict(base, **kw))
    os.remove(os.path.join(folder, "tokenizer.vocab"))
    path = os.path.join(folder, "tokenizer.model")
    if name == "spm-suffix":
        mark_unused(path, 3)
    tok = spm.SentencePieceProcessor(model_file=path)
    with open(os.path.join(folder, "vectors.jsonl.gz"), "wb") as raw, gzip.GzipFile("", "wb", 9, raw, 0) as out:
        for t in texts:
            ids = tok.encode(t)
            row = {"text": t, "ids": ids, "ids_special": [tok.bos_id()] + ids, "decoded": tok.decode(ids), "decoded_skip_special": tok.decode(ids)}
            if len(ids) <= 200:
                row["stream"], row["stream_flush"] = stream(tok, ids)
            out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
