//! [`FuseMounts`]: the port `fs::serve::Mounts` by FUSE.
//!
//! A mount: superblock -> INIT is read, recorded and answered -> the thread serves -> the mount is attached -> a
//! private copy of it is made for the rotator. Nobody ever sees a mount that has no server. A takeover has all that:
//! the recorded INIT is replayed, the thread serves, and what was read and not answered is sent again.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::mount::MountFlags;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::fs::files::Files;
use crate::fs::serve::{Handed, MountError, Mounted, Mounts, Occupant, Source};
use crate::fuse::adapter::{Adapter, Inner, Shown};
use crate::fuse::drain::{self, Brake};
use crate::fuse::mode::Mode;
use crate::fuse::mount::{self, Below, Superblock, host};
use crate::fuse::mounted::{
    CONNECTIONS, FuseMounted, Parts, Serving, abort, blocking, minor, serve,
};
use crate::fuse::{mountinfo, session};

/// Our mounts' type in mountinfo.
const KIND: &str = "fuse.keyhole";
/// Seconds; a shorter limit of the kernel's aborts connections while a reader waits for Vault.
const LEAST_REQUEST_TIMEOUT: u32 = 60;

/// Mounts and serves volumes below the kubelet directory.
pub struct FuseMounts {
    below: Arc<Below>,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    mode: Mode,
}

impl FuseMounts {
    /// Checks what this node can do; mounts fusectl where it is missing.
    ///
    /// # Errors
    /// No kubelet directory, or no way to abort connections.
    pub fn new(
        kubelet_dir: PathBuf,
        runtime: Handle,
        clock: Arc<dyn Clock>,
        mode: Mode,
    ) -> Result<Self, MountError> {
        let below = Arc::new(Below::new(kubelet_dir)?);
        let found = mountinfo::read().map(|text| mountinfo::at(&text, CONNECTIONS.as_ref()));
        if found.map_err(|source| MountError::Host { step: "read mountinfo", source })?.is_none() {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let data: Option<&std::ffi::CStr> = None;
            rustix::mount::mount("fusectl", CONNECTIONS, "fusectl", flags, data)
                .map_err(host("mount fusectl at /sys/fs/fuse/connections"))?;
        }
        Ok(Self { below, runtime, clock, mode })
    }

    fn served(&self, files: Arc<Files>, source: Arc<dyn Source>) -> Served {
        let shown = ArcSwap::from_pointee(Shown { files, source });
        let owed = AtomicUsize::new(0);
        let inner = Arc::new(Inner { shown, clock: Arc::clone(&self.clock), owed });
        let runtime = self.runtime.clone();
        let adapter = Adapter { inner, runtime: runtime.clone() };
        Served { adapter, mode: self.mode, runtime }
    }
}

fn failed(step: &'static str) -> impl FnOnce(std::io::Error) -> MountError {
    move |source| MountError::Host { step, source }
}

/// What serves one volume.
struct Served {
    adapter: Adapter,
    mode: Mode,
    runtime: Handle,
}

impl Served {
    /// Starts the thread that serves `device`.
    fn start(
        &self,
        device: BorrowedFd<'_>,
        init: &[u8],
        answer: bool,
    ) -> Result<Serving, MountError> {
        let read = self.mode.served(device).map_err(failed("open the device once more"))?;
        let session =
            session::on_device(self.adapter.clone(), read.as_fd(), init, answer.then_some(device))
                .map_err(failed("begin a FUSE session"))?;
        let number = drain::number(session.as_fd());
        let mut serving = serve(session).map_err(failed("start the session's thread"))?;
        if self.mode == Mode::Clone {
            serving.brake = Some(Brake::new(number, read));
        }
        Ok(serving)
    }
}

/// An administrator's limit that would end connections while readers wait.
fn check_request_timeout() -> Result<(), MountError> {
    // Absent before Linux 6.16, where nothing limits.
    request_timeout(std::fs::read_to_string("/proc/sys/fs/fuse/max_request_timeout").ok())
}

fn request_timeout(limit: Option<String>) -> Result<(), MountError> {
    let limit: u32 = limit.and_then(|text| text.trim().parse().ok()).unwrap_or_default();
    if limit == 0 || limit >= LEAST_REQUEST_TIMEOUT {
        return Ok(());
    }
    let source = std::io::Error::other(format!(
        "sysctl fs.fuse.max_request_timeout is {limit} s, which ends mounts whose readers wait for Vault; set it to 0 or at least {LEAST_REQUEST_TIMEOUT}"
    ));
    Err(MountError::Host { step: "check the node", source })
}

/// What is at the target, without asking the server of a mount there.
fn look(below: &Below, target: &Path) -> Result<Option<mountinfo::Mounted>, MountError> {
    let Some(folder) = below.open(target)? else {
        return Ok(None);
    };
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    if let Ok(known) = statx(&folder, "", flags, StatxFlags::TYPE)
        && known.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && !known.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(None);
    }
    let text =
        mountinfo::read().map_err(|source| MountError::Host { step: "read mountinfo", source })?;
    Ok(mountinfo::at(&text, &below.real(target)?))
}

