//! What kubelet never sends, or an author slips: every answer says where, what, and what to write instead.

use keyhole::csi::client::publish_request;
use keyhole::csi::proto::csi_v1::NodePublishVolumeRequest;
use tonic::Code;

use crate::cases::world::World;

type Spoil = fn(&mut NodePublishVolumeRequest);

fn set(request: &mut NodePublishVolumeRequest, key: &str, value: &str) {
    request.volume_context.insert(key.into(), value.into());
}

/// What is wrong, and parts of the answer.
const TABLE: [(Spoil, &[&str]); 14] = [
    (|request| request.volume_id.clear(), &["volume_id"]),
    (|request| request.target_path.clear(), &["target_path"]),
    (|request| request.target_path = "relative/mount".into(), &["target_path"]),
    (|request| request.readonly = false, &["readOnly: must be true", "write `readOnly: true`"]),
    (|request| request.volume_capability = None, &["volume_capability"]),
    (
        |request| request.volume_context.retain(|key, _| key.starts_with("csi.")),
        &["the volume has no file", "role: missing"],
    ),
    (
        |request| set(request, "f/secrt", "kv/x"),
        &["f/secrt: unknown option `secrt`; did you mean `f/secret`?"],
    ),
    (|request| set(request, "rol", "x"), &["rol: unknown option `rol`; did you mean `role`?"]),
    (|request| set(request, "f/mode", "rw-"), &["f/mode: \"rw-\" is no octal number"]),
    (
        |request| set(request, "vault", "mian"),
        &["vault: the driver's configuration has no connection \"mian\"; did you mean `main`?"],
    ),
    (|request| set(request, "f/secret", &"x".repeat(1024 * 1024)), &["volumeAttributes", "65536"]),
    (|request| set(request, "../x/secret", "kv/x"), &["reserved"]),
    (
        |request| set(request, "f/template", "{{ }}"),
        &["`template` is not supported by this version yet"],
    ),
    (
        |request| {
            request
                .secrets
                .insert("csi.storage.k8s.io/serviceAccount.tokens".into(), "canary".into());
        },
        &["serviceAccount.tokens: not the JSON object"],
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_is_told_and_nothing_is_left_behind() {
    let world = World::fake().await;
    for (spoil, parts) in TABLE {
        let volume = world.volume(&[("f/secret", "{}-kv/app")]);
        let mut request = publish_request(&volume);
        spoil(&mut request);
        let refusal = world.kubelet().publish_raw(request).await.expect_err(parts[0]);
        assert_eq!(refusal.code, Code::InvalidArgument, "{refusal}");
        for part in parts {
            assert!(refusal.message.contains(part), "{part} is not in {refusal}");
        }
        assert!(!refusal.message.contains("canary"), "{refusal}");
        assert!(!volume.target.exists(), "{refusal}");
    }
    // All of them in one answer.
    let mut request = publish_request(&world.volume(&[("f/secret", "{}-kv/app")]));
    request.readonly = false;
    request.volume_id.clear();
    let refusal = world.kubelet().publish_raw(request).await.unwrap_err();
    assert!(
        refusal.message.contains("readOnly") && refusal.message.contains("volume_id"),
        "{refusal}"
    );
    assert_eq!(world.vault().count(keyhole::fake_vault::kind::Kind::Login), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_must_be_a_plain_path_below_the_kubelet_directory() {
    let world = World::fake().await;
    let volume = world.volume(&[("f/secret", "{}-kv/app")]);
    let outside = world.stage.path("outside");
    std::fs::create_dir_all(&outside).unwrap();
    let link = world.stage.kubelet_dir().join("link");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let up = world.stage.kubelet_dir().join("pods/../../outside/mount");
    for target in [outside.join("mount"), link.join("mount"), up, "/".into(), "/etc".into()] {
        let mut request = publish_request(&volume);
        request.target_path = target.to_str().unwrap().to_owned();
        let refusal = world.kubelet().publish_raw(request).await.unwrap_err();
        assert_eq!(refusal.code, Code::InvalidArgument, "{target:?}: {refusal}");
        let refusal = world.kubelet().unpublish(&volume.id, &target).await.unwrap_err();
        assert_eq!(refusal.code, Code::InvalidArgument, "{target:?}: {refusal}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_elses_mount_is_not_touched() {
    let world = World::fake().await;
    let volume = world.volume(&[("f/secret", "{}-kv/app")]);
    std::fs::create_dir_all(&volume.target).unwrap();
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("theirs", &volume.target, "tmpfs", none, None).unwrap();
    std::fs::write(volume.target.join("theirs"), "x").unwrap();
    let refusal = world.refused(&volume).await;
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert!(refusal.message.contains("something else (tmpfs) is mounted at"), "{refusal}");
    assert!(volume.target.join("theirs").exists());
    rustix::mount::unmount(&volume.target, rustix::mount::UnmountFlags::empty()).unwrap();
    world.publish(&volume).await;
}
