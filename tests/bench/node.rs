//! The node: a driver, a fake Vault, volumes; what is measured from outside the pod.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyhole::csi::client::InlineVolume;
use keyhole::demo::operator::Operator;
use keyhole::demo::pod::Pod;
use keyhole::demo::stage::Stage;
use keyhole::fake_vault::{FakeVault, ROOT};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::reader::median;

/// Volumes of one node in the large measurement.
const MANY: u32 = 500;
/// Calls that kubelet has under way at a time.
pub const PARALLEL: usize = 16;
/// Files of the volume for first reads.
const FIRSTS: usize = 200;

pub type Figures = Vec<(String, f64)>;

pub struct Node {
    address: String,
    pub stage: Stage,
    /// What answers at the address.
    vault: Vault,
}

enum Vault {
    Fake(FakeVault),
    OpenBao(Child),
}

impl Drop for Vault {
    fn drop(&mut self) {
        match self {
            Self::Fake(fake) => fake.stop(),
            Self::OpenBao(child) => {
                drop(child.kill());
                drop(child.wait());
            }
        }
    }
}

/// All figures whose name holds one of `words`; all without words.
pub async fn measure(words: &[String]) -> Figures {
    let wanted = |names: &[&str]| {
        words.is_empty()
            || words.iter().any(|word| names.iter().any(|name| name.contains(word.as_str())))
    };
    let mut figures = Vec::new();
    if wanted(&["warm_read_ratio_1t", "warm_read_ratio_4t"]) {
        figures.extend(warm(&node().await).await);
    }
    if wanted(&["first_read_ratio"]) {
        figures.extend(first(&on_openbao().await, "").await);
        // The fake answers in the time of a few context switches, as no Vault does: the worst case.
        figures.extend(first(&node().await, "_fake").await);
    }
    if wanted(&["publish_p50_ms", "publish_p99_ms"]) {
        figures.extend(publish(&node().await).await);
    }
    let of_many =
        ["publish_500_s", "rss_per_volume_kib", "threads", "idle_cpu_pct", "rss_keeper_500_mib"];
    if wanted(&of_many) {
        figures.extend(many(&node().await).await);
    }
    let outlive = ["restart_250_ms", "restart_250_vault_requests", "rss_250_both_mib"];
    if wanted(&outlive) {
        figures.extend(crate::outlive::measure().await);
    }
    if wanted(&["start_ms"]) {
        let mut starts = Vec::new();
        for _ in 0..9 {
            starts.push(node().await.stage.ready().as_secs_f64() * 1000.0);
        }
        figures.push(("start_ms".to_owned(), median(starts)));
    }
    figures
}

impl Node {
    /// The fake Vault.
    pub fn fake(&self) -> &FakeVault {
        match &self.vault {
            Vault::Fake(fake) => fake,
            Vault::OpenBao(_) => panic!("this is measured on the fake Vault"),
        }
    }
}

pub async fn node() -> Node {
    let fake = FakeVault::start().await.unwrap();
    let address = fake.address();
    set_up(address, Vault::Fake(fake)).await
}

/// On a real one, which `make bench` has built.
async fn on_openbao() -> Node {
    let tools =
        std::env::var_os("KEYHOLE_TOOLS").expect("KEYHOLE_TOOLS is not set: run `make bench`");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(Path::new(&tools).join("bao"));
    command.args(["server", "-dev", "-dev-no-store-token", "-log-level=warn"]);
    command.arg(format!("-dev-root-token-id={ROOT}"));
    command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let operator = Operator::new(&address, ROOT).unwrap();
    let up = async {
        while !matches!(
            operator.exchange(http::Method::GET, "sys/health", "", &Value::Null).await,
            Ok((200, _))
        ) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up).await.expect("OpenBao does not come up");
    set_up(address, Vault::OpenBao(child)).await
}

async fn set_up(address: String, vault: Vault) -> Node {
    let operator = Operator::new(&address, ROOT).unwrap();
    let mut stage = Stage::new(Path::new(env!("CARGO_BIN_EXE_keyhole"))).unwrap();
    let kv = json!({ "type": "kv", "options": { "version": "2" } });
    operator.write("sys/mounts/bench", kv).await.unwrap();
    operator.until_ready("bench/data/probe").await.unwrap();
    let value = json!({ "data": { "v": "x".repeat(200) } });
    for at in 0..FIRSTS {
        operator.write(&format!("bench/data/s{at}"), value.clone()).await.unwrap();
    }
    let policy = r#"{"path":{"bench/*":{"capabilities":["read"]}}}"#;
    operator.write("sys/policies/acl/bench", json!({ "policy": policy })).await.unwrap();
    operator.write("sys/auth/jwt", json!({ "type": "jwt" })).await.unwrap();
    let keys = json!({ "jwt_validation_pubkeys": [stage.cluster().public_key_pem()] });
    operator.write("auth/jwt/config", keys).await.unwrap();
    let role = json!({
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_audiences": ["vault"],
        "token_policies": ["bench"],
    });
    operator.write("auth/jwt/role/app", role).await.unwrap();
    // The budget protects a real Vault from a node; here it would be what is measured.
    stage
        .configure(&format!(
            "defaultVault: main\nvaults:\n  main:\n    address: {address}\n    authMethod: jwt\n    budget: {{inFlight: 64, perSecond: 100000}}\n",
        ))
        .unwrap();
    stage.start().await.unwrap();
    Node { address, stage, vault }
}

pub fn volume(node: &Node, number: u32, more: &[(&str, &str)]) -> InlineVolume {
    let mut attributes = vec![("role", "app"), ("f0/secret", "bench/s0"), ("f0/field", "v")];
    attributes.extend(more);
    node.stage.volume(number, &attributes).unwrap()
}

