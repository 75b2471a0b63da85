#!/usr/bin/env bash
# Compares what two revisions compute, bit for bit, on the driver that the environment selects: logits, tokens and
# counters of every fixture on every kernel path (tools/hashes). Prints the lines that differ, and fails if there are any.
#
#   tools/hashes.sh [--run PROGRAM] REV [CHECKPOINT...]   the working tree against the commit REV
#
# PROGRAM runs both, for another driver than the system's: --run "$(tools/mesa.sh lavapipe)".
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
run=()
if [ "${1-}" = --run ]; then
	run=("${2-}")
	shift 2
fi
[ $# -ge 1 ] || die "usage: tools/hashes.sh [--run PROGRAM] REV [CHECKPOINT...]"
rev=$1
shift
[ $# -gt 0 ] || set -- testdata/fixtures/*/
work=$(mktemp -d)
trap 'git worktree remove --force "$work/tree" 2>/dev/null; rm -rf "$work"' EXIT
git worktree add --quiet --detach "$work/tree" "$rev"
(cd "$work/tree" && go build -o "$work/before" ./tools/hashes)
go build -o "$work/after" ./tools/hashes
"${run[@]}" "$work/before" "$@" >"$work/before.txt"
"${run[@]}" "$work/after" "$@" >"$work/after.txt"
diff "$work/before.txt" "$work/after.txt" || die "the results differ"
echo "$(grep -vc '^#' "$work/after.txt") results are the same"
