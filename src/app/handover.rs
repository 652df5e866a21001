//! From one driver to the next: wait for the right to act, go on with what the last one left, leave for a successor.
//!
//! See [`begin`] first, then [`adopt`]. A driver that has left does not exit: the kubelet would start it again, and
//! it would take over from its successor. It starts anew in place, and waits.

use std::os::unix::process::CommandExt as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::custody::{Custody, Event, sort};
use crate::keeper::client::Entry;
use crate::kept::journal::Journal;
use crate::kept::region::{Region, Shelf};
use crate::lease::leases::Leases;
use crate::telemetry::metrics::Metrics;
use crate::volume::lifecycle::Lifecycle;

/// How long a starting driver looks for a keeper before it goes on without.
const LOOK: Duration = Duration::from_secs(1);
/// Set for a process that has left for a successor.
pub(super) const WAITS: &str = "KEYHOLE_WAITS";

/// Waits until this driver may act. `None`: there is no keeper, so nobody else acts that it knows of.
pub(super) async fn begin(
    custody: &Custody,
    events: &mut UnboundedReceiver<Event>,
) -> Option<Vec<(String, Entry)>> {
    if !custody.is_found_within(LOOK).await {
        tracing::warn!("there is no keeper: mounts end with this driver until there is one");
        return None;
    }
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(Event::Taken(entries)) => return Some(entries),
                Some(Event::Leave | Event::Lost) => {}
                None => return None,
            },
            // Gone again before it answered.
            () = custody.lost() => {
                if !custody.is_found_within(LOOK).await {
                    return None;
                }
            }
        }
    }
}

/// Goes on with everything that the last driver left.
pub(super) async fn adopt(
    entries: Vec<(String, Entry)>,
    custody: &Custody,
    leases: &Leases,
    volumes: &Arc<Lifecycle>,
    metrics: &Metrics,
) {
    let count = entries.len();
    let found = sort(entries);
    for name in found.broken {
        tracing::error!(name, "what the driver before kept cannot be taken apart; it is given up");
        metrics.state_lost();
        give_up(custody, name).await;
    }
    // Readers are waiting: all processors work, and few threads are made for it.
    let (sessions, ours) = (leases.clone(), (custody.clone(), metrics.clone()));
    in_parts(found.sessions, move |(name, region)| {
        restore(name, region, &sessions, &ours);
    })
    .await;
    let (runtime, adopting) = (tokio::runtime::Handle::current(), Arc::clone(volumes));
    in_parts(found.volumes, move |volume| runtime.block_on(adopting.adopt(volume))).await;
    leases.revoke_orphans();
    if count > 0 {
        tracing::info!(entries = count, "gone on with what the driver before left");
    }
}

fn restore(
    name: String,
    region: Box<dyn Region>,
    leases: &Leases,
    (custody, metrics): &(Custody, Metrics),
) {
    let shelf: Arc<dyn Shelf> = Arc::new(custody.clone());
    let lost = match Journal::reopen(&name, shelf, region) {
        Ok(journal) => {
            leases.restore(journal).is_err().then(|| "it does not fit together".to_owned())
        }
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = lost {
        tracing::error!(
            name,
            why,
            "a session of the driver before cannot be read: it lives until its own end, and a new one is made"
        );
        metrics.state_lost();
        custody.remove(&name);
    }
}

/// Works on all of them, on as many threads as there are processors.
async fn in_parts<T: Send + 'static>(all: Vec<T>, work: impl Fn(T) + Clone + Send + 'static) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8);
    let queue = Arc::new(std::sync::Mutex::new(all.into_iter()));
    let mut working = tokio::task::JoinSet::new();
    for _ in 0..threads {
        let (queue, work) = (Arc::clone(&queue), work.clone());
        working.spawn_blocking(move || {
            let next = || queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            while let Some(one) = next() {
                work(one);
            }
        });
    }
    working.join_all().await;
}

async fn give_up(custody: &Custody, name: String) {
    let custody = custody.clone();
    drop(tokio::task::spawn_blocking(move || custody.remove(&name)).await);
}

/// Starts this program anew in place of itself: all its threads end and all its descriptors are closed.
pub(super) fn wait_anew() -> anyhow::Error {
    let arguments = std::env::args_os().skip(1);
    let error = std::process::Command::new("/proc/self/exe").args(arguments).env(WAITS, "1").exec();
    anyhow::Error::new(error).context("cannot start anew to wait for the successor's end")
}
