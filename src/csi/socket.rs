//! [`PrivateSocket`]: a Unix socket that is private before it is visible.
//!
//! It is bound under a temporary name in its directory, made 0600, and renamed over the final name, so
//! that no other user can connect in between and a stale socket is replaced in one step. It is never
//! unlinked: a successor may have taken the name.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;

/// A bound socket under its final name.
pub(super) struct PrivateSocket(std::os::unix::net::UnixListener);

impl PrivateSocket {
    /// Binds `path`; its directory is made when it is missing.
    pub(super) fn bind(path: &Path) -> std::io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(directory)?;
        // A leading dot: kubelet's plugin watcher ignores such names.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = directory.join(format!(".{name}.{}", std::process::id()));
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&temporary, path)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// The connections to it.
    pub(super) fn incoming(self) -> std::io::Result<UnixListenerStream> {
        Ok(UnixListenerStream::new(UnixListener::from_std(self.0)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_private_and_replaces_a_stale_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugins/csi.sock");
        drop(PrivateSocket::bind(&path).unwrap());
        assert!(std::os::unix::net::UnixStream::connect(&path).is_err(), "the first one is stale");
        let socket = PrivateSocket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(&path).unwrap();
        let names: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary name is left");
        drop(socket);
    }
}
