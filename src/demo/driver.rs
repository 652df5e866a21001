//! [`Driver`]: `keyhole driver` as a child process, and what it logs.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;

use crate::clock::{Clock as _, Moment, SystemClock};

/// How long a driver may take to start.
const START: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    grew: Condvar,
}

/// A driver that runs; it is killed when this is dropped.
pub struct Driver {
    child: Child,
    log: Arc<Log>,
    admin: String,
    begun: Moment,
}

impl Driver {
    /// Starts `program driver` with `flags` and waits until kubelet may register it.
    ///
    /// # Errors
    /// It ended, or said nothing in time: with its log.
    pub fn start(program: &Path, flags: &[String]) -> anyhow::Result<Self> {
        let begun = SystemClock.now();
        // It must not outlive us; a signal to our terminal is ours alone.
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg("driver")
            .args(flags)
            .args(["--log-format", "json", "--admin-listen", "127.0.0.1:0"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the driver cannot be started (is setpriv of util-linux there?)")?;
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().context("no standard error")?;
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.lines.lock().unwrap_or_else(PoisonError::into_inner).0.push(line);
                writer.grew.notify_all();
            }
            writer.lines.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            writer.grew.notify_all();
        });
        let mut driver = Self { child, log, admin: String::new(), begun };
        let admin = driver.logged("\"admin listens\"", START)?;
        let address = admin.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
        driver.admin = address.context("no address is logged")?.to_owned();
        driver.logged("\"kubelet may register us\"", START)?;
        Ok(driver)
    }

    /// Waits for a log line that holds `part`.
    ///
    /// # Errors
    /// The driver ended or the time is over: with all that it logged.
    pub fn logged(&self, part: &str, within: Duration) -> anyhow::Result<String> {
        let lock = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |state: &mut (Vec<String>, bool)| {
            !state.1 && !state.0.iter().any(|line| line.contains(part))
        };
        let waited = self.log.grew.wait_timeout_while(lock, within, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let found = state.0.iter().find(|line| line.contains(part)).cloned();
        found.with_context(|| format!("the driver did not log {part}:\n{}", state.0.join("\n")))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).0.join("\n")
    }

    /// Where /livez, /readyz and /metrics are.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// How long ago its process was started.
    pub fn age(&self) -> Duration {
        SystemClock.now().saturating_since(self.begun)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop and waits until it has; tells whether it left with success.
    ///
    /// # Errors
    /// It cannot be signalled or waited for.
    pub fn stop(&mut self) -> anyhow::Result<bool> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no pid")?, rustix::process::Signal::TERM)?;
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
