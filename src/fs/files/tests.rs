//! What readers see of a volume, moment by moment.

use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;

use super::*;
use crate::clock::Moment;
use crate::identity::session::AuthMethod;
use crate::secret::request::SecretRequest;
use crate::spec::{Encoding, Field, Format, OnStart};

const POD: &str = "2b41a9f0-8d6e-4a44-9f5e-0123456789ab";
/// A thread in the volume's pod.
pub(super) const INSIDE: Asker = Asker { tid: 1 };
/// A thread of the host.
const OUTSIDE: Asker = Asker { tid: 2 };
pub(super) const WALL: SystemTime = SystemTime::UNIX_EPOCH;

struct Threads;

impl Callers for Threads {
    fn caller(&self, tid: u32) -> Caller {
        Caller { pod: (tid == INSIDE.tid).then(|| PodUid::new(POD)), ..Caller::default() }
    }
}

#[derive(Default)]
pub(super) struct Heard(StdMutex<Vec<(Outcome, Option<u32>)>>);

impl Audit for Heard {
    fn opened(&self, open: &Open<'_>) {
        self.0.lock().unwrap().push((open.outcome, open.version));
    }
}

impl Heard {
    fn take(&self) -> Vec<(Outcome, Option<u32>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(super) fn at(seconds: u64) -> Moment {
    Moment::since_boot(Duration::from_secs(seconds))
}

fn spec(name: &str, field: Field) -> FileSpec {
    FileSpec {
        name: name.into(),
        secret: SecretRequest::read("kv/app"),
        field,
        format: Format::Json,
        encoding: Encoding::Plain,
        mode: 0o440,
        uid: 10,
        gid: 20,
        refresh: None,
    }
}

/// Files 0 `db`, 1 `each` (a folder by field), 2 `tls/key`.
pub(super) fn volume(gate: Gate) -> (Files, Arc<Heard>) {
    let files =
        vec![spec("db", Field::All), spec("each", Field::Each), spec("tls/key", Field::All)];
    let spec = VolumeSpec {
        role: "app".into(),
        connection: "main".into(),
        namespace: String::new(),
        auth_method: AuthMethod::Kubernetes,
        auth_path: "kubernetes".into(),
        audience: "vault".into(),
        on_start: OnStart::Check,
        files,
    };
    let heard = Arc::new(Heard::default());
    let audit = Arc::clone(&heard) as Arc<dyn Audit>;
    (Files::new(Arc::new(spec), PodUid::new(POD), gate, Arc::new(Threads), audit, WALL), heard)
}

pub(super) fn from() -> Provenance {
    Provenance { path: "kv/app".into(), version: Some(3), lease: false, fetched: WALL, ends: None }
}

pub(super) fn text(text: &str) -> Rendered {
    Rendered::File(SecretBytes::new(text.into()))
}

fn fields(pairs: &[(&str, &str)]) -> Rendered {
    let pairs =
        pairs.iter().map(|(name, text)| ((*name).to_owned(), SecretBytes::new((*text).into())));
    Rendered::Folder(pairs.collect::<BTreeMap<_, _>>())
}

pub(super) fn put(files: &Files, file: usize, rendered: Rendered, seconds: u64) -> Installed {
    let installed = files.install(vec![(file, rendered, from())], at(seconds), WALL);
    files.link();
    installed
}

fn done<T>(step: Result<Step<T>, FsError>) -> T {
    match step.expect("an error") {
        Step::Done(answer) => answer,
        Step::Fetch { file, .. } => panic!("file {file} must be fetched"),
    }
}

/// Follows `path` from the root, links included, as the kernel does.
pub(super) fn walk(files: &Files, path: &str) -> Result<NodeId, FsError> {
    let mut node = NodeId::ROOT;
    for part in path.split('/') {
        let entry = done(files.lookup(node, part, Attempt::Fetched));
        node = match entry.attr.kind {
            Kind::Link => walk(files, &files.readlink(entry.attr.node)?)?,
            Kind::Directory | Kind::File => entry.attr.node,
        };
    }
    Ok(node)
}

pub(super) fn read(files: &Files, node: NodeId, seconds: u64) -> Result<String, FsError> {
    let opened = match files.open(node, INSIDE, at(seconds), Attempt::Fetched)? {
        Step::Done(opened) => opened,
        Step::Fetch { .. } => panic!("fetched twice"),
    };
    let bytes = files.read(opened.handle)?;
    files.release(opened.handle, false);
    Ok(String::from_utf8(bytes.expose().clone()).unwrap())
}

fn names(files: &Files, node: NodeId) -> Vec<String> {
    let list = done(files.list(node, INSIDE, Attempt::Fetched));
    list.into_iter().map(|line| line.name).collect()
}

#[test]
fn the_layout_is_that_of_kubernetes_own_volumes() {
    let (files, _) = volume(Gate::Enforce);
    assert_eq!(names(&files, NodeId::ROOT), [".", "..", "..1", "..data", "db", "each", "tls"]);
    let link = |name| {
        let entry = done(files.lookup(NodeId::ROOT, name, Attempt::First));
        (files.readlink(entry.attr.node).unwrap(), entry.attr.size)
    };
    assert_eq!(link("db"), ("..data/db".into(), 9));
    assert_eq!(link("..data"), ("..1".into(), 3));
    assert_eq!(names(&files, walk(&files, "tls").unwrap()), [".", "..", "key"]);
    assert_eq!(files.lookup(NodeId::ROOT, "nothing", Attempt::First), Err(FsError::NotFound));
    assert_eq!(files.lookup(NodeId::ROOT, "..2", Attempt::First), Err(FsError::NotFound));
}

#[test]
fn the_first_open_fetches_and_later_ones_do_not() {
    let (files, heard) = volume(Gate::Enforce);
    let node = walk(&files, "db").unwrap();
    let step = files.open(node, INSIDE, at(0), Attempt::First).unwrap();
    assert_eq!(step, Step::Fetch { file: 0, budget: OPEN_BUDGET });
    assert_eq!(put(&files, 0, text("one"), 0), Installed::First);
    assert_eq!(walk(&files, "db").unwrap(), node, "filling a file shows no new generation");
    assert_eq!(read(&files, node, 0).unwrap(), "one");
    assert!(matches!(files.open(node, INSIDE, at(0), Attempt::First).unwrap(), Step::Done(_)));
    assert_eq!(heard.take(), [(Outcome::Served, Some(1)), (Outcome::Served, Some(1))]);
}

#[test]
fn an_open_that_cannot_be_served_fails_with_the_files_own_error() {
    let (files, heard) = volume(Gate::Enforce);
    let node = walk(&files, "db").unwrap();
    assert_eq!(read(&files, node, 0), Err(FsError::Unavailable));
    files.fail(0, FsError::Denied, "Vault said 403".into(), WALL);
    assert_eq!(read(&files, node, 0), Err(FsError::Denied));
    assert_eq!(heard.take(), [(Outcome::Failed, None), (Outcome::Failed, None)]);
    put(&files, 0, text("one"), 1);
    assert_eq!(read(&files, node, 1).unwrap(), "one");
}

#[test]
fn every_version_is_a_new_inode_and_all_changes_of_a_set_are_one_generation() {
    let (files, _) = volume(Gate::Enforce);
    files.install(vec![(0, text("a1"), from()), (2, text("b1"), from())], at(0), WALL);
    let (a1, b1) = (walk(&files, "db").unwrap(), walk(&files, "tls/key").unwrap());
    let both = vec![(0, text("a2"), from()), (2, text("b2"), from())];
    assert_eq!(files.install(both, at(5), WALL), Installed::Switched { generation: 2 });
    assert_eq!(walk(&files, "db").unwrap(), a1, "the link has not moved yet");
    files.link();
    let (a2, b2) = (walk(&files, "db").unwrap(), walk(&files, "tls/key").unwrap());
    assert!(a1 != a2 && b1 != b2);
    assert_eq!(read(&files, a2, 5).unwrap() + &read(&files, b2, 5).unwrap(), "a2b2");
    // The same bytes again change nothing, and a file that stays keeps its inode.
    assert_eq!(put(&files, 0, text("a2"), 6), Installed::Same);
    assert_eq!(put(&files, 0, text("a3"), 7), Installed::Switched { generation: 3 });
    assert_eq!(walk(&files, "tls/key").unwrap(), b2);
}

#[test]
fn an_old_inode_gives_the_old_bytes_in_the_grace_and_the_current_ones_after_it() {
    let (files, _) = volume(Gate::Enforce);
    put(&files, 0, text("old"), 0);
    let node = walk(&files, "db").unwrap();
    put(&files, 0, text("newer"), 100);
    assert_eq!(read(&files, node, 109).unwrap(), "old");
    let opened = done(files.open(node, INSIDE, at(110), Attempt::First));
    assert_eq!(opened.cache, Cache::Direct, "the kernel must not keep these pages for this inode");
    files.release(opened.handle, false);
    assert_eq!(read(&files, node, 110).unwrap(), "newer");
    assert_eq!(files.forget_old(at(109)), Some(at(110)));
    assert_eq!(files.forget_old(at(110)), None);
    assert_eq!(files.take_stale(), [node]);
    assert_eq!(files.take_stale(), [], "told once");
    let attr = done(files.getattr(node, None, INSIDE, Attempt::First));
    assert_eq!((attr.size, attr.ttl), (5, Duration::ZERO), "the size of what an open gives now");
}

#[test]
fn an_open_handle_pins_its_snapshot() {
    let (files, _) = volume(Gate::Enforce);
    put(&files, 0, text("old"), 0);
    let node = walk(&files, "db").unwrap();
    let opened = done(files.open(node, INSIDE, at(0), Attempt::First));
    put(&files, 0, text("newer"), 1);
    files.end(0, "the lease is over".into(), at(2), WALL);
    files.forget_old(at(1000));
    assert_eq!(files.read(opened.handle).unwrap().expose(), b"old");
    let attr = done(files.getattr(node, Some(opened.handle), INSIDE, Attempt::First));
    assert_eq!(attr.size, 3, "fstat tells the pinned size");
    files.release(opened.handle, false);
    assert_eq!(files.read(opened.handle).err(), Some(FsError::BadHandle));
}

#[test]
fn an_inode_has_the_size_that_its_handle_reads_until_that_is_closed() {
    let (files, _) = volume(Gate::Enforce);
    let size = |node| done(files.getattr(node, None, INSIDE, Attempt::First)).size;
    put(&files, 0, text("the long old one"), 1);
    let old = walk(&files, "..data/db").unwrap();
    let handle = done(files.open(old, INSIDE, at(2), Attempt::First)).handle;
    put(&files, 0, text("new"), 3);
    files.forget_old(at(20));
    assert_eq!(size(old), 16, "what the handle reads would be cut");
    files.release(handle, false);
    assert_eq!(size(old), 3);
}

/// Memory that the process may write to until it has left.
struct Left(std::sync::atomic::AtomicBool);

impl crate::kept::region::Shelf for Left {
    fn segment(&self, size: usize) -> std::io::Result<Box<dyn crate::kept::region::Region>> {
        Ok(Box::new(vec![0; size]))
    }

    fn page(&self, size: usize) -> std::io::Result<Box<dyn crate::kept::region::Region>> {
        self.segment(size)
    }

    fn replace(&self, _: &str, _: &dyn crate::kept::region::Region) -> bool {
        true
    }

    fn remove(&self, _: &str) {}

    fn acts(&self) -> bool {
        !self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[test]
fn who_has_left_takes_nothing_in_and_moves_no_link() {
    let shelf = Arc::new(Left(false.into()));
    let journal = crate::kept::journal::Journal::create("v", Arc::clone(&shelf) as _).unwrap();
    let kept = Kept { journal: Arc::new(journal), ..Kept::none() };
    let files = volume(Gate::Enforce).0.keep(kept);
    put(&files, 0, text("one"), 1);
    assert!(files.link());
    shelf.0.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(put(&files, 0, text("two"), 2), Installed::Same);
    assert!(!files.link());
    let node = walk(&files, "..data/db").unwrap();
    assert_eq!(read(&files, node, 3).unwrap(), "one");
}

#[test]
fn the_temporary_link_is_there_until_it_is_renamed() {
    let (files, _) = volume(Gate::Enforce);
    put(&files, 0, text("one"), 1);
    let Installed::Switched { generation } =
        files.install(vec![(0, text("two"), from())], at(2), WALL)
    else {
        panic!("no new generation");
    };
    let rotator = (OUTSIDE, false);
    files.expect_rotation(Some((OUTSIDE.tid, generation)));
    let there = || files.lookup(NodeId::ROOT, "..data_tmp", Attempt::First).is_ok();
    assert!(!there(), "symlink(2) would find it");
    files.rotation_link(rotator, NodeId::ROOT, "..data_tmp", &format!("..{generation}")).unwrap();
    assert!(there(), "rename(2) would not find it");
    files.rotation_rename(rotator, "..data_tmp", "..data").unwrap();
    assert!(!there());
    assert_eq!(files.generations(), (generation, generation));
}

#[test]
fn what_has_ended_is_not_served_and_what_follows_is_another_version() {
    let (files, _) = volume(Gate::Enforce);
    put(&files, 0, text("user-1"), 0);
    let node = walk(&files, "db").unwrap();
    files.end(0, "the lease is over".into(), at(5), WALL);
    assert_eq!(read(&files, node, 5), Err(FsError::Unavailable));
    let attr = done(files.getattr(node, None, OUTSIDE, Attempt::First));
    assert_eq!(attr.size, 6, "the last size is what is known");
    assert_eq!(put(&files, 0, text("user-2"), 6), Installed::Switched { generation: 2 });
    assert_eq!(read(&files, node, 20).unwrap(), "user-2");
}

#[test]
fn a_stat_from_inside_fetches_and_one_from_outside_tells_what_is_known() {
    let (files, _) = volume(Gate::Enforce);
    let node = walk(&files, "db").unwrap();
    let step = files.getattr(node, None, INSIDE, Attempt::First).unwrap();
    assert_eq!(step, Step::Fetch { file: 0, budget: STAT_BUDGET });
    for (asker, attempt) in [(OUTSIDE, Attempt::First), (INSIDE, Attempt::Fetched)] {
        let attr = done(files.getattr(node, None, asker, attempt));
        assert_eq!((attr.size, attr.ttl), (0, Duration::ZERO), "never an error, never kept");
        assert_eq!((attr.mode, attr.uid, attr.gid), (0o440, 10, 20));
    }
    put(&files, 0, text("12345"), 0);
    let attr = done(files.getattr(node, None, OUTSIDE, Attempt::First));
    assert_eq!((attr.size, attr.ttl), (5, LONG));
}

#[test]
fn the_gate_refuses_others_and_tells() {
    let (files, heard) = volume(Gate::Enforce);
    put(&files, 0, text("x"), 0);
    let node = walk(&files, "db").unwrap();
    assert_eq!(files.open(node, OUTSIDE, at(0), Attempt::First), Err(FsError::Denied));
    assert_eq!(heard.take(), [(Outcome::Denied, None)]);
    for (gate, told) in [(Gate::Audit, vec![(Outcome::Audited, Some(1))]), (Gate::Off, vec![])] {
        let (files, heard) = volume(gate);
        put(&files, 0, text("x"), 0);
        let node = walk(&files, "db").unwrap();
        assert!(files.open(node, OUTSIDE, at(0), Attempt::First).is_ok());
        assert_eq!(heard.take(), told, "{gate:?}");
    }
}

#[test]
fn a_folder_by_field_follows_the_secrets_fields() {
    let (files, _) = volume(Gate::Enforce);
    let folder = walk(&files, "each").unwrap();
    let step = files.list(folder, INSIDE, Attempt::First).unwrap();
    assert_eq!(step, Step::Fetch { file: 1, budget: STAT_BUDGET });
    assert_eq!(names(&files, folder), [".", ".."]);
    assert!(matches!(files.list(folder, OUTSIDE, Attempt::First).unwrap(), Step::Done(_)));
    assert_eq!(files.lookup(folder, "user", Attempt::Fetched), Err(FsError::Unavailable));
    put(&files, 1, fields(&[("user", "u1"), ("pass", "p1")]), 0);
    assert_eq!(names(&files, folder), [".", "..", "pass", "user"]);
    let user = walk(&files, "each/user").unwrap();
    assert_eq!(read(&files, user, 0).unwrap(), "u1");
    assert_eq!(files.lookup(folder, "host", Attempt::First), Err(FsError::NotFound));

    // A field goes, another comes: in the next generation, with numbers of their own.
    put(&files, 1, fields(&[("user", "u2"), ("host", "h")]), 100);
    let now = walk(&files, "each").unwrap();
    assert_eq!(names(&files, now), [".", "..", "host", "user"]);
    assert_eq!(files.lookup(now, "pass", Attempt::First), Err(FsError::NotFound));
    assert_eq!(read(&files, walk(&files, "each/host").unwrap(), 100).unwrap(), "h");
    assert_eq!(read(&files, user, 200).unwrap(), "u2");
}

#[test]
fn the_status_tells_reasons_and_never_a_value() {
    let (files, _) = volume(Gate::Enforce);
    put(&files, 0, text("canary-7f3a"), 0);
    files.fail(2, FsError::Denied, "permission denied".into(), WALL);
    files.warn("Vault is away".into(), WALL);
    let node = walk(&files, ".keyhole/status.json").unwrap();
    let shown = read(&files, node, 0).unwrap();
    assert!(!shown.contains("canary"), "{shown}");
    for word in ["permission denied", "Vault is away", "kv/app", "\"version\": 3", POD] {
        assert!(shown.contains(word), "{word} is not in {shown}");
    }
    assert!(!names(&files, NodeId::ROOT).contains(&".keyhole".to_owned()), "ls does not show it");
}

#[test]
fn a_wiped_volume_holds_no_bytes_even_for_open_handles() {
    let (files, _) = volume(Gate::Enforce);
    put(&files, 0, text("x"), 0);
    let opened = done(files.open(walk(&files, "db").unwrap(), INSIDE, at(0), Attempt::First));
    files.wipe();
    assert!(files.read(opened.handle).is_err());
}

#[test]
fn numbers_that_were_never_given_out_are_not_found() {
    let (files, _) = volume(Gate::Enforce);
    for number in [0, 2, u64::MAX, NodeId::from(Node::TopLink { at: 99 }).0] {
        let told = files.getattr(NodeId(number), None, INSIDE, Attempt::Fetched);
        assert_eq!(told, Err(FsError::NotFound), "{number}");
    }
    assert_eq!(files.open(NodeId::ROOT, INSIDE, at(0), Attempt::First), Err(FsError::IsDirectory));
}
