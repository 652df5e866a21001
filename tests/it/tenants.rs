//! Who may open: the volume's own pod. Who may use a connection: whom its operator lets.

use keyhole::demo::pod::Pod;
use keyhole::identity::pod::PodUid;
use tonic::Code;

use crate::cases::world::{USER, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_volumes_own_pod_may_open() {
    let world = World::fake().await;
    let (volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let path = volume.target.join("f");
    let error = std::fs::read(&path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "the host's root");
    // Names, sizes and links are for everybody: kubelet and the runtime need them.
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 4);
    assert_eq!(std::fs::read_link(&path).unwrap().to_str(), Some("..data/f"));
    let thief =
        Pod::start(&PodUid::new("deadbeef-8d6e-4a44-9f5e-0123456789ab"), &volume.target).unwrap();
    let output = thief.run(&["cat", "f"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "another pod");
    let (driver, wait) = (world.stage.driver().unwrap(), std::time::Duration::from_secs(5));
    let line = driver.logged("\"by\":\"deadbeef", wait).unwrap();
    let uid = volume.pod.uid.as_str();
    for part in ["\"outcome\":\"denied\"", "\"file\":\"f\"", "/cat\"", "\"uid\":0", uid] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_line_of_the_audit_is_lost_when_the_driver_stops() {
    let mut world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    let driver = world.stage.driver_mut().unwrap();
    assert!(driver.stop().unwrap());
    driver.logged("\"outcome\":\"served\"", std::time::Duration::from_secs(5)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gate_can_watch_only_or_be_off() {
    for (gate, told) in [("audit", true), ("off", false)] {
        let world = World::fake().await;
        world.stage.configure(&world.config(&format!("    gate: {gate}\n"))).unwrap();
        let driver = world.stage.driver().unwrap();
        let wait = std::time::Duration::from_secs(10);
        driver.logged("the configuration changed and is taken up", wait).unwrap();
        let (volume, pod) = world.mounted(&USER).await;
        assert_eq!(world.cat(&pod, "f"), "anna");
        assert_eq!(std::fs::read_to_string(volume.target.join("f")).unwrap(), "anna", "{gate}");
        if told {
            driver.logged("\"outcome\":\"audited\"", wait).unwrap();
        } else {
            assert!(!driver.log().contains("\"outcome\""), "{}", driver.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_users_of_the_pod_read_too_and_modes_are_kept() {
    let world = World::fake().await;
    let mut volume = world.volume(&[
        USER[0],
        USER[1],
        ("mine/secret", "{}-kv/app"),
        ("mine/mode", "0400"),
        ("mine/uid", "1000"),
        ("mine/gid", "1000"),
    ]);
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    for (user, file, may) in
        [(1000, "f", true), (2000, "f", true), (1000, "mine", true), (2000, "mine", false)]
    {
        let output = pod.command_as(user, &["cat", file]).output().unwrap();
        assert_eq!(output.status.success(), may, "{user} {file}: {output:?}");
    }
    drop(pod);
    world.unpublish(&volume).await;
    // With fsGroup: the group's, and nobody else's.
    volume.group = Some(3000);
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    assert_eq!(pod.output(&["stat", "-Lc", "%a %u %g", "f"]).unwrap(), "440 0 3000\n");
    assert!(pod.command_as(3000, &["cat", "f"]).output().unwrap().status.success());
    assert!(!pod.command_as(2000, &["cat", "f"]).output().unwrap().status.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_say_who_may_use_a_connection() {
    let world = World::fake().await;
    let limits = "    allowedNamespaces: [\"team-*\"]\n    allowedRoles: [\"reader-?\"]\n";
    world.stage.configure(&world.config(limits)).unwrap();
    let wait = std::time::Duration::from_secs(10);
    world.stage.driver().unwrap().logged("is taken up", wait).unwrap();
    let refusal = world.refused(&world.volume(&USER)).await;
    assert_eq!(refusal.code, Code::PermissionDenied);
    assert!(
        refusal.message.contains("\"shop\"") && refusal.message.contains("team-*"),
        "{refusal}"
    );
    let mut volume = world.volume(&USER);
    volume.pod.namespace = "team-a".to_owned();
    let refusal = world.refused(&volume).await;
    assert!(
        refusal.message.contains("\"app\"") && refusal.message.contains("reader-?"),
        "{refusal}"
    );
}
