//! A volume that goes from process to process shows its readers one life.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Mutex;

use super::super::tests::{INSIDE, WALL, at, put, read, text, volume, walk};
use super::*;
use crate::fs::attr::{Attempt, Cache, Step};
use crate::fs::error::FsError;
use crate::fs::files::{Asker, DATA, Installed};
use crate::fs::node::{Node, NodeId};
use crate::fs::serve::Gate;
use crate::kept::journal::Journal;
use crate::kept::manifest::{self, Manifest};
use crate::kept::region::{Region, Shelf};

/// The process that may move `..data`.
const MOVER: Asker = Asker { tid: 9 };

/// Memory that is there when the process that wrote it is gone, and whether another process acts.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<usize, Vec<u8>>>, std::sync::atomic::AtomicBool);

struct Seen(usize, Vec<u8>, Arc<Memory>);

impl Region for Seen {
    fn bytes(&self) -> &[u8] {
        &self.1
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.1
    }
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.2.0.lock().unwrap().insert(self.0, self.1.clone());
    }
}

struct Maker(Arc<Memory>);

impl Shelf for Maker {
    fn segment(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        Ok(Box::new(Seen(0, vec![0; size], Arc::clone(&self.0))))
    }
    fn page(&self, size: usize) -> std::io::Result<Box<dyn Region>> {
        Ok(Box::new(Seen(1, vec![0; size], Arc::clone(&self.0))))
    }
    fn replace(&self, _: &str, _: &dyn Region) -> bool {
        true
    }
    fn remove(&self, _: &str) {}
    fn acts(&self) -> bool {
        !self.0.1.load(std::sync::atomic::Ordering::Acquire)
    }
}

/// A volume that is written down.
fn kept() -> (Files, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    let shelf = Arc::new(Maker(Arc::clone(&memory)));
    let journal = Arc::new(Journal::create("v", Arc::clone(&shelf) as Arc<dyn Shelf>).unwrap());
    let page = shelf.page(manifest::space(b"{}", 3)).unwrap();
    let manifest = Arc::new(Manifest::create(page, b"{}", 3, 1));
    (volume(Gate::Enforce).0.keep(Kept { journal, manifest }), memory)
}

/// The process ends; another goes on.
fn killed(files: Files, memory: &Arc<Memory>) -> Files {
    drop(files);
    let shelf = Arc::new(Maker(Arc::clone(memory)));
    let mut found = std::mem::take(&mut *memory.0.lock().unwrap());
    let page = found.remove(&1).unwrap();
    let read = manifest::read(&page).unwrap();
    let region = Box::new(Seen(0, found.remove(&0).unwrap(), Arc::clone(memory)));
    let journal = Arc::new(Journal::reopen("v", shelf, region).unwrap());
    let page = Box::new(Seen(1, page, Arc::clone(memory)));
    let manifest = Arc::new(Manifest::reopen(page, &read));
    let kept = Kept { journal, manifest };
    volume(Gate::Enforce).0.restore(kept, &read, 7).ok().expect("it does not fit together")
}

fn open(files: &Files, node: NodeId, seconds: u64) -> (NodeId, Cache) {
    match files.open(node, INSIDE, at(seconds), Attempt::First).unwrap() {
        Step::Done(opened) => (opened.handle, opened.cache),
        Step::Fetch { .. } => panic!("it has to be fetched"),
    }
}

fn bytes(files: &Files, handle: NodeId) -> String {
    String::from_utf8(files.read(handle).unwrap().expose().clone()).unwrap()
}

#[test]
fn handles_versions_and_graces_go_on_in_another_process() {
    let (files, memory) = kept();
    put(&files, 0, text("one"), 0);
    put(&files, 2, text("key"), 0);
    let first = walk(&files, "db").unwrap();
    let (held, _) = open(&files, first, 1);
    let files = killed(files, &memory);
    assert_eq!(walk(&files, "db").unwrap(), first);
    assert_eq!(bytes(&files, held), "one");
    assert_eq!(put(&files, 0, text("two"), 5), Installed::Switched { generation: 2 });

    let files = killed(files, &memory);
    assert_eq!(read(&files, walk(&files, "db").unwrap(), 6).unwrap(), "two");
    assert_eq!(read(&files, first, 6).unwrap(), "one", "the grace goes on");
    files.forget_old(at(60));
    let files = killed(files, &memory);
    assert_eq!(read(&files, first, 61).unwrap(), "two");
    assert_eq!(open(&files, first, 61).1, Cache::Direct);
    assert_eq!(bytes(&files, held), "one", "an open file keeps its version");
    assert_eq!(read(&files, walk(&files, "tls/key").unwrap(), 61).unwrap(), "key");

    // A close that the kernel tells once more may have been counted; the last one counts.
    files.release(held, true);
    assert_eq!(bytes(&files, held), "one");
    files.release(held, false);
    assert_eq!(files.read(held).err(), Some(FsError::BadHandle));
    let files = killed(files, &memory);
    assert_eq!(files.read(held).err(), Some(FsError::BadHandle));
}

