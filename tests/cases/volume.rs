//! What a pod's volume does with a Vault, whichever it is.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tonic::Code;

use super::world::World;

/// How long something that is to happen by itself may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

pub async fn a_pod_reads_secrets_of_every_kind(world: &World) {
    let plain = STANDARD.encode("the plain text");
    let body = json!({ "plaintext": plain });
    let path = format!("{}-transit/encrypt/app", world.name);
    let sealed = world.operator.write(&path, body).await.unwrap()["data"]["ciphertext"]
        .as_str()
        .unwrap()
        .to_owned();
    let ciphertext = format!("ciphertext={sealed}");
    world.put("versions", json!({ "v": "one" })).await;
    world.put("versions", json!({ "v": "two" })).await;
    let (_volume, pod) = world
        .mounted(&[
            ("field/secret", "{}-kv/app"),
            ("field/field", "user"),
            ("json/secret", "{}-kv/data/app"),
            ("app.env/secret", "{}-kv/app"),
            ("app.env/format", "dotenv"),
            ("raw/secret", "{}-kv/app"),
            ("raw/format", "raw"),
            ("each/secret", "{}-kv/app"),
            ("each/field", "*"),
            ("first/secret", "{}-kv/versions?version=1"),
            ("first/field", "v"),
            ("last/secret", "{}-kv/versions"),
            ("last/field", "v"),
            ("bytes/secret", "{}-kv/bytes"),
            ("bytes/field", "raw"),
            ("bytes/encoding", "base64"),
            ("v1/secret", "{}-v1/app"),
            ("tls/app.crt/secret", "{}-pki/issue/app"),
            ("tls/app.crt/method", "PUT"),
            ("tls/app.crt/args", "common_name=app.shop.svc\nprivate_key_format=pkcs8"),
            ("tls/app.crt/field", "certificate"),
            ("tls/app.key/secret", "{}-pki/issue/app"),
            ("tls/app.key/method", "PUT"),
            ("tls/app.key/args", "common_name=app.shop.svc\nprivate_key_format=pkcs8"),
            ("tls/app.key/field", "private_key"),
            ("open/secret", "{}-transit/decrypt/app"),
            ("open/method", "POST"),
            ("open/args", &ciphertext),
            ("open/field", "plaintext"),
            ("open/encoding", "base64"),
        ])
        .await;
    let app = json!({ "user": "anna", "password": "pa\"ss\nword", "port": 5432, "tls": true });
    assert_eq!(world.cat(&pod, "field"), "anna");
    assert_eq!(parsed(&world.cat(&pod, "json")), app);
    assert_eq!(parsed(&world.cat(&pod, "raw"))["data"]["data"], app);
    let sourced =
        pod.output(&["sh", "-ec", ". ./app.env; printf %s \"$user|$password|$port|$tls\""]);
    assert_eq!(sourced.unwrap(), "anna|pa\"ss\nword|5432|true");
    assert_eq!(pod.output(&["ls", "each"]).unwrap(), "password\nport\ntls\nuser\n");
    assert_eq!(world.cat(&pod, "each/password"), "pa\"ss\nword");
    assert_eq!((world.cat(&pod, "first"), world.cat(&pod, "last")), ("one".into(), "two".into()));
    assert_eq!(pod.output(&["od", "-An", "-tu1", "bytes"]).unwrap().trim(), "0   1   2   3   4");
    assert_eq!(parsed(&world.cat(&pod, "v1")), json!({ "user": "bert" }));
    assert_eq!(world.cat(&pod, "open"), "the plain text");
    // Certificate and key come from one answer.
    let (crt, key) = (world.cat(&pod, "tls/app.crt"), world.cat(&pod, "tls/app.key"));
    assert!(crt.starts_with("-----BEGIN CERTIFICATE-----") && key.contains("PRIVATE KEY-----"));
    same_key(&crt, &key);
}

