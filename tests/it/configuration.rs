//! The driver's flags and file: mistakes with their lines, changes without a restart, no stray variable.

use std::process::{Command, Output};
use std::time::Duration;

use keyhole::fake_vault::FakeVault;
use keyhole::fake_vault::kind::Kind;

use crate::cases::world::{World, program};

const WAIT: Duration = Duration::from_secs(10);

fn driver(config: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    Command::new(program())
        .args(["driver", "--node-name", "n", "--admin-listen", "127.0.0.1:0"])
        .args(arguments)
        .env("KEYHOLE_CONFIG", &file)
        .output()
        .unwrap()
}

#[test]
fn a_wrong_file_prints_every_mistake_with_its_line_and_exits_2() {
    let output = driver(
        "driverName: Bad_Name\nvaults:\n  main:\n    adress: http://v\n    gate: opne\n",
        &[],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in [
        "config.yaml:1: driverName",
        "vaults.main.address: missing",
        "config.yaml:4: vaults.main.adress: unknown key; did you mean `address`?",
        "config.yaml:5: vaults.main.gate: \"opne\" is none of its values",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let output = driver("vaults: [", &[]);
    assert_eq!(output.status.code(), Some(2));
    let output = driver("vaults: {main: {address: \"https://v\", caFile: /no/such/file}}", &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("/no/such/file"), "{said}");
    let output = driver("vaults: {}", &["--log-level", "a=b=c"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    let output =
        Command::new(program()).arg("driver").env_remove("KEYHOLE_NODE_NAME").output().unwrap();
    assert_eq!(output.status.code(), Some(2), "--node-name is required");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_is_taken_up_and_a_wrong_one_is_not() {
    let world = World::fake().await;
    let (_volume, pod) =
        world.mounted(&[("onStart", "lazy"), ("f/secret", "{}-kv/app"), ("f/field", "user")]).await;
    let driver = world.stage.driver().unwrap();
    world.stage.configure("vaults: {main: {gate: nonsense}}").unwrap();
    let line = driver.logged("the old one stays in force", WAIT).unwrap();
    assert!(line.contains("config.yaml:1"), "{line}");
    assert_eq!(world.cat(&pod, "f"), "anna", "the old one is in force");

    // Another address: the next request goes there.
    let other = FakeVault::start().await.unwrap();
    let config = world.config("").replace(&world.address, &other.address());
    world.stage.configure(&config).unwrap();
    driver.logged("is taken up", WAIT).unwrap();
    world.refused(&world.volume(&[("onStart", "fetch"), ("f/secret", "x/y")])).await;
    assert!(other.count(Kind::Login) >= 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_of_vaults_client_and_of_proxies_have_no_effect() {
    let world = World::fake().await;
    let trap = FakeVault::start().await.unwrap();
    let mut volume = world.volume(&[("onStart", "fetch"), ("f/secret", "{}-kv/app")]);
    let config = world.config("");
    // Another driver on the same configuration, with every variable set.
    let stage = keyhole::demo::stage::Stage::new(program()).unwrap();
    stage.configure(&config).unwrap();
    volume.target = stage.kubelet_dir().join("pods/p/volumes/kubernetes.io~csi/s/mount");
    std::fs::create_dir_all(volume.target.parent().unwrap()).unwrap();
    let trapped = trap.address();
    let mut child = Command::new("setpriv");
    child.args(["--pdeathsig", "KILL"]).arg(program()).arg("driver").args(stage.flags());
    child.args(["--admin-listen", "127.0.0.1:0", "--log-level", "error"]);
    for name in [
        "VAULT_ADDR",
        "BAO_ADDR",
        "VAULT_PROXY_ADDR",
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        child.env(name, &trapped);
    }
    child
        .env("VAULT_TOKEN", "stray")
        .env("VAULT_NAMESPACE", "stray")
        .env("VAULT_CACERT", "/no/such");
    let mut child = child.spawn().unwrap();
    let socket = stage.kubelet_dir().join("plugins/csi.keyhole.dev/csi.sock");
    let kubelet = async {
        loop {
            if let Ok(kubelet) = keyhole::csi::client::Kubelet::connect(&socket).await {
                return kubelet;
            }
            tokio::task::yield_now().await;
        }
    };
    let kubelet = tokio::time::timeout(WAIT, kubelet).await.unwrap();
    kubelet.publish(&volume).await.unwrap();
    kubelet.unpublish(&volume.id, &volume.target).await.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let strays = [Kind::Login, Kind::Secret, Kind::Other, Kind::Mount].map(|kind| trap.count(kind));
    assert_eq!(strays, [0; 4]);
}
