//! Vault goes wrong: every fault at login and at read, what is told, and that all is well afterwards.

use std::time::Duration;

use keyhole::demo::pod::Pod;
use keyhole::fake_vault::faults::{Fault, How};
use keyhole::fake_vault::kind::Kind;
use tonic::Code;

use crate::cases::world::{USER, World};

/// Name of a fault, the fault, and what a person is told of it.
fn faults() -> Vec<(&'static str, How, &'static str)> {
    let status =
        |code: u16, said: &str| How::Status { code, said: said.to_owned(), retry_after: None };
    vec![
        ("bad-request", status(400, "no such thing"), "(400): no such thing"),
        ("denied", status(403, "permission denied"), "(403): permission denied"),
        ("missing", status(404, "no handler for route"), "(404): no handler"),
        ("lagging", status(412, "required index state not present"), "lags behind (412)"),
        (
            "throttled",
            How::Status { code: 429, said: "quota".into(), retry_after: Some(1) },
            "slow down (429): quota",
        ),
        ("failed", status(500, "internal error"), "failed (500): internal error"),
        ("balancer", status(502, "bad gateway"), "failed (502)"),
        ("sealed", How::Sealed, "sealed (503): Vault is sealed"),
        ("hang", How::Hang, "did not answer"),
        ("reset", How::Reset, "the connection to Vault broke"),
        ("truncated", How::Truncated, "the connection to Vault broke"),
        ("oversized", How::Oversized(1024 * 1024), "larger than 1048576 bytes"),
        ("garbage", How::Garbage("<html>Welcome!</html>".into()), "cannot be read"),
        // A value that is no text.
        (
            "no-utf8",
            How::Garbage(b"{\"data\":{\"data\":{\"v\":\"\xff\xfe\"}}}".to_vec()),
            "cannot be read",
        ),
    ]
}

#[test]
fn every_fault_at_login_is_told_and_passes() {
    // Four at a time; each on a runtime of its own, because commands block the thread that waits for them.
    let faults = faults();
    let quarter = faults.len().div_ceil(4);
    std::thread::scope(|scope| {
        for part in faults.chunks(quarter) {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                for (name, how, said) in part {
                    runtime.block_on(at_login(name, how.clone(), said));
                }
            });
        }
    });
}

