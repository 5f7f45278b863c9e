# The one entry for work on Carillon; `make help` lists it. Continuous integration calls `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The steps share two things that do not divide: cargo's target directory and the reader's screen.
.NOTPARALLEL:

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
# First what scripts/setup.sh fetched for this checkout alone; nginx and Postfix live in sbin, which Debian leaves
# out of an ordinary user's PATH.
export PATH := $(TARGET_DIR)/tools/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin

# In continuous integration a lock file that does not fit is an error, not something to repair.
LOCKED := $(if $(CI),--locked)
# make fuzz SECONDS=600
SECONDS ?= 60
# make load ARGS="--sockets 10000", make bench ARGS="frame", make cluster ARGS="--duration 60"
ARGS ?=

step = @printf '\n==> %s\n' "$(1)"

.PHONY: help setup test lint fmt fmt-check structure clippy doc rust openapi js browser check-deploy bench footprint instructions \
	bench-peers load cluster soak fuzz

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what the tests need: Debian packages, Rust components, npm packages
	$(call step,setup: what the tests need)
	@scripts/setup.sh

test: setup lint rust openapi js browser check-deploy ## everything: setup, lint, all tests, deployment files
	@printf '\n==> make test: everything passed\n'

lint: fmt-check structure clippy doc ## format, module structure, clippy and documentation, warnings denied

fmt: ## format the Rust code
	cargo fmt --all

fmt-check:
	$(call step,format)
	cargo fmt --all --check

structure:
	$(call step,module structure)
	python3 scripts/check-structure.py

clippy:
	$(call step,clippy)
	cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings

doc: ## build the API documentation, warnings denied
	$(call step,documentation)
	RUSTDOCFLAGS="-D warnings" cargo doc $(LOCKED) --workspace --no-deps --quiet

rust: ## all Rust tests, the crash test included
	$(call step,Rust tests)
	cargo test $(LOCKED) --workspace
	$(call step,the dispatcher on PostgreSQL)
	it=$$(scripts/test-binary.py dispatcher it $(LOCKED)) && cd dispatcher && CARILLON_TEST_DATABASE=postgres $$it --skip on_sqlite

openapi: ## the running server, held to its own OpenAPI documents
	$(call step,OpenAPI)
	@scripts/setup.sh openapi
	@scripts/test-binary.py carillon it $(LOCKED) >/dev/null
	@scripts/check-openapi.sh

js: ## the browser client: types and tests
	$(call step,JavaScript client)
	@scripts/setup.sh npm
	cd clients/js && timeout --foreground --kill-after=10 300 npm test

browser: ## the page in headless Chromium, and the edge, against real servers and a real nginx
	$(call step,browser test)
	@scripts/setup.sh npm
	@scripts/test-binary.py carillon it $(LOCKED) >/dev/null
	cd tests/browser && CARILLON_BIN=$(TARGET_DIR)/debug/carillon timeout --foreground --kill-after=10 900 npm test

check-deploy: ## nginx and Helm files, checked with the real tools
	$(call step,deployment files)
	@scripts/check-deploy.sh

bench: ## criterion benches of the hot pieces, bytes a session, instructions; with ARGS only cargo bench with them
	$(call step,time of the hot pieces)
	cargo bench $(LOCKED) -p benches $(or $(ARGS),--bench pieces --bench index)
	@if [ -z "$(ARGS)" ]; then $(MAKE) footprint instructions; fi

footprint: ## bytes a session takes in the indexes; fails beyond its bound
	$(call step,bytes a session)
	cargo bench $(LOCKED) -p benches --bench footprint

instructions: ## instructions of the hot pieces against benches/callgrind.toml; ARGS=--save writes it anew
	$(call step,instructions of the hot pieces)
	@scripts/setup.sh valgrind
	cargo bench $(LOCKED) -p benches --bench instructions -- $(ARGS)

bench-peers: ## Carillon beside other push servers, into docs/benchmarks.md; PEERS="carillon bun" WORKLOADS="k1 k4" RUNS=1
	@scripts/bench-peers.sh

load: ## load test against a release build; ARGS go to the harness
	cargo build $(LOCKED) --release -p carillon -p loadtest
	$(TARGET_DIR)/release/loadtest $(or $(ARGS),idle)

cluster: ## Redis Cluster, PostgreSQL, two hubs, two dispatchers and nginx until Ctrl-C; ARGS="--redis sentinel --hubs 3"
	cargo build $(LOCKED) -p carillon -p rig
	$(TARGET_DIR)/debug/rig cluster --carillon $(TARGET_DIR)/debug/carillon $(ARGS)

soak: ## in full, on PostgreSQL: the crash test with 100,000, floods of 1,000,000, two minutes without the database
	$(call step,crash test in full)
	CARILLON_SOAK=1 cargo test $(LOCKED) --release -p carillon --test it -- --nocapture crash_cluster::what_two
	$(call step,100,000 events through faults)
	CARILLON_SOAK=1 cargo test $(LOCKED) --release -p carillon --test it -- --nocapture kafka_soak
	$(call step,floods beside what is critical and beside what is low)
	CARILLON_SOAK=1 CARILLON_TEST_DATABASE=postgres \
		cargo test $(LOCKED) --release -p dispatcher --test it -- --nocapture --test-threads 1 queue::soak
	$(call step,two minutes without the database)
	CARILLON_OUTAGE_SECONDS=120 CARILLON_OUTAGE_RATE=300 \
		cargo test $(LOCKED) --release -p dispatcher --test it -- --nocapture spool::outage::s1_9_the_database_away

fuzz: ## fuzz the parsers for SECONDS (default 60) in all
	scripts/fuzz.sh $(SECONDS)
