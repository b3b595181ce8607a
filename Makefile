# Front door: `make` lists what there is.

PROFILE ?= release
BDEV    ?= file
PLUGINS ?= builtin
PROVIDER ?= tcp
ONCE    ?=
export PROFILE BDEV PLUGINS PROVIDER ONCE

.DEFAULT_GOAL := help
.PHONY: help run test lint unit mutants plugins e2e fuzz vm-test spdk-versions bench soak docs man clean

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16
	@echo
	@echo "make run BDEV=file|malloc|kdev PLUGINS=builtin|dir PROVIDER=tcp|ofi+... ONCE=1 PROFILE=release|dev"

run: ## Install what is missing, build, start a whole system, format it, run a verified workload
	tools/install build
	tools/run

test: ## Install what is missing and run every test
	tools/install test
	tools/test

lint: ## Formatting, clippy, documentation, dependency policy
	tools/install lint
	tools/test lint

unit: ## Unit, property and conformance tests of the workspace
	tools/test unit

mutants: ## Remove each flush, persist and sync in turn; a test must notice
	tools/install test
	tools/test mutants

e2e: ## The real programs together
	tools/test e2e

fuzz: ## Coverage-guided fuzzing: a minute for manifests, helpers, config, gRPC and dRPC, 5 s for the rest, or FUZZ_SECONDS
	tools/install test
	tools/test fuzz

vm-test: ## Drivers in a virtual machine: SPDK on emulated NVMe, libfabric on software RDMA
	tests/vm/test

spdk-versions: ## The NVMe plugin on SPDK 26.01 in a virtual machine
	tests/vm/spdk-versions

bench: ## Measure against named peers; writes the table of docs/performance.md to standard output
	tools/install bench
	tools/bench

soak: ## The long tests: many crash points, long fuzzing, another SPDK
	tools/test soak

man: ## Manual pages and shell completions into build/
	tools/man

clean: ## Remove everything that was built
	cargo clean
	rm -rf build
