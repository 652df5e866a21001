//! What each request does. See `message`.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::Keeper;
use crate::clock::{Clock as _, SystemClock};
use crate::keeper::baton::{Event, Peer};
use crate::keeper::connection::{Client, NO_VERSION};
use crate::keeper::process::Process;
use crate::keeper::protocol::{self, Answer, Request, Role, Stats, Why, Wrong};

/// What a role may ask.
fn may(role: Role, request: &Request<'_>) -> bool {
    match request {
        Request::List { .. } | Request::Hello { .. } => true,
        Request::Get { .. } => role != Role::Watcher,
        Request::Stats => role != Role::Responder,
        Request::Take(_)
        | Request::Leave { .. }
        | Request::Beat { .. }
        | Request::Put { .. }
        | Request::Delete { .. }
        | Request::Runner { .. }
        | Request::Errand { .. } => role == Role::Driver,
    }
}

/// The epoch that gives the right to do it.
fn epoch(request: &Request<'_>) -> Option<u64> {
    match *request {
        Request::Leave { epoch }
        | Request::Beat { epoch }
        | Request::Put { epoch, .. }
        | Request::Delete { epoch, .. }
        | Request::Runner { epoch }
        | Request::Errand { epoch, .. } => Some(epoch),
        Request::Hello { .. }
        | Request::Take(_)
        | Request::List { .. }
        | Request::Get { .. }
        | Request::Stats => None,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Keeper {
    /// Takes one datagram. Whatever is wrong with it, its file descriptors are closed with it.
    pub(super) fn message(&mut self, peer: Peer, bytes: &[u8], fds: Vec<OwnedFd>, cut: bool) {
        let (header, request) = match Request::decode(bytes) {
            Ok(read) if !cut => read,
            Err(Wrong::Unknown(header)) if !cut => {
                return self.answer(peer, header.request, &Answer::Refused(Why::Unsupported));
            }
            Ok(_) | Err(Wrong::Malformed | Wrong::Unknown(_)) => return self.malformed(peer, 0),
        };
        let number = header.request;
        let right_fds = match request {
            Request::Hello { .. } => fds.len() == 1,
            Request::Put { .. } => true,
            Request::Take(_)
            | Request::Leave { .. }
            | Request::Beat { .. }
            | Request::Delete { .. }
            | Request::List { .. }
            | Request::Get { .. }
            | Request::Runner { .. }
            | Request::Errand { .. }
            | Request::Stats => fds.is_empty(),
        };
        let Some(connection) = self.connections.get(&peer) else { return };
        let client = connection.client.as_ref();
        let hello = matches!(request, Request::Hello { .. });
        // Number 0 is for what the keeper says unasked. A second HELLO is a replay.
        let fits = number != 0 && right_fds && hello == client.is_none();
        if !fits || (!hello && !connection.speaks(header.version)) {
            return self.malformed(peer, number);
        }
        if client.is_some_and(|client| !may(client.role, &request)) {
            return self.answer(peer, number, &Answer::Refused(Why::Forbidden));
        }
        if epoch(&request).is_some_and(|epoch| !self.baton.is_current(epoch)) {
            return self.answer(peer, number, &Answer::Refused(Why::Stale));
        }
        self.perform(peer, number, request, fds);
    }

    /// Answers, and ends the connection.
    fn malformed(&mut self, peer: Peer, number: u32) {
        self.answer(peer, number, &Answer::Refused(Why::Malformed));
        self.over.push(peer);
    }

    fn perform(&mut self, peer: Peer, number: u32, request: Request<'_>, fds: Vec<OwnedFd>) {
        match request {
            Request::Hello { lowest, highest, role } => {
                self.hello(peer, number, protocol::common(lowest, highest), role, fds);
            }
            Request::Take(claim) => {
                self.owe(peer, number);
                self.event(Event::Take(peer, claim));
            }
            Request::Leave { .. } => {
                self.answer(peer, number, &Answer::Done);
                self.event(Event::Left);
            }
            Request::Beat { .. } => {
                self.answer(peer, number, &Answer::Done);
                self.event(Event::Beat);
            }
            Request::Put { name, bytes, .. } => {
                let done = self.store.put(name, bytes, fds);
                let answer = done.map_or(Answer::Refused(Why::Full), |()| Answer::Done);
                self.answer(peer, number, &answer);
            }
            Request::Delete { name, .. } => {
                self.store.delete(name);
                self.answer(peer, number, &Answer::Done);
            }
            Request::List { after } => self.list(peer, number, after),
            Request::Get { name } => self.get(peer, number, name),
            Request::Runner { .. } => {
                let runner = self.rotation.runner();
                let answer = runner.map_or_else(Answer::Refused, |pid| Answer::Runner { pid });
                self.answer(peer, number, &answer);
            }
            Request::Errand { pid, name, index, bytes, .. } => {
                let fds = self.store.get(name).map(|entry| &entry.fds);
                let taken = match fds.and_then(|fds| fds.get(usize::from(index))) {
                    Some(mount) => self.rotation.errand(peer, pid, mount.as_fd(), bytes),
                    None => Err(Why::Absent),
                };
                match taken {
                    Ok(()) => self.owe(peer, number),
                    Err(why) => self.answer(peer, number, &Answer::Refused(why)),
                }
            }
            Request::Stats => {
                let (entries, fds, bytes) = self.store.size();
                let holder = self.watched.as_ref().filter(|_| self.baton.holder().is_some());
                let stats = Stats {
                    entries: count(entries),
                    fds: count(fds),
                    bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
                    epoch: self.baton.epoch(),
                    holder: holder.map_or(0, |(_, process)| process.pid()),
                };
                self.answer(peer, number, &Answer::Stats(stats));
            }
        }
    }

    /// The answer comes later; until then nothing more is read.
    fn owe(&mut self, peer: Peer, number: u32) {
        if let Some(connection) = self.connections.get_mut(&peer) {
            connection.owed = Some(number);
        }
    }

    fn hello(
        &mut self,
        peer: Peer,
        number: u32,
        version: Option<u8>,
        role: Role,
        fds: Vec<OwnedFd>,
    ) {
        let Some(version) = version else {
            return self.answer(peer, number, &Answer::Refused(NO_VERSION));
        };
        // It must be its own: whoever could give another's could have that one killed.
        let process = fds.into_iter().next().and_then(Process::of);
        let Some(connection) = self.connections.get_mut(&peer) else { return };
        let Some(process) = process.filter(|process| process.pid() == connection.pid) else {
            return self.malformed(peer, number);
        };
        connection.client = Some(Client { role, version, process: Rc::new(process) });
        let age = SystemClock.now().saturating_since(self.started).as_millis();
        let answer = Answer::Welcome {
            version,
            epoch: self.baton.epoch(),
            entries: count(self.store.size().0),
            age: u64::try_from(age).unwrap_or(u64::MAX),
        };
        let page = [self.page.file()];
        if connection.answer(number, &answer, &page, &mut self.out).is_err() {
            self.over.push(peer);
        }
    }

    fn list(&mut self, peer: Peer, number: u32, after: &str) {
        let (names, more) = self.store.after(after);
        let Some(connection) = self.connections.get(&peer) else { return };
        let answer = Answer::Names { names, more };
        if connection.answer(number, &answer, &[], &mut self.out).is_err() {
            self.over.push(peer);
        }
    }

    fn get(&mut self, peer: Peer, number: u32, name: &str) {
        let Some(entry) = self.store.get(name) else {
            return self.answer(peer, number, &Answer::Refused(Why::Absent));
        };
        let Some(connection) = self.connections.get(&peer) else { return };
        let fds: Vec<BorrowedFd<'_>> = entry.fds.iter().map(|fd| fd.as_fd()).collect();
        let answer = Answer::Entry { bytes: &entry.bytes };
        if connection.answer(number, &answer, &fds, &mut self.out).is_err() {
            self.over.push(peer);
        }
    }
}
