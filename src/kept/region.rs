//! Ports of this room: memory that outlives the process, and where it is put.

use std::os::fd::BorrowedFd;

/// Port: memory of a fixed size that another process can be given.
pub trait Region: Send + Sync {
    /// What is in it.
    fn bytes(&self) -> &[u8];
    /// To write into it: in place, seen by whoever else maps it.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// The descriptor to give away; `None` for memory of this process alone.
    fn descriptor(&self) -> Option<BorrowedFd<'_>>;
}

impl Region for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Port: makes memory for secrets, and keeps it under a name when it takes the place of older memory.
pub trait Shelf: Send + Sync + 'static {
    /// Zeroed memory of at least `size` bytes.
    ///
    /// # Errors
    /// The kernel has none.
    fn segment(&self, size: usize) -> std::io::Result<Box<dyn Region>>;

    /// The same for what is no secret.
    ///
    /// # Errors
    /// The kernel has none.
    fn page(&self, size: usize) -> std::io::Result<Box<dyn Region>>;

    /// `log` is the journal of `name` from now on. Returns when the keeper has it, or cannot be told; tells whether
    /// it has it. Where it has not, the journal before is what it would give away, and must stay whole.
    fn replace(&self, name: &str, log: &dyn Region) -> bool;

    /// Nothing is kept under `name` any more.
    fn remove(&self, name: &str);

    /// Whether this process may still act: false once another driver holds the epoch.
    fn acts(&self) -> bool;
}
