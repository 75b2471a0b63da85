#!/usr/bin/env bash
# Installs what is missing on a Debian machine, and nothing when nothing is.
#
#   tools/setup.sh chat   a Vulkan loader and a driver, certificates for downloads, python3 with pip while the
#                         default model is not yet fetched
#   tools/setup.sh page   what chat takes, and Chromium, Chinese fonts and npm for tools/page.sh and tools/openwebui.sh
#   tools/setup.sh window what chat takes, and what windows (the build tag window) are built from and tested with: headers of X11, Xvfb
#   tools/setup.sh test   what chat takes, Mesa's CPU driver, the validation layers, the Vulkan headers, shellcheck, SwiftShader, what window takes, and
#                         pkg-config and venv for tools/intel.sh
#
# System packages are installed with apt-get, through sudo for a user who is not root; it says so first. SwiftShader, a
# second CPU driver, is unpacked from Debian's Chromium into the user's cache instead. Whatever can't be had is an error,
# but for SwiftShader, which gives a line that starts with SKIPPED.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

has_loader() { [ -n "$(find /usr/lib /usr/lib64 /lib /usr/local/lib -name 'libvulkan.so.1' -print -quit 2>/dev/null)" ]; }
has_driver() {
	[ -n "${VK_DRIVER_FILES-}${VK_ICD_FILENAMES-}" ] ||
		compgen -G '/usr/share/vulkan/icd.d/*.json' || compgen -G '/etc/vulkan/icd.d/*.json' ||
		compgen -G '/usr/local/share/vulkan/icd.d/*.json' || compgen -G "${HOME:?}/.local/share/vulkan/icd.d/*.json"
} >/dev/null
has_lavapipe() { compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null; }
has_certificates() { [ -s /etc/ssl/certs/ca-certificates.crt ] || [ -s /etc/pki/tls/certs/ca-bundle.crt ]; }
has_pip() { python3 -m pip --version || tools/model.sh --cached; } >/dev/null 2>&1
has_validation() { compgen -G '/usr/share/vulkan/explicit_layer.d/*validation*.json' >/dev/null; }
has_headers() { [ -e /usr/include/vulkan/vulkan_core.h ]; }
has_shellcheck() { command -v shellcheck >/dev/null; }
has_chromium() { command -v chromium >/dev/null; }
has_fonts() { [ -n "$(find /usr/share/fonts /usr/local/share/fonts -iname '*cjk*' -o -iname '*wqy*' -o -iname '*droid*fallback*' 2>/dev/null)" ]; }
has_x11() { [ -e /usr/include/X11/extensions/Xrandr.h ] && [ -e /usr/include/X11/extensions/Xinerama.h ] && [ -e /usr/include/X11/extensions/XInput2.h ]; }
has_xcursor() { [ -e /usr/include/X11/Xcursor/Xcursor.h ] && [ -e /usr/include/X11/extensions/xf86vmode.h ]; }
has_gl() { [ -e /usr/include/GL/gl.h ]; }
has_xvfb() { command -v Xvfb >/dev/null; }
has_pkgconfig() { command -v pkg-config >/dev/null; }
has_venv() { python3 -c 'import ensurepip' 2>/dev/null; }
has_npm() { command -v npm >/dev/null; }

# A need is the check above and the packages that meet it.
declare -A PACKAGES=(
	[certificates]=ca-certificates [loader]=libvulkan1 [driver]=mesa-vulkan-drivers [lavapipe]=mesa-vulkan-drivers [pip]=python3-pip
	[validation]=vulkan-validationlayers [headers]=libvulkan-dev [shellcheck]=shellcheck
	[x11]='libx11-dev libxrandr-dev libxinerama-dev libxi-dev' [xcursor]='libxcursor-dev libxxf86vm-dev' [gl]=libgl-dev [xvfb]=xvfb
	[pkgconfig]=pkg-config [venv]=python3-venv
	[chromium]=chromium [fonts]=fonts-wqy-zenhei [npm]=npm
)

install_missing() { # NEED...
	local need packages=() root=()
	for need in "$@"; do
		# shellcheck disable=SC2206  # one need may take several packages
		"has_$need" || packages+=(${PACKAGES[$need]})
	done
	[ ${#packages[@]} -gt 0 ] || return 0
	command -v apt-get >/dev/null || die "this system has no apt-get; install by hand what Debian calls ${packages[*]}"
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || die "missing ${packages[*]}: as root, run apt-get install ${packages[*]}"
		root=(sudo)
		say "installing ${packages[*]} with apt-get; sudo may ask for your password"
	else
		say "installing ${packages[*]} with apt-get"
	fi
	"${root[@]}" apt-get -qq update || die "apt-get update failed"
	"${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${packages[@]}" >&2 ||
		die "could not install ${packages[*]}"
	for need in "$@"; do
		"has_$need" || die "${PACKAGES[$need]} is installed but the $need is still not found"
	done
}

swiftshader() {
	local dir=$TOOLS_CACHE/swiftshader work deb
	[ ! -e "$dir/vk_swiftshader_icd.json" ] || return 0
	say "fetching SwiftShader into $dir"
	mkdir -p "$TOOLS_CACHE"
	work=$(mktemp -d "$TOOLS_CACHE/swiftshader.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	mkdir "$work/out"
	# Security updates replace chromium often, so no SHA-256 of ours could stand: it is whatever the machine's own sources
	# offer, and apt's check of their signatures vouches for it.
	(apt_private_index "$work/apt" && cd "$work" && apt_private "$work/apt" download chromium-common) || return
	deb=$(compgen -G "$work/chromium-common_*.deb") || return
	say "SwiftShader comes from ${deb##*/}"
	dpkg-deb --fsys-tarfile "$deb" |
		tar -x -C "$work/out" --strip-components=4 ./usr/lib/chromium/libvk_swiftshader.so ./usr/lib/chromium/vk_swiftshader_icd.json || return
	rm -rf "$dir"
	mv -T "$work/out" "$dir"
}

command -v go >/dev/null || die "Go is not installed, or not on PATH"
command -v gcc >/dev/null || command -v cc >/dev/null || die "no C compiler: install build-essential"
case ${1-} in
chat)
	install_missing certificates loader driver pip
	;;
page)
	install_missing certificates loader driver pip chromium fonts npm
	;;
window)
	install_missing certificates loader driver pip x11 xcursor gl xvfb
	;;
test)
	install_missing certificates loader lavapipe pip validation headers shellcheck x11 xcursor gl xvfb pkgconfig venv
	swiftshader || echo "SKIPPED: SwiftShader could not be fetched; its tests will not run"
	;;
*) die "usage: tools/setup.sh chat|page|window|test" ;;
esac
