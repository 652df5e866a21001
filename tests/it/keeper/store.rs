//! What is deposited comes back.

use std::os::fd::{AsFd as _, OwnedFd};

use keyhole::keeper::client::{Connection, Role};
use keyhole::keeper::{KeeperError, Why};
use rustix::process::Signal;

use super::actor::Actor;
use super::process::{Keeper, SOON, until};

fn text(fd: &OwnedFd) -> String {
    let mut buffer = [0; 64];
    let length = rustix::io::pread(fd, &mut buffer, 0).unwrap();
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

#[test]
fn a_deposit_outlives_the_depositor() {
    let keeper = Keeper::start();
    let (mut driver, epoch) = Actor::holder(&keeper.socket);
    driver.tell("put volume content");
    assert_eq!(driver.says(SOON), "put");
    let (mut watcher, welcome) = keeper.connect(Role::Watcher);
    assert_eq!((welcome.epoch, welcome.entries, welcome.page.current()), (epoch, 1, epoch));
    assert_eq!(watcher.stats().unwrap().holder, driver.pid());
    driver.signal(Signal::KILL);
    until("the page changes", SOON, || welcome.page.current() == epoch + 1);
    let entry = keeper.driver().get("volume").unwrap().unwrap();
    assert_eq!((entry.bytes.as_slice(), entry.fds.len()), (&b"content"[..], 1));
    assert_eq!(text(&entry.fds[0]), "content");
    let stats = watcher.stats().unwrap();
    assert_eq!((stats.entries, stats.fds, stats.bytes, stats.holder), (1, 1, 7, 0));
}

#[test]
fn an_entry_is_replaced_and_deleted_as_a_whole() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    let mut deposits = keeper.driver();
    let before = keeper.files();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let fds = [null.as_fd(), null.as_fd(), null.as_fd()];
    deposits.put(epoch, "a", b"one", &fds).unwrap();
    assert_eq!(keeper.files(), before + 3);
    deposits.put(epoch, "a", b"two!", &fds[..1]).unwrap();
    let entry = deposits.get("a").unwrap().unwrap();
    assert_eq!((entry.bytes.as_slice(), entry.fds.len()), (&b"two!"[..], 1));
    assert_eq!(keeper.files(), before + 1, "the replaced ones are closed");
    deposits.delete(epoch, "a").unwrap();
    deposits.delete(epoch, "a").unwrap();
    assert!(deposits.get("a").unwrap().is_none());
    assert_eq!(keeper.files(), before);
    let most = vec![null.as_fd(); 250];
    deposits.put(epoch, "many", b"", &most).unwrap();
    assert_eq!(deposits.get("many").unwrap().unwrap().fds.len(), 250);
    let long = vec![7; 64 * 1024 - 40];
    deposits.put(epoch, "long", &long, &[]).unwrap();
    assert_eq!(deposits.get("long").unwrap().unwrap().bytes, long);
}

#[test]
fn only_the_current_epoch_gives_the_right_to_write() {
    let keeper = Keeper::start();
    let (mut driver, epoch) = Actor::holder(&keeper.socket);
    let mut other = keeper.driver();
    other.put(epoch, "a", b"", &[]).unwrap();
    for wrong in [0, epoch - 1, epoch + 1, u64::MAX] {
        assert!(matches!(other.put(wrong, "b", b"", &[]), Err(KeeperError::Stale)));
        assert!(matches!(other.delete(wrong, "a"), Err(KeeperError::Stale)));
        assert!(matches!(other.beat(wrong), Err(KeeperError::Stale)));
        assert!(matches!(other.leave(wrong), Err(KeeperError::Stale)));
        assert!(matches!(other.runner(wrong), Err(KeeperError::Stale)));
    }
    driver.tell("leave");
    assert_eq!(driver.says(SOON), "left");
    assert!(matches!(other.put(epoch, "b", b"", &[]), Err(KeeperError::Stale)));
    assert!(matches!(other.put(epoch + 1, "b", b"", &[]), Err(KeeperError::Stale)), "nobody's");
    assert_eq!(other.list_all().unwrap(), ["a"]);
}

fn forbidden<T>(result: Result<T, KeeperError>) -> bool {
    matches!(result, Err(KeeperError::Refused { why: Why::Forbidden }))
}

#[test]
fn who_watches_or_responds_changes_nothing() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    keeper.driver().put(epoch, "a", b"", &[]).unwrap();
    let mut watcher = keeper.connect(Role::Watcher).0;
    assert_eq!(watcher.list_all().unwrap(), ["a"]);
    assert!(forbidden(watcher.get("a")) && forbidden(watcher.put(epoch, "a", b"", &[])));
    let mut responder = keeper.connect(Role::Responder).0;
    assert!(responder.get("a").unwrap().is_some());
    assert!(forbidden(responder.stats()) && forbidden(responder.delete(epoch, "a")));
}

#[test]
fn five_hundred_volumes_fit_under_a_soft_limit_of_1024_files() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    let mut deposits = keeper.driver();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let fds = [null.as_fd(); 3];
    let mut names = Vec::new();
    for volume in 0..500 {
        for part in ["mount", "state"] {
            let name = format!("csi-{volume:0>60}/{part}");
            deposits.put(epoch, &name, &[7; 200], &fds).unwrap();
            names.push(name);
        }
    }
    names.sort();
    assert_eq!(deposits.list_all().unwrap(), names);
    let stats = deposits.stats().unwrap();
    assert_eq!((stats.entries, stats.fds, stats.bytes), (1000, 3000, 200_000));
    assert_eq!(deposits.get(&names[999]).unwrap().unwrap().fds.len(), 3);
    println!("the keeper of 1000 entries takes {}", keeper.status("VmRSS"));
}

#[test]
fn it_keeps_no_privilege() {
    let keeper = Keeper::start();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(keeper.status(set), "0000000000000000", "{set}");
    }
    assert_eq!((keeper.status("NoNewPrivs"), keeper.status("Seccomp")), ("1".into(), "2".into()));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", keeper.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().rev().nth(1), Some("0"), "{core}");
}

#[test]
fn a_second_keeper_does_not_start_in_the_same_place() {
    let keeper = Keeper::start();
    let second = std::process::Command::new(crate::cases::world::program())
        .args(["keeper", "--socket"])
        .arg(&keeper.socket)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && told.contains("another keeper runs here"), "{told}");
    Connection::open(&keeper.socket, Role::Watcher, SOON).unwrap();
}

#[test]
fn a_responder_comes_when_there_is_no_driver_and_goes_before_there_is() {
    let keeper = Keeper::with("1s");
    let (driver, epoch) = Actor::holder(&keeper.socket);
    keeper.driver().put(epoch, "a", b"", &[]).unwrap();
    drop(driver);
    keeper.logged("a responder answers");
    keeper.logged("a responder answers");
    let (_next, later) = Actor::holder(&keeper.socket);
    assert!(later > epoch);
}
