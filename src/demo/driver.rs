//! [`Driver`]: `keyhole driver` as a child process, and what it logs.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::clock::{Clock as _, Moment, SystemClock};
use crate::demo::log::Log;

/// How long a driver may take to start.
const START: Duration = Duration::from_secs(20);

/// A driver that runs; it is killed when this is dropped.
pub struct Driver {
    child: Child,
    log: Log,
    admin: String,
    begun: Moment,
}

impl Driver {
    /// Starts `program driver` with `flags` and waits until kubelet may register it.
    ///
    /// # Errors
    /// It ended, or said nothing in time: with its log.
    pub fn start(program: &Path, flags: &[String]) -> anyhow::Result<Self> {
        let mut driver = Self::spawn(program, flags, &[])?;
        driver.until_ready()?;
        Ok(driver)
    }

    /// Starts it and waits for nothing. `variables` are its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(
        program: &Path,
        flags: &[String],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
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
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the driver cannot be started (is setpriv of util-linux there?)")?;
        let log = Log::follow(child.stderr.take().context("no standard error")?);
        Ok(Self { child, log, admin: String::new(), begun })
    }

    /// Waits until kubelet may register it.
    ///
    /// # Errors
    /// It ended, or said nothing in time: with its log.
    pub fn until_ready(&mut self) -> anyhow::Result<()> {
        let admin = self.logged("\"admin listens\"", START)?;
        let address = admin.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
        self.admin = address.context("no address is logged")?.to_owned();
        self.logged("\"kubelet may register us\"", START)?;
        Ok(())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: rustix::process::Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        Ok(rustix::process::kill_process(pid.context("no pid")?, signal)?)
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits until it has ended by itself or by a signal; tells how.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub fn wait(&mut self) -> anyhow::Result<std::process::ExitStatus> {
        Ok(self.child.wait()?)
    }

    /// Waits for a log line that holds `part`.
    ///
    /// # Errors
    /// The driver ended or the time is over: with all that it logged.
    pub fn logged(&self, part: &str, within: Duration) -> anyhow::Result<String> {
        Ok(self.logged_times(part, 1, within)?.1)
    }

    /// Waits until a number of log lines hold `part`: the last of them, and when it came.
    ///
    /// # Errors
    /// As [`Self::logged`].
    pub fn logged_times(
        &self,
        part: &str,
        times: usize,
        within: Duration,
    ) -> anyhow::Result<(Moment, String)> {
        let found = self.log.wait(part, times, within);
        found.with_context(|| format!("the driver did not log {part}:\n{}", self.log()))
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.log.text()
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
        self.signal(rustix::process::Signal::TERM)?;
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
