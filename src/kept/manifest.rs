//! [`Manifest`]: what every version must be able to read of a volume, and holds no secret.
//!
//! ```text
//! 0 "KHMANIF\0" | 8 layout u32 = 1 | 12 mark u32 | 16 linked u32 | 20 pending u32 | 24 body length u32
//! 28 body crc u32 | 32 sizes u32 | 36 ending u32 | 40 body, JSON | at the next multiple of 8: sizes, u64 each
//! ```
//!
//! The first 24 bytes are frozen for ever: a version that cannot read the body still knows which generations it
//! must not show again. `mark` (the highest generation that was ever shown), `linked` (where `..data` points),
//! `pending` (where the link points that is about to be renamed to it), `ending` (its unpublish has begun) and sizes
//! change in place, each by one store.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kept::region::Region;

/// The first bytes.
pub const MAGIC: [u8; 8] = *b"KHMANIF\0";
/// The layout that this version writes.
pub const LAYOUT: u32 = 1;
const MARK: usize = 12;
const LINKED: usize = 16;
const PENDING: usize = 20;
const ENDING: usize = 36;
const BODY: usize = 40;
/// The most files that a volume may have, with room.
const MOST_SIZES: usize = 4096;

/// What was found in a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The highest generation that was ever shown.
    pub mark: u32,
    /// Where `..data` points.
    pub linked: u32,
    /// Where `..data_tmp` pointed last.
    pub pending: u32,
    /// Its unpublish has begun: it is only to be ended.
    pub ending: bool,
    /// The body.
    pub body: Vec<u8>,
    /// Last known sizes, by file.
    pub sizes: Vec<u64>,
}

/// Why a manifest cannot be read whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is none.
    #[error("it is no manifest")]
    Foreign,
    /// It is damaged or of a later version; the mark is good.
    #[error("its body is damaged or of a later version (layout {layout})")]
    Body {
        /// What it says of itself.
        layout: u32,
        /// The highest generation that was ever shown.
        mark: u32,
    },
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// Reads a manifest. Total: any bytes give an answer.
///
/// # Errors
/// It is none, or its body cannot be read.
pub fn read(bytes: &[u8]) -> Result<Found, ManifestError> {
    if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
        return Err(ManifestError::Foreign);
    }
    let head = || Some((u32_at(bytes, 8)?, u32_at(bytes, MARK)?));
    let (layout, mark) = head().ok_or(ManifestError::Foreign)?;
    let rest = || {
        let length = u32_at(bytes, 24)? as usize;
        let body = bytes.get(BODY..BODY.checked_add(length)?)?;
        let good = layout == LAYOUT && u32_at(bytes, 28)? == crc32fast::hash(body);
        let count = u32_at(bytes, 32)? as usize;
        let start = (BODY + length).next_multiple_of(8);
        let sizes = bytes.get(start..start.checked_add(count.checked_mul(8)?)?)?;
        let sizes = sizes.chunks_exact(8).filter_map(|size| size.try_into().ok());
        let sizes: Vec<u64> = sizes.map(u64::from_le_bytes).collect();
        let (linked, pending) = (u32_at(bytes, LINKED)?, u32_at(bytes, PENDING)?);
        let ending = u32_at(bytes, ENDING)? != 0;
        let found = Found { mark, linked, pending, ending, body: body.to_vec(), sizes };
        (good && count <= MOST_SIZES).then_some(found)
    };
    rest().ok_or(ManifestError::Body { layout, mark })
}

/// How many bytes a manifest takes.
pub fn space(body: &[u8], files: usize) -> usize {
    (BODY + body.len()).next_multiple_of(8) + files * 8
}

struct Open {
    region: Box<dyn Region>,
    sizes: usize,
}

/// A manifest that is being written.
pub struct Manifest(Mutex<Option<Open>>);

impl Manifest {
    /// Keeps nothing.
    pub fn none() -> Self {
        Self(Mutex::new(None))
    }

    /// Writes a new one into a region of at least [`space`] bytes.
    pub fn create(mut region: Box<dyn Region>, body: &[u8], files: usize, mark: u32) -> Self {
        let sizes = (BODY + body.len()).next_multiple_of(8);
        let word = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = Vec::with_capacity(sizes);
        bytes.extend(MAGIC);
        bytes.extend(LAYOUT.to_le_bytes());
        bytes.extend([mark, mark, mark].map(u32::to_le_bytes).concat());
        bytes.extend(word(body.len()));
        bytes.extend(crc32fast::hash(body).to_le_bytes());
        bytes.extend(word(files));
        bytes.extend([0; 4]);
        bytes.extend(body);
        if let Some(start) = region.bytes_mut().get_mut(..bytes.len()) {
            start.copy_from_slice(&bytes);
        }
        Self(Mutex::new(Some(Open { region, sizes })))
    }

