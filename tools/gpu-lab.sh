#!/usr/bin/env bash
# Measures the program on this machine's GPU, in stages that each have so many seconds. docs/gpus/README.md describes it.
#
#   tools/gpu-lab.sh pack       builds everything that the calls need into gpu-lab/pack, less than 28 MB, for a machine without Go and
#                               without a network
#   tools/gpu-lab.sh pack own   the same for this machine: without kernels to sweep over, and without llama.cpp if it can't be fetched
#   tools/gpu-lab.sh 1          where the program is: kernels, boundaries, products, whole models, llama.cpp
#   tools/gpu-lab.sh 2          sweeps over variants of kernels, and over what is between the dispatches of a whole model
#   tools/gpu-lab.sh 3          whole models at several depths, every check of every kernel, llama.cpp
#
# A call takes at most nine minutes, LAB_SECONDS=540, with which the stages' limits shrink. It writes into the folder OUT
# (gpu-lab/out): stages.jsonl as the stages end, report.json and report.md at the end. A stage that fails, or whose time is over, is
# a line like the others.
#
# LAB_SMALL=1 rehearses at small sizes, as CPU drivers do by themselves. LAB_RUN=PROGRAM runs the programs on another driver,
# LAB_TYPES="q4_0 f16" chooses weights, PUMICE_DEVICE the device, LAB_CPU_LIBRARY=FILE llama.cpp's CPU library (tools/bench-peer.py).
# Where Vulkan's loader is not installed, that of the pack is used.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tools/lib.sh
. tools/lib.sh
export LC_ALL=C

PACK=$PWD/gpu-lab/pack
PACK_BYTES=28000000
report() { python3 tools/gpu-report.py "$@"; }

# ----- pack

# small_file FILE OUTPUT compresses a file.
small_file() { xz -T0 -6 -c "$1" >"$2"; }

# pack_kernels compiles the variants of lab/variants.txt: the sources with other numbers in their #define lines.
pack_kernels() {
	local glslc name kernel defines row source target sources flags define
	glslc=$(tools/glslc.sh --compiler)
	go run ./tools/variants rows >"$work/rows"
	while read -r name kernel _ _ defines _; do
		mkdir -p "$work/kernels/$name"
		[ "$defines" != - ] || continue
		row=$(grep "^$kernel " "$work/rows") || die "lab/variants.txt: $name: no kernel $kernel"
		read -r _ source target row <<<"$row"
		sources=$work/sources/$name
		mkdir -p "$work/sources"
		cp -r shaders "$sources"
		flags=(-O "--target-env=$target" -fshader-stage=compute -I "$sources/include")
		for define in $row; do flags+=("-D$define"); done
		for define in ${defines//,/ }; do
			grep -rqE "^#define ${define%%=*} " "$sources" || die "lab/variants.txt: $name: no source defines ${define%%=*}"
			sed -i -E "s#^(\#define ${define%%=*}) .*#\1 ${define#*=}#" "$sources/$source" "$sources"/include/*.glsl
		done
		$glslc "${flags[@]}" -o "$work/kernels/$name/$kernel.spv" "$sources/$source"
	done < <(sed 's/#.*//; /^[[:space:]]*$/d' lab/variants.txt)
	tar -C "$work" -cf "$work/kernels.tar" kernels
	small_file "$work/kernels.tar" "$PACK/kernels.tar.xz"
}

# pack_peer packs the programs and libraries of llama.cpp's build that the server needs.
pack_peer() {
	local binaries
	binaries=$(tools/bench-peer.py --fetch) || return
	# A library under several names is packed once, and the names as links.
	mkdir "$work/peer"
	(
		cd "$binaries"
		sha256sum -- * | sort | while read -r sum name; do
			if [ -e "$work/sum.$sum" ]; then
				ln -s "$(cat "$work/sum.$sum")" "$work/peer/$name"
			else
				cp -L "$name" "$work/peer/$name"
				echo "$name" >"$work/sum.$sum"
			fi
		done
	)
	tar -C "$work" -cf "$work/peer.tar" peer
	small_file "$work/peer.tar" "$PACK/peer.tar.xz"
}

pack() {
	local commit bytes
	command -v go >/dev/null || die "no Go: the programs are built with it"
	rm -rf "$PACK"
	mkdir -p "$PACK"
	commit=$(git describe --always --dirty --abbrev=40 --match='' 2>/dev/null || echo unknown)
	say "building"
	go build -tags lab -trimpath -ldflags "-s -w -X pumice/internal/version.stamped=$commit" -o "$work/pumice" ./cmd/pumice
	go test -tags lab -c -trimpath -ldflags '-s -w' -o "$work/benchmarks" ./pipeline/verify
	echo "$commit" >"$PACK/commit"
	if [ "${1-}" = own ]; then
		cp "$work/pumice" "$work/benchmarks" "$PACK"
		tools/bench-peer.py --fetch >"$PACK/peer" || {
			say "llama.cpp's build can't be had: it is not measured"
			rm "$PACK/peer"
		}
		return
	fi
	small_file "$work/pumice" "$PACK/pumice.xz"
	small_file "$work/benchmarks" "$PACK/benchmarks.xz"
	say "compiling kernels"
	pack_kernels
	say "packing llama.cpp"
	pack_peer || die "llama.cpp's build can't be had"
	bytes=$(du -sb "$PACK" | cut -f 1)
	say "$(du -ab "$PACK" | sort -rn | sed "s#$PACK/##")"
	[ "$bytes" -le $PACK_BYTES ] || die "$PACK has $bytes bytes, more than $PACK_BYTES"
}

# ----- calls

# expand FILE writes what the pack has as FILE.xz to standard output.
expand() {
	xz -dc "$PACK/$1.xz" 2>/dev/null ||
		python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer)' "$PACK/$1.xz"
}

