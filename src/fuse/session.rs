//! A session of fuser's on a connection whose INIT was read by somebody else: by us at a new mount, or by the
//! process that made the mount.
//!
//! fuser insists on an INIT before it serves, and the kernel sends it once in a connection's life. So the session
//! is made on a socket pair, the recorded INIT is replayed into it, and then the device takes the socket's place
//! under the same number. At a new mount fuser's answer goes on to the kernel; at a takeover it is dropped, because
//! the kernel has had one. The session keeps no state of INIT, and no thread exists before it runs.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use fuser::{Config, Session, SessionACL};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};

use crate::fuse::adapter::Adapter;

/// The smallest buffer that the kernel fills.
const LEAST: usize = 8192;
/// The operation code of INIT, and the least that such a request has.
const INIT: (u32, usize) = (26, 40 + 16);
/// `FUSE_NOTIFY_RESEND`: length, code, no request.
const RESEND: [u8; 16] = [16, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Whether these bytes are a FUSE_INIT request.
pub(super) fn is_init(bytes: &[u8]) -> bool {
    let code = bytes.get(4..8).and_then(|code| code.try_into().ok()).map(u32::from_le_bytes);
    code == Some(INIT.0) && bytes.len() >= INIT.1
}

/// Reads the first request of a new connection.
pub(super) fn read_init(device: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; LEAST];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(device, &mut *bytes))?;
    bytes.truncate(length);
    if is_init(&bytes) { Ok(bytes) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Makes the session that serves `device`. `first`: where INIT was read, when the kernel still waits for its answer.
pub(super) fn on_device(
    adapter: Adapter,
    device: BorrowedFd<'_>,
    init: &[u8],
    first: Option<BorrowedFd<'_>>,
) -> io::Result<Session<Adapter>> {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::send(&ours, init, SendFlags::NOSIGNAL)?;
    let session = Session::from_fd(adapter, theirs, SessionACL::All, Config::default())?;
    let mut reply = [0; 256];
    let (length, _) = rustix::net::recv(&ours, &mut reply, RecvFlags::DONTWAIT)?;
    if let Some(first) = first {
        rustix::io::write(first, reply.get(..length).unwrap_or_default())?;
    }
    replace(session.as_fd(), device)?;
    Ok(session)
}

/// Lets the number of `place` mean `device` from now on.
#[expect(unsafe_code, reason = "fuser lends the number of its device and does not give it")]
fn replace(place: BorrowedFd<'_>, device: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the number stays the session's own; it is not closed here.
    let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(place.as_raw_fd()) });
    Ok(rustix::io::dup3(device, &mut place, rustix::io::DupFlags::CLOEXEC)?)
}

/// Asks the kernel to send again what somebody has read and not answered.
///
/// # Errors
/// EINVAL: this kernel (before Linux 6.9) cannot.
pub(super) fn resend(device: BorrowedFd<'_>) -> io::Result<()> {
    rustix::io::write(device, &RESEND).map(drop).map_err(Into::into)
}