    /// Goes on writing one that could be read.
    pub fn reopen(region: Box<dyn Region>, found: &Found) -> Self {
        let sizes = (BODY + found.body.len()).next_multiple_of(8);
        Self(Mutex::new(Some(Open { region, sizes })))
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `give` with the descriptor of the memory, if there is one to give away.
    pub fn lend<T>(&self, give: impl FnOnce(Option<std::os::fd::BorrowedFd<'_>>) -> T) -> T {
        let open = self.open();
        give(open.as_ref().and_then(|open| open.region.descriptor()))
    }

    /// The generation is about to be shown.
    pub fn raise(&self, generation: u32) {
        self.write(MARK, &generation.to_le_bytes());
    }

    /// `..data` is about to point to the generation.
    pub fn link(&self, generation: u32) {
        self.write(LINKED, &generation.to_le_bytes());
    }

    /// A link to the generation is about to be made, to be renamed to `..data`.
    pub fn pend(&self, generation: u32) {
        self.write(PENDING, &generation.to_le_bytes());
    }

    /// The volume's unpublish begins.
    pub fn end(&self) {
        self.write(ENDING, &1_u32.to_le_bytes());
    }

    /// A file has this many bytes.
    pub fn size(&self, file: usize, bytes: u64) {
        let at = self.open().as_ref().map(|open| open.sizes + file * 8);
        if let Some(at) = at {
            self.write(at, &bytes.to_le_bytes());
        }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        if let Some(open) = self.open().as_mut()
            && let Some(place) = open.region.bytes_mut().get_mut(at..at + bytes.len())
        {
            place.copy_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A region whose bytes can be looked at while the manifest has it.
    struct Shared(std::sync::Arc<Mutex<Vec<u8>>>, Vec<u8>);

    impl Region for Shared {
        fn bytes(&self) -> &[u8] {
            &self.1
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            &mut self.1
        }
        fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            None
        }
    }

    impl Drop for Shared {
        fn drop(&mut self) {
            self.0.lock().unwrap().clone_from(&self.1);
        }
    }

    fn written(change: impl FnOnce(&Manifest)) -> Vec<u8> {
        let bytes = std::sync::Arc::new(Mutex::new(Vec::new()));
        let body = br#"{"format":1}"#;
        let region = Shared(std::sync::Arc::clone(&bytes), vec![0; space(body, 3)]);
        let manifest = Manifest::create(Box::new(region), body, 3, 1);
        change(&manifest);
        drop(manifest);
        let bytes = bytes.lock().unwrap();
        bytes.clone()
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = written(|manifest| {
            manifest.raise(7);
            manifest.link(5);
            manifest.pend(6);
            manifest.size(2, 4711);
            manifest.size(3, 1);
        });
        let wanted = Found {
            mark: 7,
            linked: 5,
            pending: 6,
            ending: false,
            body: br#"{"format":1}"#.to_vec(),
            sizes: vec![0, 0, 4711],
        };
        assert_eq!(read(&bytes), Ok(wanted));
        assert!(read(&written(Manifest::end)).unwrap().ending);
    }

    #[test]
    fn of_a_later_or_damaged_one_the_mark_is_known() {
        let mut later = written(|manifest| manifest.raise(7));
        later[8] = 9;
        assert_eq!(read(&later), Err(ManifestError::Body { layout: 9, mark: 7 }));
        let mut flipped = written(|manifest| manifest.raise(7));
        flipped[BODY + 3] ^= 1;
        assert_eq!(read(&flipped), Err(ManifestError::Body { layout: 1, mark: 7 }));
        assert_eq!(read(&flipped[..24]), Err(ManifestError::Body { layout: 1, mark: 7 }));
        assert_eq!(read(b"KHMANIF\0"), Err(ManifestError::Foreign));
    }

    /// Bytes of version 0.1, written down from the header of this file: they must be readable for ever.
    #[test]
    fn the_first_version_is_readable() {
        let mut bytes = b"KHMANIF\0\x01\0\0\0\x05\0\0\0\x03\0\0\0\x04\0\0\0\x02\0\0\0".to_vec();
        // crc32 of "{}" by `printf {} | gzip -c | tail -c8 | head -c4 | xxd`.
        bytes.extend([0x43, 0xbf, 0xa6, 0xa3]);
        bytes.extend(b"\x01\0\0\0\0\0\0\0{}\0\0\0\0\0\0\x09\0\0\0\0\0\0\0");
        let (body, sizes) = (b"{}".to_vec(), vec![9]);
        let wanted = Found { mark: 5, linked: 3, pending: 4, ending: false, body, sizes };
        assert_eq!(read(&bytes), Ok(wanted));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _found = read(&tail);
            let mut bytes = MAGIC.to_vec();
            bytes.extend(&tail);
            let _found = read(&bytes);
        }
    }
}
