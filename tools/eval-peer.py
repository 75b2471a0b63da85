#!/usr/bin/env python3
"""Asks a llama.cpp server the questions that `pumice eval --log-samples` asked, and prints one JSON object with both times.

  eval-peer.py --server PATH/llama-server --model FILE.gguf --results DIR --task NAME [--limit N] [--] [server's own flags]

DIR is the --output-path of pumice eval. The server keeps one slot's prompt cache, so that the examples are evaluated once there
too. Its time is that of the requests, without its start; pumice's is that of its answers, without loading the model.
GGML_VK_VISIBLE_DEVICES=0 is set if it isn't, without which llama.cpp skips CPU Vulkan devices. Only the standard library is used.
"""

import argparse
import glob
import json
import os
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request


def main():
    ap = argparse.ArgumentParser()
    for name in ("server", "model", "results", "task"):
        ap.add_argument("--" + name, required=True)
    ap.add_argument("--limit", type=int)
    ap.add_argument("flags", nargs="*")
    args = ap.parse_args()
    with open(sorted(glob.glob(os.path.join(args.results, f"samples_{args.task}_*.jsonl")))[-1]) as f:
        samples = [json.loads(line) for line in f][: args.limit]
    with open(os.path.join(args.results, "journal.jsonl")) as f:
        seconds = {(r["task"], r["id"]): r["seconds"] for r in map(json.loads, f) if "id" in r}
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    longest = max(s["n_tokens"] for s in samples)
    env = dict(os.environ)
    env.setdefault("GGML_VK_VISIBLE_DEVICES", "0")
    env["LD_LIBRARY_PATH"] = os.path.dirname(os.path.abspath(args.server)) + ":" + env.get("LD_LIBRARY_PATH", "")
    log = tempfile.TemporaryFile()
    server = subprocess.Popen([args.server, "-m", args.model, "--host", "127.0.0.1", "--port", str(port), "-c", str(longest + 64), "-np", "1",
                               "-ngl", "99", "-b", "512", "-ub", "512", *args.flags], stdout=log, stderr=log, env=env)

    def request(path, body=None):
        data = json.dumps(body).encode() if body else None
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})) as r:
            return json.load(r)

    def cpu():
        with open(f"/proc/{server.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    try:
        while True:
            try:
                request("/health")
                break
            except (urllib.error.URLError, OSError):
                if server.poll() is not None:
                    log.seek(0)
                    raise SystemExit(log.read()[-2000:].decode(errors="replace"))
                time.sleep(0.1)
        start, cpu_start, evaluated, same, worst = time.monotonic(), cpu(), 0, 0, 0.0
        for s in samples:
            r = request("/completion", {"prompt": s["arguments"]["gen_args_0"]["arg_0"], "n_predict": 1, "temperature": 0, "n_probs": 1000,
                                        "cache_prompt": True, "post_sampling_probs": False})
            evaluated += r["timings"]["prompt_n"]
            top = {t["id"]: t["logprob"] for t in r["completion_probabilities"][0]["top_logprobs"]}
            theirs = [top.get(i, float("-inf")) for i in s["choice_ids"]]
            same += "ABCDEFG"[theirs.index(max(theirs))] == s["pred"]
            worst = max([worst] + [abs(a - b) for a, b in zip(theirs, s["logprobs"]) if a > float("-inf")])
        took, cpu_took = time.monotonic() - start, cpu() - cpu_start
    finally:
        server.terminate()
        server.wait()
    ours = sum(seconds[s["task"], s["id"]] for s in samples)
    print(json.dumps({"task": args.task, "questions": len(samples), "tokens": sum(s["n_tokens"] for s in samples), "peer_evaluated": evaluated,
                      "peer_s": round(took, 1), "peer_cpu_s": round(cpu_took, 1), "pumice_s": round(ours, 1), "ratio": round(took / ours, 2),
                      "same_answer": same, "logprob_greatest_difference": round(worst, 4)}))


if __name__ == "__main__":
    main()
