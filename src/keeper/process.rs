//! [`Process`]: a client's process by its pidfd, to be watched and killed without ever meeting another.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

/// Whether there is something to read, now.
pub(super) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A process that handed us its pidfd.
#[derive(Debug)]
pub(super) struct Process {
    pidfd: OwnedFd,
    pid: u32,
}

impl Process {
    /// `None` when it is no pidfd, or of a process that has exited or is outside our pid namespace, which we
    /// could not signal.
    pub(super) fn of(pidfd: OwnedFd) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
        let pid = std::fs::read_to_string(path)
            .ok()?
            .lines()
            .find_map(|line| line.strip_prefix("Pid:"))
            .and_then(|pid| pid.trim().parse().ok())
            .filter(|pid| *pid > 0)?;
        Some(Self { pidfd, pid })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether all of its threads have ended.
    pub(super) fn has_exited(&self) -> bool {
        is_readable(self.pidfd.as_fd())
    }

    /// Whether its first thread has ended. The pidfd does not tell that while another thread is stuck in the
    /// kernel, and such a process keeps its connection open.
    pub(super) fn is_zombie(&self) -> bool {
        let state = state(format!("/proc/{}/stat", self.pid).as_ref());
        matches!(state, Some(b'Z' | b'X' | b'x'))
    }

    /// Whether what is left of it waits in the kernel for what only the next driver can answer: an invalidation behind
    /// a lookup, say. Such a thread reads no request, and its process exits when it is answered.
    pub(super) fn is_stuck(&self) -> bool {
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        let states: Vec<u8> =
            tasks.flatten().filter_map(|task| state(&task.path().join("stat"))).collect();
        // The first thread has ended, so the process was killed; the others cannot be but in the kernel.
        states.contains(&b'Z')
            && states.contains(&b'D')
            && states.iter().all(|state| matches!(state, b'D' | b'Z' | b'X' | b'x'))
    }

    /// Kills it; fine when it has exited.
    pub(super) fn kill(&self) -> rustix::io::Result<()> {
        match pidfd_send_signal(&self.pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// The letter of a thread's state.
fn state(path: &std::path::Path) -> Option<u8> {
    let stat = std::fs::read(path).ok()?;
    // The name is in brackets and may hold brackets.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(end + 2).copied()
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    use super::*;

    fn process(pid: u32) -> Process {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        Process::of(pidfd_open(pid, PidfdFlags::empty()).unwrap()).unwrap()
    }

    #[test]
    fn a_process_is_told_from_a_dead_one_and_from_a_file() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let alive = process(child.id());
        assert_eq!(alive.pid(), child.id());
        assert!(!alive.has_exited() && !alive.is_zombie());
        alive.kill().unwrap();
        let mut exit = [PollFd::from_borrowed_fd(alive.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut exit, Some(&Timespec { tv_sec: 10, tv_nsec: 0 })), Ok(1));
        assert!(alive.has_exited() && alive.is_zombie(), "nobody has waited for it");
        child.wait().unwrap();
        assert!(alive.has_exited() && !alive.is_zombie());
        alive.kill().unwrap();
        assert!(Process::of(std::fs::File::open("/dev/null").unwrap().into()).is_none());
        let gone = alive.pidfd.try_clone().unwrap();
        assert!(Process::of(gone).is_none());
    }
}
