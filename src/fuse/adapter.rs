//! [`Adapter`]: fuser's requests to `fs`, and the answers back. Translates only.
//!
//! What `fs` knows is answered on the session's thread. What must be fetched first is answered from a
//! task, so that a slow Vault holds up nobody else. Every request is answered: the budgets see to it,
//! and a reply that is dropped answers EIO.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::failpoint;
use crate::fs::attr::{Attempt, Attr, Entry, Listed, Opened, Step};
use crate::fs::error::FsError;
use crate::fs::files::Files;
use crate::fs::node::{Node, NodeId};
use crate::fs::serve::Source;
use crate::fuse::refuse::refuse_changes;
use crate::fuse::{convert, errno};

/// The most that a fetch may overrun its budget before its readers are answered without it.
const OVERRUN: Duration = Duration::from_millis(500);
/// Small reads suffice: the largest file is 1 MiB, and nothing is written.
const MAX_WRITE: u32 = 64 * 1024;
/// The kernel marks requests so that it sends again: `FUSE_UNIQUE_RESEND` of linux/fuse.h.
const RESENT: u64 = 1 << 63;
/// ALLOW_IDMAP: without it pods with `hostUsers: false` cannot start. NO_EXPORT_SUPPORT: no NFS.
/// Not wanted: REQUEST_TIMEOUT (aborts whole connections), io_uring, passthrough, readdirplus.
const WANTED: [InitFlags; 4] = [
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_NO_EXPORT_SUPPORT,
    InitFlags::FUSE_ALLOW_IDMAP,
];

/// One volume's file system, as fuser sees it.
#[derive(Clone)]
pub(super) struct Adapter {
    pub(super) inner: Arc<Inner>,
    pub(super) runtime: Handle,
}

pub(super) struct Inner {
    pub(super) shown: ArcSwap<Shown>,
    pub(super) clock: Arc<dyn Clock>,
    /// Answers that wait for a fetch.
    pub(super) owed: AtomicUsize,
}

/// What a mount shows, and where it comes from.
pub(super) struct Shown {
    pub(super) files: Arc<Files>,
    pub(super) source: Arc<dyn Source>,
}

impl Inner {
    fn files(&self) -> Arc<Files> {
        Arc::clone(&self.shown.load().files)
    }
}

impl Adapter {
    /// Answers now, or after a fetch. `ask` is asked at most twice.
    fn answer<T: 'static>(
        &self,
        ask: impl Fn(&Inner, Attempt) -> Result<Step<T>, FsError> + Send + 'static,
        reply: impl FnOnce(Result<T, Errno>) + Send + 'static,
    ) {
        let (file, budget) = match ask(&self.inner, Attempt::First) {
            Ok(Step::Done(answer)) => return reply(Ok(answer)),
            Err(error) => return reply(Err(errno::of(error))),
            Ok(Step::Fetch { file, budget }) => (file, budget),
        };
        let inner = Arc::clone(&self.inner);
        inner.owed.fetch_add(1, Ordering::AcqRel);
        drop(self.runtime.spawn(async move {
            let source = Arc::clone(&inner.shown.load().source);
            let fetch = source.fetch(file, budget);
            let late = tokio::time::timeout(budget + OVERRUN, fetch).await.is_err();
            reply(match ask(&inner, Attempt::Fetched) {
                Ok(Step::Done(answer)) => Ok(answer),
                Ok(Step::Fetch { .. }) => Err(Errno::EIO),
                Err(_) if late => Err(Errno::EIO),
                Err(error) => Err(errno::of(error)),
            });
            inner.owed.fetch_sub(1, Ordering::AcqRel);
        }));
    }
}

/// Whether a server before us has read this request and not answered it, as far as the kernel knows.
fn is_again(request: &Request) -> bool {
    request.unique().0 & RESENT != 0
}

fn send_entry(reply: ReplyEntry, found: Result<Entry, Errno>) {
    match found {
        Ok(Entry { attr, ttl }) => {
            reply.entry_with_ttls(&attr.ttl, &ttl, &convert::attr(&attr), Generation(0));
        }
        Err(error) => reply.error(error),
    }
}

fn send_attr(reply: ReplyAttr, known: Result<Attr, Errno>) {
    match known {
        Ok(attr) => reply.attr(&attr.ttl, &convert::attr(&attr)),
        Err(error) => reply.error(error),
    }
}

fn send_opened(reply: ReplyOpen, opened: Result<Opened, Errno>) {
    match opened {
        Ok(opened) => {
            let (handle, flags) = convert::opened(opened);
            reply.opened(handle, flags);
        }
        Err(error) => reply.error(error),
    }
}

