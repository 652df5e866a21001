//! `make fuzz`: what other processes wrote, mutated: journals, manifests, the keeper's messages, errands. A parser must give an
//! answer for any bytes, in bounded time and memory, and never take damaged bytes for good ones.
//!
//! `cargo bench --bench fuzz -- SECONDS [SEED]`. Inputs grow out of what the real writers write: bits are flipped, numbers
//! replaced by the ends of their ranges, parts cut, doubled and moved. The seed is printed; with it a run is repeated.
#![allow(missing_docs, reason = "a program")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    reason = "it measures, prints, and stops where something is wrong"
)]

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use keyhole::keeper::errand::Errand;
use keyhole::keeper::protocol::{Answer, Request};
use keyhole::kept::journal::{Batch, Journal};
use keyhole::kept::region::{Region, Shelf};
use keyhole::kept::{log, manifest};
use keyhole::redact::SecretBytes;

/// One input may take that long; it is measured to find what explodes, not what is slow.
const EXPLODES: Duration = Duration::from_secs(2);

/// A small generator of numbers (xorshift): good enough to choose bytes, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.roll(4) {
            let length = bytes.len();
            if length == 0 {
                bytes.push(self.roll(256) as u8);
                continue;
            }
            let at = self.roll(length);
            match self.roll(7) {
                0 => bytes[at] ^= 1 << self.roll(8),
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.roll(5)],
                2 => bytes.truncate(at),
                3 => {
                    let number =
                        [0, 1, u32::MAX, u32::MAX - 8, 1 << 31, length as u32][self.roll(6)];
                    for (place, byte) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                        *place = byte;
                    }
                }
                4 => {
                    let part = bytes[at..(at + self.roll(64)).min(length)].to_vec();
                    let to = self.roll(length);
                    bytes.splice(to..to, part);
                }
                5 => bytes.insert(at, self.roll(256) as u8),
                _ => drop(bytes.drain(at..(at + self.roll(32)).min(length))),
            }
        }
    }
}

/// A shelf whose last segment can be looked at.
#[derive(Default)]
struct Memory(Mutex<Vec<u8>>);

struct Seen(Vec<u8>, Arc<Memory>);

impl Region for Seen {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.1.0.lock().unwrap().clone_from(&self.0);
    }
}

struct Maker(Arc<Memory>);

impl Shelf for Maker {
    fn segment(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        Ok(Box::new(Seen(vec![0; size], Arc::clone(&self.0))))
    }
    fn page(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        self.segment(size)
    }
    fn replace(&self, _: &str, _: &dyn Region) -> bool {
        true
    }
    fn remove(&self, _: &str) {}
    fn acts(&self) -> bool {
        true
    }
}

type Entries = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn entries(journal: &Journal) -> Entries {
    let entries = journal.entries().into_iter();
    entries.map(|(key, had)| (key, (had.value.expose().clone(), had.cell))).collect()
}

/// The bytes of a journal after some batches, and each state that it went through.
fn journal(dice: &mut Dice) -> (Vec<u8>, Vec<Entries>) {
    let memory = Arc::new(Memory::default());
    let journal = Journal::create("fuzz", Arc::new(Maker(Arc::clone(&memory)))).unwrap();
    let mut states = vec![Entries::new()];
    for _ in 0..=dice.roll(12) {
        let mut batch = Batch::new();
        for _ in 0..=dice.roll(3) {
            let key = vec![b'k', dice.roll(5) as u8];
            let value = SecretBytes::new(vec![dice.roll(256) as u8; dice.roll(300)]);
            match dice.roll(3) {
                0 => batch.put(key, value),
                1 => batch.put_cell(key, value),
                _ => batch.delete(key),
            }
        }
        journal.append(&batch);
        states.push(entries(&journal));
    }
    drop(journal);
    let bytes = memory.0.lock().unwrap().clone();
    (bytes, states)
}

/// What is read of damaged bytes is a state that was written, as far as cells (outside the crc) are left out.
fn check_journal(bytes: Vec<u8>, states: &[Entries]) {
    let _contents = log::read(&bytes);
    let memory = Arc::new(Memory::default());
    let region = Box::new(Seen(bytes, Arc::clone(&memory)));
    let Ok(journal) = Journal::reopen("fuzz", Arc::new(Maker(memory)), region) else { return };
    let plain = |state: &Entries| -> Vec<(Vec<u8>, Vec<u8>)> {
        state.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    };
    let read = plain(&entries(&journal));
    assert!(states.iter().any(|state| plain(state) == read), "damage was taken for a state");
    // And it can be gone on with.
    let mut batch = Batch::new();
    batch.put("after", SecretBytes::new(vec![1]));
    journal.append(&batch);
    assert!(entries(&journal).contains_key(b"after".as_slice()));
}

fn messages() -> Vec<Vec<u8>> {
    // Version 1 by hand, after proto/keeper.md: header, then fields.
    let head = |kind: u8| [b'K', b'H', 1, kind, 7, 0, 0, 0].to_vec();
    let name = |bytes: &mut Vec<u8>| bytes.extend([4, b'a', b'b', b'/', b'c']);
    let mut all = Vec::new();
    for kind in (1..=15).chain(0x80..=0x90) {
        let mut bytes = head(kind);
        bytes.extend([1, 1, 1]);
        all.push(bytes.clone());
        bytes.extend([0; 16]);
        name(&mut bytes);
        bytes.extend([3, 0, 0, 0, 1, 2, 3]);
        all.push(bytes);
    }
    all
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let seconds: u64 = words.first().map_or(10, |word| word.parse().unwrap());
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = words.get(1).map_or(now | 1, |word| word.parse().unwrap());
    println!("seed {seed}");
    let (mut dice, began, messages) = (Dice(seed), Instant::now(), messages());
    let mut count = 0_u64;
    while began.elapsed() < Duration::from_secs(seconds) {
        let (bytes, states) = journal(&mut dice);
        for _ in 0..20 {
            let one = Instant::now();
            let mut damaged = bytes.clone();
            // Most of a segment was never written: mutate what was.
            let used = damaged.iter().rposition(|byte| *byte != 0).unwrap_or_default() + 32;
            let mut head: Vec<u8> = damaged.drain(..used.min(damaged.len())).collect();
            dice.mutate(&mut head);
            head.extend(&damaged);
            check_journal(head, &states);

            let mut body = br#"{"format":1,"least_reader":1,"names":["a"]}"#.to_vec();
            dice.mutate(&mut body);
            let _found = manifest::read(&body);
            let mut whole = manifest::MAGIC.to_vec();
            whole.extend([1, 0, 0, 0, 5, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0]);
            whole.extend((body.len() as u32).to_le_bytes());
            whole.extend([0; 12]);
            whole.extend(&body);
            dice.mutate(&mut whole);
            let _found = manifest::read(&whole);

            let mut message = messages[dice.roll(messages.len())].clone();
            dice.mutate(&mut message);
            let _request = Request::decode(&message);
            let _answer = Answer::decode(&message);
            let _errand = Errand::decode(&message);
            count += 5;
            let took = one.elapsed();
            assert!(took < EXPLODES, "an input took {took:?}");
        }
    }
    println!("{count} inputs in {:?}: all have an answer", began.elapsed());
}
