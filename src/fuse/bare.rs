//! The few requests that can be answered by somebody who knows nothing of a volume but its names: so that nothing
//! hangs while there is no driver. Pure: bytes in, bytes out, after linux/fuse.h.
//!
//! stat, statfs and the list of the root are what kubelet and the runtime ask; everything else is EIO, which says
//! "not now", never ENOENT, which would say "not configured".

const HEADER: usize = 40;
const ROOT: u64 = 1;
/// For how long the kernel may keep what we say of the root.
const VALID: u64 = 1;

mod code {
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const STATFS: u32 = 17;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const GETXATTR: u32 = 22;
    pub(super) const LISTXATTR: u32 = 23;
    pub(super) const OPENDIR: u32 = 27;
    pub(super) const READDIR: u32 = 28;
    pub(super) const RELEASEDIR: u32 = 29;
    pub(super) const DESTROY: u32 = 38;
    pub(super) const BATCH_FORGET: u32 = 42;
    pub(super) const STATX: u32 = 52;
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// The answer to a request; `None` for one that has none.
pub(super) fn answer(request: &[u8], names: &[String]) -> Option<Vec<u8>> {
    let (operation, unique) = (u32_at(request, 4)?, u64_at(request, 8)?);
    let root = u64_at(request, 16)? == ROOT;
    let body = match operation {
        code::FORGET | code::BATCH_FORGET => return None,
        code::GETATTR if root => Ok(attributes()),
        code::STATFS => Ok(statistics()),
        code::OPENDIR if root => Ok(vec![0; 16]),
        code::READDIR if root => {
            let (offset, size) = (u64_at(request, HEADER + 8)?, u32_at(request, HEADER + 16)?);
            Ok(list(names, offset, size as usize))
        }
        code::RELEASE | code::RELEASEDIR | code::DESTROY => Ok(Vec::new()),
        // As the driver says, for ever: the kernel then asks GETATTR instead, or does not ask at all.
        code::STATX | code::GETXATTR | code::LISTXATTR => Err(-libc::ENOSYS),
        _ => Err(-libc::EIO),
    };
    let (error, body) = match body {
        Ok(body) => (0, body),
        Err(error) => (error, Vec::new()),
    };
    let mut out = Vec::with_capacity(16 + body.len());
    out.extend(u32::try_from(16 + body.len()).ok()?.to_le_bytes());
    out.extend(error.to_le_bytes());
    out.extend(unique.to_le_bytes());
    out.extend(body);
    Some(out)
}

/// `fuse_attr_out` of a folder that everybody may enter, as the driver describes it.
fn attributes() -> Vec<u8> {
    let mut out = Vec::with_capacity(104);
    out.extend(VALID.to_le_bytes());
    out.extend([0; 8]);
    out.extend(ROOT.to_le_bytes());
    // Size, blocks, three times, three parts of seconds.
    out.extend([0; 5 * 8 + 3 * 4]);
    for number in [libc::S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0] {
        out.extend(number.to_le_bytes());
    }
    out
}

/// `fuse_statfs_out` with nothing in it but the sizes of blocks and names.
fn statistics() -> Vec<u8> {
    let mut out = vec![0; 40];
    for number in [4096_u32, 255, 4096, 0] {
        out.extend(number.to_le_bytes());
    }
    out.extend([0; 24]);
    out
}

/// `fuse_dirent`s from `offset` on, as many as fit.
fn list(names: &[String], offset: u64, size: usize) -> Vec<u8> {
    let dots = [(".", libc::DT_DIR), ("..", libc::DT_DIR)];
    let links = names.iter().map(|name| (name.as_str(), libc::DT_LNK));
    let all = dots.into_iter().chain([("..data", libc::DT_LNK)]).chain(links);
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut out = Vec::new();
    for (next, (name, kind)) in (1_u64..).zip(all).skip(skip) {
        let length = (24 + name.len()).next_multiple_of(8);
        if out.len() + length > size {
            break;
        }
        let start = out.len();
        // An inode that is nobody's: only lists show it.
        out.extend(u64::from(u32::MAX).to_le_bytes());
        out.extend(next.to_le_bytes());
        out.extend(u32::try_from(name.len()).unwrap_or_default().to_le_bytes());
        out.extend(u32::from(kind).to_le_bytes());
        out.extend(name.as_bytes());
        out.resize(start + length, 0);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(operation: u32, node: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..8].copy_from_slice(&operation.to_le_bytes());
        bytes[8..16].copy_from_slice(&7_u64.to_le_bytes());
        bytes[16..24].copy_from_slice(&node.to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn the_root_is_described_and_all_else_is_eio() {
        // Lengths from linux/fuse.h: a header of 16 and fuse_attr_out, fuse_statfs_out, fuse_open_out.
        for (operation, length) in [(code::GETATTR, 104), (code::STATFS, 80), (code::OPENDIR, 16)] {
            let out = answer(&request(operation, ROOT, &[]), &[]).unwrap();
            assert_eq!(out.len(), 16 + length);
            assert_eq!(u32_at(&out, 0), Some(16 + u32::try_from(length).unwrap()));
            assert_eq!((u32_at(&out, 4), u64_at(&out, 8)), (Some(0), Some(7)));
        }
        for (operation, node) in
            [(code::GETATTR, 5 << 60), (1, ROOT), (14, ROOT), (15, ROOT), (77, ROOT)]
        {
            let out = answer(&request(operation, node, &[0; 64]), &[]).unwrap();
            assert_eq!(u32_at(&out, 4).unwrap().cast_signed(), -libc::EIO, "{operation}");
        }
        assert_eq!(answer(&request(code::FORGET, ROOT, &[0; 8]), &[]), None);
    }

    #[test]
    fn a_list_that_does_not_fit_goes_on_where_it_ended() {
        let names: Vec<String> = ["a", "a-long-name"].map(Into::into).into();
        let whole = list(&names, 0, 4096);
        assert_eq!(whole.len(), 32 * 4 + 40);
        let mut parts = Vec::new();
        let mut offset = 0;
        while let part = list(&names, offset, 40)
            && !part.is_empty()
        {
            offset += 1;
            parts.extend(part);
        }
        assert_eq!(parts, whole);
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _answer = answer(&bytes, &["name".to_owned()]);
        }
    }
}
