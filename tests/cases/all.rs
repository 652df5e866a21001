//! What the fake Vault and a real OpenBao are both tested with: one world, one set of cases.

pub mod contract;
pub mod volume;
pub mod world;
