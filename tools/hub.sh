#!/usr/bin/env bash
# Reads with huggingface_hub, at the version that tools/clients/huggingface_hub.txt pins, what pumice pull wrote into the Hub's
# cache, and with pumice what huggingface_hub wrote. The Hub is a server of the script's own. No device is needed.
# Needs python3 with pip and venv.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
model=$(tools/model.sh)
python=$(client_venv huggingface_hub)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/pumice" ./cmd/pumice
"$python" tools/clients/huggingface_hub_client.py "$work/pumice" testdata/fixtures/llama-sharded "$model"
