//! Programs read in every way that they read files on a disk.

use std::process::Stdio;
use std::time::Duration;

use keyhole::fake_vault::faults::{Fault, How};
use keyhole::fake_vault::kind::Kind;

use crate::cases::world::{USER, World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_first_opens_are_one_request() {
    let world = World::fake().await;
    world.vault().fault(Fault::new(How::Latency(Duration::from_millis(300))).at(Kind::Secret));
    let (_volume, pod) = world.mounted(&USER).await;
    let script = r#"
import threading
got = []
start = threading.Barrier(1000)
def read():
    start.wait()
    with open("f") as file:
        got.append(file.read())
threads = [threading.Thread(target=read) for _ in range(1000)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert got == ["anna"] * 1000, set(got)
"#;
    pod.output(&["python3", "-c", script]).unwrap();
    assert_eq!(world.vault().count(Kind::Secret), 1);
    assert_eq!(world.vault().count(Kind::Login), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_killed_or_leaves_early_harms_nobody() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[
            ("f/secret", "{}-kv/app"),
            ("f/field", "user"),
            ("g/secret", "{}-kv/other"),
            ("g/field", "key"),
        ])
        .await;
    world.vault().fault(Fault::new(How::Hang).at(Kind::Secret).on("/app"));
    let mut waiting = pod.command(&["cat", "f"]).stderr(Stdio::null()).spawn().unwrap();
    world.vault().received(Kind::Secret, 1).await;
    waiting.kill().unwrap();
    // Another file is not held up by the one that hangs.
    assert_eq!(world.cat(&pod, "g"), "value");
    world.vault().mend();
    assert!(!waiting.wait().unwrap().success());
    assert_eq!(world.cat(&pod, "f"), "anna");
    // Opened and closed without a read, many times.
    pod.output(&["python3", "-c", "for _ in range(2000): open('f').close()"]).unwrap();
    assert_eq!(world.cat(&pod, "f"), "anna");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_are_the_same_in_every_way_of_reading() {
    let world = World::fake().await;
    // Larger than a page and than one FUSE read, and no round number.
    let long: String = "abcdefghijklmnopqrstuvw".chars().cycle().take(300_007).collect();
    world
        .put("long", serde_json::json!({ "v": long, "empty": "", "bytes": "\u{0}\u{7f}\u{e9}" }))
        .await;
    let (_volume, pod) = world
        .mounted(&[
            ("long/secret", "{}-kv/long"),
            ("long/field", "v"),
            ("empty/secret", "{}-kv/long"),
            ("empty/field", "empty"),
            ("bytes/secret", "{}-kv/long"),
            ("bytes/field", "bytes"),
        ])
        .await;
    let script = r#"
import mmap, os
want = bytes(97 + at % 23 for at in range(300007))
def check(name, got, wanted=want):
    assert got == wanted, (name, len(got), len(wanted))
file = os.open("long", os.O_RDONLY)
check("whole", open("long", "rb").read())
check("fstat", b"x" * os.fstat(file).st_size, b"x" * len(want))
for at, size in [(0, 1), (1, 3), (4095, 2), (131071, 70000), (300006, 10), (300007, 10), (10**9, 5)]:
    check(("pread", at), os.pread(file, size, at), want[at:at + size])
with mmap.mmap(file, 0, prot=mmap.PROT_READ) as mapped:
    check("mmap", mapped[:])
    check("mmap tail", mapped[299999:], want[299999:])
with mmap.mmap(file, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
    check("private mmap", mapped[4090:5000], want[4090:5000])
reader, writer = os.pipe()
sent = os.sendfile(writer, file, 1000, 30000)
check("sendfile", os.read(reader, sent), want[1000:1000 + sent])
sent = os.splice(file, writer, 20000, offset_src=5)
check("splice", os.read(reader, sent), want[5:5 + sent])
direct = os.open("long", os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 400 * 1024)
read = os.readv(direct, [buffer])
assert read > 0
check("O_DIRECT", buffer[:read], want[:read])
os.lseek(file, -7, os.SEEK_END)
check("lseek", os.read(file, 100), want[-7:])
check("empty", open("empty", "rb").read(), b"")
check("bytes", open("bytes", "rb").read(), "\0\x7f\u00e9".encode())
"#;
    pod.output(&["python3", "-c", script]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_usual_tools_work() {
    let world = World::fake().await;
    let (_volume, pod) = world
        .mounted(&[
            ("app/user/secret", "{}-kv/app"),
            ("app/user/field", "user"),
            ("app/all/secret", "{}-kv/app"),
            ("each/secret", "{}-kv/other"),
            ("each/field", "*"),
        ])
        .await;
    let run = |script: &str| {
        pod.output(&["sh", "-ec", script])
            .unwrap_or_else(|error| panic!("{error}\n{}", world.log()))
    };
    assert_eq!(run("grep -rl anna . | sort"), "./..1/app/all\n./..1/app/user\n");
    assert_eq!(run("grep -Rh value each/"), "value\n");
    assert_eq!(run("find -L . -name user -type f | sort | tail -1"), "./app/user\n");
    assert_eq!(run("wc -c <app/user"), "4\n");
    let copied =
        run("t=$(mktemp -d); cp -a . $t/; readlink $t/app; cat $t/app/user $t/each/key; rm -r $t");
    assert_eq!(copied, "..data/app\nannavalue");
    let packed = run("t=$(mktemp -d); tar cf - . | tar xf - -C $t; cat $t/app/user; rm -r $t");
    assert_eq!(packed, "anna");
    assert_eq!(run("tar chf - app/user | tar xOf -"), "anna", "tar takes the size from stat");
    assert_eq!(
        run("test -r app/user && test ! -w app/user && test ! -e .hidden && echo fine"),
        "fine\n"
    );
    for change in [
        "echo x >app/user",
        "echo x >new",
        "rm app",
        "mkdir new",
        "mv app new",
        "ln -s x new",
        "chmod 777 ..data/app/user",
        "touch app/user",
        "truncate -s 0 app/user",
    ] {
        let output = pod.run(&["sh", "-c", change]).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && said.contains("Read-only file system"),
            "{change}: {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_follows_a_name_into_the_next_version() {
    let world = World::fake().await;
    world.put("turns", serde_json::json!({ "v": "first\n" })).await;
    let (_volume, pod) = world
        .mounted(&[("turns/secret", "{}-kv/turns"), ("turns/field", "v"), ("turns/refresh", "1s")])
        .await;
    let mut tail = pod
        .command(&["tail", "---disable-inotify", "-s", "0.1", "-n", "+1", "-F", "turns"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(tail.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    world.put("turns", serde_json::json!({ "v": "and the second\n" })).await;
    let next = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap());
    let next = tokio::time::timeout(Duration::from_secs(20), next).await.expect("tail saw nothing");
    assert_eq!(next.unwrap(), "and the second");
    tail.kill().unwrap();
    tail.wait().unwrap();
}
