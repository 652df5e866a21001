//! [`Plan`]: one run from the first volume to the figures.
//!
//! ```text
//! quiet: every file was read once, nothing refreshes -> whatever Vault is asked, the restarts have caused
//! busy:  some volumes rotate every second, fresh ones come and go, Vault is slow for those
//! both:  keeper and driver die together; kubelet's next call heals
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use keyhole::csi::client::{InlineVolume, Kubelet};
use keyhole::demo::operator::Operator;
use keyhole::demo::pod::Pod;
use keyhole::fake_vault::ROOT;
use keyhole::fake_vault::faults::{Fault, How};
use keyhole::fake_vault::kind::Kind;
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;

use crate::crowd::{Crowd, Tally};
use crate::node::{Member, Node, Role, change, publish, unpublish};
use crate::storm::{Deeds, Storm};

/// Operations a second of all readers together, about: two cores are not saturated by that.
const RATE: u64 = 6000;
/// How long Vault takes for what is read for the first time while drivers die.
const SLOW: Duration = Duration::from_millis(20);
/// How often the rotating secret changes.
const ROTATES: Duration = Duration::from_millis(700);
/// Volumes that are looked at after both were killed.
const HEALED: usize = 5;
/// Numbers of volumes: those that rotate, and fresh ones.
const ROTATING: u32 = 10_000;
const FRESH: u32 = 20_000;

#[derive(Clone)]
pub struct Plan {
    pub kills: u64,
    pub volumes: u32,
    pub long_stops: u64,
    pub mode: String,
    pub seed: u64,
    pub program: PathBuf,
}

/// What came of it.
pub struct Outcome {
    pub tally: Tally,
    pub deeds: Deeds,
    pub vault_requests: u64,
    pub mode: String,
    pub seconds: f64,
    pub rss_kib: [u64; 2],
    pub fresh: u64,
    pub versions: u64,
    pub healed: usize,
    pub logs: String,
}

impl Plan {
    pub async fn run(&self) -> Outcome {
        let began = std::time::Instant::now();
        let mut node = Node::new(self.program.clone(), &self.mode).await;
        let how = node.stage.driver().unwrap().log();
        let how = how.split("\"mode\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let mode = how.expect("the driver does not tell its mode").to_owned();
        let mut crowd = Crowd::new(mode == "clone");
        let mut storm = Storm::new(self.seed);
        let threads = (64 / self.volumes).clamp(2, 8) as usize;
        let pause =
            Duration::from_micros(1_000_000 * u64::from(self.volumes) * threads as u64 / RATE);

        let mut members = node.members(0..self.volumes, Role::Quiet).await;
        for (number, member) in members.iter().enumerate() {
            crowd.join(&member.pod, number as u32, Role::Quiet.as_str(), threads, pause);
        }
        crowd.warm();
        node.vault.count_anew();
        let quiet = self.kills - self.kills * 2 / 5;
        storm.rage(&mut node, &crowd, &members, quiet).await;
        for _ in 0..self.long_stops {
            if storm.failed.is_empty() {
                let done = storm.stop_for_long(&mut node, &crowd).await;
                storm.failed.extend(done.err().map(|error| format!("{error:#}")));
            }
        }
        let vault_requests = node.asked();
        let pids = [node.stage.driver().unwrap().pid(), node.stage.keeper().unwrap().pid()];
        let rss_kib = pids.map(resident);

        // A tenth of the volumes end, and rotating ones take their place.
        let count = (self.volumes / 10).max(1);
        crowd.leave(|number| number < count);
        for member in members.drain(..count as usize) {
            drop(member.pod);
            let ended = unpublish(&node.kubelet.subscribe(), &member.volume).await;
            storm.failed.extend(ended.err().map(|error| format!("unpublish: {error}")));
        }
        let rotating = node.members(ROTATING..ROTATING + count, Role::Rotating).await;
        for (number, member) in (ROTATING..).zip(&rotating) {
            crowd.join(&member.pod, number, Role::Rotating.as_str(), threads, pause);
        }
        members.extend(rotating);
        crowd.warm();
        let crowd = Arc::new(crowd);
        let rotation = Rotation::start(&node);
        node.vault.fault(Fault::new(How::Latency(SLOW)).at(Kind::Secret).on("kv/data/fresh"));
        let (want, wanted) = mpsc::channel(1);
        let fresh = tokio::spawn(freshly(wanted, node.kubelet.subscribe(), Arc::clone(&crowd)));
        let mut offered = 0;
        for kills in quiet..self.kills {
            // The next fresh volume is ready when the one before has ended.
            if let Ok(place) = want.try_reserve() {
                place.send((FRESH + offered, node.volume(FRESH + offered, Role::Fresh)));
                offered += 1;
            }
            storm.rage(&mut node, &crowd, &members, kills + 1).await;
        }
        drop(want);
        let fresh = match fresh.await.unwrap() {
            Ok(count) => count,
            Err(error) => {
                storm.failed.push(error);
                0
            }
        };
        let versions = rotation.stop().await;
        if storm.failed.is_empty() {
            crowd.seen(versions);
        }
        let crowd = Arc::into_inner(crowd).expect("somebody has the readers");
        let mut tally = crowd.close();
        let mut healed = 0;
        if storm.failed.is_empty() && tally.hangs.is_empty() {
            let done = both(&mut node, &members).await;
            let done = done.map(|count| healed = count);
            storm.failed.extend(done.err().map(|error| format!("both: {error:#}")));
        }
        tally.errors.append(&mut storm.failed);
        tally.errors.append(&mut storm.lost);
        if let (Ok(driver), Ok(keeper)) = (node.stage.driver(), node.stage.keeper()) {
            storm.keep("the driver", &driver.log());
            storm.keep("the keeper", &keeper.log());
        }
        let logs = storm.logs.into_iter().collect::<Vec<_>>().join("\n");
        let (deeds, seconds) = (storm.deeds, began.elapsed().as_secs_f64());
        Outcome {
            tally,
            deeds,
            vault_requests,
            mode,
            seconds,
            rss_kib,
            fresh,
            versions,
            healed,
            logs,
        }
    }
}

/// KiB of a process that are in memory.
fn resident(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// A secret changes in Vault at its own pace, until it is told to stop.
struct Rotation {
    stop: Arc<AtomicBool>,
    version: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Rotation {
    fn start(node: &Node) -> Self {
        let operator = Operator::new(&node.vault.address(), ROOT).unwrap();
        let (stop, version) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(1)));
        let (stopped, latest) = (Arc::clone(&stop), Arc::clone(&version));
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(ROTATES);
            while !stopped.load(Ordering::Acquire) {
                pace.tick().await;
                change(&operator, "rot", latest.fetch_add(1, Ordering::AcqRel) + 1).await;
            }
        });
        Self { stop, version, task }
    }

    async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Release);
        self.task.await.unwrap();
        self.version.load(Ordering::Acquire)
    }
}

