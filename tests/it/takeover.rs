//! A mount outlives its server: kills, upgrades, a second driver, a keeper that restarts; and what is lost is said.

use std::process::Stdio;
use std::time::Duration;

use keyhole::clock::{Clock as _, SystemClock};
use keyhole::demo::pod::Pod;
use keyhole::fake_vault::faults::{Fault, How};
use keyhole::fake_vault::kind::Kind;
use rustix::process::Signal;

use crate::cases::world::{USER, World};

/// Everything that Vault was asked.
fn asked(world: &World) -> u64 {
    [Kind::Login, Kind::Secret, Kind::Mount].map(|kind| world.vault().count(kind)).iter().sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_outlives_its_driver() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    // Somebody has it open, and has not read it yet.
    let mut held = pod
        .command(&["sh", "-c", "exec 3<f; echo open; read go; cat <&3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = held.stdout.take().unwrap();
    let mut word = [0; 5];
    std::io::Read::read_exact(&mut out, &mut word).unwrap();
    let before = asked(&world);
    for _ in 0..3 {
        world.stage.kill_driver();
        world.stage.start_driver(&[]).await.unwrap();
        assert_eq!(world.cat(&pod, "f"), "anna");
    }
    std::io::Write::write_all(&mut held.stdin.take().unwrap(), b"go\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!(rest, "anna");
    assert!(held.wait().unwrap().success());
    assert_eq!(asked(&world), before, "Vault was asked anew");
    // Kubelet goes on as well: the volume is known, and its session ends with it.
    world.publish(&volume).await;
    drop(pod);
    world.unpublish(&volume).await;
    world.vault().answered(Kind::RevokeToken, 1).await;
    assert!(!volume.target.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_wait_while_there_is_no_driver() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    world.stage.kill_driver();
    let reader = pod.command(&["cat", "f"]).stdout(Stdio::piped()).spawn().unwrap();
    world.stage.start_driver(&[]).await.unwrap();
    let output = reader.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "anna", "{}", world.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_told_to_stop_leaves_its_mounts_to_the_next() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert!(world.stage.driver_mut().unwrap().stop().unwrap());
    let before = asked(&world);
    world.stage.start_driver(&[]).await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(asked(&world), before);
    world.stage.driver().unwrap().signal(Signal::STOP).unwrap();
    world.stage.driver().unwrap().signal(Signal::CONT).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
}

/// Waits until `done` is true.
async fn until(what: &str, seconds: u64, mut done: impl FnMut() -> bool) {
    let waited = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(seconds);
    tokio::time::timeout(limit, waited)
        .await
        .unwrap_or_else(|_| panic!("{what}: not in {limit:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_from_a_driver_that_lives() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let mut reader = pod
        .command(&["sh", "-c", "while cat f >/dev/null && cat f; do echo; done"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let before = asked(&world);
    let mut old = world.stage.take_driver().unwrap();
    world.stage.start_driver(&[]).await.unwrap();
    // The old one does not end, or kubelet would start it again: it starts anew and waits.
    let logged = old.logged("another driver serves this node", Duration::from_secs(3));
    logged.unwrap_or_else(|error| panic!("{error}\nNEW\n{}", world.log()));
    assert_eq!(world.cat(&pod, "f"), "anna");
    // And goes on when the new one is gone.
    world.stage.kill_driver();
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(asked(&world), before);
    assert!(reader.try_wait().unwrap().is_none(), "a reader saw an error");
    reader.kill().unwrap();
    let output = reader.wait_with_output().unwrap();
    let read = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<&str> = read.lines().collect();
    assert!(lines.len() > 10 && lines[..lines.len() - 1].iter().all(|line| *line == "anna"));
    assert!(old.stop().unwrap(), "{}", old.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_hangs_is_replaced_and_one_credential_is_issued() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&[("db/secret", "{}-db/creds/app")]).await;
    // Vault does not answer the first question: the driver is stopped in the middle of a first read.
    world.vault().fault(Fault::new(How::Hang).at(Kind::Secret).times(1));
    let reader = pod.command(&["cat", "db"]).stdout(Stdio::piped()).spawn().unwrap();
    until("asked", 10, || world.vault().count(Kind::Secret) == 1).await;
    let stopped = SystemClock.now();
    let mut old = world.stage.take_driver().unwrap();
    old.signal(Signal::STOP).unwrap();
    // The keeper kills it after ten seconds of silence; as kubelet does, another is started.
    let ended = tokio::task::spawn_blocking(move || old.wait()).await.unwrap().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
    world.stage.start_driver(&[]).await.unwrap();
    let output = reader.wait_with_output().unwrap();
    let took = SystemClock.now().saturating_since(stopped);
    assert!(output.status.success(), "{}", world.log());
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(world.cat(&pod, "db"), shown);
    assert_eq!(world.vault().leases().len(), 1);
    println!("served again after {took:?}");
    assert!(took < Duration::from_secs(14), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_hangs_when_there_is_no_driver_for_long() {
    let mut world = World::begin().await;
    world.stage.grace = Duration::from_secs(4);
    world.stage.flags = vec!["--log-level".into(), "debug".into()];
    let mut world = world.run().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    // Somebody lists the root, after which the kernel would ask anew when it is looked at.
    pod.output(&["ls", "-a"]).unwrap();
    let driver = world.stage.driver().unwrap();
    let primed = driver.logged("the root was listed", Duration::from_secs(5)).unwrap();
    assert!(primed.contains("\"primed\":true"), "{primed}");
    world.stage.kill_driver();
    // As kubelet does, long before there is a responder.
    let target = volume.target.to_str().unwrap();
    let began = SystemClock.now();
    let stat = std::process::Command::new("timeout").args(["1", "stat", target]).output().unwrap();
    assert!(stat.status.success(), "{stat:?}");
    println!("stat without a driver: {:?}", SystemClock.now().saturating_since(began));
    // After the grace everything is answered.
    for words in [vec!["stat", "-f", "."], vec!["ls", "-a"]] {
        let words = [vec!["timeout", "10"], words].concat();
        let output = pod.run(&words).unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
    let output = pod.run(&["timeout", "10", "cat", "f"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Input/output error"), "{output:?}");
    world.stage.start_driver(&[]).await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    let listed = pod.output(&["ls"]).unwrap();
    assert_eq!(listed.trim(), "f");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_keeper_volumes_are_published_after_a_while_and_deposited_later() {
    let mut world = World::fake().await;
    world.stage.kill_keeper();
    let began = SystemClock.now();
    let (_volume, pod) = world.mounted(&USER).await;
    let took = SystemClock.now().saturating_since(began);
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(8), "{took:?}");
    assert!(world.log().contains("there is no keeper"), "{}", world.log());
    assert_eq!(world.cat(&pod, "f"), "anna");
    world.stage.start_keeper().unwrap();
    until("deposited", 3, || world.stage.keeper().unwrap().ask().unwrap().entries == 2).await;
    world.stage.kill_driver();
    world.stage.start_driver(&[]).await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_both_are_gone_the_next_republish_heals() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    world.stage.kill_keeper();
    world.stage.kill_driver();
    let output = pod.run(&["timeout", "10", "cat", "f"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("not connected"), "{output:?}");
    world.stage.start().await.unwrap();
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_clone_mode_requests_of_a_killed_driver_end_and_nothing_hangs() {
    let mut world = World::begin().await;
    world.stage.flags = vec!["--takeover".into(), "clone".into()];
    let mut world = world.run().await;
    let (_volume, pod) = world.mounted(&USER).await;
    world.vault().fault(Fault::new(How::Hang).at(Kind::Secret).times(1));
    let waiting = pod.command(&["cat", "f"]).stderr(Stdio::piped()).spawn().unwrap();
    until("asked", 10, || world.vault().count(Kind::Secret) == 1).await;
    world.stage.kill_driver();
    let queued = pod.command(&["cat", "f"]).stdout(Stdio::piped()).spawn().unwrap();
    let said = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("connection abort"), "{said}");
    world.stage.start_driver(&[]).await.unwrap();
    let output = queued.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "anna");
    assert_eq!(world.cat(&pod, "f"), "anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_clone_mode_a_planned_end_loses_no_request() {
    let mut world = World::begin().await;
    world.stage.flags = vec!["--takeover".into(), "clone".into()];
    let mut world = world.run().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    // Opens, and stats of what the kernel does not keep, as fast as a shell can; any error ends it.
    let loops = "while cat f >/dev/null && stat .keyhole/status.json >/dev/null; do :; done";
    let mut readers: Vec<_> = (0..4)
        .map(|_| {
            let mut reader = pod.command(&["sh", "-c", loops]);
            reader.stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for _ in 0..5 {
        assert!(world.stage.driver_mut().unwrap().stop().unwrap());
        world.stage.start_driver(&[]).await.unwrap();
        assert_eq!(world.cat(&pod, "f"), "anna");
        let mut old = world.stage.take_driver().unwrap();
        world.stage.start_driver(&[]).await.unwrap();
        old.logged("another driver serves this node", Duration::from_secs(10)).unwrap();
        assert!(old.log().contains("\"left\":0"), "{}", old.log());
        assert!(old.stop().unwrap());
    }
    for mut reader in readers.drain(..) {
        let ended = reader.try_wait().unwrap();
        reader.kill().unwrap();
        let said = reader.wait_with_output().unwrap().stderr;
        assert_eq!(ended, None, "{}", String::from_utf8_lossy(&said));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_is_stopped_for_a_while_does_not_take_us_for_dead() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let keeper = i32::try_from(world.stage.keeper().unwrap().pid()).unwrap();
    let keeper = rustix::process::Pid::from_raw(keeper).unwrap();
    rustix::process::kill_process(keeper, Signal::STOP).unwrap();
    let driver = world.stage.driver().unwrap();
    driver.logged("the keeper does not answer", Duration::from_secs(10)).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    rustix::process::kill_process(keeper, Signal::CONT).unwrap();
    let driver = world.stage.driver().unwrap();
    driver.logged("the keeper answers again", Duration::from_secs(10)).unwrap();
    assert!(!world.stage.driver_mut().unwrap().has_ended().unwrap(), "{}", world.log());
    let before = asked(&world);
    world.stage.kill_driver();
    world.stage.start_driver(&[]).await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(asked(&world), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_that_restarts_is_not_noticed() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    world.stage.start_keeper().unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    // The volume and its session.
    until("deposited", 2, || world.stage.keeper().unwrap().ask().unwrap().entries == 2).await;
    let before = asked(&world);
    world.stage.kill_driver();
    world.stage.start_driver(&[]).await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(asked(&world), before);
}
