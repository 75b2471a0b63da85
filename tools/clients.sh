#!/usr/bin/env bash
# Runs programs that people use against pumice serve, each at the version that tools/clients pins, on the device that the
# environment selects:
#
#   tools/clients.sh [NAME...]   openai, anthropic, openai-go, langchain, instructor or litellm; all of them without a name
#
# The server has the default model and Qwen2.5-Coder-0.5B-Instruct, whose template has tools (492 MB: tools/model.sh).
# Needs python3 with pip and venv.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
[ $# -gt 0 ] || set -- openai anthropic openai-go langchain instructor litellm
model=$(tools/model.sh)
coder=$(tools/model.sh qwen-coder)
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" 2>/dev/null; wait; rm -rf "$work"' EXIT
go build -o "$work/pumice" ./cmd/pumice
"$work/pumice" serve "smollm2=$model" "coder=$coder" --port 0 2>"$work/log" &
echo $! >"$work/pid"
url=$(await_server "$work/log" "$(cat "$work/pid")")
for name in "$@"; do
	if [ "$name" = openai-go ]; then
		go build -C tools/clients/openai-go -o "$work/openai-go" .
		"$work/openai-go" "$url" smollm2 coder
		continue
	fi
	python=$(client_venv "$name")
	"$python" "tools/clients/${name}_client.py" "$url" smollm2 coder
done
! grep -i 'request failed\|broke off' "$work/log" || die "the server's log has errors"
