//! [`FuseMounts`]: the port `fs::serve::Mounts` by FUSE.
//!
//! A mount: superblock -> INIT is answered -> the thread serves -> the mount is attached -> the root's stat
//! is primed, so that kubelet's stats are answered from the kernel's memory. Nobody ever sees a mount that
//! has no server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use fuser::{Config, Session, SessionACL};
use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::mount::MountFlags;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::fs::files::Files;
use crate::fs::serve::{MountError, Mounted, Mounts, Occupant, Source};
use crate::fuse::adapter::{Adapter, Inner};
use crate::fuse::mount::{self, Below, Superblock, host};
use crate::fuse::mounted::{CONNECTIONS, FuseMounted, abort, blocking, minor, serve};
use crate::fuse::mountinfo;

/// Our mounts' type in mountinfo.
const KIND: &str = "fuse.keyhole";
/// Seconds; a shorter limit of the kernel's aborts connections while a reader waits for Vault.
const LEAST_REQUEST_TIMEOUT: u32 = 60;

/// Mounts and serves volumes below the kubelet directory.
pub struct FuseMounts {
    below: Arc<Below>,
    runtime: Handle,
    clock: Arc<dyn Clock>,
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
    ) -> Result<Self, MountError> {
        let below = Arc::new(Below::new(kubelet_dir)?);
        let found = mountinfo::read().map(|text| mountinfo::at(&text, CONNECTIONS.as_ref()));
        if found.map_err(|source| MountError::Host { step: "read mountinfo", source })?.is_none() {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let data: Option<&std::ffi::CStr> = None;
            rustix::mount::mount("fusectl", CONNECTIONS, "fusectl", flags, data)
                .map_err(host("mount fusectl at /sys/fs/fuse/connections"))?;
        }
        Ok(Self { below, runtime, clock })
    }
}

/// An administrator's limit that would end connections while readers wait.
fn check_request_timeout() -> Result<(), MountError> {
    let limit = std::fs::read_to_string("/proc/sys/fs/fuse/max_request_timeout");
    // Absent before Linux 6.16, where nothing limits.
    let limit: u32 = limit.ok().and_then(|text| text.trim().parse().ok()).unwrap_or_default();
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
        let (runtime, clock) = (self.runtime.clone(), Arc::clone(&self.clock));
        let mounted = blocking(&self.runtime, move || {
            check_request_timeout()?;
            let folder = below.make(&target)?;
            let real = below.real(&target)?;
            let device = mount::open_device()?;
            let superblock = Superblock::create(std::os::fd::AsFd::as_fd(&device))
                .inspect_err(|_| mount::remove(&real))?;
            let inner = Inner { files: Arc::clone(&files), source, clock };
            let adapter = Adapter { inner: Arc::new(inner), runtime: runtime.clone() };
            let failed = |step| move |source| MountError::Host { step, source };
            let session = Session::from_fd(adapter, device, SessionACL::All, Config::default())
                .map_err(failed("answer the kernel's INIT"))?;
            let serving = serve(session).map_err(failed("start the session's thread"))?;
            let mount = superblock.detached()?;
            let minor = minor(&mount)?;
            let mounted = FuseMounted::new((real, minor), files, serving, runtime);
            let attached = mount::attach(&mount, &folder)
                .and_then(|()| rustix::fs::fstat(&mount).map_err(host("stat the new mount")));
            Ok((mounted, attached.map(drop)))
        });
        let (mounted, attached) = mounted.await?;
        if let Err(error) = attached {
            // Its server is there already: undone by the order in which any mount ends.
            mounted.end().await?;
            return Err(error);
        }
        mounted.learn_names();
        Ok(Box::new(mounted))
    }

    async fn clear(&self, target: &Path) -> Result<(), MountError> {
        let (below, target) = (Arc::clone(&self.below), target.to_owned());
        blocking(&self.runtime, move || clear(&below, &target)).await
    }
}
