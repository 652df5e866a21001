//! [`Files`]: names, versions and contents of one volume, and the operations on them.
//!
//! Start at [`Files::open`]. An operation answers from memory or says which file must be fetched first;
//! it never waits and never calls anybody but the port that tells whose thread asks. What it refuses:
//! to open for anybody but the volume's pod (unless the gate says otherwise), and every change.

mod contents;
mod open;
mod outlive;
mod rotation;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::fs::attr::{Attempt, Attr, Cache, Entry, Kind, LONG, Listed, Opened, Step};
use crate::fs::error::FsError;
use crate::fs::node::{Node, NodeId, Version};
use crate::fs::serve::{Callers, Gate};
use crate::fs::status::{self, Warning};
use crate::fs::tree::{Child, Tree};
use crate::fs::versions::{FIRST_GENERATION, Failure, Versions};
use crate::identity::cgroup::Caller;
use crate::identity::pod::PodUid;
use crate::kept::Kept;
use crate::redact::SecretBytes;
use crate::render::Rendered;
use crate::spec::{FileSpec, VolumeSpec};

/// How long an open may wait for Vault. The kernel checks permissions before it opens and asks GETATTR for
/// that, which may have waited for [`STAT_BUDGET`]: both together are ten seconds.
pub const OPEN_BUDGET: Duration = Duration::from_secs(8);
/// How long a stat, a lookup or a list may wait for Vault.
pub const STAT_BUDGET: Duration = Duration::from_secs(2);
/// The name of the link that points to what is current, as in Kubernetes' own volumes.
pub const DATA: &str = "..data";

/// Where a file's content comes from; shown in `.keyhole/status.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The path in Vault.
    pub path: String,
    /// The secret's version, if the engine has versions.
    pub version: Option<u64>,
    /// Whether Vault gave it a lease.
    pub lease: bool,
    /// When Vault was asked.
    pub fetched: SystemTime,
    /// When it ends.
    pub ends: Option<SystemTime>,
}

/// What an install did to what readers see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// Files that had no content have it now.
    First,
    /// Nothing changed.
    Same,
    /// Contents changed: there is a new generation.
    Switched {
        /// Its number.
        generation: u32,
    },
}

/// One open, for the audit.
pub struct Open<'a> {
    /// Whose volume.
    pub pod: &'a PodUid,
    /// Who opened.
    pub caller: &'a Caller,
    /// The thread, in the driver's pid namespace.
    pub tid: u32,
    /// The file's name in the volume.
    pub file: &'a str,
    /// The version of the content, if there was one.
    pub version: Option<u32>,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of an open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The pod reads its own file.
    Served,
    /// Somebody else reads it, and the gate only watches.
    Audited,
    /// The gate refused.
    Denied,
    /// There was nothing to serve.
    Failed,
}

/// Port: hears of every open of a file.
pub trait Audit: Send + Sync + 'static {
    /// An open was answered.
    fn opened(&self, open: &Open<'_>);
}

/// Who sent a request.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The thread, in the driver's pid namespace.
    pub tid: u32,
}

/// The files of one volume.
pub struct Files {
    spec: Arc<VolumeSpec>,
    pod: PodUid,
    gate: Gate,
    callers: Arc<dyn Callers>,
    audit: Arc<dyn Audit>,
    born: SystemTime,
    tree: Tree,
    kept: Kept,
    state: Mutex<State>,
}

struct State {
    versions: Versions,
    warnings: Vec<Warning>,
    snapshots: std::collections::BTreeMap<u32, Arc<SecretBytes>>,
    next_snapshot: u32,
    /// Who may move `..data` now, and to which generation.
    mover: Option<(u32, u32)>,
    /// Where `..data_tmp` pointed last, and whether it is there.
    pending: u32,
    made: bool,
    /// Something could not be written down: whoever opens a file waits for the process that acts now.
    superseded: bool,
}

