#!/usr/bin/env bash
# Runs Open WebUI, at the version that tools/clients/openwebui.txt pins and unmodified, against pumice serve with the default model
# on the device that the environment selects, and drives its pages in a headless Chromium: it lists the model, chats, shows the
# answer while it comes, and stops one.
#
#   tools/openwebui.sh [--shots DIR]   DIR gets screenshots
#
# Open WebUI is installed with what the requirements-slim.txt in its wheel lists, as for its authors' slim image, not with what the
# wheel demands, which adds PyTorch and other libraries for models of its own: 0.8 GB instead of several. It asks nobody but the
# server, and its data are in a temporary folder. Needs python3 3.11 with pip and venv, and Chromium as tools/page.sh does.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
shots=
if [ "${1-}" = --shots ]; then
	mkdir -p "${2:?}"
	shots=$(realpath "$2")
	shift 2
fi
[ $# -eq 0 ] || die "usage: tools/openwebui.sh [--shots DIR]"
tools/setup.sh page
model=$(tools/model.sh)
python=$(client_venv openwebui --no-deps)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/pumice" ./cmd/pumice
cd tools/page
PUMICE_TEST_CHROMIUM=$(command -v chromium) PUMICE_TEST_PROGRAM=$work/pumice PUMICE_TEST_SMOLLM2=$model PUMICE_TEST_SHOTS=$shots \
	PUMICE_TEST_OPENWEBUI=${python%/*}/open-webui go test -count=1 -run '^TestOpenWebUI$' .
say "$(grep -o '^open-webui==[0-9.]*' ../clients/openwebui.txt): all right"
