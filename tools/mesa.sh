#!/usr/bin/env bash
# Prints the path of a program that runs its arguments on one driver of the Mesa that mesa.sums pins, fetching it first.
#
#   tools/mesa.sh DRIVER      lavapipe; navi21, navi31, gfx1201 (AMD); turing, ampere (NVIDIA)
#   tools/mesa.sh --env       shell commands that make later go test commands run on lavapipe without such a program
#   tools/mesa.sh --root      the folder of the drivers
#
#   go test -exec "$(tools/mesa.sh lavapipe)" ./pipeline/
#   eval "$(tools/mesa.sh --env)"; go test ./pipeline/
#
# Go's test cache keeps no result of a test that ran with -exec. In the second form it does: test binaries are linked to be started by
# the drivers' own libc.
#
# lavapipe is the CPU driver, new enough to have cooperative matrices. The others compile for a GPU that need not be there:
# Mesa's no-op kernel drivers stand in for it, so pipelines can be made and looked at, but nothing runs.
#
# The packages are unpacked into the user's cache and run with their own libc: no root, no change to the system. Exits
# with 77 and a line that starts with SKIPPED where the archive no longer has the pinned version, or can't be reached.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
export LC_ALL=C

SUMS=$PWD/tools/mesa.sums
ROOT=$TOOLS_CACHE/mesa
LIB=$ROOT/usr/lib/x86_64-linux-gnu

skip() {
	say "SKIPPED: $*"
	exit 77
}

fetch() {
	local work package version sum role file wanted=()
	mapfile -t wanted < <(sed -nE 's/^([^# ]+) +([^ ]+) .*/\1=\2/p' "$SUMS")
	say "fetching Mesa $(sed -nE 's/^mesa-vulkan-drivers +([^ ]+).*/\1/p' "$SUMS") into $ROOT"
	rm -rf "$TOOLS_CACHE"/mesa.?????? # of a fetch that was killed
	work=$(mktemp -d "$TOOLS_CACHE/mesa.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	(apt_private_index "$work/apt" trixie trixie-backports) || skip "no index of Debian trixie and its backports"
	mkdir "$work/debs" "$work/root"
	cd "$work/debs"
	apt_private "$work/apt" download "${wanted[@]}" 2>/dev/null || say "not every pinned version is offered; fetching them one by one"
	while read -r package version sum role; do
		file=$(compgen -G "${package}_*.deb") || file=
		if [ -n "$file" ] || apt_private "$work/apt" download "$package=$version" 2>/dev/null; then
			file=$(compgen -G "${package}_*.deb")
			[ "$(sha256sum <"$file")" = "$sum  -" ] || die "$file is not the pinned file: its SHA-256 is $(sha256sum <"$file")"
		elif [ "$role" = support ]; then
			apt_private "$work/apt" download "$package" || skip "Debian offers no $package"
			file=$(compgen -G "${package}_*.deb")
			say "warning: $package $version is gone from the archive; using $file"
		else
			skip "version gone: Debian no longer offers $package $version, which tools/mesa.sums pins"
		fi
		dpkg-deb -x "$file" "$work/root"
	done < <(grep -v '^#' "$SUMS")
	cd "$OLDPWD"
	configure "$work/root"
	cp "$SUMS" "$work/root/.sums"
	rm -rf "$ROOT"
	mv "$work/root" "$ROOT"
	rm -rf "$work"
	trap - EXIT
}

# configure TREE writes into TREE what makes it usable as ROOT: the drivers' and the layer's descriptions, the programs.
configure() {
	local share=$1/usr/share/vulkan driver
	mkdir "$1/icd" "$1/layers" "$1/none" "$1/bin"
	for driver in lvp radeon nouveau; do
		sed -E "s#\"library_path\": \"[^\"]*\"#\"library_path\": \"$LIB/libvulkan_$driver.so\"#" \
			"$(compgen -G "$share/icd.d/${driver}_icd*.json" | head -n 1)" >"$1/icd/$driver.json"
	done
	sed -E "s#\"library_path\": \"[^\"]*\"#\"library_path\": \"$LIB/libVkLayer_khronos_validation.so\"#" \
		"$share/explicit_layer.d/VkLayer_khronos_validation.json" >"$1/layers/validation.json"
	program "$1" lavapipe lvp
	program "$1" navi21 radeon amdgpu AMDGPU_GPU_ID=navi21
	program "$1" navi31 radeon amdgpu AMDGPU_GPU_ID=navi31
	program "$1" gfx1201 radeon amdgpu AMDGPU_GPU_ID=gfx1201
	program "$1" turing nouveau nouveau NOUVEAU_CHIPSET=164
	program "$1" ampere nouveau nouveau NOUVEAU_CHIPSET=172
}

# program TREE NAME DRIVER [SHIM SETTING] writes TREE/bin/NAME. PUMICE_TEST_EXEC is for a test that starts its own binary
# again.
program() {
	local preload=
	[ -z "${4-}" ] || preload=" --preload $LIB/lib$4_noop_drm_shim.so"
	cat >"$1/bin/$2" <<-EOF
		#!/bin/sh
		export VK_DRIVER_FILES=$ROOT/icd/$3.json VK_ICD_FILENAMES=$ROOT/icd/$3.json
		export VK_LAYER_PATH=$ROOT/layers VK_IMPLICIT_LAYER_PATH=$ROOT/none
		export PUMICE_TEST_EXEC='$LIB/ld-linux-x86-64.so.2$preload --library-path $LIB' ${5-}
		exec \$PUMICE_TEST_EXEC "\$@"
	EOF
	chmod +x "$1/bin/$2"
}

# environment prints what programs on lavapipe need, and go to link them.
environment() {
	local flags=-Wl,--dynamic-linker=$LIB/ld-linux-x86-64.so.2,--disable-new-dtags,-rpath,$LIB
	cat <<-EOF
		export VK_DRIVER_FILES='$ROOT/icd/lvp.json' VK_ICD_FILENAMES='$ROOT/icd/lvp.json'
		export VK_LAYER_PATH='$ROOT/layers' VK_IMPLICIT_LAYER_PATH='$ROOT/none'
		export GOFLAGS="\$(go env GOFLAGS) -ldflags=-extldflags=$flags"
	EOF
}

case ${1-} in
--env | --root | lavapipe | navi21 | navi31 | gfx1201 | turing | ampere) ;;
*) die "usage: tools/mesa.sh --env|--root|lavapipe|navi21|navi31|gfx1201|turing|ampere" ;;
esac
[ "$(uname -sm)" = 'Linux x86_64' ] || skip "the pinned Mesa runs on Linux x86_64 only"
mkdir -p "$TOOLS_CACHE"
exec 9>"$TOOLS_CACHE/mesa.lock"
flock 9
cmp -s "$SUMS" "$ROOT/.sums" || fetch
case $1 in
--env) environment ;;
--root) echo "$ROOT" ;;
*) echo "$ROOT/bin/$1" ;;
esac
