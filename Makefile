# Everything that is done with Braid's sources. `make` alone lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup kubernetes runtimes build image demo test e2e promises bench fuzz lint deny clean

# What executables are built for. Another one needs its standard library (rustup target add) and linker.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
TARGET ?= $(HOST)
# Seconds that each fuzz target runs.
FUZZ_SECONDS ?= 20
# Where the cluster of make e2e comes from: local, kind or kubeconfig; the machine's best without it.
PROVIDER ?=
# The scenarios of make e2e: parts of their names. KEEP=1 leaves the cluster running at the end.
SCENARIOS ?=
# The lines of docs/promises.md that make promises tries: numbers; all without it.
PROMISES ?=
# In CI Cargo.lock has to be right as it is.
LOCKED := $(if $(CI),--locked)

TARGET_DIR := $(abspath $(or $(CARGO_TARGET_DIR),target))
RELEASE := $(TARGET_DIR)/$(TARGET)/release
META_CNI := $(RELEASE)/meta-cni
OPERATOR := $(RELEASE)/braid
SKIPPED := $(abspath target/skipped.txt)
TEST_LOG := $(abspath target/test.log)
NEWER_LOG := $(abspath target/test-newer-plugins.log)

STEP := scripts/step
triple = $(subst -,_,$(1))
shout = $(shell echo '$(call triple,$(1))' | tr a-z A-Z)
# Static: the plugin runs on hosts of any distribution. As an argument of --target it leaves build scripts alone.
STATIC = CARGO_TARGET_$(call shout,$(TARGET))_RUSTFLAGS="-C target-feature=+crt-static"
ifneq ($(TARGET),$(HOST))
STATIC += CARGO_TARGET_$(call shout,$(TARGET))_LINKER=$(subst unknown-,,$(TARGET))-gcc
endif
# What tests and benchmarks run, and where tests say what they skipped.
PROGRAMS = BRAID_META_CNI=$(META_CNI) BRAID_OPERATOR=$(OPERATOR)
# Root can do everything but change the kernel: there a test that skips for another reason fails.
ALL_TESTS := $(if $(filter 0,$(shell id -u)),BRAID_ALL_TESTS=1)
TESTING = env $(PROGRAMS) BRAID_SKIPPED=$(SKIPPED) $(ALL_TESTS)
TEST_ADVICE = run what failed alone: cargo test -p PACKAGE --test TARGET -- NAME, with \
BRAID_META_CNI=$(META_CNI) BRAID_OPERATOR=$(OPERATOR) before it

help: ## list the targets
	@echo 'Braid: several networks for one pod. Targets of make:'
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  \1#\2/p' $(MAKEFILE_LIST) | while IFS='#' read -r name what; do \
		printf '%-13s %s\n' "$$name" "$$what"; done
	@echo 'Variables: TARGET=$(TARGET) FUZZ_SECONDS=$(FUZZ_SECONDS) PROVIDER SCENARIOS KEEP PROMISES'

setup: ## install what is missing on this machine, with apt-get (root or sudo)
	@scripts/setup

kubernetes: setup ## provide the servers of Kubernetes for tests; builds them once (about 10 minutes)
	@scripts/kubernetes --if-possible kube-controller-manager kube-scheduler kubelet kube-proxy

runtimes: setup ## provide newer containerd, etcd and reference plugins for tests; unpacks them once
	@scripts/runtimes --if-possible

build: setup ## build the static release executables meta-cni and braid
	@$(STEP) 'building meta-cni and braid for $(TARGET), static' \
		'read the first error above; for another target: rustup target add $(TARGET), and install its gcc' \
		env $(STATIC) cargo build $(LOCKED) --release --target $(TARGET) -p meta-cni -p operator
	@ls -l $(META_CNI) $(OPERATOR) | awk '{ printf "    %s: %.1f MiB\n", $$NF, $$5 / 1048576 }'

image: build ## pack the executables into images, braid.tar, and braid-index.tar for amd64 and arm64, in target/image
	@$(STEP) 'packing the image' 'the last lines above say what failed; deploy/image/README.md has the recipe' \
		env $(PROGRAMS) BRAID_TARGET=$(TARGET) scripts/image
ifeq ($(TARGET),$(HOST))
	@$(STEP) 'making the image index for amd64 and arm64' 'the last lines above say what failed' \
		env MAKE='$(MAKE)' scripts/image-both $(HOST) target/image/braid.tar
endif

