//! [`CgroupCallers`]: the port `fs::serve::Callers` by /proc/TID/cgroup.
//!
//! The kernel holds the thread still until its request is answered, so what is read is about the thread
//! that asked. An answer is kept for the thread's life: a pidfd tells when a number is a new thread's. A
//! thread that is moved to another cgroup, or changes its user, meanwhile keeps its old answer for at most [`KEPT`].

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::clock::{Clock, Moment, SystemClock};
use crate::fs::serve::Callers;
use crate::identity::cgroup::{Caller, caller};

/// The most answers that are kept.
const MOST: usize = 256;
/// For how long one is kept.
const KEPT: Duration = Duration::from_secs(1);
/// `PIDFD_THREAD` has the value of `O_EXCL`; Linux 6.9. An older kernel refuses it (EINVAL) for a thread
/// that leads no group, and then nothing is kept.
const PIDFD_THREAD: u32 = OFlags::EXCL.bits();

struct Kept {
    tid: u32,
    thread: OwnedFd,
    caller: Caller,
    until: Moment,
}

/// Tells callers by their cgroup.
pub struct CgroupCallers {
    proc: OwnedFd,
    kept: Mutex<Vec<Kept>>,
}

impl CgroupCallers {
    /// Opens /proc once.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn new() -> std::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, "/proc", flags, Mode::empty())?;
        Ok(Self { proc, kept: Mutex::default() })
    }

    fn read(&self, tid: u32) -> std::io::Result<Caller> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(&self.proc, format!("{tid}/cgroup"), flags, Mode::empty())?;
        let mut file = std::fs::File::from(file);
        // The request does not tell the user: on a mount that may be id-mapped the kernel leaves it out of
        // all requests that create nothing. Files of a process in /proc are its user's.
        // <https://docs.kernel.org/filesystems/idmappings.html>
        let uid = file.metadata().ok().map(|file| file.uid());
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok(Caller { uid, ..caller(&text) })
    }
}

fn pidfd(tid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(tid).ok()?)?;
    pidfd_open(pid, PidfdFlags::from_bits_retain(PIDFD_THREAD)).ok()
}

/// Whether the thread behind a pidfd has ended.
fn has_ended(thread: &OwnedFd) -> bool {
    let mut waiting = [PollFd::new(thread, PollFlags::IN)];
    !matches!(poll(&mut waiting, Some(&Timespec::default())), Ok(0))
}

impl Callers for CgroupCallers {
    fn caller(&self, tid: u32) -> Caller {
        let now = SystemClock.now();
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = kept.iter().find(|had| had.tid == tid && now < had.until);
        if let Some(known) = known.filter(|had| !has_ended(&had.thread)) {
            return known.caller.clone();
        }
        kept.retain(|had| had.tid != tid && now < had.until);
        drop(kept);
        // The pidfd comes first: what is read after it is about the same thread or fails.
        let thread = pidfd(tid);
        let Ok(caller) = self.read(tid) else {
            return Caller::default();
        };
        if let Some(thread) = thread.filter(|thread| !has_ended(thread)) {
            let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if kept.len() < MOST {
                kept.push(Kept { tid, thread, caller: caller.clone(), until: now + KEPT });
            }
        }
        caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_no_pods_is_nobody_and_a_dead_one_too() {
        let callers = CgroupCallers::new().unwrap();
        let tid = u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        assert_eq!(callers.caller(tid).pod, None);
        assert_eq!(callers.caller(tid).pod, None, "from memory");
        assert_eq!(callers.caller(u32::MAX), Caller::default());
    }

    #[test]
    fn a_number_that_is_used_again_is_not_taken_for_the_old_thread() {
        let callers = CgroupCallers::new().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        callers.caller(child.id());
        assert_eq!(callers.kept.lock().unwrap().len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_ended(&callers.kept.lock().unwrap()[0].thread));
        callers.caller(child.id());
        assert_eq!(callers.kept.lock().unwrap().len(), 0);
    }
}
