# make demo: builds Keyhole and runs its main job on this machine.   make test: everything CI runs.
# make bench: the figures.   The rest are parts of these.
.PHONY: demo test bench fmt lint deny unit docs servers tools
export CARGO_TERM_COLOR ?= auto
TOOLS := $(or $(CARGO_TARGET_DIR),target)/tools

demo:
	cargo run --quiet -- demo $(ARGS)

test: fmt lint unit docs tools deny servers

bench:
	tests/tools/install
	tests/tools/build bao
	KEYHOLE_TOOLS=$(abspath $(TOOLS)) cargo bench --bench bench -- $(ARGS)

fmt:
	tests/tools/install
	cargo fmt --check

lint:
	cargo clippy --all-targets --all-features -- -D warnings

# All that needs no external server; what `cargo test` alone runs.
unit:
	cargo build
	cargo test

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --document-private-items

tools:
	tests/tools/build

deny:
	$(TOOLS)/cargo-deny --all-features check bans licenses sources

# The same volume tests on a real OpenBao, csi-sanity, and our protos against the published ones.
servers: tools
	KEYHOLE_TOOLS=$(abspath $(TOOLS)) cargo test --features servers --test servers
