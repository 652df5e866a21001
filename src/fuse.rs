//! The kernel's side: mounts and serves.
