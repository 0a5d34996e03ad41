# One command for each thing that people do here; `make test` is what CI runs.
# Everything is built once, in the dev profile; only `bench` and `image` build with optimisations.

CARGO ?= cargo
# Tools that are fetched on demand stay inside target/.
TOOLS ?= $(CURDIR)/target/tools
export PATH := $(TOOLS)/bin:$(PATH)
# Without optimisations, which take minutes and save seconds.
QUICK_INSTALL := CARGO_PROFILE_DEV_DEBUG=0 $(CARGO) install --debug
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ_VERSION := 0.13.2
CARGO_MUTANTS_VERSION := 27.1.0
CARGO_AUDITABLE_VERSION := 0.7.7
AUDITABLE2CDX_VERSION := 0.1.0
IMAGE ?= linxo-webhook
# Of the last commit, so that whoever builds it again gets the same bytes.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
BUILD_COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)

# Of the accessibility rules that the page is held against.
AXE_VERSION := 4.14.1
.PHONY: help demo test lint unit doc deny advisories configs alerts units charts try-demo image-check trust-check package-check browser screenshots fuzz-api kafka fuzz proof mutants bench dist dist-check image images clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Show the whole flow: receiver, vendor double and sink in one process
	$(CARGO) run --locked --release -- demo

test: lint doc unit deny advisories configs alerts units try-demo ## Everything that must hold before a change lands

lint: ## Formatting and lints
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

doc: ## API documentation without a warning
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

# Tests wait more than they compute, so more of them run at a time than there are processors.
unit: ## All tests, with the servers that they need (.ci/services)
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$((2 * $$(nproc)))} .ci/services $(CARGO) test --locked --workspace

deny: $(if $(shell PATH="$(PATH)" command -v cargo-deny),,$(TOOLS)/bin/cargo-deny) ## Licences, bans and sources of the dependencies
	$(CARGO) deny --locked check --hide-inclusion-graph bans licenses sources

advisories: $(if $(shell PATH="$(PATH)" command -v cargo-deny),,$(TOOLS)/bin/cargo-deny) ## Known weaknesses of the dependencies (left out where the database cannot be reached)
	.ci/advisories

$(TOOLS)/bin/cargo-deny:
	$(QUICK_INSTALL) cargo-deny --locked --version $(CARGO_DENY_VERSION) --root $(TOOLS)

configs: target/debug/linxo-webhook ## `check` on every configuration file that is shipped
	.ci/check-configs target/debug/linxo-webhook

alerts: ## The alert rules: each in a case in which it fires and one in which it is quiet (needs promtool)
	.ci/alerts

units: target/debug/linxo-webhook ## The systemd units: understood, and shut in (needs systemd-analyze)
	.ci/units target/debug/linxo-webhook

charts: target/debug/linxo-webhook ## The Helm chart and the compose files: rendered, held against schemas and rules (fetches what it needs)
	.ci/charts target/debug/linxo-webhook

try-demo: target/debug/linxo-webhook ## The demo, with the build that the tests used
	target/debug/linxo-webhook demo

image-check: target/debug/linxo-webhook ## The container's root folder, tried by hand without a container engine (as root)
	deploy/image-check.sh target/debug/linxo-webhook

trust-check: target/debug/linxo-webhook ## The listener before sslyze, slowhttptest and floods of HTTP/2 (fetches what it needs)
	.ci/trust-check target/debug/linxo-webhook

browser: $(TOOLS)/axe.min.js ## The admin page in a real Chromium (needs Debian's chromium and chromium-driver, and npm)
	BROWSER_TESTS=required $(CARGO) test --locked --workspace --test it browser

screenshots: $(TOOLS)/axe.min.js ## Pictures of the admin page on a desktop and a phone, light and dark, in target/screenshots
	BROWSER_TESTS=required SCREENSHOTS=$(CURDIR)/target/screenshots $(CARGO) test --locked --workspace --test it pictures_are_taken

