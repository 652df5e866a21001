//! [`Connection`]: the keeper as a driver sees it. Blocking, for threads of their own.
//!
//! One request at a time. A call that timed out may be followed by any other: the late answer is skipped. The
//! keeper hears a connection no further while an answer is owed, so TAKE, beats, deposits and errands of one
//! driver go over different connections (holder, deposits, errands).

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use exchange::{Deadline, ODD};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{SocketAddrUnix, connect};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

pub use super::page::EpochPage;
use super::protocol::{Answer, LOWEST, MESSAGE, Request, VERSION};
pub use super::protocol::{Claim, How, Role, Stats};
use super::{KeeperError, Why, socket};
use crate::clock::{Clock as _, SystemClock};

mod exchange;
#[cfg(test)]
mod tests;

/// How many answers may be owed to [`Connection::get_all`]: they must fit into a socket's buffer.
const AHEAD: usize = 16;

/// What the keeper said at the beginning.
#[derive(Debug)]
pub struct Welcome {
    /// The version that is spoken.
    pub version: u8,
    /// The number on the page then.
    pub epoch: u64,
    /// How many entries it had.
    pub entries: u32,
    /// How long it had been there.
    pub age: Duration,
    /// The number on the page, without asking.
    pub page: EpochPage,
}

/// What was put under a name.
#[derive(Debug)]
pub struct Entry {
    /// As they were put.
    pub bytes: Vec<u8>,
    /// Copies of what was put.
    pub fds: Vec<OwnedFd>,
}

/// What became of an errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0, or the number of the error; ETIMEDOUT when the rotator had to be killed.
    pub errno: i32,
    /// What the rotator said besides.
    pub bytes: Vec<u8>,
}

