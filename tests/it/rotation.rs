//! `..data` moves under readers and watchers: through the keeper's rotator, 500 times a second, and without it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use keyhole::clock::{Clock, SystemClock};
use keyhole::custody::{Custody, Options};
use keyhole::demo::keeper::Keeper;
use keyhole::fs::files::{Audit, Files, Installed, Open, Provenance};
use keyhole::fs::serve::{Callers, Errands, Gate, Mounts as _, Source};
use keyhole::fuse::mode::{Mode, Takeover};
use keyhole::fuse::mounts::FuseMounts;
use keyhole::identity::cgroup::Caller;
use keyhole::identity::pod::{PodRef, PodUid};
use keyhole::identity::session::{AuthMethod, SessionKey};
use keyhole::redact::SecretBytes;
use keyhole::render::Rendered;
use keyhole::spec::attributes::{ConnectionDefaults, Defaults, parse};
use keyhole::telemetry::metrics::Metrics;
use keyhole::volume::keeping::{Deposit, Keeping as _};
use keyhole::volume::live::Live;
use keyhole::volume::rotation::rotate;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::cases::world::{World, program};

/// Reads the events that wait: names that were moved into the folder.
fn moved(watch: &std::os::fd::OwnedFd) -> Vec<String> {
    let mut names = Vec::new();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 8192];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    while let Ok(event) = reader.next() {
        names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names
}

/// A watch for what is moved into a folder.
fn watch(folder: &Path) -> std::os::fd::OwnedFd {
    let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, folder, WatchFlags::MOVED_TO).unwrap();
    watch
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_of_the_folder_is_woken_by_a_change() {
    let mut world = World::fake().await;
    let keys = [("f/secret", "{}-kv/app"), ("f/field", "user"), ("f/refresh", "1s")];
    let (_volume, pod) = world.mounted(&keys).await;
    assert_eq!(world.cat(&pod, "f"), "anna");
    // What the pod sees: a read-only mount in its own namespace.
    let seen = PathBuf::from(format!("/proc/{}/root/mnt", pod.pid()));
    for (kill, user) in [(false, "berta"), (true, "carla")] {
        let watch = watch(&seen);
        if kill {
            // A watch outlives the driver that served the folder when it was made.
            world.stage.kill_driver();
            world.stage.start_driver(&[]).await.unwrap();
        }
        world.put("app", serde_json::json!({ "user": user })).await;
        let woken = async {
            let mut poll = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
            let limit = rustix::event::Timespec { tv_sec: 15, tv_nsec: 0 };
            assert_eq!(rustix::event::poll(&mut poll, Some(&limit)).unwrap(), 1, "{}", world.log());
        };
        woken.await;
        assert_eq!(moved(&watch), ["..data"]);
        assert_eq!(world.cat(&pod, "f"), user, "who is woken sees the change");
    }
    // Nobody else may do that.
    for words in [["ln", "-s", "..9", "..data_tmp"], ["mv", "-T", "..data", "x"]] {
        let refused = pod.run(&words).unwrap();
        assert!(String::from_utf8_lossy(&refused.stderr).contains("Read-only"), "{refused:?}");
    }
}

struct Nobody;

impl Callers for Nobody {
    fn caller(&self, _: u32) -> Caller {
        Caller::default()
    }
}

impl Audit for Nobody {
    fn opened(&self, _: &Open<'_>) {}
}

#[async_trait]
impl Source for Nobody {
    async fn fetch(&self, _: usize, _: Duration) {}

