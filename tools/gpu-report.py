#!/usr/bin/env python3
"""Collects what tools/gpu-lab.sh measures and reports on it. Only Python's standard library is used.

  gpu-report.py add STAGES --stage NAME --kind KIND --rc N --seconds S --box S OUTPUT ERRORS   appends a stage's line to the file STAGES
  gpu-report.py sweep STAGES VARIANTS ...    measures the variants of kernels that VARIANTS lists, each after a check
  gpu-report.py finish STAGES REPORT ...     writes report.json of the stages, and prints its page
  gpu-report.py page REPORT... [--output F]  makes a page in Markdown of one or more report.json of one device

A stage's line is JSON: its name, how it ended, how long it took of the seconds it may take, and `data`, which is its output as
KIND says: json as it is; go, the lines of Go's benchmarks; verify, what pumice verify --json writes, in short; peer, that of
tools/bench-peer.py --json; text, the beginning. What can't be read is kept as text.
"""

import argparse
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import time

# ----- reading


def read_go(text):
    """Lines of Go's benchmarks: BenchmarkMatvec/Q4_0/sg/cold/4096x4096-16  20  1234 ns/op  56 MB/s  7.8 us/dispatch"""
    rows = []
    for line in text.splitlines():
        match = re.match(r"Benchmark(\S+?)(?:-\d+)?\s+(\d+)\s+(.*)", line)
        if not match:
            continue
        values = match.group(3).split()
        rows.append({"name": match.group(1), "runs": int(match.group(2)),
                     **{unit: float(value) for value, unit in zip(values[::2], values[1::2])}})
    if not rows:
        raise ValueError("no benchmark has run")
    return rows


def read_verify(text):
    checks = json.loads(text)
    worst = {}
    for check in checks:
        share = check["max_rel"] / check["tolerance"] if check["tolerance"] else check["max_rel"]
        worst[check["kernel"]] = max(worst.get(check["kernel"], 0), share)
    return {"checks": len(checks), "kernels": len(worst), "wrong": [c for c in checks if not c["ok"]][:50]}


READERS = {"json": json.loads, "go": read_go, "verify": read_verify, "peer": json.loads, "text": lambda text: text[:20000]}


def record(kind, output, errors, **stage):
    """A stage's line."""
    try:
        data = READERS[kind](output)
    except (ValueError, KeyError, TypeError):
        kind, data = "text", output[:20000]
    line = {**stage, "kind": kind, "data": scrub(data)}
    if stage["rc"] != 0:
        line["errors"] = errors[-2000:]
    return line


def scrub(data):
    """data without what names the machine or its owner: device ids, and folders of files."""
    if isinstance(data, list):
        return [scrub(x) for x in data]
    if isinstance(data, dict):
        return {k: os.path.basename(v) if k == "model_filename" else scrub(v) for k, v in data.items() if k != "uuid"}
    return data


def append(stages, line):
    with open(stages, "a", encoding="utf-8") as f:
        f.write(json.dumps(line) + "\n")


def outcome(stage):
    """How a stage ended, in a word or two. `timeout` exits with 124 where it stopped the stage, with 137 where it had to kill it."""
    if stage["rc"] in (124, 137):
        return "out of time"
    return "ok" if stage["rc"] == 0 else f"status {stage['rc']}"


def add(args):
    output, errors = (pathlib.Path(f).read_text(encoding="utf-8", errors="replace") for f in (args.output, args.errors))
    append(args.stages, record(args.kind, output, errors, stage=args.stage, rc=args.rc, seconds=args.seconds, box=args.box))


# ----- sweeps


def read_variants(path):
    """Rows of lab/variants.txt."""
    rows = []
    for line in pathlib.Path(path).read_text(encoding="utf-8").splitlines():
        fields = line.split("#")[0].split()
        if fields:
            name, kernel, weights, benchmark, defines, numbers = fields
            rows.append({"name": name, "kernel": kernel, "type": weights, "benchmark": benchmark,
                         "defines": [] if defines == "-" else defines.split(","),
                         "numbers": "" if numbers == "-" else numbers.replace(";", " ")})
    return rows


