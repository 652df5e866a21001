//! Node-level tests that need no external server: the real driver, a fake Vault, a pod-like reader.
#![allow(unreachable_pub, dead_code, reason = "the cases are shared by two test binaries")]
#![allow(clippy::tests_outside_test_module, reason = "this whole crate is a test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says where it fails"
)]

mod admin;
mod bad_requests;
mod canary;
#[path = "../cases/all.rs"]
mod cases;
mod configuration;
mod demo;
mod failpoints;
mod faults;
mod house;
mod keeper;
mod many;
mod publish;
mod readers;
mod rotation;
mod semantics;
mod state;
mod takeover;
mod tenants;

/// The cases that OpenBao is tested with as well, on the fake Vault.
mod on_the_fake_vault {
    crate::volume_cases!(crate::cases::world::World::fake);
    crate::contract_cases!(crate::cases::world::World::fake);
}
