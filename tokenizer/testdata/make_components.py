#!/usr/bin/env python3
"""Write components.jsonl.gz: what Hugging Face's `tokenizers` makes of each component.

    make_components.py VECTORS.jsonl spm-nfkc/tokenizer.model OUT.jsonl.gz      (tokenizers 0.23.3)

Kinds of line: normalizer, pre_tokenizer and decoder with one component each, and tokenizer
with a whole small tokenizer.json.
"""
import base64
import gzip
import io
import json
import random
import sys

import tokenizers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

rows = []
texts = [json.loads(line)["text"] for line in io.open(sys.argv[1], encoding="utf-8", newline="\n")]
texts = [t for t in texts if len(t) < 300]
texts += ["'S 'ſ 'RE x'LL", "ﬁ‑ﬂ ǅ İstanbul ẞ ΑΣ", "a\u0301\u0323 \u1100\u1161\u11a8 \u0e33", "x\u200dy\u00ad", "\u0600١ ⅷ ²³",
          "word_1-2 Ünï", "【a】—b", "どこで生れ。Yes ー", "  lead", "trail  ", "a\u0085b\u000bc\u001cd", "🇨🇳e\u0301",
          "\u0378\ue000 ok", "<mask> a<mask>b  <mask>  c", "anew new newer new", "Ελλάς ΟΔΟΣ", "İı", "a,b,,c", "12345 a1 b22 ٣٤"]
random.seed(1)
mixed = [random.choice(texts) for _ in range(60)]
texts += ["".join(random.choice(mixed)[:9] for _ in range(4)) for _ in range(40)]


def component(kind, config):
    """A component from its JSON, by way of a tokenizer.json."""
    d = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
         "pre_tokenizer": None, "post_processor": None, "decoder": None,
         "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}}
    d[kind] = config
    return getattr(Tokenizer.from_str(json.dumps(d)), kind)


def normal(**config):
    n = component("normalizer", config)
    rows.append({"kind": "normalizer", "config": config, "cases": [[t, n.normalize_str(t)] for t in texts]})


def pre(**config):
    p = component("pre_tokenizer", config)
    rows.append({"kind": "pre_tokenizer", "config": config,
                 "cases": [[t, [s for s, _ in p.pre_tokenize_str(t)]] for t in texts if t]})


def dec(lists, **config):
    d = component("decoder", config)
    rows.append({"kind": "decoder", "config": config, "cases": [[list(l), d.decode(list(l))] for l in lists]})




def fields(b):
    """The length-delimited fields of a protocol-buffer message."""
    def varint(i):
        v = s = 0
        while True:
            v, s, i = v | (b[i] & 127) << s, s + 7, i + 1
            if b[i - 1] < 128:
                return v, i
    i = 0
    while i < len(b):
        key, i = varint(i)
        n, i = varint(i) if key & 7 in (0, 2) else (4, i)
        if key & 7:
            yield key >> 3, b[i:i + n]
            i += n


spec = [v for k, v in fields(open(sys.argv[2], "rb").read()) if k == 3][0]
charsmap = base64.b64encode([v for k, v in fields(spec) if k == 2][0]).decode()
for name in "NFC NFD NFKC NFKD Lowercase StripAccents Nmt ByteLevel".split():
    normal(type=name)
for left in (True, False):
    for right in (True, False):
        normal(type="Strip", strip_left=left, strip_right=right)
normal(type="Prepend", prepend="▁")
normal(type="Replace", pattern={"String": " "}, content="▁")
normal(type="Replace", pattern={"Regex": " {2,}"}, content=" ")
normal(type="Replace", pattern={"Regex": r"\s+$"}, content="<$0>")
for clean in (True, False):
    for accents in (True, False, None):
        normal(type="BertNormalizer", clean_text=clean, handle_chinese_chars=not accents, strip_accents=accents, lowercase=clean)
normal(type="Precompiled", precompiled_charsmap=charsmap)
normal(type="Sequence", normalizers=[{"type": "NFKC"}, {"type": "Strip", "strip_left": True, "strip_right": False},
                                     {"type": "Lowercase"}, {"type": "Prepend", "prepend": "x"}])

for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
    pre(type="Punctuation", behavior=behavior)
    for invert in (True, False):
        pre(type="Split", pattern={"String": " "}, behavior=behavior, invert=invert)
        pre(type="Split", pattern={"Regex": r"\p{N}{1,3}"}, behavior=behavior, invert=invert)
        pre(type="Split", pattern={"Regex": r"\p{Lu}|\s+"}, behavior=behavior, invert=invert)
        pre(type="Split", pattern={"Regex": r"(?=[A-Z])"}, behavior=behavior, invert=invert)
for digits in (True, False):
    pre(type="Digits", individual_digits=digits)
    for regex in (True, False):
        pre(type="ByteLevel", add_prefix_space=digits, trim_offsets=True, use_regex=regex)
for scheme in ("always", "never", "first"):
    for split in (True, False):
        pre(type="Metaspace", replacement="▁", prepend_scheme=scheme, split=split)
pre(type="Sequence", pretokenizers=[{"type": "WhitespaceSplit"},
                                    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}])
for name in "Whitespace WhitespaceSplit BertPreTokenizer UnicodeScripts".split():
    pre(type=name)
pre(type="CharDelimiterSplit", delimiter=",")
pre(type="FixedLength", length=3)
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
for expr in (GPT2, LLAMA3, LLAMA3.replace("{1,3}", ""), CL100K, O200K, r"\w+|[^\w\s]+", r"[一-龥]+", "[0-9][0-9][0-9]", r"\d", r"\p{N}+",
             r" ?[^(\s|.,!?…。，、।۔،)]+", r"\p{Han}+", "^.", r".$"):
    pre(type="Split", pattern={"Regex": expr}, behavior="Isolated", invert=False)

