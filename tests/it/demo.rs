//! `keyhole demo` itself: the story to its end, and `--hold`.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::cases::world::program;

#[test]
fn the_story_is_played_to_its_end() {
    let output = Command::new(program()).arg("demo").output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    // In this order.
    let mut rest = told.as_str();
    for part in [
        "fake Vault at http://127.0.0.1:",
        "the driver is ready",
        "NodePublishVolume",
        "cat stripe-key",
        "sk_demo_",
        "cat app.env",
        "USER='checkout'",
        "app/REGION:eu-1",
        "\"username\"",
        "ls -lL: true sizes",
        "-r--r--r-- 1 root root 32",
        "\"leased\": true",
        "kill -9 of the driver, 10 times",
        "an upgrade: a second driver",
        "the keeper restarts",
        "kill -9 of the driver once more",
        "errors: 0, longest pause: ",
        "MountVolume.SetUp failed for volume",
        "role \"nobody-has-this-role\" could not be found",
        "Vault is stopped; what was fetched is read as before",
        "NodeUnpublishVolume; unmounted",
        "the token is revoked, and the database credential's lease with it",
        "the driver stops",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part} does not come in\n{told}"));
        rest = &rest[at + part.len()..];
    }
}

#[test]
fn hold_leaves_the_volume_until_it_is_interrupted() {
    let mut child =
        Command::new(program()).args(["demo", "--hold"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let shell = lines.find(|line| line.contains("exec nsenter")).expect("it says what to try");
    lines.find(|line| line.trim_start().starts_with("ls -l ")).expect("it says what to try");
    // The shell that it offers is one in the pod.
    let shell = shell.trim().replace(" sh\"", " cat stripe-key\"");
    let read = Command::new("sh").args(["-c", &shell]).output().unwrap();
    assert!(String::from_utf8_lossy(&read.stdout).starts_with("sk_demo_"), "{shell}: {read:?}");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(lines.any(|line| line.contains("the driver stops")));
    assert!(child.wait().unwrap().success());
}
