//! Between `fs`'s types and fuser's.

use fuser::{FileAttr, FileHandle, FileType, FopenFlags, INodeNo, Request};

use crate::fs::attr::{Attr, Cache, Kind, Opened};
use crate::fs::files::Asker;
use crate::fs::node::NodeId;

pub(super) fn node(number: INodeNo) -> NodeId {
    NodeId(number.0)
}

pub(super) fn number(node: NodeId) -> INodeNo {
    INodeNo(node.0)
}

pub(super) fn asker(request: &Request) -> Asker {
    Asker { tid: request.pid() }
}

pub(super) fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Link => FileType::Symlink,
    }
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: number(attr.node),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: attr.mtime,
        mtime: attr.mtime,
        ctime: attr.mtime,
        crtime: attr.mtime,
        kind: kind(attr.kind),
        perm: attr.mode,
        nlink: if attr.kind == Kind::Directory { 2 } else { 1 },
        uid: attr.uid,
        gid: attr.gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

pub(super) fn opened(opened: Opened) -> (FileHandle, FopenFlags) {
    let cache = match opened.cache {
        Cache::Keep => FopenFlags::FOPEN_KEEP_CACHE,
        Cache::Direct => FopenFlags::FOPEN_DIRECT_IO,
    };
    // A close writes nothing: no FLUSH for it.
    (FileHandle(opened.handle.0), cache | FopenFlags::FOPEN_NOFLUSH)
}
