#!/usr/bin/env python3
"""Spreads an evaluation over the machines of a Ray cluster, one shard a task, and puts the shards together.

  ray_eval.py --shards 8 --output-path /shared/out -- MODEL --tasks mmlu,ceval --num-fewshot 5 --data /shared/data

What follows -- is given to `pumice eval`. The output path must be on storage that all workers see. A worker that dies has its
shard started again, and the shard's journal lets it go on where it was. Needs `pip install ray`; tested with ray 2.60.0 on one machine
as two workers.
"""

import argparse
import subprocess

import ray


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--shards", type=int, required=True)
    ap.add_argument("--output-path", required=True)
    ap.add_argument("--pumice", default="pumice", help="the program, on every worker")
    ap.add_argument("--gpus", type=float, default=0, help="of a worker, for each shard")
    ap.add_argument("--cpus", type=float, default=1)
    ap.add_argument("arguments", nargs="+")
    args = ap.parse_args()
    ray.init()

    @ray.remote(num_cpus=args.cpus, num_gpus=args.gpus, max_retries=3)
    def shard(i):
        command = [args.pumice, "--quiet", "eval", *args.arguments, "--shard", f"{i}/{args.shards}", "--output-path", args.output_path]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"shard {i}: status {done.returncode}: {done.stderr[-2000:]}")
        return i

    for done in ray.get([shard.remote(i) for i in range(1, args.shards + 1)]):
        print(f"shard {done} of {args.shards} is done")
    subprocess.run([args.pumice, "eval", "merge", "--output-path", args.output_path], check=True)


if __name__ == "__main__":
    main()
