//! The client against a keeper that answers late, out of turn, or nonsense.

use std::io::ErrorKind;

use super::*;
use crate::keeper::page::OwnPage;
use crate::keeper::process::is_readable;
use crate::keeper::protocol::Header;

const SOON: Duration = Duration::from_secs(10);

/// The other end of a client's socket.
struct Keeper {
    end: OwnedFd,
    page: OwnPage,
}

impl Keeper {
    fn say(&self, request: u32, answer: &Answer<'_>) {
        let page = [self.page.file()];
        let fds = if matches!(answer, Answer::Welcome { .. }) { &page[..] } else { &[] };
        let mut out = Vec::new();
        answer.encode(Header { version: 1, request }, &mut out).unwrap();
        socket::send(self.end.as_fd(), &out, fds).unwrap();
    }

    /// Takes what the client said.
    fn hears(&self, wanted: &Request<'_>) {
        let mut buffer = vec![0; MESSAGE];
        let message = socket::receive(self.end.as_fd(), &mut buffer).unwrap();
        assert_eq!(&Request::decode(&buffer[..message.length]).unwrap().1, wanted);
    }
}

/// A client that has said HELLO (number 1). The answers it will get are put into its socket beforehand.
fn greeted() -> (Connection, Keeper) {
    let (ours, end) = socket::pair().unwrap();
    let keeper = Keeper { end, page: OwnPage::new().unwrap() };
    keeper.page.write(5);
    keeper.say(1, &Answer::Welcome { version: 1, epoch: 5, entries: 2, age: 3000 });
    let (connection, welcome) = Connection::over(ours, Role::Driver, SOON).unwrap();
    assert_eq!((welcome.epoch, welcome.entries, welcome.page.current()), (5, 2, 5));
    assert_eq!(welcome.age, Duration::from_secs(3));
    keeper.hears(&Request::Hello { lowest: 1, highest: 1, role: Role::Driver });
    (connection, keeper)
}

fn is_broken<T>(result: Result<T, KeeperError>) -> bool {
    matches!(result, Err(KeeperError::Broken { .. }))
}

#[test]
fn a_grant_that_comes_while_something_else_is_awaited_is_not_lost() {
    let (mut client, keeper) = greeted();
    let claim = Claim { how: How::Wait, epoch: 4, alone: false };
    assert_eq!(client.take_within(claim, Duration::ZERO).unwrap(), None);
    keeper.hears(&Request::Take(claim));
    assert_eq!(client.take_within(claim, Duration::ZERO).unwrap(), None);
    assert!(!is_readable(keeper.end.as_fd()), "it claims once");
    keeper.say(2, &Answer::Taken { epoch: 6 });
    keeper.say(0, &Answer::Yield);
    assert!(client.poll_yield(SOON).unwrap());
    assert!(!client.poll_yield(Duration::ZERO).unwrap(), "told once");
    assert_eq!(client.take_within(claim, Duration::ZERO).unwrap(), Some(6));
    assert_eq!(client.take_within(claim, Duration::ZERO).unwrap(), None, "a new claim");
    keeper.hears(&Request::Take(claim));
    let other = Claim { how: How::Succeed, ..claim };
    assert!(is_broken(client.take_within(other, Duration::ZERO)), "one at a time");
}

#[test]
fn an_answer_that_came_too_late_is_skipped() {
    let (mut client, keeper) = greeted();
    let errand = crate::keeper::errand::Errand::Prime;
    let late = client.errand(5, 77, ("v", 0), &errand, Duration::ZERO);
    assert!(matches!(late, Err(KeeperError::TimedOut)));
    keeper.say(2, &Answer::Outcome { errno: 5, bytes: b"" });
    keeper.say(3, &Answer::Refused(Why::Stale));
    assert!(matches!(client.beat(5), Err(KeeperError::Stale)));
    keeper.say(0, &Answer::Yield);
    keeper.say(4, &Answer::Done);
    client.beat(5).unwrap();
    assert!(client.poll_yield(Duration::ZERO).unwrap(), "it came in between");
}

#[test]
fn what_does_not_fit_is_an_error_and_not_a_result() {
    let (mut client, keeper) = greeted();
    keeper.say(2, &Answer::Taken { epoch: 9 });
    assert!(is_broken(client.beat(5)));
    keeper.say(3, &Answer::Names { names: Vec::new(), more: true });
    assert!(is_broken(client.list_all()), "it would ask for ever");
    socket::send(keeper.end.as_fd(), b"nonsense", &[]).unwrap();
    assert!(is_broken(client.stats()));
    keeper.say(0, &Answer::Refused(Why::Malformed));
    assert!(is_broken(client.get("x")));
    keeper.say(6, &Answer::Refused(Why::Absent));
    assert!(client.get("x").unwrap().is_none());
    keeper.say(7, &Answer::Refused(Why::Full));
    assert!(matches!(client.put(5, "x", b"", &[]), Err(KeeperError::Refused { why: Why::Full })));
    assert!(is_broken(client.put(5, &"n".repeat(256), b"", &[])), "not sent at all");
    drop(keeper);
    let over = client.stats();
    assert!(
        matches!(&over, Err(KeeperError::Unreachable(error)) if matches!(
            error.kind(),
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
        )),
        "{over:?}"
    );
}

#[test]
fn a_keeper_without_a_page_or_a_version_is_none() {
    for (version, page) in [(1, false), (2, true), (0, true)] {
        let (ours, end) = socket::pair().unwrap();
        let keeper = Keeper { end, page: OwnPage::new().unwrap() };
        let welcome = Answer::Welcome { version, epoch: 0, entries: 0, age: 0 };
        if page {
            keeper.say(1, &welcome);
        } else {
            let mut out = Vec::new();
            welcome.encode(Header { version: 1, request: 1 }, &mut out).unwrap();
            socket::send(keeper.end.as_fd(), &out, &[]).unwrap();
        }
        assert!(is_broken(Connection::over(ours, Role::Driver, SOON)));
    }
    let nobody = Connection::open(Path::new("/nowhere/keeper.sock"), Role::Driver, SOON);
    assert!(matches!(nobody, Err(KeeperError::Unreachable(_))));
}
