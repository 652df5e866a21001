//! Keyhole: secrets from HashiCorp Vault or OpenBao as files in Kubernetes pods, with no sidecar.
//!
//! Rooms, in the order in which the data flows (ARCHITECTURE.md tells the story):
//!
//! ```text
//! kubelet --gRPC--> csi -> volume -> identity -> lease --port secret::store--> vault -> Vault
//!                            |                     |
//!                            |                  Change
//!                            v                     v
//!                     fuse (mounts)      render -> fs <- fuse <- kernel <- pod
//! ```
//!
//! Start with [`app`], which puts the driver together, or with [`demo`], which plays all of it.

pub mod admin;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod csi;
pub mod custody;
pub mod demo;
pub mod failpoint;
pub mod fake_vault;
pub mod fs;
pub mod fuse;
pub mod host;
pub mod identity;
pub mod keeper;
pub mod kept;
pub mod lease;
pub mod redact;
pub mod render;
pub mod responder;
pub mod secret;
pub mod spec;
pub mod telemetry;
pub mod vault;
pub mod volume;
