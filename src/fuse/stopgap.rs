//! Answers for volumes that have no driver, one thread for all: see [`serve`]. What it can say is in `bare`.
//!
//! It reads through clones of its own where it may open /dev/fuse: those can be non-blocking without the next
//! driver's device becoming so, and what it has read when it is killed ends instead of hanging. Where it may not
//! (a container without that device) it reads the kept device itself, which blocks when a request was taken back
//! between poll(2) and read(2): a timer interrupts that.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use crate::fuse::{bare, mode, session};

/// A request, and the 64 KiB of a write that never comes: the kernel insists on room for it.
const BUFFER: usize = 128 * 1024;
/// How often a read that blocks is interrupted.
const INTERRUPT: libc::suseconds_t = 50_000;

/// A volume without a driver.
pub struct Orphan {
    /// The kernel's connection.
    pub device: OwnedFd,
    /// The names in its root.
    pub names: Vec<String>,
}

struct Served {
    device: OwnedFd,
    names: Vec<String>,
    blocks: bool,
}

/// Answers until every connection has ended; whoever started it kills it before.
///
/// # Errors
/// The kernel gives no epoll.
pub fn serve(orphans: Vec<Orphan>) -> io::Result<()> {
    let waiting = epoll::create(CreateFlags::CLOEXEC)?;
    let mut served = Vec::new();
    for (at, Orphan { device, names }) in (0_u64..).zip(orphans) {
        let own = mode::clone(device.as_fd()).and_then(|own| {
            fcntl_setfl(&own, fcntl_getfl(&own)? | OFlags::NONBLOCK)?;
            Ok(own)
        });
        let blocks = own.is_err();
        let read = match own {
            Ok(own) => own,
            Err(_) => device.try_clone()?,
        };
        // What the driver had read. A kernel that cannot send it again has ended it.
        drop(session::resend(device.as_fd()));
        epoll::add(&waiting, &read, EventData::new_u64(at), EventFlags::IN)?;
        served.push(Served { device: read, names, blocks });
    }
    if served.iter().any(|served| served.blocks) {
        interrupt_reads();
    }
    let mut left = served.len();
    let mut buffer = vec![0; BUFFER];
    while left > 0 {
        let mut events: Vec<Event> = Vec::with_capacity(64);
        match epoll::wait(&waiting, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in events {
            let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(served) = served.get(at) else { continue };
            if !turn(served, &mut buffer) {
                epoll::delete(&waiting, &served.device)?;
                left -= 1;
            }
        }
    }
    Ok(())
}

/// Answers one request; false when the connection has ended.
fn turn(served: &Served, buffer: &mut [u8]) -> bool {
    match rustix::io::read(&served.device, &mut *buffer) {
        Ok(length) => {
            let request = buffer.get(..length).unwrap_or_default();
            if let Some(answer) = bare::answer(request, &served.names) {
                // ENOENT: whoever asked is gone.
                let _ = rustix::io::write(&served.device, &answer);
            }
            true
        }
        Err(Errno::AGAIN | Errno::INTR | Errno::NOENT) => true,
        Err(_) => false,
    }
}

#[expect(unsafe_code, reason = "a signal handler that does nothing, and a timer")]
fn interrupt_reads() {
    extern "C" fn nothing(_: libc::c_int) {}
    let every = libc::timeval { tv_sec: 0, tv_usec: INTERRUPT };
    // SAFETY: the handler does nothing at all; the structs are plain numbers.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let timer = libc::itimerval { it_interval: every, it_value: every };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
}
