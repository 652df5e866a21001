//! The file system of one volume, without FUSE: the promises made to readers (SEMANTICS.md).
//!
//! See [`files`] first: names, versions and contents of one volume. Operations are plain functions
//! that answer at once or say which file must be fetched first; `fuse` translates and waits.
//!
//! ```text
//! /db.env -> ..data/db.env     /tls -> ..data/tls      /..data -> ..<generation>
//! /..<generation>/db.env  /..<generation>/tls/app.crt  /.keyhole/status.json (not listed)
//! ```

pub mod attr;
pub mod error;
pub mod files;
mod kept;
pub mod node;
pub mod serve;
mod status;
mod tree;
mod versions;
