//! [`Versions`]: which content each file of a volume has, had, and how long the old ones are kept.
//!
//! ```text
//! unfilled --install--> current --install--> old --grace over, no handle--> gone
//!                          |  end (lease over)--> unfilled, next version
//! ```
//!
//! A version is filled once and never changes. Filling an unfilled one shows no new generation; a
//! content that differs from the current one does, once for a whole set of files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::fs::error::FsError;
use crate::fs::files::{Installed, Provenance};
use crate::fs::kept::Dirt;
use crate::fs::node::{Node, NodeId, Version};
use crate::redact::SecretBytes;
use crate::render::Rendered;

/// How long a version that was replaced is still served to those who found it before.
pub(super) const GRACE: Duration = Duration::from_secs(10);
/// Generations start here; 0 is no generation.
pub(super) const FIRST_GENERATION: u32 = 1;

/// One filled version of a file.
pub(super) struct Content {
    pub(super) bytes: BTreeMap<usize, Arc<SecretBytes>>,
    pub(super) mtime: SystemTime,
    pub(super) folder: bool,
}

impl Content {
    /// The bytes of a field; field 0 of a file that is no folder.
    pub(super) fn field(&self, field: usize) -> Option<&Arc<SecretBytes>> {
        self.bytes.get(&field)
    }

    fn is(&self, rendered: &Rendered, names: &[String]) -> bool {
        match rendered {
            Rendered::File(bytes) => {
                !self.folder && self.field(0).is_some_and(|had| **had == *bytes)
            }
            Rendered::Folder(fields) => {
                let same = |at: &usize, had: &Arc<SecretBytes>| {
                    names
                        .get(*at)
                        .and_then(|name| fields.get(name))
                        .is_some_and(|new| **had == *new)
                };
                self.folder
                    && self.bytes.len() == fields.len()
                    && self.bytes.iter().all(|(at, had)| same(at, had))
            }
        }
    }

    /// The fields that this version has, by index.
    pub(super) fn fields(&self) -> impl Iterator<Item = usize> {
        self.bytes.keys().copied()
    }
}

/// What a file failed with last.
#[derive(Clone)]
pub(super) struct Failure {
    pub(super) error: FsError,
    pub(super) reason: String,
    pub(super) at: SystemTime,
    /// Vault answered and the answer does not make a file.
    pub(super) unrendered: bool,
}

/// One file's present.
pub(super) struct Present {
    pub(super) version: u32,
    pub(super) content: Option<Arc<Content>>,
    pub(super) provenance: Option<Provenance>,
    pub(super) failure: Option<Failure>,
    /// Sizes of the last content, kept when it has ended: what `stat` tells in the meantime.
    pub(super) last_size: u64,
    /// Every field name ever shown, in the order in which they became known; for `field: *`.
    pub(super) names: Vec<String>,
    /// The version was filled, and its content has ended: the next content is another version.
    pub(super) ended: bool,
}

/// A version that was replaced.
pub(super) struct Old {
    pub(super) content: Arc<Content>,
    pub(super) until: Moment,
}

/// What a generation showed.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Past {
    pub(super) versions: Vec<u32>,
    pub(super) until: Moment,
}

/// The contents of one volume.
pub(super) struct Versions {
    pub(super) generation: u32,
    /// Where `..data` points: the generation, or an earlier one while the link is being moved.
    pub(super) linked: u32,
    pub(super) switched: SystemTime,
    pub(super) files: Vec<Present>,
    pub(super) past: BTreeMap<u32, Past>,
    /// Replaced, and still in their grace.
    pub(super) old: BTreeMap<(usize, u32), Old>,
    /// Past their grace, kept for the handles that pin them.
    pub(super) held: BTreeMap<(usize, u32), Arc<Content>>,
    pub(super) handles: BTreeMap<(usize, u32), u64>,
    /// What has changed since it was last written down.
    pub(super) dirt: Dirt,
    stale: Vec<NodeId>,
}

