#!/usr/bin/env python3
"""Train `wordpiece` (lower case, without accents) and `wordpiece-cased`, and write their golden vectors.

    make_wordpiece.py VECTORS.jsonl[.gz] CORPUS... OUT      (tokenizers 0.23.3)

VECTORS.jsonl has the texts, CORPUS are UTF-8 text files; the committed ones are of docs/*.md. Both are BERT's: normalizer,
pre-tokenizer, [CLS] and [SEP] around a text.
"""
import gzip
import json
import os
import sys
import tempfile

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from make_tokenizers import golden

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def main():
    source, *corpus, out = sys.argv[1:]
    with (gzip.open if source.endswith(".gz") else open)(source, "rt", encoding="utf-8", newline="\n") as fh:
        texts = [json.loads(line)["text"] for line in fh]
    names = []
    for name, lower in (("wordpiece", True), ("wordpiece-cased", False)):
        t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        t.normalizer = normalizers.BertNormalizer(lowercase=lower)
        t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        t.decoder = decoders.WordPiece()
        lines = [line for path in corpus for line in open(path, encoding="utf-8")] + texts
        t.train_from_iterator(lines, trainers.WordPieceTrainer(vocab_size=1600, special_tokens=SPECIAL, limit_alphabet=700,
                                                               show_progress=False))
        cls, sep = t.token_to_id("[CLS]"), t.token_to_id("[SEP]")
        t.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", cls), ("[SEP]", sep)])
        os.makedirs(os.path.join(out, name), exist_ok=True)
        t.save(os.path.join(out, name, "tokenizer.json"), pretty=False)
        names.append(name)
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as fh:
        json.dump(texts, fh)
        fh.flush()
        golden(out, out, fh.name, names)
    for name in names:
        path = os.path.join(out, name, "vectors.jsonl")
        with open(path, "rb") as fh, open(path + ".gz", "wb") as to, gzip.GzipFile("", "wb", fileobj=to, mtime=0) as z:
            z.write(fh.read())
        os.remove(path)


if __name__ == "__main__":
    main()
