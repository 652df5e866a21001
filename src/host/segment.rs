//! [`Segment`]: memory behind a descriptor, which another process can be given and map.
//!
//! For secrets memfd_secret: the kernel itself cannot read it, it is never swapped and in no core. Where the
//! kernel has none (before Linux 5.14, or switched off) a sealed memfd that is locked: said loudly, because after
//! a crash of the driver nobody holds the lock, and the pages could be swapped until the next one maps them.
//! <https://man7.org/linux/man-pages/man2/memfd_secret.2.html>

#![expect(unsafe_code, reason = "memory that is mapped by hand")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mlock, mmap, munmap};

use crate::kept::region::Region;

/// More than any journal can grow to: 256 files of 1 MiB, twice, is far from what one holds in practice.
const LARGEST: usize = 1 << 30;

/// Mapped memory.
pub struct Segment {
    descriptor: OwnedFd,
    address: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is this value's own; it is reached through `&self` and `&mut self` only.
unsafe impl Send for Segment {}
// SAFETY: as above.
unsafe impl Sync for Segment {}

static SWAPPABLE: AtomicBool = AtomicBool::new(false);

/// Whether some secrets are kept in memory that could be swapped after a crash.
pub fn is_swappable() -> bool {
    SWAPPABLE.load(Ordering::Acquire)
}

fn memfd_secret() -> io::Result<OwnedFd> {
    // SAFETY: a system call with a plain flag; the descriptor that it returns is nobody else's.
    unsafe {
        let number = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC);
        let number = i32::try_from(number).unwrap_or(-1);
        if number < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(number)) }
    }
}

impl Segment {
    /// Zeroed memory for secrets.
    ///
    /// # Errors
    /// There is none, or the limit of locked memory is reached (RLIMIT_MEMLOCK, without CAP_IPC_LOCK).
    pub fn secret(size: usize) -> io::Result<Self> {
        let size = size.next_multiple_of(rustix::param::page_size());
        let secret = memfd_secret().and_then(|descriptor| {
            ftruncate(&descriptor, size as u64)?;
            Self::map(descriptor)
        });
        secret.or_else(|why| {
            let segment = Self::sealed("keyhole-secret", size)?;
            // SAFETY: the range is the mapping's.
            let locked = unsafe { mlock(segment.address.as_ptr().cast(), segment.length) };
            if !SWAPPABLE.swap(true, Ordering::AcqRel) {
                tracing::warn!(%why, locked = locked.is_ok(), "no memfd_secret: after a crash of the driver, until the next one starts, secrets that it kept MAY BE SWAPPED to disk");
            }
            Ok(segment)
        })
    }

    /// Zeroed memory for what is no secret.
    ///
    /// # Errors
    /// There is none.
    pub fn plain(size: usize) -> io::Result<Self> {
        Self::sealed("keyhole", size.next_multiple_of(rustix::param::page_size()))
    }

    fn sealed(name: &str, size: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
        // NOEXEC_SEAL since Linux 6.3.
        let descriptor = memfd_create(name, flags)
            .or_else(|_| memfd_create(name, flags - MemfdFlags::NOEXEC_SEAL))?;
        ftruncate(&descriptor, size as u64)?;
        fcntl_add_seals(&descriptor, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(descriptor)
    }

    /// The memory behind a descriptor that another process made here.
    ///
    /// # Errors
    /// It is none, or the kernel does not map it.
    pub fn map(descriptor: OwnedFd) -> io::Result<Self> {
        let size = usize::try_from(fstat(&descriptor)?.st_size).unwrap_or_default();
        if size == 0 || size > LARGEST {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let address = unsafe {
            mmap(std::ptr::null_mut(), size, protection, MapFlags::SHARED, &descriptor, 0)?
        };
        let address = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { descriptor, address, length: size })
    }
}

impl Region for Segment {
    fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for as long as this lives, and its size cannot change (sealed, or secret).
        unsafe { std::slice::from_raw_parts(self.address.as_ptr(), self.length) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above. Who else maps it is a process that has lost its epoch and writes no more.
        unsafe { std::slice::from_raw_parts_mut(self.address.as_ptr(), self.length) }
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.descriptor.as_fd())
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody can reach it any more.
        let unmapped = unsafe { munmap(self.address.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok(), "{} stays mapped", self.descriptor.as_raw_fd());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_the_descriptor_sees_the_bytes() {
        for mut segment in [Segment::secret(100).unwrap(), Segment::plain(5000).unwrap()] {
            assert!(segment.bytes().iter().all(|byte| *byte == 0));
            segment.bytes_mut()[4000] = 7;
            let other = segment.descriptor().unwrap().try_clone_to_owned().unwrap();
            drop(segment);
            assert_eq!(Segment::map(other).unwrap().bytes()[4000], 7);
        }
    }

    #[test]
    fn a_secret_cannot_be_read_but_through_its_mapping() {
        let mut segment = Segment::secret(100).unwrap();
        segment.bytes_mut()[0] = 7;
        let mut byte = [0];
        let read = rustix::io::pread(segment.descriptor().unwrap(), &mut byte, 0);
        // Only where the kernel has memfd_secret; the other kind says so.
        assert_eq!(read.is_ok(), is_swappable());
    }

    #[test]
    fn what_is_no_memory_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(Segment::map(null.into()).is_err());
    }
}