impl Versions {
    pub(super) fn new(files: usize, generation: u32, born: SystemTime) -> Self {
        let present = || Present {
            version: generation,
            content: None,
            provenance: None,
            failure: None,
            last_size: 0,
            names: Vec::new(),
            ended: false,
        };
        Self {
            generation,
            linked: generation,
            switched: born,
            files: std::iter::repeat_with(present).take(files).collect(),
            past: BTreeMap::new(),
            old: BTreeMap::new(),
            held: BTreeMap::new(),
            handles: BTreeMap::new(),
            dirt: Dirt::default(),
            stale: Vec::new(),
        }
    }

    /// Which version of a file a generation shows, and whether that is for good.
    pub(super) fn shown_by(&self, generation: u32, file: usize) -> Option<(u32, bool)> {
        if generation > self.generation || generation < FIRST_GENERATION {
            return None;
        }
        let current = self.files.get(file)?.version;
        if generation == self.generation {
            return Some((current, true));
        }
        let then = self.past.get(&generation).and_then(|past| past.versions.get(file));
        Some(then.map_or((current, false), |version| (*version, false)))
    }

    /// The bytes that opening `wanted` gives now, which version they are of, and whether they are the
    /// inode's own. `None` when the file has no content now.
    pub(super) fn bytes_of(&self, wanted: Version, now: Moment) -> Option<(Version, Arc<Content>)> {
        let present = self.files.get(wanted.file)?;
        if wanted.version != present.version {
            let old = self.old.get(&(wanted.file, wanted.version));
            if let Some(old) = old.filter(|old| now < old.until) {
                return Some((wanted, Arc::clone(&old.content)));
            }
        }
        let content = present.content.as_ref()?;
        Some((Version { version: present.version, ..wanted }, Arc::clone(content)))
    }

    /// The bytes that a handle pins.
    pub(super) fn pinned(&self, version: Version) -> Option<Arc<SecretBytes>> {
        let key = (version.file, version.version);
        let content = match self.files.get(version.file) {
            Some(present) if present.version == version.version && present.content.is_some() => {
                present.content.as_ref()
            }
            Some(_) | None => self.in_grace(version).or_else(|| self.held.get(&key)),
        };
        content?.field(version.field).map(Arc::clone)
    }

    /// The content of a version that was replaced a short while ago.
    pub(super) fn in_grace(&self, version: Version) -> Option<&Arc<Content>> {
        self.old.get(&(version.file, version.version)).map(|old| &old.content)
    }

    /// The content of a version that only handles keep.
    pub(super) fn held_by_handles(&self, version: Version) -> Option<&Arc<Content>> {
        self.held.get(&(version.file, version.version))
    }

    pub(super) fn opened(&mut self, version: Version) {
        *self.handles.entry((version.file, version.version)).or_default() += 1;
    }

