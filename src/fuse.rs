//! FUSE: mounts, the session with the kernel, and the translation between its requests and `fs`.
//!
//! See [`mounts`] for a mount's life, `adapter` for a request's. The only room that knows fuser. Our own
//! mount(2) and `Session::from_fd` only: fuser's own way unmounts when a session is dropped.

mod adapter;
mod bare;
mod convert;
mod drain;
mod errno;
pub mod mode;
mod mount;
mod mounted;
pub mod mountinfo;
pub mod mounts;
mod refuse;
mod session;
pub mod stopgap;
