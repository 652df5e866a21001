//! Secrets stay where they belong: never in a log, a message, a metric, a status, nor in memory after the end.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use keyhole::csi::client::Kubelet;
use keyhole::demo::pod::Pod;
use keyhole::fake_vault::faults::{Fault, How};

use crate::cases::world::World;

/// Does not look like anything else in memory.
const CANARY: &str = "canary-6b1f0f5d2c-zebra";

/// Where `needle` is in the memory of a process.
fn find(pid: u32, needle: &[u8]) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|flags| flags.starts_with("rw")))
    {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let (from, to) =
            (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        // Read in pieces: FUSE buffers are large and mostly untouched.
        let mut at = from;
        let mut piece = vec![0; 1 << 20];
        while at < to {
            let length = usize::try_from((to - at).min(1 << 20)).unwrap();
            let Ok(read) = memory.read_at(&mut piece[..length], at) else { break };
            if read == 0 {
                break;
            }
            let part = &piece[..read];
            found.extend(
                part.windows(needle.len()).filter(|had| *had == needle).map(|_| line.to_owned()),
            );
            // Pieces overlap by less than what is looked for.
            let step = if read < needle.len() { read } else { read - needle.len() + 1 };
            at += step as u64;
            if read < length {
                break;
            }
            if at + needle.len() as u64 > to {
                break;
            }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaked_bind_mount_reads_nothing_and_memory_holds_no_secret() {
    let world = World::fake().await;
    world.put("canary", serde_json::json!({ "v": CANARY, "w": format!("{CANARY}-2") })).await;
    // Kubelet makes a connection for each call.
    let socket = world.stage.kubelet_dir().join("plugins/csi.keyhole.dev/csi.sock");
    let kubelet = Kubelet::connect(&socket).await.unwrap();
    let volume = world.volume(&[
        ("one/secret", "{}-kv/canary"),
        ("one/field", "v"),
        ("all/secret", "{}-kv/canary"),
        ("raw/secret", "{}-kv/canary"),
        ("raw/format", "raw"),
        ("each/secret", "{}-kv/canary"),
        ("each/field", "*"),
    ]);
    kubelet.publish(&volume).await.unwrap();
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    for file in ["one", "all", "raw", "each/v", "each/w"] {
        assert!(world.cat(&pod, file).contains(CANARY), "{file}");
    }
    let pid = world.stage.driver().unwrap().pid();
    assert!(!find(pid, CANARY.as_bytes()).is_empty(), "the search finds what is there");
    // The pod's mount namespace lives on: its bind mount leaks.
    kubelet.unpublish(&volume.id, &volume.target).await.unwrap();
    for words in [vec!["cat", "one"], vec!["ls"], vec!["stat", "one"]] {
        let output = pod.run(&words).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("Transport endpoint is not connected"), "{words:?}: {said}");
    }
    world.vault().answered(keyhole::fake_vault::kind::Kind::RevokeToken, 1).await;
    let found = find(pid, CANARY.as_bytes());
    assert!(found.is_empty(), "the secret is in the driver's memory: {found:#?}");
    // Tokens were on the wire: gone with the connections, which Vault and kubelet close.
    drop(kubelet);
    world.vault().stop();
    let jwt = volume.tokens["vault"].0.clone();
    let gone = async {
        while [jwt.as_str(), "hvs.fake-0000"]
            .iter()
            .any(|token| !find(pid, token.as_bytes()).is_empty())
        {
            tokio::task::yield_now().await;
        }
    };
    let gone = tokio::time::timeout(Duration::from_secs(20), gone).await;
    let left = [jwt.as_str(), "hvs.fake-0000"].map(|token| find(pid, token.as_bytes()));
    assert!(gone.is_ok(), "tokens are in the driver's memory: {left:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_a_person_can_see_holds_a_value() {
    let world = World::fake().await;
    world
        .put(
            "canary",
            serde_json::json!({ "v": CANARY, "bad=name": CANARY, "b": format!("!{CANARY}") }),
        )
        .await;
    let volume = world.volume(&[
        ("good/secret", "{}-kv/canary"),
        ("good/field", "v"),
        ("env/secret", "{}-kv/canary"),
        ("env/format", "dotenv"),
        ("none/secret", "{}-kv/canary"),
        ("none/field", "nothing"),
        ("b64/secret", "{}-kv/canary"),
        ("b64/field", "b"),
        ("b64/encoding", "base64"),
        ("cut/secret", "{}-kv/cut"),
        ("args/secret", "{}-pki/issue/app"),
        ("args/method", "PUT"),
        ("args/args", &format!("common_name=a.test\nextra={CANARY}")),
    ]);
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    world.cat(&pod, "good");
    world
        .vault()
        .fault(Fault::new(How::Garbage(format!("{{\"data\":\"{CANARY}\"").into())).on("/data/cut"));
    for file in ["env", "none", "b64", "cut"] {
        assert!(!pod.run(&["cat", file]).unwrap().status.success(), "{file}");
    }
    let jwt = volume.tokens["vault"].0.clone();
    let mut refused = volume.clone();
    refused.id.push('x');
    refused.attributes.insert("onStart".into(), "fetch".into());
    refused.target = refused.target.with_file_name("other");
    let refusal = world.refused(&refused).await.to_string();
    let admin = world.stage.driver().unwrap().admin().to_owned();
    let metrics = reqwest::Client::builder().no_proxy().build().unwrap();
    let metrics =
        metrics.get(format!("http://{admin}/metrics")).send().await.unwrap().text().await.unwrap();
    let status = world.status(&pod).to_string();
    world.unpublish(&volume).await;
    for (what, text) in
        [("log", world.log()), ("refusal", refusal), ("metrics", metrics), ("status", status)]
    {
        for secret in [CANARY, jwt.as_str(), jwt.rsplit('.').next().unwrap(), "hvs.fake"] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_cannot_be_dumped() {
    // As a system that dumps: the driver inherits no limit.
    let unlimited = rustix::process::Rlimit { current: None, maximum: None };
    let raised = rustix::process::setrlimit(rustix::process::Resource::Core, unlimited);
    raised.expect("the tests' own limit is fixed: nothing can be shown");
    let world = World::fake().await;
    let pid = world.stage.driver().unwrap().pid();
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let limits: Vec<&str> = core.split_whitespace().skip(4).take(2).collect();
    assert_eq!(limits, ["0", "0"], "{core}");
}