/// Runs this program as the reader in a pod; it prints two figures.
fn in_pod(pod: &Pod, words: &[String]) -> (f64, f64) {
    let program = std::env::current_exe().unwrap().to_string_lossy().into_owned();
    let words: Vec<String> =
        [program, "reader".to_owned()].into_iter().chain(words.iter().cloned()).collect();
    let printed = pod.output(&words).unwrap();
    let (one, other) = printed.trim().split_once(' ').unwrap();
    (one.parse().unwrap(), other.parse().unwrap())
}

async fn warm(node: &Node) -> Figures {
    let volume = volume(node, 1, &[]);
    node.stage.kubelet().unwrap().publish(&volume).await.unwrap();
    let tmpfs = node.stage.path("tmpfs");
    std::fs::create_dir(&tmpfs).unwrap();
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("bench", &tmpfs, "tmpfs", none, None).unwrap();
    let theirs = tmpfs.join("f");
    std::fs::write(&theirs, "x".repeat(200)).unwrap();
    let mut figures = Vec::new();
    for threads in [1, 4] {
        let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
        let words =
            ["warm".to_owned(), threads.to_string(), "f0".to_owned(), theirs.display().to_string()];
        let (ours, tmpfs) = in_pod(&pod, &words);
        figures.push((format!("warm_read_us_{threads}t"), ours / 1000.0));
        figures.push((format!("tmpfs_read_us_{threads}t"), tmpfs / 1000.0));
        figures.push((format!("warm_read_ratio_{threads}t"), ours / tmpfs));
    }
    rustix::mount::unmount(&tmpfs, rustix::mount::UnmountFlags::DETACH).unwrap();
    figures
}

/// `name` is the end of the figures' names.
async fn first(node: &Node, name: &str) -> Figures {
    let keys: Vec<_> = (1..FIRSTS)
        .flat_map(|at| {
            [
                (format!("f{at}/secret"), format!("bench/s{at}")),
                (format!("f{at}/field"), "v".to_owned()),
            ]
        })
        .collect();
    let keys: Vec<_> = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let volume = volume(node, 2, &keys);
    node.stage.kubelet().unwrap().publish(&volume).await.unwrap();
    let pod = Pod::start(&volume.pod.uid, &volume.target).unwrap();
    // A program that asks by itself logs in as the pod does: Vault has more to check than for root.
    let nobody = Operator::new(&node.address, "").unwrap();
    let login = json!({ "role": "app", "jwt": volume.tokens["vault"].0 });
    let login = nobody.write("auth/jwt/login", login).await.unwrap();
    let token = login["auth"]["client_token"].as_str().unwrap().to_owned();
    let words = ["first".to_owned(), node.address.clone(), token, FIRSTS.to_string()];
    let (ours, direct) = in_pod(&pod, &words);
    vec![
        (format!("first_read_us{name}"), ours / 1000.0),
        (format!("direct_get_us{name}"), direct / 1000.0),
        (format!("first_read_ratio{name}"), ours / direct),
    ]
}

async fn publish(node: &Node) -> Figures {
    let kubelet = node.stage.kubelet().unwrap();
    let mut took = Vec::new();
    for number in 0..200 {
        let volume = volume(node, 100 + number, &[("onStart", "lazy")]);
        let began = Instant::now();
        kubelet.publish(&volume).await.unwrap();
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        kubelet.unpublish(&volume.id, &volume.target).await.unwrap();
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[took.len() * percent / 100];
    vec![("publish_p50_ms".to_owned(), at(50)), ("publish_p99_ms".to_owned(), at(99))]
}

/// A line of `/proc/<pid>/status`, as a number.
pub fn status(pid: u32, key: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Seconds of processor time.
fn cpu(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

async fn many(node: &Node) -> Figures {
    let kubelet = node.stage.kubelet().unwrap();
    let pid = node.stage.driver().unwrap().pid();
    let volumes: Vec<_> = (0..MANY).map(|at| volume(node, 1000 + at, &[])).collect();
    // One volume comes and goes first: what is set up once is not a volume's.
    kubelet.publish(&volumes[0]).await.unwrap();
    kubelet.unpublish(&volumes[0].id, &volumes[0].target).await.unwrap();
    let before = status(pid, "VmRSS:");
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for volume in &volumes {
        if calls.len() == PARALLEL {
            calls.join_next().await.unwrap().unwrap();
        }
        let (kubelet, volume) = (kubelet.clone(), volume.clone());
        calls.spawn(async move { kubelet.publish(&volume).await.unwrap() });
    }
    calls.join_all().await;
    let took = began.elapsed().as_secs_f64();
    let resident = (status(pid, "VmRSS:") - before) / f64::from(MANY);
    let threads = status(pid, "Threads:");
    let busy = cpu(pid);
    // Not a wait for something: the ten seconds are what is measured.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = (cpu(pid) - busy) / 10.0 * 100.0;
    let keeper = status(node.stage.keeper().unwrap().pid(), "VmRSS:") / 1024.0;
    let began = Instant::now();
    for volume in &volumes {
        kubelet.unpublish(&volume.id, &volume.target).await.unwrap();
    }
    vec![
        ("publish_500_s".to_owned(), took),
        ("rss_per_volume_kib".to_owned(), resident),
        ("threads".to_owned(), threads),
        ("idle_cpu_pct".to_owned(), idle),
        ("rss_keeper_500_mib".to_owned(), keeper),
        ("unpublish_500_s".to_owned(), began.elapsed().as_secs_f64()),
    ]
}