impl Files {
    /// Nothing is fetched yet. `born` is the time of what has no content.
    pub fn new(
        spec: Arc<VolumeSpec>,
        pod: PodUid,
        gate: Gate,
        callers: Arc<dyn Callers>,
        audit: Arc<dyn Audit>,
        born: SystemTime,
    ) -> Self {
        let state = State {
            versions: Versions::new(spec.files.len(), FIRST_GENERATION, born),
            warnings: Vec::new(),
            snapshots: std::collections::BTreeMap::new(),
            next_snapshot: 1,
            mover: None,
            pending: FIRST_GENERATION,
            made: false,
            superseded: false,
        };
        let tree = Tree::new(&spec.files);
        let kept = Kept::none();
        Self { spec, pod, gate, callers, audit, born, tree, kept, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere left whole values behind: each change is one assignment or insert.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the volume was asked to show.
    pub fn spec(&self) -> &VolumeSpec {
        &self.spec
    }

    fn file(&self, at: usize) -> Result<&FileSpec, FsError> {
        self.spec.files.get(at).ok_or(FsError::NotFound)
    }

    fn inside(&self, asker: Asker) -> bool {
        self.callers.caller(asker.tid).pod.as_ref() == Some(&self.pod)
    }

    /// Whether a file has content now.
    pub fn is_fetched(&self, file: usize) -> bool {
        self.state().versions.files.get(file).is_some_and(|present| present.content.is_some())
    }

    /// Finds `name` in the folder `parent`. Never gated: kubelet and the runtime look names up.
    ///
    /// # Errors
    /// There is no such name or folder; or a `field: *` folder's file is not available.
    pub fn lookup(
        &self,
        parent: NodeId,
        name: &str,
        attempt: Attempt,
    ) -> Result<Step<Entry>, FsError> {
        if self.spec.files.is_empty() {
            // A volume whose spec could not be read: what it has is not known, so nothing is "not there".
            return Err(FsError::Unavailable);
        }
        let node = match parent.node().ok_or(FsError::NotFound)? {
            Node::Root => self.in_root(name)?,
            Node::Keyhole if name == "status.json" => Node::Status { snapshot: 0 },
            Node::Keyhole => return Err(FsError::NotFound),
            Node::Folder { generation, at } => {
                let child = self.tree.child(at, name).ok_or(FsError::NotFound)?;
                self.child(generation, child).ok_or(FsError::NotFound)?
            }
            Node::Fields { generation, file } => {
                if attempt == Attempt::First && !self.is_fetched(file) {
                    return Ok(Step::Fetch { file, budget: STAT_BUDGET });
                }
                self.field(generation, file, name)?
            }
            Node::TopLink { .. } | Node::DataLink { .. } | Node::File(_) | Node::Status { .. } => {
                return Err(FsError::NotDirectory);
            }
        };
        let generation = self.state().versions.generation;
        let ttl = match (parent.node(), node) {
            // What a generation shows is for good only while it is the current one.
            (
                Some(Node::Folder { generation: old, .. } | Node::Fields { generation: old, .. }),
                _,
            ) if old != generation => Duration::ZERO,
            (_, Node::Status { .. }) => Duration::ZERO,
            _ => LONG,
        };
        Ok(Step::Done(Entry { attr: self.known_attr(node)?, ttl }))
    }

    fn in_root(&self, name: &str) -> Result<Node, FsError> {
        let (generation, linked) = {
            let versions = &self.state().versions;
            (versions.generation, versions.linked)
        };
        if name == DATA {
            return Ok(Node::DataLink { generation: linked });
        }
        if name == ".keyhole" {
            return Ok(Node::Keyhole);
        }
        if let Some(made) = self.made(name) {
            return Ok(made);
        }
        if let Some(number) = name.strip_prefix("..") {
            // Old generations keep their name: a mount may have one as its root.
            let number = number.parse().ok().filter(|number| (1..=generation).contains(number));
            return number
                .map(|generation| Node::Folder { generation, at: 0 })
                .ok_or(FsError::NotFound);
        }
        let at = self.tree.tops().binary_search_by(|(had, _)| had.as_str().cmp(name));
        at.map(|at| Node::TopLink { at }).map_err(|_| FsError::NotFound)
    }

    fn child(&self, generation: u32, child: Child) -> Option<Node> {
        Some(match child {
            Child::Folder(at) => Node::Folder { generation, at },
            Child::Fields(file) => Node::Fields { generation, file },
            Child::File(file) => {
                let (version, _) = self.state().versions.shown_by(generation, file)?;
                Node::File(Version { file, version, field: 0 })
            }
        })
    }

    fn field(&self, generation: u32, file: usize, name: &str) -> Result<Node, FsError> {
        let state = self.state();
        let present = state.versions.files.get(file).ok_or(FsError::NotFound)?;
        if present.content.is_none() {
            return Err(present.failure.as_ref().map_or(FsError::Unavailable, |had| had.error));
        }
        let (version, _) = state.versions.shown_by(generation, file).ok_or(FsError::NotFound)?;
        let field = present.names.iter().position(|had| had == name).ok_or(FsError::NotFound)?;
        let node = Version { file, version, field };
        let content = state.versions.bytes_of(node, Moment::default());
        content.and_then(|(_, had)| had.field(field).map(drop)).ok_or(FsError::NotFound)?;
        Ok(Node::File(node))
    }

    /// What `stat` tells. A stat from inside the pod fetches what is not there; others learn what is
    /// known.
    ///
    /// # Errors
    /// A number that we never gave out.
    pub fn getattr(
        &self,
        node: NodeId,
        handle: Option<NodeId>,
        asker: Asker,
        attempt: Attempt,
    ) -> Result<Step<Attr>, FsError> {
        let known = node.node().ok_or(FsError::NotFound)?;
        let pinned = handle.and_then(|handle| self.read(handle).ok());
        if let Some(bytes) = pinned {
            let mut attr = self.known_attr(known)?;
            attr.size = bytes.expose().len() as u64;
            attr.ttl = Duration::ZERO;
            return Ok(Step::Done(attr));
        }
        let file = if let Node::File(version) = known { Some(version.file) } else { None };
        match file.filter(|file| !self.is_fetched(*file)) {
            Some(file) if attempt == Attempt::First && self.inside(asker) => {
                Ok(Step::Fetch { file, budget: STAT_BUDGET })
            }
            Some(_) | None => Ok(Step::Done(self.known_attr(known)?)),
        }
    }

    fn known_attr(&self, node: Node) -> Result<Attr, FsError> {
        let state = self.state();
        let folder = |mtime| (Kind::Directory, 0, 0o755, 0, 0, mtime, LONG);
        let link = |size: usize, mtime| (Kind::Link, size as u64, 0o777, 0, 0, mtime, LONG);
        let (kind, size, mode, uid, gid, mtime, ttl) = match node {
            Node::Root | Node::Folder { .. } => folder(state.versions.switched),
            Node::Keyhole => folder(self.born),
            Node::TopLink { at } => {
                let (name, _) = self.tree.tops().get(at).ok_or(FsError::NotFound)?;
                link(DATA.len() + 1 + name.len(), self.born)
            }
            Node::DataLink { generation } => {
                link(format!("..{generation}").len(), state.versions.switched)
            }
            Node::Fields { file, .. } => {
                let FileSpec { mode, uid, gid, .. } = *self.file(file)?;
                // Who may read a file of the folder may also enter it.
                let enter = (mode & 0o444) >> 2;
                (
                    Kind::Directory,
                    0,
                    mode | enter,
                    uid,
                    gid,
                    state.versions.switched,
                    Duration::ZERO,
                )
            }
            Node::File(version) => {
                let FileSpec { mode, uid, gid, .. } = *self.file(version.file)?;
                let present = state.versions.files.get(version.file).ok_or(FsError::NotFound)?;
                let shown = present.content.as_ref();
                let own = shown.filter(|_| present.version == version.version);
                let ttl = if own.is_some() { LONG } else { Duration::ZERO };
                // fstat comes without its handle: while one pins a version, its size is the inode's. Otherwise the
                // kernel would cut what that handle reads to the size of the current version.
                let pinned = || state.versions.held_by_handles(version);
                let old = || state.versions.in_grace(version).or_else(pinned);
                let now_shown = own.or_else(old).or(shown);
                let size = now_shown
                    .and_then(|had| had.field(version.field))
                    .map_or(present.last_size, |bytes| bytes.expose().len() as u64);
                let mtime = shown.map_or(self.born, |had| had.mtime);
                (Kind::File, size, mode, uid, gid, mtime, ttl)
            }
            Node::Status { .. } => {
                drop(state);
                let size = self.status().len() as u64;
                (Kind::File, size, 0o444, 0, 0, self.born, Duration::ZERO)
            }
        };
        Ok(Attr { node: node.into(), kind, size, mode, uid, gid, mtime, ttl })
    }

    /// Where a link points.
    ///
    /// # Errors
    /// It is no link.
    pub fn readlink(&self, node: NodeId) -> Result<String, FsError> {
        match node.node() {
            Some(Node::TopLink { at }) => {
                let (name, _) = self.tree.tops().get(at).ok_or(FsError::NotFound)?;
                Ok(format!("{DATA}/{name}"))
            }
            Some(Node::DataLink { generation }) => Ok(format!("..{generation}")),
            _ => Err(FsError::NotSupported),
        }
    }
}

#[cfg(test)]
#[path = "files/tests.rs"]
mod tests;
