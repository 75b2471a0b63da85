# shellcheck shell=bash
# Sourced by the other scripts here: messages, the tool cache, and Debian packages fetched without root.

# shellcheck disable=SC2034  # used by the scripts that source this
PUMICE_CACHE=${XDG_CACHE_HOME:-${HOME:?}/.cache}/pumice
TOOLS_CACHE=$PUMICE_CACHE/tools
APT_SOURCES=/etc/apt
DEBIAN_KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

say() { printf '%s\n' "$*" >&2; }
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# debian_mirror prints the URI of the Debian archive that this machine's own apt settings name.
debian_mirror() {
	local codename uri
	# shellcheck disable=SC1091
	codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	uri=$(apt-get --print-uris update 2>/dev/null |
		sed -nE "s#^'([^']+)/dists/(${codename:-stable}|stable|testing|sid|unstable)/.*#\1#p" | head -n 1)
	[ -n "$uri" ] || die "apt's sources name no Debian archive to fetch from"
	printf '%s\n' "$uri"
}

# apt_private STATE ARG... runs apt-get with its state under STATE and the sources apt_private_index put there, so that
# neither root rights nor a change to the system is needed. A package is used only if it has the SHA-256 of an index that
# the archive has signed, whatever the machine's own settings allow.
apt_private() {
	local state=$1
	shift
	apt-get -qq -o Dir::State="$state" -o Dir::State::Lists="$state/lists" -o Dir::State::status="$state/status" \
		-o Dir::Cache="$state/cache" -o Dir::Etc::sourcelist="$state/sources.list" -o Dir::Etc::sourceparts="$state/parts" \
		-o APT::Architectures="$(dpkg --print-architecture)" -o Acquire::Languages=none -o Acquire::Retries=3 \
		-o Acquire::AllowInsecureRepositories=false -o Acquire::AllowWeakRepositories=false \
		-o Acquire::AllowDowngradeToInsecureRepositories=false -o APT::Get::AllowUnauthenticated=false \
		-o APT::Update::Error-Mode=any -o APT::Sandbox::User="$(id -un)" "$@"
}

# apt_private_index STATE [SUITE...] lays out STATE and fetches the signed package index of each suite, which is a
# name under the machine's mirror; of every source the machine has when none is named.
apt_private_index() {
	local state=$1 suite mirror
	shift
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/parts"
	: >"$state/status"
	: >"$state/sources.list"
	if [ $# -eq 0 ]; then
		[ ! -e $APT_SOURCES/sources.list ] || cp $APT_SOURCES/sources.list "$state/"
		find $APT_SOURCES/sources.list.d '(' -name '*.list' -o -name '*.sources' ')' -exec cp -t "$state/parts" {} +
		! grep -rhiE '^[^#]*\b(trusted|allow-insecure|allow-weak|allow-downgrade-to-insecure)[[:space:]]*[:=][[:space:]]*(yes|true|with|on|enable|1)\b' \
			"$state/sources.list" "$state/parts" >&2 || die "apt's sources turn signatures off with the lines above"
	else
		mirror=$(debian_mirror)
		for suite in "$@"; do
			printf 'deb [signed-by=%s] %s %s main\n' "$DEBIAN_KEYRING" "$mirror" "$suite"
		done >"$state/sources.list"
	fi
	apt_private "$state" update || die "no package index of ${*:-the configured sources}"
}

# await_server LOG PID waits until pumice serve, which writes into LOG, has loaded a model, and prints the server's address.
await_server() {
	for _ in $(seq 600); do
		! grep -q 'is loaded' "$1" || break
		kill -0 "$2" 2>/dev/null || die "the server ended: $(cat "$1")"
		sleep 0.1
	done
	sed -n 's/^listening on //p' "$1"
}

# client_venv NAME [OPTION...] makes the virtual environment of the wheels that tools/clients/NAME.txt pins, if it is not there,
# and prints its python. The options are pip's.
client_venv() {
	local name=$1 venv
	shift
	[ -f "tools/clients/$name.txt" ] || die "no client $name"
	venv=$PUMICE_CACHE/clients/$name-$(sha256sum <"tools/clients/$name.txt" | cut -c1-12)
	if [ ! -e "$venv/.done" ]; then
		rm -rf "$venv"
		# In a command substitution an error does not end the function.
		python3 -m venv "$venv" || die "no virtual environment for $name"
		"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: "$@" -r "tools/clients/$name.txt" >&2 ||
			die "the wheels of tools/clients/$name.txt could not be installed"
		touch "$venv/.done"
	fi
	printf '%s\n' "$venv/bin/python"
}
