//! glibc's allocator and fuser's buffers: each session zeroes 16 MiB, of which it uses some KiB.

/// Keeps large buffers in fresh, untouched pages: 24 KiB a mount instead of 5 MB. By default glibc moves
/// its mmap threshold up with the first large free, and from then on clears dirty heap by hand. Call it
/// before the first thread.
#[expect(unsafe_code, reason = "mallopt(3) has no safe wrapper")]
pub fn pin_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain integers; called before other threads exist. A failure leaves the default.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 128 * 1024);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
