//! Whatever is sent, the keeper answers or closes, keeps no file descriptor, and serves the others.

use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use keyhole::keeper::client::Role;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recv, sendmsg, socket_with,
};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use super::actor::Actor;
use super::process::{Keeper, SOON, number, until};

const HELLO: &[u8] = b"KH\x01\x01\x01\0\0\0\x01\x01\x01";
const STATS: &[u8] = b"KH\x01\x0b\x02\0\0\0";
/// REFUSED with number 1, 2 or 0: malformed.
const MALFORMED: &[u8] = &[2, 1, 1];

/// A connection that says what it likes.
struct Raw(OwnedFd);

impl Raw {
    fn connect(keeper: &Keeper) -> Self {
        Self::at(&keeper.socket)
    }

    fn at(path: &Path) -> Self {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
        Self(socket)
    }

    fn greeted(keeper: &Keeper) -> Self {
        let raw = Self::connect(keeper);
        raw.send(HELLO, &[myself().as_fd()]).unwrap();
        assert_eq!(raw.answer().unwrap()[3], 0x81);
        raw
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> std::io::Result<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        Ok(sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, flags).map(drop)?)
    }

    /// The next answer; `None` at the end.
    fn answer(&self) -> Option<Vec<u8>> {
        loop {
            let mut fds = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
            let soon = Timespec::try_from(SOON).unwrap();
            assert!(poll(&mut fds, Some(&soon)).unwrap() > 0, "neither an answer nor the end");
            let mut buffer = vec![0; 65_536];
            match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => return None,
                Ok((_, length)) => return Some(buffer[..length].to_vec()),
                // It closed with more of ours unread; what it said before comes next.
                Err(rustix::io::Errno::CONNRESET) => {}
                Err(errno) => panic!("{errno}"),
            }
        }
    }

    /// It is answered that this is malformed, and hung up.
    fn is_malformed(&self, what: &str) {
        let answer = self.answer().unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!((answer[3], &answer[8..]), (0x84, MALFORMED), "{what}");
        assert_eq!(self.answer(), None, "{what}");
    }
}

fn myself() -> OwnedFd {
    pidfd_open(getpid(), PidfdFlags::empty()).unwrap()
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

/// Nothing is left open in the keeper, and it serves.
fn is_as_before(keeper: &Keeper, files: usize) {
    until(&format!("{files} files are open as before"), SOON, || keeper.files() == files);
    keeper.connect(Role::Watcher).0.stats().unwrap();
}

#[test]
fn what_is_no_message_is_refused_and_its_files_are_closed() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    let files = keeper.files();
    let (myself, null) = (myself(), null());
    let put = [b"KH\x01\x05\x02\0\0\0", &epoch.to_le_bytes()[..], b"\x01x\0\0\0\0"].concat();
    let cases: [(&str, &[u8], usize); 8] = [
        ("garbage", b"GET / HTTP/1.1\r\n", 3),
        ("a head that is cut", &STATS[..7], 1),
        ("a field that is cut", &put[..put.len() - 1], 2),
        ("files where none belong", STATS, 1),
        ("number 0", b"KH\x01\x0b\0\0\0\0", 0),
        ("a second HELLO", HELLO, 1),
        ("a version that was not agreed on", b"KH\x02\x0b\x02\0\0\0", 0),
        ("too many files", &put, 251),
    ];
    for (what, bytes, count) in cases {
        let raw = Raw::greeted(&keeper);
        raw.send(bytes, &vec![null.as_fd(); count]).unwrap();
        raw.is_malformed(what);
    }
    let raw = Raw::greeted(&keeper);
    raw.send(&[&put[..], &[0; 65_536]].concat(), &[null.as_fd()]).unwrap();
    raw.is_malformed("a message that is too long");
    let other = pidfd_open(number(keeper.pid()), PidfdFlags::empty()).unwrap();
    let hellos: [(&str, &[BorrowedFd<'_>]); 4] = [
        ("no pidfd", &[]),
        ("two", &[myself.as_fd(), myself.as_fd()]),
        ("a file", &[null.as_fd()]),
        ("the pidfd of another", &[other.as_fd()]),
    ];
    for (what, fds) in hellos {
        let raw = Raw::connect(&keeper);
        raw.send(HELLO, fds).unwrap();
        raw.is_malformed(what);
    }
    let raw = Raw::connect(&keeper);
    raw.send(&put, &[null.as_fd()]).unwrap();
    raw.is_malformed("no HELLO");
    is_as_before(&keeper, files);
    assert!(keeper.driver().list_all().unwrap().is_empty());
}

#[test]
fn random_bytes_and_files_leave_nothing_behind() {
    let keeper = Keeper::start();
    let files = keeper.files();
    let null = null();
    // xorshift, from a fixed seed.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below).unwrap()
    };
    for round in 0..600 {
        let raw = if round % 2 == 0 { Raw::connect(&keeper) } else { Raw::greeted(&keeper) };
        for _ in 0..4 {
            let mut bytes: Vec<u8> =
                (0..1 + random(80)).map(|_| u8::try_from(random(256)).unwrap()).collect();
            if random(4) > 0 {
                // With a good head, so that the fields are reached. (Not TAKE: we would be a holder.)
                let kind = [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99][random(11)];
                bytes = [b"KH\x01", &[kind][..], b"\x07\0\0\0", &bytes].concat();
            }
            let fds = vec![null.as_fd(); random(4)];
            // It may have hung up after the one before.
            if let Err(error) = raw.send(&bytes, &fds) {
                assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset));
                break;
            }
        }
    }
    is_as_before(&keeper, files);
    assert!(keeper.driver().list_all().unwrap().is_empty());
}