unpack() {
	local name
	[ -e "$PACK/commit" ] || die "no pack: run tools/gpu-lab.sh pack first"
	for name in pumice benchmarks; do
		if [ -e "$PACK/$name.xz" ]; then
			expand $name >"$work/$name"
			chmod +x "$work/$name"
		else
			cp "$PACK/$name" "$work/$name"
		fi
	done
	for name in peer kernels; do
		[ ! -e "$PACK/$name.tar.xz" ] || expand $name.tar | tar -C "$work" -xf -
	done
	[ ! -e "$PACK/peer" ] || ln -s "$(cat "$PACK/peer")" "$work/peer" # of this machine
}

left() { echo $((END - SECONDS)); }

# stage NAME KIND BOX COMMAND... runs a command for at most BOX seconds and appends its line to stages.jsonl. KIND says how
# tools/gpu-report.py reads its output.
stage() {
	local name=$1 kind=$2 box=$3 rc=0 start=$SECONDS
	shift 3
	box=$((box * TOTAL / 540))
	[ "$box" -le "$(left)" ] || box=$(($(left) > 0 ? $(left) : 0))
	: >"$work/output"
	if [ "$box" -gt 1 ]; then
		timeout -k 5 "$box" "$@" >"$work/output" 2>"$work/errors" </dev/null || rc=$?
	else
		rc=124
		echo "the call's time was over" >"$work/errors"
	fi
	report add "$OUT/stages.jsonl" --stage "$name" --kind "$kind" --rc $rc --seconds $((SECONDS - start)) --box "$box" "$work/output" "$work/errors"
	printf '%4d s  %-24s %s\n' "$SECONDS" "$name" "$([ $rc -eq 0 ] && echo ok || echo "status $rc: $(tail -n 1 "$work/errors")")"
}

# ours NAME KIND BOX ARG... is a stage of the program.
ours() {
	local name=$1 kind=$2 box=$3
	shift 3
	stage "$name" "$kind" "$box" "${RUN[@]}" "$work/pumice" --quiet "$@"
}

# benchmarks NAME BOX PATTERN is a stage of Go's benchmarks.
benchmarks() {
	stage "$1" go "$2" "${RUN[@]}" "$work/benchmarks" -test.run '^$' -test.bench "$3" -test.benchtime "$RUNS" -scale "$SCALE"
}

# synthesise TYPE [SIZE] writes a model of random weights in the background; ready TYPE [SIZE] waits for it and makes it MODEL.
synthesise() {
	local file=$MODELS/${2-$SIZE}-$1.gguf
	"$work/pumice" --quiet synth --family llama --size "${2-$SIZE}" "${SHAPE[@]}" --type "$1" --output "$file" 2>"$file.errors" &
	pids+=($!)
	writers[$file]=$!
}
ready() {
	local file=$MODELS/${2-$SIZE}-$1.gguf
	while [ ! -e "$file" ] && [ "$(left)" -gt 1 ]; do # it appears when it is whole
		if ! kill -0 "${writers[$file]}" 2>/dev/null && [ ! -e "$file" ]; then
			say "no model of $1: $(tail -n 1 "$file.errors")"
			return 1
		fi
		sleep 0.2
	done
	MODEL=$file
	[ -e "$file" ]
}

# gib is how much memory a 7B model of a type needs with a cache of 4096 positions, about.
gib() {
	case $1 in q4_0 | q4_k) echo 7 ;; q8_0) echo 10 ;; *) echo 17 ;; esac
}

