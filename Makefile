# `make` lists the targets. The work is in tools/; each script there says what it does.

# The prompt reaches the program through the environment, unexpanded, so that any character may stand in it.
override export PROMPT := $(value PROMPT)

.PHONY: help
help:
	@echo "make chat               install what is missing, build, fetch the default model, and chat"
	@echo "make chat PROMPT='...'  the same, but answer once"
	@echo "make build              build bin/pumice"
	@echo "make window             install what is missing, and build bin/pumice and bin/pumice-window with windows"
	@echo "make test               install what the tests need, and run all of them"
	@echo "make quick              a first look at what changed since the last commit"
	@echo "make lint               gofmt, go vet, staticcheck, shellcheck"
	@echo "make shaders            compile the shaders that changed (shaders/spv is committed)"
	@echo "make man                write the manual pages into bin/man/man1"
	@echo "make licenses           write NOTICE and the licences of linked modules, after a change of go.mod"
	@echo "make fuzz FUZZTIME=30s  run every fuzz target"
	@echo "make mutate ARGS='-op add'  change kernels at random, ten times an op, and see verification notice"
	@echo "make bench-peer         measure beside llama.cpp's Vulkan backend, on this machine's device"
	@echo "make gpu-report         measure on this machine's GPU for ten minutes, into a file to send in"
	@echo "make isa-report         count what GPU drivers' compilers make of the kernels, without a GPU, into docs/isa.md and docs/predictions.md"
	@echo "make coalescing-report  count what the lanes of a subgroup ask of memory together, into docs/coalescing.md"
	@echo "make bench-tokenizers   measure encoding beside the Rust library tokenizers, on one core"
	@echo "make quantization-table  measure what each weight type costs in quality, and write the table of docs/quantization.md"
	@echo "make clean              remove bin/"

# For pumice --version, also where GOFLAGS turns off Go's own stamp.
COMMIT = $(shell git describe --always --dirty --abbrev=40 --match='' 2>/dev/null)
BUILD = go build -trimpath -ldflags "-X pumice/internal/version.stamped=$(COMMIT)" -o bin/pumice ./cmd/pumice
WINDOW = go build -trimpath -tags window -ldflags "-X pumice/internal/version.stamped=$(COMMIT)" -o bin/ ./cmd/pumice ./cmd/pumice-window

.PHONY: build
build:
	$(BUILD)

.PHONY: window
window:
	@tools/setup.sh window
	$(WINDOW)

.PHONY: chat
chat:
	@tools/setup.sh chat
	$(BUILD)
	@tools/model.sh >/dev/null
	@if [ -n "$$PROMPT" ]; then bin/pumice chat smollm2 -p "$$PROMPT"; else bin/pumice chat smollm2; fi

.PHONY: test
test:
	@tools/setup.sh test
	@tools/test.sh

.PHONY: quick
quick:
	@tools/test.sh quick

.PHONY: lint
lint:
	@tools/test.sh lint

.PHONY: shaders
shaders:
	@tools/glslc.sh

.PHONY: man
man: build
	bin/pumice man --output-dir bin/man/man1

.PHONY: licenses
licenses:
	go run ./tools/licenses

.PHONY: fuzz
fuzz:
	@FUZZTIME="$(or $(FUZZTIME),30s)" tools/fuzz.sh

.PHONY: mutate
mutate:
	@tools/setup.sh test
	go run ./tools/mutate $(ARGS)

.PHONY: bench-peer
bench-peer:
	@tools/setup.sh chat
	$(BUILD)
	@tools/bench-peer.py --model "$$(tools/model.sh)" $(ARGS)

.PHONY: gpu-report
gpu-report:
	@tools/gpu-lab.sh pack own
	@tools/gpu-lab.sh 1
	@echo "To publish these figures, send in gpu-lab/out/report.json: docs/gpus/README.md says how."

.PHONY: isa-report
isa-report:
	@tools/isa.sh

.PHONY: coalescing-report
coalescing-report:
	@go run ./internal/coalesce docs/coalescing.md

.PHONY: bench-tokenizers
bench-tokenizers:
	@tools/bench-tokenizers.py $(ARGS)

.PHONY: quantization-table
quantization-table:
	@tools/setup.sh chat
	$(BUILD)
	@tools/quantization.py --model "$$(tools/model.sh)" --spread --doc docs/quantization.md $(ARGS)

.PHONY: clean
clean:
	rm -rf bin
