//! What a person may write, and what they are told when it is wrong.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::secret::request::Verb;
use crate::spec::{Encoding, Field, Format};

fn defaults() -> Defaults {
    let connection = |auth_path: &str| ConnectionDefaults {
        namespace: "team".to_owned(),
        auth_method: AuthMethod::Kubernetes,
        auth_path: auth_path.to_owned(),
    };
    Defaults {
        connection: Some("main".to_owned()),
        connections: BTreeMap::from([
            ("main".to_owned(), connection("kubernetes")),
            ("eu-west".to_owned(), connection("k8s/eu")),
        ]),
    }
}

fn read(pairs: &[(&str, &str)]) -> Result<VolumeSpec, Vec<Mistake>> {
    let map = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    parse(&map, &defaults(), None)
}

fn good(pairs: &[(&str, &str)]) -> VolumeSpec {
    read(pairs).unwrap_or_else(|wrong| panic!("{wrong:?}"))
}

/// The mistakes as the pod's event shows them.
fn bad(pairs: &[(&str, &str)]) -> Vec<String> {
    read(pairs).expect_err("it was accepted").iter().map(ToString::to_string).collect()
}

/// One mistake of a volume that is right but for `key`.
fn only(key: &str, value: &str) -> String {
    let mut pairs = vec![("role", "app"), ("f/secret", "kv/app")];
    pairs.retain(|(had, _)| *had != key);
    pairs.push((key, value));
    let told = bad(&pairs);
    assert_eq!(told.len(), 1, "{told:?}");
    told.concat()
}

#[test]
fn the_smallest_volume_takes_everything_else_from_the_connection() {
    let spec = good(&[("role", "app"), ("f/secret", "kv/app")]);
    assert_eq!(spec.role, "app");
    assert_eq!(spec.connection, "main");
    assert_eq!((spec.namespace.as_str(), spec.auth_path.as_str()), ("team", "kubernetes"));
    assert_eq!((spec.auth_method, spec.audience.as_str()), (AuthMethod::Kubernetes, "vault"));
    assert_eq!(spec.on_start, OnStart::Check);
    let [file] = spec.files.as_slice() else { panic!("{} files", spec.files.len()) };
    assert_eq!((file.name.as_str(), file.secret.path.as_str()), ("f", "kv/app"));
    assert_eq!(
        (&file.field, file.format, file.encoding),
        (&Field::All, Format::Json, Encoding::Plain)
    );
    assert_eq!((file.mode, file.uid, file.gid, file.refresh), (0o444, 0, 0, None));
    assert_eq!(file.secret.verb, Verb::Read);
}

