//! The one table from [`FsError`] to errno.

use fuser::Errno;

use crate::fs::error::FsError;

/// What the reader's system call returns.
pub(super) fn of(error: FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::Denied => Errno::EACCES,
        FsError::Unavailable => Errno::EIO,
        FsError::ReadOnly => Errno::EROFS,
        FsError::NotDirectory => Errno::ENOTDIR,
        FsError::IsDirectory => Errno::EISDIR,
        FsError::BadHandle => Errno::EBADF,
        FsError::NotSupported => Errno::EINVAL,
    }
}
