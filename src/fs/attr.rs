//! What operations answer: attributes, entries, open handles, and "fetch this first".

use std::time::{Duration, SystemTime};

use crate::fs::node::NodeId;

/// How long the kernel may keep what cannot change, or what we take back when it does.
pub(super) const LONG: Duration = Duration::from_secs(24 * 3600);

/// What kind of inode it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A file.
    File,
    /// A symbolic link.
    Link,
}

/// What `stat` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// The inode.
    pub node: NodeId,
    /// Its kind.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When this content was installed.
    pub mtime: SystemTime,
    /// How long the kernel may keep this; zero while the true size is not known.
    pub ttl: Duration,
}

/// What a lookup found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The inode behind the name.
    pub attr: Attr,
    /// How long the kernel may keep the name.
    pub ttl: Duration,
}

/// Whether the kernel may serve reads of a handle from its page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// The inode's content never changes: the pages stay good.
    Keep,
    /// The handle pins bytes that are not the inode's own: every read asks us.
    Direct,
}

/// An open handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Its number: the version that it pins.
    pub handle: NodeId,
    /// What the kernel may do.
    pub cache: Cache,
}

/// One line of a folder's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The inode.
    pub node: NodeId,
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// An answer, or what must be fetched before there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<T> {
    /// The answer.
    Done(T),
    /// Fetch this file for at most this long, then ask again with [`Attempt::Fetched`].
    Fetch {
        /// Index in the spec.
        file: usize,
        /// How long the reader may wait.
        budget: Duration,
    },
}

/// Whether a fetch was tried for this very request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Not yet.
    First,
    /// It was; with or without success.
    Fetched,
}
