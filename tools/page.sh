#!/usr/bin/env bash
# Drives the page that pumice serve has at / in a headless Chromium: with the default model on the device that the environment
# selects, and with stand-in answers for what a small model does not give at will.
#
#   tools/page.sh [--shots DIR] [ARG...]   ARG are go test's, as in -run TestChat; DIR gets screenshots
#
# Chromium and npm come from Debian (tools/setup.sh page), axe-core from npm by the hash in tools/page/package-lock.json. It takes
# minutes, so continuous integration does not run it.
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
tools/setup.sh page
model=$(tools/model.sh)
modules=$PUMICE_CACHE/page/$(sha256sum <tools/page/package-lock.json | cut -c1-12)
if [ ! -e "$modules/.done" ]; then
	rm -rf "$modules"
	mkdir -p "$modules"
	cp tools/page/package.json tools/page/package-lock.json "$modules"
	(cd "$modules" && npm ci --ignore-scripts --no-audit --no-fund --silent)
	touch "$modules/.done"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/pumice" ./cmd/pumice
cd tools/page
go vet ./...
PUMICE_TEST_CHROMIUM=$(command -v chromium) PUMICE_TEST_PROGRAM=$work/pumice PUMICE_TEST_SMOLLM2=$model PUMICE_TEST_SHOTS=$shots \
	PUMICE_TEST_AXE=$modules/node_modules/axe-core/axe.min.js go test -count=1 -timeout 20m "$@" .