#[test]
fn what_has_ended_stays_ended_and_its_number_is_not_used_again() {
    let (files, memory) = kept();
    put(&files, 0, text("one"), 0);
    let node = walk(&files, "db").unwrap();
    files.end(0, "the lease is over".into(), at(5), WALL);
    let files = killed(files, &memory);
    let step = files.open(node, INSIDE, at(6), Attempt::First).unwrap();
    assert!(matches!(step, Step::Fetch { file: 0, .. }));
    assert_eq!(put(&files, 0, text("two"), 7), Installed::Switched { generation: 2 });
    assert!(walk(&files, "db").unwrap() != node);
}

#[test]
fn after_a_loss_no_number_stands_for_two_contents() {
    let (files, memory) = kept();
    put(&files, 0, text("one"), 0);
    put(&files, 0, text("two"), 1);
    let (second, sizes) = (walk(&files, "db").unwrap(), [3, 0, 0]);
    drop(files);
    let page = memory.0.lock().unwrap().remove(&1).unwrap();
    let found = manifest::read(&page).unwrap();
    assert_eq!((found.mark, found.linked, &found.sizes[..]), (2, 2, &sizes[..]));

    let files = volume(Gate::Enforce).0;
    let files = files.after_loss(Kept::none(), (found.mark, found.linked), &found.sizes, 8);
    assert_eq!(files.generations(), (3, 2), "..data has not moved yet");
    files.link();
    let node = walk(&files, "db").unwrap();
    assert!(node != second);
    put(&files, 0, text("other"), 2);
    assert_eq!(read(&files, node, 2).unwrap(), "other");
    assert_eq!(open(&files, second, 2).1, Cache::Direct, "the kernel's pages of it are not ours");
}

#[test]
fn what_could_not_be_written_down_is_shown_to_nobody() {
    let (files, memory) = kept();
    put(&files, 0, text("one"), 0);
    let node = walk(&files, "db").unwrap();
    // Another process acts from now on; this one does not know it yet.
    memory.1.store(true, std::sync::atomic::Ordering::Release);
    {
        let mut state = files.state();
        let contents = vec![(0, text("two"), super::super::tests::from())];
        state.versions.install(contents, at(1), WALL);
        assert!(!files.record(&mut state));
    }
    let step = files.open(node, INSIDE, at(2), Attempt::First).unwrap();
    assert!(matches!(step, Step::Fetch { .. }), "it waits for the next server");
    memory.1.store(false, std::sync::atomic::Ordering::Release);
    let files = killed(files, &memory);
    assert_eq!(read(&files, node, 2).unwrap(), "one");
    assert_eq!(files.generations(), (1, 1), "the mark was not raised");
}

#[test]
fn only_the_mover_moves_data_and_only_to_what_is_pending() {
    let (files, memory) = kept();
    put(&files, 0, text("one"), 0);
    let contents = vec![(0, text("two"), super::super::tests::from())];
    files.install(contents, at(1), WALL);
    let link = |files: &Files, asker: Asker, again: bool, target: &str| {
        files.rotation_link((asker, again), NodeId::ROOT, "..data_tmp", target)
    };
    let rename = |files: &Files, asker: Asker, again: bool| {
        files.rotation_rename((asker, again), "..data_tmp", DATA)
    };
    assert_eq!(link(&files, MOVER, false, "..2"), Err(FsError::ReadOnly), "nobody is expected");
    files.expect_rotation(Some((MOVER.tid, 2)));
    assert_eq!(link(&files, INSIDE, false, "..2"), Err(FsError::ReadOnly));
    assert_eq!(link(&files, MOVER, false, "..3"), Err(FsError::ReadOnly));
    assert_eq!(link(&files, MOVER, false, "/etc"), Err(FsError::ReadOnly));
    let made = link(&files, MOVER, false, "..2").unwrap().attr.node;
    assert_eq!(made.node(), Some(Node::DataLink { generation: 2 }));
    assert_eq!(files.generations(), (2, 1), "not before the rename");

    // The server dies; the next one hears the rename again, from a process that it has never heard of.
    let files = killed(files, &memory);
    assert_eq!(rename(&files, INSIDE, false), Err(FsError::ReadOnly));
    assert_eq!(rename(&files, MOVER, true), Ok(()));
    assert_eq!(files.generations(), (2, 2));
    // And the next, had the answer been lost as well.
    let files = killed(files, &memory);
    assert_eq!(rename(&files, MOVER, true), Ok(()));
    assert_eq!(files.generations(), (2, 2));
    assert_eq!(files.rotation_rename((MOVER, true), "x", DATA), Err(FsError::ReadOnly));
}
