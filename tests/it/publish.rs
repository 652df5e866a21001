//! Kubelet calls: twice, late, in parallel, for volumes that died or were never there.

use std::os::linux::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use keyhole::csi::client::InlineVolume;
use keyhole::demo::pod::Pod;
use keyhole::fake_vault::faults::{Fault, How};
use keyhole::fake_vault::kind::Kind;
use tokio::task::JoinSet;
use tonic::Code;

use crate::cases::world::{USER, World};

/// Longer than kubelet is ever made to wait.
const BOUND: Duration = Duration::from_secs(10);

fn mounts_at(target: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let target = target.to_str().unwrap();
    mounts.lines().filter(|line| line.split(' ').nth(4) == Some(target)).count()
}

/// Ends the connection between kernel and driver, as an administrator can.
fn abort_connection(target: &Path) {
    let device = std::fs::metadata(target).unwrap().st_dev();
    let minor = rustix::fs::minor(device);
    std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishing_again_takes_the_new_token_and_changes_nothing() {
    let world = World::fake().await;
    let other = [("g/secret", "{}-kv/other"), ("g/field", "key")];
    let (mut volume, pod) = world.mounted(&[USER[0], USER[1], other[0], other[1]]).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let before = std::fs::metadata(volume.target.join("..data/")).unwrap().st_ino();
    for _ in 0..3 {
        world.stage.renew_tokens(&mut volume, Duration::from_secs(7200)).unwrap();
        world.publish(&volume).await;
    }
    assert_eq!(mounts_at(&volume.target), 1);
    assert_eq!(std::fs::metadata(volume.target.join("..data/")).unwrap().st_ino(), before);
    assert_eq!(world.vault().count(Kind::Login), 1);
    // The newest token is what the next login shows: here one of somebody else's, which Vault refuses.
    let mine = volume.pod.service_account.clone();
    volume.pod.service_account = "thief".to_owned();
    world.stage.renew_tokens(&mut volume, Duration::from_secs(10_000)).unwrap();
    volume.pod.service_account = mine;
    world.publish(&volume).await;
    world.vault().revoke_sessions();
    assert_eq!(world.cat(&pod, "f"), "anna", "what was fetched stays");
    assert!(!pod.run(&["cat", "g"]).unwrap().status.success());
    let reason = world.reason(&pod, "g");
    assert!(reason.contains("service account name not authorized"), "{reason}");
    // A republish never fails, whatever is in it.
    volume.tokens.clear();
    volume.attributes.insert("nonsense".into(), "x".into());
    world.publish(&volume).await;
    world.unpublish(&volume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_publishes_at_once_make_one_mount() {
    let world = World::fake().await;
    world.vault().fault(Fault::new(How::Latency(Duration::from_millis(200))).at(Kind::Login));
    let volume = world.volume(&USER);
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let (kubelet, volume) = (world.kubelet().clone(), volume.clone());
        calls.spawn(async move { kubelet.publish(&volume).await });
    }
    let answers = calls.join_all().await;
    let done = answers.iter().filter(|answer| answer.is_ok()).count();
    let aborted =
        answers.iter().filter(|answer| matches!(answer, Err(no) if no.code == Code::Aborted));
    assert!(done >= 1 && done + aborted.count() == 50, "{answers:?}");
    assert_eq!(mounts_at(&volume.target), 1);
    assert_eq!(world.vault().count(Kind::Login), 1);
    world.unpublish(&volume).await;
    assert_eq!(mounts_at(&volume.target), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publish_during_unpublish_is_told_to_come_again() {
    let world = World::fake().await;
    let volume = world.volume(&USER);
    for _ in 0..20 {
        world.publish(&volume).await;
        let (again, unpublish) = tokio::join!(
            world.kubelet().publish(&volume),
            world.kubelet().unpublish(&volume.id, &volume.target)
        );
        for answer in [again, unpublish] {
            assert!(answer.is_ok() || answer.is_err_and(|no| no.code == Code::Aborted));
        }
        world.unpublish(&volume).await;
        assert_eq!(mounts_at(&volume.target), 0);
        assert!(!volume.target.exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_is_one_volume() {
    let world = World::fake().await;
    let volume = world.volume(&USER);
    world.publish(&volume).await;
    let other = InlineVolume { id: volume.id.clone(), ..world.volume(&USER) };
    let refusal = world.refused(&other).await;
    assert_eq!(refusal.code, Code::AlreadyExists);
    assert!(refusal.message.contains(volume.target.to_str().unwrap()), "{refusal}");
    world.unpublish(&volume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpublish_is_fine_for_what_is_not_there() {
    let world = World::fake().await;
    let volume = world.volume(&USER);
    world.unpublish(&volume).await;
    world.publish(&volume).await;
    world.unpublish(&volume).await;
    world.unpublish(&volume).await;
    // An empty directory that somebody left is taken away.
    std::fs::create_dir_all(&volume.target).unwrap();
    world.unpublish(&volume).await;
    assert!(!volume.target.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_mount_is_built_anew_by_the_next_republish() {
    let world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    drop(pod);
    abort_connection(&volume.target);
    assert!(std::fs::read_dir(&volume.target).is_err(), "it is dead");
    // The driver hears of it on its own thread; until it has, a republish finds nothing wrong.
    let alive = async {
        while std::fs::read_dir(&volume.target).is_err() {
            world.publish(&volume).await;
        }
    };
    tokio::time::timeout(BOUND, alive).await.expect("it stays dead");
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(world.vault().count(Kind::Secret), 1, "nothing is fetched again");
    assert!(world.status(&pod)["warnings"][0]["reason"].as_str().unwrap().contains("built anew"));
    drop(pod);
    // Unmounted behind our back: the same.
    rustix::mount::unmount(&volume.target, rustix::mount::UnmountFlags::DETACH).unwrap();
    let alive = async {
        while mounts_at(&volume.target) == 0 {
            world.publish(&volume).await;
        }
    };
    tokio::time::timeout(BOUND, alive).await.expect("it stays away");
    world.unpublish(&volume).await;
    assert_eq!(mounts_at(&volume.target), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_driver_takes_away_what_a_dead_one_has_left() {
    let mut world = World::fake().await;
    let (kept, ended) = (world.volume(&USER), world.volume(&USER));
    world.publish(&kept).await;
    world.publish(&ended).await;
    let pid = rustix::process::Pid::from_raw(world.stage.driver().unwrap().pid() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    world.stage.start().await.unwrap();
    // Kubelet goes on: one pod has ended, the other is republished.
    world.unpublish(&ended).await;
    assert!(!ended.target.exists());
    world.publish(&kept).await;
    assert_eq!(mounts_at(&kept.target), 1);
    let pod = Pod::start(&kept.pod.uid, &kept.target).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    drop(pod);
    world.unpublish(&kept).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lazy_asks_nobody_before_the_first_read() {
    let world = World::fake().await;
    let (_volume, pod) = world.mounted(&[("onStart", "lazy"), USER[0], USER[1]]).await;
    pod.output(&["ls"]).unwrap();
    assert_eq!((world.vault().count(Kind::Login), world.vault().count(Kind::Secret)), (0, 0));
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!((world.vault().count(Kind::Login), world.vault().count(Kind::Secret)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_does_not_stop_a_pod_that_can_wait() {
    let world = World::fake().await;
    world.vault().stop();
    let volume = world.volume(&USER);
    let answer = tokio::time::timeout(BOUND, world.kubelet().publish(&volume)).await;
    answer.expect("kubelet was made to wait").unwrap();
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    let warning = world.status(&pod)["warnings"][0]["reason"].as_str().unwrap().to_owned();
    assert!(warning.contains("cannot be reached"), "{warning}");
    // With `fetch` the pod waits: kubelet asks again.
    let eager = world.volume(&[("onStart", "fetch"), USER[0]]);
    let refusal = tokio::time::timeout(BOUND, world.kubelet().publish(&eager)).await;
    assert_eq!(refusal.expect("kubelet was made to wait").unwrap_err().code, Code::Unavailable);
    world.vault().resume().await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    world.publish(&eager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unpublish_waits_neither_for_vault_nor_for_readers() {
    let world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    world.vault().fault(Fault::new(How::Hang));
    let mut reader =
        pod.command(&["cat", "f"]).stderr(std::process::Stdio::null()).spawn().unwrap();
    world.vault().received(Kind::Secret, 1).await;
    let answer = world.kubelet().unpublish(&volume.id, &volume.target);
    tokio::time::timeout(Duration::from_secs(5), answer).await.expect("it waited").unwrap();
    assert!(!reader.wait().unwrap().success(), "the reader was let go with an error");
    world.vault().received(Kind::RevokeToken, 1).await;
    world.vault().mend();
    world.vault().answered(Kind::RevokeToken, 1).await;
    assert_eq!(world.vault().sessions(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_volumes_of_a_pod_share_one_session() {
    let world = World::fake().await;
    let one = world.volume(&USER);
    let mut two = InlineVolume { id: format!("{}-2", one.id), ..one.clone() };
    two.target = one.target.parent().unwrap().with_file_name("second").join("mount");
    std::fs::create_dir_all(two.target.parent().unwrap()).unwrap();
    world.publish(&one).await;
    world.publish(&two).await;
    assert_eq!(world.vault().count(Kind::Login), 1);
    let pod = Pod::start(&two.pod.uid, &two.target).unwrap();
    world.unpublish(&one).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    drop(pod);
    assert_eq!(world.vault().count(Kind::RevokeToken), 0, "the session is still used");
    world.unpublish(&two).await;
    world.vault().answered(Kind::RevokeToken, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_stops_when_told_and_ends_what_was_to_be_revoked() {
    let mut world = World::fake().await;
    let volume = world.volume(&USER);
    world.publish(&volume).await;
    world.unpublish(&volume).await;
    assert!(world.stage.driver_mut().unwrap().stop().unwrap(), "{}", world.log());
    assert_eq!(world.vault().sessions(), 0);
}

/// The kernel gives the number of a FUSE connection to the next mount as soon as its last one is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_end_of_one_volume_never_touches_another() {
    let world = World::fake().await;
    let mut rounds = JoinSet::new();
    for _ in 0..8 {
        let kubelet = world.kubelet().clone();
        let lazy = [("onStart", "lazy"), USER[0], USER[1]];
        let volumes: Vec<_> = (0..30).map(|_| world.volume(&lazy)).collect();
        rounds.spawn(async move {
            for volume in volumes {
                kubelet.publish(&volume).await.unwrap();
                // Alive until its own end, whatever ends beside it.
                for _ in 0..10 {
                    let seen = tokio::fs::read_dir(&volume.target).await;
                    assert!(seen.is_ok(), "{seen:?}");
                    tokio::task::yield_now().await;
                }
                kubelet.unpublish(&volume.id, &volume.target).await.unwrap();
            }
        });
    }
    rounds.join_all().await;
}
