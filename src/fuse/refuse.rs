//! Every call that would change something: EROFS.
//!
//! The mount is read-only, so the kernel refuses most of them itself; these answer a mount of the same
//! superblock that is not.

/// The changing methods of `fuser::Filesystem`.
macro_rules! refuse_changes {
    () => {
        fn setattr(
            &self,
            _: &Request,
            _: INodeNo,
            _: Option<u32>,
            _: Option<u32>,
            _: Option<u32>,
            _: Option<u64>,
            _: Option<TimeOrNow>,
            _: Option<TimeOrNow>,
            _: Option<SystemTime>,
            _: Option<FileHandle>,
            _: Option<SystemTime>,
            _: Option<SystemTime>,
            _: Option<SystemTime>,
            _: Option<BsdFileFlags>,
            reply: ReplyAttr,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn mknod(
            &self,
            _: &Request,
            _: INodeNo,
            _: &OsStr,
            _: u32,
            _: u32,
            _: u32,
            reply: ReplyEntry,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn mkdir(&self, _: &Request, _: INodeNo, _: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn unlink(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn rmdir(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn write(
            &self,
            _: &Request,
            _: INodeNo,
            _: FileHandle,
            _: u64,
            _: &[u8],
            _: WriteFlags,
            _: OpenFlags,
            _: Option<LockOwner>,
            reply: ReplyWrite,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn setxattr(
            &self,
            _: &Request,
            _: INodeNo,
            _: &OsStr,
            _: &[u8],
            _: i32,
            _: u32,
            reply: ReplyEmpty,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn create(
            &self,
            _: &Request,
            _: INodeNo,
            _: &OsStr,
            _: u32,
            _: u32,
            _: i32,
            reply: ReplyCreate,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn fallocate(
            &self,
            _: &Request,
            _: INodeNo,
            _: FileHandle,
            _: u64,
            _: u64,
            _: i32,
            reply: ReplyEmpty,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }

        fn copy_file_range(
            &self,
            _: &Request,
            _: INodeNo,
            _: FileHandle,
            _: u64,
            _: INodeNo,
            _: FileHandle,
            _: u64,
            _: u64,
            _: CopyFileRangeFlags,
            reply: ReplyWrite,
        ) {
            reply.error(errno::of(FsError::ReadOnly));
        }
    };
}

pub(super) use refuse_changes;
