//! csi-sanity against the real driver, and our protos against the published ones.

use std::process::Command;

use keyhole::csi::client::publish_request;

use crate::cases::world::World;
use crate::openbao::tool;

/// Everything that csi-sanity has for a node plugin, without a list of exceptions. The controller half of the
/// socket is a stub that lives in the tests: it makes volumes up, we mount them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn csi_sanity_finds_nothing() {
    let world = World::fake().await;
    let volume = world.volume(&[("f/secret", "{}-kv/app")]);
    let request = publish_request(&volume);
    let driver = world.stage.kubelet_dir().join("plugins/csi.keyhole.dev/csi.sock");
    let (socket, parameters) = (world.stage.path("stub.sock"), world.stage.path("parameters.yaml"));
    // JSON is YAML. Before Kubernetes 1.35 the tokens come in the volume context too.
    let context: std::collections::BTreeMap<_, _> =
        request.volume_context.iter().chain(&request.secrets).collect();
    std::fs::write(&parameters, serde_json::to_string(&context).unwrap()).unwrap();
    let mut stub = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(tool("stub"))
        .arg("-listen")
        .arg(&socket)
        .arg("-driver")
        .arg(&driver)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = String::new();
    let mut stdout = std::io::BufReader::new(stub.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut up).unwrap();
    let pods = world.stage.kubelet_dir().join("pods");
    std::fs::create_dir_all(&pods).unwrap();
    let sanity = Command::new(tool("csi-sanity"))
        .arg(format!("--csi.endpoint={}", socket.display()))
        .arg(format!("--csi.mountdir={}", pods.join("target").display()))
        .arg(format!("--csi.stagingdir={}", pods.join("staging").display()))
        .arg(format!("--csi.testvolumeparameters={}", parameters.display()))
        .arg("--ginkgo.no-color")
        .output()
        .unwrap();
    stub.kill().unwrap();
    stub.wait().unwrap();
    let text = String::from_utf8_lossy(&sanity.stdout);
    assert!(sanity.status.success(), "{text}\n{}", world.log());
    assert!(text.contains("0 Failed") && !text.contains("Ran 0 of"), "{text}");
}

/// Names, types, numbers and paths of what we serve, against the specification's own Go module.
#[test]
fn the_protos_are_wire_compatible_with_the_published_ones() {
    let ours = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ours.path(), keyhole::csi::proto::DESCRIPTORS).unwrap();
    let output = Command::new(tool("wire")).arg(ours.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
