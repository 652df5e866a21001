//! `keyhole demo --vault`: the story on a real server, which is afterwards as it was before.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use keyhole::demo::operator::Operator;

use crate::cases::world::program;
use crate::openbao;

// One test: its mounts have one name, whoever plays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_story_is_played_on_openbao_and_nothing_of_it_stays() {
    let operator = openbao::operator().await;
    let output = Command::new(program())
        .args(["demo", "--vault", openbao::address().as_str(), "--token", openbao::TOKEN])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    for part in ["sk_demo_", "could not be found", "removed from Vault"] {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    nothing_stays(&operator).await;

    // Interrupted as soon as something is made there.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(program())
        .args(["demo", "--vault", openbao::address().as_str()])
        .env("KEYHOLE_DEMO_TOKEN", openbao::TOKEN)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("has a KV 2 mount"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(
        !lines.any(|line| line.unwrap().contains("the driver stops")),
        "it was not interrupted"
    );
    assert_eq!(child.wait().unwrap().code(), Some(1));
    nothing_stays(&operator).await;
}

async fn nothing_stays(operator: &Operator) {
    for path in ["sys/mounts", "sys/auth", "sys/policies/acl?list=true"] {
        let left = operator.read(path).await.unwrap().to_string();
        assert!(!left.contains("keyhole-demo"), "{path}: {left}");
    }
}
