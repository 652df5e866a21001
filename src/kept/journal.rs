//! [`Journal`]: keys and values that outlive the process. Cheap to append to; one lock, never held over I/O
//! except when a full journal moves into a larger segment.
//!
//! See [`Journal::append`] first. A batch is one record: after a kill all of it is there or nothing. Keys of a
//! later version are carried along untouched, so that going back and forth between versions loses nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::failpoint;
use crate::kept::log::{self, LogError, Operation};
use crate::kept::region::{Region, Shelf};
use crate::redact::SecretBytes;

/// The smallest segment: a few records of one secret.
const SMALLEST: usize = 8 * 1024;

/// Changes that happen together.
#[derive(Default)]
pub struct Batch(Vec<(Operation, Vec<u8>, SecretBytes)>);

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key has this value now.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: SecretBytes) {
        self.0.push((Operation::Put, key.into(), value));
    }

    /// The same, with a cell that begins at zero.
    pub fn put_cell(&mut self, key: impl Into<Vec<u8>>, value: SecretBytes) {
        self.0.push((Operation::PutCell, key.into(), value));
    }

    /// The key is gone.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.0.push((Operation::Delete, key.into(), SecretBytes::default()));
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One key as it was found in a journal.
pub struct Entry {
    /// Its value.
    pub value: SecretBytes,
    /// Its cell, if it has one.
    pub cell: Option<u64>,
}

#[derive(Clone, Copy)]
struct Place {
    value: (usize, usize),
    cell: Option<usize>,
}

struct Open {
    region: Box<dyn Region>,
    index: BTreeMap<Vec<u8>, Place>,
    end: usize,
    sequence: u64,
}

/// Keys and values in a segment.
pub struct Journal {
    name: String,
    shelf: Option<Arc<dyn Shelf>>,
    open: Mutex<Option<Open>>,
}

impl Journal {
    /// Keeps nothing: for what need not outlive the process.
    pub fn none() -> Self {
        Self { name: String::new(), shelf: None, open: Mutex::new(None) }
    }

    /// An empty one. It is not put on the shelf yet: see [`Self::lend`].
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn create(name: &str, shelf: Arc<dyn Shelf>) -> std::io::Result<Self> {
        let mut region = shelf.segment(SMALLEST)?;
        log::begin(region.bytes_mut());
        let open = Open { region, index: BTreeMap::new(), end: log::START, sequence: 0 };
        Ok(Self { name: name.to_owned(), shelf: Some(shelf), open: Mutex::new(Some(open)) })
    }