demo: build ## show Braid at work: two pods, several networks each (needs root)
	@$(STEP) 'building the demo' 'read the first error above' cargo build $(LOCKED) -p e2e --bins
	@$(STEP) 'running the demo' 'the last line above says which step failed; it needs root: sudo -E make demo' \
		env $(PROGRAMS) $(TARGET_DIR)/debug/demo

test: build kubernetes runtimes ## run all tests; as root with real networks and container runtimes
	@mkdir -p $(dir $(SKIPPED)) && : > $(SKIPPED)
	@$(STEP) 'running all tests' '$(TEST_ADVICE)' scripts/tests $(TEST_LOG) \
		$(TESTING) cargo test $(LOCKED) --workspace --no-fail-fast
	@$(STEP) 'running the tests of real plugins and runtimes once more, with newer plugins' '$(TEST_ADVICE)' \
		scripts/tests $(NEWER_LOG) \
		$(TESTING) BRAID_CNI_PLUGINS=newest cargo test $(LOCKED) --workspace --no-fail-fast \
		--test real_plugins --test independent_clients
	@scripts/skipped $(SKIPPED)

e2e: build kubernetes runtimes ## run the scenarios on a whole cluster (PROVIDER=local, kind or kubeconfig; SCENARIOS=names)
	@mkdir -p $(dir $(SKIPPED)) && : > $(SKIPPED)
	@$(STEP) 'running the scenarios on a cluster' \
		'each failed scenario above names a directory with pods, events, records, node files and logs' \
		scripts/tests $(TEST_LOG) $(TESTING) BRAID_E2E_PROVIDER=$(PROVIDER) \
		cargo test $(LOCKED) -p e2e --test cluster -- $(SCENARIOS) $(if $(KEEP),--keep)
	@scripts/skipped $(SKIPPED)

promises: setup ## take each guard of docs/promises.md away in a copy and see its test fail (PROMISES="7 9": some)
	@$(STEP) 'building the trial' 'read the first error above' cargo build $(LOCKED) -p e2e --bin promises
	@$(STEP) 'taking guards away' 'NOT SHOWN above says why; the guards are in e2e/src/promises/guards.rs; as root all can \
be tried' $(TARGET_DIR)/debug/promises $(PROMISES)

bench: build kubernetes runtimes ## measure what Braid costs; writes target/bench/summary.json (needs root)
	@$(STEP) 'building the benchmarks' 'read the first error above' \
		env $(STATIC) cargo build $(LOCKED) --release --target $(TARGET) -p e2e --bin bench
	@$(STEP) 'measuring' 'the error above says what failed; it needs root: sudo -E make bench' \
		env $(PROGRAMS) $(RELEASE)/bench

fuzz: setup ## feed the parsers with made-up input for FUZZ_SECONDS each
	@scripts/fuzz $(TARGET) $(TARGET_DIR)/fuzz $(FUZZ_SECONDS)

deny: setup ## check licences, sources and known advisories of all dependencies (deny.toml)
	@scripts/deny

lint: setup ## check format, warnings, documentation, dependencies, their arrows and meta-cni's budgets
	@$(STEP) 'checking the format' 'run: cargo fmt --all' cargo fmt --all --check
	@$(STEP) 'checking the format of the fuzz targets' 'run: cargo fmt --manifest-path fuzz/Cargo.toml' \
		cargo fmt --manifest-path fuzz/Cargo.toml --check
	@$(STEP) 'looking for warnings (clippy)' 'mend what is told above; cargo clippy --fix mends some of it' \
		cargo clippy $(LOCKED) --workspace --all-targets -- -D warnings
	@$(STEP) 'looking for warnings in the fuzz targets (clippy)' 'mend what is told above' \
		cargo clippy $(LOCKED) --manifest-path fuzz/Cargo.toml --target-dir $(TARGET_DIR) \
		--all-targets -- -D warnings
	@$(STEP) 'checking the documentation (rustdoc)' 'mend the links and comments that are told above' \
		env RUSTDOCFLAGS='-D warnings' cargo doc $(LOCKED) --workspace --no-deps
	@$(MAKE) --no-print-directory deny
	@$(MAKE) --no-print-directory build
	@$(STEP) 'checking dependency arrows and budgets' \
		'the message above names the package and the rule; the rules are in e2e/tests/workspace.rs' \
		env $(PROGRAMS) cargo test $(LOCKED) --quiet -p e2e --test workspace -- --include-ignored

clean: ## remove everything that was built
	@$(STEP) 'removing what was built' 'remove $(TARGET_DIR) by hand' cargo clean --quiet
	@rm -rf target
