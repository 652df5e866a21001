//! [`Connection`]: one client, as the keeper sees it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use super::process::Process;
use super::protocol::{Answer, Header, LOWEST, Role, VERSION, Why};
use super::socket;

/// What a client said about itself in its HELLO.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) role: Role,
    pub(super) version: u8,
    pub(super) process: Rc<Process>,
}

/// A socket, who is at its other end, and whether it waits for an answer.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: OwnedFd,
    /// The process that connected, or the child that got the other end.
    pub(super) pid: u32,
    pub(super) since: Duration,
    pub(super) client: Option<Client>,
    /// The request whose answer is still to come. Until then nothing is read, so answers keep their order.
    pub(super) owed: Option<u32>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, pid: u32, since: Duration) -> Self {
        Self { socket, pid, since, client: None, owed: None }
    }

    /// Answers a request, or says something unasked (0).
    ///
    /// # Errors
    /// The client does not read, or is gone: the connection is over.
    pub(super) fn answer(
        &self,
        request: u32,
        answer: &Answer<'_>,
        fds: &[BorrowedFd<'_>],
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let version = self.client.as_ref().map_or(LOWEST, |client| client.version);
        let header = Header { version, request };
        answer.encode(header, out).map_err(io::Error::other)?;
        match socket::send(self.socket.as_fd(), out, fds) {
            // Too many file descriptors are on their way between processes of this user (or all memory is
            // used): the connection is sound.
            Err(error) if !fds.is_empty() && error.kind() != io::ErrorKind::WouldBlock => {
                let full = Answer::Refused(Why::Full);
                full.encode(header, out).map_err(io::Error::other)?;
                socket::send(self.socket.as_fd(), out, &[])
            }
            sent => sent,
        }
    }

    /// Whether a message of this version may come here.
    pub(super) fn speaks(&self, version: u8) -> bool {
        self.client.as_ref().is_none_or(|client| client.version == version)
    }
}

/// The refusal that names the keeper's versions.
pub(super) const NO_VERSION: Why = Why::Version { lowest: LOWEST, highest: VERSION };
