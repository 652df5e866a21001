//! [`Ways`]: every way in which a program reads a volume, each with what it must see.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::Ordering;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::contents::value;
use crate::reader::{Shared, Trouble, version};

/// How often a file that is held open is looked at: often enough for the grace of ten seconds to end meanwhile.
const HELD: u32 = 40;
/// The names that every volume has.
const NAMES: [&str; 5] = ["plain", "big", "pair.a", "pair.b", "db.json"];

/// What one thread holds open.
#[derive(Default)]
pub struct Ways {
    /// The two fields through one `..data`: the highest version so far.
    latest: u64,
    round: u64,
    big: Option<File>,
    direct: Option<File>,
    /// A file that may change, what it was when it was opened, and how often that was looked at.
    held: Option<(File, Vec<u8>, u32)>,
}

impl Ways {
    pub const KINDS: [&str; 12] = [
        "open",
        "open big",
        "pread",
        "direct",
        "mmap",
        "stat",
        "readdir",
        "status",
        "credential",
        "pair",
        "held",
        "first",
    ];
    pub const OPEN: usize = 0;
    pub const FIRST: usize = 11;
    /// All but first reads, which come only once.
    pub const COUNT: usize = 11;

    /// One operation of this kind.
    pub fn go(&mut self, kind: usize, shared: &Shared) -> Result<(), Trouble> {
        match kind {
            0 => whole("plain", "plain", "v", 1),
            1 => whole("big", "big", "v", 1),
            2 => self.pread(),
            3 => self.direct(),
            4 => mapped(),
            5 => stat(),
            6 => list(),
            7 => status(),
            8 => credential(shared),
            9 => self.pair(shared),
            _ => self.held(shared),
        }
    }

    fn pread(&mut self) -> Result<(), Trouble> {
        let file = opened(&mut self.big, || File::open("big"))?;
        self.round += 1;
        let (from, mut buffer) = (self.round * 677 % 4400, [0; 600]);
        file.read_exact_at(&mut buffer, from)?;
        let all = value("big", "v", 1);
        same(&buffer, &all.as_bytes()[from as usize..from as usize + buffer.len()], "pread")
    }

    /// Asks the server each time.
    fn direct(&mut self) -> Result<(), Trouble> {
        let open = || File::options().read(true).custom_flags(libc::O_DIRECT).open("plain");
        let file = opened(&mut self.direct, open)?;
        let mut buffer = [0; 512];
        let length = file.read_at(&mut buffer, 0)?;
        same(&buffer[..length], value("plain", "v", 1).as_bytes(), "direct")
    }

    /// Two files that show one secret, read through one `..data`.
    fn pair(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let data = openat(
            CWD,
            "..data",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let a = version(shared.pair, "a", &inside(&data, "pair.a")?)?;
        let b = version(shared.pair, "b", &inside(&data, "pair.b")?)?;
        if a != b {
            return Err(Trouble::Wrong(format!("a mixture of versions {a} and {b}")));
        }
        if a < self.latest {
            return Err(Trouble::Wrong(format!("back from version {} to {a}", self.latest)));
        }
        self.latest = a;
        shared.version.fetch_max(a, Ordering::Relaxed);
        Ok(())
    }

    /// A file that was opened a while ago.
    fn held(&mut self, shared: &Shared) -> Result<(), Trouble> {
        let mut bytes = vec![0; 4096];
        if let Some((file, had, looked)) = self.held.as_mut().filter(|(.., looked)| *looked < HELD)
        {
            *looked += 1;
            let size = file.metadata()?.len();
            if size != had.len() as u64 {
                return Err(Trouble::Wrong(format!("held: size {size} instead of {}", had.len())));
            }
            let length = file.read_at(&mut bytes, 0)?;
            return same(&bytes[..length], had, "held");
        }
        let file = File::open("pair.a")?;
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        version(shared.pair, "a", &bytes)?;
        self.held = Some((file, bytes, 0));
        Ok(())
    }
}

fn opened(
    held: &mut Option<File>,
    open: impl FnOnce() -> std::io::Result<File>,
) -> std::io::Result<&File> {
    if held.is_none() {
        *held = Some(open()?);
    }
    Ok(held.as_ref().unwrap())
}

fn same(bytes: &[u8], expected: &[u8], what: &str) -> Result<(), Trouble> {
    if bytes == expected {
        return Ok(());
    }
    let at = bytes.iter().zip(expected).take_while(|(one, other)| one == other).count();
    let (length, wanted) = (bytes.len(), expected.len());
    Err(Trouble::Wrong(format!("{what}: {length} bytes of {wanted}, the first {at} are right")))
}

/// Open, read, close.
pub fn whole(file: &str, secret: &str, field: &str, version: u64) -> Result<(), Trouble> {
    let mut bytes = Vec::new();
    File::open(file)?.read_to_end(&mut bytes)?;
    same(&bytes, value(secret, field, version).as_bytes(), file)
}

fn inside(folder: &OwnedFd, name: &str) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    File::from(openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn mapped() -> Result<(), Trouble> {
    let expected = value("big", "v", 1);
    let file = File::open("big")?;
    let length = expected.len();
    let flags = MapFlags::SHARED;
    // SAFETY: a new mapping; nothing else knows of it.
    let at = unsafe { mmap(std::ptr::null_mut(), length, ProtFlags::READ, flags, &file, 0) }?;
    // Reads the pages in and tells an error, where touching them would be a signal.
    // SAFETY: it changes no bytes.
    let read = unsafe { madvise(at, length, Advice::LinuxPopulateRead) };
    let compared = match read {
        // Before Linux 5.14 there is no such advice.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {
            // SAFETY: mapped above, for this long; a file of the volume never changes its bytes.
            let bytes = unsafe { std::slice::from_raw_parts(at.cast::<u8>(), length) };
            same(bytes, expected.as_bytes(), "mmap")
        }
        Err(errno) => Err(errno.into()),
    };
    // SAFETY: the slice is gone.
    unsafe { munmap(at, length) }?;
    compared
}

fn stat() -> Result<(), Trouble> {
    let (size, expected) = (std::fs::metadata("big")?.len(), value("big", "v", 1).len() as u64);
    if size == expected { Ok(()) } else { Err(Trouble::Wrong(format!("stat: size {size}"))) }
}

fn list() -> Result<(), Trouble> {
    let names = std::fs::read_dir(".")?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<std::io::Result<Vec<_>>>()?;
    rustix::fs::statfs(".")?;
    let missing = NAMES.iter().find(|name| !names.iter().any(|had| had == **name));
    missing.map_or(Ok(()), |name| Err(Trouble::Wrong(format!("readdir: {name} is not listed"))))
}

fn status() -> Result<(), Trouble> {
    let text = std::fs::read_to_string(Path::new(".keyhole/status.json"))?;
    let status: serde_json::Value = serde_json::from_str(&text)
        .map_err(|error| Trouble::Wrong(format!("status.json: {error} in {text}")))?;
    let count = status["files"].as_array().map_or(0, Vec::len);
    if count == NAMES.len() { Ok(()) } else { Err(Trouble::Wrong(format!("status.json: {text}"))) }
}

/// An inode never shows two contents.
fn credential(shared: &Shared) -> Result<(), Trouble> {
    let mut bytes = Vec::new();
    let mut file = File::open("db.json")?;
    file.read_to_end(&mut bytes)?;
    let inode = file.metadata()?.ino();
    let mut shown = shared.shown.lock().unwrap();
    same(&bytes, shown.entry(inode).or_insert_with(|| bytes.clone()), "db.json")
}
