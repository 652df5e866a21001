//! mount(2), by the new mount API: a superblock of our own device, moved to where kubelet wants it.
//!
//! See [`Superblock::create`] first. The superblock is writable and the mount is not, so that a later
//! private mount of the same superblock can rotate `..data` by a rename that inotify sees. Targets are
//! reached from the kubelet directory without links: a pod that could place one there must not move us.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, mkdirat, openat, openat2, statx,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
    open_tree, unmount,
};

use crate::fs::serve::MountError;

/// What containers may read where SELinux is on, given at mount: kubelet then needs no relabelling.
const CONTEXT: &str = "system_u:object_r:container_file_t:s0";
/// A folder, without links on the way and without leaving where the way began.
const PLAIN: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);
const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Names a step for whoever reads the pod's event.
pub(super) fn host(step: &'static str) -> impl FnOnce(rustix::io::Errno) -> MountError {
    move |errno| MountError::Host { step, source: errno.into() }
}

/// The device that the kernel's requests come from.
pub(super) fn open_device() -> Result<OwnedFd, MountError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    openat(CWD, "/dev/fuse", flags, Mode::empty()).map_err(host("open /dev/fuse"))
}

/// A FUSE superblock that is mounted nowhere yet.
pub(super) struct Superblock(OwnedFd);

impl Superblock {
    /// Makes it; from now on the kernel waits at `device` for the answer to INIT.
    pub(super) fn create(device: BorrowedFd<'_>) -> Result<Self, MountError> {
        let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(host("fsopen(fuse)"))?;
        let fd = device.as_raw_fd().to_string();
        let options = [
            ("source", "keyhole"),
            ("subtype", "keyhole"),
            ("fd", &fd),
            ("rootmode", "40000"),
            ("user_id", "0"),
            ("group_id", "0"),
        ];
        let selinux = Path::new("/sys/fs/selinux/enforce").exists();
        for (key, value) in options.into_iter().chain(selinux.then_some(("context", CONTEXT))) {
            fsconfig_set_string(&context, key, value).map_err(host("fsconfig"))?;
        }
        // The kernel checks modes and owners itself; the pod's users are not ours.
        for flag in ["allow_other", "default_permissions"] {
            fsconfig_set_flag(&context, flag).map_err(host("fsconfig"))?;
        }
        fsconfig_create(&context).map_err(host("create the FUSE superblock"))?;
        Ok(Self(context))
    }

    /// A read-only mount of it that is attached nowhere.
    pub(super) fn detached(&self) -> Result<OwnedFd, MountError> {
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(host("fsmount"))
    }
}

/// Attaches a detached mount to a folder.
pub(super) fn attach(mount: &OwnedFd, folder: &OwnedFd) -> Result<(), MountError> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", folder, "", flags).map_err(host("move the mount to its target"))
}

/// A copy of an attached mount that is attached nowhere, belongs to no group of mounts that hear of each other, and
/// is writable: what the rotator works through. It keeps the superblock, and with it the number of its connection.
pub(super) fn private(mount: &OwnedFd) -> Result<OwnedFd, MountError> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let copy = open_tree(mount, "", flags).map_err(host("open_tree of the mount"))?;
    set_attributes(&copy, 0, libc::MOUNT_ATTR_RDONLY)?;
    Ok(copy)
}

/// Makes a private mount one that may be attached: before Linux 6.15 a copy of it could not be made for that.
pub(super) fn publish(private: &OwnedFd) -> Result<(), MountError> {
    set_attributes(private, libc::MOUNT_ATTR_RDONLY, 0)
}

#[expect(unsafe_code, reason = "no library has mount_setattr")]
fn set_attributes(mount: &OwnedFd, set: u64, clear: u64) -> Result<(), MountError> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the kernel reads as many bytes as it is told; the path is empty and ends with a zero.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if outcome == 0 {
        return Ok(());
    }
    Err(MountError::Host { step: "mount_setattr", source: io::Error::last_os_error() })
}

/// A mount that cannot go away: as long as this lives, its superblock does, and the minor number that names
/// its connection is nobody else's.
pub(super) struct Pin {
    _root: OwnedFd,
    pub(super) minor: u32,
}

