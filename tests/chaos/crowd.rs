//! [`Crowd`]: the readers of all pods, and what they say; the watchdog over their operations.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use keyhole::demo::pod::Pod;

use crate::said::{Said, Span, now};

/// An operation that is not answered for so long hangs: microseconds.
const HANGS: u64 = 20_000_000;
/// How long readers may take to get to where they are waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Why readers may have had to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// kill -9 of the driver.
    Kill,
    /// A second driver beside the first.
    Upgrade,
    /// SIGTERM, and the next when that has ended.
    Term,
    /// SIGSTOP, however long.
    Stop,
    /// The keeper was restarted under a driver that lives.
    Keeper,
}

/// What the readers have said so far.
#[derive(Default)]
pub struct Tally {
    pub clone_mode: bool,
    /// When something was done to the driver, and when it was over.
    disturbed: Vec<(Cause, u64, Option<u64>)>,
    /// Microseconds from a kill to the answer; for other causes, of each operation's own wait.
    pub pauses: BTreeMap<Cause, Vec<u32>>,
    /// The operations' own waits in a kill.
    pub waits: Vec<u32>,
    /// Operations of readers that have ended, and of those that run.
    ended: u64,
    running: BTreeMap<u32, Running>,
    pub errors: Vec<String>,
    pub aborted: u64,
    pub wrong: Vec<String>,
    pub hangs: BTreeSet<(u32, u64)>,
    pub hung: Vec<String>,
    looked: u64,
}

#[derive(Default)]
struct Running {
    requests: u64,
    version: u64,
    warm: bool,
    heard: u64,
}

impl Tally {
    pub fn requests(&self) -> u64 {
        self.ended + self.running.values().map(|reader| reader.requests).sum::<u64>()
    }

    fn hear(&mut self, number: u32, said: Said) {
        let at = now();
        let reader = self.running.entry(number).or_default();
        reader.heard = at;
        match said {
            Said::Warm => reader.warm = true,
            Said::Beat { requests, version, oldest } => {
                (reader.requests, reader.version) = (requests, version);
                if let Some((kind, began)) = oldest.filter(|(_, began)| at > began + HANGS)
                    && self.hangs.insert((number, began))
                {
                    self.hung.push(format!("reader {number}: {kind}, since {began} us"));
                }
            }
            Said::Wait(span) => self.waited(&span),
            Said::Error { span, errno, text } => self.failed(number, &span, errno, &text),
            Said::Wrong { kind, text } => {
                self.wrong.push(format!("reader {number}: {kind}: {text}"))
            }
            Said::End { requests, .. } => {
                self.ended += requests;
                self.running.remove(&number);
            }
        }
        if at > self.looked + 1_000_000 {
            self.looked = at;
            for (number, reader) in &self.running {
                if at > reader.heard + HANGS && self.hangs.insert((*number, 0)) {
                    self.hung.push(format!("reader {number} says nothing"));
                }
            }
        }
    }

    /// The last thing that was done to the driver before the answer, if the operation was under way in it.
    fn cause(&self, span: &Span) -> Option<(Cause, u64)> {
        let last = self.disturbed.iter().rev().find(|(_, at, _)| *at <= span.ended)?;
        let (cause, at, over) = *last;
        over.is_none_or(|over| span.began <= over).then_some((cause, at))
    }

    fn waited(&mut self, span: &Span) {
        // A first read waits for Vault: what it waited for the driver cannot be told.
        if let Some((cause, at)) = self.cause(span).filter(|_| span.kind != "first") {
            // What lasts as long as it likes is not counted from its beginning, but as each operation's own wait.
            let from = if cause == Cause::Kill { at } else { at.max(span.began) };
            self.pauses.entry(cause).or_default().push((span.ended - from) as u32);
            if cause == Cause::Kill {
                self.waits.push((span.ended - at.max(span.began)) as u32);
            }
        }
    }

    fn failed(&mut self, number: u32, span: &Span, errno: i32, text: &str) {
        // Reading ahead tells EIO, and reading in for a mapping EFAULT, where the request was aborted.
        let aborted = [libc::ECONNABORTED, libc::EIO, libc::EFAULT].contains(&errno);
        if self.clone_mode && aborted && self.cause(span).is_some() {
            self.aborted += 1;
            return;
        }
        let (kind, took) = (&span.kind, (span.ended - span.began) / 1000);
        let cause = self.cause(span);
        self.errors.push(format!("reader {number}: {kind}: {text} after {took} ms ({cause:?})"));
    }
}

/// Something that happens to the driver; its number in the tally.
#[derive(Clone, Copy)]
pub struct Disturbance(usize);

struct Member {
    number: u32,
    child: Child,
}

/// The readers.
pub struct Crowd {
    shared: Arc<(Mutex<Tally>, Condvar)>,
    writer: Option<PipeWriter>,
    listener: Option<JoinHandle<()>>,
    members: Vec<Member>,
}

