//! [`Mode`]: what happens to requests that a server has read when it is killed; found out by trying.
//!
//! `Resend` (Linux 6.9, and where vendors have taken it back): the next server lets the kernel send them again, and
//! their readers notice nothing. `Clone` (before): the server reads through a private clone of the device, which
//! dies with it, and the kernel ends those requests with ECONNABORTED; without that their readers would hang for
//! ever, because the keeper holds the device open.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use crate::fs::serve::MountError;
use crate::fuse::mount::{self, Superblock};
use crate::fuse::session;

/// What an operator wants; by default what the kernel can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Takeover {
    /// Found out by trying.
    #[default]
    Auto,
    /// Only this: the driver does not start where the kernel cannot.
    Resend,
    /// This, although the kernel may have the other.
    Clone,
}

/// How mounts are served on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// What was read and not answered is sent again.
    Resend,
    /// What was read and not answered ends with an error.
    Clone,
}

impl Mode {
    /// As logs and metrics name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Clone => "clone",
        }
    }

    /// Asks whether the kernel can send again: over a connection that there is (`device`; it does no harm there), or
    /// over one that nobody uses.
    ///
    /// # Errors
    /// This node cannot mount at all.
    pub fn find(wanted: Takeover, device: Option<BorrowedFd<'_>>) -> Result<Self, MountError> {
        let can = match device {
            Some(device) => session::resend(device),
            None => {
                let device = mount::open_device()?;
                let superblock = Superblock::create(device.as_fd())?;
                let can = session::resend(device.as_fd());
                drop(superblock);
                can
            }
        };
        match (wanted, can) {
            (Takeover::Auto, Ok(())) | (Takeover::Resend, Ok(())) => Ok(Self::Resend),
            (Takeover::Auto, Err(_)) | (Takeover::Clone, _) => Ok(Self::Clone),
            (Takeover::Resend, Err(source)) => {
                Err(MountError::Host { step: "--takeover resend: ask the kernel for it", source })
            }
        }
    }

    /// What a server may read from, of the device that is kept.
    pub(super) fn served(self, device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        match self {
            Self::Resend => device.try_clone_to_owned(),
            Self::Clone => clone(device),
        }
    }
}

/// Another way into the same connection, with a list of its own of what was read through it.
#[expect(unsafe_code, reason = "an ioctl of FUSE's own")]
pub(super) fn clone(device: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let fresh = mount::open_device().map_err(io::Error::other)?;
    let number = u32::try_from(device.as_raw_fd()).map_err(io::Error::other)?;
    // FUSE_DEV_IOC_CLONE, _IOR(229, 0, u32), of linux/fuse.h.
    const CLONE: libc::c_ulong = 0x8004_e500;
    // SAFETY: the kernel reads four bytes at the pointer.
    let outcome = unsafe { libc::ioctl(fresh.as_raw_fd(), CLONE as _, &raw const number) };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(fresh) }
}
