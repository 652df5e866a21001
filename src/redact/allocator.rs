//! [`WipingAllocator`]: clears memory when it is given back, whoever used it.
//!
//! `Redacted` wipes what we own. Copies that libraries make on the way (HTTP/2 frames, decoder buffers, TLS
//! records) are wiped here, when they are freed, so that they are in no core and no later allocation.

#![expect(unsafe_code, reason = "a global allocator cannot be written without")]

use std::alloc::{GlobalAlloc, Layout, System};

/// From this size on glibc maps a block by itself and unmaps it when it is freed: the kernel takes the pages
/// back, and nothing has to be cleared. [`pin`] keeps it from moving.
const MAPPED: usize = 128 * 1024;

/// The system's allocator, with a clearing `free`.
#[derive(Clone, Copy, Debug)]
pub struct WipingAllocator;

// SAFETY: every block comes from and goes back to `System` with the layout that it was asked with.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: passed on as it came. Large blocks are fresh pages: they are not touched.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() < MAPPED {
            // A compiler may drop a plain store before free(3), but not this call.
            // SAFETY: the block is ours and as long as its layout says.
            unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        }
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(block, layout) };
    }
    // `realloc` is GlobalAlloc's own: a new block, a copy, and `dealloc` of the old one.
}

/// Keeps large buffers in fresh, untouched pages, as [`WipingAllocator`] expects: by default glibc moves its
/// threshold up with the first large free, and from then on clears dirty heap by hand (fuser's 16 MiB a
/// mount would cost 5 MB of memory instead of 24 KiB). Call it before the first thread.
pub fn pin() {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain integers; called before other threads exist. A failure leaves the default.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
