#!/usr/bin/env bash
# Writes vk/present/font.otf, the part of Noto Sans CJK SC that the window has: Latin, Greek, Cyrillic, punctuation, arrows, and
# the Chinese characters of the first level of GB 2312, which are those that texts use most.
#
#   tools/font.sh
#
# The font is committed, so only a change of its characters needs this. Debian's package and fonttools are pinned.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
read -r package version sum _ < <(grep -v '^#' tools/font.sums)
apt_private_index "$work/apt" bookworm
mkdir "$work/debs"
(cd "$work/debs" && apt_private "$work/apt" download "$package=$version") || die "Debian offers no $package $version, which tools/font.sums pins"
file=$(ls "$work/debs/${package}"_*.deb)
[ "$(sha256sum <"$file")" = "$sum  -" ] || die "$file is not the pinned file: its SHA-256 is $(sha256sum <"$file")"
dpkg-deb --fsys-tarfile "$file" | tar -x -C "$work" ./usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r tools/wheels/font.txt
python3 - >"$work/text" <<'PY'
# Rows 16 to 55 of GB 2312 are its first level.
text = bytes(b for row in range(16, 56) for cell in range(1, 95) for b in (row + 160, cell + 160)).decode("gb2312", "ignore")
for first, last in ((0x20, 0x7e), (0xa0, 0x17f), (0x391, 0x3c9), (0x410, 0x451), (0x2010, 0x2027), (0x2030, 0x203a),
                    (0x2070, 0x2094), (0x20ac, 0x20ac), (0x2190, 0x2195), (0x2200, 0x2265), (0x2500, 0x2503), (0x25a0, 0x25cf),
                    (0x2713, 0x2717), (0x3000, 0x3011), (0x3041, 0x30ff), (0xff01, 0xff5e)):
    text += "".join(chr(c) for c in range(first, last + 1))
print(text, end="")
PY
SOURCE_DATE_EPOCH=0 "$work/venv/bin/pyftsubset" "$work/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc" --font-number=2 \
	--text-file="$work/text" --layout-features= --no-hinting --desubroutinize --name-IDs=0,1,2,5,13,14 --output-file="$work/font.otf"
cp "$work/font.otf" vk/present/font.otf
say "vk/present/font.otf has $(wc -c <vk/present/font.otf) bytes"
