//! What the process asks of the kernel for itself: no core, nobody looks into it, files for many volumes.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// Call it at the start. What the kernel refuses is logged: the driver works without.
pub fn set() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let core = setrlimit(Resource::Core, none);
    // Tokens and contents are in memory: no core, no ptrace by others of the same user.
    let dumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // Several descriptors a volume; the soft limit of many systems is 1024.
    let files = getrlimit(Resource::Nofile);
    let all = Rlimit { current: files.maximum, maximum: files.maximum };
    let files = setrlimit(Resource::Nofile, all);
    for (what, outcome) in [("core", core), ("dumpable", dumpable), ("nofile", files)] {
        if let Err(error) = outcome {
            tracing::warn!(what, %error, "the kernel refuses a limit");
        }
    }
}