/// Whether the public key of the private one is inside the certificate.
fn same_key(crt: &str, key: &str) {
    let der = |pem: &str| {
        let lines = pem.lines().filter(|line| !line.starts_with("-----"));
        STANDARD.decode(lines.collect::<String>()).unwrap()
    };
    let key = rcgen::KeyPair::from_pem(key).unwrap();
    let public = rcgen::PublicKeyData::der_bytes(&key).to_vec();
    let crt = der(crt);
    assert!(crt.windows(public.len()).any(|part| part == public), "not the certificate's key");
}

pub async fn both_auth_methods_let_a_pod_in(world: &World) {
    for connection in ["main", "jwt"] {
        let file = [("vault", connection), ("f/secret", "{}-kv/app"), ("f/field", "user")];
        let (volume, pod) = world.mounted(&file).await;
        assert_eq!(world.cat(&pod, "f"), "anna", "{connection}");
        drop(pod);
        world.unpublish(&volume).await;
    }
}

pub async fn a_definite_no_stops_the_pod_and_says_why(world: &World) {
    let file = ("f/secret", "{}-kv/app");
    let name = &world.name;
    for connection in ["main", "jwt"] {
        let method = if connection == "main" { "kubernetes" } else { "jwt" };
        let refusal =
            world.refused(&world.volume(&[("vault", connection), ("role", "nobody"), file])).await;
        let text = &refusal.message;
        assert_eq!(refusal.code, Code::PermissionDenied, "{refusal}");
        for part in ["shop/checkout", "\"nobody\"", &format!("auth/{name}-{method}")] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        // The pod of another service account, and of another namespace.
        for (namespace, account) in [("shop", "thief"), ("elsewhere", "checkout")] {
            let mut volume = world.volume(&[("vault", connection), file]);
            volume.pod.namespace = namespace.to_owned();
            volume.pod.service_account = account.to_owned();
            world.stage.renew_tokens(&mut volume, Duration::from_secs(600)).unwrap();
            let refusal = world.refused(&volume).await;
            assert_eq!(refusal.code, Code::PermissionDenied, "{refusal}");
            assert!(refusal.message.contains(&format!("{namespace}/{account}")), "{refusal}");
        }
    }
    // A role that wants another audience than the token has.
    let role = json!({
        "bound_service_account_names": ["checkout"],
        "bound_service_account_namespaces": ["shop"],
        "audience": "somebody-else",
        "token_policies": [name],
    });
    world.operator.write(&format!("auth/{name}-kubernetes/role/picky"), role).await.unwrap();
    let refusal = world.refused(&world.volume(&[("role", "picky"), file])).await;
    assert_eq!(refusal.code, Code::PermissionDenied, "{refusal}");
    assert!(refusal.message.contains("audience"), "{refusal}");
    // An expired token never leaves the node.
    let mut volume = world.volume(&[file]);
    world.stage.renew_tokens(&mut volume, Duration::ZERO).unwrap();
    let refusal = world.refused(&volume).await;
    assert_eq!(refusal.code, Code::FailedPrecondition, "{refusal}");
    assert!(refusal.message.contains("has expired"), "{refusal}");
    // No token of the audience.
    let mut volume = world.volume(&[("audience", "mars"), file]);
    let refusal = world.refused(&volume).await;
    assert!(refusal.message.contains("tokenRequests"), "{refusal}");
    volume.tokens = HashMap::new();
    let refusal = world.refused(&volume).await;
    assert!(refusal.message.contains("(it sent: none)"), "{refusal}");
    assert!(!volume.target.exists(), "something is left behind");
}

