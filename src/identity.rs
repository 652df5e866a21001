//! Who is asking: the pod, its service-account token, the Vault session that it leads to.
//!
//! See [`session::SessionKey`] first: it begins with the pod's UID, and everything that is cached is
//! filed under one, so that a hit across pods cannot be written down.

pub mod cgroup;
pub mod pod;
pub mod session;
pub mod token;
