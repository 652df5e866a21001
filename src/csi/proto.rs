//! The generated messages and services; the only file that includes them. Nothing in it can be printed.

#![expect(
    missing_docs,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated; documented in proto/"
)]

/// `proto/csi.proto`.
pub mod csi_v1 {
    tonic::include_proto!("csi.v1");
}

/// `proto/pluginregistration.proto`.
pub mod pluginregistration {
    tonic::include_proto!("pluginregistration");
}

/// The FileDescriptorSet of both, for the test that holds them against the published ones.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
