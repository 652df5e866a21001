//! [`Keeper`]: the program under test as a child process, and waiting with a deadline.

use std::io::{BufRead as _, BufReader};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use keyhole::clock::{Clock as _, SystemClock};
use keyhole::keeper::client::{Connection, Role, Welcome};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::cases::world::program;

/// For what has no deadline of its own.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks again and again until it is so.
pub fn until(what: &str, within: Duration, mut so: impl FnMut() -> bool) {
    let end = SystemClock.now() + within;
    while !so() {
        assert!(SystemClock.now() < end, "not within {within:?}: {what}");
        poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 })).unwrap();
    }
}

/// Whether this process ends within this time.
pub fn ends(pid: u32, within: Duration) -> bool {
    let Ok(pidfd) = pidfd_open(number(pid), PidfdFlags::empty()) else { return true };
    let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let within = Timespec::try_from(within).unwrap();
    poll(&mut fds, Some(&within)).unwrap() > 0
}

pub fn number(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

pub fn signal(pid: u32, signal: Signal) {
    kill_process(number(pid), signal).unwrap();
}

/// A keeper that runs; it is killed when this is dropped.
pub struct Keeper {
    child: Child,
    lines: Receiver<String>,
    pub socket: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl Keeper {
    /// With a socket of its own, and a grace that no test waits for.
    pub fn start() -> Self {
        Self::with("30s")
    }

    pub fn with(grace: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Self::at(&folder.path().join("k/keeper.sock"), grace);
        keeper._folder = Some(folder);
        keeper
    }

    /// The soft limit of open files is what container runtimes set.
    pub fn at(socket: &Path, grace: &str) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "sh", "-c", "ulimit -Sn 1024 && exec \"$0\" \"$@\""])
            .arg(program())
            .args(["keeper", "--orphan-grace", grace, "--socket"])
            .arg(socket)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        let stderr = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let keeper = Self { child, lines, socket: socket.to_owned(), _folder: None };
        until("it listens", SOON, || Connection::open(&keeper.socket, Role::Watcher, SOON).is_ok());
        // Whoever counts files must not count the question whether it listens.
        until("only its own socket is open", SOON, || keeper.of_clients() == 1);
        keeper
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn connect(&self, role: Role) -> (Connection, Welcome) {
        Connection::open(&self.socket, role, SOON).unwrap()
    }

    pub fn driver(&self) -> Connection {
        self.connect(Role::Driver).0
    }

    /// Waits for a line of its log.
    pub fn logged(&self, part: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(SOON);
            let line = line.unwrap_or_else(|_| panic!("the keeper did not log {part}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    fn open_files(&self) -> impl Iterator<Item = PathBuf> {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        folder.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
    }

    /// How many files it has open.
    pub fn files(&self) -> usize {
        self.open_files().count()
    }

    /// Its sockets, and its clients' processes.
    fn of_clients(&self) -> usize {
        let files = self.open_files().map(|file| file.to_string_lossy().into_owned());
        files.filter(|file| file.starts_with("socket:") || file.contains("pidfd")).count()
    }

    /// A line of /proc/PID/status.
    pub fn status(&self, key: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.unwrap().trim_matches([':', '\t', ' ']).to_owned()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