pub async fn what_vault_refuses_is_an_error_with_its_reason(world: &World) {
    let (_volume, pod) = world
        .mounted(&[
            ("denied/secret", "{}-kv/secret-of-others"),
            ("missing/secret", "{}-kv/never-written"),
            ("field/secret", "{}-kv/other"),
            ("field/field", "colour"),
            ("gone/secret", "{}-kv/gone"),
            ("fine/secret", "{}-kv/other"),
            ("fine/field", "key"),
        ])
        .await;
    world.put("gone", json!({ "a": "b" })).await;
    let path = format!("{}-kv/data/gone", world.name);
    world.operator.ask(http::Method::DELETE, &path, &Value::Null).await.unwrap();
    for (file, errno, reason) in [
        ("denied", "Permission denied", "capabilities = [\"read\"]"),
        ("missing", "Input/output error", "404"),
        ("field", "Input/output error", "no field \"colour\"; it has key"),
        ("gone", "Input/output error", "deleted"),
    ] {
        let output = pod.run(&["cat", file]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(errno), "{file}: {said}");
        let told = world.reason(&pod, file);
        assert!(told.contains(reason), "{file}: {told}");
    }
    assert_eq!(world.cat(&pod, "fine"), "value", "one file's trouble is not another's");
}

pub async fn unpublish_revokes_what_the_volume_held(world: &World) {
    let prefix = format!("{}-db/creds/app", world.name);
    let (volume, pod) =
        world.mounted(&[("db/secret", "{}-db/creds/app"), ("c/secret", "{}-db/creds/app")]).await;
    let credential = parsed(&world.cat(&pod, "db"));
    let user = credential["username"].as_str().unwrap_or_default();
    assert!(!user.is_empty(), "{credential}");
    assert_eq!(parsed(&world.cat(&pod, "c")), credential, "one answer for both files");
    assert_eq!(world.operator.leases(&prefix).await.unwrap().len(), 1);
    drop(pod);
    world.unpublish(&volume).await;
    assert!(!volume.target.exists());
    let revoked = async { while !world.operator.leases(&prefix).await.unwrap().is_empty() {} };
    tokio::time::timeout(PATIENCE, revoked).await.expect("the lease lives on");
}

pub async fn a_new_version_appears_by_itself(world: &World) {
    world.put("turns", json!({ "v": "one" })).await;
    let (_volume, pod) = world
        .mounted(&[("turns/secret", "{}-kv/turns"), ("turns/field", "v"), ("turns/refresh", "1s")])
        .await;
    assert_eq!(world.cat(&pod, "turns"), "one");
    world.put("turns", json!({ "v": "second" })).await;
    let turned = async {
        while world.cat(&pod, "turns") == "one" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, turned).await.expect("it never changed");
    assert_eq!(world.cat(&pod, "turns"), "second");
    assert_eq!(pod.output(&["readlink", "..data"]).unwrap(), "..2\n");
}

pub async fn fetch_renders_everything_before_the_pod_starts(world: &World) {
    let volume =
        world.volume(&[("onStart", "fetch"), ("f/secret", "{}-kv/app"), ("f/field", "user")]);
    world.publish(&volume).await;
    // From outside the pod: a stat asks nobody, and knows the size.
    assert_eq!(std::fs::metadata(volume.target.join("f")).unwrap().len(), 4);
    let bad = [
        ("onStart", "fetch"),
        ("x/secret", "{}-kv/never-written"),
        ("y/secret", "{}-kv/secret-of-others"),
    ];
    let refusal = world.refused(&world.volume(&bad)).await;
    assert_eq!(refusal.code, Code::PermissionDenied, "{refusal}");
    assert!(
        refusal.message.contains("never-written") && refusal.message.contains("secret-of-others"),
        "{refusal}"
    );
}

/// Makes a test of each case over a world.
#[macro_export]
macro_rules! volume_cases {
    ($world:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $world().await;
                $crate::cases::volume::$case(&world).await;
            }
        )*
    };
    ($world:path) => {
        $crate::volume_cases!($world:
            a_pod_reads_secrets_of_every_kind,
            both_auth_methods_let_a_pod_in,
            a_definite_no_stops_the_pod_and_says_why,
            what_vault_refuses_is_an_error_with_its_reason,
            unpublish_revokes_what_the_volume_held,
            a_new_version_appears_by_itself,
            fetch_renders_everything_before_the_pod_starts,
        );
    };
}
