//! `keyhole keeper`: one thread, one poll(2). See [`run`], then `turn`.
//!
//! Time is counted by turns: at most a second each, after everything that lay in the sockets was read. So a
//! keeper that was stopped or suspended hears first what was said meanwhile, and takes nobody for dead.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::baton::{Baton, Effect, Event, Peer};
use super::children::Responder;
use super::connection::Connection;
use super::footprint::shed;
use super::page::OwnPage;
use super::process::Process;
use super::protocol::{Answer, MESSAGE};
use super::rotation::{Outcome, Rotation};
use super::socket::{self, Place};
use super::store::Store;
use super::{KeeperError, privileges};
use crate::clock::{Clock as _, Moment, SystemClock};

mod requests;

/// How often to look when somebody waits, and when nobody does.
const OFTEN: Duration = Duration::from_millis(100);
const SELDOM: Duration = Duration::from_secs(1);
/// The most connections, the most messages of one of them in a turn, and how long one may stay without HELLO.
const CONNECTIONS: usize = 64;
const MESSAGES: usize = 64;
const SILENT: Duration = Duration::from_secs(10);
/// How often what is not used leaves the memory.
const SHED: Duration = Duration::from_secs(5);
/// The most file descriptors in the store, and how many are left for everything else.
const MOST_FDS: u64 = 65_536;
const SPARE_FDS: u64 = 1024;

/// What `keyhole keeper` shall do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub socket: PathBuf,
    /// How long nobody may hold the epoch before a responder answers.
    pub orphan_grace: Duration,
}

/// Writes a line for the log.
pub(super) fn say(line: &str) {
    // Nobody is left to tell when standard error is closed.
    drop(writeln!(std::io::stderr(), "keeper: {line}"));
}

/// Keeps, until it is killed.
///
/// # Errors
/// It cannot start, or poll(2) fails.
pub fn run(options: &Options) -> Result<Infallible, KeeperError> {
    let files = privileges::drop_all()?;
    let mut keeper = Keeper::start(options, files)?;
    say(&format!("listens at {}", options.socket.display()));
    loop {
        keeper.turn()?;
    }
}

struct Keeper {
    place: Place,
    connections: BTreeMap<Peer, Connection>,
    last_peer: Peer,
    /// Connections that are over and still have to be forgotten.
    over: Vec<Peer>,
    store: Store,
    baton: Baton,
    page: OwnPage,
    /// Whose life and death matter to the baton.
    watched: Option<(Peer, Rc<Process>)>,
    rotation: Rotation,
    responder: Responder,
    started: Moment,
    last_turn: Moment,
    awake: Duration,
    looked: Duration,
    shed: Duration,
    buffer: Vec<u8>,
    out: Vec<u8>,
}

impl Keeper {
    fn start(options: &Options, files: u64) -> Result<Self, KeeperError> {
        let now = SystemClock.now();
        let most_fds = files.min(MOST_FDS + SPARE_FDS) - SPARE_FDS.min(files / 2);
        let page = OwnPage::new().map_err(KeeperError::host("make the epoch page"))?;
        Ok(Self {
            place: Place::listen(&options.socket)?,
            connections: BTreeMap::new(),
            last_peer: 0,
            over: Vec::new(),
            store: Store::new(usize::try_from(most_fds).unwrap_or_default()),
            baton: Baton::new(),
            page,
            watched: None,
            rotation: Rotation::default(),
            responder: Responder::new(options.orphan_grace),
            started: now,
            last_turn: now,
            awake: Duration::ZERO,
            looked: Duration::ZERO,
            shed: Duration::ZERO,
            buffer: vec![0; MESSAGE],
            out: Vec::new(),
        })
    }

    fn turn(&mut self) -> Result<(), KeeperError> {
        let Some((connects, ready)) = self.wait()? else { return Ok(()) };
        for (peer, flags) in ready {
            self.drain(peer, flags);
            self.bury();
        }
        if connects {
            self.accept();
        }
        let now = SystemClock.now();
        self.awake += now.saturating_since(self.last_turn).min(SELDOM);
        self.last_turn = now;
        self.watch();
        self.children();
        self.event(Event::Tick);
        let silent = self.connections.iter().filter(|(_, connection)| {
            connection.client.is_none() && self.awake.saturating_sub(connection.since) >= SILENT
        });
        self.over.extend(silent.map(|(peer, _)| *peer));
        self.bury();
        if self.awake >= self.shed {
            shed();
            self.shed = self.awake + SHED;
        }
        Ok(())
    }

    /// Waits until something happens; `None` for a signal.
    #[expect(clippy::type_complexity, reason = "read in one place")]
    fn wait(&self) -> Result<Option<(bool, Vec<(Peer, PollFlags)>)>, KeeperError> {
        let urgent = self.baton.is_urgent() || self.rotation.is_urgent();
        let pause = if urgent { OFTEN } else { SELDOM };
        let pause = Timespec::try_from(pause).map_err(|_| KeeperError::Broken { what: "time" })?;
        let readable = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds = vec![readable(self.place.as_fd())];
        fds.extend(self.connections.values().map(|connection| {
            // Whoever waits for an answer is not heard, but its end is.
            let flags = if connection.owed.is_some() { PollFlags::empty() } else { PollFlags::IN };
            PollFd::from_borrowed_fd(connection.socket.as_fd(), flags)
        }));
        fds.extend(self.watched.iter().map(|(_, process)| readable(process.as_fd())));
        fds.extend(self.rotation.fds().map(readable));
        fds.extend(self.responder.process().map(readable));
        match poll(&mut fds, Some(&pause)) {
            Err(rustix::io::Errno::INTR) => return Ok(None),
            done => done.map_err(KeeperError::host("poll"))?,
        };
        let mut happened = fds.iter().map(PollFd::revents);
        let connects = happened.next().is_some_and(|flags| !flags.is_empty());
        let ready = self.connections.keys().copied().zip(happened);
        Ok(Some((connects, ready.filter(|(_, flags)| !flags.is_empty()).collect())))
    }