CHECKED = {True: "right", False: "WRONG", None: "not run"}


def sweep(args):
    """Checks and times every variant, one after another, each in processes of its own."""
    end = time.monotonic() + args.seconds
    run = shlex.split(args.run)
    print(f"{'variant':34} {'check':8} {'us/dispatch of each shape':30}")
    for row in read_variants(args.variants):
        left = end - time.monotonic()
        if left < 5:
            print("out of time: the variants below are not measured")
            break
        env = dict(os.environ, PUMICE_SPV=str(pathlib.Path(args.kernels) / row["name"]), PUMICE_LAB=row["numbers"])
        start = time.monotonic()

        def call(command):
            try:
                done = subprocess.run(run + command, env=env, capture_output=True, text=True, timeout=min(args.box, left), check=False)
            except subprocess.TimeoutExpired:
                return None, "", "out of time"
            return done.returncode, done.stdout, done.stderr

        rc, out, err = call([args.pumice, "--quiet", "verify", "--quick", "--types", row["type"], "--kernels", row["kernel"], "--json",
                             "--cache-dir", "none"])
        try:
            checks = json.loads(out)
            right = rc == 0 and all(check["ok"] for check in checks)
        except ValueError:
            right = None if rc in (1, None) else False  # the device has no such kernel, or the time was over; else it crashed
        times = []
        if right:
            rc, out, err = call([args.benchmarks, "-test.run", "^$", "-test.bench", row["benchmark"], "-test.benchtime", args.runs,
                                 "-scale", str(args.scale)])
            try:
                times = read_go(out)
            except ValueError:
                pass
        line = {"stage": "sweep/" + row["name"], "kind": "variant", "rc": 124 if rc is None else rc, "seconds": time.monotonic() - start,
                "box": args.box, "data": {**row, "right": right, "times": times}}
        if line["rc"]:
            line["errors"] = err[-2000:]
        append(args.stages, line)
        shown = " ".join(f"{t.get('us/dispatch', 0):.1f}" for t in times)
        print(f"{row['name']:34} {CHECKED[right]:8} {shown}", flush=True)


# ----- what is known of devices, and what is aimed at

# Bytes a second by the datasheet, and the dense peak of matrices of float16 summed in float32, operations a second.
DEVICES = [("H200", 4.8e12, 990e12), ("H100", 3.35e12, 990e12), ("4090", 1.008e12, 165e12), ("3090", 0.936e12, 71e12),
           ("7900 XTX", 0.96e12, 123e12), ("A770", 0.56e12, 138e12), ("B580", 0.456e12, 117e12)]

# Shares of the read bandwidth at decoding a 7B model: on devices above 2 TB/s, and below. Shares of the matrix peak at a prompt of 512.
DECODE_AIMS = {"q4_0": (0.55, 0.82), "q8_0": (0.70, 0.88)}
PROMPT_AIMS = {"H200": 0.30, "H100": 0.30, "7900 XTX": 0.60, "4090": 0.75}
DEPTH_AIM = 0.95  # of the speed that the bytes of the cache predict at depth 4096


def known(name):
    """The datasheet's bandwidth and matrix peak; None: not in the table."""
    for part, bandwidth, peak in DEVICES:
        if part in name:
            return part, bandwidth, peak
    return None, None, None


