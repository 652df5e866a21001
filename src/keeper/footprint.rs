//! [`shed`]: what only the start needed of the program's own file leaves our memory.
//!
//! The loader reads all relocations once, and the command line runs through code that the loop never sees; the
//! kernel maps sixteen pages for each that is touched. They are clean copies of the file and come back when they
//! are needed. Measured, release build: 5.2 MiB after the start without this and 1.4 MiB with it; with 1000
//! entries 3.4 MiB right after the deposits and 2.9 MiB later, of which 0.9 MiB are our own.

#![expect(unsafe_code, reason = "the loader's list of segments has no safe interface")]

use std::ffi::{c_int, c_void};

/// Lets the read-only segments of the program and its libraries go.
pub(super) fn shed() {
    // SAFETY: `object` has the asked signature, and keeps nothing.
    unsafe { libc::dl_iterate_phdr(Some(object), std::ptr::null_mut()) };
}

/// One loaded file.
extern "C" fn object(info: *mut libc::dl_phdr_info, _: usize, _: *mut c_void) -> c_int {
    // SAFETY: the loader passes a valid record, with as many program headers as it says.
    let (base, headers) = unsafe {
        let info = &*info;
        (info.dlpi_addr, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    for header in headers {
        // Writable ones hold relocated pointers, also when they were made read-only since.
        if header.p_type != libc::PT_LOAD || header.p_flags & libc::PF_W != 0 {
            continue;
        }
        let begin = (base + header.p_vaddr) & !4095;
        let end = base + header.p_vaddr + header.p_memsz;
        let (Ok(begin), Ok(length)) = (usize::try_from(begin), usize::try_from(end - begin)) else {
            continue;
        };
        // A failure leaves the pages where they are.
        // SAFETY: a private mapping of a file that is never written to: its pages are read again from the
        // file, with the same bytes, when they are touched.
        unsafe {
            libc::madvise(std::ptr::with_exposed_provenance_mut(begin), length, libc::MADV_DONTNEED)
        };
    }
    0
}
