//! [`FuseMounted`]: a mount that is served, and how it ends.
//!
//! ```text
//! serving --end--> detach -> invalidate -> wipe -> abort -> thread ends, device closed -> folder removed
//! ```
//!
//! Closing the device under a thread in read(2) ends nothing and frees a number that fuser still writes
//! to; so the connection is aborted through fusectl, and the thread leaves by itself. What still holds the
//! superblock then, say a bind mount in another namespace, reads ENOTCONN.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fuser::{INodeNo, Notifier, Session};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::fs::files::{DATA, Files};
use crate::fs::node::NodeId;
use crate::fs::serve::{MountError, Mounted};
use crate::fuse::adapter::Adapter;
use crate::fuse::{convert, mount};

/// Where fusectl shows each connection, by the minor number of its device.
pub(super) const CONNECTIONS: &str = "/sys/fs/fuse/connections";
/// An invalidation waits for requests of the same folder; those end within their budgets, but the end of
/// a volume does not wait for them.
const INVALIDATE: Duration = Duration::from_secs(1);
/// The thread leaves as soon as the connection is aborted.
const LEAVE: Duration = Duration::from_secs(3);
/// The thread of a mount that is gone leaves as soon as the kernel tells it.
const UNMOUNTED: Duration = Duration::from_millis(500);

/// A served mount.
pub(super) struct FuseMounted {
    shared: Arc<Shared>,
    runtime: Handle,
}

struct Shared {
    target: PathBuf,
    minor: u32,
    files: Arc<Files>,
    alive: Arc<AtomicBool>,
    notifier: Mutex<Option<Notifier>>,
    left: watch::Receiver<bool>,
    ending: tokio::sync::Mutex<bool>,
}

/// Starts the session's thread.
pub(super) fn serve(
    session: Session<Adapter>,
) -> std::io::Result<(Notifier, Arc<AtomicBool>, watch::Receiver<bool>)> {
    let notifier = session.notifier();
    let alive = Arc::new(AtomicBool::new(true));
    let (leave, left) = watch::channel(false);
    let serving = Arc::clone(&alive);
    let thread = std::thread::Builder::new().name("fuse".to_owned()).stack_size(64 * 1024);
    let run = move || {
        let ended = session.run();
        serving.store(false, Ordering::Release);
        if let Err(error) = ended {
            tracing::warn!(%error, "a FUSE session ended with an error");
        }
        // The one who ends the mount may be gone already.
        let _ = leave.send(true);
    };
    drop(thread.spawn(run)?);
    Ok((notifier, alive, left))
}

impl FuseMounted {
    pub(super) fn new(
        (target, minor): (PathBuf, u32),
        files: Arc<Files>,
        (notifier, alive, left): (Notifier, Arc<AtomicBool>, watch::Receiver<bool>),
        runtime: Handle,
    ) -> Self {
        let notifier = Mutex::new(Some(notifier));
        let ending = tokio::sync::Mutex::new(false);
        let shared = Shared { target, minor, files, alive, notifier, left, ending };
        Self { shared: Arc::new(shared), runtime }
    }
}

impl FuseMounted {
    /// Walks the names once, in the background, so that the kernel knows them before the first open: that
    /// open then asks for its content only. Nothing is opened and nothing fetched.
    pub(super) fn learn_names(&self) {
        let shared = Arc::clone(&self.shared);
        drop(self.runtime.spawn_blocking(move || {
            for file in &shared.files.spec().files {
                let path = shared.target.join(&file.name);
                // A volume that has ended meanwhile has no names.
                drop(openat(CWD, &path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()));
            }
        }));
    }
}

impl Shared {
    /// A copy for one call; none is kept, because each keeps the device open.
    fn notifier(&self) -> Option<Notifier> {
        self.notifier.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the session's thread has left, or does within `wait`.
    async fn leaves_within(&self, wait: Duration) -> bool {
        let mut left = self.left.clone();
        // A sender that is gone has left too.
        let leaving = async { left.wait_for(|left| *left).await.map(drop) };
        tokio::time::timeout(wait, leaving).await.is_ok()
    }

    fn invalidate(&self, nodes: &[NodeId]) {
        let Some(notifier) = self.notifier() else {
            return;
        };
        for node in nodes {
            // ENOENT: the kernel does not know the inode, so it has no pages of it.
            drop(notifier.inval_inode(convert::number(*node), 0, 0));
        }
    }

    fn switched(&self) {
        if let Some(notifier) = self.notifier() {
            drop(notifier.inval_entry(INodeNo::ROOT, DATA.as_ref()));
        }
    }
}

/// Aborts a connection. Its superblock must be alive, by a pin or a session that still runs: the kernel gives
/// the number of one that is gone to the next mount, which may be another volume's.
pub(super) fn abort(minor: u32) {
    let path = format!("{CONNECTIONS}/{minor}/abort");
    if let Err(error) = std::fs::write(&path, "1")
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(path, %error, "a FUSE connection could not be aborted");
    }
}

#[async_trait]
impl Mounted for FuseMounted {
    fn is_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Acquire)
    }

    fn switched(&self) {
        let shared = Arc::clone(&self.shared);
        drop(self.runtime.spawn_blocking(move || shared.switched()));
    }

    fn forget(&self, nodes: Vec<NodeId>) {
        if !nodes.is_empty() {
            let shared = Arc::clone(&self.shared);
            drop(self.runtime.spawn_blocking(move || shared.invalidate(&nodes)));
        }
    }

    async fn end(&self) -> Result<(), MountError> {
        let mut ended = self.shared.ending.lock().await;
        if *ended {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let target = shared.target.clone();
        let minor = shared.minor;
        let pin = blocking(&self.runtime, move || {
            // Somebody may have unmounted ours, and mounted theirs.
            let pin = mount::pin(&target).filter(|pin| pin.minor == minor);
            mount::detach(&target)?;
            Ok(pin)
        });
        let pin = pin.await?;

        let mut nodes = shared.files.all_nodes();
        nodes.extend(shared.files.take_stale());
        let invalidating = Arc::clone(&shared);
        let work = self.runtime.spawn_blocking(move || {
            invalidating.switched();
            invalidating.invalidate(&nodes);
        });
        let invalidated = tokio::time::timeout(INVALIDATE, work).await;
        shared.files.wipe();
        // Without a pin it was unmounted behind our back. That ends the session by itself, unless something
        // else, like a leaked bind mount, keeps the superblock.
        if pin.is_some() || !shared.leaves_within(UNMOUNTED).await {
            drop(self.runtime.spawn_blocking(move || abort(minor)).await);
        }
        drop(pin);
        if invalidated.is_err() {
            tracing::warn!(target = %shared.target.display(), "the kernel was slow to forget a volume's pages");
        }

        drop(shared.notifier.lock().unwrap_or_else(PoisonError::into_inner).take());
        if !shared.leaves_within(LEAVE).await {
            let source = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Err(MountError::Host { step: "end the FUSE session", source });
        }
        let target = shared.target.clone();
        drop(self.runtime.spawn_blocking(move || mount::remove(&target)).await);
        *ended = true;
        Ok(())
    }
}

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> Result<T, MountError> + Send + 'static,
) -> Result<T, MountError> {
    runtime.spawn_blocking(work).await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Err(MountError::Host { step: "run a blocking task", source })
    })
}

/// The minor number of the device behind a mount, which names its connection.
pub(super) fn minor(mount: &OwnedFd) -> Result<u32, MountError> {
    let stat = rustix::fs::fstat(mount).map_err(mount::host("stat the new mount"))?;
    Ok(rustix::fs::minor(stat.st_dev))
}
