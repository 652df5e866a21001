//! What outlives the process: a journal and a manifest for each volume, a journal for each session.
//!
//! See [`journal::Journal`] first: a small store of keys and values in memory that the keeper holds for the
//! next driver, written so that a kill at any instruction leaves the last whole batch. [`manifest`] holds what
//! is no secret and must be readable by every version: the spec and the marks of generations. Pure: where the
//! memory comes from is said by the port [`region::Shelf`]. It refuses to guess: what cannot be read whole is lost.
//!
//! ```text
//! batch -> record {length, sequence, crc} -> journal (one segment; compacted into a larger one when full)
//! kill -9 ... next driver: segment -> log (total parser) -> keys and values -> the room that wrote them
//! ```

use std::sync::Arc;

use crate::kept::journal::Journal;
use crate::kept::manifest::Manifest;

pub mod journal;
pub mod log;
pub mod manifest;
pub mod region;
pub mod value;

/// What is kept of one volume.
#[derive(Clone)]
pub struct Kept {
    /// Contents and versions.
    pub journal: Arc<Journal>,
    /// What is no secret.
    pub manifest: Arc<Manifest>,
}

impl Kept {
    /// Nothing outlives the process.
    pub fn none() -> Self {
        Self { journal: Arc::new(Journal::none()), manifest: Arc::new(Manifest::none()) }
    }
}