    /// The one that another process wrote.
    ///
    /// # Errors
    /// It cannot be read whole.
    pub fn reopen(
        name: &str,
        shelf: Arc<dyn Shelf>,
        region: Box<dyn Region>,
    ) -> Result<Self, LogError> {
        let contents = log::read(region.bytes())?;
        let mut index = BTreeMap::new();
        for found in contents.entries {
            match found.operation {
                Operation::Put | Operation::PutCell => {
                    index.insert(found.key, Place { value: found.value, cell: found.cell });
                }
                Operation::Delete => drop(index.remove(&found.key)),
                Operation::Unknown => {}
            }
        }
        let open = Open { region, index, end: contents.end, sequence: contents.sequence };
        Ok(Self { name: name.to_owned(), shelf: Some(shelf), open: Mutex::new(Some(open)) })
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is written here is kept.
    pub fn keeps(&self) -> bool {
        self.open().is_some()
    }

    /// Runs `give` with the descriptor of the segment, if there is one to give away.
    pub fn lend<T>(&self, give: impl FnOnce(Option<std::os::fd::BorrowedFd<'_>>) -> T) -> T {
        let open = self.open();
        give(open.as_ref().and_then(|open| open.region.descriptor()))
    }

    /// Everything in it.
    pub fn entries(&self) -> BTreeMap<Vec<u8>, Entry> {
        let open = self.open();
        let Some(open) = open.as_ref() else {
            return BTreeMap::new();
        };
        open.index.iter().map(|(key, place)| (key.clone(), open.entry(*place))).collect()
    }

    /// Whether this process may change what is kept; true where nothing is.
    pub fn acts(&self) -> bool {
        self.shelf.as_ref().is_none_or(|shelf| shelf.acts())
    }

    /// Makes the changes, all or none; tells whether it did. A process that may no longer act changes nothing, and
    /// must not show what it could not write down.
    pub fn append(&self, batch: &Batch) -> bool {
        if batch.is_empty() {
            return true;
        }
        let mut held = self.open();
        let (Some(open), Some(shelf)) = (held.as_mut(), &self.shelf) else {
            return true;
        };
        if !shelf.acts() {
            return false;
        }
        failpoint::reach("journal.before");
        let mut payload = Vec::new();
        let mut cells = 0;
        for (operation, key, value) in &batch.0 {
            log::entry(&mut payload, *operation, key, value.expose());
            cells += usize::from(*operation == Operation::PutCell);
        }
        let payload = SecretBytes::new(payload);
        if open.write(payload.expose(), cells).is_none() {
            let room = log::space(payload.expose().len(), cells);
            let moved = open.moved(&**shelf, room);
            match moved {
                Ok(mut larger) => {
                    // The new segment holds the batch before it takes the old one's place.
                    larger.write(payload.expose(), cells);
                    failpoint::reach("journal.moving");
                    let is_held = shelf.replace(&self.name, &*larger.region);
                    failpoint::reach("journal.moved");
                    if !is_held && !shelf.acts() {
                        // The old one is what the next driver goes on with: handles are counted there.
                        return false;
                    }
                    let left = std::mem::replace(open, larger);
                    // A keeper that did not take the new one gives the old one to whoever follows.
                    if is_held {
                        wipe(left);
                    }
                }
                Err(error) => {
                    tracing::error!(name = self.name, %error, "no memory for what must outlive this process: a driver that follows will ask Vault anew");
                }
            }
        }
        failpoint::reach("journal.after");
        true
    }

    /// Moves what there is into a segment of its own: what was replaced or deleted is nowhere any more.
    pub fn compact(&self) {
        let mut held = self.open();
        let (Some(open), Some(shelf)) = (held.as_mut(), &self.shelf) else {
            return;
        };
        match open.moved(&**shelf, 0) {
            Ok(fresh) if shelf.acts() => {
                let is_held = shelf.replace(&self.name, &*fresh.region);
                let left = std::mem::replace(open, fresh);
                if is_held {
                    wipe(left);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Puts the segment on the shelf, or puts it there once more.
    pub fn put(&self) {
        if let (Some(open), Some(shelf)) = (self.open().as_ref(), &self.shelf) {
            shelf.replace(&self.name, &*open.region);
        }
    }

    /// The name that it is kept under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds to the cell of a key. Not below zero; nothing when there is none.
    pub fn add(&self, key: &[u8], difference: i64) {
        let mut open = self.open();
        let Some(open) = open.as_mut() else { return };
        let Some(at) = open.index.get(key).and_then(|place| place.cell) else {
            return;
        };
        let new = open.cell(at).saturating_add_signed(difference);
        if let Some(cell) = open.region.bytes_mut().get_mut(at..at + 8) {
            cell.copy_from_slice(&new.to_le_bytes());
        }
    }

    /// Forgets everything, in the memory that others hold as well.
    pub fn wipe(&self) {
        if let Some(open) = self.open().take() {
            wipe(open);
        }
    }
}

/// What is cleared is what was written: the rest are pages that nobody has touched.
fn wipe(mut open: Open) {
    let end = open.end;
    if let Some(used) = open.region.bytes_mut().get_mut(..end) {
        zeroize::Zeroize::zeroize(used);
    }
}

impl Open {
    fn cell(&self, at: usize) -> u64 {
        let bytes = self.region.bytes().get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    fn entry(&self, place: Place) -> Entry {
        let (at, length) = place.value;
        let value = self.region.bytes().get(at..at + length).unwrap_or_default().to_vec();
        Entry { value: SecretBytes::new(value), cell: place.cell.map(|at| self.cell(at)) }
    }

    /// Writes a record and takes it into the index; `None` when it does not fit.
    fn write(&mut self, payload: &[u8], cells: usize) -> Option<()> {
        let (at, sequence) = (self.end, self.sequence + 1);
        let torn = || failpoint::reach("journal.torn");
        self.end = log::append(self.region.bytes_mut(), at, sequence, payload, cells, torn)?;
        self.sequence = sequence;
        for found in log::entries(self.region.bytes(), at) {
            match found.operation {
                Operation::Put | Operation::PutCell => {
                    let place = Place { value: found.value, cell: found.cell };
                    self.index.insert(found.key, place);
                }
                Operation::Delete => drop(self.index.remove(&found.key)),
                Operation::Unknown => {}
            }
        }
        Some(())
    }

    /// The same keys in a segment that has as much room again, and `more`.
    fn moved(&self, shelf: &dyn Shelf, more: usize) -> std::io::Result<Self> {
        let (mut payload, mut cells) = (Vec::new(), Vec::new());
        for (key, place) in &self.index {
            let Entry { value, cell } = self.entry(*place);
            let operation = if cell.is_some() { Operation::PutCell } else { Operation::Put };
            log::entry(&mut payload, operation, key, value.expose());
            cells.extend(cell.map(|cell| (key.clone(), cell)));
        }
        let payload = SecretBytes::new(payload);
        let used = log::START + log::space(payload.expose().len(), cells.len());
        let mut region = shelf.segment(((used + more) * 2).max(SMALLEST))?;
        log::begin(region.bytes_mut());
        let mut larger = Self { region, index: BTreeMap::new(), end: log::START, sequence: 0 };
        larger.write(payload.expose(), cells.len());
        for (key, cell) in cells {
            let at = larger.index.get(&key).and_then(|place| place.cell).unwrap_or_default();
            if let Some(place) = larger.region.bytes_mut().get_mut(at..at + 8) {
                place.copy_from_slice(&cell.to_le_bytes());
            }
        }
        Ok(larger)
    }
}

#[cfg(test)]
#[path = "journal/tests.rs"]
mod tests;
