//! Tests with real servers: OpenBao with a database behind it, csi-sanity, the published CSI protos.
//! `make test` builds what they need and runs them; where it is missing they fail.
#![allow(unreachable_pub, dead_code, reason = "the cases are shared by two test binaries")]
#![allow(clippy::tests_outside_test_module, reason = "this whole crate is a test")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test says where it fails"
)]

mod api_server;
#[path = "../cases/all.rs"]
mod cases;
mod demo;
mod openbao;
mod sanity;
mod tls;

/// The cases that the fake Vault is tested with as well, on OpenBao.
mod on_openbao {
    crate::volume_cases!(crate::openbao::world);
    crate::contract_cases!(crate::openbao::world);
}
