//! [`Store`]: names, bytes and file descriptors, within bounds. It understands none of them.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::OwnedFd;

use super::protocol::NAMES;

/// The most entries.
const ENTRIES: usize = 8192;
/// The most bytes in all of them.
const BYTES: usize = 16 << 20;

/// What was put under a name.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) bytes: Box<[u8]>,
    pub(super) fds: Box<[OwnedFd]>,
}

/// There is no room for it.
#[derive(Debug)]
pub(super) struct Full;

/// All that is kept.
#[derive(Debug)]
pub(super) struct Store {
    entries: BTreeMap<Box<str>, Entry>,
    fds: usize,
    bytes: usize,
    most_fds: usize,
}

impl Store {
    /// An empty one that may hold so many file descriptors.
    pub(super) fn new(most_fds: usize) -> Self {
        Self { entries: BTreeMap::new(), fds: 0, bytes: 0, most_fds }
    }

    /// Puts an entry in place of the one of its name, or changes nothing.
    pub(super) fn put(&mut self, name: &str, bytes: &[u8], fds: Vec<OwnedFd>) -> Result<(), Full> {
        let old = self.entries.get(name);
        let (old_fds, old_bytes) = old.map_or((0, 0), |old| (old.fds.len(), old.bytes.len()));
        let most_fds = self.fds - old_fds + fds.len();
        let most_bytes = self.bytes - old_bytes + bytes.len();
        let entries = self.entries.len() + usize::from(old.is_none());
        if entries > ENTRIES || most_bytes > BYTES || most_fds > self.most_fds {
            return Err(Full);
        }
        (self.fds, self.bytes) = (most_fds, most_bytes);
        let entry = Entry { bytes: bytes.into(), fds: fds.into() };
        match self.entries.get_mut(name) {
            Some(place) => *place = entry,
            None => drop(self.entries.insert(name.into(), entry)),
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &str) {
        if let Some(entry) = self.entries.remove(name) {
            self.fds -= entry.fds.len();
            self.bytes -= entry.bytes.len();
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// The names after this one that fit into an answer, and whether others follow.
    pub(super) fn after(&self, cursor: &str) -> (Vec<&str>, bool) {
        let mut room = NAMES;
        let mut names = Vec::new();
        let later = (Bound::Excluded(cursor), Bound::Unbounded);
        for (name, _) in self.entries.range::<str, _>(later) {
            match room.checked_sub(1 + name.len()) {
                Some(left) => room = left,
                None => return (names, true),
            }
            names.push(&**name);
        }
        (names, false)
    }

    /// How many entries, file descriptors and bytes.
    pub(super) fn size(&self) -> (usize, usize, usize) {
        (self.entries.len(), self.fds, self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn what_is_replaced_or_deleted_is_counted_no_more() {
        let mut store = Store::new(3);
        store.put("a", b"123", vec![file(), file()]).unwrap();
        store.put("b", b"", vec![file()]).unwrap();
        assert_eq!(store.size(), (2, 3, 3));
        assert!(store.put("c", b"", vec![file()]).is_err());
        assert!(store.put("b", b"", vec![file(), file()]).is_err());
        assert_eq!((store.size(), store.get("b").unwrap().fds.len()), ((2, 3, 3), 1));
        store.put("a", b"12", vec![file()]).unwrap();
        assert_eq!(store.size(), (2, 2, 2));
        store.delete("a");
        store.delete("a");
        assert_eq!(store.size(), (1, 1, 0));
    }

    #[test]
    fn bytes_and_entries_are_bounded() {
        let mut store = Store::new(0);
        let mebibyte = vec![0; 1 << 20];
        for number in 0..16 {
            store.put(&format!("{number}"), &mebibyte, Vec::new()).unwrap();
        }
        assert!(store.put("one more", &[0], Vec::new()).is_err());
        let mut store = Store::new(0);
        for number in 0..8192 {
            store.put(&format!("{number}"), b"", Vec::new()).unwrap();
        }
        assert!(store.put("one more", b"", Vec::new()).is_err());
        store.put("7", b"replaced", Vec::new()).unwrap();
    }

    #[test]
    fn names_come_in_order_and_in_parts() {
        let mut store = Store::new(0);
        let all: Vec<_> = (0..1000).map(|number| format!("{number:0>200}")).collect();
        for name in all.iter().rev() {
            store.put(name, b"", Vec::new()).unwrap();
        }
        let (first, more) = store.after("");
        assert!(more);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let (names, more) = store.after(&cursor);
            seen.extend(names.iter().map(|name| (*name).to_owned()));
            if !more {
                break;
            }
            cursor = seen.last().unwrap().clone();
        }
        assert_eq!(first.len(), 60 * 1024 / 201);
        assert_eq!(seen, all);
    }
}