    async fn listed(&self) {}
}

/// One version of both files: each says which it is, in a length of its own.
fn version(number: u64) -> Vec<(usize, Rendered, Provenance)> {
    let text = || {
        let body = format!("{number} ").repeat(1 + usize::try_from(number % 97).unwrap());
        Rendered::File(SecretBytes::new(body.into_bytes()))
    };
    let from = || Provenance {
        path: "p".into(),
        version: Some(number),
        lease: false,
        fetched: SystemTime::now(),
        ends: None,
    };
    vec![(0, text(), from()), (1, text(), from())]
}

/// The number that a whole version tells.
fn number(text: &str) -> u64 {
    let first: u64 = text.split(' ').next().unwrap().parse().unwrap();
    let wanted = format!("{first} ").repeat(1 + usize::try_from(first % 97).unwrap());
    assert_eq!(text, wanted, "a torn read");
    first
}

struct Node {
    directory: tempfile::TempDir,
    _keeper: Keeper,
    custody: Custody,
    mounts: FuseMounts,
    live: Arc<Live>,
}

/// The driver's own rooms in this process, with a real keeper, a real rotator and a real mount.
async fn node() -> Node {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("keeper/keeper.sock");
    let keeper = Keeper::start(program(), &socket, Duration::from_secs(30)).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let options = Options { socket: Some(socket), waits: false };
    let (custody, _) = Custody::start(options, Arc::clone(&clock), Metrics::new()).unwrap();
    custody.connected().await;
    let pulse = custody.clone();
    drop(tokio::spawn(async move {
        let mut turn = tokio::time::interval(Duration::from_millis(200));
        loop {
            turn.tick().await;
            pulse.pulse();
        }
    }));
    let mode = Mode::find(Takeover::Auto, None).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let mounts =
        FuseMounts::new(directory.path().to_owned(), runtime, Arc::clone(&clock), mode).unwrap();

    let attributes = [("role", "r"), ("a/secret", "kv/a"), ("b/secret", "kv/b")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let connection = ConnectionDefaults {
        namespace: String::new(),
        auth_method: AuthMethod::Jwt,
        auth_path: "jwt".into(),
    };
    let defaults = Defaults {
        connection: Some("main".into()),
        connections: BTreeMap::from([("main".to_owned(), connection)]),
    };
    let spec = parse(&BTreeMap::from(attributes), &defaults, None).unwrap();
    let (callers, audit) = (Arc::new(Nobody), Arc::new(Nobody));
    let pod = PodRef { uid: PodUid::new("u"), ..PodRef::default() };
    let born = SystemTime::now();
    let files =
        Arc::new(Files::new(Arc::new(spec), pod.uid.clone(), Gate::Off, callers, audit, born));
    files.install(version(1), clock.now(), born);
    let session = Arc::new(SessionKey {
        pod: pod.clone(),
        connection: String::new(),
        namespace: String::new(),
        auth_method: AuthMethod::Jwt,
        auth_path: String::new(),
        role: String::new(),
        audience: String::new(),
    });
    let target = directory.path().join("mount");
    let live =
        Live::new(("v".into(), target.clone()), pod, session, Arc::clone(&files), clock.now());
    let mounted = mounts.mount(&target, files, Arc::new(Nobody)).await.unwrap();
    let handed = mounted.hand().unwrap();
    let memory = || std::fs::File::open("/dev/null").unwrap().into();
    let deposit = Deposit { handed, manifest: memory(), journal: memory() };
    assert!(custody.deposit(&live.kept_as(), deposit).await);
    live.mounted.store(Some(Arc::new(mounted)));
    Node { directory, _keeper: keeper, custody, mounts, live: Arc::new(live) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn five_hundred_rotations_a_second_tear_nothing_and_never_go_back() {
    const ROTATIONS: u64 = 1500;
    let node = node().await;
    let folder = node.directory.path().join("mount");
    let watch = watch(&folder);
    let stop = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (stop, reads, folder) = (Arc::clone(&stop), Arc::clone(&reads), folder.clone());
            std::thread::spawn(move || {
                let mut last = 0;
                let held = std::fs::File::open(folder.join("a")).unwrap();
                let mut first = [0; 2];
                while !stop.load(Ordering::Acquire) {
                    for name in ["a", "b"] {
                        let read = number(&std::fs::read_to_string(folder.join(name)).unwrap());
                        assert!(read >= last, "{read} after {last}");
                        last = read;
                    }
                    // One look at `..data`: both files of it match.
                    let data = folder.join(std::fs::read_link(folder.join("..data")).unwrap());
                    let both = ["a", "b"].map(|name| std::fs::read_to_string(data.join(name)));
                    if let [Ok(a), Ok(b)] = both {
                        assert_eq!(number(&a), number(&b));
                    }
                    std::os::unix::fs::FileExt::read_exact_at(&held, &mut first, 0).unwrap();
                    assert_eq!(&first, b"1 ", "an open file keeps its version");
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();

    let errands: Arc<dyn Errands> = Arc::new(node.custody.clone());
    let metrics = Metrics::new();
    let files = node.live.files();
    let mut turn = tokio::time::interval(Duration::from_millis(2));
    let (mut events, began) = (0, SystemClock.now());
    for next in 2..2 + ROTATIONS {
        turn.tick().await;
        let installed = files.install(version(next), SystemClock.now(), SystemTime::now());
        assert!(matches!(installed, Installed::Switched { .. }));
        rotate(Arc::clone(&node.live), Arc::clone(&errands), metrics.clone()).await;
        assert_eq!(files.generations().0, files.generations().1);
        files.forget_old(SystemClock.now());
        events += moved(&watch).len();
    }
    let took = SystemClock.now().saturating_since(began);
    stop.store(true, Ordering::Release);
    for reader in readers {
        reader.join().unwrap();
    }
    let reads = reads.load(Ordering::Relaxed);
    println!("{ROTATIONS} rotations in {took:?}, {events} events, {reads} rounds of three readers");
    let text = metrics.text();
    let renamed = format!("keyhole_rotations_total{{outcome=\"renamed\"}} {ROTATIONS}");
    assert!(text.contains(&renamed), "some were not renamed:\n{text}");
    assert_eq!(events, usize::try_from(ROTATIONS).unwrap());
    assert!(reads > 0);
    let mounted = node.live.mounted.load_full().unwrap();
    mounted.end(false).await.unwrap();
    drop(node.mounts);
}
