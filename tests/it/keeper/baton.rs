//! Who holds the epoch, with real processes: signals, stops and restarts.

use std::time::Duration;

use keyhole::clock::{Clock as _, SystemClock};
use keyhole::keeper::client::Role;
use rustix::process::Signal;

use super::actor::Actor;
use super::process::{Keeper, SOON, ends, signal, until};

#[test]
fn a_holder_is_told_of_its_successor_and_leaves_for_it() {
    let keeper = Keeper::start();
    let (mut first, epoch) = Actor::holder(&keeper.socket);
    let page = keeper.connect(Role::Watcher).1.page;
    let mut second = Actor::start(&keeper.socket);
    second.tell("take succeed 0 -");
    assert_eq!(first.says(SOON), "yield");
    assert_eq!(page.current(), epoch, "it still holds it");
    first.tell("leave");
    assert_eq!(first.says(SOON), "left");
    let next = second.taken(SOON);
    assert!(next > epoch && page.current() == next);
    drop(first);
    assert!(!second.ends(Duration::from_millis(300)), "the first's death is nothing to it");
    assert_eq!(keeper.connect(Role::Watcher).0.stats().unwrap().holder, second.pid());
}

#[test]
fn a_holder_that_does_not_leave_is_killed() {
    let keeper = Keeper::start();
    let (first, epoch) = Actor::holder(&keeper.socket);
    let mut second = Actor::start(&keeper.socket);
    let begun = SystemClock.now();
    second.tell("take succeed 0 -");
    assert_eq!(first.says(SOON), "yield");
    assert!(first.ends(Duration::from_secs(11)));
    let waited = SystemClock.now().saturating_since(begun);
    assert!(waited > Duration::from_secs(7), "it had its eight seconds: {waited:?}");
    assert!(second.taken(SOON) > epoch);
}

#[test]
fn a_stopped_holder_is_killed_and_the_next_is_granted_within_twelve_seconds() {
    let keeper = Keeper::start();
    let (first, epoch) = Actor::holder(&keeper.socket);
    let mut second = Actor::start(&keeper.socket);
    // One that only waits: it is the silence that ends the first.
    second.tell("take wait 0 -");
    first.signal(Signal::STOP);
    let begun = SystemClock.now();
    assert!(second.taken(Duration::from_secs(12)) > epoch);
    let waited = SystemClock.now().saturating_since(begun);
    assert!(waited > Duration::from_secs(8), "it was silent for ten seconds: {waited:?}");
    assert!(first.ends(Duration::ZERO));
}

#[test]
fn a_keeper_that_was_stopped_does_not_kill_a_healthy_holder() {
    let keeper = Keeper::start();
    let (holder, epoch) = Actor::holder(&keeper.socket);
    let mut second = Actor::start(&keeper.socket);
    second.tell("take wait 0 -");
    signal(keeper.pid(), Signal::STOP);
    assert!(!holder.ends(Duration::from_millis(11_500)));
    signal(keeper.pid(), Signal::CONT);
    assert!(second.is_silent(Duration::from_secs(2)), "it still waits");
    let mut watcher = keeper.connect(Role::Watcher).0;
    let stats = watcher.stats().unwrap();
    assert_eq!((stats.epoch, stats.holder), (epoch, holder.pid()));
    assert!(!holder.ends(Duration::ZERO));
}

#[test]
fn a_holder_whose_connection_ends_is_killed_and_its_number_is_nobodys_at_once() {
    let keeper = Keeper::start();
    let (mut holder, epoch) = Actor::holder(&keeper.socket);
    let page = keeper.connect(Role::Watcher).1.page;
    holder.tell("close");
    assert!(holder.ends(SOON));
    until("the number is gone", SOON, || page.current() != epoch);
    let (_next, later) = Actor::holder(&keeper.socket);
    assert!(later > epoch + 1, "nobody's number is not granted");
}

#[test]
fn a_driver_that_lives_through_a_restart_gets_its_epoch_back_first() {
    let mut keeper = Keeper::start();
    let (mut holder, epoch) = Actor::holder(&keeper.socket);
    let (mut connection, old) = keeper.connect(Role::Driver);
    keeper.kill();
    assert_eq!(holder.says(SOON), "unreachable");
    assert_eq!(old.page.current(), epoch, "the page stays with its readers");
    assert!(connection.list_all().is_err());
    let again = Keeper::at(&keeper.socket, "30s");
    let mut rival = Actor::start(&again.socket);
    rival.tell("take succeed 0 -");
    until("the rival waits", SOON, || again.connect(Role::Watcher).1.age > Duration::ZERO);
    holder.tell("again");
    holder.tell(&format!("take resume {epoch} -"));
    assert_eq!(holder.taken(SOON), epoch + 1, "nobody was in between");
    assert_eq!(holder.says(SOON), "yield", "the rival comes after it");
    holder.tell("leave");
    assert_eq!(holder.says(SOON), "left");
    // As long as its connection lives, its threads may.
    assert!(rival.is_silent(Duration::from_millis(300)));
    holder.tell("again");
    assert!(rival.taken(SOON) > epoch + 1);
    // Whoever comes to resume now is told that another has it.
    holder.tell(&format!("take resume {} -", epoch + 1));
    assert_eq!(holder.says(SOON), "refused: another driver holds the epoch");
}

#[test]
fn without_a_driver_that_resumes_the_first_is_granted_after_two_seconds() {
    let keeper = Keeper::start();
    let mut driver = Actor::start(&keeper.socket);
    driver.tell("take succeed 41 -");
    assert_eq!(driver.taken(Duration::from_secs(4)), 42);
    let age = keeper.connect(Role::Watcher).1.age;
    assert!(age >= Duration::from_secs(2), "{age:?}");
    assert!(!ends(keeper.pid(), Duration::ZERO));
}