/// One fresh volume after the other: published, read by its pod for the first time, ended.
async fn freshly(
    mut wanted: mpsc::Receiver<(u32, InlineVolume)>,
    kubelet: Receiver<Kubelet>,
    crowd: Arc<Crowd>,
) -> Result<u64, String> {
    let mut count = 0;
    while let Some((number, volume)) = wanted.recv().await {
        publish(&kubelet, &volume).await.map_err(|error| format!("publish: {error}"))?;
        let crowd = Arc::clone(&crowd);
        let (uid, target) = (volume.pod.uid.clone(), volume.target.clone());
        let read = tokio::task::spawn_blocking(move || {
            let pod = Pod::start(&uid, &target).map_err(|error| format!("{error:#}"))?;
            let reader = crowd.start(&pod, number, Role::Fresh.as_str(), 4, Duration::ZERO);
            crowd.reap(number, reader);
            Ok::<(), String>(())
        });
        read.await.unwrap()?;
        unpublish(&kubelet, &volume).await.map_err(|error| format!("unpublish: {error}"))?;
        count += 1;
    }
    Ok(count)
}

/// Mounts are lost by design; what kubelet calls again is there for whoever opens it anew. Tells for how many.
async fn both(node: &mut Node, members: &[Member]) -> anyhow::Result<usize> {
    node.stage.driver()?.signal(Signal::KILL)?;
    node.stage.kill_keeper();
    node.stage.kill_driver();
    node.stage.start().await?;
    node.kubelet.send_replace(node.stage.kubelet()?.clone());
    let mut healed = 0;
    for member in members.iter().rev().take(HEALED) {
        publish(&node.kubelet.subscribe(), &member.volume).await.map_err(anyhow::Error::msg)?;
        let pod = Pod::start(&member.volume.pod.uid, &member.volume.target)?;
        let read = pod.output(&["cat", "plain"])?;
        anyhow::ensure!(read == crate::contents::value("plain", "v", 1), "wrong bytes");
        healed += 1;
    }
    Ok(healed)
}