/// Pins what is mounted at `target`; asks no server, so that a dead one does not matter.
pub(super) fn pin(target: &Path) -> Option<Pin> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, target, flags, Mode::empty()).ok()?;
    let known = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(&root, "", known, StatxFlags::empty()).ok()?;
    Some(Pin { _root: root, minor: stat.stx_dev_minor })
}

/// Takes away whatever is mounted on top at `target`; fine when nothing is.
pub(super) fn detach(target: &Path) -> Result<(), MountError> {
    match unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
        Err(errno) => Err(host("detach the mount")(errno)),
    }
}

/// The kubelet directory: every target lies below it.
pub(super) struct Below {
    given: PathBuf,
    real: PathBuf,
    root: OwnedFd,
}

impl Below {
    pub(super) fn new(given: PathBuf) -> Result<Self, MountError> {
        let open = |path: &Path| openat(CWD, path, FOLDER, Mode::empty());
        let root = open(&given).map_err(host("open the kubelet directory"))?;
        let real = given
            .canonicalize()
            .map_err(|source| MountError::Host { step: "find the kubelet directory", source })?;
        Ok(Self { given, real, root })
    }

    /// As mountinfo names it.
    pub(super) fn path(&self) -> &Path {
        &self.real
    }

    fn outside(&self, target: &Path, why: &str) -> MountError {
        MountError::Outside {
            target: target.display().to_string(),
            root: self.given.display().to_string(),
            why: why.to_owned(),
        }
    }

    fn relative<'a>(&self, target: &'a Path) -> Result<&'a Path, MountError> {
        let below = target.strip_prefix(&self.given).or_else(|_| target.strip_prefix(&self.real));
        let relative = below.map_err(|_| self.outside(target, "it lies elsewhere"))?;
        let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || relative.as_os_str().is_empty() {
            return Err(self.outside(target, "it has no plain name"));
        }
        Ok(relative)
    }

    /// The target as mountinfo names it.
    pub(super) fn real(&self, target: &Path) -> Result<PathBuf, MountError> {
        Ok(self.real.join(self.relative(target)?))
    }

    /// Opens the target (the topmost mount on it, if any); `None` when it does not exist.
    pub(super) fn open(&self, target: &Path) -> Result<Option<OwnedFd>, MountError> {
        let relative = self.relative(target)?;
        match openat2(&self.root, relative, FOLDER, Mode::empty(), PLAIN) {
            Ok(folder) => Ok(Some(folder)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(rustix::io::Errno::LOOP) => Err(self.outside(target, "it leads through a link")),
            Err(rustix::io::Errno::NOTDIR) => Err(self.outside(target, "it is no folder")),
            Err(rustix::io::Errno::XDEV) => Err(self.outside(target, "it leads out of it")),
            Err(errno) => Err(host("open the target")(errno)),
        }
    }

    /// Opens the target and makes it first if it does not exist; kubelet makes its parent.
    pub(super) fn make(&self, target: &Path) -> Result<OwnedFd, MountError> {
        if let Some(folder) = self.open(target)? {
            return Ok(folder);
        }
        let (parent, name) = target.parent().zip(target.file_name()).unzip();
        let parent = parent.filter(|parent| *parent != self.given && *parent != self.real);
        let parent = match parent {
            Some(parent) => {
                let missing = || host("open the target's parent")(rustix::io::Errno::NOENT);
                self.open(parent)?.ok_or_else(missing)?
            }
            None => self
                .root
                .try_clone()
                .map_err(|source| MountError::Host { step: "open the target's parent", source })?,
        };
        match mkdirat(&parent, name.unwrap_or_default(), Mode::from_raw_mode(0o750)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(errno) => return Err(host("make the target folder")(errno)),
        }
        let gone = || host("open the target")(rustix::io::Errno::NOENT);
        self.open(target)?.ok_or_else(gone)
    }
}

/// Removes the folder that a mount was on; fine when it is gone or holds something.
pub(super) fn remove(target: &Path) {
    if let Err(error) = std::fs::remove_dir(target)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::debug!(target = %target.display(), %error, "the mount's folder stays");
    }
}
