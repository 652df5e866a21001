//! [`AuditLog`]: one line per open, under the target `audit`; repeats within a minute are counted.
//!
//! A program that opens the same file a thousand times a second must not flood the log: the first open
//! is told at once, and the next line after the pause tells how many there were.

use std::collections::HashMap;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Moment};
use crate::fs::files::{Audit, Open, Outcome};
use crate::identity::cgroup::Caller;
use crate::identity::pod::PodUid;
use crate::telemetry::metrics::Metrics;

/// How long repeats of one open are only counted.
const PAUSE: Duration = Duration::from_secs(60);
/// How many different opens are known at once; beyond, all are forgotten and told anew.
const MOST: usize = 16_384;
/// Lines of opens that were in order are written together; what the gate refused is written at once.
const TOGETHER: Duration = Duration::from_millis(50);
/// Lines that wait for the log; a slow log must not slow readers down.
const QUEUE: usize = 4096;

#[derive(PartialEq, Eq, Hash)]
struct Key {
    pod: String,
    container: Option<String>,
    uid: Option<u32>,
    file: String,
    version: Option<u32>,
    outcome: Outcome,
}

struct Seen {
    told: Moment,
    repeats: u64,
}

/// The audit as lines of the log.
pub struct AuditLog {
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    seen: Mutex<HashMap<Key, Seen>>,
    lines: SyncSender<Entry>,
}

impl AuditLog {
    /// Nothing was seen yet.
    pub fn new(clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self { clock, metrics, seen: Mutex::default(), lines: writer() }
    }

    /// Waits until every line that was sent is written, at most a second: for the driver's end.
    pub fn flush(&self) {
        let (written, wait) = sync_channel::<()>(1);
        if self.lines.try_send(Entry::Flush(written)).is_ok() {
            // An answer is never sent: the sender is dropped.
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }

    /// Counts the open; how many repeats to tell with it, or `None` to tell nothing now.
    fn due(&self, key: Key) -> Option<u64> {
        let now = self.clock.now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(had) = seen.get_mut(&key) {
            if now.saturating_since(had.told) < PAUSE {
                had.repeats += 1;
                return None;
            }
            had.told = now;
            return Some(std::mem::take(&mut had.repeats));
        }
        if seen.len() >= MOST {
            seen.clear();
        }
        seen.insert(key, Seen { told: now, repeats: 0 });
        Some(0)
    }
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Served => "served",
        Outcome::Audited => "audited",
        Outcome::Denied => "denied",
        Outcome::Failed => "failed",
    }
}

impl Audit for AuditLog {
    fn opened(&self, open: &Open<'_>) {
        let outcome = word(open.outcome);
        self.metrics.open(outcome);
        let key = Key {
            pod: open.pod.to_string(),
            container: open.caller.container.clone(),
            uid: open.caller.uid,
            file: open.file.to_owned(),
            version: open.version,
            outcome: open.outcome,
        };
        let uid = key.uid;
        let Some(repeats) = self.due(key) else { return };
        // The reader is held until it is answered: only what vanishes with it is looked up now.
        let exe = std::fs::read_link(format!("/proc/{}/exe", open.tid));
        let line = Line {
            pod: open.pod.clone(),
            caller: open.caller.clone(),
            exe: exe.map(|path| path.display().to_string()).unwrap_or_default(),
            uid,
            file: open.file.to_owned(),
            version: open.version,
            outcome: open.outcome,
            repeats,
        };
        if matches!(line.outcome, Outcome::Denied | Outcome::Audited) {
            return line.write();
        }
        // A full queue must not lose a line: then the reader waits for the log after all.
        if let Err(TrySendError::Full(entry) | TrySendError::Disconnected(entry)) =
            self.lines.try_send(Entry::Line(line))
        {
            entry.write();
        }
    }
}

/// What the thread of the audit is sent.
enum Entry {
    Line(Line),
    /// All that was sent before is to be written: dropping the sender says that it is.
    Flush(#[expect(dead_code, reason = "its drop is the answer")] SyncSender<()>),
}

impl Entry {
    fn write(self) {
        if let Self::Line(line) = self {
            line.write();
        }
    }
}

/// One line of the audit.
struct Line {
    pod: PodUid,
    caller: Caller,
    exe: String,
    uid: Option<u32>,
    file: String,
    version: Option<u32>,
    outcome: Outcome,
    repeats: u64,
}

impl Line {
    fn write(&self) {
        let Self { exe, uid, version, repeats, .. } = self;
        let (pod, file, outcome) = (self.pod.as_str(), self.file.as_str(), word(self.outcome));
        let by = self.caller.pod.as_ref().map_or("host", |pod| pod.as_str());
        let container = self.caller.container.as_deref().unwrap_or_default();
        if matches!(self.outcome, Outcome::Denied | Outcome::Audited) {
            tracing::warn!(target: "audit", pod, file, by, container, exe, uid, version, outcome, repeats, "open from outside the pod");
        } else {
            tracing::info!(target: "audit", pod, file, by, container, exe, uid, version, outcome, repeats, "open");
        }
    }
}

/// A thread that writes lines; it ends with the log.
fn writer() -> SyncSender<Entry> {
    let (lines, inbox) = sync_channel::<Entry>(QUEUE);
    let spawned = std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
        while let Ok(line) = inbox.recv() {
            // A program that starts reads many files: it has the processor first.
            std::thread::park_timeout(TOGETHER);
            line.write();
            inbox.try_iter().for_each(|line| line.write());
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for the audit: readers wait for the log");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hand(Mutex<Duration>);

    impl Clock for Hand {
        fn now(&self) -> Moment {
            Moment::since_boot(*self.0.lock().unwrap())
        }

        fn wall(&self) -> std::time::SystemTime {
            std::time::SystemTime::UNIX_EPOCH
        }
    }

    fn key(file: &str) -> Key {
        let (pod, file) = ("p".to_owned(), file.to_owned());
        Key { pod, container: None, uid: Some(0), file, version: Some(1), outcome: Outcome::Served }
    }

    #[test]
    fn repeats_are_counted_and_told_after_the_pause() {
        let hand = Arc::new(Hand(Mutex::default()));
        let log = AuditLog::new(Arc::clone(&hand) as Arc<dyn Clock>, Metrics::new());
        assert_eq!(log.due(key("a")), Some(0));
        assert_eq!(log.due(key("b")), Some(0), "another file is told at once");
        for _ in 0..5 {
            assert_eq!(log.due(key("a")), None);
        }
        *hand.0.lock().unwrap() = PAUSE;
        assert_eq!(log.due(key("a")), Some(5));
        assert_eq!(log.due(key("a")), None);
    }
}
