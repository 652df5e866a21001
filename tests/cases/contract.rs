//! What Keyhole relies on in Vault's answers, asked of the fake Vault and of OpenBao alike.

use std::time::Duration;

use http::Method;
use keyhole::demo::operator::{Operator, at};
use serde_json::{Value, json};

use super::world::World;

/// Status and body of a request.
async fn ask(who: &Operator, method: Method, path: &str, body: Value) -> (u16, Value) {
    who.exchange(method, path, "", &body).await.unwrap()
}

async fn get(who: &Operator, path: &str) -> (u16, Value) {
    ask(who, Method::GET, path, Value::Null).await
}

async fn post(who: &Operator, path: &str, body: Value) -> (u16, Value) {
    ask(who, Method::POST, path, body).await
}

fn errors(body: &Value) -> String {
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
}

/// Logs the pod `shop/checkout` in; the answer's `auth` and a hand with its token.
async fn login(world: &World, method: &str, role: &str) -> (Value, Operator) {
    let volume = world.volume(&[]);
    let jwt = &volume.tokens["vault"].0;
    let nobody = world.operator.with_token("");
    let path = format!("auth/{}-{method}/login", world.name);
    let (status, body) = post(&nobody, &path, json!({ "role": role, "jwt": jwt })).await;
    assert_eq!(status, 200, "{body}");
    let pod = nobody.with_token(body["auth"]["client_token"].as_str().unwrap());
    (body["auth"].clone(), pod)
}

pub async fn kv2_has_versions_and_wraps_data_once_more(world: &World) {
    let (vault, name) = (&world.operator, &world.name);
    let path = format!("{name}-kv/data/contract");
    for value in ["one", "two", "three"] {
        let (status, body) = post(vault, &path, json!({ "data": { "v": value } })).await;
        assert_eq!(status, 200, "{body}");
    }
    let (status, body) = get(vault, &path).await;
    assert_eq!(status, 200);
    assert_eq!(body["data"]["data"], json!({ "v": "three" }));
    assert_eq!(body["data"]["metadata"]["version"], 3);
    assert_eq!(
        (&body["lease_id"], &body["lease_duration"], &body["renewable"]),
        (&json!(""), &json!(0), &json!(false))
    );
    let (_, old) = get(vault, &format!("{path}?version=1")).await;
    assert_eq!(old["data"]["data"]["v"], "one");
    assert_eq!(get(vault, &format!("{path}?version=9")).await, (404, json!({ "errors": [] })));
    assert_eq!(get(vault, &format!("{name}-kv/data/none")).await, (404, json!({ "errors": [] })));
    // A deleted version: 404 with metadata and no data.
    ask(vault, Method::DELETE, &path, Value::Null).await;
    let (status, body) = get(vault, &path).await;
    assert_eq!((status, &body["data"]["data"]), (404, &Value::Null));
    assert_ne!(body["data"]["metadata"]["deletion_time"], "");
    post(vault, &format!("{name}-kv/destroy/contract"), json!({ "versions": [2] })).await;
    let (status, body) = get(vault, &format!("{path}?version=2")).await;
    assert_eq!((status, &body["data"]["metadata"]["destroyed"]), (404, &json!(true)));
    // Without data/ in the path: no data, and a warning.
    let (status, body) = get(vault, &format!("{name}-kv/contract")).await;
    assert_eq!((status, &body["data"]), (404, &Value::Null));
    assert!(body["warnings"][0].as_str().unwrap().contains("Invalid path for a versioned"));
}

pub async fn kv1_tells_a_duration_without_a_lease(world: &World) {
    let (status, body) = get(&world.operator, &format!("{}-v1/app", world.name)).await;
    assert_eq!((status, &body["data"]), (200, &json!({ "user": "bert" })));
    assert_eq!((&body["lease_id"], &body["renewable"]), (&json!(""), &json!(false)));
    assert_eq!(body["lease_duration"], 2_764_800);
    assert_eq!(get(&world.operator, &format!("{}-v1/none", world.name)).await.0, 404);
}

