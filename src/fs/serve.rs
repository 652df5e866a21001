//! Ports of this room: where contents come from, who is asking, and what shows the files to a pod.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::identity::cgroup::Caller;

/// Port: brings the content of a file (by its index in the volume's spec) into [`super::files`].
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Waits until the file has content, at most `budget`; a failure is recorded with the file.
    async fn fetch(&self, file: usize, budget: Duration);
}

/// Port: which pod a thread belongs to.
pub trait Callers: Send + Sync + 'static {
    /// Who the thread `tid` (in the driver's pid namespace) is; the kernel holds it still until the
    /// request that it made is answered.
    fn caller(&self, tid: u32) -> Caller;
}

/// What the gate does with an open from outside the volume's pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// EACCES and an audit line.
    #[default]
    Enforce,
    /// Served, with an audit line.
    Audit,
    /// Served.
    Off,
}

/// Port: mounts a volume's file system and serves it. Implemented by `fuse`.
#[async_trait]
pub trait Mounts: Send + Sync + 'static {
    /// What is at `target` now. Never blocks on a dead mount.
    async fn look(&self, target: &std::path::Path) -> Result<Occupant, MountError>;

    /// Makes the directory `target` if needed, mounts there, serves `files`, primes the root.
    /// On an error nothing is left behind.
    async fn mount(
        &self,
        target: &std::path::Path,
        files: Arc<super::files::Files>,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Mounted>, MountError>;

    /// Detaches whatever of ours is mounted at `target` and removes the directory; fine when absent.
    async fn clear(&self, target: &std::path::Path) -> Result<(), MountError>;
}

/// A mount that is being served.
#[async_trait]
pub trait Mounted: Send + Sync + 'static {
    /// False once the connection to the kernel has ended (aborted by an admin, unmounted by hand).
    fn is_alive(&self) -> bool;

    /// Tells the kernel that `..data` points elsewhere now. Must not be called while a request of
    /// the same volume is being handled on this thread.
    fn switched(&self);

    /// Tells the kernel to drop its pages of inodes whose bytes are gone.
    fn forget(&self, nodes: Vec<super::node::NodeId>);

    /// Detach, invalidate, abort the connection, wait for the session thread, close every copy of
    /// the device: afterwards a leaked bind mount reads ENOTCONN. Idempotent; never waits for a
    /// reader. The directory is removed too.
    async fn end(&self) -> Result<(), MountError>;
}

/// What is mounted at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Occupant {
    /// Nothing, or no such directory.
    Nothing,
    /// A mount of Keyhole's (`fuse.keyhole`), alive or dead.
    Ours,
    /// Somebody else's mount; its file system type.
    Foreign(String),
}

/// Why a mount could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The target lies outside the kubelet directory or is reached through a symbolic link.
    #[error("{target} is not a plain path below {root}: {why}")]
    Outside {
        /// What kubelet asked for.
        target: String,
        /// The kubelet directory.
        root: String,
        /// What is wrong with it.
        why: String,
    },
    /// This node cannot do it (no /dev/fuse, no privilege, a kernel limit).
    #[error("{step}: {source}")]
    Host {
        /// What was tried.
        step: &'static str,
        /// The kernel's word.
        source: std::io::Error,
    },
}
