#!/usr/bin/env bash
# Compiles every kernel of shaders/variants.txt into shaders/spv/NAME.spv, validates it, and writes shaders/spv/manifest.txt.
#
#   tools/glslc.sh              compile the rows whose inputs changed, drop .spv files that no row names
#   tools/glslc.sh --check      compile everything elsewhere and compare byte for byte with what is committed, unless the
#                               last check that passed was of the same files
#   tools/glslc.sh --compiler   print the command that starts the compiler, fetching it first
#
# tools/variants, which is built with Go, reads the table and writes a row `NAME SOURCE TARGET [DEFINE...]` for each kernel:
# SOURCE is a file under shaders/, TARGET the Vulkan that it is compiled for, each DEFINE is NAME or NAME=VALUE.
# A manifest line is `NAME SHA-256(spv) SHA-256(inputs) INTERFACE`, the inputs being the compiler's version, the flags, and
# the source with every file it includes. INTERFACE is what the kernel is given, as tools/variants reads it from SPIR-V:
# the size of the push constants, the bindings, and the specialization constants with their names (Interface.String of
# package shaders).
#
# The compiler is the one of glslc.sums, unpacked from Debian packages into the user's cache and run with its own libc:
# no root, no change to the system. Any other version is refused, because versions differ in the bytes they write.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
export LC_ALL=C

VERSION='shaderc 2025.2-1, spirv-tools 2025.1~rc1-1, glslang 15.1.0+1.4.309.0-1'
SUMS=$PWD/tools/glslc.sums
ROOT=$TOOLS_CACHE/glslc-2025.2-1
LIB=$ROOT/usr/lib/x86_64-linux-gnu
export VERSION ROOT LIB

in_root() { # PROGRAM ARG...: runs a program of the private root with that root's loader and libraries
	local program=$1
	shift
	"$LIB/ld-linux-x86-64.so.2" --library-path "$LIB" "$ROOT/usr/bin/$program" "$@"
}

fetch_compiler() {
	[ "$(uname -sm)" = 'Linux x86_64' ] || die "the pinned compiler runs on Linux x86_64 only; shaders/spv is committed, so only a change to a shader needs it"
	say "fetching the shader compiler into $ROOT"
	local work package version sum role file
	rm -rf "$TOOLS_CACHE"/glslc.?????? # of a fetch that was killed
	work=$(mktemp -d "$TOOLS_CACHE/glslc.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$work'" EXIT
	apt_private_index "$work/apt" trixie
	mkdir "$work/debs" "$work/root"
	cd "$work/debs"
	while read -r package version sum role; do
		if apt_private "$work/apt" download "$package=$version"; then
			file=$(ls "${package}"_*.deb)
			[ "$(sha256sum <"$file")" = "$sum  -" ] || die "$file is not the pinned file: its SHA-256 is $(sha256sum <"$file")"
		elif [ "$role" = support ]; then
			apt_private "$work/apt" download "$package" || die "Debian trixie offers no $package"
			file=$(ls "${package}"_*.deb)
			say "warning: $package $version is gone from the archive; using $file"
		else
			die "Debian trixie no longer offers $package $version, which tools/glslc.sums pins; no other compiler will do"
		fi
		dpkg-deb -x "$file" "$work/root"
	done < <(grep -v '^#' "$SUMS")
	cd "$OLDPWD"
	cp "$SUMS" "$work/root/.sums"
	rm -rf "$ROOT"
	mv "$work/root" "$ROOT"
	rm -rf "$work"
	trap - EXIT
}

# compile_row OUT OLD NAME SOURCE TARGET [DEFINE...] leaves OUT/NAME.spv and its manifest line OUT/NAME.line; when OLD
# (a manifest, or /dev/null) has the same inputs and the .spv is in place, OUT/NAME.line alone.
# shellcheck disable=SC2317  # called by xargs
compile_row() {
	local out=$1 old=$2 name=$3 source=shaders/$4 target=$5 define messages inputs interface sum
	shift 5
	local flags=(-O "--target-env=$target" -fshader-stage=compute -I shaders/include)
	for define in "$@"; do flags+=("-D$define"); done
	# The optimiser drops names and what isn't used: the interface is read from what it hasn't seen.
	if ! messages=$({ in_root glslc "${flags[@]:1}" -MD -MF "$out/$name.d" -o "$out/$name.plain" "$source" &&
		"$out/variants" interface "$out/$name.plain" >"$out/$name.interface"; } 2>&1); then
		printf '%s\n' "$name: $source $*" "$messages" >&2
		return 1
	fi
	# The .d file reads `target: source include...`.
	inputs=$({
		printf '%s\n' "$VERSION" "${flags[*]}"
		sed 's/^[^:]*://' "$out/$name.d" | xargs -n 1 realpath --relative-to=. | sort -u | xargs sha256sum
	} | sha256sum | cut -d ' ' -f 1)
	interface=$(<"$out/$name.interface")
	sum=$(grep -m 1 "^$name [0-9a-f]* $inputs " "$old" | cut -d ' ' -f 2 || true)
	if [ -n "$sum" ] && sha256sum --quiet --status -c <<<"$sum  shaders/spv/$name.spv" 2>/dev/null; then
		printf '%s\n' "$name $sum $inputs $interface" >"$out/$name.line"
		return
	fi
	if ! messages=$({ in_root glslc "${flags[@]}" -o "$out/$name.tmp" "$source" &&
		in_root spirv-val --target-env "$target" "$out/$name.tmp"; } 2>&1); then
		printf '%s\n' "$name: $source $*" "$messages" >&2
		return 1
	fi
	[ -z "$messages" ] || printf '%s: %s\n' "$name" "$messages" >&2
	sum=$(sha256sum <"$out/$name.tmp" | cut -d ' ' -f 1)
	printf '%s\n' "$name $sum $inputs $interface" >"$out/$name.line"
	mv "$out/$name.tmp" "$out/$name.spv"
}
export -f compile_row in_root

# compile_all OUT OLD compiles every row, all processors at a time; each failing row is reported, and fails the whole.
compile_all() {
	local out=$1 old=$2
	# shellcheck disable=SC2016
	printf '%s\n' "${ROWS[@]}" |
		xargs -r -d '\n' -P "$(nproc)" -n 1 bash -euo pipefail -c 'read -ra row <<<"$3"; compile_row "$1" "$2" "${row[@]}"' _ "$out" "$old"
}

# write_manifest OUT joins OUT's lines in the table's order.
write_manifest() {
	local name
	printf '# %s\n' "$VERSION"
	for name in "${NAMES[@]}"; do
		[ ! -e "$1/$name.line" ] || cat "$1/$name.line"
	done
}

mode=${1-}
case $mode in '' | --check | --compiler) ;; *) die "usage: tools/glslc.sh [--check | --compiler]" ;; esac