class Report:
    """The stages of one or more reports of one device; a later one's stage takes the place of an earlier one's."""

    def __init__(self, reports):
        self.head = reports[-1]
        self.stages = {}
        for report in reports:
            for stage in report["stages"]:
                self.stages[stage["stage"]] = stage
        devices = self.data("devices") or [{}]
        used = next((r["gpu_info"] for _, r in self.results()), devices[0].get("name"))  # of several devices
        self.device = next((d for d in devices if d.get("name") == used), devices[0])
        self.name = self.device.get("name", "unknown device")

    def data(self, name):
        """A stage's data if it could be read."""
        stage = self.stages.get(name)
        if stage is None or stage["kind"] == "text" and name not in ("system", "peer setup"):
            return None
        return stage["data"]

    def family(self, prefix):
        """The rest of the names of stages that begin so, with their data."""
        return [(name[len(prefix):], self.data(name)) for name in self.stages if name.startswith(prefix) and self.data(name)]

    def benchmarks(self, prefix):
        """Lines of Go's benchmarks of such a name, of all stages."""
        return [row for stage in self.stages.values() if stage["kind"] == "go" for row in stage["data"] if row["name"].startswith(prefix)]

    def read_bandwidth(self):
        """Bytes a second: by the benchmark, or by a profile; on a CPU driver only that knows it."""
        rates = {row["name"]: row["MB/s"] * 1e6 for row in self.benchmarks("Read/") if "MB/s" in row}
        profiled = [r["read_bandwidth"] for _, rows in self.family("profile ") for r in rows]
        return max([rates.get("Read/512MiB", 0), *profiled])

    def results(self):
        """Results of pumice bench: type of weights, result."""
        return [(kind, r) for kind, rows in self.family("bench ") for r in rows]

    def aims(self):
        """Rows of what is aimed at, the aim, and what was measured, None where it was not."""
        part, _, peak = known(self.name)
        bandwidth = self.read_bandwidth()
        large = bandwidth > 2e12
        rows = []
        by = {(kind, test_name(r)): r for kind, r in self.results()}
        for kind, (big, small) in DECODE_AIMS.items():
            result = next((r for (k, _), r in by.items() if k == kind and r["n_gen"] and not r["n_prompt"] and not r["n_depth"]), None)
            share = result["bytes_per_s"] / bandwidth if result and bandwidth else None
            rows.append((f"decode of {kind}, of the read bandwidth", big if large else small, share))
        prompt = next((r for (k, _), r in by.items() if k == "q4_0" and r["n_prompt"] >= 512 and not r["n_gen"] and not r["n_depth"]), None)
        if peak and part in PROMPT_AIMS:
            rows.append(("a prompt of 512 in q4_0, of the matrix peak", PROMPT_AIMS[part], prompt["flops"] / peak if prompt else None))
        rows.append(("decode at depth 4096, of what its bytes predict", DEPTH_AIM, self.depth(by)))
        peers = [row for _, peer in self.family("peer ") for row in peer["rows"]]
        worst = min((row["ratio"]["Vulkan"] for row in peers), default=None)
        rows.append(("llama.cpp's Vulkan build beside it, the worst row's ratio", 1.0, worst))
        return rows

    def depth(self, by):
        shallow = next((r for (k, _), r in by.items() if k == "q4_0" and r["n_gen"] and not r["n_prompt"] and r["n_depth"] == 0), None)
        deep = next((r for (k, _), r in by.items() if k == "q4_0" and r["n_gen"] and not r["n_prompt"] and r["n_depth"] > 0), None)
        if not shallow or not deep:
            return None
        size = lambda r: r["counters"]["weight_bytes"] + r["counters"]["kv_bytes"]
        return (deep["avg_ts"] / shallow["avg_ts"]) / (size(shallow) / size(deep))


PREDICTIONS = pathlib.Path(__file__).resolve().parent.parent / "docs/predictions.md"


def predictions(name):
    """What docs/predictions.md expects of a 7B model on the device: tokens a second in the middle, at least and at most, by type
    of weights and test. Nothing where it is not there, or has no such device."""
    rows = {}
    text = PREDICTIONS.read_text(encoding="utf-8") if PREDICTIONS.exists() else ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 9 or cells[1] != "Llama 2 7B" or cells[4] == "-":
            continue
        part = re.escape(re.sub("^(RTX|RX|Arc|Radeon) ", "", cells[0]))
        if re.search(part + r"\b(?! *(Ti|SUPER|XT|D|Laptop)\b)", name):
            rows[cells[2].lower(), cells[3]] = [float(cell) for cell in cells[4:7]]
    return rows