fn send_list(mut reply: ReplyDirectory, offset: u64, list: Result<Vec<Listed>, Errno>) {
    match list {
        Ok(list) => {
            let skip = usize::try_from(offset).unwrap_or(usize::MAX);
            for (next, line) in (1_u64..).zip(list).skip(skip) {
                let Listed { node, kind, name } = line;
                if reply.add(convert::number(node), next, convert::kind(kind), name) {
                    break;
                }
            }
            reply.ok();
        }
        Err(error) => reply.error(error),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for wanted in WANTED {
            // An older kernel lacks some; none is needed to serve.
            let _ = config.add_capabilities(wanted);
        }
        let _ = config.set_max_write(MAX_WRITE);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let Some(name) = name.to_str().map(ToOwned::to_owned) else {
            return reply.error(Errno::ENOENT);
        };
        let parent = convert::node(parent);
        self.answer(
            move |inner, attempt| inner.files().lookup(parent, &name, attempt),
            |found| send_entry(reply, found),
        );
    }

    fn getattr(&self, request: &Request, ino: INodeNo, fh: Option<FileHandle>, reply: ReplyAttr) {
        let (node, asker) = (convert::node(ino), convert::asker(request));
        let handle = fh.map(|handle| NodeId(handle.0));
        self.answer(
            move |inner, attempt| inner.files().getattr(node, handle, asker, attempt),
            |known| send_attr(reply, known),
        );
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        match self.inner.files().readlink(convert::node(ino)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(error) => reply.error(errno::of(error)),
        }
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(errno::of(FsError::ReadOnly));
        }
        let (node, asker) = (convert::node(ino), convert::asker(request));
        self.answer(
            move |inner, attempt| inner.files().open(node, asker, inner.clock.now(), attempt),
            |opened| send_opened(reply, opened),
        );
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.inner.files().read(NodeId(fh.0)) {
            Ok(bytes) => {
                let bytes = bytes.expose();
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let end = start.saturating_add(size as usize).min(bytes.len());
                reply.data(bytes.get(start..end).unwrap_or_default());
            }
            Err(error) => reply.error(errno::of(error)),
        }
    }

    fn release(
        &self,
        request: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.inner.files().release(NodeId(fh.0), is_again(request));
        reply.ok();
    }

    fn opendir(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Lists change only with a generation, which makes the kernel forget the root's; a folder of
        // fields is not known before it was fetched.
        let flags = match convert::node(ino).node() {
            Some(Node::Root | Node::Folder { .. }) => {
                FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE
            }
            _ => FopenFlags::empty(),
        };
        reply.opened(FileHandle(0), flags);
    }

    fn readdir(
        &self,
        request: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let (node, asker) = (convert::node(ino), convert::asker(request));
        self.answer(
            move |inner, attempt| {
                // Only the first call of a list may fetch.
                let attempt = if offset > 0 { Attempt::Fetched } else { attempt };
                inner.files().list(node, asker, attempt)
            },
            move |list| send_list(reply, offset, list),
        );
        if convert::node(ino) == NodeId::ROOT {
            let source = Arc::clone(&self.inner.shown.load().source);
            drop(self.runtime.spawn(async move { source.listed().await }));
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // ENOSYS: the kernel does not ask again, and close(2) succeeds.
        reply.error(Errno::ENOSYS);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, reply: ReplyXattr) {
        // ENOSYS: the kernel does not ask again, and programs see "not supported".
        reply.error(Errno::ENOSYS);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _: u32, reply: ReplyXattr) {
        reply.error(Errno::ENOSYS);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let names = name.to_str().zip(target.to_str());
        let made = names.ok_or(FsError::ReadOnly).and_then(|(name, target)| {
            let asker = (convert::asker(request), is_again(request));
            self.inner.files().rotation_link(asker, convert::node(parent), name, target)
        });
        failpoint::reach("rotation.symlink");
        send_entry(reply, made.map_err(errno::of));
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        failpoint::reach("rotation.rename");
        let root = INodeNo::ROOT;
        let plain = flags.is_empty() && parent == root && newparent == root;
        let names = name.to_str().zip(newname.to_str()).filter(|_| plain);
        let moved = names.ok_or(FsError::ReadOnly).and_then(|(name, newname)| {
            let asker = (convert::asker(request), is_again(request));
            self.inner.files().rotation_rename(asker, name, newname)
        });
        failpoint::reach("rotation.linked");
        match moved {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno::of(error)),
        }
    }

    refuse_changes!();
}
