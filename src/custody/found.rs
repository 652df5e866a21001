//! What an entry of the keeper's is made of, and taken apart into.
//!
//! ```text
//! volume/ID    bytes: version 1, the recorded INIT     descriptors: device, manifest, journal, private mount
//! session/ID   no bytes                                descriptors: journal
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::custody::{DEVICE, JOURNAL, MANIFEST, PRIVATE};
use crate::fs::serve::Handed;
use crate::host::segment::Segment;
use crate::keeper::client::Entry;
use crate::kept::region::Region;
use crate::volume::keeping::{Deposit, FoundVolume};

/// The first byte of a volume's bytes.
const VERSION: u8 = 1;

/// What the driver before has left.
#[derive(Default)]
pub struct Found {
    /// Volumes.
    pub volumes: Vec<FoundVolume>,
    /// Journals of sessions, by name.
    pub sessions: Vec<(String, Box<dyn Region>)>,
    /// What cannot be taken apart, by name.
    pub broken: Vec<String>,
}

/// A volume as an entry.
pub(super) fn entry(volume: Deposit) -> (Vec<u8>, Vec<OwnedFd>) {
    let Deposit { handed: Handed { device, private, init }, manifest, journal } = volume;
    let bytes = [&[VERSION], init.as_slice()].concat();
    (bytes, [device, manifest, journal].into_iter().chain(private).collect())
}

/// The kernel's connection of one of them, to ask the kernel what it can do.
pub fn device(entries: &[(String, Entry)]) -> Option<BorrowedFd<'_>> {
    let (_, entry) = entries.iter().find(|(name, _)| name.starts_with("volume/"))?;
    entry.fds.get(DEVICE).map(AsFd::as_fd)
}

/// Takes entries apart.
pub fn sort(entries: Vec<(String, Entry)>) -> Found {
    let mut found = Found::default();
    for (name, entry) in entries {
        if name.starts_with("volume/") {
            match volume(&name, entry) {
                Some(volume) => found.volumes.push(volume),
                None => found.broken.push(name),
            }
        } else if name.starts_with("session/") {
            match entry.fds.into_iter().next().and_then(|journal| Segment::map(journal).ok()) {
                Some(journal) => found.sessions.push((name, Box::new(journal))),
                None => found.broken.push(name),
            }
        }
        // Anything else is of a later version, which may come back: it stays where it is.
    }
    found
}

fn volume(name: &str, entry: Entry) -> Option<FoundVolume> {
    let init = entry.bytes.strip_prefix(&[VERSION])?.to_vec();
    let mut descriptors: Vec<Option<OwnedFd>> = entry.fds.into_iter().map(Some).collect();
    let mut part = |at: usize| descriptors.get_mut(at).and_then(Option::take);
    let (device, manifest, journal) = (part(DEVICE)?, part(MANIFEST)?, part(JOURNAL)?);
    let handed = Handed { device, private: part(PRIVATE), init };
    Some(FoundVolume {
        name: name.to_owned(),
        handed,
        manifest: Box::new(Segment::map(manifest).ok()?),
        journal: Box::new(Segment::map(journal).ok()?),
    })
}
