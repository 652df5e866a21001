//! [`Storm`]: what is done to driver and keeper, in an order that follows from a seed. Never both at once.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Duration;

use keyhole::clock::{Clock as _, SystemClock};
use keyhole::demo::driver::Driver;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::crowd::{Cause, Crowd};
use crate::node::{Member, Node, publish};
use crate::said::{micros, now};

/// How long a driver may take for a step.
const PATIENCE: Duration = Duration::from_secs(30);
/// A driver has all volumes again.
const ADOPTED: &str = "gone on with what the driver before left";
/// A driver has put everything into a new keeper.
const RESUMED: &str = "\"first\":false";
/// Logs of processes that are gone, for when something goes wrong.
const LOGS: usize = 6;

/// Numbers that follow from a seed (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// The moment of the next deed is a part of the plan, not a wait for something.
    pub async fn moment(&mut self, most_ms: u64) {
        tokio::time::sleep(Duration::from_micros(self.below(most_ms * 1000))).await;
    }
}

/// What was done so far.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    pub kills: u64,
    pub upgrades: u64,
    pub keeper_restarts: u64,
    pub terms: u64,
    pub stops: u64,
    pub long_stops: u64,
    pub republishes: u64,
    /// Rotations without the rename that watchers see, as the drivers' logs tell.
    pub errands: u64,
    /// From the start of a process after a kill to its having all volumes again, in microseconds.
    pub restarts: Vec<u32>,
}

pub struct Storm {
    pub random: Random,
    pub deeds: Deeds,
    pub logs: VecDeque<String>,
    pub failed: Vec<String>,
    pub lost: Vec<String>,
}

type Done = anyhow::Result<()>;

impl Storm {
    pub fn new(seed: u64) -> Self {
        let (deeds, logs) = (Deeds::default(), VecDeque::new());
        Self { random: Random(seed), deeds, logs, failed: Vec::new(), lost: Vec::new() }
    }

    /// Keeps a log for when something goes wrong; without the opens that went well.
    pub fn keep(&mut self, who: &str, log: &str) {
        self.deeds.errands += log.matches("an errand did not come to its end").count() as u64;
        // A driver that says so has lost something, whether or not a reader has noticed it yet.
        let lost = log.lines().filter(|line| line.contains("\"level\":\"ERROR\""));
        self.lost.extend(lost.map(|line| format!("{who}: {line}")));
        let lines = log.lines().filter(|line| !line.contains("\"outcome\":\"served\""));
        let lines = lines.collect::<Vec<_>>().join("\n");
        self.logs.push_back(format!("--- {who}\n{lines}"));
        if self.logs.len() > LOGS {
            self.logs.pop_front();
        }
    }

    /// Goes on until there were so many kills in all, or something is wrong.
    pub async fn rage(&mut self, node: &mut Node, crowd: &Crowd, members: &[Member], kills: u64) {
        while self.deeds.kills < kills && self.failed.is_empty() && crowd.tally().hangs.is_empty() {
            self.random.moment(200).await;
            let done = match self.random.below(100) {
                0..80 => self.kill(node, crowd).await,
                80..85 => self.stop(node, crowd).await,
                85..91 => self.restart_keeper(node, crowd).await,
                91..95 => self.upgrade(node, crowd).await,
                _ => self.term(node, crowd).await,
            };
            if let Err(error) = done {
                self.failed.push(format!("{error:#}"));
            }
            if self.random.below(3) == 0 && !members.is_empty() && self.failed.is_empty() {
                // Kubelet asks for every volume again and again; nothing comes of it.
                let at = self.random.below(members.len() as u64) as usize;
                let again = publish(&node.kubelet.subscribe(), &members[at].volume).await;
                self.failed.extend(again.err().map(|error| format!("republish: {error}")));
                self.deeds.republishes += 1;
            }
        }
    }

    /// kubelet's: it starts the next one, and does not wait for the end of the one before.
    fn spawn(node: &Node) -> anyhow::Result<Driver> {
        Driver::spawn(&node.program, &node.stage.flags(), &[])
    }

    /// Waits until a driver has all volumes, and tells when that was.
    async fn ready(&mut self, node: &mut Node, mut driver: Driver) -> anyhow::Result<u64> {
        driver.until_ready()?;
        let (at, _) = driver.logged_times(ADOPTED, 1, PATIENCE)?;
        if let Ok(before) = node.stage.driver() {
            let log = before.log();
            self.keep("a driver before", &log);
        }
        node.stage.meet(driver).await?;
        node.kubelet.send_replace(node.stage.kubelet()?.clone());
        Ok(micros(at))
    }