CHECKED=$TOOLS_CACHE/glslc.checked # a hash of all files that the last check that passed has read
state=$(find shaders tools/variants tools/glslc.sh tools/glslc.sums tools/lib.sh -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum)
if [ "$mode" = --check ] && [ "$(cat "$CHECKED" 2>/dev/null)" = "$state" ]; then
	say "SPIR-V files are as committed: nothing has changed since they were compiled and compared"
	exit
fi

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# Rows are read before anything is fetched: a mistake in the table should be told at once.
command -v go >/dev/null || die "no Go: tools/variants, which reads shaders/variants.txt, is built with it"
go build -o "$out/variants" ./tools/variants
"$out/variants" rows >"$out/rows"
mapfile -t ROWS <"$out/rows"
NAMES=()
for row in "${ROWS[@]}"; do
	read -r name source _ <<<"$row"
	[ -f "shaders/$source" ] || die "shaders/variants.txt: $name: no file shaders/$source"
	NAMES+=("$name")
done

mkdir -p "$TOOLS_CACHE" shaders/spv
exec 9>"$TOOLS_CACHE/glslc.lock"
flock 9
cmp -s "$SUMS" "$ROOT/.sums" || (fetch_compiler)
version=$(in_root glslc --version | sed '/^$/,$d' | paste -sd , | sed 's/,/, /g')
[ "$version" = "$VERSION" ] || die "the compiler in $ROOT is '$version', want '$VERSION'"
if [ "$mode" = --compiler ]; then
	printf '%s\n' "$LIB/ld-linux-x86-64.so.2 --library-path $LIB $ROOT/usr/bin/glslc"
	exit
fi

status=0

if [ "$mode" = --check ]; then
	compile_all "$out" /dev/null || status=1
	write_manifest "$out" >"$out/manifest.txt"
	for name in "${NAMES[@]}"; do
		if [ ! -e "shaders/spv/$name.spv" ]; then
			say "missing: shaders/spv/$name.spv"
		elif [ -e "$out/$name.spv" ] && ! cmp -s "$out/$name.spv" "shaders/spv/$name.spv"; then
			say "differs: shaders/spv/$name.spv"
		else
			continue
		fi
		status=1
	done
else
	touch shaders/spv/manifest.txt
	compile_all "$out" shaders/spv/manifest.txt || status=1
	for name in "${NAMES[@]}"; do
		if [ -e "$out/$name.spv" ]; then
			say "compiled $name"
			cp "$out/$name.spv" "shaders/spv/$name.spv"
		elif [ ! -e "$out/$name.line" ]; then
			# The row failed: what an earlier run left stays, under its own inputs' hash.
			grep "^$name " shaders/spv/manifest.txt >"$out/$name.line" || rm -f "$out/$name.line"
		fi
	done
	write_manifest "$out" >"$out/manifest.txt"
	cp "$out/manifest.txt" shaders/spv/manifest.txt
fi

for file in shaders/spv/*; do
	name=${file#shaders/spv/}
	# No pipe into grep -q here: it may close the pipe early, which pipefail takes for a miss.
	if [ "$name" = manifest.txt ] || [[ " ${NAMES[*]} " == *" ${name%.spv} "* && "$name" == *.spv ]]; then
		continue
	elif [ "$mode" = --check ]; then
		say "stale: $file has no row in shaders/variants.txt"
		status=1
	else
		say "removed $file"
		rm -f "$file"
	fi
done
if [ "$mode" = --check ] && ! diff shaders/spv/manifest.txt "$out/manifest.txt" >&2; then
	say "stale: shaders/spv/manifest.txt"
	status=1
fi
if [ "$mode" = --check ] && [ $status -ne 0 ]; then
	say "shaders/spv is not what tools/glslc.sh makes of shaders/; run tools/glslc.sh and commit the result"
elif [ "$mode" = --check ]; then
	printf '%s\n' "$state" >"$CHECKED"
	say "${#ROWS[@]} SPIR-V files are as committed"
fi
exit $status
