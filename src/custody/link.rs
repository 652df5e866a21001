//! [`Link`]: the thread that keeps the connection to the keeper, through its restarts, until the driver leaves.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use tokio::sync::mpsc::UnboundedSender;

use crate::custody::{ANSWER, Event, Inner, Right};
use crate::keeper::KeeperError;
use crate::keeper::client::{Claim, Connection, How, Role, Welcome};

/// How often the keeper is looked for.
const LOOK: Duration = Duration::from_millis(100);
/// How often a holder says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How often it looks whether it is to leave.
const TURN: Duration = Duration::from_millis(250);
/// The same once a successor waits: no reader is answered between the last read and the word to leave.
const LAST: Duration = Duration::from_millis(2);

/// The thread's own state.
pub(super) struct Link {
    inner: Arc<Inner>,
    tell: UnboundedSender<Event>,
    /// Locked while a driver lives: who has it knows that no other does.
    lock: Option<File>,
    /// It was said that another driver holds the epoch.
    waiting: bool,
    taken: bool,
    pulse: u64,
}

impl Link {
    pub(super) fn new(inner: Arc<Inner>, tell: UnboundedSender<Event>) -> Self {
        Self { inner, tell, lock: None, waiting: false, taken: false, pulse: 0 }
    }

    /// Until the driver leaves.
    pub(super) fn run(mut self) {
        let Some(path) = self.inner.options.socket.clone() else { return };
        let mut said = String::new();
        while !self.inner.stop.is_cancelled() {
            let ended = self.session(&path);
            self.inner.table().disconnect();
            self.inner.found.send_replace(false);
            if self.inner.stop.is_cancelled() {
                break;
            }
            if *self.inner.connected.borrow() {
                tracing::warn!(
                    "the keeper is gone; mounts are served as before and do not outlive this driver until it is back"
                );
                self.inner.is_connected(false);
            }
            if let Err(error) = ended {
                if matches!(error, KeeperError::Stale | KeeperError::Held) {
                    // Somebody else acts. What we know of is theirs.
                    tracing::error!("another driver holds the epoch");
                    drop(self.tell.send(Event::Lost));
                    break;
                }
                let error = error.to_string();
                if said != error {
                    tracing::info!(error, "no keeper yet");
                    said = error;
                }
            }
            wait(LOOK);
        }
        self.inner.left.send_replace(true);
    }

    /// From one connection to its end.
    fn session(&mut self, path: &Path) -> Result<(), KeeperError> {
        let (mut holder, Welcome { page, .. }) = Connection::open(path, Role::Driver, ANSWER)?;
        self.inner.found.send_replace(true);
        self.lock(path);
        let claim = Claim {
            how: match (self.taken, self.inner.options.waits) {
                (true, _) => How::Resume,
                (false, true) => How::Wait,
                (false, false) => How::Succeed,
            },
            epoch: self.inner.epoch(),
            alone: self.lock.is_some(),
        };
        let epoch = loop {
            if let Some(epoch) = holder.take_within(claim, BEAT)? {
                break epoch;
            }
            if self.inner.stop.is_cancelled() {
                return Ok(());
            }
            if !std::mem::replace(&mut self.waiting, true) {
                tracing::info!("another driver serves this node; this one waits");
            }
            self.lock(path);
        };
        self.lock(path);
        self.inner.right.store(Some(Arc::new(Right { page, epoch })));
        // A keeper that is slow is still ours: the end of this connection would be the end of this process.
        while let Err(error) = self.deposit(path, epoch) {
            if !is_slow(&error) || self.inner.stop.is_cancelled() {
                return Err(error);
            }
        }
        let first = !std::mem::replace(&mut self.taken, true);
        tracing::info!(epoch, first, "the keeper is there, and the epoch is ours");
        self.inner.is_connected(true);
        self.waiting = false;
        self.hold(path, &mut holder, epoch)?;
        // The keeper lets a successor act when this connection is over. As long as this process lives it may still
        // read requests: so the end of all its threads, by exit or exec, must be what closes it.
        std::mem::forget(holder);
        Ok(())
    }

    /// Puts everything there. At the first time what another driver has put there is told of.
    fn deposit(&self, path: &Path, epoch: u64) -> Result<(), KeeperError> {
        let (mut connection, _) = Connection::open(path, Role::Driver, ANSWER)?;
        let names = connection.list_all()?;
        let mut table = self.inner.table();
        if self.taken {
            return table.connect(connection, epoch, &names);
        }
        let names: Vec<String> = names.into_iter().filter(|name| !table.has(name)).collect();
        let found = connection.get_all(&names)?;
        for (name, entry) in &found {
            let copies = entry.fds.iter().map(std::os::fd::OwnedFd::try_clone).collect();
            let copies: std::io::Result<_> = copies;
            match copies {
                Ok(copies) => table.inherit(name, entry.bytes.clone(), copies),
                Err(error) => tracing::error!(name, %error, "no descriptor left for a copy"),
            }
        }
        table.adopt(connection, epoch, &found.iter().map(|(name, _)| name.clone()).collect())?;
        drop(table);
        // Nobody hears it when the driver ends already.
        drop(self.tell.send(Event::Taken(found)));
        Ok(())
    }

    /// Beats and listens until the connection or the driver ends.
    fn hold(
        &mut self,
        path: &Path,
        holder: &mut Connection,
        epoch: u64,
    ) -> Result<(), KeeperError> {
        let (mut beaten, mut turn) = (self.inner.clock.now(), TURN);
        loop {
            if self.inner.stop.is_cancelled() {
                return holder.leave(epoch);
            }
            // A beat says that the loop which answers kubelet and readers turns, not that this thread does.
            let (pulse, now) = (self.inner.pulse.load(Ordering::Acquire), self.inner.clock.now());
            if pulse != self.pulse && now.saturating_since(beaten) >= BEAT {
                (self.pulse, beaten) = (pulse, now);
                match holder.beat(epoch) {
                    Ok(()) => {}
                    // It is not left for that: when it hears us again, it must find us here, or it takes us for dead.
                    Err(error) if is_slow(&error) => self.inner.table().disconnect(),
                    Err(error) => return Err(error),
                }
            }
            if !self.inner.table().is_connected() {
                if self.inner.is_connected(false) {
                    tracing::warn!("the keeper does not answer");
                }
                match self.deposit(path, epoch) {
                    Ok(()) => {
                        tracing::info!("the keeper answers again, and has everything");
                        self.inner.is_connected(true);
                    }
                    Err(error) if is_slow(&error) => {}
                    Err(error) => return Err(error),
                }
            }
            if self.lock.is_none() {
                self.lock(path);
            }
            if holder.poll_yield(turn)? {
                turn = LAST;
                tracing::info!(epoch, "a successor waits");
                drop(self.tell.send(Event::Leave));
            }
        }
    }

    /// Tries to lock the file that every driver of this keeper locks.
    fn lock(&mut self, path: &Path) {
        if self.lock.is_some() {
            return;
        }
        let Some(folder) = path.parent() else { return };
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        if let Ok(file) = open(folder.join("driver.lock"), flags, mode)
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            self.lock = Some(file.into());
        }
    }
}

/// Whether the keeper may only be slow, or stopped for a while.
fn is_slow(error: &KeeperError) -> bool {
    matches!(error, KeeperError::TimedOut)
}

/// A thread of its own may wait.
#[expect(clippy::disallowed_methods, reason = "no runtime's worker")]
fn wait(long: Duration) {
    std::thread::sleep(long);
}
