#!/usr/bin/env python3
"""Show that llama.cpp reads what `pumice quantize` writes, and computes the same from it.

    quantize-peer.py --server PATH/llama-server [--pumice bin/pumice] [--model FILE.gguf] [--types q8_0,q4_0,q4_k,q6_k] [--families llama,xverse]

Files: MODEL in each of TYPES; and for each family a random model of its shape with a tokenizer of tokenizer/testdata, in F32
(`pumice synth`). Of each the server tokenizes a text and gives the ten likeliest tokens after a prompt; a row says whether its tokens
are pumice's, how many of the ten are pumice's ten, and the greatest difference of their log-probabilities. The exit status is 1 where
tokens or the likeliest one differ. GGML_VK_VISIBLE_DEVICES=0 is set if it isn't, without which llama.cpp skips CPU Vulkan devices.
Only the standard library is used.
"""

import argparse
import array
import gzip
import json
import math
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

TOKENIZERS = pathlib.Path(__file__).resolve().parent.parent / "tokenizer" / "testdata"
# family, tokenizer, its tokens, shape
FAMILIES = [
    ("xverse", "xverse-a", 6000, ""), ("llama", "smollm2", 49152, "--kv-heads 2"), ("qwen2", "bbpe-qwen2", 8000, "--kv-heads 2"),
    ("qwen3", "bbpe-qwen2", 8000, "--kv-heads 2"), ("falcon", "bbpe-falcon", 8000, ""), ("chatglm", "spm-chatglm2", 8000, "--kv-heads 2"),
    ("mpt", "bbpe-neox", 8000, ""), ("phi3", "spm-llama", 8000, "--kv-heads 2"), ("gemma2", "spm-llama", 8000, "--kv-heads 2"),
    ("smollm3", "smollm2", 49152, "--kv-heads 2"), ("internlm", "spm-internlm", 8000, ""), ("mistral", "spm-llama", 8000, "--kv-heads 2"),
]
TEXT = "It is 1234, isn't it?  你好"
PROMPT = "The capital of France is"


def run(*command):
    r = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if r.returncode != 0:
        sys.exit(f"quantize-peer.py: {' '.join(map(str, command))}:\n{r.stderr[-2000:]}")
    return r.stdout


class Server:
    def __init__(self, program, model):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        env = dict(os.environ)
        env.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
        env["LD_LIBRARY_PATH"] = os.path.dirname(os.path.abspath(program)) + ":" + env.get("LD_LIBRARY_PATH", "")
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen([program, "-m", str(model), "--host", "127.0.0.1", "--port", str(self.port), "-c", "512", "-np", "1",
                                         "-ngl", "99", "-fa", "off"], stdout=self.log, stderr=self.log, env=env)

    def __enter__(self):
        while True:
            try:
                self.request("/health")
                return self
            except (urllib.error.URLError, OSError):
                if self.process.poll() is not None:
                    self.log.seek(0)
                    sys.exit(self.log.read()[-2000:].decode(errors="replace"))
                time.sleep(0.1)

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def request(self, path, body=None):
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})) as r:
            return json.load(r)


def compare(args, name, model, scratch, special=True):
    with Server(args.server, model) as s:
        theirs, prompt = (s.request("/tokenize", {"content": text, "add_special": special})["tokens"] for text in (TEXT, PROMPT))
        answer = s.request("/completion", {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": 10, "cache_prompt": False, "post_sampling_probs": False})
    top = {t["id"]: t["logprob"] for t in answer["completion_probabilities"][0]["top_logprobs"]}
    ours = json.loads(run(args.pumice, "tokenize", model, "--json", f"--add-special={str(special).lower()}", TEXT))["ids"]
    output = scratch / "logits"
    run(args.pumice, "logits", model, "--tokens", ",".join(map(str, prompt)), "--output", output, "--kv-type", "f32", "--context", 512, "--quiet")
    row = array.array("f", output.read_bytes())
    total = log_sum_exp(row)
    best = sorted(range(len(row)), key=lambda i: -row[i])[:10]
    worst = max(abs(p - (row[i] - total)) for i, p in top.items())
    good = theirs == ours and max(top, key=top.get) == best[0]
    print(f"| {name} | {'same' if theirs == ours else 'DIFFER'} | {'same' if max(top, key=top.get) == best[0] else 'DIFFERS'} "
          f"| {len(set(top) & set(best))} | {worst:.4f} |", flush=True)
    return good


def log_sum_exp(row):
    top = max(row)
    return top + math.log(math.fsum(math.exp(v - top) for v in row))


def synthesize(args, family, tokenizer, vocab, shape, scratch):
    directory = pathlib.Path(tempfile.mkdtemp(dir=scratch)) / "random"  # not a name like phi3, by which llama.cpp expects tokens
    run(args.pumice, "synth", "--family", family, "--vocab", vocab, "--hidden", 256, "--heads", 4, "--layers", 4, *shape.split(), "-o", directory, "--quiet")
    for path in (TOKENIZERS / tokenizer).glob("tokenizer*"):
        data = path.read_bytes()
        (directory / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(data) if path.suffix == ".gz" else data)
    return directory


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--server", required=True)
    p.add_argument("--pumice", default="bin/pumice")
    p.add_argument("--model")
    p.add_argument("--families", default=",".join(f[0] for f in FAMILIES))
    p.add_argument("--types", default="q8_0,q4_0,q4_k,q6_k")
    args = p.parse_args()
    print("| file | tokens | likeliest | of ten | greatest difference of log-probability |\n|---|---|---|---|---|")
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for t in args.types.split(",") if args.model else []:
            run(args.pumice, "quantize", args.model, scratch / f"{t}.gguf", "--type", t, "--quiet")
            good &= compare(args, f"{os.path.basename(args.model)} as {t}", scratch / f"{t}.gguf", scratch)
        for family, tokenizer, vocab, shape in FAMILIES:
            if family not in args.families.split(","):
                continue
            directory = synthesize(args, family, tokenizer, vocab, shape, scratch)
            run(args.pumice, "quantize", directory, scratch / f"{family}.gguf", "--type", "f32", "--quiet")
            # llama.cpp leaves ChatGLM's first two tokens to the chat template.
            good &= compare(args, f"random {family}, tokenizer {tokenizer}", scratch / f"{family}.gguf", scratch, family != "chatglm")
    sys.exit(0 if good else 1)


main()