#[test]
fn every_key_is_taken() {
    let spec = good(&[
        ("role", "app"),
        ("vault", "eu-west"),
        ("namespace", "/payments/eu/"),
        ("authMethod", "jwt"),
        ("authPath", "jwt-eu"),
        ("audience", "https://vault"),
        ("onStart", "fetch"),
        ("refresh", "1h30m"),
        ("tls/app.crt/secret", "pki/issue/app"),
        ("tls/app.crt/method", "put"),
        ("tls/app.crt/args", r#"{"common_name":"app","ttl":60}"#),
        ("tls/app.crt/field", "certificate"),
        ("tls/app.crt/mode", "0400"),
        ("tls/app.crt/uid", "1000"),
        ("tls/app.crt/gid", "2000"),
        ("tls/app.crt/refresh", "never"),
        ("db.env/secret", "kv/data/db?version=3"),
        ("db.env/format", "dotenv"),
        ("key/secret", "kv/key"),
        ("key/field", "der"),
        ("key/encoding", "base64"),
        ("csi.storage.k8s.io/pod.name", "ignored"),
    ]);
    assert_eq!((spec.connection.as_str(), spec.namespace.as_str()), ("eu-west", "payments/eu"));
    assert_eq!((spec.auth_method, spec.auth_path.as_str()), (AuthMethod::Jwt, "jwt-eu"));
    assert_eq!((spec.audience.as_str(), spec.on_start), ("https://vault", OnStart::Fetch));
    let [db, key, crt] = spec.files.as_slice() else { panic!("{} files", spec.files.len()) };
    assert_eq!(db.format, Format::Dotenv);
    assert_eq!(db.secret.query, BTreeMap::from([("version".to_owned(), "3".to_owned())]));
    assert_eq!(db.refresh, Some(Duration::from_secs(5400)));
    assert_eq!((&key.field, key.encoding), (&Field::One("der".to_owned()), Encoding::Base64));
    assert_eq!((crt.secret.verb, crt.mode, crt.uid, crt.gid), (Verb::Write, 0o400, 1000, 2000));
    let args = [("common_name", "app"), ("ttl", "60")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(crt.secret.args, BTreeMap::from(args));
    assert_eq!(crt.refresh, None);
}

#[test]
fn another_method_than_the_connections_is_mounted_at_its_own_name() {
    let spec = good(&[("role", "a"), ("authMethod", "jwt"), ("f/secret", "kv/a")]);
    assert_eq!(spec.auth_path, "jwt");
    let spec = good(&[("role", "a"), ("vault", "eu-west"), ("f/secret", "kv/a")]);
    assert_eq!(spec.auth_path, "k8s/eu");
}

#[test]
fn files_belong_to_the_pods_group_when_it_has_one() {
    let map = [("role", "app"), ("f/secret", "kv/app"), ("g/secret", "kv/g"), ("g/gid", "7")];
    let map = map.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let spec = parse(&map, &defaults(), Some(3000)).unwrap();
    let shown: Vec<_> = spec.files.iter().map(|file| (file.gid, file.mode)).collect();
    assert_eq!(shown, [(3000, 0o440), (7, 0o440)]);
}

#[test]
fn all_mistakes_come_at_once_each_with_its_key_and_what_to_write() {
    assert_eq!(
        bad(&[
            ("rolle", "app"),
            ("authMethod", "kubernetis"),
            ("db/secret", "/v1/kv/db"),
            ("db/mode", "999"),
            ("db/colour", "red"),
            ("tls/format", "yml"),
        ]),
        [
            "authMethod: \"kubernetis\" is none of its values; did you mean `kubernetes`?",
            "db/colour: unknown option `colour`; known are secret, field, format, method, args, encoding, mode, uid, gid, refresh",
            "db/mode: \"999\" is no octal number; write one, like 0440",
            "db/secret: begins with /v1/; write `kv/db`",
            "role: missing; name the Vault role that the pod logs in with",
            "rolle: unknown option `rolle`; did you mean `role`?",
            "tls/format: \"yml\" is none of its values; did you mean `yaml`?",
            "tls/secret: missing; write the path in Vault that the file shows",
        ]
    );
}

#[test]
fn no_attributes_at_all_say_what_is_needed() {
    assert_eq!(
        bad(&[]),
        [
            "role: missing; name the Vault role that the pod logs in with",
            "volumeAttributes: the volume has no file; write `<file>/secret: <path in Vault>`",
        ]
    );
}

#[test]
fn options_at_the_wrong_level_are_told_where_they_belong() {
    assert_eq!(
        only("secret", "kv/a"),
        "secret: `secret` is an option of a file; write `<file>/secret`"
    );
    assert_eq!(only("f/role", "a"), "f/role: `role` is an option of the volume; write `role`");
}

#[test]
fn what_comes_later_is_a_clear_not_yet() {
    for option in ["template", "leftDelimiter", "rightDelimiter", "errorOnMissingKey", "signal"] {
        let told = only(&format!("f/{option}"), "x");
        assert_eq!(told, format!("f/{option}: `{option}` is not supported by this version yet"));
    }
    assert!(only("vault.hashicorp.com/role", "a").contains("not supported by this version yet"));
    assert!(only("roleName", "a").ends_with("; write `role`"));
}

#[test]
fn wrong_values_say_what_is_right() {
    for (key, value, told) in [
        ("role", "", "is empty; name one"),
        ("vault", "eu-wset", "did you mean `eu-west`?"),
        ("vault", "nowhere", "it has eu-west, main"),
        ("authPath", "auth/kubernetes", "begins with auth/; write `kubernetes`"),
        ("onStart", "eager", "write one of check, lazy, fetch"),
        ("refresh", "10", "\"10\" is no duration; write one like 30s"),
        ("refresh", "10ms", "is shorter than 1s"),
        ("f/secret", "kv/../sys", "has an empty, `.` or `..` part"),
        ("f/secret", "", "is empty; write a path in Vault"),
        ("f/secret", "kv/a?3", "write `?version=3`"),
        ("f/field", "", "name a field, or `*`"),
        ("f/mode", "04755", "no set-uid"),
        ("f/uid", "root", "write a number, like 1000"),
        ("f/gid", "4294967295", "write a number, like 1000"),
        ("f/format", "toml", "write one of json, raw"),
        ("f/encoding", "base64", "decodes a field, and the file shows all; add `field`"),
        ("f/args", "a=b", "needs a write; add `method: PUT`"),
        ("f/method", "DELETE", "is none of its values"),
    ] {
        let all = only(key, value);
        assert!(all.starts_with(&format!("{key}: ")) && all.contains(told), "{key}={value}: {all}");
    }
}

#[test]
fn names_that_a_volume_cannot_have() {
    for (name, told) in [
        ("", "the file has no name"),
        ("/etc/passwd", "cannot begin with /"),
        ("a//b", "cannot have an empty part"),
        ("../a", "begin with .. are reserved"),
        ("a/./b", "`.` is no name"),
        ("..data/x", "begin with .. are reserved"),
        (".keyhole/status.json", "reserved for the volume's status"),
        ("a\0b", "cannot have control characters"),
        (&"x".repeat(256), "255 bytes at most"),
        (&vec!["d"; 17].join("/"), "16 parts at most"),
    ] {
        let told_all = bad(&[("role", "a"), (&format!("{name}/secret"), "kv/a")]);
        assert!(told_all.len() == 1 && told_all.concat().contains(told), "{name:?}: {told_all:?}");
    }
    let longest = vec!["d"; 16].join("/");
    good(&[("role", "a"), (&format!("{longest}/secret"), "kv/a")]);
}

#[test]
fn a_file_cannot_be_a_folder_as_well() {
    let told = bad(&[("role", "a"), ("tls/secret", "kv/a"), ("tls/key/secret", "kv/b")]);
    assert_eq!(
        told,
        ["tls: is a file and cannot be the folder of \"tls/key\" as well; rename one of them"]
    );
    let each = ("tls/field", "*");
    let told = bad(&[("role", "a"), ("tls/secret", "kv/a"), each, ("tls/key/secret", "kv/b")]);
    assert!(told.concat().contains("is a folder with a file per field"), "{told:?}");
}

#[test]
fn the_number_of_files_has_a_limit() {
    let volume = |count: usize| {
        let mut map = BTreeMap::from([("role".to_owned(), "a".to_owned())]);
        map.extend((0..count).map(|at| (format!("f{at}/secret"), "kv/a".to_owned())));
        parse(&map, &defaults(), None)
            .map_err(|wrong| wrong.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(volume(256).unwrap().files.len(), 256);
    assert_eq!(
        volume(257).unwrap_err(),
        [
            "volumeAttributes: 257 files are more than the 256 that are allowed; split the volume in two"
        ]
    );
}

#[test]
fn without_a_default_connection_the_volume_must_name_one() {
    let none = Defaults { connection: None, ..defaults() };
    let map = BTreeMap::from([("role".into(), "a".into()), ("f/secret".into(), "kv/a".into())]);
    let told = parse(&map, &none, None).unwrap_err();
    assert_eq!(
        told.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["vault: missing: the driver has no default connection; name one of eu-west, main"]
    );
}

proptest! {
    #[test]
    fn any_map_gives_an_answer(pairs in prop::collection::btree_map("[ -~]{0,12}(/secret|/mode|/args|/refresh)?", "\\PC{0,24}", 0..6)) {
        let answer = parse(&pairs, &defaults(), None);
        prop_assert!(answer.is_ok() || answer.is_err_and(|mistakes| !mistakes.is_empty()));
    }
}
