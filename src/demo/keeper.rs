//! [`Keeper`]: `keyhole keeper` as a child process.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;

use crate::clock::{Clock as _, SystemClock};
use crate::demo::log::Log;
use crate::keeper::client::{Connection, Role, Stats};

/// How long a keeper may take to start.
const START: Duration = Duration::from_secs(20);

/// A keeper that runs; it is killed when this is dropped.
pub struct Keeper {
    child: Child,
    log: Log,
    socket: PathBuf,
}

impl Keeper {
    /// Starts `program keeper` and waits until it answers. `grace`: how long volumes wait for a driver.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(program: &Path, socket: &Path, grace: Duration) -> anyhow::Result<Self> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg("keeper")
            .arg("--socket")
            .arg(socket)
            .args(["--orphan-grace", &format!("{}s", grace.as_secs())])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("the keeper cannot be started")?;
        let log = Log::follow(child.stderr.take().context("no standard error")?);
        let mut keeper = Self { child, log, socket: socket.to_owned() };
        let begun = SystemClock.now();
        loop {
            if keeper.ask().is_ok() {
                return Ok(keeper);
            }
            let ended = keeper.child.try_wait()?;
            anyhow::ensure!(ended.is_none(), "the keeper ended: {ended:?}\n{}", keeper.log());
            let waited = SystemClock.now().saturating_since(begun);
            anyhow::ensure!(waited < START, "the keeper does not answer");
            std::thread::yield_now();
        }
    }

    /// What it counts.
    ///
    /// # Errors
    /// It does not answer.
    pub fn ask(&self) -> anyhow::Result<Stats> {
        let (mut connection, _) =
            Connection::open(&self.socket, Role::Watcher, Duration::from_secs(2))?;
        Ok(connection.stats()?)
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
