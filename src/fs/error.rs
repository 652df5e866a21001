//! [`FsError`]: why an operation is refused; `fuse` has the one table that makes errnos of them.

/// Why an operation is refused, by what the reader may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FsError {
    /// There is no such name.
    #[error("no such name")]
    NotFound,
    /// Not for this reader: the gate, or Vault's policy.
    #[error("not allowed")]
    Denied,
    /// It should be there and is not now; the reason is in `.keyhole/status.json`.
    #[error("not available")]
    Unavailable,
    /// Everything here is read-only.
    #[error("read-only")]
    ReadOnly,
    /// A name was looked for in something that is no folder.
    #[error("not a folder")]
    NotDirectory,
    /// A folder was opened as a file.
    #[error("a folder")]
    IsDirectory,
    /// A handle that is not open.
    #[error("not an open handle")]
    BadHandle,
    /// The operation has no meaning here.
    #[error("not supported")]
    NotSupported,
}
