//! The driver's end of the keeper: what it has put there, and whether it may act.
//!
//! See [`Custody`] first. A thread (`link`) keeps the connection: it takes the epoch, puts everything there again
//! when the keeper was restarted, beats as long as the serving loop does, and hears when a successor waits. The
//! rest of the driver sees three ports: memory that is kept ([`crate::kept::region::Shelf`]), volumes that are
//! kept ([`crate::volume::keeping::Keeping`]) and work from outside ([`crate::fs::serve::Errands`]). It never
//! waits for the keeper longer than [`ANSWER`]; without one everything works, unprotected.
//!
//! ```text
//! alone --connected--> claiming --taken--> holding --keeper gone--> (goes on, unprotected) --resumed--> holding
//!                                             |  yield: a successor waits; killed when it stays
//!                                             +--> leaving -> exec: waiting for the epoch again
//! ```

mod errands;
mod found;
mod link;
mod table;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use tokio::sync::{mpsc, watch};

use crate::clock::Clock;
pub use crate::custody::found::{Found, device, sort};
use crate::custody::table::Table;
use crate::host::segment::Segment;
use crate::keeper::client::EpochPage;
use crate::kept::region::{Region, Shelf};
use crate::telemetry::metrics::Metrics;
use crate::volume::keeping::{Deposit, Keeping};

/// How long the keeper may take for an answer before it is taken for gone.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);
/// Where in an entry of a volume its parts are.
const DEVICE: usize = 0;
const MANIFEST: usize = 1;
const JOURNAL: usize = 2;
const PRIVATE: usize = 3;

/// What the driver hears.
pub enum Event {
    /// It may act, and this is what the driver before has left.
    Taken(Vec<(String, crate::keeper::client::Entry)>),
    /// A successor waits: finish and leave.
    Leave,
    /// The epoch is another's: nothing may be done any more.
    Lost,
}

/// What the driver is told of the keeper.
#[derive(Clone, Debug)]
pub struct Options {
    /// The keeper's socket; `None` for no keeper.
    pub socket: Option<PathBuf>,
    /// This process has left for a successor and waits until that is gone.
    pub waits: bool,
}

/// The right to act, as the keeper's page tells.
struct Right {
    page: EpochPage,
    epoch: u64,
}

/// What the driver has put into the keeper's hands. Cheap to clone.
#[derive(Clone)]
pub struct Custody(Arc<Inner>);

