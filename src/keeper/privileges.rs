//! What the keeper gives up at its start, for itself and its children. See [`drop_all`].
//!
//! It stays user 0, because it has to kill a driver, which is; everything else that root can do, it cannot.

#![expect(unsafe_code, reason = "two system calls that have no safe name")]

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use super::KeeperError;

/// Drops every capability for good, hides the memory, and forbids what is never needed. Returns how many
/// files may be open from now on.
///
/// # Errors
/// The kernel does not let go of a privilege that we have.
pub(super) fn drop_all() -> Result<u64, KeeperError> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(KeeperError::host("raise the limit of open files"))?;
    hide()?;
    // Whatever our own parent left open is not for our children.
    // SAFETY: a plain system call that closes nothing.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if marked != 0 {
        let error = std::io::Error::last_os_error();
        return Err(KeeperError::host("mark inherited files")(error));
    }
    // All of them, also those that this program has no name for.
    for capability in (0..64).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        // The kernel does not know so many.
        let Ok(has) = capability_is_in_bounding_set(capability) else { break };
        match has.then(|| remove_capability_from_bounding_set(capability)) {
            // Not ours to take out of the set; without new privileges it gives none.
            None | Some(Ok(()) | Err(Errno::PERM)) => {}
            Some(Err(errno)) => return Err(KeeperError::host("drop a capability for good")(errno)),
        }
    }
    clear_ambient_capability_set().map_err(KeeperError::host("drop ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(KeeperError::host("drop the capabilities"))?;
    set_no_new_privs(true).map_err(KeeperError::host("forbid new privileges"))?;
    filter()?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Neither other processes nor a core file may see the memory. (An exec undoes the first.)
///
/// # Errors
/// The kernel refuses.
pub(super) fn hide() -> Result<(), KeeperError> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(KeeperError::host("forbid core files"))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(KeeperError::host("hide the memory"))
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `open_tree_attr`, which libc has no name for yet.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// What is answered with EPERM whoever asks: other processes' memory, mounts, programs in the kernel, and what
/// leads around the rule on sockets.
const DENIED: [libc::c_long; 32] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
];

/// The program that the kernel runs before each system call.
fn program() -> Vec<libc::sock_filter> {
    let load = |at| libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: at };
    let equal = |k, jt, jf| libc::sock_filter { code: 0x15, jt, jf, k };
    let at_least = |k, jt, jf| libc::sock_filter { code: 0x35, jt, jf, k };
    let end = |k| libc::sock_filter { code: 0x06, jt: 0, jf: 0, k };
    let number = |call: libc::c_long| u32::try_from(call).unwrap_or(u32::MAX);
    let allow = end(libc::SECCOMP_RET_ALLOW);
    let deny = end(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs());
    // struct seccomp_data: the number at 0, the architecture at 4, the first argument (little-endian) at 16.
    let mut program = vec![load(4), equal(ARCHITECTURE, 1, 0), deny, load(0)];
    // The second face of x86-64, with other numbers.
    program.extend([at_least(0x4000_0000, 0, 1), deny]);
    for call in DENIED {
        program.extend([equal(number(call), 0, 1), deny]);
    }
    let unix = libc::AF_UNIX.unsigned_abs();
    program.extend([equal(number(libc::SYS_socket), 0, 3), load(16), equal(unix, 1, 0), deny]);
    program.push(allow);
    program
}

fn filter() -> Result<(), KeeperError> {
    let mut program = program();
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, which lives until the call is over, and checks it.
    let done = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter)
    };
    if done == 0 {
        Ok(())
    } else {
        Err(KeeperError::host("install the seccomp filter")(std::io::Error::last_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketType, socket};

    use super::*;

    #[test]
    fn the_filter_denies_the_network_and_mounts_and_nothing_that_is_needed() {
        // A filter is the thread's own, and ends with it.
        let thread = std::thread::spawn(|| {
            set_no_new_privs(true).unwrap();
            filter().unwrap();
            let open = |family| socket(family, SocketType::STREAM, None).map(drop);
            let flags = rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC;
            (
                open(AddressFamily::INET),
                open(AddressFamily::NETLINK),
                open(AddressFamily::UNIX),
                rustix::mount::fsopen("tmpfs", flags).map(drop),
                std::fs::read("/proc/self/stat").is_ok(),
            )
        });
        let denied = Err(Errno::PERM);
        assert_eq!(thread.join().unwrap(), (denied, denied, Ok(()), denied, true));
    }
}