/// A connection to the keeper.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
    within: Duration,
    version: u8,
    last: u32,
    /// A claim whose answer has not come yet.
    claimed: Option<(Claim, u32)>,
    /// That answer, when it came while something else was waited for.
    granted: Option<u64>,
    /// The keeper said that a successor waits.
    asked_to_leave: bool,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Connection {
    /// Connects, and agrees on a version. `within` is for this and for each later call that has no time of
    /// its own.
    ///
    /// # Errors
    /// [`KeeperError::Unreachable`], [`KeeperError::TimedOut`], or no version in common.
    pub fn open(path: &Path, role: Role, within: Duration) -> Result<(Self, Welcome), KeeperError> {
        let unreachable = |errno: rustix::io::Errno| KeeperError::Unreachable(errno.into());
        let socket = socket::new().map_err(KeeperError::Unreachable)?;
        set_socket_timeout(&socket, Timeout::Send, Some(within)).map_err(unreachable)?;
        let address = SocketAddrUnix::new(path).map_err(unreachable)?;
        connect(&socket, &address).map_err(|errno| match errno {
            rustix::io::Errno::AGAIN => KeeperError::TimedOut,
            other => unreachable(other),
        })?;
        Self::over(socket, role, within)
    }

    /// Begins on a socket that is connected already, as the keeper's children have one.
    ///
    /// # Errors
    /// As for [`Connection::open`].
    pub fn over(
        socket: OwnedFd,
        role: Role,
        within: Duration,
    ) -> Result<(Self, Welcome), KeeperError> {
        let myself = pidfd_open(getpid(), PidfdFlags::empty())
            .map_err(|errno| KeeperError::Unreachable(errno.into()))?;
        let mut connection = Self {
            socket,
            within,
            version: LOWEST,
            last: 0,
            claimed: None,
            granted: None,
            asked_to_leave: false,
            buffer: vec![0; MESSAGE],
            out: Vec::new(),
        };
        let hello = Request::Hello { lowest: LOWEST, highest: VERSION, role };
        let deadline = connection.deadline();
        let number = connection.send(&hello, &[myself.as_fd()], deadline)?;
        let (length, mut fds) = connection.await_answer(number, deadline)?;
        let Answer::Welcome { version, epoch, entries, age } = connection.answer(length)? else {
            return Err(ODD);
        };
        let page = match fds.pop() {
            Some(page) if fds.is_empty() => EpochPage::map(&page).ok(),
            Some(_) | None => None,
        };
        let page = page.ok_or(KeeperError::Broken { what: "no epoch page" })?;
        if !(LOWEST..=VERSION).contains(&version) {
            return Err(KeeperError::Broken { what: "a version that we do not speak" });
        }
        connection.version = version;
        let age = Duration::from_millis(age);
        Ok((connection, Welcome { version, epoch, entries, age, page }))
    }

    /// Takes the epoch, however long it takes, and returns its number.
    ///
    /// # Errors
    /// [`KeeperError::Held`] for a resume when another has it.
    pub fn take(&mut self, claim: Claim) -> Result<u64, KeeperError> {
        let taken = self.taken(claim, None)?;
        taken.ok_or(KeeperError::TimedOut)
    }

    /// Takes the epoch if it is granted within this time; `None` when not. The claim then stays: call it
    /// again with the same claim to wait on, drop the connection to withdraw it.
    ///
    /// # Errors
    /// As for [`Connection::take`].
    pub fn take_within(
        &mut self,
        claim: Claim,
        within: Duration,
    ) -> Result<Option<u64>, KeeperError> {
        self.taken(claim, Some(SystemClock.now() + within))
    }

    fn taken(&mut self, claim: Claim, deadline: Deadline) -> Result<Option<u64>, KeeperError> {
        let number = match self.claimed {
            Some((old, number)) if old == claim => number,
            Some(_) => return Err(KeeperError::Broken { what: "another claim waits here" }),
            None => self.send(&Request::Take(claim), &[], self.deadline())?,
        };
        self.claimed = Some((claim, number));
        if let Some(epoch) = self.granted.take() {
            self.claimed = None;
            return Ok(Some(epoch));
        }
        let length = match self.await_answer(number, deadline) {
            Ok((length, _)) => length,
            Err(KeeperError::TimedOut) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.claimed = None;
        let Answer::Taken { epoch } = self.answer(length)? else { return Err(ODD) };
        Ok(Some(epoch))
    }

    /// Gives the epoch up.
    ///
    /// # Errors
    /// [`KeeperError::Stale`] when it is no longer ours.
    pub fn leave(&mut self, epoch: u64) -> Result<(), KeeperError> {
        self.done(&Request::Leave { epoch }, &[])
    }

    /// Says that the holder is alive.
    ///
    /// # Errors
    /// [`KeeperError::Stale`] when it is no longer ours.
    pub fn beat(&mut self, epoch: u64) -> Result<(), KeeperError> {
        self.done(&Request::Beat { epoch }, &[])
    }

    /// Puts bytes and copies of file descriptors under a name, in place of what was there.
    ///
    /// # Errors
    /// [`KeeperError::Stale`]; refused as [`Why::Full`]; broken when it is too long for a message.
    pub fn put(
        &mut self,
        epoch: u64,
        name: &str,
        bytes: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), KeeperError> {
        self.done(&Request::Put { epoch, name, bytes }, fds)
    }

    /// Deletes what is under a name; fine when nothing is.
    ///
    /// # Errors
    /// [`KeeperError::Stale`].
    pub fn delete(&mut self, epoch: u64, name: &str) -> Result<(), KeeperError> {
        self.done(&Request::Delete { epoch, name }, &[])
    }

    /// All names, in order.
    ///
    /// # Errors
    /// The keeper cannot be asked.
    pub fn list_all(&mut self) -> Result<Vec<String>, KeeperError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map_or("", String::as_str).to_owned();
            let (length, _) = self.ask(&Request::List { after: &after }, &[])?;
            let Answer::Names { names, more } = self.answer(length)? else { return Err(ODD) };
            all.extend(names.iter().map(|name| (*name).to_owned()));
            if !more {
                return Ok(all);
            }
            if names.is_empty() {
                return Err(KeeperError::Broken { what: "no names, and more of them" });
            }
        }
    }

    /// A copy of what is under a name.
    ///
    /// # Errors
    /// The keeper cannot be asked.
    pub fn get(&mut self, name: &str) -> Result<Option<Entry>, KeeperError> {
        let (length, fds) = self.ask(&Request::Get { name }, &[])?;
        match self.answer(length) {
            Ok(Answer::Entry { bytes }) => Ok(Some(Entry { bytes: bytes.to_owned(), fds })),
            Err(KeeperError::Refused { why: Why::Absent }) => Ok(None),
            Ok(_) => Err(ODD),
            Err(error) => Err(error),
        }
    }

    /// Copies of what is under these names, without those that are under none. Asks ahead, so that neither side waits
    /// for the other: a driver that takes over has hundreds to ask for, and readers are waiting.
    ///
    /// # Errors
    /// The keeper cannot be asked.
    pub fn get_all(&mut self, names: &[String]) -> Result<Vec<(String, Entry)>, KeeperError> {
        let (mut asked, mut found) = (std::collections::VecDeque::new(), Vec::new());
        let mut left = names.iter();
        loop {
            while asked.len() < AHEAD
                && let Some(name) = left.next()
            {
                let number = self.send(&Request::Get { name }, &[], self.deadline())?;
                asked.push_back((number, name));
            }
            let Some((number, name)) = asked.pop_front() else { return Ok(found) };
            let (length, fds) = self.await_answer(number, self.deadline())?;
            match self.answer(length) {
                Ok(Answer::Entry { bytes }) => {
                    found.push((name.clone(), Entry { bytes: bytes.to_owned(), fds }));
                }
                Ok(_) => return Err(ODD),
                Err(KeeperError::Refused { why: Why::Absent }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sees that a rotator runs, and returns its process: the one to let rename.
    ///
    /// # Errors
    /// [`KeeperError::Stale`]; refused when none can be started.
    pub fn runner(&mut self, epoch: u64) -> Result<u32, KeeperError> {
        let (length, _) = self.ask(&Request::Runner { epoch }, &[])?;
        let Answer::Runner { pid } = self.answer(length)? else { return Err(ODD) };
        Ok(pid)
    }

    /// Lets that rotator do an errand in the mount that is number `index` of an entry.
    ///
    /// # Errors
    /// [`KeeperError::Stale`]; refused as [`Why::Gone`] (ask for the runner again) or [`Why::Absent`];
    /// [`KeeperError::TimedOut`] when `within` is shorter than the watchdog's two seconds and the queue.
    pub fn errand(
        &mut self,
        epoch: u64,
        pid: u32,
        (name, index): (&str, u8),
        errand: &super::errand::Errand,
        within: Duration,
    ) -> Result<Outcome, KeeperError> {
        let bytes = errand.encode();
        let request = Request::Errand { epoch, pid, name, index, bytes: &bytes };
        let deadline = Some(SystemClock.now() + within);
        let number = self.send(&request, &[], deadline)?;
        let (length, _) = self.await_answer(number, deadline)?;
        let Answer::Outcome { errno, bytes } = self.answer(length)? else { return Err(ODD) };
        Ok(Outcome { errno, bytes: bytes.to_owned() })
    }

    /// Counts, for whoever watches.
    ///
    /// # Errors
    /// The keeper cannot be asked.
    pub fn stats(&mut self) -> Result<Stats, KeeperError> {
        let (length, _) = self.ask(&Request::Stats, &[])?;
        let Answer::Stats(stats) = self.answer(length)? else { return Err(ODD) };
        Ok(stats)
    }

    /// Waits at most this long for the word that a successor waits; it is told once.
    ///
    /// # Errors
    /// The connection is over.
    pub fn poll_yield(&mut self, within: Duration) -> Result<bool, KeeperError> {
        if !self.asked_to_leave {
            // No request has number 0: what comes is the event, or a late answer that is skipped.
            match self.await_answer(0, Some(SystemClock.now() + within)) {
                Ok(_) | Err(KeeperError::TimedOut) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(std::mem::take(&mut self.asked_to_leave))
    }
}
