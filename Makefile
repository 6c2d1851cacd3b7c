# Everything a person or a machine does with this repository. `make demo` and `make test` set up what
# they need by themselves, as root on Debian or Ubuntu with a Rust toolchain, and leave the host as it was.

CARGO ?= cargo
WITH_TOOLS = tools/with-tools.sh $(MAKE) --no-print-directory
HOOK = --profile hook -p nightlatch-hook --target-dir target/static
STATIC = -C target-feature=+crt-static

.PHONY: demo playground test bench fuzz soak build lint run-demo run-playground run-tests run-tests-on-trixie run-bench clean

# -- for people --

demo:
	@$(WITH_TOOLS) run-demo

playground:
	@$(WITH_TOOLS) run-playground

test:
	@$(WITH_TOOLS) run-tests

bench:
	@$(WITH_TOOLS) run-bench

# Coverage-guided fuzzing of everything that strangers can send and of everything that the node reads;
# needs cargo-fuzz and a C++ compiler. `make test` runs the same targets over fixed input.
FUZZ_TARGETS ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
FUZZ_SECONDS ?= 300
fuzz:
	for target in $(FUZZ_TARGETS); do mkdir -p fuzz/corpus/$$target && \
		CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_STRIP=none RUSTC_BOOTSTRAP=1 \
		$(CARGO) fuzz run --features libfuzzer --sanitizer none $$target fuzz/corpus/$$target \
		$$(ls -d fuzz/seeds/$$target 2>/dev/null) -- -max_total_time=$(FUZZ_SECONDS) || exit 1; done

# The stories again and again, with the long rounds.
soak: build
	for round in 1 2 3 4 5; do NIGHTLATCH_SOAK=1 $(CARGO) test --locked --workspace --test e2e || exit 1; done

clean:
	$(CARGO) clean

# -- the parts --

# The hook has a target folder of its own: the next `cargo build` would replace a static program by a
# dynamic one, silently.
build:
	$(CARGO) build --locked --workspace
	$(CARGO) rustc --locked $(HOOK) --bin authorized-keys -- $(STATIC)
	$(CARGO) rustc --locked $(HOOK) --bin pam -- $(STATIC)

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

run-demo: build
	target/debug/nightlatch-demo

run-playground: build
	target/debug/nightlatch-demo --playground

# The whole lock file: a test looks at what every platform would link, and asks no registry.
run-tests: build lint
	$(CARGO) fetch --locked
	$(CARGO) test --locked --workspace --no-fail-fast
	@$(MAKE) --no-print-directory run-tests-on-trixie

# What depends most on sshd, PAM and systemd, once more on nodes of Debian 13. Only Debian 12 can make them and run its
# programs there: a Debian 13 has run everything on its own release, and others have neither its mirrors nor its C library.
TRIXIE_STORIES ?= live::role live::revoke live::the_break step_up::what step_up::who tenant::a tenant::what openpubkey::nightlatch openpubkey::a_client
run-tests-on-trixie:
	@if grep -qx 'VERSION_CODENAME=bookworm' /etc/os-release; then \
		NIGHTLATCH_NODE_RELEASE=trixie $(CARGO) test --locked --workspace --test e2e -- $(TRIXIE_STORIES); \
	else \
		echo "not Debian 12: the stories ran on nodes of this host's own release alone" >&2; \
	fi

run-bench: build
	$(CARGO) bench --locked --bench figures