$(TOOLS)/axe.min.js:
	mkdir -p $(TOOLS)
	cd $(TOOLS) && npm pack --silent axe-core@$(AXE_VERSION) && tar xzf axe-core-$(AXE_VERSION).tgz package/axe.min.js && mv package/axe.min.js . && rm axe-core-$(AXE_VERSION).tgz

fuzz-api: target/debug/linxo-webhook ## The admin API against its document (needs schemathesis; EXAMPLES=500 for longer)
	.ci/fuzz-api target/debug/linxo-webhook

kafka: ## The sink on Kafka, which is not in the usual build: built, linted and tested (needs a C compiler, make, libssl-dev, zlib1g-dev)
	$(CARGO) clippy --locked --package delivery --all-targets --all-features -- -D warnings
	$(CARGO) test --locked --package delivery --all-features --lib kafka

fuzz: $(if $(shell PATH="$(PATH)" command -v cargo-fuzz),,$(TOOLS)/bin/cargo-fuzz) ## Readers of foreign bytes under a fuzzer, 20 s each (SECONDS_EACH=600 for longer)
	.ci/fuzz

$(TOOLS)/bin/cargo-fuzz:
	$(QUICK_INSTALL) cargo-fuzz --locked --version $(CARGO_FUZZ_VERSION) --root $(TOOLS)

proof: ## Kills, power cuts, full and failing disks by the hundred, several receivers under faults, changed code (an hour and a half, as root; docs/proof.md)
	.ci/proof
	$(MAKE) mutants

mutants: $(if $(shell PATH="$(PATH)" command -v cargo-mutants),,$(TOOLS)/bin/cargo-mutants) ## Code that keeps promises, changed in one place at a time: do its tests notice? (MUTANTS=20 places of each kind, an hour)
	.ci/mutants

$(TOOLS)/bin/cargo-mutants:
	$(QUICK_INSTALL) cargo-mutants --locked --version $(CARGO_MUTANTS_VERSION) --root $(TOOLS)

bench: ## The figures of docs/benchmarks.md (five to ten minutes; BENCH="receipt --quick" for a part, briefly)
	$(CARGO) bench --locked --bench service -- $(BENCH)

dist: $(TOOLS)/bin/cargo-auditable $(TOOLS)/bin/auditable2cdx ## Tarball, Debian package, bill of materials and checksums, in target/dist (TARGET=aarch64-unknown-linux-gnu for another machine)
	BUILD_COMMIT=$(BUILD_COMMIT) deploy/build.sh $(if $(TARGET),--target $(TARGET))
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) deploy/package.sh target/$(if $(TARGET),$(TARGET)/)release/linxo-webhook target/dist

$(TOOLS)/bin/cargo-auditable:
	$(CARGO) install cargo-auditable --locked --version $(CARGO_AUDITABLE_VERSION) --root $(TOOLS)

$(TOOLS)/bin/auditable2cdx:
	$(CARGO) install auditable2cdx --locked --version $(AUDITABLE2CDX_VERSION) --root $(TOOLS)

dist-check: ## Builds the packages twice, in two folders, and compares them (ten minutes or more)
	.ci/dist-check

package-check: target/debug/linxo-webhook ## Packs the binary of the tests, installs and removes the package in a throwaway copy of this machine
	.ci/package-check target/debug/linxo-webhook

image: ## The container image
	docker build $(if $(RUST),--build-arg RUST=$(RUST)) --build-arg BUILD_COMMIT=$(BUILD_COMMIT) --tag $(IMAGE) .

images: ## The container image for amd64 and arm64 (needs buildx, and QEMU for the other machine; IMAGE=registry/name PUSH=--push)
	docker buildx build --platform linux/amd64,linux/arm64 $(if $(RUST),--build-arg RUST=$(RUST)) --build-arg BUILD_COMMIT=$(BUILD_COMMIT) --tag $(IMAGE) $(PUSH) .

clean: ## Remove everything that was built
	$(CARGO) clean

# Cargo knows better than make whether anything is to be done.
.PHONY: target/debug/linxo-webhook
target/debug/linxo-webhook:
	$(CARGO) build --locked --workspace --tests
