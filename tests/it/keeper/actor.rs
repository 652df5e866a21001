//! [`Actor`]: a driver as a process of its own, told by lines what to do; it beats by itself while it holds.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use keyhole::keeper::KeeperError;
use keyhole::keeper::client::{Claim, Connection, How, Role};

use super::process::{SOON, ends, signal};

const SOCKET: &str = "KEYHOLE_TEST_KEEPER";
/// What it says begins with this; the rest is the test harness's.
const SAYS: &str = "> ";

/// A driver process; it is killed when this is dropped.
pub struct Actor {
    child: Child,
    stdin: ChildStdin,
    said: Receiver<String>,
}

impl Actor {
    pub fn start(socket: &Path) -> Self {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "keeper::plays_a_driver"])
            .env(SOCKET, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, said) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((_, said)) = line.split_once(SAYS)
                    && sender.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        let actor = Self { child, stdin, said };
        assert_eq!(actor.says(SOON), "connected");
        actor
    }

    /// One that holds the epoch, and its number.
    pub fn holder(socket: &Path) -> (Self, u64) {
        let mut actor = Self::start(socket);
        actor.tell("take succeed 0 alone");
        let epoch = actor.taken(SOON);
        (actor, epoch)
    }

    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").unwrap();
    }

    /// What it says next.
    pub fn says(&self, within: Duration) -> String {
        let said = self.said.recv_timeout(within);
        said.unwrap_or_else(|_| panic!("the actor says nothing within {within:?}"))
    }

    /// Whether it says nothing for so long.
    pub fn is_silent(&self, for_so_long: Duration) -> bool {
        self.said.recv_timeout(for_so_long) == Err(RecvTimeoutError::Timeout)
    }

    /// The epoch that it is granted.
    pub fn taken(&self, within: Duration) -> u64 {
        let said = self.says(within);
        let epoch = said.strip_prefix("taken ").and_then(|epoch| epoch.parse().ok());
        epoch.unwrap_or_else(|| panic!("not taken: {said}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn ends(&self, within: Duration) -> bool {
        ends(self.pid(), within)
    }

    pub fn signal(&self, what: rustix::process::Signal) {
        signal(self.pid(), what);
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It may have been killed already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::print_stdout, reason = "it is what the one who started it reads")]
fn say(what: &str) {
    println!("\n{SAYS}{what}");
}

/// The actor's own side: until its standard input ends.
pub fn play() {
    let Some(socket) = std::env::var_os(SOCKET) else { return };
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            sender.send(line).unwrap();
        }
    });
    let open = || Connection::open(Path::new(&socket), Role::Driver, SOON).unwrap().0;
    let mut connection = open();
    say("connected");
    let (mut held, mut claim) = (None, None);
    loop {
        let line = match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => String::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["take", how, epoch, alone] => {
                let how = match how {
                    "succeed" => How::Succeed,
                    "wait" => How::Wait,
                    _ => How::Resume,
                };
                let epoch = epoch.parse().unwrap();
                claim = Some(Claim { how, epoch, alone: alone == "alone" });
            }
            ["again"] => connection = open(),
            ["leave"] => {
                connection.leave(held.take().unwrap()).unwrap();
                say("left");
            }
            ["close"] => {
                // The process stays, without its connection.
                drop(std::mem::replace(&mut connection, open()));
                held = None;
            }
            ["put", name, text] => {
                let file = tempfile::tempfile().unwrap();
                (&file).write_all(text.as_bytes()).unwrap();
                let bytes = text.as_bytes();
                connection.put(held.unwrap(), name, bytes, &[file.as_fd()]).unwrap();
                say("put");
            }
            _ => {}
        }
        if let Some(wanted) = claim {
            match connection.take_within(wanted, Duration::ZERO) {
                Ok(None) => {}
                Ok(Some(epoch)) => {
                    (held, claim) = (Some(epoch), None);
                    say(&format!("taken {epoch}"));
                }
                Err(error) => {
                    claim = None;
                    say(&format!("refused: {error}"));
                }
            }
        }
        if let Some(epoch) = held {
            match connection.beat(epoch) {
                Ok(()) | Err(KeeperError::TimedOut) => {}
                Err(KeeperError::Unreachable(_)) => {
                    held = None;
                    say("unreachable");
                }
                Err(error) => {
                    held = None;
                    say(&format!("lost: {error}"));
                }
            }
            if held.is_some() && connection.poll_yield(Duration::ZERO).unwrap() {
                say("yield");
            }
        }
    }
}
