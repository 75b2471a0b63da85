#!/usr/bin/env bash
# Prints the path of a program that runs its arguments on Mesa's driver for an Intel GPU that need not be there.
#
#   tools/intel.sh GPU   dg2 (Arc A, Xe-HPG), bmg (Arc B, Xe2) or tgl (Xe-LP)
#
# Pipelines can be made and looked at, but nothing runs. The driver is that of tools/mesa.sh. Debian's packages lack the stand-in for
# Intel's kernel driver, so this builds it, once, from Debian's source of Mesa 25.0.7: 50 seconds of a core, 1 GB while it does.
# Needs a C compiler, pkg-config and Python 3.11 with venv. Exits with 77 where the pinned source or driver can't be had.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
export LC_ALL=C

SOURCE=pool/main/m/mesa/mesa_25.0.7.orig.tar.xz
SOURCE_SHA256=592272df3cf01e85e7db300c449df5061092574d099da275d19e97ef0510f8a6
BUILD_PACKAGES=(libdrm-dev libdrm2 libexpat1 libexpat1-dev zlib1g-dev bison flex m4) # Mesa's configuration looks for them
case ${1-} in
dg2 | bmg | tgl) ;;
*) die "usage: tools/intel.sh dg2|bmg|tgl" ;;
esac
SHIM=$TOOLS_CACHE/intel-$(sha256sum <"$0" | cut -c1-12)/libintel_noop_drm_shim.so
skip() {
	say "SKIPPED: $*"
	exit 77
}

# build makes the stand-in SHIM.
build() {
	local work
	work=$(mktemp -d "$TOOLS_CACHE/intel.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	say "building the stand-in for Intel's kernel driver"
	/usr/lib/apt/apt-helper -qq download-file "$(debian_mirror)/$SOURCE" "$work/mesa.tar.xz" "SHA256:$SOURCE_SHA256" ||
		skip "Debian no longer offers the source of Mesa 25.0.7"
	(apt_private_index "$work/apt") || skip "no index of Debian's packages"
	mkdir "$work/debs" "$work/root"
	(cd "$work/debs" && apt_private "$work/apt" download "${BUILD_PACKAGES[@]}")
	for deb in "$work"/debs/*.deb; do dpkg-deb -x "$deb" "$work/root"; done
	python3 -m venv "$work/venv"
	"$work/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r tools/wheels/meson.txt >&2
	tar -xf "$work/mesa.tar.xz" -C "$work"
	(
		export PATH=$work/venv/bin:$work/root/usr/bin:$PATH PKG_CONFIG_SYSROOT_DIR=$work/root
		export PKG_CONFIG_LIBDIR=$work/root/usr/lib/x86_64-linux-gnu/pkgconfig:$work/root/usr/share/pkgconfig
		cd "$work/mesa-25.0.7"
		meson setup build -Dbuildtype=plain -Doptimization=0 -Dtools=drm-shim,intel -Dvulkan-drivers= -Dgallium-drivers= -Dplatforms= -Dglx=disabled \
			-Degl=disabled -Dgbm=disabled -Dopengl=false -Dllvm=disabled -Dvulkan-layers= -Dvideo-codecs= -Dzstd=disabled \
			-Dxmlconfig=disabled -Dshader-cache=disabled
		ninja -C build src/intel/tools/libintel_noop_drm_shim.so
	) >"$work/log" 2>&1 || die "Mesa can't be built: $(tail -n 20 "$work/log")"
	mkdir -p "${SHIM%/*}"
	mv "$work/mesa-25.0.7/build/src/intel/tools/libintel_noop_drm_shim.so" "$SHIM"
	rm -rf "$work"
	trap - EXIT
}

[ "$(uname -sm)" = 'Linux x86_64' ] || skip "the pinned Mesa runs on Linux x86_64 only"
root=$(tools/mesa.sh --root) || exit
lib=$root/usr/lib/x86_64-linux-gnu
exec 9>"$TOOLS_CACHE/intel.lock"
flock 9
[ -e "$SHIM" ] || build
dir=${SHIM%/*}
sed -E "s#\"library_path\": \"[^\"]*\"#\"library_path\": \"$lib/libvulkan_intel.so\"#" "$(compgen -G "$root/usr/share/vulkan/icd.d/intel_icd*.json" | head -n 1)" >"$dir/intel.json"
cat >"$dir/$1" <<-EOF
	#!/bin/sh
	export VK_DRIVER_FILES=$dir/intel.json VK_ICD_FILENAMES=$dir/intel.json
	export VK_LAYER_PATH=$root/layers VK_IMPLICIT_LAYER_PATH=$root/none INTEL_STUB_GPU_PLATFORM=$1
	exec $lib/ld-linux-x86-64.so.2 --preload $SHIM --library-path $lib "\$@"
EOF
chmod +x "$dir/$1"
printf '%s\n' "$dir/$1"
