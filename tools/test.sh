#!/usr/bin/env bash
# Runs the checks and the tests, every stage even after one has failed, and ends with a summary.
#
#   tools/test.sh [STAGE...]      all stages unless some are named
#
#   lint          gofmt, go vet, staticcheck, shellcheck; import directions are a test of internal/lint
#   shaders       the committed SPIR-V is what the pinned compiler makes of the sources
#   lavapipe      every test, on Mesa's CPU driver, the default model's weights included
#   lavapipe-128  the GPU packages' tests with 128-bit vectors: subgroups of 4
#   lavapipe-512  the same with 512-bit vectors: subgroups of 16
#   lavapipe-26   the same on a newer Mesa, which has cooperative matrices; skipped, and said so, where it can't be had
#   swiftshader   the GPU packages' tests on a driver with the minimum of features; skipped, and said so, where it is not installed
#   isa           what compilers make of every kernel on five GPUs: no spills, and mat-vec loops as short as committed
#
# Exactly one driver is visible to each run. The tests turn on validation themselves. Needs tools/setup.sh test.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh

GPU_PACKAGES=(./vk/... ./pipeline/... ./model/... .)
STAGES=(lint shaders lavapipe lavapipe-128 lavapipe-512 lavapipe-26 swiftshader isa)
SWIFTSHADER=$TOOLS_CACHE/swiftshader/vk_swiftshader_icd.json
SKIPPED=77 # exit status of a stage that could not run

lint() {
	local status=0 unformatted
	unformatted=$("$(go env GOROOT)/bin/gofmt" -l .) || status=1
	[ -z "$unformatted" ] || { printf 'not gofmt-ed: %s\n' "$unformatted" && status=1; }
	go vet ./... || status=1
	go tool staticcheck ./... || status=1
	shellcheck -x tools/*.sh .ci/run || status=1
	return $status
}

shaders() {
	[ -e shaders/variants.txt ] || return $SKIPPED
	tools/glslc.sh --check
}

# on_driver ICD ARG... runs go test with that driver alone; a test cached under another driver does not count.
on_driver() {
	local icd=$1
	shift
	VK_DRIVER_FILES=$icd VK_ICD_FILENAMES=$icd PUMICE_TEST_REQUIRE_DEVICE=1 go test -count=1 -timeout 40m "$@"
}

lavapipe() { # [ARG...]: go test's arguments
	local icd
	icd=$(compgen -G "/usr/share/vulkan/icd.d/lvp_icd*.json" | sort -r | head -n 1) # x86_64 before i686
	[ -n "$icd" ] || { echo "Mesa's CPU driver is not installed: run tools/setup.sh test" && return 1; }
	on_driver "$icd" "$@"
}

gpu_packages() {
	local pattern
	for pattern in "${GPU_PACKAGES[@]}"; do
		[ ! -d "${pattern%/...}" ] || go list "$pattern"
	done
}

run_stage() {
	local packages program
	case $1 in
	lint) lint ;;
	shaders) shaders ;;
	lavapipe)
		PUMICE_TEST_SMOLLM2=$(tools/model.sh) && export PUMICE_TEST_SMOLLM2 || return 1
		lavapipe ./...
		;;
	lavapipe-128 | lavapipe-512)
		export LP_NATIVE_VECTOR_WIDTH=${1#lavapipe-}
		packages=$(gpu_packages) || return 1
		# shellcheck disable=SC2086
		lavapipe -short $packages
		;;
	lavapipe-26)
		program=$(tools/mesa.sh lavapipe) || return
		packages=$(gpu_packages) || return 1
		# shellcheck disable=SC2086
		PUMICE_TEST_REQUIRE_DEVICE=1 go test -count=1 -timeout 40m -exec "$program" -short $packages
		;;
	swiftshader)
		[ -e "$SWIFTSHADER" ] || return $SKIPPED
		packages=$(gpu_packages) || return 1
		# shellcheck disable=SC2086
		on_driver "$SWIFTSHADER" -short $packages
		;;
	isa) tools/isa.sh --check ;;
	*) die "no stage $1; there are ${STAGES[*]}" ;;
	esac
}

[ $# -gt 0 ] || set -- "${STAGES[@]}"
passed=0 failed=0 skipped=0 summary=
for stage in "$@"; do
	printf '\n=== %s\n' "$stage"
	start=$SECONDS status=0
	(run_stage "$stage") 2>&1 || status=$?
	case $status in
	0) passed=$((passed + 1)) verdict=ok ;;
	"$SKIPPED") skipped=$((skipped + 1)) verdict=SKIPPED: ;;
	*) failed=$((failed + 1)) verdict=FAILED ;;
	esac
	summary+=$(printf '%-8s %-14s %5d s' "$verdict" "$stage" $((SECONDS - start)))$'\n'
	printf '=== %s %s, %d s\n' "$verdict" "$stage" $((SECONDS - start))
done
printf '\n%sstages: %d passed, %d failed, %d skipped\n' "$summary" $passed $failed $skipped
[ $failed -eq 0 ]
