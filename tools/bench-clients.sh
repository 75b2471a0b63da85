#!/usr/bin/env bash
# Has llama-benchy and GuideLLM, at the versions that tools/clients pins, and pumice bench --load --peer measure pumice serve with the
# default model, and compares the time to the first token and the time of each further one that each tells of its requests with
# what passed between it and the server:
#
#   tools/bench-clients.sh [--prompt TOKENS] [--gen TOKENS] [--requests N]
#
# They have to agree within 5 %. Needs python3 with pip and venv, and 6 GB for GuideLLM's PyTorch.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
model=$(tools/model.sh)
benchy=$(client_venv llama_benchy --no-deps)
guidellm=$(client_venv guidellm --no-deps)
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" 2>/dev/null; wait; rm -rf "$work"' EXIT
go build -o "$work/pumice" ./cmd/pumice
"$work/pumice" serve "smollm2=$model" --port 0 2>"$work/log" &
echo $! >"$work/pid"
url=$(await_server "$work/log" "$(cat "$work/pid")")
"$benchy" tools/clients/bench_client.py "$url" smollm2 "$model" "$work" \
	"${benchy%/*}/llama-benchy" "${guidellm%/*}/guidellm" "$@"
! grep -i 'request failed\|broke off' "$work/log" || die "the server's log has errors"
