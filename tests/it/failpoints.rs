//! The driver is killed at every place between two writes of its state, and inside one; nothing is lost and nobody
//! notices.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use keyhole::csi::client::InlineVolume;
use keyhole::demo::pod::Pod;
use keyhole::failpoint;
use serde_json::json;

use crate::cases::world::World;

/// How long a whole life may take.
const LIFE: Duration = Duration::from_secs(60);

/// A world whose driver is started again when it dies, as kubelet does.
struct Restarting {
    world: World,
    deaths: u32,
}

impl Restarting {
    /// Starts the driver again if it is dead.
    async fn look(&mut self) {
        if self.world.stage.driver_mut().unwrap().has_ended().unwrap() {
            self.deaths += 1;
            self.world.stage.start_driver(&[]).await.unwrap();
        }
    }

    /// Waits for a command while the driver may die.
    async fn wait(&mut self, mut child: Child) -> Output {
        while child.try_wait().unwrap().is_none() {
            self.look().await;
            tokio::task::yield_now().await;
        }
        child.wait_with_output().unwrap()
    }

    async fn cat(&mut self, pod: &Pod, file: &str) -> String {
        let mut command = pod.command(&["cat", file]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = self.wait(child).await;
        assert!(output.status.success(), "{file}: {output:?}\n{}", self.world.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Where `..data` points.
    async fn generation(&mut self, pod: &Pod) -> u32 {
        let child = pod.command(&["readlink", "..data"]).stdout(Stdio::piped()).spawn().unwrap();
        let output = self.wait(child).await;
        let link = String::from_utf8(output.stdout).unwrap();
        link.trim().trim_start_matches("..").parse().unwrap()
    }

    /// Publishes or unpublishes, again and again, as kubelet does.
    async fn kubelet(&mut self, volume: &InlineVolume, publish: bool) {
        loop {
            let kubelet = self.world.kubelet().clone();
            let answer = match publish {
                true => kubelet.publish(volume).await,
                false => kubelet.unpublish(&volume.id, &volume.target).await,
            };
            if answer.is_ok() {
                return;
            }
            self.look().await;
            tokio::task::yield_now().await;
        }
    }
}

/// A pod's life with a driver that dies when it comes to `point` for the `times`th time; tells whether it did.
async fn life(point: &str, times: u32) -> bool {
    let mut world = World::fake().await;
    world.stage.kill_driver();
    let armed = format!("{point}:{times}");
    world.stage.start_driver(&[("KEYHOLE_FAIL_POINT", &armed)]).await.unwrap();
    let mut world = Restarting { world, deaths: 0 };
    let volume = world.world.volume(&[
        ("f/secret", "{}-kv/app"),
        ("f/field", "user"),
        ("f/refresh", "1s"),
        ("db/secret", "{}-db/creds/app"),
    ]);
    world.kubelet(&volume, true).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    assert_eq!(world.cat(&pod, "f").await, "anna", "{armed}");
    let credential = world.cat(&pod, "db").await;
    let mut generation = world.generation(&pod).await;
    for user in ["berta", "carla"] {
        world.world.put("app", json!({ "user": user })).await;
        loop {
            let now = world.generation(&pod).await;
            assert!(now >= generation, "{armed}: from {generation} back to {now}");
            generation = now;
            if world.cat(&pod, "f").await == user {
                break;
            }
        }
    }
    generation = world.generation(&pod).await.max(generation);
    assert!(generation >= 3, "{armed}: both changes are generations");
    assert_eq!(world.cat(&pod, "db").await, credential, "{armed}: a version has one content");
    assert!(world.world.vault().leases().len() <= 2, "{armed}");
    drop(pod);
    world.kubelet(&volume, false).await;
    assert!(!volume.target.exists(), "{armed}");
    // The session is revoked and nothing is kept, whoever does it.
    loop {
        world.look().await;
        let kept = world.world.stage.keeper().unwrap().ask().unwrap().entries;
        if kept == 0 && world.world.vault().leases().is_empty() {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(!world.world.log().contains("\"ERROR\""), "{armed}: {}", world.world.log());
    assert!(world.deaths <= 1, "{armed}: it died {} times", world.deaths);
    world.deaths == 1
}

#[test]
fn a_kill_between_any_two_writes_of_the_state_is_not_noticed() {
    let lives: Vec<(&str, u32)> = failpoint::ALL
        .into_iter()
        .flat_map(|point| {
            // Journals are written often: killed at their first writes, and in the middle of a life.
            let times: &[u32] =
                if point.starts_with("journal.") { &[1, 4, 9, 14] } else { &[1, 2] };
            times.iter().map(move |times| (point, *times))
        })
        .collect();
    let parts = lives.chunks(lives.len().div_ceil(6));
    let died: Vec<(&str, bool)> = std::thread::scope(|scope| {
        let threads: Vec<_> = parts
            .map(|part| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread()
                        .worker_threads(2)
                        .enable_all()
                        .build()
                        .unwrap();
                    let live = |(point, times): (&'static str, u32)| {
                        let life = async { tokio::time::timeout(LIFE, life(point, times)).await };
                        let died = runtime.block_on(life);
                        (point, died.unwrap_or_else(|_| panic!("{point}:{times} does not end")))
                    };
                    part.iter().map(|life| live(*life)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    for point in failpoint::ALL {
        let reached = died.iter().any(|(had, died)| *had == point && *died);
        // A journal moves only when it is full.
        let rare = point == "journal.moving" || point == "journal.moved";
        assert!(reached || rare, "nothing ever came to {point}");
    }
}
