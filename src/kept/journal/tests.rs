//! A journal is a map that another process can go on with.

use proptest::prelude::*;

use super::*;

/// A shelf of plain memory that remembers what was put in the place of older memory.
#[derive(Default)]
struct Memory {
    replaced: Mutex<Vec<Vec<u8>>>,
    retired: std::sync::atomic::AtomicBool,
    refuses: bool,
    left: Left,
}

/// What segments held when they were let go.
type Left = Arc<Mutex<Vec<Vec<u8>>>>;

struct Watched(Vec<u8>, Left);

impl Region for Watched {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

impl Shelf for Memory {
    fn segment(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        Ok(Box::new(Watched(vec![0; size], Arc::clone(&self.left))))
    }
    fn page(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        self.segment(size)
    }
    fn replace(&self, _: &str, log: &dyn Region) -> bool {
        self.replaced.lock().unwrap().push(log.bytes().to_vec());
        !self.refuses
    }
    fn remove(&self, _: &str) {}
    fn acts(&self) -> bool {
        !self.retired.load(std::sync::atomic::Ordering::Acquire)
    }
}

fn bytes(journal: &Journal) -> Vec<u8> {
    journal.open().as_ref().unwrap().region.bytes().to_vec()
}

fn again(journal: &Journal) -> Journal {
    Journal::reopen("j", Arc::new(Memory::default()), Box::new(bytes(journal))).unwrap()
}

fn value(text: &str) -> SecretBytes {
    SecretBytes::new(text.as_bytes().to_vec())
}

fn plain(journal: &Journal) -> BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)> {
    let entries = journal.entries().into_iter();
    entries.map(|(key, had)| (key, (had.value.expose().clone(), had.cell))).collect()
}

#[test]
fn another_process_finds_what_was_put_and_the_cells() {
    let journal = Journal::create("j", Arc::new(Memory::default())).unwrap();
    let mut batch = Batch::new();
    batch.put("a", value("1"));
    batch.put_cell("b", value("2"));
    batch.put("c", value("3"));
    journal.append(&batch);
    journal.add(b"b", 3);
    journal.add(b"b", -1);
    journal.add(b"a", 9);
    let mut batch = Batch::new();
    batch.delete("c");
    batch.put("a", value("one"));
    journal.append(&batch);
    let wanted = BTreeMap::from([
        (b"a".to_vec(), (b"one".to_vec(), None)),
        (b"b".to_vec(), (b"2".to_vec(), Some(2))),
    ]);
    assert_eq!(plain(&journal), wanted);
    assert_eq!(plain(&again(&journal)), wanted);
}

#[test]
fn a_full_one_moves_whole_and_old_memory_is_wiped() {
    let shelf = Arc::new(Memory::default());
    let journal = Journal::create("j", Arc::clone(&shelf) as Arc<dyn Shelf>).unwrap();
    let mut batch = Batch::new();
    batch.put_cell("pinned", value("kept"));
    journal.append(&batch);
    journal.add(b"pinned", 2);
    for round in 0..200 {
        let mut batch = Batch::new();
        batch.put("changes", value(&format!("{round} {}", "x".repeat(300))));
        journal.append(&batch);
    }
    let entries = plain(&journal);
    assert_eq!(entries[b"pinned".as_slice()], (b"kept".to_vec(), Some(2)));
    assert!(entries[b"changes".as_slice()].0.starts_with(b"199 "));
    let moves = shelf.replaced.lock().unwrap().len();
    assert!((1..200 * 330 / 1024).contains(&moves), "{moves} moves");
    assert!(bytes(&journal).len() <= 2 * SMALLEST, "what is gone takes no room");
    // What took the place of the old one held everything when it did.
    let last = shelf.replaced.lock().unwrap().last().unwrap().clone();
    let last = Journal::reopen("j", Arc::new(Memory::default()), Box::new(last)).unwrap();
    assert_eq!(plain(&last)[b"pinned".as_slice()].1, Some(2));
}

/// A journal with an open handle moves; returns what its first segment held when it was let go.
fn left_by_a_move(refuses: bool) -> Vec<u8> {
    let shelf = Arc::new(Memory { refuses, ..Memory::default() });
    let journal = Journal::create("j", Arc::clone(&shelf) as Arc<dyn Shelf>).unwrap();
    let mut batch = Batch::new();
    batch.put_cell("pinned", value("kept"));
    journal.append(&batch);
    journal.add(b"pinned", 2);
    let mut batch = Batch::new();
    batch.put("large", SecretBytes::new(vec![7; 2 * SMALLEST]));
    assert!(journal.append(&batch));
    let left = shelf.left.lock().unwrap();
    assert_eq!(left.len(), 1);
    left[0].clone()
}

#[test]
fn what_a_keeper_still_gives_away_stays_whole() {
    assert!(left_by_a_move(false).iter().all(|byte| *byte == 0));
    let found = left_by_a_move(true);
    let found = Journal::reopen("j", Arc::new(Memory::default()), Box::new(found)).unwrap();
    assert_eq!(plain(&found)[b"pinned".as_slice()], (b"kept".to_vec(), Some(2)));
}

#[test]
fn a_value_larger_than_the_segment_finds_room() {
    let journal = Journal::create("j", Arc::new(Memory::default())).unwrap();
    let mut batch = Batch::new();
    batch.put("large", SecretBytes::new(vec![7; 1_000_000]));
    journal.append(&batch);
    assert_eq!(plain(&again(&journal))[b"large".as_slice()].0.len(), 1_000_000);
}

#[test]
fn a_process_that_lost_its_epoch_writes_nothing() {
    let shelf = Arc::new(Memory::default());
    let journal = Journal::create("j", Arc::clone(&shelf) as Arc<dyn Shelf>).unwrap();
    shelf.retired.store(true, std::sync::atomic::Ordering::Release);
    let mut batch = Batch::new();
    batch.put("a", value("1"));
    journal.append(&batch);
    assert!(again(&journal).entries().is_empty());
}

#[test]
fn wiped_memory_holds_nothing() {
    let journal = Journal::create("j", Arc::new(Memory::default())).unwrap();
    let mut batch = Batch::new();
    batch.put("a", value("canary"));
    journal.append(&batch);
    let open = journal.open().take().unwrap();
    // As `wipe` does, with the memory still in hand.
    let mut open = open;
    let end = open.end;
    zeroize::Zeroize::zeroize(&mut open.region.bytes_mut()[..end]);
    assert!(open.region.bytes().iter().all(|byte| *byte == 0));
    journal.wipe();
    assert!(!journal.keeps());
}

proptest! {
    /// Any changes, with a change of process at any of them, leave what a plain map would hold.
    #[test]
    fn it_is_a_map(
        changes in proptest::collection::vec((0_u8..6, proptest::option::of(0_usize..3000), any::<bool>()), 1..60)
    ) {
        let mut journal = Journal::create("j", Arc::new(Memory::default())).unwrap();
        let mut map = BTreeMap::new();
        for (key, length, restart) in changes {
            let mut batch = Batch::new();
            match length {
                Some(length) => {
                    batch.put(vec![key], SecretBytes::new(vec![key; length]));
                    map.insert(vec![key], (vec![key; length], None));
                }
                None => {
                    batch.delete(vec![key]);
                    map.remove(&vec![key]);
                }
            }
            journal.append(&batch);
            if restart {
                journal = again(&journal);
            }
            prop_assert_eq!(&plain(&journal), &map);
        }
    }
}