    fn accept(&mut self) {
        use super::process::is_readable;
        for _ in 0..CONNECTIONS {
            if !is_readable(self.place.as_fd()) {
                return;
            }
            // It may have gone again.
            let Ok((socket, pid, user)) = self.place.accept() else { return };
            // Whoever is not root, or one too many, is told by the end of the connection.
            if user == 0 && self.connections.len() < CONNECTIONS {
                self.connect(socket, pid);
            }
        }
    }

    fn connect(&mut self, socket: std::os::fd::OwnedFd, pid: u32) {
        self.last_peer += 1;
        let connection = Connection::new(socket, pid, self.awake);
        self.connections.insert(self.last_peer, connection);
    }

    /// Reads what a client said.
    fn drain(&mut self, peer: Peer, flags: PollFlags) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..MESSAGES {
            let Some(connection) = self.connections.get(&peer) else { break };
            if connection.owed.is_some() {
                if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
                    self.over.push(peer);
                }
                break;
            }
            match socket::receive(connection.socket.as_fd(), &mut buffer) {
                Ok(message) if message.length > 0 => {
                    let bytes = buffer.get(..message.length).unwrap_or_default();
                    self.message(peer, bytes, message.fds, message.cut);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) => self.over.push(peer),
            }
            if self.over.contains(&peer) {
                break;
            }
        }
        self.buffer = buffer;
    }

    /// Forgets the connections that are over. That may end others, whose answers do not fit.
    fn bury(&mut self) {
        while let Some(peer) = self.over.pop() {
            if self.connections.remove(&peer).is_some() {
                self.rotation.forget(peer);
                self.event(Event::Closed(peer));
            }
        }
    }

    /// Looks at the process that holds the epoch, or held it.
    fn watch(&mut self) {
        let Some((peer, process)) = self.watched.clone() else { return };
        let often = if self.baton.is_urgent() { OFTEN } else { SELDOM };
        if process.has_exited() {
            self.event(Event::Exited(peer));
        } else if self.awake.saturating_sub(self.looked) >= often {
            self.looked = self.awake;
            if process.is_stuck() {
                self.event(Event::Stuck(peer));
            } else if process.is_zombie() {
                self.event(Event::Zombie(peer));
            }
        }
    }

    fn children(&mut self) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let outcomes = self.rotation.turn(self.awake, &mut buffer);
        self.buffer = buffer;
        self.deliver(outcomes);
        if self.responder.has_ended() {
            self.event(Event::ResponderGone);
        }
        let vacant = self.baton.vacant(self.awake).filter(|_| self.store.size().0 > 0);
        if let Some((control, pid)) =
            vacant.and_then(|vacant| self.responder.start(vacant, self.awake))
        {
            say("nobody holds the epoch: a responder answers");
            self.connect(control, pid);
            self.event(Event::ResponderRuns);
        }
    }

    fn deliver(&mut self, outcomes: Vec<(Peer, Outcome)>) {
        for (peer, outcome) in outcomes {
            match &outcome {
                Outcome::Done(errno, bytes) => {
                    self.settle(peer, &Answer::Outcome { errno: *errno, bytes });
                }
                Outcome::Refused(why) => self.settle(peer, &Answer::Refused(*why)),
            }
        }
    }

    fn event(&mut self, event: Event) {
        for effect in self.baton.on(event, self.awake) {
            match effect {
                Effect::Page(epoch) => {
                    self.page.write(epoch);
                    let outcomes = self.rotation.end();
                    self.deliver(outcomes);
                }
                Effect::Taken(peer, epoch) => {
                    let client = self.connections.get(&peer).and_then(|one| one.client.as_ref());
                    self.watched = client.map(|client| (peer, Rc::clone(&client.process)));
                    let pid = self.watched.as_ref().map_or(0, |(_, process)| process.pid());
                    say(&format!("epoch {epoch} is held by process {pid}"));
                    self.settle(peer, &Answer::Taken { epoch });
                }
                Effect::Refuse(peer, why) => self.settle(peer, &Answer::Refused(why)),
                Effect::Yield(peer) => self.answer(peer, 0, &Answer::Yield),
                Effect::Kill(peer) => {
                    let process = self.watched.as_ref().filter(|(watched, _)| *watched == peer);
                    if let Some((_, process)) = process {
                        let killed = process.kill();
                        say(&format!("process {} lost the epoch: {killed:?}", process.pid()));
                    }
                }
                Effect::StopResponder => self.responder.stop(),
            }
        }
        if self.baton.watched() != self.watched.as_ref().map(|(peer, _)| *peer) {
            self.watched = None;
        }
    }

    /// Answers what is still owed.
    fn settle(&mut self, peer: Peer, answer: &Answer<'_>) {
        let owed = self.connections.get_mut(&peer).and_then(|connection| connection.owed.take());
        if let Some(request) = owed {
            self.answer(peer, request, answer);
        }
    }

    fn answer(&mut self, peer: Peer, request: u32, answer: &Answer<'_>) {
        let Some(connection) = self.connections.get(&peer) else { return };
        if connection.answer(request, answer, &[], &mut self.out).is_err() {
            self.over.push(peer);
        }
    }
}