/// Hears what readers say through one pipe.
fn listen(reader: PipeReader, shared: &(Mutex<Tally>, Condvar)) {
    for line in BufReader::new(reader).lines() {
        let line = line.unwrap();
        let mut tally = shared.0.lock().unwrap();
        match serde_json::from_str(&line) {
            Ok((number, said)) => tally.hear(number, said),
            Err(error) => tally.errors.push(format!("{error}: {line}")),
        }
        shared.1.notify_all();
    }
}

impl Crowd {
    pub fn new(clone_mode: bool) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let shared = Arc::new((Mutex::new(Tally::default()), Condvar::new()));
        shared.0.lock().unwrap().clone_mode = clone_mode;
        let hears = Arc::clone(&shared);
        let listener = std::thread::spawn(move || listen(reader, &hears));
        Self { shared, writer: Some(writer), listener: Some(listener), members: Vec::new() }
    }

    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.shared.0.lock().unwrap()
    }

    /// Something is done to the driver, now.
    pub fn disturb(&self, cause: Cause) -> Disturbance {
        let mut tally = self.tally();
        tally.disturbed.push((cause, now(), None));
        Disturbance(tally.disturbed.len() - 1)
    }

    /// It was over at this time.
    pub fn over(&self, of: Disturbance, at: u64) {
        self.tally().disturbed[of.0].2 = Some(at);
    }

    /// How a reader in a pod is started: this program itself.
    pub fn start(
        &self,
        pod: &Pod,
        number: u32,
        role: &str,
        threads: usize,
        pause: Duration,
    ) -> Child {
        let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
        let words = [
            program,
            "reader".to_owned(),
            number.to_string(),
            role.to_owned(),
            threads.to_string(),
            pause.as_micros().to_string(),
        ];
        self.tally().running.insert(number, Running { heard: now(), ..Running::default() });
        let out = self.writer.as_ref().unwrap().try_clone().unwrap();
        pod.command(&words).stdin(Stdio::piped()).stdout(out).spawn().unwrap()
    }

    /// A reader joins, until [`Self::leave`].
    pub fn join(&mut self, pod: &Pod, number: u32, role: &str, threads: usize, pause: Duration) {
        let child = self.start(pod, number, role, threads, pause);
        self.members.push(Member { number, child });
    }

    /// Waits until this holds for every reader; readers that it does not hold for are errors.
    fn until(&self, what: &str, holds: impl Fn(&Running) -> bool) {
        let missing =
            |tally: &mut Tally| tally.hangs.is_empty() && !tally.running.values().all(&holds);
        let waited = self.shared.1.wait_timeout_while(self.tally(), PATIENCE, missing);
        let (mut tally, _) = waited.unwrap();
        let left: Vec<u32> = tally
            .running
            .iter()
            .filter(|(_, had)| !holds(had))
            .map(|(number, _)| *number)
            .collect();
        if !left.is_empty() {
            tally.errors.push(format!("{what}: not by {left:?}"));
        }
    }

    /// Waits until everybody has read everything once.
    pub fn warm(&self) {
        self.until("read everything", |reader| reader.warm);
    }

    /// Waits until every reader that has seen a version of its own has seen this one.
    pub fn seen(&self, version: u64) {
        self.until("see the last version", |reader| {
            reader.version <= 1 || reader.version >= version
        });
    }

    /// Tells the readers of these numbers to stop, and waits until they have.
    pub fn leave(&mut self, numbers: impl Fn(u32) -> bool) {
        let (leaving, staying) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|member| numbers(member.number));
        self.members = staying;
        let mut leaving: Vec<Member> = leaving;
        for member in &mut leaving {
            drop(member.child.stdin.take());
        }
        for member in leaving {
            self.reap(member.number, member.child);
        }
    }

    /// Waits for a reader's end, and looks how it was.
    pub fn reap(&self, number: u32, mut child: Child) {
        // One that hangs ends when it is killed, or when the connection is.
        let gone =
            |tally: &mut Tally| tally.running.contains_key(&number) && tally.hangs.is_empty();
        drop(self.shared.1.wait_timeout_while(self.tally(), PATIENCE, gone).unwrap());
        if self.tally().running.remove(&number).is_some() {
            drop(child.kill());
            self.tally().errors.push(format!("reader {number} did not come to its end"));
            return;
        }
        let status = child.wait().unwrap();
        if !status.success() {
            self.tally().errors.push(format!("reader {number} ended with {status}"));
        }
    }

    /// Everything that was said; all readers have left.
    pub fn close(mut self) -> Tally {
        self.leave(|_| true);
        drop(self.writer.take());
        if self.tally().hangs.is_empty() {
            self.listener.take().unwrap().join().unwrap();
        }
        std::mem::take(&mut *self.tally())
    }
}
