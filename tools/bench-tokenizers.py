#!/usr/bin/env python3
"""Measures how fast pumice and the Rust library `tokenizers` encode text, turn and turn about in the same minutes.

  tools/bench-tokenizers.py [--tokenizer DIR]... [--rounds 3] [--dir DIR]

`tokenizers` is the build that tools/wheels/tokenizers.txt pins, in a virtual environment in DIR (the user's cache). Both encode the same 4 MB in
one call, on one thread, in a fresh process each round, after one call to warm up; `tokenizers` runs encode_batch_fast,
which leaves out the offsets, and pumice runs its BenchmarkThroughput. The table gives medians of MB (10^6 bytes) of text
per second of processor time, because other programs on the same cores disturb it less than the clock, and with what the
clock gave. Ids are compared one by one; a difference makes the exit status 1.

The English text draws its words from docs/*.md, without docs/tokenizers.md, as often as they stand there. The Chinese
text draws words of Chinese characters from the vocabulary that has most of them, earlier ones more often (Zipf's law).
The seed is fixed. Tokenizers are qwen3 and smollm2 of PUMICE_SHARED (default ../shared), and where those are missing
xverse-b and bbpe-qwen2 of tokenizer/testdata.
"""

import argparse
import array
import hashlib
import json
import os
import pathlib
import platform
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time

TEXT_BYTES = 4_000_000
ROOT = pathlib.Path(__file__).resolve().parent.parent
PIN = ROOT / "tools" / "wheels" / "tokenizers.txt"  # the version and its SHA-256
VERSION = re.search(r"==(\S+)", PIN.read_text()).group(1)
ONE_CORE = {"GOMAXPROCS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def enter_environment(directory):
    """Makes the virtual environment if need be, and runs this script again in it."""
    python = directory / "bin" / "python"
    done = directory / ".tokenizers"  # holds the pin of what is installed there
    if not done.exists() or done.read_text() != PIN.read_text():
        directory.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True, stdout=sys.stderr)
        # Its dependencies only serve downloads from a model hub.
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary", ":all:",
                        "-r", PIN], check=True, stdout=sys.stderr)
        done.write_text(PIN.read_text())
    if pathlib.Path(sys.prefix).resolve() != directory.resolve():
        os.execv(python, [python, __file__, *sys.argv[1:]])


def default_tokenizers():
    shared = pathlib.Path(os.environ.get("PUMICE_SHARED") or ROOT.parent / "shared") / "tokenizers"
    found = [shared / name for name in ("qwen3", "smollm2") if (shared / name / "tokenizer.json").exists()]
    return found or [ROOT / "tokenizer" / "testdata" / name for name in ("xverse-b", "bbpe-qwen2")]


def chinese_words(directory):
    """The vocabulary's tokens of nothing but Chinese characters, by id."""
    import tokenizers
    tok = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    texts = tok.decode_batch([[i] for i in range(tok.get_vocab_size())])
    return list(dict.fromkeys(t for t in texts if re.fullmatch(r"[\u4e00-\u9fff]+", t)))


def write_text(path, words, weights, space, stops):
    """Writes lines of sentences drawn from words until there are TEXT_BYTES; returns how many different ones were drawn."""
    rand = random.Random(1)
    size, lines, drawn = 0, [], set()
    while size < TEXT_BYTES:
        sentences = []
        for _ in range(5):
            some = rand.choices(words, weights, k=rand.randint(4, 16))
            drawn.update(some)
            sentences.append(space.join(some) + rand.choice(stops))
        lines.append(space.join(sentences) + "\n")
        size += len(lines[-1].encode())
    path.write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(drawn)


def measure_library(directory, text, ids):
    """Runs in a process of its own: prints MB/s of processor time and of the clock."""
    import tokenizers
    tok = tokenizers.Tokenizer.from_file(str(pathlib.Path(directory) / "tokenizer.json"))
    data = pathlib.Path(text).read_bytes()
    documents = [data.decode()]
    result = tok.encode_batch_fast(documents, add_special_tokens=False)[0].ids  # warms up
    numbers = array.array("I", result)
    if sys.byteorder == "big":
        numbers.byteswap()
    pathlib.Path(ids).write_bytes(numbers.tobytes())
    clock, cpu = time.perf_counter(), time.process_time()
    tok.encode_batch_fast(documents, add_special_tokens=False)
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    print(json.dumps([len(data) / 1e6 / cpu, len(data) / 1e6 / clock]))


