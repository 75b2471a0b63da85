"""Compares what llama-benchy, GuideLLM and pumice bench say of a server: URL NAME MODEL.gguf WORK LLAMA-BENCHY GUIDELLM [FLAG...].

Between each program and the server is a proxy that notes when requests and events pass. A program is right if it says of its
requests what passed: whether two agree does not depend on how fast the machine was when each ran.

WORK is a folder for files, with the program pumice in it. The clients need a tokenizer of Hugging Face's format, for lengths of
prompts only: it is made from the vocabulary in MODEL, a byte-level BPE whose digits stand alone (SmolLM2).
"""

import argparse
import functools
import http.client
import http.server
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.parse

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


class Proxy(http.server.BaseHTTPRequestHandler):
    """Hands requests on to `server`, and notes in `passed` of each stream when it was asked for and when its events came."""

    protocol_version = "HTTP/1.1"
    server_at, passed = None, []

    def log_message(self, *_):
        pass

    def hand_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked, events = time.perf_counter(), []
        to = http.client.HTTPConnection(*self.server_at)
        to.request(self.command, self.path, body, {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")})
        answer = to.getresponse()
        streams = "event-stream" in answer.headers.get("Content-Type", "")
        self.send_response(answer.status)
        for k, v in answer.headers.items():
            if k.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(k, v)
        if not streams:
            body = answer.read()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while part := answer.read1():
                if b"data: {" in part:
                    events.append(time.perf_counter())
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            self.passed.append((asked, events))
        to.close()

    do_GET = do_POST = do_HEAD = hand_on


def main():
    p = argparse.ArgumentParser()
    for name in ("url", "name", "model", "work", "benchy", "guidellm"):
        p.add_argument(name)
    p.add_argument("--prompt", type=int, default=128)
    p.add_argument("--gen", type=int, default=64)
    p.add_argument("--requests", type=int, default=12, help="a multiple of four")
    o = p.parse_args()
    work = pathlib.Path(o.work)
    tokenizer(o.model, work / "tokenizer")
    (work / "book").mkdir()
    (work / "book" / "book.txt").write_text((ROOT / "bench/text/english.txt").read_text() * 8)
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    book = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=work / "book"))
    threading.Thread(target=book.serve_forever, daemon=True).start()
    at = urllib.parse.urlsplit(o.url)
    Proxy.server_at = at.hostname, at.port
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{proxy.server_address[1]}"

    def pumice():
        rows = json.loads(run(work, work / "pumice", "--quiet", "bench", o.model, "-p", o.prompt, "-n", o.gen, "--load", 1, "-r",
                              o.requests // 4, "--stamp=false", "--peer", "llama-server=" + url, "-o", "json"))
        return rows[1]["median_ttft_ms"], rows[1]["median_tpot_ms"]

    def benchy():
        run(work, o.benchy, "--base-url", url + "/v1", "--model", o.name, "--tokenizer", work / "tokenizer", "--book-url",
            f"http://127.0.0.1:{book.server_address[1]}/book.txt", "--pp", o.prompt, "--tg", o.gen, "--exact-tg", "--runs", o.requests,
            "--no-cache", "--skip-coherence", "--latency-mode", "none", "--format", "json", "--save-result", work / "benchy.json", nice=LOWEST)
        row = json.loads((work / "benchy.json").read_text())["benchmarks"][0]
        return statistics.median(row["e2e_ttft"]["values"]), 1000 / statistics.median(row["tg_throughput"]["values"])

    def guidellm():
        run(work, o.guidellm, "run", "--backend", f"kind=openai_http,target={url},model={o.name},request_format=/v1/completions",
            "--profile", "kind=synchronous", "--constraint", f"kind=max_requests,count={o.requests}", "--tokenizer",
            f"kind=hf_auto,model={work / 'tokenizer'}", "--data", f"kind=synthetic_text,prompt_tokens={o.prompt},output_tokens={o.gen}",
            "--output", f"kind=json,path={work / 'guidellm.json'}", "--disable-console", "--seed", "kind=static,value=1", nice=LOWEST)
        of = json.loads((work / "guidellm.json").read_text())["benchmarks"][0]["metrics"]
        return tuple(of[name]["successful"]["median"] for name in ("time_to_first_token_ms", "inter_token_latency_ms"))

    print(f"prompts of {o.prompt} tokens, {o.gen} generated, {o.requests} requests; medians, ms\n")
    print("| program | first token | passed | ratio | each further one | passed | ratio |\n|---|---|---|---|---|---|---|")
    wrong = False
    for f in (pumice, benchy, guidellm):
        says = f()
        streams = Proxy.passed[-o.requests:]  # before are those that warm the server
        first = 1000 * statistics.median(events[0] - asked for asked, events in streams)
        more = 1000 * statistics.median((events[-1] - events[0]) / (o.gen - 1) for _, events in streams)
        print(f"| {f.__name__} | {says[0]:.1f} | {first:.1f} | {says[0] / first:.3f} | {says[1]:.2f} | {more:.2f} | {says[1] / more:.3f} |", flush=True)
        wrong |= abs(says[0] / first - 1) > LIMIT or abs(says[1] / more - 1) > LIMIT
    if wrong:
        sys.exit("bench_client: a program differs from what passed by more than 5 %")


main()
