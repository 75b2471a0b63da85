#!/usr/bin/env bash
# Runs the checks and the tests, every stage even after one has failed, and ends with a summary.
#
#   tools/test.sh [STAGE...]               all stages unless some are named
#   tools/test.sh --since REV [STAGE...]   the same, without what no change since the commit REV touches
#   tools/test.sh quick [REV]              a first look at changes since REV (HEAD): compiles shaders, vets, and runs the short
#                                          tests of changed packages, and of TestVerify what runs changed kernels
#
#   lint          gofmt, go vet, staticcheck, shellcheck, and the tests of internal/lint: imports, pins, documents; those of the tag lab
#   shaders       the committed SPIR-V is what the pinned compiler makes of the sources
#   lavapipe      every test, on Mesa's CPU driver, the default model's weights included
#   window        programs with the build tag window: their tests on a screen of Xvfb
#   lavapipe-128  kernels of subgroups and their choice, with 128-bit vectors: subgroups of 4
#   lavapipe-512  the same with 512-bit vectors: subgroups of 16
#   lavapipe-26   the GPU packages on a newer Mesa, with cooperative matrices, and kernels at device addresses at other widths;
#                 skipped, and said so, where it can't be had
#   swiftshader   the GPU packages on a driver with the minimum of features; skipped, and said so, where it is not installed
#   isa           what compilers make of every kernel on four GPUs: no spills, and on AMD's and NVIDIA's mat-vec loops as short as
#                 committed; Intel's compiler is left out, and said so, where its stand-in can't be built
#
# A table of pipeline/verify says which kernels a stage verifies: each on one driver, for every size of a subgroup. Exactly one
# driver is visible to each run. The tests turn on validation themselves. Go's test cache keeps results for each
# driver: what has not changed since a stage passed is not run again. Needs tools/setup.sh test.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

GPU_PACKAGES=(./vk/... ./pipeline/... ./model/... .)
STAGES=(lint shaders lavapipe window lavapipe-128 lavapipe-512 lavapipe-26 swiftshader isa)
SWIFTSHADER=$TOOLS_CACHE/swiftshader/vk_swiftshader_icd.json
SKIPPED=77   # exit status of a stage that could not run
UNTOUCHED=78 # exit status of a stage that no change touches

lint() {
	local status=0 unformatted
	unformatted=$("$(go env GOROOT)/bin/gofmt" -l .) || status=1
	[ -z "$unformatted" ] || { printf 'not gofmt-ed: %s\n' "$unformatted" && status=1; }
	go vet ./... || status=1
	go tool staticcheck ./... || status=1
	shellcheck -x tools/*.sh .ci/run || status=1
	go test ./internal/lint || status=1
	go test -tags lab ./internal/lab || status=1
	return $status
}

shaders() {
	[ -e shaders/variants.txt ] || return $SKIPPED
	tools/glslc.sh --check
}

# fingerprint FILE... prints a hash of the files and of what else decides how a driver runs.
fingerprint() {
	printf '%s\n' "$@" | sort -u | xargs -d '\n' sha256sum |
		cat - <(env | grep -E '^(LP|GALLIUM)_' | sort) <(grep -m 1 '^flags' /proc/cpuinfo) | sha256sum | cut -d ' ' -f 1
}

# libraries FILE... prints the shared libraries and those that they need.
libraries() {
	printf '%s\n' "$@"
	ldd "$@" | sed -nE 's/.* => ([^ ]+) .*/\1/p'
}

