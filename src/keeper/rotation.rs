//! [`Rotation`]: the keeper's side of the rotator. One errand at a time, and a watchdog on it.
//!
//! The mount's server lets only the rotator that it was told of rename, so an errand names the process it is
//! for: when that one had to be killed, those that wait are answered `Gone`, and ask for the next by RUNNER.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::baton::Peer;
use super::children::Child;
use super::protocol::Why;
use super::socket;

/// How long one errand may take.
pub(super) const WATCHDOG: Duration = Duration::from_secs(2);
/// How many errands may wait.
const WAITING: usize = 64;
/// How many killed rotators may be stuck in the kernel before no other is started.
const STUCK: usize = 16;

/// What became of an errand.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done, or failed with this error.
    Done(i32, Vec<u8>),
    /// It was not.
    Refused(Why),
}

#[derive(Debug)]
struct Waiting {
    peer: Peer,
    mount: OwnedFd,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Runner {
    child: Child,
    control: OwnedFd,
    /// Who waits for what it does now, and since when.
    busy: Option<(Peer, Duration)>,
}

/// The rotator that runs, what waits for it, and those that were killed.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    runner: Option<Runner>,
    waiting: VecDeque<Waiting>,
    killed: Vec<Child>,
}

impl Rotation {
    /// Sees that a rotator runs and tells its process.
    pub(super) fn runner(&mut self) -> Result<u32, Why> {
        if let Some(runner) = &self.runner {
            return Ok(runner.child.pid());
        }
        if self.killed.len() >= STUCK {
            return Err(Why::Full);
        }
        match Child::start("rotator", "--control-fd") {
            Ok((child, control)) => {
                let pid = child.pid();
                self.runner = Some(Runner { child, control, busy: None });
                Ok(pid)
            }
            Err(error) => {
                super::serve::say(&format!("the rotator cannot be started: {error}"));
                Err(Why::Failed)
            }
        }
    }

    /// Takes an errand for this rotator; its outcome comes from [`Rotation::turn`].
    pub(super) fn errand(
        &mut self,
        peer: Peer,
        pid: u32,
        mount: BorrowedFd<'_>,
        bytes: &[u8],
    ) -> Result<(), Why> {
        if self.runner.as_ref().is_none_or(|runner| runner.child.pid() != pid) {
            return Err(Why::Gone);
        }
        if self.waiting.len() >= WAITING {
            return Err(Why::Full);
        }
        let mount = mount.try_clone_to_owned().map_err(|_| Why::Full)?;
        self.waiting.push_back(Waiting { peer, mount, bytes: bytes.to_owned() });
        Ok(())
    }

    /// Nobody waits for this one's errands any more.
    pub(super) fn forget(&mut self, peer: Peer) {
        self.waiting.retain(|errand| errand.peer != peer);
    }

    /// What to poll besides: the rotator's socket and its process.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let runner = self.runner.iter();
        runner.flat_map(|runner| [runner.control.as_fd(), runner.child.as_fd()])
    }

    /// Whether it pays to look often. (Not for a killed one that is stuck in the kernel.)
    pub(super) fn is_urgent(&self) -> bool {
        self.runner.as_ref().is_some_and(|runner| runner.busy.is_some())
    }

    /// The epoch is over: its rotator is killed, and what waits is not done.
    pub(super) fn end(&mut self) -> Vec<(Peer, Outcome)> {
        self.replace(Outcome::Refused(Why::Stale), &Why::Stale)
    }

    /// Takes answers, watches the time, hands out the next errand, and tells what became of which.
    pub(super) fn turn(&mut self, now: Duration, buffer: &mut [u8]) -> Vec<(Peer, Outcome)> {
        self.killed.retain_mut(|child| !child.is_gone());
        let mut outcomes = Vec::new();
        let Some(runner) = &mut self.runner else { return outcomes };
        match socket::receive(runner.control.as_fd(), buffer) {
            Ok(answer) if answer.length >= 4 && !answer.cut => {
                let bytes = buffer.get(..answer.length).unwrap_or_default();
                if let (Some((errno, rest)), Some((peer, _))) =
                    (bytes.split_first_chunk(), runner.busy.take())
                {
                    let done = Outcome::Done(i32::from_le_bytes(*errno), rest.to_owned());
                    outcomes.push((peer, done));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // It went, as it does without an errand, or it died.
            Ok(_) | Err(_) => {
                outcomes.extend(self.replace(Outcome::Refused(Why::Gone), &Why::Gone));
                return outcomes;
            }
        }
        if runner.busy.is_some_and(|(_, since)| now.saturating_sub(since) >= WATCHDOG) {
            let waited = !self.waiting.is_empty();
            let late = Outcome::Done(libc::ETIMEDOUT, Vec::new());
            outcomes.extend(self.replace(late, &Why::Gone));
            if waited {
                // Those who waited ask for it next; should it not start, they hear why then.
                self.runner().ok();
            }
            return outcomes;
        }
        if runner.busy.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            // An errand that cannot be handed over finds out by the watchdog or by the end of the socket.
            drop(socket::send(runner.control.as_fd(), &next.bytes, &[next.mount.as_fd()]));
            runner.busy = Some((next.peer, now));
        }
        outcomes
    }

    /// Kills the rotator; `now` is for what it was doing, `then` for what waits.
    fn replace(&mut self, now: Outcome, then: &Why) -> Vec<(Peer, Outcome)> {
        let mut outcomes = Vec::new();
        if let Some(mut runner) = self.runner.take() {
            outcomes.extend(runner.busy.map(|(peer, _)| (peer, now)));
            runner.child.kill();
            self.killed.push(runner.child);
        }
        let waiting = self.waiting.drain(..);
        outcomes.extend(waiting.map(|errand| (errand.peer, Outcome::Refused(*then))));
        outcomes
    }
}
