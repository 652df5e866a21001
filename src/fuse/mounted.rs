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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use fuser::{INodeNo, Notifier, Session};
use rustix::fs::{AtFlags, StatxFlags, statx};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::clock::Moment;
use crate::fs::files::{DATA, Files};
use crate::fs::node::NodeId;
use crate::fs::serve::{Handed, MountError, Mounted, Source};
use crate::fuse::adapter::{Adapter, Inner, Shown};
use crate::fuse::drain::{Brake, Parked};
use crate::fuse::mount::Below;
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

/// What a mount consists of, while it is one.
pub(super) struct Parts {
    pub(super) kept: Handed,
    pub(super) below: Arc<Below>,
    pub(super) target: PathBuf,
    pub(super) minor: u32,
}

struct Shared {
    /// `None` when it has ended.
    kept: Mutex<Option<Handed>>,
    below: Arc<Below>,
    target: PathBuf,
    minor: u32,
    inner: Arc<Inner>,
    alive: Arc<AtomicBool>,
    notifier: Mutex<Option<Notifier>>,
    left: watch::Receiver<bool>,
    ending: tokio::sync::Mutex<bool>,
    stop: Stop,
}

/// How a session is stopped between two requests.
struct Stop {
    brake: Mutex<Option<Brake>>,
    parked: Mutex<Option<Parked>>,
}

/// A session that runs.
pub(super) struct Serving {
    /// Its voice to the kernel.
    notifier: Notifier,
    alive: Arc<AtomicBool>,
    /// When its thread has left.
    left: watch::Receiver<bool>,
    /// How to stop it, when it reads through a clone.
    pub(super) brake: Option<Brake>,
}

/// Starts the session's thread.
pub(super) fn serve(session: Session<Adapter>) -> std::io::Result<Serving> {
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
    Ok(Serving { notifier, alive, left, brake: None })
}

impl FuseMounted {
    pub(super) fn new(
        parts: Parts,
        inner: Arc<Inner>,
        Serving { notifier, alive, left, brake }: Serving,
        runtime: Handle,
    ) -> Self {
        let notifier = Mutex::new(Some(notifier));
        let ending = tokio::sync::Mutex::new(false);
        let Parts { kept, below, target, minor } = parts;
        let kept = Mutex::new(Some(kept));
        let (brake, parked) = (Mutex::new(brake), Mutex::default());
        let stop = Stop { brake, parked };
        let shared =
            Shared { kept, below, target, minor, inner, alive, notifier, left, ending, stop };
        Self { shared: Arc::new(shared), runtime }
    }
}

/// Copies of the descriptors.
pub(super) fn copy(kept: &Handed) -> std::io::Result<Handed> {
    Ok(Handed {
        device: kept.device.try_clone()?,
        private: kept.private.as_ref().map(OwnedFd::try_clone).transpose()?,
        init: kept.init.clone(),
    })
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Option<Handed>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts the private mount where somebody has unmounted the public one, and makes another private one of it.
    fn attach(&self) -> Result<(), MountError> {
        let ended = || MountError::Host {
            step: "attach the mount again",
            source: std::io::ErrorKind::NotConnected.into(),
        };
        let folder = self.below.make(&self.target)?;
        let mut kept = self.kept();
        let kept = kept.as_mut().ok_or_else(ended)?;
        let public = kept.private.take().ok_or_else(ended)?;
        mount::publish(&public)?;
        mount::attach(&public, &folder)?;
        kept.private = Some(mount::private(&public)?);
        Ok(())
    }

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

    fn hand(&self) -> Result<Handed, MountError> {
        let kept = self.shared.kept();
        let kept = kept.as_ref().ok_or(std::io::ErrorKind::NotConnected.into());
        kept.and_then(copy)
            .map_err(|source| MountError::Host { step: "copy the mount's descriptors", source })
    }

    fn target(&self) -> PathBuf {
        self.shared.target.clone()
    }

    fn show(&self, files: Arc<Files>, source: Arc<dyn Source>) {
        self.shared.inner.shown.store(Arc::new(Shown { files, source }));
    }

    fn park(&self) -> bool {
        let Stop { brake, parked } = &self.shared.stop;
        // With the notifier in hand the session's number is alive.
        let notifier = self.shared.notifier();
        let brake = brake.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(brake) = brake.filter(|_| notifier.is_some() && self.is_alive()) else {
            return false;
        };
        match brake.park() {
            Ok(stopped) => {
                *parked.lock().unwrap_or_else(PoisonError::into_inner) = Some(stopped);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a session cannot be stopped between two requests");
                false
            }
        }
    }

    async fn drain(&self, deadline: Moment) -> bool {
        let shared = Arc::clone(&self.shared);
        let drained = self.runtime.spawn_blocking(move || {
            let parked = shared.stop.parked.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(parked) = parked.as_ref() else { return true };
            let Inner { owed, clock, .. } = &*shared.inner;
            parked.drain(owed, &**clock, deadline).unwrap_or_default()
        });
        drained.await.unwrap_or_default()
    }

    async fn attach(&self) -> Result<(), MountError> {
        let shared = Arc::clone(&self.shared);
        blocking(&self.runtime, move || shared.attach()).await
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

    async fn end(&self, keep: bool) -> Result<(), MountError> {
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

        let files = Arc::clone(&shared.inner.shown.load().files);
        let mut nodes = files.all_nodes();
        nodes.extend(files.take_stale());
        let invalidating = Arc::clone(&shared);
        let work = self.runtime.spawn_blocking(move || {
            invalidating.switched();
            invalidating.invalidate(&nodes);
        });
        let invalidated = tokio::time::timeout(INVALIDATE, work).await;
        if !keep {
            files.wipe();
        }
        // Without a pin it was unmounted behind our back. The private mount pins it as well; where there is none, the
        // session ends by itself, unless something else, like a leaked bind mount, keeps the superblock.
        let pinned =
            pin.is_some() || shared.kept().as_ref().is_some_and(|kept| kept.private.is_some());
        if pinned || !shared.leaves_within(UNMOUNTED).await {
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
        // The last copies: closed where it may take a moment.
        let kept = shared.kept().take();
        let target = shared.target.clone();
        let removed = self.runtime.spawn_blocking(move || {
            drop(kept);
            mount::remove(&target);
        });
        drop(removed.await);
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

/// The minor number of the device behind a mount, which names its connection. Asks no server.
pub(super) fn minor(mount: &OwnedFd) -> Result<u32, MountError> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(mount, "", flags, StatxFlags::empty());
    Ok(stat.map_err(mount::host("stat the mount"))?.stx_dev_minor)
}