pub async fn the_mount_of_a_path_is_told_to_those_who_may_use_it(world: &World) {
    let name = &world.name;
    let (_, pod) = login(world, "kubernetes", "app").await;
    let (status, body) = get(&pod, &format!("sys/internal/ui/mounts/{name}-kv/app")).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"]["path"], format!("{name}-kv/"));
    assert_eq!(
        (&body["data"]["type"], at(&body, &["data", "options", "version"])),
        (&json!("kv"), &json!("2"))
    );
    let (_, body) = get(&pod, &format!("sys/internal/ui/mounts/{name}-db/creds/app")).await;
    assert_eq!(body["data"]["type"], "database");
    assert_eq!(at(&body, &["data", "options", "version"]), &Value::Null);
    let (status, body) = get(&pod, "sys/internal/ui/mounts/no-such-mount/x").await;
    assert_eq!(status, 403, "{body}");
    assert!(errors(&body).starts_with("preflight capability check returned 403"), "{body}");
}

pub async fn a_login_gives_a_token_with_terms(world: &World) {
    for method in ["kubernetes", "jwt"] {
        let (auth, pod) = login(world, method, "app").await;
        assert_eq!((&auth["lease_duration"], &auth["renewable"]), (&json!(3600), &json!(true)));
        let policies: Vec<_> = auth["policies"].as_array().unwrap().iter().collect();
        assert!(policies.contains(&&json!(world.name)) && policies.contains(&&json!("default")));
        let (status, body) = get(&pod, "auth/token/lookup-self").await;
        let ttl = body["data"]["ttl"].as_u64().unwrap();
        assert!(status == 200 && (3590..=3600).contains(&ttl), "{body}");
        assert_eq!(body["data"]["renewable"], true);
    }
}

