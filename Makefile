# Everything a person or a machine does with this repository. `make demo` and `make test` set up what
# they need by themselves, as root on Debian or Ubuntu with a Rust toolchain, and leave the host as it was.

CARGO ?= cargo
HOOK_FLAGS = --profile hook -p nightlatch-hook --target-dir target/static
STATIC = -C target-feature=+crt-static

.PHONY: build demo playground test lint bench fuzz clean

build:
	$(CARGO) build --locked --workspace
	$(CARGO) rustc --locked $(HOOK_FLAGS) --bin authorized-keys -- $(STATIC)
	$(CARGO) rustc --locked $(HOOK_FLAGS) --bin pam -- $(STATIC)

demo: build
	target/debug/nightlatch-demo

playground: build
	target/debug/nightlatch-demo --playground

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet

test: build lint
	$(CARGO) test --locked --workspace

bench: build
	$(CARGO) bench --locked --bench figures

clean:
	$(CARGO) clean
