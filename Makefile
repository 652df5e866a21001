# make demo: builds Keyhole and runs its main job on this machine.   make test: everything CI runs.
# make bench: the figures.   make chaos: kills drivers under readers.   make fuzz: damaged bytes for every parser of what outlives
# a process.   make test-kernels: other kernels, under QEMU.   The rest are parts of these.
.PHONY: demo test bench chaos fuzz test-kernels fmt lint deny unit docs servers tools
export CARGO_TERM_COLOR ?= auto
TOOLS := $(or $(CARGO_TARGET_DIR),target)/tools

demo:
	cargo run --quiet -- demo $(ARGS)

test: fmt lint unit fuzz chaos test-kernels docs tools deny servers

bench:
	tests/tools/install
	tests/tools/build bao
	KEYHOLE_TOOLS=$(abspath $(TOOLS)) cargo bench --bench bench -- $(ARGS)

# ARGS: seconds, and a seed.
fuzz:
	cargo bench --bench fuzz -- $(or $(ARGS),10)

# ARGS: --long
test-kernels:
	tests/kernels/outlive $(ARGS)

# The long form: make chaos ARGS="--kills 10000 --volumes 250".
chaos:
	cargo bench --bench chaos -- $(ARGS)

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