lists = [["▁Hello", "▁wor", "ld", "▁", "▁!"], ["Ġa", "b", "ÄĬ", "é", "你"], ["<0xE4>", "<0xBD>", "<0xA0>", "a", "<0xE4>", "<0xBD>", "b", "<0xFF>"],
         ["[CLS]", "hel", "##lo", ",", "do", "not", "'", "s", "n't", "##x"], ["low</w>", "er</w>", "x"], ["a", "a", "<pad>", "a", "|", "|", "b"],
         ["▁▁", "▁x"], [" a ", " b "], [], ["<0x41>"], ["", "▁"], ["'", "s", "."], ["ð", "Ł", "ĺ", "Ģ", "ð"]]
dec(lists, type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)
dec(lists, type="ByteFallback")
dec(lists, type="Fuse")
dec(lists, type="Replace", pattern={"String": "▁"}, content=" ")
dec(lists, type="Replace", pattern={"Regex": "[ab]"}, content="<>")
dec([["a ", " b c ", "x"], ["  ab  "]], type="Strip", content=" ", start=1, stop=1)  # it panics on an empty token
for scheme in ("always", "never", "first"):
    dec(lists, type="Metaspace", replacement="▁", prepend_scheme=scheme, split=True)
for cleanup in (True, False):
    dec(lists, type="WordPiece", prefix="##", cleanup=cleanup)
    dec(lists, type="CTC", pad_token="<pad>", word_delimiter_token="|", cleanup=cleanup)
dec(lists, type="BPEDecoder", suffix="</w>")
dec(lists, type="Sequence", decoders=[{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
                                      {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}])


def whole(name, tok, edit=None):
    d = json.loads(tok.to_str())
    if edit:
        edit(d)
    tok = Tokenizer.from_str(json.dumps(d))
    cases = []
    for t in texts:
        ids = tok.encode(t, add_special_tokens=False).ids
        cases.append([t, ids, tok.encode(t).ids, tok.decode(ids, skip_special_tokens=False), tok.decode(ids)])
    rows.append({"kind": "tokenizer", "name": name, "config": d, "cases": cases})


def added(d, *tokens):
    n = max([t["id"] for t in d["added_tokens"]] + [len(d["model"]["vocab"]) - 1]) + 1
    for i, t in enumerate(tokens):
        base = dict(id=n + i, content="", single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
        base.update(t)
        d["added_tokens"].append(base)


def flags(d):
    added(d, dict(content="<mask>", lstrip=True, special=True), dict(content="new", single_word=True, normalized=True),
          dict(content="World", rstrip=True), dict(content="Wor", normalized=True), dict(content="你好", lstrip=True, rstrip=True, normalized=True))


tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
tok.normalizer, tok.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
tok.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
tok.decoder = decoders.WordPiece()
tok.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
whole("bert", tok, flags)
tok = Tokenizer(models.WordLevel(unk_token="[UNK]"))
tok.pre_tokenizer = pre_tokenizers.Whitespace()
tok.train_from_iterator(texts, trainers.WordLevelTrainer(vocab_size=120, special_tokens=["[UNK]"]))
whole("wordlevel without decoder", tok, flags)
for fallback in (False, True):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(tokenizers.Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.train_from_iterator(texts[:100], trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<pad>", "</s>", "<unk>"]))
    tok.decoder = decoders.Metaspace()

    def edit(d, fallback=fallback):
        if fallback:
            d["model"]["byte_fallback"] = True
            d["model"]["vocab"] += [[f"<0x{b:02X}>", -30.0] for b in range(256)]
        flags(d)
    tok.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    whole(f"unigram, byte_fallback {fallback}", tok, edit)
for fuse in (False, True):
    tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=fuse))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    tok.train_from_iterator(texts[:60], trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"]))
    whole(f"bpe, fuse_unk {fuse}", tok, flags)
tok = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
tok.train_from_iterator(texts[:60], trainers.BpeTrainer(vocab_size=300, special_tokens=["<unk>"]))
whole("bpe over whole texts, fuse_unk", tok)
tok = Tokenizer(models.BPE())
tok.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok.train_from_iterator(texts[:60], trainers.BpeTrainer(vocab_size=300))
whole("bpe without unk", tok)
tok = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
tok.normalizer, tok.pre_tokenizer, tok.decoder = normalizers.Lowercase(), pre_tokenizers.WhitespaceSplit(), decoders.BPEDecoder()
tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], end_of_word_suffix="</w>"))
whole("bpe with end_of_word_suffix", tok)
tok = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
tok.pre_tokenizer, tok.decoder = pre_tokenizers.WhitespaceSplit(), decoders.WordPiece()
tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>"], continuing_subword_prefix="##"))
whole("bpe with continuing_subword_prefix", tok)
tok = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
tok.train_from_iterator(texts[:60], trainers.BpeTrainer(vocab_size=500, special_tokens=["<unk>"] + [f"<0x{b:02X}>" for b in range(256) if b != 0xE4]))


def partial(d):
    d["added_tokens"] = d["added_tokens"][:1]


whole("bpe, byte_fallback without one byte", tok, partial)
tok = Tokenizer(models.BPE(ignore_merges=True))
tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, special_tokens=["<s>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
tok.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
whole("roberta", tok, flags)

with open(sys.argv[3], "wb") as raw, gzip.GzipFile("", "wb", 9, raw, 0) as out:
    for row in rows:
        out.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
print(len(rows), "components")
