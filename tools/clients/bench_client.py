"""Compares what llama-benchy, GuideLLM and pumice bench say of a server: URL NAME MODEL.gguf WORK LLAMA-BENCHY GUIDELLM [FLAG...].

WORK is a folder for files, with the program pumice in it. The clients need a tokenizer of Hugging Face's format, for lengths of
prompts only: it is made from the vocabulary in MODEL, a byte-level BPE whose digits stand alone (SmolLM2).
"""

import argparse
import functools
import http.server
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import threading

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

LIMIT = 0.05
LOWEST = 19  # a CPU driver computes on the processors that the clients use
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def metadata(path):
    """The keys and values of a GGUF file."""
    with open(path, "rb") as f:
        def number(kind):
            return struct.unpack("<" + kind, f.read(struct.calcsize("<" + kind)))[0]

        def text():
            return f.read(number("Q")).decode()

        def value(kind):
            if kind == 8:
                return text()
            if kind == 9:
                of, n = number("I"), number("Q")
                return [value(of) for _ in range(n)]
            return number("BbHhIif?__Qqd"[kind])

        f.seek(16)
        return {text(): value(number("I")) for _ in range(number("Q"))}


def tokenizer(model, folder):
    """Writes tokenizer.json of a model's vocabulary, and what says which class reads it."""
    of = metadata(model)
    tokens, merges = of["tokenizer.ggml.tokens"], of["tokenizer.ggml.merges"]
    t = Tokenizer(models.BPE({text: i for i, text in enumerate(tokens)}, [tuple(m.split(" ", 1)) for m in merges]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    folder.mkdir()
    t.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')


def run(work, *command, nice=0):
    env = dict(os.environ, HOME=str(work), HF_HUB_OFFLINE="1", NO_COLOR="1")
    done = subprocess.run([str(x) for x in command], env=env, cwd=work, capture_output=True, text=True, preexec_fn=lambda: os.nice(nice))
    if done.returncode:
        sys.exit(f"bench_client: {command[0]}: {done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def main():
    p = argparse.ArgumentParser()
    for name in ("url", "name", "model", "work", "benchy", "guidellm"):
        p.add_argument(name)
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--prompt", type=int, default=128)
    p.add_argument("--gen", type=int, default=64)
    p.add_argument("--requests", type=int, default=8)
    o = p.parse_args()
    work = pathlib.Path(o.work)
    tokenizer(o.model, work / "tokenizer")
    (work / "book").mkdir()
    (work / "book" / "book.txt").write_text((ROOT / "bench/text/english.txt").read_text() * 8)
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    book = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=work / "book"))
    threading.Thread(target=book.serve_forever, daemon=True).start()

    def pumice():
        rows = json.loads(run(work, work / "pumice", "--quiet", "bench", o.model, "-p", o.prompt, "-n", o.gen, "--load", 1,
                              "-r", max(1, o.requests // 4), "--stamp=false", "-o", "json"))
        return rows[0]["median_ttft_ms"], rows[0]["median_tpot_ms"]

    def benchy():
        run(work, o.benchy, "--base-url", o.url + "/v1", "--model", o.name, "--tokenizer", work / "tokenizer", "--book-url",
            f"http://127.0.0.1:{book.server_address[1]}/book.txt", "--pp", o.prompt, "--tg", o.gen, "--exact-tg", "--runs", o.requests,
            "--no-cache", "--skip-coherence", "--latency-mode", "none", "--format", "json", "--save-result", work / "benchy.json", nice=LOWEST)
        row = json.loads((work / "benchy.json").read_text())["benchmarks"][0]
        return statistics.median(row["e2e_ttft"]["values"]), 1000 / statistics.median(row["tg_throughput"]["values"])

    def guidellm():
        run(work, o.guidellm, "run", "--backend", f"kind=openai_http,target={o.url},model={o.name},request_format=/v1/completions",
            "--profile", "kind=synchronous", "--constraint", f"kind=max_requests,count={o.requests}", "--tokenizer",
            f"kind=hf_auto,model={work / 'tokenizer'}", "--data", f"kind=synthetic_text,prompt_tokens={o.prompt},output_tokens={o.gen}",
            "--output", f"kind=json,path={work / 'guidellm.json'}", "--disable-console", "--seed", f"kind=static,value={len(seen[guidellm])}",
            nice=LOWEST)
        of = json.loads((work / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
        return tuple(of[name]["successful"]["median"] for name in ("time_to_first_token_ms", "inter_token_latency_ms"))

    # On a shared machine minutes differ by more than the programs: a round is short, its order changes, and ratios are of a round.
    programs = [pumice, benchy, guidellm]
    seen = {f: [] for f in programs}
    for n in range(o.rounds):
        for f in programs[n % 3:] + programs[:n % 3]:
            seen[f].append(f())
    print(f"prompts of {o.prompt} tokens, {o.gen} generated, {o.rounds} rounds of {o.requests} requests; medians, ms\n")
    print("| program | first token | ratio | each further one | ratio |\n|---|---|---|---|---|")
    wrong = False
    for f in programs:
        first, more = (statistics.median(x) for x in zip(*seen[f]))
        ratios = [statistics.median(x / y for x, y in zip(theirs, ours)) for theirs, ours in zip(zip(*seen[f]), zip(*seen[pumice]))]
        print(f"| {f.__name__} | {first:.1f} | {ratios[0]:.3f} | {more:.2f} | {ratios[1]:.3f} |")
        wrong |= any(abs(x - 1) > LIMIT for x in ratios)
    if wrong:
        sys.exit("bench_client: they differ by more than 5 %")


main()
