//! What the process asks of the kernel for itself: no core, nobody looks into it, files for many volumes.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Descriptors that the table has room for from the start: some ten a volume.
const ROOM: u64 = 16 * 1024;

/// Call it at the start, before the first thread. What the kernel refuses is logged: the driver works without.
pub fn set() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let core = setrlimit(Resource::Core, none);
    // Tokens and contents are in memory: no core, no ptrace by others of the same user.
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // Several descriptors a volume; the soft limit of many systems is 1024.
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit { current: files.maximum, maximum: files.maximum };
    let files = setrlimit(Resource::Nofile, all);
    // The kernel makes the table larger by copying it, and in a process of several threads waits for a grace period
    // (synchronize_rcu, some 8 ms) each time: measured, that was 100 of the 130 ms of a restart with 250 volumes.
    let most = getrlimit(Resource::Nofile).current.unwrap_or(ROOM).min(ROOM);
    let highest = i32::try_from(most).unwrap_or(1024) - 1;
    let room = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), highest).map(drop);
    for (what, outcome) in
        [("core", core), ("dumpable", dumpable), ("nofile", files), ("room", room)]
    {
        if let Err(error) = outcome {
            tracing::warn!(what, %error, "the kernel refuses a limit");
        }
    }
}