pub async fn a_refused_login_says_what_was_wrong(world: &World) {
    let name = &world.name;
    let nobody = world.operator.with_token("");
    let token = |namespace: &str, account: &str, lasts: u64| {
        let mut volume = world.volume(&[]);
        volume.pod.namespace = namespace.to_owned();
        volume.pod.service_account = account.to_owned();
        world.stage.renew_tokens(&mut volume, Duration::from_secs(lasts)).unwrap();
        volume.tokens["vault"].0.clone()
    };
    let role = json!({
        "bound_service_account_names": ["checkout"],
        "bound_service_account_namespaces": ["shop"],
        "audience": "mars",
        "token_policies": [name],
    });
    world.operator.write(&format!("auth/{name}-kubernetes/role/mars"), role).await.unwrap();
    let role = json!({ "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["mars"], "token_policies": [name] });
    world.operator.write(&format!("auth/{name}-jwt/role/mars"), role).await.unwrap();
    let good = token("shop", "checkout", 60);
    let table = [
        ("kubernetes", "nobody", &good, 400, "invalid role name \"nobody\""),
        (
            "kubernetes",
            "app",
            &token("shop", "thief", 60),
            403,
            "service account name not authorized",
        ),
        ("kubernetes", "app", &token("else", "checkout", 60), 403, "namespace not authorized"),
        ("kubernetes", "mars", &good, 403, "audience"),
        ("kubernetes", "app", &token("shop", "checkout", 0), 403, "permission denied"),
        ("jwt", "nobody", &good, 400, "role \"nobody\" could not be found"),
        ("jwt", "app", &token("shop", "thief", 60), 400, "subject"),
        ("jwt", "mars", &good, 400, "audience"),
        ("jwt", "app", &format!("{good}x"), 400, "signature"),
    ];
    for (method, role, jwt, code, said) in table {
        let path = format!("auth/{name}-{method}/login");
        let (status, body) = post(&nobody, &path, json!({ "role": role, "jwt": jwt })).await;
        assert_eq!(status, code, "{method} {role}: {body}");
        assert!(errors(&body).contains(said), "{method} {role}: {body}");
    }
    let (status, body) =
        post(&nobody, "auth/no-such-method/login", json!({ "role": "x", "jwt": "x" })).await;
    assert_eq!((status, errors(&body).as_str()), (403, "permission denied"));
}

pub async fn policies_are_kept(world: &World) {
    let name = &world.name;
    let (_, pod) = login(world, "kubernetes", "app").await;
    assert_eq!(get(&pod, &format!("{name}-kv/data/app")).await.0, 200);
    for (method, path) in [
        (Method::GET, format!("{name}-kv/data/secret-of-others")),
        (Method::GET, format!("{name}-kv/metadata/app")),
        (Method::POST, format!("{name}-kv/data/app")),
        (Method::GET, "sys/mounts".to_owned()),
    ] {
        let (status, body) = ask(&pod, method, &path, json!({})).await;
        assert_eq!(status, 403, "{path}: {body}");
        assert!(errors(&body).contains("permission denied"), "{path}: {body}");
    }
    for token in ["", "hvs.never-made"] {
        let (status, body) = get(&pod.with_token(token), &format!("{name}-kv/data/app")).await;
        assert_eq!((status, errors(&body).as_str()), (403, "permission denied"), "{token:?}");
    }
}

pub async fn leases_are_renewed_up_to_their_maximum_and_die_with_their_token(world: &World) {
    let (vault, name) = (&world.operator, &world.name);
    let role = json!({ "db_name": "shop", "creation_statements": "[\"+@read\"]", "default_ttl": "60s", "max_ttl": "90s" });
    vault.write(&format!("{name}-db/roles/short"), role).await.unwrap();
    let (_, pod) = login(world, "kubernetes", "app").await;
    let (status, body) = get(&pod, &format!("{name}-db/creds/short")).await;
    assert_eq!(
        (status, &body["lease_duration"], &body["renewable"]),
        (200, &json!(60), &json!(true)),
        "{body}"
    );
    assert!(body["data"]["username"].is_string() && body["data"]["password"].is_string());
    let lease = body["lease_id"].as_str().unwrap().to_owned();
    assert!(lease.starts_with(&format!("{name}-db/creds/short/")), "{lease}");
    let (status, body) =
        post(&pod, "sys/leases/renew", json!({ "lease_id": lease, "increment": 30 })).await;
    assert_eq!(
        (status, &body["lease_duration"], &body["lease_id"]),
        (200, &json!(30), &json!(lease)),
        "{body}"
    );
    let (_, body) =
        post(&pod, "sys/leases/renew", json!({ "lease_id": lease, "increment": 3600 })).await;
    let capped = body["lease_duration"].as_u64().unwrap();
    assert!((80..=90).contains(&capped), "{body}");
    let (status, body) =
        post(&pod, "sys/leases/renew", json!({ "lease_id": "no/such/lease" })).await;
    assert_eq!(status, 400);
    assert!(errors(&body).contains("lease not found"), "{body}");
    let (status, _) = get(&pod, &format!("{name}-db/creds/nobody")).await;
    assert_eq!(status, 403);

    let prefix = format!("{name}-db/creds/short");
    assert_eq!(vault.leases(&prefix).await.unwrap().len(), 1);
    assert_eq!(post(&pod, "auth/token/revoke-self", json!({})).await.0, 204);
    let gone = async { while !vault.leases(&prefix).await.unwrap().is_empty() {} };
    tokio::time::timeout(Duration::from_secs(20), gone)
        .await
        .expect("the lease outlived its token");
    assert_eq!(get(&pod, "auth/token/lookup-self").await.0, 403);
}

pub async fn tokens_are_renewed_up_to_their_maximum(world: &World) {
    let name = &world.name;
    let role = json!({
        "bound_service_account_names": "checkout",
        "bound_service_account_namespaces": "shop",
        "token_policies": name,
        "token_ttl": "60s",
        "token_max_ttl": "90s",
    });
    world.operator.write(&format!("auth/{name}-kubernetes/role/brief"), role).await.unwrap();
    let (auth, pod) = login(world, "kubernetes", "brief").await;
    assert_eq!(auth["lease_duration"], 60);
    let (status, body) = post(&pod, "auth/token/renew-self", json!({ "increment": "30s" })).await;
    assert_eq!((status, &body["auth"]["lease_duration"]), (200, &json!(30)), "{body}");
    assert_eq!(body["auth"]["client_token"], auth["client_token"]);
    let (_, body) = post(&pod, "auth/token/renew-self", json!({ "increment": "1h" })).await;
    let capped = body["auth"]["lease_duration"].as_u64().unwrap();
    assert!((80..=90).contains(&capped), "{body}");
}

pub async fn pki_and_transit_answer_writes(world: &World) {
    let name = &world.name;
    let (_, pod) = login(world, "jwt", "app").await;
    let (status, body) = post(
        &pod,
        &format!("{name}-pki/issue/app"),
        json!({ "common_name": "a.test", "ttl": "10m" }),
    )
    .await;
    assert_eq!(status, 200, "{body}");
    for field in ["certificate", "private_key", "issuing_ca"] {
        assert!(body["data"][field].as_str().unwrap().starts_with("-----BEGIN "), "{field}");
    }
    assert!(body["data"]["ca_chain"].is_array() && body["data"]["expiration"].is_u64());
    assert_eq!(body["lease_id"], "", "without generate_lease there is none");
    let (status, body) = post(&pod, &format!("{name}-pki/issue/app"), json!({})).await;
    assert_eq!(status, 400);
    assert!(errors(&body).contains("common_name field is required"), "{body}");

    let path = format!("{name}-transit/encrypt/app");
    let (_, body) = post(&world.operator, &path, json!({ "plaintext": "aGVsbG8=" })).await;
    let sealed = body["data"]["ciphertext"].clone();
    assert!(sealed.as_str().unwrap().starts_with("vault:v1:"));
    let path = format!("{name}-transit/decrypt/app");
    let (_, body) = post(&pod, &path, json!({ "ciphertext": sealed })).await;
    assert_eq!(body["data"]["plaintext"], "aGVsbG8=");
    let (status, _) = post(&pod, &path, json!({ "ciphertext": "vault:v1:AAAA" })).await;
    assert_eq!(status, 400);
}

pub async fn namespaces_keep_apart(world: &World) {
    let (vault, name) = (&world.operator, &world.name);
    let at_ns = |method: Method, namespace: String, path: String, body: Value| async move {
        vault.exchange(method, &path, &namespace, &body).await.unwrap()
    };
    let (team, null) = (format!("{name}-team"), Value::Null);
    let (status, body) = post(vault, &format!("sys/namespaces/{team}"), json!({})).await;
    assert_eq!(status, 200, "{body}");
    let kv = json!({ "type": "kv", "options": { "version": "1" } });
    let (status, body) = at_ns(Method::POST, team.clone(), "sys/mounts/kv".into(), kv).await;
    assert_eq!(status, 204, "{body}");
    at_ns(Method::POST, team.clone(), "kv/app".into(), json!({ "who": "team" })).await;
    let (_, body) = at_ns(Method::GET, team.clone(), "kv/app".into(), null.clone()).await;
    assert_eq!(body["data"]["who"], "team");
    let (_, body) = at_ns(Method::GET, String::new(), format!("{team}/kv/app"), null.clone()).await;
    assert_eq!(body["data"]["who"], "team", "the namespace may be in the path");
    let (status, body) = at_ns(Method::GET, String::new(), "kv/app".into(), null.clone()).await;
    assert_eq!(status, 404);
    assert!(errors(&body).contains("no handler for route"), "{body}");
    let (status, body) = at_ns(Method::GET, "nowhere".into(), "kv/app".into(), null).await;
    assert_eq!(status, 404);
    assert!(errors(&body).contains("namespace not found"), "{body}");
}

pub async fn health_is_told_to_anybody(world: &World) {
    let (status, body) = get(&world.operator.with_token(""), "sys/health").await;
    assert_eq!((status, &body["sealed"], &body["initialized"]), (200, &json!(false), &json!(true)));
}

/// Makes a test of each case over a world.
#[macro_export]
macro_rules! contract_cases {
    ($world:path: $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let world = $world().await;
                $crate::cases::contract::$case(&world).await;
            }
        )*
    };
    ($world:path) => {
        $crate::contract_cases!($world:
            kv2_has_versions_and_wraps_data_once_more,
            kv1_tells_a_duration_without_a_lease,
            the_mount_of_a_path_is_told_to_those_who_may_use_it,
            a_login_gives_a_token_with_terms,
            a_refused_login_says_what_was_wrong,
            policies_are_kept,
            leases_are_renewed_up_to_their_maximum_and_die_with_their_token,
            tokens_are_renewed_up_to_their_maximum,
            pki_and_transit_answer_writes,
            namespaces_keep_apart,
            health_is_told_to_anybody,
        );
    };
}
