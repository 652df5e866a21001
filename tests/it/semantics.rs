//! The promises of SEMANTICS.md, each executed by the test of the same name; `house` checks that none is missing.

use std::process::Stdio;
use std::time::Duration;

use keyhole::fake_vault::faults::{Fault, How};
use keyhole::fake_vault::kind::Kind;
use serde_json::json;

use crate::cases::world::World;

const WAIT: Duration = Duration::from_secs(30);
const TURNS: [(&str, &str); 3] =
    [("turns/secret", "{}-kv/turns"), ("turns/field", "v"), ("turns/refresh", "1s")];

/// Repeats until `done`.
async fn until(mut done: impl FnMut() -> bool) {
    let done = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(WAIT, done).await.expect("it never came true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_layout_is_that_of_kubernetes_own_volumes() {
    let world = World::fake().await;
    let (_volume, pod) =
        world.mounted(&[("a/b/secret", "{}-kv/app"), ("c/secret", "{}-kv/app")]).await;
    assert_eq!(pod.output(&["ls", "-A"]).unwrap(), "..1\n..data\na\nc\n");
    for (link, target) in [("a", "..data/a\n"), ("c", "..data/c\n"), ("..data", "..1\n")] {
        assert_eq!(pod.output(&["readlink", link]).unwrap(), target);
    }
    assert_eq!(pod.output(&["ls", "-A", "a/"]).unwrap(), "b\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_open_waits_for_vault_and_no_longer_than_ten_seconds() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[("f/secret", "{}-kv/app"), ("f/field", "user"), ("g/secret", "{}-kv/other")])
        .await;
    world.vault().fault(Fault::new(How::Latency(Duration::from_secs(3))).on("/data/app"));
    assert_eq!(world.cat(&pod, "f"), "anna", "slow is not wrong");
    world.vault().fault(Fault::new(How::Hang).on("/data/other"));
    let output = pod.run(&["timeout", "11", "cat", "g"]).unwrap();
    assert_eq!(output.status.code(), Some(1), "cat ended by itself: {output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("Input/output error"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_asks_vault_only_the_first_time() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[
            ("f/secret", "{}-kv/app"),
            ("f/field", "user"),
            ("g/secret", "{}-kv/app"),
            ("g/format", "dotenv"),
        ])
        .await;
    for _ in 0..20 {
        world.cat(&pod, "f");
        world.cat(&pod, "g");
    }
    assert_eq!(world.vault().count(Kind::Secret), 1, "two files, one answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_a_mixture_of_versions() {
    let world = World::fake().await;
    let text = |letter: &str| json!({ "v": letter.repeat(200_000), "w": letter });
    world.put("turns", text("a")).await;
    let (_volume, pod) = world
        .mounted(&[TURNS[0], TURNS[1], TURNS[2], ("w/secret", "{}-kv/turns"), ("w/field", "w")])
        .await;
    // The two files are one answer: read through one ..data they always match.
    let script = r#"
import os
seen = []
while "d" not in seen:
    data = os.open("..data", os.O_PATH)
    v = open(os.open("turns", os.O_RDONLY, dir_fd=data)).read()
    w = open(os.open("w", os.O_RDONLY, dir_fd=data)).read()
    os.close(data)
    assert v == w * 200000, (len(v), set(v), w)
    if w not in seen:
        seen.append(w)
        print(w, flush=True)
assert seen == sorted(seen), seen
"#;
    let mut reader =
        pod.command(&["python3", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader.stdout.take().unwrap()));
    for letter in ["b", "c", "d"] {
        lines.next().unwrap().unwrap();
        world.put("turns", text(letter)).await;
    }
    assert!(tokio::task::spawn_blocking(move || reader.wait().unwrap()).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_keeps_the_version_it_was_opened_with() {
    let world = World::fake().await;
    world.put("turns", json!({ "v": "old old old" })).await;
    let (_volume, pod) = world.mounted(&TURNS).await;
    // It reads the first byte, waits for a line, and reads the rest.
    let script = "import sys; f = open('turns', 'rb', buffering=0); print(f.read(1), flush=True); sys.stdin.readline(); print(f.read(), flush=True)";
    let mut command = pod.command(&["python3", "-c", script]);
    let mut reader = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(reader.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "b'o'");
    world.put("turns", json!({ "v": "new" })).await;
    until(|| world.cat(&pod, "turns") == "new").await;
    drop(reader.stdin.take());
    assert_eq!(lines.next().unwrap().unwrap(), "b'ld old old'");
    assert!(reader.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_path_mount_follows_rotation() {
    let world = World::fake().await;
    world.put("turns", json!({ "v": "one" })).await;
    let (_volume, pod) = world.mounted(&TURNS).await;
    world.cat(&pod, "turns");
    // What kubelet does for `subPath: turns`: binds the file behind the links.
    let bound = world.stage.path("bound");
    std::fs::write(&bound, "").unwrap();
    let path = bound.to_str().unwrap();
    pod.output(&["mount", "--bind", "turns", path]).unwrap();
    assert_eq!(pod.output(&["cat", path]).unwrap(), "one");
    world.put("turns", json!({ "v": "two, and longer" })).await;
    until(|| pod.output(&["cat", path]).unwrap() == "two, and longer").await;
    assert_eq!(pod.output(&["stat", "-c", "%s", path]).unwrap(), "15\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stat_tells_the_true_size_to_the_pod_and_never_fails() {
    let world = World::fake().await;
    let (volume, pod) = world
        .mounted(&[("f/secret", "{}-kv/app"), ("f/field", "user"), ("g/secret", "{}-kv/none")])
        .await;
    // From outside nobody is asked, and what is known is told.
    assert_eq!(std::fs::metadata(volume.target.join("f")).unwrap().len(), 0);
    assert_eq!(world.vault().count(Kind::Secret), 0);
    assert_eq!(pod.output(&["stat", "-Lc", "%s", "f"]).unwrap(), "4\n");
    assert_eq!(std::fs::metadata(volume.target.join("f")).unwrap().len(), 4);
    assert_eq!(pod.output(&["stat", "-Lc", "%s", "g"]).unwrap(), "0\n", "missing in Vault");
    let listed = pod.output(&["ls", "-lL"]).unwrap();
    assert!(listed.contains(" 4 ") && listed.lines().count() == 3, "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_stays_readable_while_vault_is_away() {
    let world = World::fake().await;
    let (volume, pod) = world
        .mounted(&[
            ("f/secret", "{}-kv/app"),
            ("f/field", "user"),
            ("f/refresh", "1s"),
            ("db/secret", "{}-db/creds/app"),
        ])
        .await;
    world.cat(&pod, "f");
    let credential = world.cat(&pod, "db");
    world.vault().stop();
    // Kubelet goes on calling, and refreshes fail.
    let driver = world.stage.driver().unwrap();
    world.publish(&volume).await;
    driver.logged("what is there stays until its end", WAIT).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(world.cat(&pod, "db"), credential);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_never_looks_like_a_missing_file() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[
            ("none/secret", "{}-kv/never-written"),
            ("denied/secret", "{}-kv/secret-of-others"),
            ("field/secret", "{}-kv/app"),
            ("field/field", "nothing"),
        ])
        .await;
    for (file, errno) in [("none", "EIO"), ("denied", "EACCES"), ("field", "EIO")] {
        let script = format!(
            "import errno\ntry: open('{file}')\nexcept OSError as e: print(errno.errorcode[e.errno])"
        );
        assert_eq!(
            pod.output(&["python3", "-c", &script]).unwrap(),
            format!("{errno}\n"),
            "{file}"
        );
    }
    // What the volume was never asked for is missing like everywhere.
    let output = pod.run(&["cat", "unknown"]).unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("No such file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_file_tells_where_things_come_from_and_why_they_do_not() {
    let world = World::fake().await;
    let (volume, pod) = world
        .mounted(&[
            ("f/secret", "{}-kv/app"),
            ("db/secret", "{}-db/creds/app"),
            ("no/secret", "{}-kv/none"),
        ])
        .await;
    world.cat(&pod, "f");
    world.cat(&pod, "db");
    pod.run(&["cat", "no"]).unwrap();
    let status = world.status(&pod);
    assert_eq!(status["pod"], volume.pod.uid.as_str());
    let file = |name: &str| {
        let files = status["files"].as_array().unwrap();
        files.iter().find(|file| file["name"] == name).unwrap().clone()
    };
    assert_eq!((&file("f")["version"], &file("f")["leased"]), (&json!(1), &json!(false)));
    assert!(file("db")["leased"] == true && file("db")["ends"].is_string());
    assert!(file("no")["error"]["reason"].as_str().unwrap().contains("404"));
    assert!(!pod.output(&["ls", "-a"]).unwrap().contains(".keyhole"), "it is not listed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_as_long_as_the_pod_lives() {
    let world = World::fake().await;
    let role = json!({ "db_name": "shop", "default_ttl": "2s", "max_ttl": "1h" });
    world.operator.write(&format!("{}-db/roles/app", world.name), role).await.unwrap();
    world.vault().count_anew();
    let (volume, pod) = world.mounted(&[("db/secret", "{}-db/creds/app")]).await;
    let first = world.cat(&pod, "db");
    world.vault().answered(Kind::RenewLease, 3).await;
    assert_eq!(world.cat(&pod, "db"), first);
    assert_eq!(world.vault().count(Kind::Secret), 1);
    drop(pod);
    world.unpublish(&volume).await;
    world.vault().answered(Kind::RevokeToken, 1).await;
    assert_eq!(world.vault().leases(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_cannot_go_on_is_replaced_before_it_ends() {
    let world = World::fake().await;
    let role = json!({ "db_name": "shop", "default_ttl": "3s", "max_ttl": "5s" });
    world.operator.write(&format!("{}-db/roles/app", world.name), role).await.unwrap();
    let (_volume, pod) = world.mounted(&[("db/secret", "{}-db/creds/app")]).await;
    let first = world.cat(&pod, "db");
    until(|| {
        // There is no moment at which the file cannot be read.
        let now = world.cat(&pod, "db");
        let id = world.vault().leases();
        assert!(!id.is_empty(), "the credential that is shown has ended");
        now != first
    })
    .await;
    assert!(world.vault().leases().len() <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_go_on_is_succeeded() {
    let world = World::fake().await;
    world.put_role("app", "2s").await.unwrap();
    let role = json!({
        "bound_service_account_names": ["checkout"],
        "bound_service_account_namespaces": ["shop"],
        "token_policies": [world.name],
        "token_ttl": "2s",
        "token_max_ttl": "4s",
    });
    world.operator.write(&format!("auth/{}-kubernetes/role/app", world.name), role).await.unwrap();
    let (_volume, pod) = world
        .mounted(&[
            ("f/secret", "{}-kv/app"),
            ("f/field", "user"),
            ("g/secret", "{}-kv/other"),
            ("g/field", "key"),
        ])
        .await;
    world.cat(&pod, "f");
    world.vault().answered(Kind::RenewToken, 1).await;
    world.vault().answered(Kind::Login, 2).await;
    assert_eq!(world.cat(&pod, "g"), "value");
}
