//! One request, one answer: sending, waiting until a deadline, and what comes in between.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Connection;
use crate::clock::{Clock as _, Moment, SystemClock};
use crate::keeper::protocol::{Answer, Header, Request};
use crate::keeper::{KeeperError, Why, socket};

/// Until when to wait; `None` for ever.
pub(super) type Deadline = Option<Moment>;

/// An answer that does not belong to its request.
pub(super) const ODD: KeeperError = KeeperError::Broken { what: "an answer to something else" };

impl Connection {
    pub(super) fn deadline(&self) -> Deadline {
        Some(SystemClock.now() + self.within)
    }

    pub(super) fn ask(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(usize, Vec<OwnedFd>), KeeperError> {
        let deadline = self.deadline();
        let number = self.send(request, fds, deadline)?;
        self.await_answer(number, deadline)
    }

    pub(super) fn done(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), KeeperError> {
        let (length, _) = self.ask(request, fds)?;
        if self.answer(length)? == Answer::Done { Ok(()) } else { Err(ODD) }
    }

    pub(super) fn send(
        &mut self,
        request: &Request<'_>,
        fds: &[BorrowedFd<'_>],
        deadline: Deadline,
    ) -> Result<u32, KeeperError> {
        self.last = self.last.checked_add(1).unwrap_or(1);
        let header = Header { version: self.version, request: self.last };
        request
            .encode(header, &mut self.out)
            .map_err(|_| KeeperError::Broken { what: "too long for a message" })?;
        loop {
            match socket::send(self.socket.as_fd(), &self.out, fds) {
                Ok(()) => return Ok(self.last),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, deadline)?;
                }
                Err(error) => return Err(KeeperError::Unreachable(error)),
            }
        }
    }

    pub(super) fn wait(&self, flags: PollFlags, deadline: Deadline) -> Result<(), KeeperError> {
        loop {
            let left = deadline.map(|deadline| deadline.saturating_since(SystemClock.now()));
            let left = left.map(Timespec::try_from).transpose();
            let left =
                left.map_err(|_| KeeperError::Broken { what: "a time beyond all bounds" })?;
            let mut fds = [PollFd::from_borrowed_fd(self.socket.as_fd(), flags)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => return Err(KeeperError::TimedOut),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(KeeperError::Unreachable(errno.into())),
            }
        }
    }

    /// Waits for the answer with this number; tells how long it is, in the buffer.
    pub(super) fn await_answer(
        &mut self,
        number: u32,
        deadline: Deadline,
    ) -> Result<(usize, Vec<OwnedFd>), KeeperError> {
        loop {
            let received = match socket::receive(self.socket.as_fd(), &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN, deadline)?;
                    continue;
                }
                received => received.map_err(KeeperError::Unreachable)?,
            };
            if received.length == 0 {
                return Err(KeeperError::Unreachable(io::ErrorKind::UnexpectedEof.into()));
            }
            if received.cut {
                return Err(KeeperError::Broken { what: "an answer that is cut" });
            }
            let bytes = self.buffer.get(..received.length).unwrap_or_default();
            let (header, answer) = Answer::decode(bytes)
                .map_err(|_| KeeperError::Broken { what: "an answer that cannot be read" })?;
            if header.request == number && number != 0 {
                return Ok((received.length, received.fds));
            }
            if header.request == 0 {
                if answer != Answer::Yield {
                    return Err(KeeperError::Broken { what: "the keeper cannot read us" });
                }
                self.asked_to_leave = true;
                if number == 0 {
                    return Ok((received.length, received.fds));
                }
                continue;
            }
            // Late, for a call that has given up; a grant is not lost.
            if let Answer::Taken { epoch } = answer
                && self.claimed.is_some_and(|(_, claimed)| claimed == header.request)
            {
                self.granted = Some(epoch);
            }
        }
    }

    /// The answer in the buffer, unless it is a no.
    pub(super) fn answer(&self, length: usize) -> Result<Answer<'_>, KeeperError> {
        let unreadable = |_| KeeperError::Broken { what: "an answer that cannot be read" };
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let (_, answer) = Answer::decode(bytes).map_err(unreadable)?;
        let Answer::Refused(why) = answer else { return Ok(answer) };
        Err(match why {
            Why::Stale => KeeperError::Stale,
            Why::Held => KeeperError::Held,
            Why::Unsupported
            | Why::Malformed
            | Why::Absent
            | Why::Gone
            | Why::Full
            | Why::Forbidden
            | Why::Version { .. }
            | Why::Failed
            | Why::Other(_) => KeeperError::Refused { why },
        })
    }
}