# on_driver ICD ARG... runs go test with that driver alone.
on_driver() {
	local icd=$1 driver files
	shift
	driver=$(sed -nE 's/.*"library_path": *"([^"]*)".*/\1/p' "$icd")
	[[ $driver == /* ]] || driver=${icd%/*}/$driver
	mapfile -t files < <(
		libraries "$driver" "$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p | sed -n 's/.*libvulkan\.so\.1.* => //p' | head -n 1)"
		compgen -G '/usr/share/vulkan/*_layer.d/*'
		compgen -G '/usr/lib/*/libVkLayer_*.so'
	)
	export VK_DRIVER_FILES=$icd VK_ICD_FILENAMES=$icd
	PUMICE_TEST_DRIVER=$(fingerprint "$icd" "${files[@]}") run_tests "$@"
}

# run_tests ARG... runs go test, and says what took longest.
run_tests() {
	PUMICE_TEST_REQUIRE_DEVICE=1 go run ./tools/gotest -timeout 40m "$@"
}

lavapipe() { # [ARG...]: go test's arguments
	local icd
	icd=$(compgen -G "/usr/share/vulkan/icd.d/lvp_icd*.json" | sort -r | head -n 1) # x86_64 before i686
	[ -n "$icd" ] || { echo "Mesa's CPU driver is not installed: run tools/setup.sh test" && return 1; }
	on_driver "$icd" "$@"
}

# newer_lavapipe ARG... runs go test on the pinned Mesa.
newer_lavapipe() ( # a shell of its own, for the environment
	local environment root files
	environment=$(tools/mesa.sh --env) || exit
	root=$(tools/mesa.sh --root) || exit
	eval "$environment"
	mapfile -t files < <(find "$root" -type f)
	PUMICE_TEST_DRIVER=$(fingerprint "${files[@]}") run_tests "$@"
)

# touched PATTERN... prints the packages of the patterns, and with --since those that a change touches; none: UNTOUCHED.
touched() {
	local list
	list=$(go list "$@") || return 1
	if [ -n "${AFFECTED-}" ]; then
		list=$(grep -Fxf "$AFFECTED" <<<"$list") || return $UNTOUCHED
	fi
	printf '%s\n' "$list"
}

# changed PATTERN says whether there is a changed file of a name that matches, with --since.
changed() { [ -z "${CHANGED-}" ] || grep -qE "$1" "$CHANGED"; }

run_stage() {
	local packages width status=0
	export PUMICE_TEST_STAGE=$1
	# shellcheck disable=SC2086
	case $1 in
	lint)
		changed . || return $UNTOUCHED
		lint
		;;
	shaders)
		changed '^shaders/|^tools/(variants/|(glslc|lib|test)\.)' || return $UNTOUCHED
		shaders
		;;
	lavapipe)
		packages=$(touched ./...) || return
		PUMICE_TEST_SMOLLM2=$(tools/model.sh) && export PUMICE_TEST_SMOLLM2 || return 1
		lavapipe $packages || status=1
		if touched ./bench >/dev/null; then # with a kernel that is wrong on purpose
			lavapipe -tags wrongkernel -run '^TestWrongKernelStrikesTheRow$' ./bench || status=1
		fi
		return $status
		;;
	window)
		packages=$(touched ./vk/present ./internal/monitor ./cmd/pumice ./cmd/pumice-window) || return
		go vet -tags window $packages || status=1
		packages=$(grep -E '/(present|monitor)$' <<<"$packages") || :
		[ -z "$packages" ] || lavapipe -tags window $packages || status=1
		return $status
		;;
	lavapipe-128 | lavapipe-512)
		export LP_NATIVE_VECTOR_WIDTH=${1#lavapipe-}
		packages=$(touched ./vk/... ./pipeline/... ./model) || return
		packages=$(grep -v '/model$' <<<"$packages") || :
		[ -z "$packages" ] || lavapipe -short $packages || status=1
		lavapipe -short -run '^TestFixtureLogits$/^smollm2$' ./model || status=1 # the other models take the same kernels
		return $status
		;;
	lavapipe-26)
		packages=$(touched "${GPU_PACKAGES[@]}") || return
		newer_lavapipe -short $packages || status=$?
		if [ $status -ne $SKIPPED ] && touched ./pipeline/verify >/dev/null; then
			for width in 128 512; do # side by side, since the compiler takes one processor
				(
					export LP_NATIVE_VECTOR_WIDTH=$width PUMICE_TEST_STAGE=$1-$width
					newer_lavapipe -short -run '^TestVerify$' ./pipeline/verify
				) >"$work/$width" 2>&1 &
			done
			for _ in 128 512; do
				wait -n || status=$?
			done
			cat "$work/128" "$work/512"
		fi
		return $status
		;;
	swiftshader)
		packages=$(touched "${GPU_PACKAGES[@]}") || return
		[ -e "$SWIFTSHADER" ] || return $SKIPPED
		# All families take this driver's base kernels, which TestVerify runs, in batches too: the graphs of three, one with windows,
		# are enough here. What a model does around its kernels is the same on each driver.
		on_driver "$SWIFTSHADER" -short -skip \
			'^TestFixtureLogits$/^(baichuan.*|chatglm2|falcon|gemma2|internlm|llama.*|mistral|phi3|qwen.*|smollm3|xverse.*)$|^Test(TextsInABatchAreAsAlone|Split|MemoryPlanCountsEveryBuffer|WindowedCacheKeepsTheWindow)$' $packages
		;;
	isa)
		changed '^tools/(isa|mesa|intel|lib|test)\.|^docs/(isa|predictions)\.md|^internal/isareport/counts\.json' || touched ./internal/isareport >/dev/null || return
		tools/isa.sh --check
		;;
	*) die "no stage $1; there are ${STAGES[*]}" ;;
	esac
}

