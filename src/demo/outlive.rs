//! A scene: the volume outlives its server. Readers read in the pod while drivers and the keeper are killed under
//! them; they must not notice anything but a pause.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::clock::{Clock as _, SystemClock};
use crate::demo::driver::Driver;
use crate::demo::pod::Pod;
use crate::demo::stage::Stage;
use crate::demo::teller::Teller;

/// How often the driver is killed.
const KILLS: u32 = 10;
/// How long what is started may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What every demo's volume has, and the readers read.
const NAME: &str = "stripe-key";

/// What the readers of a pod did and saw.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    requests: u64,
    errors: Vec<String>,
    /// Requests that ended with their server: what a kernel before Linux 6.9 does.
    aborted: u64,
    longest_us: u64,
}

/// One way to read: whether it went well.
type Way = fn(&Seen) -> std::io::Result<bool>;

/// What was there before anything was killed, and what is held open since.
struct Seen {
    bytes: Vec<u8>,
    held: File,
    names: usize,
}

const WAYS: [(&str, Way); 5] = [
    ("open and read", |seen| Ok(std::fs::read(NAME)? == seen.bytes)),
    ("read what is held open", |seen| {
        let mut bytes = vec![0; 4096];
        let length = seen.held.read_at(&mut bytes, 0)?;
        Ok(bytes.get(..length) == Some(&seen.bytes))
    }),
    ("stat", |seen| Ok(std::fs::metadata(NAME)?.len() == seen.bytes.len() as u64)),
    ("list", |seen| Ok(std::fs::read_dir(".")?.count() == seen.names)),
    ("status", |_| Ok(std::fs::read_to_string(".keyhole/status.json")?.contains(NAME))),
];

/// `keyhole demo-reader`, in the pod: a thread for each way, until the input ends; then it prints what it saw.
pub(super) fn read_until_told() -> anyhow::Result<()> {
    // Nothing of it comes from the kernel's memory.
    let held = File::options().read(true).custom_flags(libc::O_DIRECT).open(NAME)?;
    let seen = Seen { bytes: std::fs::read(NAME)?, held, names: std::fs::read_dir(".")?.count() };
    let stop = AtomicBool::new(false);
    let told = std::thread::scope(|scope| {
        let threads = WAYS.map(|way| {
            let (seen, stop) = (&seen, &stop);
            scope.spawn(move || repeat(way, seen, stop))
        });
        // The word that the readers read.
        drop(writeln!(std::io::stdout(), "reading"));
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        stop.store(true, Ordering::Relaxed);
        let mut all = Told::default();
        for thread in threads {
            let told = thread.join().unwrap_or_default();
            all.requests += told.requests;
            all.errors.extend(told.errors);
            all.aborted += told.aborted;
            all.longest_us = all.longest_us.max(told.longest_us);
        }
        all
    });
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&told)?)?)
}

fn repeat((name, way): (&str, Way), seen: &Seen, stop: &AtomicBool) -> Told {
    let mut told = Told::default();
    let mut errors = BTreeMap::new();
    while !stop.load(Ordering::Relaxed) {
        let began = SystemClock.now();
        let what = match way(seen) {
            Ok(true) => None,
            Ok(false) => Some(format!("{name}: not what it was")),
            Err(error) if error.raw_os_error() == Some(libc::ECONNABORTED) => {
                told.aborted += 1;
                None
            }
            Err(error) => Some(format!("{name}: {error}")),
        };
        let took = SystemClock.now().saturating_since(began).as_micros();
        told.longest_us = told.longest_us.max(u64::try_from(took).unwrap_or(u64::MAX));
        told.requests += 1;
        if let Some(what) = what {
            *errors.entry(what).or_insert(0_u64) += 1;
        }
        pace();
    }
    told.errors =
        errors.into_iter().map(|(what, times)| format!("{what} ({times} times)")).collect();
    told
}

/// Readers that do not take the machine for themselves.
#[expect(clippy::disallowed_methods, reason = "no runtime's worker")]
fn pace() {
    std::thread::sleep(Duration::from_millis(1));
}

/// Plays the scene.
pub(super) async fn play(stage: &mut Stage, pod: &Pod, teller: &mut Teller) -> anyhow::Result<()> {
    let program = std::env::current_exe()?;
    let mut command = pod.command(&[program.as_os_str(), "demo-reader".as_ref()]);
    let mut readers = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let played = storm(stage, &mut readers, teller).await;
    if played.is_err() {
        // They may have ended already.
        drop(readers.kill());
        drop(readers.wait());
    }
    played
}

async fn storm(stage: &mut Stage, readers: &mut Child, teller: &mut Teller) -> anyhow::Result<()> {
    let mut out = readers.stdout.take().context("no output")?;
    let mut word = [0; 8];
    out.read_exact(&mut word).context("the readers did not begin")?;
    teller.begin();
    for _ in 0..KILLS {
        stage.driver()?.signal(Signal::KILL)?;
        // As kubelet: the next one is started, and nobody waits for the end of the one before.
        stage.start_driver(&[]).await?;
    }
    teller.step(format!(
        "kill -9 of the driver, {KILLS} times, each started again; readers in the pod go on"
    ))?;
    stage.start_driver(&[]).await?;
    teller.step(
        "an upgrade: a second driver starts beside the first, which leaves its mounts to it",
    )?;
    stage.start_keeper()?;
    stage.driver()?.logged("\"first\":false", PATIENCE)?;
    teller.step("the keeper restarts; the driver gives it everything again")?;
    stage.driver()?.signal(Signal::KILL)?;
    stage.start_driver(&[]).await?;
    teller.step("kill -9 of the driver once more: the new keeper has what the next one needs")?;

    drop(readers.stdin.take());
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    ensure!(readers.wait()?.success(), "the readers failed");
    let Told { requests, errors, aborted, longest_us } = serde_json::from_str(&text)?;
    ensure!(errors.is_empty(), "readers noticed: {}", errors.join("; "));
    let clone = stage.driver()?.log().contains("\"mode\":\"clone\"");
    ensure!(clone || aborted == 0, "{aborted} requests of readers were aborted");
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    let longest = longest_us as f64 / 1000.0;
    let old = match clone {
        true => format!(", aborted: {aborted} (this kernel cannot send requests again)"),
        false => String::new(),
    };
    teller.step(format!("requests: {requests}, errors: 0, longest pause: {longest:.1} ms{old}"))?;
    let driver: &Driver = stage.driver()?;
    ensure!(
        driver.log().contains("gone on with"),
        "the last driver has found nothing to go on with"
    );
    Ok(())
}
