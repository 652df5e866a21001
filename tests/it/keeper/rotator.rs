//! Errands: work inside a mount, by a process that may be killed.

use std::ffi::CString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use keyhole::keeper::client::{Connection, Outcome};
use keyhole::keeper::errand::Errand;
use keyhole::keeper::{KeeperError, Why};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::actor::Actor;
use super::process::{Keeper, SOON, ends};

fn mount(kind: &str, options: &[(&str, &str)]) -> OwnedFd {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for (key, value) in options {
        fsconfig_set_string(&context, *key, *value).unwrap();
    }
    fsconfig_create(&context).unwrap();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap()
}

/// A FUSE mount that nobody serves, and the device that keeps it from ending.
fn dead_mount() -> (OwnedFd, OwnedFd) {
    use std::os::fd::AsRawFd as _;
    let device = openat(CWD, "/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let fd = device.as_raw_fd().to_string();
    let options = [
        ("source", "dead"),
        ("fd", &fd),
        ("rootmode", "40755"),
        ("user_id", "0"),
        ("group_id", "0"),
    ];
    (mount("fuse", &options), device)
}

fn gone<T: std::fmt::Debug>(result: &Result<T, KeeperError>) -> bool {
    matches!(result, Err(KeeperError::Refused { why: Why::Gone }))
}

const DONE: Outcome = Outcome { errno: 0, bytes: Vec::new() };

#[test]
fn the_rotator_turns_data_to_the_next_generation() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    let mut errands = keeper.driver();
    let volume = mount("tmpfs", &[]);
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    errands.put(epoch, "v", b"", &[null.as_fd(), volume.as_fd()]).unwrap();
    let pid = errands.runner(epoch).unwrap();
    assert_eq!(errands.runner(epoch).unwrap(), pid, "it runs already");
    let mut send = |index, errand: Errand| errands.errand(epoch, pid, ("v", index), &errand, SOON);
    for generation in [7, 8] {
        assert_eq!(send(1, Errand::Rotate { generation }).unwrap(), DONE);
        let link = readlinkat(&volume, "..data", Vec::new()).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("..{generation}"));
    }
    assert_eq!(send(1, Errand::Prime).unwrap(), DONE);
    let paths = ["..data", "missing", "/etc/passwd"].map(|path| CString::new(path).unwrap());
    assert_eq!(send(1, Errand::Names(paths.to_vec())).unwrap(), DONE);
    let no_folder = send(0, Errand::Rotate { generation: 9 }).unwrap();
    assert_eq!(no_folder.errno, libc::ENOTDIR);
    let absent = send(2, Errand::Prime);
    assert!(matches!(absent, Err(KeeperError::Refused { why: Why::Absent })), "{absent:?}");
    assert!(gone(&errands.errand(epoch, pid + 1, ("v", 1), &Errand::Prime, SOON)));
    // Without an errand it goes, and the next one is another.
    assert!(ends(pid, SOON));
    assert!(gone(&errands.errand(epoch, pid, ("v", 1), &Errand::Prime, SOON)));
    assert_ne!(errands.runner(epoch).unwrap(), pid);
}

#[test]
fn a_rotator_that_is_stuck_is_killed_and_holds_nobody_up() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    let mut errands = keeper.driver();
    let ((dead, device), alive) = (dead_mount(), mount("tmpfs", &[]));
    errands.put(epoch, "dead", b"", &[dead.as_fd(), device.as_fd()]).unwrap();
    errands.put(epoch, "alive", b"", &[alive.as_fd()]).unwrap();
    let pid = errands.runner(epoch).unwrap();
    let mut others = keeper.driver();
    std::thread::scope(|scope| {
        let stuck = scope.spawn(|| {
            let errand = Errand::Rotate { generation: 1 };
            errands.errand(epoch, pid, ("dead", 0), &errand, Duration::from_secs(4))
        });
        // The keeper itself goes on.
        assert_eq!(others.list_all().unwrap(), ["alive", "dead"]);
        assert_eq!(stuck.join().unwrap().unwrap().errno, libc::ETIMEDOUT);
    });
    assert!(ends(pid, SOON));
    let next = others.runner(epoch).unwrap();
    assert_ne!(next, pid);
    let rotate = Errand::Rotate { generation: 1 };
    assert_eq!(others.errand(epoch, next, ("alive", 0), &rotate, SOON).unwrap(), DONE);
}

#[test]
fn the_rotator_ends_with_the_epoch_and_with_the_keeper() {
    let mut keeper = Keeper::start();
    let (mut driver, epoch) = Actor::holder(&keeper.socket);
    let mut errands: Connection = keeper.driver();
    let pid = errands.runner(epoch).unwrap();
    driver.tell("leave");
    assert!(ends(pid, Duration::from_secs(2)), "not by its own three seconds");
    drop(driver);
    let (_next, epoch) = Actor::holder(&keeper.socket);
    let pid = errands.runner(epoch).unwrap();
    keeper.kill();
    assert!(ends(pid, Duration::from_secs(2)));
}
