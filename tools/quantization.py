#!/usr/bin/env python3
"""Measure what each weight type and each type of KV cache costs in quality, and write the table of docs/quantization.md.

    tools/quantization.py --model MODEL [--spread] [--pumice bin/pumice] [--text FILE] [--window N] [--types q8_0,q4_k] [--doc FILE]

The base is the model with everything in float32. Each other row is the same model with its matrices converted while loading
(--dtype T, float32 cache), or with another cache (--kv-type T, float32 weights): its perplexity, and the divergence of its
distributions from the base's at every predicted token of the text, in windows side by side of which the second half counts.
--spread moves the weights of a quantised GGUF file off their steps first (tools/spread says why).
Python's standard library is enough. Without --doc the table goes to standard output only.
"""
import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import textwrap

TYPES = ["f16", "bf16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "iq4_xs", "iq4_nl", "q4_1", "q4_0", "q3_k", "q2_k"]
CACHES = ["f16", "q8_0"]
BEGIN, END = "<!-- quantization:begin -->\n", "<!-- quantization:end -->\n"


class Pumice:
    def __init__(self, program, model):
        self.program, self.model, self.device = program, model, ""

    def json(self, command, *flags):
        r = subprocess.run([self.program, command, self.model, "--json", "--quiet", *flags], stdout=subprocess.PIPE, text=True)
        if r.returncode != 0:
            sys.exit(f"quantization.py: {command} {' '.join(flags)} ended with status {r.returncode}")
        return json.loads(r.stdout)

    def bits(self, dtype):
        info = self.json("inspect", "--dtype", dtype)
        self.device = info["memory"]["device"]
        return 8 * info["memory"]["weights_bytes"] / info["parameters"]


def row(name, bits, r):
    kl = r["kl"]
    return (f"| {name} | {bits:.2f} | {r['perplexity']:.3f} | {100 * (kl['perplexity_ratio'] - 1):+.2f} % "
            f"| {kl['kl_mean']:.5f} ± {kl['kl_stderr']:.5f} | {kl['kl_greatest']:.3f} | {100 * kl['same_top']:.1f} % |")


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--model", required=True)
    p.add_argument("--spread", action="store_true")
    p.add_argument("--pumice", default="bin/pumice")
    p.add_argument("--text", default="eval/testdata/perplexity/prose.txt")
    p.add_argument("--window", default="240")
    p.add_argument("--types", default=",".join(TYPES))
    p.add_argument("--caches", default=",".join(CACHES))
    p.add_argument("--doc")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model
        if args.spread:
            model = os.path.join(scratch, "spread.gguf")
            subprocess.run(["go", "run", "./tools/spread", args.model, model], check=True)
        pumice = Pumice(args.pumice, model)
        base = os.path.join(scratch, "base")
        exact = ["--dtype", "f32", "--kv-type", "f32"]
        r = pumice.json("perplexity", *exact, "--file", args.text, "--window", args.window, "--kl-base", base)
        bits = pumice.bits("f32")
        lines = ["| weights | bits a weight | perplexity | against f32 | KL divergence from f32, nats | greatest | same likeliest token |",
                 "|---|---|---|---|---|---|---|", f"| f32 | {bits:.2f} | {r['perplexity']:.3f} | | | | |"]
        windows, tokens = r["chunks"], r["tokens"]
        print(*lines, sep="\n", flush=True)
        for kind, names in (("dtype", args.types), ("kv-type", args.caches)):
            for name in filter(None, names.split(",")):
                flags = ["--dtype", name, "--kv-type", "f32"] if kind == "dtype" else ["--dtype", "f32", "--kv-type", name]
                r = pumice.json("perplexity", *flags, "--kl", "--kl-base", base)
                label = name if kind == "dtype" else f"f32, cache {name}"
                lines.append(row(label, pumice.bits(flags[1]), r))
                print(lines[-1], flush=True)
    if not args.doc:
        return
    load = "{:.1f}".format(os.getloadavg()[1])
    spread = " with its weights spread" if args.spread else ""
    note = (f"{os.path.basename(args.model)}{spread}, {tokens} tokens predicted in {windows} windows of {args.window} of `{args.text}`, "
            f"on {pumice.device}, {datetime.date.today()}, load {load}:")
    note = textwrap.fill(note, 120, break_long_words=False, break_on_hyphens=False)
    with open(args.doc) as f:
        doc = f.read()
    before, rest = doc.split(BEGIN)
    _, after = rest.split(END)
    with open(args.doc, "w") as f:
        f.write(before + BEGIN + note + "\n\n" + "\n".join(lines) + "\n" + END + after)


if __name__ == "__main__":
    main()
