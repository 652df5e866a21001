//! What a driver finds of the one before: damaged, of a later version, half ended, or no longer wanted.

use std::time::Duration;

use keyhole::demo::pod::Pod;
use keyhole::fake_vault::kind::Kind;
use keyhole::host::segment::Segment;
use keyhole::keeper::client::{Connection, Role};
use keyhole::kept::log::START;
use keyhole::kept::region::Region as _;

use crate::cases::world::{USER, World};

/// Changes bytes of what is kept: of the entry whose name begins with `name`, the descriptor number `at`.
fn tamper(world: &World, name: &str, at: usize, change: impl FnOnce(&mut [u8])) {
    let socket = world.stage.keeper_socket();
    let (mut keeper, _) =
        Connection::open(&socket, Role::Responder, Duration::from_secs(5)).unwrap();
    let names = keeper.list_all().unwrap();
    let name = names.iter().find(|had| had.starts_with(name)).unwrap();
    let entry = keeper.get(name).unwrap().unwrap();
    let part = entry.fds.into_iter().nth(at).unwrap();
    change(Segment::map(part).unwrap().bytes_mut());
}

/// Kills the driver, changes what is kept, and starts another.
async fn meanwhile(world: &mut World, change: impl FnOnce(&World)) {
    world.stage.kill_driver();
    change(world);
    world.stage.start_driver(&[]).await.unwrap();
}

async fn metric(world: &World, name: &str) -> String {
    let (_, text) = crate::admin::get(world, "/metrics").await;
    let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

fn generation(pod: &Pod) -> u32 {
    let link = pod.output(&["readlink", "..data"]).unwrap();
    link.trim().trim_start_matches("..").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_fetched_anew_under_numbers_that_were_never_shown() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let (before, asked) = (generation(&pod), world.vault().count(Kind::Secret));
    meanwhile(&mut world, |world| tamper(world, "volume/", 2, |log| log[START + 40] ^= 1)).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert!(generation(&pod) > before);
    assert!(world.log().contains("journal is lost"), "{}", world.log());
    assert_eq!(metric(&world, "keyhole_state_lost_total").await, "1");
    // The session's journal is whole, and has the answer.
    assert_eq!(world.vault().count(Kind::Secret), asked);
    assert_eq!(world.vault().count(Kind::Login), 1);
    // And the next driver finds a whole one again.
    meanwhile(&mut world, |_| {}).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(metric(&world, "keyhole_state_lost_total").await, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_session_is_made_anew_with_the_next_token_and_files_stay() {
    let mut world = World::fake().await;
    let keys = [("f/secret", "{}-kv/app"), ("f/field", "user"), ("g/secret", "{}-kv/other")];
    let (volume, pod) = world.mounted(&keys).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let before = world.vault().count(Kind::Secret);
    meanwhile(&mut world, |world| tamper(world, "session/", 0, |log| log[START + 40] ^= 1)).await;
    assert_eq!(world.cat(&pod, "f"), "anna", "what was fetched is read");
    assert_eq!(world.vault().count(Kind::Secret), before);
    assert_eq!(metric(&world, "keyhole_state_lost_total").await, "1");
    // Kubelet's republish brings a token, and with it a session.
    world.publish(&volume).await;
    assert!(world.cat(&pod, "g").contains("value"));
    assert_eq!(world.vault().count(Kind::Login), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_of_a_later_version_is_eio_until_kubelet_tells_what_the_volume_was() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let before = generation(&pod);
    meanwhile(&mut world, |world| tamper(world, "volume/", 1, |manifest| manifest[8] = 9)).await;
    let listed = pod.run(&["ls", "-d", "."]).unwrap();
    assert!(listed.status.success(), "the root is there: {listed:?}");
    let output = pod.run(&["timeout", "10", "cat", "never"]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("Input/output error"), "never ENOENT: {said}");
    assert!(world.log().contains("of a later version"), "{}", world.log());
    world.publish(&volume).await;
    // Under the mount that the pod had all the time.
    assert_eq!(world.cat(&pod, "f"), "anna", "{}", world.log());
    assert!(generation(&pod) > before);
    meanwhile(&mut world, |_| {}).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    drop(pod);
    world.unpublish(&volume).await;
    assert!(!volume.target.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_manifest_is_given_up_and_built_anew() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    drop(pod);
    meanwhile(&mut world, |world| tamper(world, "volume/", 1, |manifest| manifest.fill(7))).await;
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_that_waits_outlives_the_driver() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&[("db/secret", "{}-db/creds/app")]).await;
    world.cat(&pod, "db");
    drop(pod);
    world.vault().stop();
    world.unpublish(&volume).await;
    meanwhile(&mut world, |world| {
        let entries = world.stage.keeper().unwrap().ask().unwrap().entries;
        assert_eq!(entries, 1, "only the session is kept");
    })
    .await;
    world.vault().resume().await.unwrap();
    world.vault().answered(Kind::RevokeToken, 1).await;
    assert!(world.vault().leases().is_empty());
    let none = async {
        while world.stage.keeper().unwrap().ask().unwrap().entries > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), none).await.expect("it is still kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_was_unmounted_by_hand_is_mounted_again_at_republish() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let mut others = Vec::new();
    for round in 0..2 {
        rustix::mount::unmount(&volume.target, rustix::mount::UnmountFlags::DETACH).unwrap();
        assert_eq!(world.cat(&pod, "f"), "anna", "the pod has a mount of its own");
        world.publish(&volume).await;
        let other = Pod::start(&volume.pod.uid, &volume.target).unwrap();
        assert_eq!(world.cat(&other, "f"), "anna", "round {round}");
        // They share a cgroup, which goes with the first of them.
        others.push(other);
        meanwhile(&mut world, |_| {}).await;
        assert_eq!(world.cat(&pod, "f"), "anna");
    }
    drop(others);
    drop(pod);
    world.unpublish(&volume).await;
    assert!(!volume.target.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_was_aborted_while_nobody_served_is_built_anew() {
    let mut world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let minor = rustix::fs::minor(rustix::fs::stat(&volume.target).unwrap().st_dev);
    meanwhile(&mut world, |_| {
        std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1").unwrap();
    })
    .await;
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna", "{}", world.log());
    let warned = &world.status(&pod)["warnings"][0]["reason"];
    assert!(warned.as_str().unwrap().contains("built anew"), "{warned}");
    // And the one that was built outlives the driver like the first.
    let asked = world.vault().count(Kind::Secret);
    meanwhile(&mut world, |_| {}).await;
    assert_eq!(world.cat(&pod, "f"), "anna", "{}", world.log());
    assert_eq!(world.vault().count(Kind::Secret), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_vanishes_without_a_word_ends_its_volume() {
    let mut world = World::begin().await;
    world.stage.flags = vec!["--sweep-interval".into(), "1s".into()];
    let world = world.run().await;
    let (gone, pod) = world.mounted(&[("db/secret", "{}-db/creds/app")]).await;
    let (_stays, other) = world.mounted(&USER).await;
    world.cat(&pod, "db");
    assert_eq!(world.cat(&other, "f"), "anna");
    // Its cgroup goes with it; kubelet says nothing.
    drop(pod);
    world.vault().answered(Kind::RevokeToken, 1).await;
    assert!(world.vault().leases().is_empty());
    assert!(!gone.target.exists(), "{}", world.log());
    assert_eq!(world.cat(&other, "f"), "anna", "a pod that runs keeps its volume");
    assert_eq!(metric(&world, "keyhole_swept_total").await, "1");
}
