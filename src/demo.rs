//! `keyhole demo`: everything on this machine, played in the order in which a pod lives.
//!
//! See [`story`] first. The stage is real: the program itself as `keyhole driver`, its real sockets, a real
//! kernel mount, a process in a cgroup and a mount namespace like a pod's. Played are kubelet
//! ([`crate::csi::client`]) and, unless one is given, Vault ([`crate::fake_vault`]). The tests and the bench use
//! the same stage. What it refuses: to touch anything in a given Vault that it has not made itself.

pub mod driver;
pub mod keeper;
mod log;
pub mod operator;
mod outlive;
pub mod pod;
pub mod stage;
mod story;
mod teller;

use anyhow::Context;

use crate::cli::DemoOptions;

/// Plays the story.
///
/// # Errors
/// A step did not do what it must; or this machine lacks root or FUSE.
pub fn run(options: &DemoOptions) -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the demo mounts file systems: run it as root"
    );
    anyhow::ensure!(
        std::path::Path::new("/dev/fuse").exists(),
        "there is no /dev/fuse (modprobe fuse)"
    );
    crate::vault::tls::install_crypto();
    // The fake Vault answers on the workers while the story waits for a command on this thread.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let program = std::env::current_exe().context("cannot find the program itself")?;
    runtime.context("the runtime does not start")?.block_on(story::play(options, &program))
}

/// Reads the volume in the pod while its server dies, until the input ends.
///
/// # Errors
/// This is no demo's volume.
pub fn read() -> anyhow::Result<()> {
    outlive::read_until_told()
}
