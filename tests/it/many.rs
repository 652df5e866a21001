//! Many volumes on a node whose processes may have few files open.

use std::os::unix::fs::PermissionsExt as _;

use tokio::task::JoinSet;

use crate::cases::world::{USER, World, program};

/// Volumes of the node.
const VOLUMES: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_volumes_outlive_a_driver_whose_soft_limit_is_1024_files() {
    let mut world = World::begin().await;
    // As containerd starts a container.
    let script = world.stage.path("limited");
    let text = format!("#!/bin/sh\nulimit -Sn 1024\nexec '{}' \"$@\"\n", program().display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    world.stage.run_as(&script);
    let mut world = world.run().await;
    let keys = [USER.as_slice(), &[("onStart", "lazy")]].concat();
    let volumes: Vec<_> = (0..VOLUMES).map(|_| world.volume(&keys)).collect();
    for part in volumes.chunks(16) {
        let mut calls = JoinSet::new();
        for volume in part {
            let (kubelet, volume) = (world.kubelet().clone(), volume.clone());
            calls.spawn(async move { kubelet.publish(&volume).await });
        }
        for answer in calls.join_all().await {
            answer.unwrap_or_else(|error| panic!("{error}\n{}", world.log()));
        }
    }
    world.stage.kill_driver();
    world.stage.start_driver(&[]).await.unwrap();
    for volume in &volumes {
        // Not in its pod: the gate's no is an answer of the server's.
        let refused = std::fs::File::open(volume.target.join("f")).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied, "{refused}");
    }
    for volume in &volumes {
        world.unpublish(volume).await;
    }
    let kept = async {
        while world.stage.keeper().unwrap().ask().unwrap().entries > 0 {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(30);
    tokio::time::timeout(limit, kept).await.expect("something is still kept");
}
