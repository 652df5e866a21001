//! Stops a session between two requests, without losing one: for a planned end in `clone` mode, where what was read
//! and not answered dies with its server.
//!
//! ```text
//! park:  the session's number means a socket now, not the device; a signal takes its thread out of read(2)
//! drain: answers that still come are carried from the socket to the device; a request of our own through the
//!        socket is answered when the thread has come to it: then it holds no other
//! ```
//!
//! What the kernel has not given to us yet stays with the kernel, for the next server.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};

use crate::clock::{Clock, Moment};

/// STATFS of the root with an odd number, as the kernel never gives one.
const PROBE: u64 = 1;
/// Larger than any answer: 64 KiB and a header would do.
const BUFFER: usize = 1 << 20;
/// How often it is looked whether all is answered.
const TURN: Duration = Duration::from_millis(20);

/// What is needed to stop a session that reads through a clone.
pub(super) struct Brake {
    /// The session's own number for its device; alive as long as its notifier is.
    number: RawFd,
    /// The clone that it reads through.
    device: OwnedFd,
}

/// A session that reads nothing any more.
pub(super) struct Parked {
    ours: OwnedFd,
    device: OwnedFd,
}

impl Brake {
    pub(super) fn new(number: RawFd, device: OwnedFd) -> Self {
        Self { number, device }
    }

    /// Lets the session read from a socket of ours instead of its device. Its thread may still be in read(2) of the
    /// device: see [`interrupt`].
    #[expect(unsafe_code, reason = "fuser lends the number of its device and does not give it")]
    pub(super) fn park(self) -> io::Result<Parked> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::sockopt::set_socket_send_buffer_size(&theirs, BUFFER)?;
        // SAFETY: the number stays the session's; it is not closed here.
        let mut place = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.number) });
        rustix::io::dup3(&theirs, &mut place, rustix::io::DupFlags::CLOEXEC)?;
        Ok(Parked { ours, device: self.device })
    }
}

impl Parked {
    /// Carries answers to the device until none is owed, at most until `deadline`; tells whether none is.
    pub(super) fn drain(
        &self,
        owed: &AtomicUsize,
        clock: &dyn Clock,
        deadline: Moment,
    ) -> io::Result<bool> {
        let mut probe = [0; 40];
        probe[0] = 40;
        probe[4] = 17;
        probe[8..16].copy_from_slice(&PROBE.to_le_bytes());
        probe[16] = 1;
        send(&self.ours, &probe, SendFlags::NOSIGNAL)?;
        let (mut parked, mut buffer) = (false, vec![0; BUFFER]);
        while !(parked && owed.load(Ordering::Acquire) == 0 && self.is_empty()) {
            if clock.now() >= deadline {
                return Ok(false);
            }
            if self.is_empty() {
                continue;
            }
            let (length, _) = recv(&self.ours, &mut buffer, RecvFlags::DONTWAIT)?;
            let answer = buffer.get(..length).unwrap_or_default();
            let unique = answer.get(8..16).and_then(|unique| unique.try_into().ok());
            if unique.map(u64::from_le_bytes) == Some(PROBE) {
                parked = true;
            } else {
                // ENOENT: whoever asked is gone.
                let _ = rustix::io::write(&self.device, answer);
            }
        }
        Ok(true)
    }

    /// Waits a moment for an answer; true when there is none.
    fn is_empty(&self) -> bool {
        let nanos = TURN.subsec_nanos().into();
        let moment = Timespec { tv_sec: 0, tv_nsec: nanos };
        let mut waiting = [PollFd::from_borrowed_fd(self.ours.as_fd(), PollFlags::IN)];
        matches!(poll(&mut waiting, Some(&moment)), Ok(0) | Err(_))
    }
}

/// Takes every session's thread out of read(2), once: it reads again, from where its number points now.
#[expect(
    unsafe_code,
    reason = "a signal handler that does nothing, and a signal to threads of ours"
)]
pub(super) fn interrupt() -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing at all; without SA_RESTART a system call that waits ends with EINTR.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        if libc::sigaction(libc::SIGUSR2, &raw const action, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    for task in std::fs::read_dir("/proc/self/task")?.flatten() {
        // The name that fuser gives the one thread of a session.
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let tid = task.file_name().to_str().and_then(|tid| tid.parse::<libc::pid_t>().ok());
        if let Some(tid) = tid.filter(|_| name.starts_with("fuser-")) {
            // SAFETY: plain numbers; a thread that has ended meanwhile is no error.
            unsafe { libc::syscall(libc::SYS_tgkill, own, tid, libc::SIGUSR2) };
        }
    }
    Ok(())
}

/// The number that a descriptor has, kept without owning it.
pub(super) fn number(device: std::os::fd::BorrowedFd<'_>) -> RawFd {
    device.as_raw_fd()
}
