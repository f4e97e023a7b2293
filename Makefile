# The few commands a person types. `make` alone lists them.

CARGO ?= cargo
# debug or release: which build of the programs the tests drive.
PROFILE ?= debug

# rustup's own place, for a shell that has not read its profile yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

ifeq ($(filter $(PROFILE),debug release),)
$(error PROFILE=$(PROFILE): allowed are debug and release)
endif

RELEASE := $(if $(filter release,$(PROFILE)),--release)
NEXTEST := $(shell PATH='$(PATH)' command -v cargo-nextest 2>/dev/null)
DENY := $(shell PATH='$(PATH)' command -v cargo-deny 2>/dev/null)
MACHETE := $(shell PATH='$(PATH)' command -v cargo-machete 2>/dev/null)

.PHONY: help demo test torture bench images lint fmt toolchain

help: ## Show this list
	@echo 'Usage: make COMMAND'
	@echo
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: toolchain ## Collect three isolated sites on this machine, and check every file
	$(CARGO) build --quiet --release --workspace --bins
	@tests/demo.sh

test: ## Run all tests on the built programs (PROFILE=release: on the release build)
	@tests/toolchain.sh tests
	$(CARGO) build --workspace --bins $(RELEASE)
	@status=0; \
	$(CARGO) $(if $(NEXTEST),nextest run,test) --workspace --no-fail-fast $(RELEASE) || status=1; \
	$(CARGO) $(if $(NEXTEST),nextest run,test) --package simulation --features simulation --no-fail-fast $(RELEASE) || status=1; \
	PROFILE=$(PROFILE) tests/chart/run || status=1; \
	PROFILE=$(PROFILE) tests/deploy/run || status=1; \
	PROFILE=$(PROFILE) tests/prometheus/run || status=1; \
	if [ -n "$$KUBERNETES_LOAD" ]; then deploy/images.sh || exit 1; fi; \
	tests/kubernetes/run || status=1; \
	exit $$status

torture: ## Try to break every promise for half an hour, and count
	@tests/toolchain.sh tests
	@tests/torture.sh

bench: ## Measure against what this machine's disk does
	@tests/toolchain.sh bench
	$(CARGO) build --quiet --release --workspace --bins
	$(CARGO) run --quiet --release --package bench

images: toolchain ## Build this machine's container images into target/images, and measure them
	@deploy/images.sh
	@tests/deploy/measure.py

lint: toolchain ## Check form, lints, documentation and dependencies
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --package simulation --features simulation --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
ifneq ($(DENY),)
	$(CARGO) deny check bans licenses sources
else
	@echo 'cargo-deny is not installed: dependencies not checked (cargo install --locked cargo-deny)'
endif
ifneq ($(MACHETE),)
	$(CARGO) machete --with-metadata
else
	@echo 'cargo-machete is not installed: unused dependencies not looked for (cargo install --locked cargo-machete)'
endif

fmt: ## Format the code
	$(CARGO) fmt --all

toolchain:
	@tests/toolchain.sh
