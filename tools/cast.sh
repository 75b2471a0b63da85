#!/usr/bin/env bash
# Records a conversation with the default model, docs/chat.cast (asciicast v2), and draws it, docs/chat.svg:
#
#   tools/cast.sh            both, on the device that the environment selects
#   tools/cast.sh --draw     the picture alone, of the recording that is there
#
# Needs python3 with pip and venv.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
python=$(client_venv cast)
if [ "${1-}" != --draw ]; then
	tools/model.sh >/dev/null
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	go build -o "$work/pumice" ./cmd/pumice
	PATH=$work:$PATH "$python" tools/cast.py record docs/chat.cast
fi
"$python" tools/cast.py draw docs/chat.cast docs/chat.svg
