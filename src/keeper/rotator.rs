//! `keyhole rotator`: works inside one mount at a time, and may be killed at any moment.
//!
//! A rename inside a FUSE mount waits for the mount's server. If the server does not answer, this process is
//! stuck and not the keeper, and it holds nothing but that one mount. Its errands are [`Errand`]s; an answer is
//! the number of an error, 0 for none.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, StatxFlags, openat2, renameat, statx, symlinkat,
};
use rustix::io::Errno;

use super::errand::{Errand, WrongErrand};
use super::protocol::MESSAGE;
use super::{KeeperError, privileges, socket};

/// How long it stays without an errand.
const IDLE: Duration = Duration::from_secs(3);

/// Serves errands from the control socket until there are none for some seconds, or the keeper is gone.
///
/// # Errors
/// The control socket is broken.
pub fn run(control: &OwnedFd) -> Result<(), KeeperError> {
    privileges::hide()?;
    let idle = Timespec::try_from(IDLE).map_err(|_| KeeperError::Broken { what: "time" })?;
    let mut buffer = vec![0; MESSAGE];
    loop {
        let mut fds = [PollFd::from_borrowed_fd(control.as_fd(), PollFlags::IN)];
        match poll(&mut fds, Some(&idle)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(KeeperError::host("poll")(errno)),
        }
        let errand =
            socket::receive(control.as_fd(), &mut buffer).map_err(KeeperError::Unreachable)?;
        if errand.length == 0 {
            return Ok(());
        }
        let bytes = buffer.get(..errand.length).unwrap_or_default();
        let errno = match errand.fds.as_slice() {
            [mount] => done(perform(bytes, mount.as_fd())),
            _ => Errno::INVAL.raw_os_error(),
        };
        // The mount is let go before the answer: whoever waits for it may unmount.
        drop(errand);
        socket::send(control.as_fd(), &errno.to_le_bytes(), &[])
            .map_err(KeeperError::Unreachable)?;
    }
}

fn done(result: Result<(), Errno>) -> i32 {
    result.err().map_or(0, Errno::raw_os_error)
}

fn perform(bytes: &[u8], mount: BorrowedFd<'_>) -> Result<(), Errno> {
    match Errand::decode(bytes) {
        Ok(Errand::Rotate { generation }) => {
            symlinkat(format!("..{generation}"), mount, "..data_tmp")?;
            renameat(mount, "..data_tmp", mount, "..data")?;
            prime(mount)
        }
        Ok(Errand::Prime) => prime(mount),
        Ok(Errand::Names(paths)) => {
            look_up(mount, &paths);
            prime(mount)
        }
        Err(WrongErrand::Unknown) => Err(Errno::NOSYS),
        Err(WrongErrand::Malformed) => Err(Errno::INVAL),
    }
}

fn prime(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    // With the time of birth: no server of ours tells it, and until the kernel has learnt that, it asks again for every
    // stat that wants it, as stat(1) does.
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    statx(mount, "", AtFlags::EMPTY_PATH, wanted).map(drop)
}

/// What is looked up may be gone; what counts is that the kernel asked.
fn look_up(mount: BorrowedFd<'_>, paths: &[CString]) {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    for path in paths {
        drop(openat2(mount, path, flags, Mode::empty(), ResolveFlags::BENEATH));
    }
}
