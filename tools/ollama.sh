#!/usr/bin/env bash
# Runs ollama, as tools/clients/ollama/go.mod pins it and unmodified, with pumice as its llama-server and llama-quantize, on the
# device that the environment selects: makes models of GGUF files, runs one from the command line, and with ollama's Python client
# uses chat, completion, structured output, tools, embeddings, the list of loaded models and unloading.
# Needs Go, a C compiler, python3 with pip and venv, and 10 minutes of a core to build ollama the first time.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
model=$(tools/model.sh)
coder=$(tools/model.sh qwen-coder)
python=$(client_venv ollama)
built=$PUMICE_CACHE/clients/ollama-$(sha256sum <tools/clients/ollama/go.sum | cut -c1-12)
if [ ! -x "$built/bin/ollama" ]; then
	mkdir -p "$built/bin"
	(cd tools/clients/ollama && go build -o "$built/bin/ollama.new" github.com/ollama/ollama)
	mv "$built/bin/ollama.new" "$built/bin/ollama"
fi
work=$(mktemp -d)
trap 'kill "$(cat "$work/pid")" 2>/dev/null; wait; rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/lib/ollama"
cp "$built/bin/ollama" "$work/bin/" # ollama finds its engine beside its own file
go build -o "$work/bin/pumice" ./cmd/pumice
ln -s ../../bin/pumice "$work/lib/ollama/llama-server"
ln -s ../../bin/pumice "$work/lib/ollama/llama-quantize"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export HOME=$work XDG_CACHE_HOME=${PUMICE_CACHE%/*} OLLAMA_HOST=127.0.0.1:$port OLLAMA_MODELS=$work/models OLLAMA_NO_CLOUD=1 OLLAMA_DEBUG=1
"$work/bin/ollama" serve >"$work/log" 2>&1 &
echo $! >"$work/pid"
for _ in $(seq 600); do
	! "$work/bin/ollama" list >/dev/null 2>&1 || break
	kill -0 "$(cat "$work/pid")" 2>/dev/null || die "ollama ended: $(tail -n 20 "$work/log")"
	sleep 0.1
done
fail() { die "$1; the end of ollama's log: $(tail -n 40 "$work/log")"; }
printf 'FROM %s\nPARAMETER temperature 0\n' "$model" >"$work/Modelfile"
"$work/bin/ollama" create small -f "$work/Modelfile" >/dev/null 2>&1 || fail "ollama create failed"
printf 'FROM %s\n' "$coder" >"$work/Modelfile"
"$work/bin/ollama" create coder -f "$work/Modelfile" >/dev/null 2>&1 || fail "ollama create failed"
"$work/bin/ollama" run small "What is the capital of France?" </dev/null >"$work/answer" 2>"$work/err" || fail "ollama run failed: $(cat "$work/err")"
grep -q Paris "$work/answer" || fail "ollama run answers: $(cat "$work/answer")"
"$python" tools/clients/ollama_client.py "http://127.0.0.1:$port" small coder || fail "ollama's client failed"
# What ollama made is read where it is.
"$work/bin/pumice" --quiet generate ollama:small -p "The capital of France is" -n 4 --temp 0 >"$work/answer" || fail "pumice does not read ollama's model"
grep -q Paris "$work/answer" || fail "pumice says: $(cat "$work/answer")"
say "$(grep -o 'github.com/ollama/ollama v[0-9.]*' tools/clients/ollama/go.mod): all right"
