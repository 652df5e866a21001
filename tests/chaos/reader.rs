//! The part that runs in the pod: reads in every way, compares every byte, and says what it had to wait for.
//!
//! The pauses between two operations are the load's pace; nobody waits for another with them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::contents::{self, FRESH};
use crate::said::{Said, Span, WAITED, now, say};
use crate::ways::{Ways, whole};

/// Why an operation is not as it must be.
pub enum Trouble {
    Failed(std::io::Error),
    Wrong(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Failed(errno.into())
    }
}

/// What one thread does now: when it began, and what (an index into [`Ways::KINDS`]).
#[derive(Default)]
struct Slot {
    began: AtomicU64,
    kind: AtomicUsize,
}

/// What the threads of a reader share.
pub struct Shared {
    number: u32,
    /// Which secret `pair.a` and `pair.b` show.
    pub pair: &'static str,
    pause: Duration,
    stop: AtomicBool,
    requests: AtomicU64,
    pub version: AtomicU64,
    slots: Vec<Slot>,
    warm: AtomicUsize,
    /// What an inode of the dynamic credential showed first.
    pub shown: Mutex<HashMap<u64, Vec<u8>>>,
    /// The next file that nobody has read.
    next: AtomicUsize,
}

/// `reader NUMBER ROLE THREADS PAUSE`: quiet, rotating or first; the pause is in microseconds.
pub fn run(words: &[String]) {
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    let threads = number(2) as usize;
    let shared = Arc::new(Shared {
        number: number(0) as u32,
        pair: if words[1] == "rotating" { "rot" } else { "pair" },
        pause: Duration::from_micros(number(3)),
        stop: AtomicBool::new(false),
        requests: AtomicU64::new(0),
        version: AtomicU64::new(0),
        slots: (0..threads).map(|_| Slot::default()).collect(),
        warm: AtomicUsize::new(0),
        shown: Mutex::default(),
        next: AtomicUsize::new(0),
    });
    let first = words[1] == "first";
    let workers: Vec<_> = (0..threads)
        .map(|at| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || if first { shared.firsts(at) } else { shared.works(at) })
        })
        .collect();
    let stdin = std::io::stdin();
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    let often = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    while !workers.iter().all(std::thread::JoinHandle::is_finished) {
        let stopping = shared.stop.load(Ordering::Relaxed);
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        // The end of the input is the word to stop; then only the pace of the beats is left to wait for.
        let fds = if stopping { &mut fds[..0] } else { &mut fds[..] };
        let heard = poll(fds, Some(if stopping || first { &often } else { &second })).unwrap();
        shared.stop.fetch_or(heard > 0, Ordering::Relaxed);
        shared.beat();
    }
    let (requests, version) =
        (shared.requests.load(Ordering::Relaxed), shared.version.load(Ordering::Relaxed));
    say(shared.number, &Said::End { requests, version });
}

impl Shared {
    fn beat(&self) {
        let busy = self.slots.iter().filter_map(|slot| {
            let began = slot.began.load(Ordering::Acquire);
            let kind = Ways::KINDS[slot.kind.load(Ordering::Acquire)];
            (began > 0).then(|| (kind.to_owned(), began))
        });
        let oldest = busy.min_by_key(|(_, began)| *began);
        let (requests, version) =
            (self.requests.load(Ordering::Relaxed), self.version.load(Ordering::Relaxed));
        say(self.number, &Said::Beat { requests, version, oldest });
    }

    /// Does one operation, counts it and tells what is to be told.
    fn operation(&self, at: usize, kind: usize, run: impl FnOnce() -> Result<(), Trouble>) {
        let name = Ways::KINDS[kind];
        let began = now();
        self.slots[at].kind.store(kind, Ordering::Release);
        self.slots[at].began.store(began, Ordering::Release);
        let done = run();
        let ended = now();
        self.slots[at].began.store(0, Ordering::Release);
        self.requests.fetch_add(1, Ordering::Relaxed);
        let span = Span { kind: name.to_owned(), began, ended };
        if ended - began >= WAITED {
            say(self.number, &Said::Wait(span.clone()));
        }
        match done {
            Ok(()) => {}
            Err(Trouble::Wrong(text)) => say(self.number, &Said::Wrong { kind: span.kind, text }),
            Err(Trouble::Failed(error)) => {
                let errno = error.raw_os_error().unwrap_or_default();
                say(self.number, &Said::Error { span, errno, text: error.to_string() });
            }
        }
    }

    /// Round after round, in every way.
    fn works(&self, at: usize) {
        let mut ways = Ways::default();
        for kind in 0..Ways::COUNT {
            self.operation(at, kind, || ways.go(kind, self));
        }
        if self.warm.fetch_add(1, Ordering::AcqRel) + 1 == self.slots.len() {
            say(self.number, &Said::Warm);
        }
        // Threads begin at different places, so that not all do the same at the same time.
        let mut kind = at * 3 + self.number as usize;
        while !self.stop.load(Ordering::Relaxed) {
            kind = (kind + 1) % Ways::COUNT;
            self.operation(at, kind, || ways.go(kind, self));
            std::thread::sleep(self.pause);
        }
    }

    /// Every file for the first time, then once more.
    fn firsts(&self, at: usize) {
        loop {
            let file = self.next.fetch_add(1, Ordering::Relaxed);
            if file >= FRESH {
                return;
            }
            let secret = format!("fresh{file}");
            for kind in [Ways::FIRST, Ways::OPEN] {
                self.operation(at, kind, || whole(&secret, &secret, "v", 1));
            }
        }
    }
}

/// The version, or what is wrong with the bytes.
pub fn version(secret: &str, field: &str, bytes: &[u8]) -> Result<u64, Trouble> {
    contents::version(secret, field, bytes).ok_or_else(|| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        Trouble::Wrong(format!("{secret}/{field}: {} bytes: {text}", bytes.len()))
    })
}