# find_changes REV puts the files that differ from the commit into the file CHANGED, and the packages that can tell into the file AFFECTED.
find_changes() {
	local everything='^(go\.(mod|sum)|(.*/)?testdata/.*|tools/(test|setup|lib|model)\.sh|tools/gotest/.*|\.ci/.*)$' dir module file to
	: >"$AFFECTED.code"
	: >"$AFFECTED.tests" # of packages in which tests alone, or what they read, changed
	git rev-parse --quiet --verify "$1^{commit}" >/dev/null || die "no commit $1"
	{
		git diff --name-only "$1" --
		git ls-files --others --exclude-standard
	} | sort -u >"$CHANGED"
	if grep -qE "$everything" "$CHANGED"; then # fixtures are read by tests of many packages
		go list ./... >"$AFFECTED"
		return
	fi
	module=$(go list -m)
	{
		sed -E 's#^(README|docs/models)\.md$#model/&#; s#^NOTICE$#tools/licenses/&#' "$CHANGED" |
			grep -vE '^docs/|^tools/[^/]*$|^[^/]*$' || :
		grep -E '^[^/]*\.go$' "$CHANGED" || :
	} | while read -r file; do
		dir=$(dirname "$file")
		while [ "$dir" != . ] && ! compgen -G "$dir/*.go" >/dev/null; do dir=$(dirname "$dir"); done
		to=code
		case $file in *_test.go | *.md | */NOTICE) to=tests ;; esac
		printf '%s\n' "$module/$dir" | sed 's#/\.$##' >>"$AFFECTED.$to"
	done
	go list -test -f '{{if .ForTest}}{{.ForTest}} {{join .Deps " "}}{{end}}' ./... >"$AFFECTED.deps"
	# A line is a package and what it and its tests import. A package made for a test of P is `PACKAGE [P.test]`.
	awk 'NR == FNR { code[$1]; next } { for (i = 1; i <= NF; i++) if ($i in code) { print $1; next } }' \
		"$AFFECTED.code" "$AFFECTED.deps" | sort -u - "$AFFECTED.code" "$AFFECTED.tests" >"$AFFECTED"
}

# quick REV looks at what changed since the commit.
quick() {
	local packages=() kernels newer status=0
	if changed '^shaders/'; then
		tools/glslc.sh || return
		find_changes "$1"
	fi
	mapfile -t packages < <(sort -u "$AFFECTED.code" "$AFFECTED.tests")
	if [ ${#packages[@]} -gt 0 ]; then
		# shellcheck disable=SC2046
		go vet $(cat "$AFFECTED") || status=1
		lavapipe -short -skip '^TestVerify$' "${packages[@]}" || status=1
	fi
	kernels=$(sed -n 's#^shaders/spv/\(.*\)\.spv$#\1#p' "$CHANGED" | while read -r name; do [ ! -e "shaders/spv/$name.spv" ] || echo "$name"; done)
	newer=$(grep -E '_(addr|cm)$' <<<"$kernels" | paste -sd ' ') || :
	kernels=$(grep -vE '_(addr|cm)$' <<<"$kernels" | paste -sd ' ') || :
	if [ -n "$kernels" ]; then
		PUMICE_TEST_KERNELS=$kernels lavapipe -short -run '^TestVerify$' ./pipeline/verify || status=1
	fi
	if [ -n "$newer" ]; then # older Mesa has no such kernels
		PUMICE_TEST_KERNELS=$newer newer_lavapipe -short -run '^TestVerify$' ./pipeline/verify || status=1
	fi
	return $status
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${1-}" = --since ]; then
	[ $# -ge 2 ] || die "--since needs a commit"
	CHANGED=$work/changed AFFECTED=$work/affected
	find_changes "$2"
	shift 2
fi
if [ "${1-}" = quick ]; then
	CHANGED=$work/changed AFFECTED=$work/affected
	find_changes "${2-HEAD}"
	quick "${2-HEAD}"
	exit
fi
[ $# -gt 0 ] || set -- "${STAGES[@]}"
passed=0 failed=0 skipped=0 summary=
for stage in "$@"; do
	printf '\n=== %s\n' "$stage"
	start=$SECONDS status=0
	(run_stage "$stage") 2>&1 || status=$?
	case $status in
	0) passed=$((passed + 1)) verdict=ok ;;
	"$SKIPPED") skipped=$((skipped + 1)) verdict=SKIPPED: ;;
	"$UNTOUCHED") verdict=untouched ;;
	*) failed=$((failed + 1)) verdict=FAILED ;;
	esac
	summary+=$(printf '%-9s %-14s %5d s' "$verdict" "$stage" $((SECONDS - start)))$'\n'
	printf '=== %s %s, %d s\n' "$verdict" "$stage" $((SECONDS - start))
done
printf '\n%sstages: %d passed, %d failed, %d skipped\n' "$summary" $passed $failed $skipped
[ $failed -eq 0 ]