def predicted_name(r):
    """The name of a test there, which has 128 tokens generated, however many were."""
    return test_name({**r, "n_gen": 128 if r["n_gen"] else 0})


def test_name(r):
    name = (f"pp{r['n_prompt']}" if r["n_prompt"] else "") + ("+" if r["n_prompt"] and r["n_gen"] else "") + (f"tg{r['n_gen']}" if r["n_gen"] else "")
    return name + (f" @ d{r['n_depth']}" if r["n_depth"] else "")


# ----- the page


def table(head, rows):
    """A table in Markdown; a column whose cells are numbers is aligned to the right."""
    if not rows:
        return []
    numeric = [all(re.match(r"^[-\d.%, x]*$", str(row[i]).replace(" ", "")) for row in rows) for i in range(len(head))]
    out = ["| " + " | ".join(head) + " |", "|" + "|".join("---:" if n else "---" for n in numeric) + "|"]
    return out + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def percent(value):
    return "" if value is None else f"{100 * value:.0f} %"


def page(report):
    head, device = report.head, report.device
    out = [f"# {report.name}", ""]
    out += [f"Driver {device.get('driver', '?')}, Vulkan {device.get('api_version', '?')}, {device.get('memory_total', 0) / 2**30:.1f} GiB; "
            f"pumice {head.get('commit', '?')[:12]}, {head.get('date', '?')}.",
            "[README.md](README.md) says how this was measured and what the columns mean.", ""]
    if device.get("type") == "cpu":
        out += ["**This is a CPU driver: the figures say nothing about a GPU.**", ""]
    if head.get("small"):
        out += ["**A rehearsal at small sizes: the figures say nothing about whole models.**", ""]
    bandwidth = report.read_bandwidth()

    def section(title, lines, text=None):
        if lines:
            out.extend([f"## {title}", ""] + ([text, ""] if text else []) + lines + [""])

    section("Aims", [] if device.get("type") == "cpu" else table(["", "aim", "measured", ""], [
        (what, percent(aim), percent(got) or "-", "" if got is None else "reached" if got >= aim else "missed")
        for what, aim, got in report.aims()]))
    expected = {} if head.get("small") else predictions(report.name)
    section("Predictions", table(["weights", "test", "predicted", "from", "to", "measured", "off"], [
        (kind, test_name(r), *(f"{value:g}" for value in expected[kind, predicted_name(r)]), f"{r['avg_ts']:.2f}",
         percent(expected[kind, predicted_name(r)][0] / r["avg_ts"] - 1))
        for kind, r in report.results() if (kind, predicted_name(r)) in expected and r["avg_ts"]]),
        "Tokens a second, and how far the prediction of docs/predictions.md is above what was measured.")
    section("Speed", table(["weights", "test", "tokens/s", "+-", "GB/s", "of read", "GFLOP/s"], [
        (kind, test_name(r), f"{r['avg_ts']:.2f}", f"{r['stddev_ts']:.2f}", f"{r['bytes_per_s'] / 1e9:.1f}" if r["bytes_per_s"] else "",
         percent(r["bytes_per_s"] / bandwidth) if r["bytes_per_s"] and bandwidth else "", f"{r['flops'] / 1e9:.0f}" if r["n_prompt"] else "")
        for kind, r in report.results()]),
        f"The device reads {bandwidth / 1e9:.1f} GB/s." if bandwidth else None)
    section("Beside llama.cpp", table(["weights", "test", "pumice", "llama.cpp", "ratio"], [
        (kind, row["test"], f"{row['pumice']:.1f}", f"{row['peer']['Vulkan']:.1f}", f"{row['ratio']['Vulkan']:.2f}")
        for kind, peer in report.family("peer ") for row in peer["rows"]]), "Tokens a second, medians of rounds turn and turn about.")
    for kind, rows in report.family("profile "):
        for r in rows:
            total = sum(k["ns"] for k in r["kernels"]) or 1
            section(f"Kernels: {kind}, {test_name(r)}", table(
                ["kernel", "size", "calls", "us each", "of the time", "GB/s", "of read", "GFLOP/s"],
                [(k["kernel"], k["size"], k["calls"] or "", f"{k['ns'] / 1e3 / max(k['calls'], 1):.1f}", percent(k["ns"] / total),
                  f"{k['bytes_per_s'] / 1e9:.1f}" if k["bytes"] else "", percent(k["read_share"]) if k["read_share"] else "",
                  f"{k['flops'] / 1e9:.1f}" if k["operations"] else "")
                 for k in sorted(r["kernels"], key=lambda k: -k["ns"])[:20]]))
    section("Products, cold", pivot(report.benchmarks("Matvec/"), "MB/s", 1e-3, "weights/path"),
            "GB/s of weights, one token, after a barrier each.")
    section("Products of several tokens, cold", pivot(report.benchmarks("Matmul"), "GFLOP/s", 1, "tokens/weights/path"), "GFLOP/s.")
    section("Attention", pivot(report.benchmarks("Attention/"), "us/dispatch", 1, "cache/path/model"), "Microseconds a layer, cold.")
    section("Boundaries", table(["dispatches", "workgroups", "us each"], [
        (*row["name"].split("/")[1:], f"{row['us/dispatch']:.3f}") for row in report.benchmarks("Barrier/")]),
        "Chains of 200 dispatches that read a word and end: without barriers, with those of all memory or of buffers, and with split ones.")
    section("Memory", table(["", "us", "GB/s"], [
        (row["name"], f"{row['ns/op'] / 1e3:.1f}", f"{row['MB/s'] / 1e3:.1f}" if "MB/s" in row else "")
        for row in report.benchmarks("Read") + report.benchmarks("Submit")]))
    chosen = {kind: text["tokens"] for kind, text in report.family("tokens ")}
    plain = next(iter(chosen.values()), None)
    section("Boundaries of a whole model", table(["", "test", "tokens/s", "+-", "dispatches", "barriers", "of them split", "MB ahead", "tokens"], [
        (kind, test_name(r), f"{r['avg_ts']:.2f}", f"{r['stddev_ts']:.2f}", r["counters"]["dispatches"], r["counters"]["barriers"],
         r["counters"].get("splits", 0), f"{r['counters'].get('prefetch_bytes', 0) / 1e6:.1f}",
         "" if kind not in chosen else "the same" if chosen[kind] == plain else "WRONG")
        for kind, rows in report.family("plan ") for r in rows]),
        "Of each token; MB ahead are weights that are read once more. Tokens are compared with those of the first row.")
    variants = [data for name, data in report.family("sweep/")]
    section("Sweeps", table(["variant", "check", "us each, by shape"], [
        (v["name"], CHECKED[v["right"]], ", ".join(f"{t['us/dispatch']:.1f}" for t in v["times"])) for v in variants]))
    probe = report.data("probe")
    if probe:
        rates = ", ".join(f"{name} {rate:g}" for name, rate in probe["rates"].items())
        section("Ceilings by CUDA", [
            f"Operations a clock and multiprocessor: {rates}.",
            f"Reads {probe['read']['dram'] / 1e9:.0f} GB/s from memory, {probe['read']['l2'] / 1e9:.0f} from the second-level cache.",
            f"An empty kernel takes {probe['empty']['stream_us']:g} us in a stream, {probe['empty']['graph_us']:g} in a graph; a barrier of "
            f"all workgroups {probe['grid_barrier']['us']:g} us."])
    checks = report.data("verify")
    if checks:
        section("Kernels checked", [f"{checks['checks']} checks of {checks['kernels']} kernels, {len(checks['wrong'])} wrong."] +
                [f"- {c['kernel']}: {c['case']}" for c in checks["wrong"]])
    stats = report.data("kernel stats")
    if stats:
        spilled = [k for k in stats if k["spills"] or k["scratch"]]
        section("What the driver's compiler says", table(["kernel", "registers", "spills", "scratch", "code", "lanes"], [
            (k["kernel"], k["registers"], k["spills"], k["scratch"], k["code_bytes"], k["lanes"])
            for k in sorted(spilled or stats, key=lambda k: (-k["spills"], -k["scratch"], -k["registers"]))[:20]]),
            f"{len(stats)} kernels, {len(spilled)} of them with spills or scratch memory" + (":" if spilled else "; those with most registers:"))
    section("Stages", table(["stage", "end", "s", "of"], [
        (s["stage"], outcome(s), f"{s['seconds']:.0f}", f"{s['box']:.0f}") for s in report.stages.values()]))
    return "\n".join(out).rstrip() + "\n"


