//! [`Child`]: this program once more, with one end of a socket pair; [`Responder`]: when there shall be one.

#![expect(unsafe_code, reason = "a child's control end gets its number between fork and exec")]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::socket;

/// The number of the control end in the child.
const CONTROL: i32 = 3;
/// The pause before a responder that died is started again; it doubles up to [`LONGEST`].
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// The control end, in the child: what `keyhole responder` and `keyhole rotator` are given as a flag.
///
/// # Errors
/// No such file descriptor is open.
pub fn control(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: a plain system call; a number that is not open is an error.
    if number < CONTROL || unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, our parent made it for us alone, and this is called once, at the start.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A child that is killed with us.
#[derive(Debug)]
pub(super) struct Child {
    child: std::process::Child,
    pidfd: OwnedFd,
}

impl Child {
    /// Runs `keyhole <command> <flag> 3` from the very file that we run from, and returns our end.
    pub(super) fn start(command: &str, flag: &str) -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = socket::pair()?;
        let (control, parent) = (theirs.as_raw_fd(), std::process::id());
        let mut program = Command::new("/proc/self/exe");
        program.arg0("keyhole").args([command, flag, &CONTROL.to_string()]);
        program.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let prepare = move || {
            let kill = libc::c_ulong::try_from(libc::SIGKILL).unwrap_or_default();
            // SAFETY: plain system calls on numbers, allowed between fork and exec. Number 3 is replaced in the
            // child alone; a file descriptor that has it already has to stay open over exec.
            let done = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, kill) == 0
                    && libc::getppid().unsigned_abs() == parent
                    && if control == CONTROL {
                        libc::fcntl(control, libc::F_SETFD, 0) == 0
                    } else {
                        libc::dup2(control, CONTROL) == CONTROL
                    }
            };
            if done { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // SAFETY: `prepare` allocates nothing and takes no lock.
        unsafe { program.pre_exec(prepare) };
        let child = program.spawn()?;
        drop(theirs);
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        // It is not reaped yet, so the number is its own.
        let pidfd = pidfd_open(pid.ok_or(io::ErrorKind::Other)?, PidfdFlags::empty())?;
        Ok((Self { child, pidfd }, ours))
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it; it has to be reaped yet.
    pub(super) fn kill(&mut self) {
        // It can only have exited, which is what was wanted.
        drop(self.child.kill());
    }

    /// Reaps it if it has exited.
    pub(super) fn is_gone(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// The process that answers when no driver does, and when to start the next.
#[derive(Debug)]
pub(super) struct Responder {
    grace: Duration,
    child: Option<Child>,
    begun: Duration,
    pause: Duration,
}

impl Responder {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, child: None, begun: Duration::ZERO, pause: Duration::ZERO }
    }

    /// Starts one if it is time, and returns our end of its control socket and its process.
    pub(super) fn start(&mut self, vacant: Duration, now: Duration) -> Option<(OwnedFd, u32)> {
        let early = vacant < self.grace || now < self.begun.saturating_add(self.pause);
        if self.child.is_some() || early {
            return None;
        }
        // One that lived long did not fail at its start.
        let lived = now.saturating_sub(self.begun);
        let next = if lived > 2 * LONGEST { PAUSE } else { (self.pause * 2).clamp(PAUSE, LONGEST) };
        (self.begun, self.pause) = (now, next);
        match Child::start("responder", "--keeper-fd") {
            Ok((child, control)) => {
                let pid = child.pid();
                self.child = Some(child);
                Some((control, pid))
            }
            Err(error) => {
                super::serve::say(&format!("the responder cannot be started: {error}"));
                None
            }
        }
    }

    pub(super) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.child.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn stop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill();
        }
        // A driver came: the next time there is none is another matter.
        self.pause = Duration::ZERO;
    }

    /// Whether one has ended since the last call.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().is_some_and(Child::is_gone);
        if ended {
            self.child = None;
        }
        ended
    }
}
