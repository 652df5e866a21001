//! TLS to a real server: the CA that the operator names, no other, and a change of it without a restart.

use std::process::{Command, Stdio};
use std::time::Duration;

use keyhole::demo::pod::Pod;
use keyhole::demo::stage::Stage;

use crate::cases::world::program;
use crate::openbao::{free_port, spawn, tool};

const WAIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_named_authority_is_trusted_and_a_new_one_is_taken_up() {
    keyhole::vault::tls::install_crypto();
    let mut stage = Stage::new(program()).unwrap();
    let certs = stage.path("certs");
    std::fs::create_dir(&certs).unwrap();
    let port = free_port();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(tool("bao"));
    command.args(["server", "-dev-tls", "-dev-no-store-token", "-log-level=warn"]);
    command.arg(format!("-dev-tls-cert-dir={}", certs.display()));
    command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    spawn(command);
    let up = async {
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up).await.expect("OpenBao does not come up");

    let (ca, theirs) = (stage.path("ca.pem"), certs.join("vault-ca.pem"));
    let stranger = rcgen::generate_simple_self_signed(vec!["stranger".to_owned()]).unwrap();
    std::fs::write(&ca, stranger.cert.pem()).unwrap();
    stage
        .configure(&format!(
            "defaultVault: main\nvaults:\n  main:\n    address: https://127.0.0.1:{port}\n    caFile: {}\n",
            ca.display()
        ))
        .unwrap();
    stage.start().await.unwrap();
    let kubelet = stage.kubelet().unwrap();
    let volume = stage.volume(0x7157, &[("role", "app"), ("f/secret", "secret/f")]).unwrap();
    kubelet.publish(&volume).await.unwrap();
    let warning = |pod: &Pod| pod.output(&["cat", ".keyhole/status.json"]).unwrap();
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    let told = warning(&pod);
    assert!(told.contains("no trusted TLS connection to Vault"), "{told}");
    drop(pod);
    kubelet.unpublish(&volume.id, &volume.target).await.unwrap();

    // The operator puts the right one in its place.
    std::fs::rename(&theirs, &ca).unwrap();
    stage.driver().unwrap().logged("is taken up", WAIT).unwrap();
    // No such auth method there: what Vault says, it says over a connection that is trusted.
    kubelet.publish(&volume).await.unwrap();
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    let told = warning(&pod);
    assert!(told.contains("permission denied (403)"), "{told}");
}