/// Takes down what is left of ours at the target.
fn clear(below: &Below, target: &Path) -> Result<(), MountError> {
    let real = below.real(target)?;
    while let Some(found) = look(below, target)? {
        if found.kind != KIND {
            tracing::warn!(target = %target.display(), kind = found.kind, "a foreign mount stays");
            return Ok(());
        }
        // Before it is detached: afterwards the number may name another volume's connection.
        let pin = mount::pin(&real).filter(|pin| pin.minor == found.minor);
        mount::detach(&real)?;
        if pin.is_some() {
            abort(found.minor);
        }
        drop(pin);
    }
    mount::remove(&real);
    Ok(())
}

#[async_trait]
impl Mounts for FuseMounts {
    async fn look(&self, target: &Path) -> Result<Occupant, MountError> {
        let (below, target) = (Arc::clone(&self.below), target.to_owned());
        let found = blocking(&self.runtime, move || look(&below, &target)).await?;
        Ok(match found {
            None => Occupant::Nothing,
            Some(found) if found.kind == KIND => Occupant::Ours,
            Some(found) => Occupant::Foreign(found.kind),
        })
    }

    async fn mount(
        &self,
        target: &Path,
        files: Arc<Files>,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Mounted>, MountError> {
        let (below, target) = (Arc::clone(&self.below), target.to_owned());
        let served = self.served(files, source);
        let mounted = blocking(&self.runtime, move || {
            check_request_timeout()?;
            let folder = below.make(&target)?;
            let real = below.real(&target)?;
            let device = mount::open_device()?;
            let superblock =
                Superblock::create(device.as_fd()).inspect_err(|_| mount::remove(&real))?;
            let init =
                session::read_init(device.as_fd()).map_err(failed("read the kernel's INIT"))?;
            let serving = served.start(device.as_fd(), &init, true)?;
            let mount = superblock.detached()?;
            let minor = minor(&mount)?;
            let attached = mount::attach(&mount, &folder);
            // Without it a change is not seen by inotify; everything else works.
            let private = mount::private(&mount)
                .inspect_err(|error| tracing::warn!(%error, "no private mount"))
                .ok();
            let kept = Handed { device, private, init };
            let parts = Parts { kept, below, target: real, minor };
            Ok((FuseMounted::new(parts, served.adapter.inner, serving, served.runtime), attached))
        });
        let (mounted, attached) = mounted.await?;
        if let Err(error) = attached {
            // Its server is there already: undone by the order in which any mount ends.
            mounted.end(true).await?;
            return Err(error);
        }
        Ok(Box::new(mounted))
    }

    fn take_over(
        &self,
        target: Option<&Path>,
        handed: Handed,
        files: Arc<Files>,
        source: Arc<dyn Source>,
    ) -> Result<Box<dyn Mounted>, MountError> {
        let below = Arc::clone(&self.below);
        let served = self.served(files, source);
        let minor = handed.private.as_ref().map(minor).transpose()?;
        let found = || {
            let text = mountinfo::read().ok()?;
            mountinfo::point(&text, minor?, below.path())
        };
        let target = match target.map(Path::to_owned).or_else(found) {
            Some(target) => target,
            None => below.path().join("pods/unknown"),
        };
        let real = below.real(&target)?;
        let pinned = || mount::pin(&real).map(|pin| pin.minor).unwrap_or_default();
        let minor = minor.unwrap_or_else(pinned);
        let serving = served.start(handed.device.as_fd(), &handed.init, false)?;
        if served.mode == Mode::Resend {
            session::resend(handed.device.as_fd())
                .map_err(failed("ask the kernel to send again"))?;
        }
        let parts = Parts { kept: handed, below, target: real, minor };
        Ok(Box::new(FuseMounted::new(parts, served.adapter.inner, serving, served.runtime)))
    }

    async fn stop(&self, mounted: Vec<Arc<Box<dyn Mounted>>>, limit: Duration) {
        if self.mode == Mode::Resend {
            return;
        }
        let parked: Vec<bool> = mounted.iter().map(|mounted| mounted.park()).collect();
        let interrupted =
            blocking(&self.runtime, || drain::interrupt().map_err(failed("interrupt")));
        if let Err(error) = interrupted.await {
            tracing::warn!(%error, "threads are not taken out of their reads");
        }
        let deadline = self.clock.now() + limit;
        let mut draining = tokio::task::JoinSet::new();
        for (mounted, _) in mounted.into_iter().zip(parked).filter(|(_, parked)| *parked) {
            draining.spawn(async move { mounted.drain(deadline).await });
        }
        let answered = draining.join_all().await;
        let left = answered.iter().filter(|answered| !**answered).count();
        tracing::info!(volumes = answered.len(), left, "nothing is read any more");
    }

    async fn clear(&self, target: &Path) -> Result<(), MountError> {
        let (below, target) = (Arc::clone(&self.below), target.to_owned());
        blocking(&self.runtime, move || clear(&below, &target)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_ends_mounts_whose_readers_wait_is_refused_by_name() {
        for fine in [None, Some("0\n"), Some("60\n"), Some("600\n")] {
            assert!(request_timeout(fine.map(Into::into)).is_ok(), "{fine:?}");
        }
        for short in ["1\n", "59\n"] {
            let said = request_timeout(Some(short.into())).unwrap_err().to_string();
            let wanted = format!("fs.fuse.max_request_timeout is {} s", short.trim());
            assert!(
                said.contains(&wanted) && said.contains("set it to 0 or at least 60"),
                "{said}"
            );
        }
    }
}