    pub(super) fn released(&mut self, version: Version) {
        let key = (version.file, version.version);
        if let Some(count) = self.handles.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.handles.remove(&key);
                if self.held.remove(&key).is_some() {
                    self.dirt.gone.insert(key);
                }
            }
        }
    }

    /// Takes contents in, all in one generation.
    pub(super) fn install(
        &mut self,
        contents: Vec<(usize, Rendered, Provenance)>,
        now: Moment,
        wall: SystemTime,
    ) -> Installed {
        let mut outcome = Installed::Same;
        let mut changed = Vec::new();
        for (file, rendered, provenance) in contents {
            let Some(present) = self.files.get_mut(file) else {
                continue;
            };
            present.failure = None;
            present.provenance = Some(provenance);
            self.dirt.files.insert(file);
            let had = present.content.as_ref();
            if had.is_some_and(|had| had.is(&rendered, &present.names)) {
                continue;
            }
            let content = Arc::new(fill(present, rendered, wall));
            present.last_size = content.field(0).map_or(0, |bytes| bytes.expose().len() as u64);
            if present.content.is_none() && !present.ended {
                present.content = Some(content);
                self.dirt.contents.insert((file, present.version));
                outcome = Installed::First;
            } else {
                changed.push((file, content));
            }
        }
        if changed.is_empty() {
            return outcome;
        }
        let until = now + GRACE;
        let versions = self.files.iter().map(|present| present.version).collect();
        self.past.insert(self.generation, Past { versions, until });
        self.dirt.past.insert(self.generation);
        self.generation += 1;
        self.dirt.generation = true;
        self.switched = wall;
        for (file, content) in changed {
            let Some(present) = self.files.get_mut(file) else {
                continue;
            };
            if let Some(content) = present.content.replace(content) {
                self.old.insert((file, present.version), Old { content, until });
                self.dirt.old.insert((file, present.version));
            }
            present.version = self.generation;
            present.ended = false;
            self.dirt.contents.insert((file, present.version));
        }
        Installed::Switched { generation: self.generation }
    }

    /// The content has ended: nobody may open it any more; handles keep what they pinned.
    pub(super) fn end(&mut self, file: usize, failure: Failure, now: Moment) {
        let Some(present) = self.files.get_mut(file) else {
            return;
        };
        if let Some(content) = present.content.take() {
            present.ended = true;
            self.old.insert((file, present.version), Old { content, until: now });
            self.dirt.old.insert((file, present.version));
            self.dirt.files.insert(file);
        }
        present.failure = Some(failure);
    }

    /// Takes what is past its grace away from all but the handles that pin it; returns when to look
    /// again.
    pub(super) fn forget_old(&mut self, now: Moment) -> Option<Moment> {
        let (past, dirt) = (&mut self.past, &mut self.dirt);
        past.retain(|generation, past| {
            let stays = now < past.until;
            if !stays {
                dirt.past.insert(*generation);
            }
            stays
        });
        let over: Vec<_> =
            self.old.iter().filter(|(_, old)| now >= old.until).map(|(key, _)| *key).collect();
        for key in over {
            let Some(Old { content, .. }) = self.old.remove(&key) else {
                continue;
            };
            let (file, version) = key;
            let nodes = content.fields().map(|field| Node::File(Version { file, version, field }));
            self.stale.extend(nodes.map(NodeId::from));
            self.dirt.old.insert(key);
            if self.handles.contains_key(&key) {
                self.held.insert(key, content);
            } else {
                self.dirt.gone.insert(key);
            }
        }
        self.old.values().map(|old| old.until).min()
    }

    /// Inodes that no longer show the bytes that the kernel may have pages of; told once.
    pub(super) fn take_stale(&mut self) -> Vec<NodeId> {
        std::mem::take(&mut self.stale)
    }

    /// Every inode that the kernel may have pages of.
    pub(super) fn all_nodes(&self) -> Vec<NodeId> {
        let current = self.files.iter().enumerate().filter_map(|(file, present)| {
            present.content.as_ref().map(|content| (file, present.version, content))
        });
        let old = self.old.iter().map(|(key, had)| (key, &had.content)).chain(&self.held);
        let old = old.map(|((file, version), content)| (*file, *version, content));
        let nodes = current.chain(old).flat_map(|(file, version, content)| {
            content.fields().map(move |field| Node::File(Version { file, version, field }).into())
        });
        nodes.chain(self.stale.iter().copied()).collect()
    }

    /// Forgets every byte; open handles too.
    pub(super) fn wipe(&mut self) {
        self.old.clear();
        self.held.clear();
        self.handles.clear();
        for present in &mut self.files {
            present.content = None;
        }
    }
}

fn fill(present: &mut Present, rendered: Rendered, mtime: SystemTime) -> Content {
    match rendered {
        Rendered::File(bytes) => {
            Content { bytes: BTreeMap::from([(0, Arc::new(bytes))]), mtime, folder: false }
        }
        Rendered::Folder(fields) => {
            let mut bytes = BTreeMap::new();
            for (name, value) in fields {
                let known = present.names.iter().position(|had| *had == name);
                let at = known.unwrap_or_else(|| {
                    present.names.push(name);
                    present.names.len() - 1
                });
                bytes.insert(at, Arc::new(value));
            }
            Content { bytes, mtime, folder: true }
        }
    }
}