    /// kill -9; sometimes the next one does not live for long either.
    pub async fn kill(&mut self, node: &mut Node, crowd: &Crowd) -> Done {
        let mut disturbed = crowd.disturb(Cause::Kill);
        self.deeds.kills += 1;
        node.stage.driver()?.signal(Signal::KILL)?;
        let mut began = now();
        let mut next = Self::spawn(node)?;
        while self.random.below(6) == 0 {
            self.random.moment(50).await;
            let again = crowd.disturb(Cause::Kill);
            crowd.over(disturbed, now());
            disturbed = again;
            self.deeds.kills += 1;
            next.signal(Signal::KILL)?;
            began = now();
            let after = Self::spawn(node)?;
            self.keep("a driver that was killed early", &next.log());
            next = after;
        }
        let at = self.ready(node, next).await?;
        crowd.over(disturbed, at);
        self.deeds.restarts.push((at - began) as u32);
        Ok(())
    }

    async fn stop(&mut self, node: &mut Node, crowd: &Crowd) -> Done {
        let disturbed = crowd.disturb(Cause::Stop);
        self.deeds.stops += 1;
        node.stage.driver()?.signal(Signal::STOP)?;
        self.random.moment(300).await;
        node.stage.driver()?.signal(Signal::CONT)?;
        crowd.over(disturbed, now());
        Ok(())
    }

    /// Stopped until the keeper takes it for dead.
    pub async fn stop_for_long(&mut self, node: &mut Node, crowd: &Crowd) -> Done {
        let disturbed = crowd.disturb(Cause::Stop);
        self.deeds.long_stops += 1;
        let driver = node.stage.driver()?;
        let end = watch(driver)?;
        driver.signal(Signal::STOP)?;
        ended(&end, PATIENCE)?;
        let next = Self::spawn(node)?;
        let at = self.ready(node, next).await?;
        crowd.over(disturbed, at);
        Ok(())
    }

    async fn restart_keeper(&mut self, node: &mut Node, crowd: &Crowd) -> Done {
        let disturbed = crowd.disturb(Cause::Keeper);
        self.deeds.keeper_restarts += 1;
        let log = node.stage.keeper()?.log();
        self.keep("the keeper before", &log);
        let resumed = node.stage.driver()?.log().matches(RESUMED).count();
        node.stage.kill_keeper();
        self.random.moment(150).await;
        node.stage.start_keeper()?;
        // Until everything is deposited again the driver must not die.
        node.stage.driver()?.logged_times(RESUMED, resumed + 1, PATIENCE)?;
        crowd.over(disturbed, now());
        Ok(())
    }

    async fn upgrade(&mut self, node: &mut Node, crowd: &Crowd) -> Done {
        let disturbed = crowd.disturb(Cause::Upgrade);
        self.deeds.upgrades += 1;
        let end = watch(node.stage.driver()?)?;
        let mut next = Self::spawn(node)?;
        let ready = next.until_ready();
        let before = node.stage.driver()?.log();
        ready?;
        anyhow::ensure!(before.contains("a successor waits"), "the first did not leave:\n{before}");
        anyhow::ensure!(ended(&end, Duration::ZERO).is_err(), "the first has ended:\n{before}");
        let at = self.ready(node, next).await?;
        crowd.over(disturbed, at);
        Ok(())
    }

    async fn term(&mut self, node: &mut Node, crowd: &Crowd) -> Done {
        let disturbed = crowd.disturb(Cause::Term);
        self.deeds.terms += 1;
        let driver = node.stage.driver_mut()?;
        anyhow::ensure!(driver.stop()?, "SIGTERM: the driver failed:\n{}", driver.log());
        let next = Self::spawn(node)?;
        let at = self.ready(node, next).await?;
        crowd.over(disturbed, at);
        Ok(())
    }
}

fn watch(driver: &Driver) -> anyhow::Result<OwnedFd> {
    let pid = Pid::from_raw(driver.pid() as i32).unwrap();
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Waits until a process has ended.
fn ended(process: &OwnedFd, within: Duration) -> Done {
    let began = SystemClock.now();
    loop {
        let left = within.saturating_sub(SystemClock.now().saturating_since(began));
        let mut fds = [PollFd::new(process, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec::try_from(left)?)) {
            Ok(0) => anyhow::bail!("it has not ended"),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