def pivot(rows, unit, factor, corner):
    """A table of benchmarks: the last part of their names is the column. `cold` and names that are not cold are left out."""
    columns, lines = [], {}
    for row in rows:
        parts = row["name"].split("/")
        if parts[0] in ("Matvec", "Attention"):
            parts = parts[1:]
        if "cold" not in parts and parts[0].startswith(("Matmul",)) or "135M" in parts or unit not in row:
            continue
        parts = [p for p in parts if p != "cold"]
        line, column = "/".join(parts[:-1]).replace("Matmul", ""), parts[-1]
        if column not in columns:
            columns.append(column)
        lines.setdefault(line, {})[column] = f"{row[unit] * factor:.1f}"
    return table([corner, *columns], [(line, *(cells.get(c, "") for c in columns)) for line, cells in lines.items()])


def finish(args):
    stages = [json.loads(line) for line in pathlib.Path(args.stages).read_text(encoding="utf-8").splitlines()]
    report = {"report": 1, "call": args.call, "commit": args.commit, "date": time.strftime("%Y-%m-%d", time.gmtime()), "small": args.small,
              "stages": stages}
    pathlib.Path(args.report).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(page(Report([report])))


def make_page(args):
    reports = [json.loads(pathlib.Path(f).read_text(encoding="utf-8")) for f in args.reports]
    text = page(Report(reports))
    if args.output:
        pathlib.Path(args.output).write_text(text, encoding="utf-8")
    else:
        print(text, end="")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("add")
    p.add_argument("stages")
    p.add_argument("--stage", required=True)
    p.add_argument("--kind", choices=list(READERS), required=True)
    p.add_argument("--rc", type=int, required=True)
    p.add_argument("--seconds", type=float, required=True)
    p.add_argument("--box", type=float, required=True)
    p.add_argument("output")
    p.add_argument("errors")
    p.set_defaults(do=add)
    p = commands.add_parser("sweep")
    p.add_argument("stages")
    p.add_argument("variants")
    p.add_argument("--kernels", required=True, help="has a folder of SPIR-V for each variant")
    p.add_argument("--pumice", required=True)
    p.add_argument("--benchmarks", required=True)
    p.add_argument("--run", default="", help="runs both programs")
    p.add_argument("--seconds", type=float, required=True, help="for all variants")
    p.add_argument("--box", type=float, default=30, help="for each check and each benchmark")
    p.add_argument("--runs", default="20x")
    p.add_argument("--scale", type=int, default=1)
    p.set_defaults(do=sweep)
    p = commands.add_parser("finish")
    p.add_argument("stages")
    p.add_argument("report")
    p.add_argument("--call", required=True)
    p.add_argument("--commit", required=True)
    p.add_argument("--small", action="store_true")
    p.set_defaults(do=finish)
    p = commands.add_parser("page")
    p.add_argument("reports", nargs="+")
    p.add_argument("--output")
    p.set_defaults(do=make_page)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
