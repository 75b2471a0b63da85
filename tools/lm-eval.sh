#!/usr/bin/env bash
# Has lm-evaluation-harness, at the version that tools/clients/lm_eval.txt pins, score a model of pumice serve on this repository's
# questions in the form of MMLU and C-Eval, on the device that the environment selects, and compares the log-likelihood of each
# choice with those of pumice eval. The KV cache is f32: f16 rounds, which makes batches of different sizes differ by up to 0.003.
# Needs python3 with pip and venv.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
model=$(tools/model.sh)
python=$(client_venv lm_eval --no-deps)
data=eval/testdata/samples
work=$(mktemp -d)
pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; wait; rm -rf "$work"' EXIT
go build -o "$work/pumice" ./cmd/pumice
"$work/pumice" --quiet eval "$model" --kv-type f32 --data $data --prompt-style harness --num-fewshot 2 --log-samples --output-path "$work/eval" \
	--tasks mmlu_computer_security,mmlu_high_school_geography,ceval_high_school_geography --published none >/dev/null
"$work/pumice" serve "smollm2=$model" --kv-type f32 --port 0 2>"$work/log" &
pid=$!
url=$(await_server "$work/log" "$pid")
"$python" tools/clients/lm_eval_client.py "$url" smollm2 $data "$work/eval"
! grep -i 'request failed\|broke off' "$work/log" || die "the server's log has errors"
