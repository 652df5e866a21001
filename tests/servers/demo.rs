//! `keyhole demo --vault`: the story on a real server, which is afterwards as it was before.

use std::process::Command;

use crate::cases::world::program;
use crate::openbao;

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
    for path in ["sys/mounts", "sys/auth", "sys/policies/acl?list=true"] {
        let left = operator.read(path).await.unwrap().to_string();
        assert!(!left.contains("keyhole-demo"), "{path}: {left}");
    }
}
