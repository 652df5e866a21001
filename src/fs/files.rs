//! [`Files`]: names, versions and contents of one volume, and the operations on them.

/// The files of one volume.
pub struct Files;