def library(directory, text, ids):
    out = subprocess.run([sys.executable, __file__, "--measure", directory, text, ids], check=True,
                         stdout=subprocess.PIPE, env=dict(os.environ, **ONE_CORE))
    return json.loads(out.stdout)


def pumice(program, directory, text, ids):
    env = dict(os.environ, **ONE_CORE, PUMICE_BENCH_TOKENIZER=str(directory), PUMICE_BENCH_TEXT=str(text),
               PUMICE_BENCH_IDS=str(ids))
    out = subprocess.run([program, "-test.run", "^$", "-test.bench", "^BenchmarkThroughput$", "-test.benchtime", "1x"],
                         check=True, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT / "tokenizer").stdout
    rates = [re.search(rf"([\d.]+) {unit}\b", out) for unit in ("cpu-MB/s", "MB/s")]
    if not all(rates):
        sys.exit("bench-tokenizers: the benchmark gave no rate:\n" + out)
    return [float(r.group(1)) for r in rates]


def compare(a, b):
    """Says where two files of ids differ."""
    mine, theirs = (array.array("I", p.read_bytes()) for p in (a, b))
    if mine == theirs:
        return True, f"{len(mine)} equal"
    at = next((i for i, (x, y) in enumerate(zip(mine, theirs)) if x != y), min(len(mine), len(theirs)))
    return False, f"DIFFER from number {at} on ({len(mine)} and {len(theirs)})"


def span(rates):
    return f"{statistics.median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})"


def main():
    if sys.argv[1:2] == ["--measure"]:
        return measure_library(*sys.argv[2:])
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "pumice"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", action="append", type=pathlib.Path, metavar="DIR", help="a directory with tokenizer.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", default=cache / "tokenizers-venv", type=pathlib.Path)
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    enter_environment(args.dir)
    directories = [d.resolve() for d in args.tokenizer or default_tokenizers()]

    all_equal = True
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        program = work / "tokenizer.test"
        subprocess.run(["go", "test", "-c", "-o", program, "./tokenizer"], check=True, cwd=ROOT, stdout=sys.stderr)

        documents = sorted(p for p in (ROOT / "docs").glob("*.md") if p.name != "tokenizers.md")
        english = [w for p in documents for w in p.read_text(encoding="utf-8").split()]
        chinese = max((chinese_words(d) for d in directories), key=len)
        if not chinese:
            sys.exit("bench-tokenizers: no vocabulary here has Chinese words")
        texts = {
            "English": (english, None, " ", [".", ",", "?", ":"]),
            "Chinese": (chinese, [1 / n for n in range(1, len(chinese) + 1)], "", ["，", "。", "、", "？"]),
        }
        about = []
        for name, recipe in texts.items():
            drawn = write_text(work / name, *recipe)
            digest = hashlib.sha256((work / name).read_bytes()).hexdigest()
            about.append(f"{name} {(work / name).stat().st_size / 1e6:.1f} MB of {drawn} different words, sha256 {digest[:12]}")

        rows = []
        for directory in directories:
            for name in texts:
                rates = {"tokenizers": [], "pumice": []}
                for _ in range(args.rounds):
                    rates["tokenizers"].append(library(directory, work / name, work / "theirs"))
                    rates["pumice"].append(pumice(program, directory, work / name, work / "ours"))
                equal, verdict = compare(work / "ours", work / "theirs")
                all_equal = all_equal and equal
                cpu, clock = ({who: [r[i] for r in rs] for who, rs in rates.items()} for i in (0, 1))
                ratio = statistics.median(cpu["pumice"]) / statistics.median(cpu["tokenizers"])
                by_clock = [statistics.median(clock[who]) for who in ("tokenizers", "pumice")]
                rows.append(f"| {directory.name} | {name} | {span(cpu['tokenizers'])} | {span(cpu['pumice'])} | {ratio:.1f} | "
                            f"{by_clock[0]:.1f} and {by_clock[1]:.1f} | {verdict} |")

    go = subprocess.run(["go", "env", "GOVERSION"], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.strip()
    print(f"tokenizers {VERSION}, Python {platform.python_version()}, {go}; {os.cpu_count()} cores, load average "
          f"{os.getloadavg()[0]:.1f}; {time.strftime('%Y-%m-%d')}; medians of {args.rounds} rounds (worst to best), MB/s on one core\n")
    print("; ".join(about) + "\n")
    print("| tokenizer | text | tokenizers | pumice | ratio | by the clock | ids |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
