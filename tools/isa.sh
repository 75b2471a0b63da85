#!/usr/bin/env bash
# Tells what drivers' compilers make of every kernel, on GPUs that need not be there (tools/mesa.sh), and puts it into
# docs/isa.md.
#
#   tools/isa.sh           measure, with llama.cpp's mat-vec kernels beside ours where they can be had, and write the tables
#   tools/isa.sh --check   fail where a kernel spills, a `cm` kernel has no matrix or a `dp` kernel no dot instruction, or a
#                          mat-vec loop takes more instructions a weight than the committed table says
#
# The same kernels give the same counts on any machine, so what a build of internal/isareport has measured on one version of
# a driver is kept in the user's cache. Exits with 77 where the pinned drivers can't be had.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

mode=report peer=()
case ${1-} in
'')
	if binaries=$(tools/bench-peer.py --fetch); then
		peer=("$binaries/libggml-vulkan.so")
	else
		say "llama.cpp's build can't be had: its rows of the table stay as they are"
	fi
	;;
--check) mode=check ;;
*) die "usage: tools/isa.sh [--check]" ;;
esac

work=$(mktemp -d)
kept=$TOOLS_CACHE/isa
trap 'rm -rf "$work" "$kept"/*.$$' EXIT
go build -trimpath -buildvcs=false -o "$work/isareport" ./internal/isareport # the same bytes from the same sources
mkdir -p "$kept"
for device in navi21 navi31 gfx1201 turing ampere; do
	program=$(tools/mesa.sh "$device") || exit
	key=$(cat "$work/isareport" "$(tools/mesa.sh --root)/.sums" "$program" "${peer[@]}" | sha256sum | cut -d ' ' -f 1)
	if [ ! -e "$kept/$key.json" ]; then
		say "compiling for $device"
		# In parts, because the stand-in for AMD's kernel driver has room for some 500 pipelines a process (Mesa 26.1.6).
		for part in 0 1 2 3; do
			"$program" "$work/isareport" collect $part 4 "${peer[@]}" >>"$kept/$key.$$" 2>"$work/errors" || {
				cat "$work/errors" >&2 # else RADV's remark that it is not conformant
				exit 1
			}
		done
		mv "$kept/$key.$$" "$kept/$key.json"
	fi
	touch "$kept/$key.json"
	cp "$kept/$key.json" "$work/$device.json"
done
find "$kept" -name '*.json' -mtime +30 -delete
"$work/isareport" $mode docs/isa.md "$work"
[ $mode = check ] || sed -n '/loops:begin/,/loops:end/p' docs/isa.md
