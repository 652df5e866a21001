//! Datagrams with file descriptors over SOCK_SEQPACKET, and the place where the keeper listens.
//!
//! Nothing here blocks. File descriptors that came with a message are owned as soon as they are here, so a bad
//! message closes them by being dropped.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    bind, recvmsg, sendmsg, socket_with, socketpair,
};

use super::KeeperError;
use super::protocol::FDS;

/// What one datagram held.
#[derive(Debug)]
pub(super) struct Received {
    /// How many bytes of the buffer it filled; 0 when the other side is gone.
    pub(super) length: usize,
    /// What came with it.
    pub(super) fds: Vec<OwnedFd>,
    /// Whether some of it was lost: it was longer than the buffer, or held too many file descriptors.
    pub(super) cut: bool,
}

/// Takes one datagram; `WouldBlock` when there is none.
///
/// # Errors
/// None is there, or the connection is broken.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = loop {
        match recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            done => break done?,
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    // The space is rounded up and may take one more.
    let cut = message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) || fds.len() > FDS;
    Ok(Received { length: message.bytes, fds, cut })
}

/// Sends one datagram, or nothing.
///
/// # Errors
/// `WouldBlock` when the other side does not read; else the connection is broken.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            done => return done.map(drop).map_err(Into::into),
        }
    }
}

/// A new socket, of the one kind that there is here.
pub(super) fn new() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Two that are connected.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// A place where the keeper listens, and no other keeper does.
#[derive(Debug)]
pub(super) struct Place {
    listener: OwnedFd,
    /// Locked as long as we live; two keepers in one place would mean two holders of the epoch.
    _folder: OwnedFd,
}

impl Place {
    /// Makes the folder private to root, and the socket before it gets its name, so that nobody meets it half
    /// made. A socket that is left from an earlier keeper is replaced.
    pub(super) fn listen(path: &Path) -> Result<Self, KeeperError> {
        let wrong = || io::Error::from(io::ErrorKind::InvalidInput);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder =
            folder.ok_or_else(wrong).map_err(KeeperError::host("--socket needs a folder"))?;
        let name = path.file_name().ok_or_else(wrong).map_err(KeeperError::host("--socket"))?;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(KeeperError::host("make the socket's folder"))?;
        let known = folder.metadata().map_err(KeeperError::host("look at the socket's folder"))?;
        if known.mode() & 0o1000 != 0 {
            // /tmp and its like belong to everybody: they must not be closed.
            return Err(KeeperError::host("the socket needs a folder of its own")(wrong()));
        }
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
            .map_err(KeeperError::host("make the socket's folder private"))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = open(folder, flags, Mode::empty())
            .map_err(KeeperError::host("open the socket's folder"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(KeeperError::host("another keeper runs here"))?;
        let mut fresh = name.to_owned();
        fresh.push(".new");
        let fresh = folder.join(fresh);
        drop(std::fs::remove_file(&fresh));
        let listener = new().map_err(KeeperError::host("make a socket"))?;
        let address = SocketAddrUnix::new(&fresh)
            .map_err(KeeperError::host("the socket's path is too long"))?;
        bind(&listener, &address).map_err(KeeperError::host("bind the socket"))?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
            .map_err(KeeperError::host("make the socket private"))?;
        rustix::net::listen(&listener, 64).map_err(KeeperError::host("listen"))?;
        std::fs::rename(&fresh, path).map_err(KeeperError::host("name the socket"))?;
        Ok(Self { listener, _folder: lock })
    }

    /// The next connection: its socket, and the process and the user at its other end.
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, u32, u32)> {
        let socket = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        // By nix, which gives the plain number: 0 stands for a process that our pid namespace does not know.
        let peer =
            nix::sys::socket::getsockopt(&socket, nix::sys::socket::sockopt::PeerCredentials)?;
        Ok((socket, u32::try_from(peer.pid()).unwrap_or_default(), peer.uid()))
    }
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