async fn at_login(name: &str, how: How, said: &str) {
    let world = World::fake().await;
    world.vault().fault(Fault::new(how).at(Kind::Login));
    let volume = world.volume(&USER);
    let answer = tokio::time::timeout(Duration::from_secs(10), world.kubelet().publish(&volume));
    let answer = answer.await.unwrap_or_else(|_| panic!("{name}: kubelet was made to wait"));
    let text = match (name, answer) {
        // Vault's considered no.
        ("bad-request" | "missing", answer) => {
            let refusal = answer.expect_err(name);
            assert_eq!(refusal.code, Code::PermissionDenied, "{name}");
            assert!(!volume.target.exists(), "{name}");
            refusal.message
        }
        (_, answer) => {
            answer.unwrap_or_else(|error| panic!("{name}: {error}"));
            let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
            world.status(&pod)["warnings"][0]["reason"].as_str().unwrap().to_owned()
        }
    };
    assert!(text.contains(said) && text.contains("shop/checkout"), "{name}: {text}");
    world.vault().mend();
    world.publish(&volume).await;
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    // A login that failed is the answer for a second; then it is tried again.
    let read = async {
        loop {
            match pod.output(&["cat", "f"]) {
                Ok(text) => return text,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let read = tokio::time::timeout(Duration::from_secs(15), read).await;
    assert_eq!(read.unwrap_or_else(|_| panic!("{name}: not readable")), "anna", "{name}");
    drop(pod);
    world.unpublish(&volume).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_at_a_read_is_an_error_with_its_reason_and_passes() {
    let world = World::fake().await;
    let mut keys = Vec::new();
    for (name, _, _) in faults() {
        world.put(name, serde_json::json!({ "v": name })).await;
        keys.push((format!("{name}/secret"), format!("{{}}-kv/{name}")));
        keys.push((format!("{name}/field"), "v".to_owned()));
    }
    let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let (_volume, pod) = world.mounted(&keys).await;
    for (name, how, _) in faults() {
        world.vault().fault(Fault::new(how).at(Kind::Secret).on(&format!("/data/{name}")));
    }
    let readers: Vec<_> = faults()
        .into_iter()
        .map(|(name, _, _)| {
            let mut command = pod.command(&["timeout", "15", "cat", name]);
            (name, command.stderr(std::process::Stdio::piped()).spawn().unwrap())
        })
        .collect();
    for (name, reader) in readers {
        let output = reader.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let errno = if name == "denied" { "Permission denied" } else { "Input/output error" };
        assert!(said.contains(errno), "{name}: {said:?} {:?}", output.status);
    }
    for (name, _, said) in faults() {
        let reason = world.reason(&pod, name);
        assert!(reason.contains(said), "{name}: {reason}");
    }
    world.vault().mend();
    let whole = async {
        for (name, _, _) in faults() {
            // What Vault refused is the answer for a second.
            while pod.output(&["cat", name]).ok().as_deref() != Some(name) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), whole).await.expect("not all can be read again");
    let status = world.status(&pod);
    let left =
        status["files"].as_array().unwrap().iter().filter(|file| file.get("error").is_some());
    assert_eq!(left.count(), 0, "{status:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_that_is_gone_is_told_at_a_read_too() {
    let world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    world.vault().stop();
    let output = pod.run(&["timeout", "11", "cat", "f"]).unwrap();
    assert_eq!(output.status.code(), Some(1), "cat ended by itself: {output:?}");
    let reason = world.reason(&pod, "f");
    assert!(reason.contains("Vault cannot be reached") && reason.contains("refused"), "{reason}");
    world.vault().resume().await.unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_fault_is_never_seen_by_a_reader() {
    let world = World::fake().await;
    let (_volume, pod) = world.mounted(&USER).await;
    for how in [
        How::Sealed,
        How::Reset,
        How::Status { code: 412, said: String::new(), retry_after: None },
        How::Status { code: 429, said: String::new(), retry_after: Some(1) },
    ] {
        world.vault().fault(Fault::new(how).at(Kind::Secret).times(1));
    }
    assert_eq!(world.cat(&pod, "f"), "anna");
    assert_eq!(world.vault().count(Kind::Secret), 5, "four that failed and one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_vault_may_have_acted_on_is_not_repeated() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[
            ("crt/secret", "{}-pki/issue/app"),
            ("crt/method", "PUT"),
            ("crt/args", "common_name=app.test"),
            ("crt/field", "certificate"),
        ])
        .await;
    world.vault().fault(Fault::new(How::Truncated).at(Kind::Secret));
    assert!(!pod.run(&["cat", "crt"]).unwrap().status.success());
    assert_eq!(world.vault().count(Kind::Secret), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_vault_has_revoked_is_replaced_once() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[
            ("f/secret", "{}-kv/app"),
            ("f/field", "user"),
            ("g/secret", "{}-kv/other"),
            ("g/field", "key"),
            ("denied/secret", "{}-kv/secret-of-others"),
        ])
        .await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    world.vault().revoke_sessions();
    assert_eq!(world.cat(&pod, "f"), "anna", "what was fetched stays");
    assert_eq!(world.cat(&pod, "g"), "value");
    assert_eq!(world.vault().count(Kind::Login), 2);
    // A policy's no is no dead token: no loop of logins.
    for _ in 0..5 {
        assert!(!pod.run(&["cat", "denied"]).unwrap().status.success());
    }
    assert_eq!(world.vault().count(Kind::Login), 2);
}
