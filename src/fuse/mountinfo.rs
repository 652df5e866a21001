//! What is mounted at a path, from `/proc/self/mountinfo`. Never touches the mount itself, which may be
//! dead. <https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html>

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// File system type with its subtype: `fuse.keyhole`.
    pub kind: String,
    /// Minor number of its device: the name of a FUSE connection in fusectl.
    pub minor: u32,
}

/// This process's mounts.
///
/// # Errors
/// There is no /proc.
pub fn read() -> std::io::Result<Vec<u8>> {
    std::fs::read("/proc/self/mountinfo")
}

/// The topmost mount at exactly `path`; `None` when there is none.
pub fn at(mountinfo: &[u8], path: &Path) -> Option<Mounted> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    lines.rev().find_map(|line| parse(line, path))
}

/// Where the FUSE mount with this minor number is, below `root`.
pub fn point(mountinfo: &[u8], minor: u32, root: &Path) -> Option<PathBuf> {
    let device = format!("0:{minor}");
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ');
        let ours = fields.nth(2)? == device.as_bytes();
        let point = PathBuf::from(OsString::from_vec(unescaped(fields.nth(1)?)));
        (ours && point.starts_with(root)).then_some(point)
    })
}

fn parse(line: &[u8], path: &Path) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = str::from_utf8(fields.nth(2)?).ok()?;
    let point = fields.nth(1)?;
    if unescaped(point) != path.as_os_str().as_bytes() {
        return None;
    }
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    let minor = device.split_once(':')?.1.parse().ok()?;
    Some(Mounted { kind: String::from_utf8_lossy(kind).into_owned(), minor })
}

/// Space, tab, line break and backslash are written as `\ooo`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"22 28 0:21 / /proc rw,nosuid shared:5 - proc proc rw
30 22 0:55 / /k/pods/u/mount ro,nosuid - tmpfs tmpfs rw
31 30 0:61 / /k/pods/u/mount ro,nosuid shared:9 master:1 - fuse.keyhole keyhole rw,user_id=0
32 22 8:1 /a /k/with\\040space rw - ext4 /dev/sda1 rw
";

    #[test]
    fn the_topmost_mount_is_found() {
        let wanted = Mounted { kind: "fuse.keyhole".into(), minor: 61 };
        assert_eq!(at(TEXT, Path::new("/k/pods/u/mount")), Some(wanted));
        assert_eq!(at(TEXT, Path::new("/k/with space")).unwrap().kind, "ext4");
        assert_eq!(at(TEXT, Path::new("/k/pods/u")), None);
        assert_eq!(point(TEXT, 61, Path::new("/k")), Some(PathBuf::from("/k/pods/u/mount")));
        assert_eq!(point(TEXT, 61, Path::new("/other")), None);
        assert_eq!(at(b"garbage\n- -\n", Path::new("/")), None);
    }
}
