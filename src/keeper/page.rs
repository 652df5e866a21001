//! The epoch page: one number that the keeper writes and every driver reads without asking.
//!
//! [`EpochPage`] is the reader's side, [`OwnPage`] the keeper's. After the keeper has mapped it the file is
//! sealed: nobody can write to it, map it writable or change its size, so a reader cannot be made to crash.

#![expect(unsafe_code, reason = "shared memory is mapped and read as an atomic number")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{
    MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, ftruncate, memfd_create,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// One page; the number is its first eight bytes.
const SIZE: usize = 4096;

/// A mapping of the page.
#[derive(Debug)]
struct Mapping(NonNull<AtomicU64>);

// SAFETY: all that is done with the mapping is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: BorrowedFd<'_>, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: the kernel chooses the place, so nothing of ours is replaced.
        let place =
            unsafe { mmap(std::ptr::null_mut(), SIZE, protection, MapFlags::SHARED, file, 0) }?;
        NonNull::new(place.cast()).map(Self).ok_or_else(|| io::ErrorKind::Other.into())
    }

    fn number(&self) -> &AtomicU64 {
        // SAFETY: mapped until this is dropped, aligned to a page, and only ever read and written as an
        // atomic; the file cannot shrink below it (sealed, or our own).
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size, and nothing borrows it any more.
        let done = unsafe { munmap(self.0.as_ptr().cast(), SIZE) };
        debug_assert_eq!(done, Ok(()));
    }
}

/// The page as the keeper has it.
#[derive(Debug)]
pub(super) struct OwnPage {
    file: OwnedFd,
    mapping: Mapping,
}

impl OwnPage {
    pub(super) fn new() -> io::Result<Self> {
        let file = memfd_create("keyhole-epoch", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, SIZE as u64)?;
        let mapping = Mapping::new(file.as_fd(), ProtFlags::READ | ProtFlags::WRITE)?;
        let seals = SealFlags::FUTURE_WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(Self { file, mapping })
    }

    pub(super) fn write(&self, epoch: u64) {
        self.mapping.number().store(epoch, Ordering::SeqCst);
    }

    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The page as a client has it. It stays readable when the keeper is gone; its number then changes no more.
#[derive(Debug)]
pub struct EpochPage(Mapping);

impl EpochPage {
    /// Maps the page that came with the welcome.
    ///
    /// # Errors
    /// It is no such page, or cannot be mapped.
    pub fn map(file: &OwnedFd) -> io::Result<Self> {
        // A file that shrinks under a mapping kills whoever reads it.
        let sealed = fcntl_get_seals(file)?.contains(SealFlags::SHRINK);
        let size = rustix::fs::fstat(file)?.st_size;
        if !sealed || size != 4096 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Mapping::new(file.as_fd(), ProtFlags::READ).map(Self)
    }

    /// The number that is on it now: whoever holds another must not act.
    pub fn current(&self) -> u64 {
        self.0.number().load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_what_the_keeper_writes_and_can_write_nothing() {
        let own = OwnPage::new().unwrap();
        let file = own.file().try_clone_to_owned().unwrap();
        let page = EpochPage::map(&file).unwrap();
        own.write(7);
        assert_eq!(page.current(), 7);
        let writable = Mapping::new(file.as_fd(), ProtFlags::READ | ProtFlags::WRITE);
        assert_eq!(writable.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        rustix::io::pwrite(&file, &[0; 8], 0).unwrap_err();
        ftruncate(&file, 0).unwrap_err();
        assert_eq!(page.current(), 7);
    }

    #[test]
    fn a_file_that_could_shrink_is_no_page() {
        let file = memfd_create("other", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 4096).unwrap();
        assert!(EpochPage::map(&file).is_err());
    }
}