# prepare looks at the machine: device, sizes, room.
prepare() {
	local type free device
	read -ra RUN <<<"${LAB_RUN-}"
	TOTAL=${LAB_SECONDS:-540} END=$TOTAL OUT=${OUT:-$PWD/gpu-lab/out}
	mkdir -p "$OUT"
	rm -f "$OUT"/{stages.jsonl,report.json,report.md,clocks.csv}
	unpack
	if ! ldconfig -p 2>/dev/null | grep -q 'libvulkan\.so\.1 ' && [ -e "$work/peer/libvulkan.so.1" ]; then
		mkdir "$work/loader"
		cp "$work/peer/libvulkan.so.1" "$work/loader"
		export LD_LIBRARY_PATH=$work/loader${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	fi
	export XDG_CACHE_HOME=$work/cache # compiled pipelines and checks of other versions are not ours
	ours devices json 30 devices --json
	device=$(python3 -c 'import json, sys
list = [d for d in json.load(open(sys.argv[1])) if not d.get("error")]
best = max(list, key=lambda d: (d["type"] != "cpu", d["memory_free"]), default={"type": "none", "memory_free": 0})
print(best["type"], best["memory_free"] >> 30)' "$work/output") || die "no devices: $(tail -n 1 "$work/errors")"
	read -r device free <<<"$device"
	[ "$device" != none ] || die "no device that can be used: $(cat "$work/output" "$work/errors")"
	SMALL=() SIZE=2-7b SHAPE=(--context 32768) SCALE=1 RUNS=20x REPS=3 TYPES=()
	PROMPTS=8,64,512 GEN=128 DEPTHS=0,4096 DEEP=0,4096,16384 PATHS='dp2|sg|base' CHECKED=q4_0,q8_0,q4_k,f16
	if [ -n "${LAB_SMALL-}" ] || [ "$device" = cpu ]; then
		SMALL=(--small) SIZE=135m SCALE=16 RUNS=1x REPS=1 PROMPTS=8,32 GEN=4 DEPTHS=0,64 DEEP=0,32,64 PATHS='row|addr|sg' CHECKED=q4_0 free=64
		SHAPE=(--hidden 256 --heads 4 --kv-heads 2 --head-dim 64 --intermediate 512 --layers 2 --vocab 32000 --context 4096)
	fi
	MODELS=$work/models
	if [ ${#SMALL[@]} -eq 0 ] && [ "$(df --output=avail -B1G /dev/shm 2>/dev/null | tail -n 1)" -gt 40 ]; then MODELS=/dev/shm/pumice-lab.$$; fi
	mkdir -p "$MODELS"
	for type in ${LAB_TYPES:-q4_0 q8_0 q4_k f16}; do
		if [ "$(gib "$type")" -gt "$free" ]; then
			say "$type: a 7B model has no room in $free GiB"
		elif [ ${#SMALL[@]} -eq 0 ] && [ "$(df --output=avail -B1G "$MODELS" | tail -n 1)" -lt 20 ]; then
			say "$type: no room in $MODELS"
		else
			TYPES+=("$type")
		fi
	done
	stage system text 10 sh -c 'uname -srm; sed -n "s/^model name[^:]*: //p" /proc/cpuinfo | sort | uniq -c; grep -E "^(MemTotal|MemAvailable)" /proc/meminfo
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit,pcie.link.gen.max,pcie.link.width.max --format=csv 2>/dev/null || true'
	if command -v nvidia-smi >/dev/null; then
		nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu,utilization.gpu --format=csv -lms 500 >"$OUT/clocks.csv" 2>/dev/null &
		pids+=($!)
	fi
}

# beside TYPE BOX measures llama.cpp beside the program.
beside() {
	[ -d "$work/peer" ] || return 0
	stage "peer $1" peer "$2" python3 tools/bench-peer.py --pumice "$work/pumice" --model "$MODEL" --pp "${PROMPTS##*,}" --tg "$GEN" --rounds 2 \
		--settings 1 --binaries "$work/peer" ${LAB_RUN:+--run "$LAB_RUN"} ${LAB_CPU_LIBRARY:+--cpu-library "$LAB_CPU_LIBRARY"} --json
}

# types_pattern is a pattern of Go's benchmarks for the types' names.
types_pattern() { tr 'a-z ' 'A-Z|' <<<"${LAB_TYPES:-q4_0 q8_0 q4_k f16}"; }

call_1() {
	local type
	for type in "${TYPES[@]}"; do synthesise "$type"; done
	if command -v nvcc >/dev/null; then
		stage probe json 60 sh -c "nvcc -O3 -arch=native -rdc=true lab/probe.cu -o '$work/probe' >&2 && '$work/probe'"
	fi
	ours verify verify 100 verify --quick --types $CHECKED --json
	ours "kernel stats" json 40 kernels --stats --json
	benchmarks boundaries 30 '^Benchmark(Barrier|Read|Submit)$'
	benchmarks matvec 70 "^BenchmarkMatvec\$/^($(types_pattern))\$/^($PATHS)\$/^cold\$"
	for type in "${TYPES[@]}"; do
		ready "$type" || continue
		if [ "$type" = q4_0 ]; then
			ours "bench $type" json 75 bench "$MODEL" -p $PROMPTS -n $GEN -d $DEPTHS -r $REPS --json
		else
			ours "bench $type" json 40 bench "$MODEL" -p "${PROMPTS##*,}" -n $((GEN / 2)) -r 2 --json
		fi
		ours "profile $type" json 20 bench "$MODEL" -p "${PROMPTS##*,}" -n 8 -r 1 --profile --json
	done
	if ready q4_0; then beside q4_0 100; fi
	benchmarks attention 40 "^BenchmarkAttention\$/^(F16|Q8_0)\$/^($PATHS)\$/^(7B|8B)\$/^1of"
}

call_2() {
	local setting
	# The first one is the plan as it is. 10 MB are the output projection of a layer, 30 MB what a second-level cache of 50 MB holds.
	# walkers are the workgroups of linked kernels, one or two for each unit of a large GPU; where fewer run at once, only time is lost.
	local settings=(bufferBarriers=0 bufferBarriers=1 walkers=128 walkers=256 prefetch=10000000 prefetch=30000000 split=1000000 split=4000000 "prefetch=10000000 split=1000000")
	synthesise q4_0
	[ ! -d "$work/kernels" ] || report sweep "$OUT/stages.jsonl" lab/variants.txt --kernels "$work/kernels" --pumice "$work/pumice" \
		--benchmarks "$work/benchmarks" --run "${LAB_RUN-}" --seconds $(($(left) * 3 / 5)) --runs "$RUNS" --scale "$SCALE" || true
	if ready q4_0; then
		for setting in "${settings[@]}"; do
			PUMICE_LAB=$setting ours "tokens $setting" json 20 generate "$MODEL" -p "a b c" -n $GEN --temp 0 --json
			PUMICE_LAB=$setting ours "plan $setting" json 20 bench "$MODEL" -p 0 -n $GEN -r $REPS --json
		done
		for setting in "${settings[@]:0:2}"; do # once more, in case clocks have changed; the later figures count
			PUMICE_LAB=$setting ours "plan $setting" json 20 bench "$MODEL" -p 0 -n $GEN -r $REPS --json
		done
	fi
	benchmarks boundaries 30 '^Benchmark(Barrier|Read|Submit)$'
	benchmarks matmul 60 '^BenchmarkMatmul512$/^Q4_0$/^(cm|fp16|dp)$/^cold$'
}

call_3() {
	local type
	synthesise q4_0
	synthesise q8_0
	synthesise q4_0 "${LARGER:=3-8b}"
	for type in q4_0 q8_0; do
		ready $type || continue
		ours "bench $type" json 110 bench "$MODEL" -p $PROMPTS -n $GEN -d $DEEP -r $((REPS + 2)) --json
		ours "profile $type" json 20 bench "$MODEL" -p "${PROMPTS##*,}" -n 8 -r 1 --profile --json
		beside $type 80
	done
	if ready q4_0 "$LARGER"; then
		ours "bench q4_0 of $LARGER" json 60 bench "$MODEL" -p "${PROMPTS##*,}" -n $GEN -d $DEPTHS -r $REPS --json
	fi
	ours verify verify 200 verify --types $CHECKED --json
}

case ${1-} in
pack | 1 | 2 | 3) ;;
*) die "usage: tools/gpu-lab.sh pack [own] | 1 | 2 | 3" ;;
esac
work=$(mktemp -d)
pids=() MODELS=
declare -A writers
finish() {
	[ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || :
	rm -rf "$work"
	[ -z "$MODELS" ] || rm -rf "$MODELS"
}
trap finish EXIT
if [ "$1" = pack ]; then
	pack "${2-}"
	exit
fi
command -v python3 >/dev/null || die "no python3: tools/gpu-report.py needs it"
SECONDS=0
prepare
"call_$1"
report finish "$OUT/stages.jsonl" "$OUT/report.json" --call "$1" --commit "$(cat "$PACK/commit")" "${SMALL[@]}" | tee "$OUT/report.md"
say "results: $OUT/report.json"