#[test]
fn a_client_that_does_not_read_is_hung_up_on_and_blocks_nobody() {
    let keeper = Keeper::start();
    let (_driver, epoch) = Actor::holder(&keeper.socket);
    let mut driver = keeper.driver();
    driver.put(epoch, "long", &vec![7; 60_000], &[]).unwrap();
    let files = keeper.files();
    let deaf = Raw::greeted(&keeper);
    until("it is hung up on", SOON, || {
        driver.get("long").unwrap().unwrap();
        let sent = deaf.send(b"KH\x01\x08\x02\0\0\0\x04long", &[]);
        sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    });
    drop(deaf);
    is_as_before(&keeper, files);
}

#[test]
fn versions_are_agreed_on_or_named() {
    let keeper = Keeper::start();
    let future = Raw::connect(&keeper);
    // Only version 7: the keeper says which ones it speaks, and goes on.
    future.send(b"KH\x07\x01\x01\0\0\0\x07\x07\x01", &[myself().as_fd()]).unwrap();
    assert_eq!(future.answer().unwrap()[2..], *b"\x01\x84\x01\0\0\0\x09\x01\x01");
    // Versions 1 to 3, with a field that version 1 does not know.
    let hello = b"KH\x03\x01\x02\0\0\0\x01\x03\x01 and a new field";
    future.send(hello, &[myself().as_fd()]).unwrap();
    assert_eq!(future.answer().unwrap()[2..9], *b"\x01\x81\x02\0\0\0\x01");
    // A kind and a claim of version 3: refused as unsupported, nothing is over.
    future.send(b"KH\x01\x70\x03\0\0\0 whatever", &[]).unwrap();
    assert_eq!(future.answer().unwrap()[2..], *b"\x01\x84\x03\0\0\0\x01\x01\x01");
    future.send(b"KH\x01\x02\x04\0\0\0\x09\0\0\0\0\0\0\0\0\0", &[]).unwrap();
    assert_eq!(future.answer().unwrap()[2..], *b"\x01\x84\x04\0\0\0\x01\x01\x01");
    future.send(b"KH\x01\x0b\x05\0\0\0", &[]).unwrap();
    assert_eq!(future.answer().unwrap()[3], 0x89);
}

#[test]
fn connections_are_bounded() {
    let keeper = Keeper::start();
    let files = keeper.files();
    let many: Vec<_> = (0..64).map(|_| Raw::greeted(&keeper)).collect();
    assert_eq!(Raw::connect(&keeper).answer(), None);
    many[0].send(STATS, &[]).unwrap();
    assert_eq!(many[0].answer().unwrap()[3], 0x89);
    drop(many);
    is_as_before(&keeper, files);
}

#[test]
fn another_user_is_not_served() {
    let keeper = Keeper::start();
    let folder = keeper.socket.parent().unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(folder), mode(&keeper.socket)), (0o700, 0o600));
    // As if somebody had opened the way.
    for (path, mode) in
        [(folder.parent().unwrap(), 0o711), (folder, 0o711), (&keeper.socket, 0o666)]
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let socket = keeper.socket.as_path();
    std::thread::scope(|scope| {
        let foreign = scope.spawn(|| {
            // The user of this thread alone, which ends here.
            let user = rustix::process::Uid::from_raw(1000);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            let raw = Raw::at(socket);
            // It may be closed before we speak.
            drop(raw.send(HELLO, &[]));
            raw.answer()
        });
        assert_eq!(foreign.join().unwrap(), None);
    });
    Raw::greeted(&keeper);
}
