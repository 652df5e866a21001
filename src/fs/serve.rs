//! Ports of this room: where contents come from, who is asking, and what shows the files to a pod.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Moment;
use crate::identity::cgroup::Caller;

/// Port: brings the content of a file (by its index in the volume's spec) into [`super::files`].
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// Waits until the file has content, at most `budget`; a failure is recorded with the file.
    async fn fetch(&self, file: usize, budget: Duration);

    /// The root's list was read: the kernel does not trust what it knows of the root any more, and whoever stats it next
    /// (kubelet) must not find that only a server can tell.
    async fn listed(&self);
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
    async fn look(&self, target: &Path) -> Result<Occupant, MountError>;

    /// Makes the directory `target` if needed, mounts there and serves `files`. On an error nothing is
    /// left behind.
    async fn mount(
        &self,
        target: &Path,
        files: Arc<super::files::Files>,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Mounted>, MountError>;

    /// Serves a mount that another process made: what that one had read and not answered comes again. Without
    /// `target` it is where the kernel says. Blocks, for a moment: to be called where that may be.
    fn take_over(
        &self,
        target: Option<&Path>,
        handed: Handed,
        files: Arc<super::files::Files>,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Mounted>, MountError>;

    /// Lets these be read no more, for the end of this process, so that no request is lost that was read; the next
    /// server gets what comes from now on. Does nothing where the kernel sends such requests again.
    async fn stop(&self, mounted: Vec<Arc<Box<dyn Mounted>>>, limit: Duration);

    /// Detaches whatever of ours is mounted at `target` and removes the directory; fine when absent.
    async fn clear(&self, target: &Path) -> Result<(), MountError>;
}

/// What another process needs to go on serving a mount.
pub struct Handed {
    /// The kernel's connection.
    pub device: OwnedFd,
    /// A mount of the same superblock that is attached nowhere and writable: for the rotator.
    pub private: Option<OwnedFd>,
    /// The kernel's first request, as it came.
    pub init: Vec<u8>,
}

/// A mount that is being served.
#[async_trait]
pub trait Mounted: Send + Sync + 'static {
    /// False once the connection to the kernel has ended (aborted by an admin, unmounted by hand).
    fn is_alive(&self) -> bool;

    /// Copies of what another process needs to go on.
    ///
    /// # Errors
    /// Out of descriptors.
    fn hand(&self) -> Result<Handed, MountError>;

    /// Where it is mounted.
    fn target(&self) -> std::path::PathBuf;

    /// Shows other files from now on, under the same mount.
    fn show(&self, files: Arc<super::files::Files>, source: Arc<dyn Source>);

    /// Reads no request from the kernel any more; false when it does not read through a clone of the device.
    fn park(&self) -> bool;

    /// Waits until everything that was read is answered; false when that is not so at `deadline`.
    async fn drain(&self, deadline: Moment) -> bool;

    /// Attaches the superblock to its target again, after somebody has unmounted it by hand. What [`Self::hand`]
    /// gives is another then.
    async fn attach(&self) -> Result<(), MountError>;

    /// Tells the kernel that `..data` points elsewhere now. Must not be called while a request of
    /// the same volume is being handled on this thread.
    fn switched(&self);

    /// Tells the kernel to drop its pages of inodes whose bytes are gone.
    fn forget(&self, nodes: Vec<super::node::NodeId>);

    /// Detach, invalidate, wipe the files, abort the connection, wait for the session thread, close every copy of
    /// the device: afterwards a leaked bind mount reads ENOTCONN. Idempotent; never waits for a
    /// reader. The directory is removed too. `keep`: the files are not wiped, because another mount will show them.
    async fn end(&self, keep: bool) -> Result<(), MountError>;
}

/// Port: the short-lived process that works on a volume from outside, through its private mount, so that no
/// thread of the server ever waits for the server. It lives with the keeper.
#[async_trait]
pub trait Errands: Send + Sync + 'static {
    /// The process, as the kernel numbers who sends a request; `None` when there is no keeper.
    async fn runner(&self) -> Option<u32>;

    /// Lets it make `..data` of the volume called `name` point to `generation`, by a rename that inotify
    /// sees. False when it did not come to its end.
    async fn rotate(&self, name: &str, runner: u32, generation: u32) -> bool;

    /// Lets it look up the names of the volume and stat its root, so that the kernel knows them.
    async fn prime(&self, name: &str, names: Vec<String>) -> bool;
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
