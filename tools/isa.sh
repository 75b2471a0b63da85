#!/usr/bin/env bash
# Tells what drivers' compilers make of every kernel, on GPUs that need not be there (tools/mesa.sh), and puts it into
# docs/isa.md, and what devices may make of it into docs/predictions.md.
#
#   tools/isa.sh           measure, with llama.cpp's products and attention beside ours where they can be had, and write the tables
#   tools/isa.sh --intel   the same for Intel's compiler and the kernels that rules choose there (tools/intel.sh)
#   tools/isa.sh --check   fail where on one GPU of AMD's and NVIDIA's compilers, or two of Intel's, a kernel spills, a `cm` kernel
#                          has no matrix or a `dp` or `dp2` kernel no dot instruction; where on the first two a mat-vec loop takes
#                          more instructions a weight than the committed table says or is worse than llama.cpp's there, as may be
#                          no other product and no attention, or a unit holds fewer subgroups of a kernel; or where predictions
#                          are not those of the plans. Says so where Intel's can't be had, and leaves it out
#
# The same kernels give the same counts on any machine, so what a build of internal/isareport has measured on one version of
# a driver is kept in the user's cache. Exits with 77 where the pinned drivers can't be had.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

SKIPPED=77
mode=report peer=() collectors=()
case ${1-} in
'')
	if binaries=$(tools/bench-peer.py --fetch); then
		peer=("$binaries/libggml-vulkan.so")
	else
		say "llama.cpp's build can't be had: its rows of the table stay as they are"
	fi
	;;
--check) mode=check ;;
--intel) mode=intel ;;
*) die "usage: tools/isa.sh [--check|--intel]" ;;
esac

work=$(mktemp -d)
kept=$TOOLS_CACHE/isa
trap 'kill $(jobs -p) 2>/dev/null || :; rm -rf "$work" "$kept"/*.$$' EXIT
go build -trimpath -buildvcs=false -o "$work/isareport" ./internal/isareport # the same bytes from the same sources
mkdir -p "$kept"
root=$(tools/mesa.sh --root) || exit # fetched once, before several need it

# records PROGRAM DEVICE prints what the device's compiler makes of every kernel: in parts, because the stand-in for AMD's kernel
# driver has room for some 500 pipelines a process (Mesa 26.1.6).
records() {
	local part
	"$1" "$work/isareport" list "$work/$2.kernels" "${peer[@]}" || return
	for part in 0 1 2 3; do
		"$1" "$work/isareport" collect "$work/$2.kernels" $part 4 || return
	done
	rm "$work/$2.kernels"
}

# collect DEVICE puts what the device's compiler makes of every kernel into $work/DEVICE.json.
collect() {
	local program key file
	case $1 in
	tgl | dg2 | bmg) program=$(tools/intel.sh "$1") || {
		[ $? = $SKIPPED ] && [ $mode = check ] || return 1
		say "SKIPPED: $1"
		return
	} ;;
	*) program=$(tools/mesa.sh "$1") || return ;;
	esac
	key=$(cat "$work/isareport" "$root/.sums" "$program" "${peer[@]}" | sha256sum | cut -d ' ' -f 1)
	file=$kept/$key.json
	if [ ! -e "$file" ]; then
		say "compiling for $1"
		records "$program" "$1" >"$file.$$" 2>"$work/$1.errors" || {
			cat "$work/$1.errors" >&2 # else RADV's remark that it is not conformant
			return 1
		}
		mv "$file.$$" "$file"
	fi
	touch "$file"
	cp "$file" "$work/$1.json"
}

# A compiler keeps one core busy, so as many devices as there are cores are measured at once.
gpus=(navi21 navi31 gfx1201 turing ampere)
case $mode in
check) gpus=(navi31 ampere bmg dg2) ;;
intel) gpus=(tgl dg2 bmg) ;;
esac
for device in "${gpus[@]}"; do
	[ "$(jobs -rp | wc -l)" -lt "$(nproc)" ] || wait -n || exit
	collect "$device" &
	collectors+=($!)
done
for pid in "${collectors[@]}"; do wait "$pid" || exit; done
find "$kept" -name '*.json' -mtime +30 -delete
"$work/isareport" $mode docs/isa.md "$work"
counts=internal/isareport/counts.json predictions=docs/predictions.md
if [ $mode = check ]; then
	cp $predictions "$work"
	"$work/isareport" predict $counts "$work/${predictions##*/}"
	cmp -s $predictions "$work/${predictions##*/}" || die "$predictions is not what plans and counts give: go run ./internal/isareport predict $counts $predictions"
else # predictions from the new counts
	"$work/isareport" counts $counts "$work"
	"$work/isareport" predict $counts $predictions
fi
[ $mode != report ] || sed -n '/loops:begin/,/loops:end/p' docs/isa.md