struct Inner {
    options: Options,
    table: Mutex<Table>,
    right: ArcSwapOption<Right>,
    errands: Mutex<Option<crate::keeper::client::Connection>>,
    /// Counted up by the serving loop: without that no beat is sent.
    pulse: AtomicU64,
    connected: watch::Sender<bool>,
    /// There is a keeper; the epoch may still be another's.
    found: watch::Sender<bool>,
    /// When the keeper was there last.
    since: Mutex<crate::clock::Moment>,
    stop: tokio_util::sync::CancellationToken,
    left: watch::Sender<bool>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Custody {
    /// Starts the thread, if there is to be a keeper.
    ///
    /// # Errors
    /// No thread can be made.
    pub fn start(
        options: Options,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> std::io::Result<(Self, mpsc::UnboundedReceiver<Event>)> {
        let (tell, events) = mpsc::unbounded_channel();
        let since = Mutex::new(clock.now());
        let custody = Self(Arc::new(Inner {
            options,
            table: Mutex::default(),
            right: ArcSwapOption::empty(),
            errands: Mutex::default(),
            pulse: AtomicU64::new(0),
            connected: watch::Sender::new(false),
            found: watch::Sender::new(false),
            since,
            stop: tokio_util::sync::CancellationToken::new(),
            left: watch::Sender::new(false),
            clock,
            metrics,
        }));
        if custody.0.options.socket.is_some() {
            let link = link::Link::new(Arc::clone(&custody.0), tell);
            drop(std::thread::Builder::new().name("keeper".to_owned()).spawn(move || link.run())?);
        }
        Ok((custody, events))
    }

    /// The serving loop is alive.
    pub fn pulse(&self) {
        self.0.pulse.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives the epoch up; from now on nothing may be done. Returns when the keeper knows, or is not there.
    pub async fn leave(&self) {
        self.0.stop.cancel();
        let mut left = self.0.left.subscribe();
        if self.0.options.socket.is_some() {
            drop(tokio::time::timeout(ANSWER * 4, left.wait_for(|left| *left)).await);
        }
    }

    /// Waits until there is a keeper, or `limit` is over; tells whether there is.
    pub async fn is_found_within(&self, limit: Duration) -> bool {
        let mut found = self.0.found.subscribe();
        self.0.options.socket.is_some()
            && tokio::time::timeout(limit, found.wait_for(|found| *found)).await.is_ok()
    }

    /// Waits until the keeper that was found is gone.
    pub async fn lost(&self) {
        drop(self.0.found.subscribe().wait_for(|found| !*found).await);
    }

    /// Nothing is kept under `name` any more.
    pub fn remove(&self, name: &str) {
        self.0.table().remove(name);
    }

    /// Whether there is a keeper now.
    pub fn is_connected(&self) -> bool {
        *self.0.connected.borrow()
    }

    /// Waits until there is a keeper.
    pub async fn connected(&self) {
        drop(self.0.connected.subscribe().wait_for(|connected| *connected).await);
    }
}

impl Inner {
    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epoch(&self) -> u64 {
        self.right.load().as_ref().map_or(0, |right| right.epoch)
    }

    /// Tells the figures and whoever waits; returns what was so before.
    fn is_connected(&self, connected: bool) -> bool {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = self.clock.now();
        self.metrics.set_keeper(connected, self.epoch());
        self.connected.send_replace(connected)
    }
}

impl Shelf for Custody {
    fn segment(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        Ok(Box::new(Segment::secret(size)?))
    }

    fn page(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        Ok(Box::new(Segment::plain(size)?))
    }

    fn replace(&self, name: &str, log: &dyn Region) -> bool {
        let copy = log.descriptor().and_then(|descriptor| descriptor.try_clone_to_owned().ok());
        let Some(copy) = copy else { return false };
        // A volume's journal is a part of what is kept of it; a session's is all.
        match name.starts_with("volume/") {
            true => self.0.table().change(name, JOURNAL, copy),
            false => self.0.table().put(name, Vec::new(), vec![copy]),
        }
    }

    fn remove(&self, name: &str) {
        self.0.table().remove(name);
    }

    fn acts(&self) -> bool {
        // Whoever leaves writes nothing more, from before the next one can begin.
        !self.0.stop.is_cancelled()
            && self.0.right.load().as_ref().is_none_or(|right| right.page.current() == right.epoch)
    }
}

#[async_trait]
impl Keeping for Custody {
    async fn is_there_within(&self, limit: Duration) -> bool {
        if self.0.options.socket.is_none() {
            return false;
        }
        let since = *self.0.since.lock().unwrap_or_else(PoisonError::into_inner);
        let left = limit.saturating_sub(self.0.clock.now().saturating_since(since));
        self.is_connected() || tokio::time::timeout(left, self.connected()).await.is_ok()
    }

    async fn deposit(&self, name: &str, volume: Deposit) -> bool {
        let (custody, name) = (self.clone(), name.to_owned());
        let put = tokio::task::spawn_blocking(move || {
            let (bytes, descriptors) = found::entry(volume);
            custody.0.table().put(&name, bytes, descriptors)
        });
        put.await.unwrap_or_default()
    }

    async fn withdraw(&self, name: &str) {
        let (custody, name) = (self.clone(), name.to_owned());
        drop(tokio::task::spawn_blocking(move || custody.0.table().remove(&name)).await);
    }

    fn epoch(&self) -> u64 {
        self.0.epoch()
    }
}
