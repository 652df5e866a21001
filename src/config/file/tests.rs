//! Files that are right, and files that are wrong in many places.

use super::*;
use crate::identity::session::AuthMethod;

fn mistakes(text: &str) -> Vec<String> {
    parse(text, "c.yaml").err().unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn a_small_file_gets_every_default() {
    let config = parse("vaults: {main: {address: 'https://vault:8200/'}}", "c").ok().unwrap();
    assert_eq!(config.driver_name, "csi.keyhole.dev");
    assert_eq!(config.default_vault.as_deref(), Some("main"));
    let main = config.connection("main").unwrap();
    assert_eq!(main.address, "https://vault:8200");
    assert_eq!((main.auth_method, main.auth_path.as_str()), (AuthMethod::Kubernetes, "kubernetes"));
    assert_eq!(main.timeouts.request, Duration::from_secs(5));
    assert_eq!((main.budget.in_flight, main.gate), (64, Gate::Enforce));
    assert!(main.allowed_roles.is_empty());
}

#[test]
fn a_full_file_is_read_whole() {
    let text = r#"
driverName: csi.example.com
defaultVault: eu
vaults:
  eu:
    address: https://vault.example.com/prefix
    caFile: /ca.pem
    clientCertFile: /cert.pem
    clientKeyFile: /key.pem
    tlsServerName: vault
    namespace: team/a/
    authMethod: jwt
    timeouts: {connect: 500ms, request: 3s}
    budget: {inFlight: 8, perSecond: 20}
    allowedNamespaces: ["shop-*", pay]
    allowedRoles: [app]
    gate: audit
  us: {address: http://127.0.0.1:8200, authPath: k8s-us, gate: off}
"#;
    let config = parse(text, "c").unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let eu = config.connection("eu").unwrap();
    assert_eq!(eu.address, "https://vault.example.com/prefix");
    assert_eq!((eu.namespace.as_str(), eu.auth_path.as_str()), ("team/a", "jwt"));
    assert_eq!(eu.timeouts.connect, Duration::from_millis(500));
    assert_eq!((eu.budget.in_flight, eu.budget.per_second), (8, 20));
    assert_eq!(eu.allowed_namespaces, ["shop-*", "pay"]);
    assert_eq!(eu.gate, Gate::Audit);
    let us = config.connection("us").unwrap();
    assert_eq!((us.auth_path.as_str(), us.gate), ("k8s-us", Gate::Off));
    assert_eq!(config.defaults().connection.as_deref(), Some("eu"));
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let text = "driverName: no_name\ndefaultVault: mian\nvaults:\n  main:\n    adress: https://v\n    gate: enforced\n    timeouts: {request: soon, connct: 1s}\n    budget: 5\n    caFile: ca.pem\n    clientKeyFile: /k\n    allowedRoles: app\nextra: 1\n";
    assert_eq!(
        mistakes(text),
        [
            "c.yaml:1: driverName: \"no_name\" is no name of a CSI driver; write a DNS name of at most 63 characters",
            "c.yaml:2: defaultVault: \"mian\" is not among the vaults; did you mean `main`?",
            "c.yaml:4: vaults.main.address: missing; write it, like https://vault:8200",
            "c.yaml:5: vaults.main.adress: unknown key; did you mean `address`?",
            "c.yaml:6: vaults.main.gate: \"enforced\" is none of its values; did you mean `enforce`?",
            "c.yaml:7: vaults.main.timeouts.request: \"soon\" is no duration; write one like 30s, 5m or 1h30m",
            "c.yaml:7: vaults.main.timeouts.connct: unknown key; did you mean `connect`?",
            "c.yaml:8: vaults.main.budget: is no mapping; write `key: value` lines",
            "c.yaml:9: vaults.main.caFile: \"ca.pem\" is no absolute path; write it from / on",
            "c.yaml:10: clientCertFile and clientKeyFile go together; write both or none",
            "c.yaml:11: vaults.main.allowedRoles: is no list of texts; write [\"one\", \"two\"]",
            "c.yaml:12: extra: unknown key; known are defaultVault, driverName, vaults",
        ]
    );
}

#[test]
fn addresses_are_checked() {
    for (address, part) in [
        ("vault:8200", "does not begin with"),
        ("ftp://vault", "does not begin with"),
        ("https://user:pass@vault", "user name"),
        ("https://vault/v1", "ends with /v1"),
        ("https://vault?x=1", "? or #"),
        ("https://", "address"),
    ] {
        let told = mistakes(&format!("vaults: {{m: {{address: '{address}'}}}}"));
        assert!(told[0].contains(part), "{address}: {told:?}");
        assert!(!told[0].contains("pass"), "{told:?}");
    }
}

#[test]
fn what_is_no_configuration_says_so() {
    assert!(
        mistakes("vaults: {a: {address: https://v}, a: {address: https://w}}")[0]
            .contains("duplicated key")
    );
    assert!(mistakes("a: [")[0].contains("is no YAML"));
    assert!(mistakes("")[0].contains("0 YAML documents"));
    assert!(mistakes("- 1")[0].contains("is no mapping"));
    assert!(mistakes("vaults:")[0].contains("vaults: missing"));
}
