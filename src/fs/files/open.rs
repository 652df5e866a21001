//! Opening, reading, listing: the operations of [`Files`] that show contents.

use super::{
    Arc, Asker, Attempt, Cache, Caller, FileSpec, Files, FsError, Gate, Kind, Listed, Moment, Node,
    NodeId, OPEN_BUDGET, Open, Opened, Outcome, STAT_BUDGET, SecretBytes, Step, Version,
};
use crate::fs::kept::content_key;
use crate::fs::tree::Child;

impl Files {
    /// Opens a file: the gate, then the version's bytes, pinned to the handle.
    ///
    /// # Errors
    /// The gate refused; or there is nothing to serve, and why is in the status.
    pub fn open(
        &self,
        node: NodeId,
        asker: Asker,
        now: Moment,
        attempt: Attempt,
    ) -> Result<Step<Opened>, FsError> {
        match node.node().ok_or(FsError::NotFound)? {
            Node::File(wanted) => self.open_version(wanted, asker, now, attempt),
            Node::Status { .. } => Ok(Step::Done(self.open_status())),
            Node::Root | Node::Folder { .. } | Node::Fields { .. } | Node::Keyhole => {
                Err(FsError::IsDirectory)
            }
            Node::TopLink { .. } | Node::DataLink { .. } => Err(FsError::NotSupported),
        }
    }

    fn open_version(
        &self,
        wanted: Version,
        asker: Asker,
        now: Moment,
        attempt: Attempt,
    ) -> Result<Step<Opened>, FsError> {
        let spec = self.file(wanted.file)?;
        let caller = self.callers.caller(asker.tid);
        let ours = caller.pod.as_ref() == Some(&self.pod);
        let tell = |outcome, version| self.tell(spec, &caller, asker, (outcome, version));
        if !ours && self.gate == Gate::Enforce {
            tell(Outcome::Denied, None);
            return Err(FsError::Denied);
        }
        let mut state = self.state();
        if state.superseded {
            // It is fetched by nobody here: the answer is the next server's.
            return Ok(Step::Fetch { file: wanted.file, budget: OPEN_BUDGET });
        }
        if let Some((version, content)) = state.versions.bytes_of(wanted, now) {
            if content.field(version.field).is_none() {
                // The field that this inode stood for is no longer in the secret.
                drop(state);
                tell(Outcome::Failed, None);
                return Err(FsError::Unavailable);
            }
            state.versions.opened(version);
            self.kept.journal.add(&content_key((version.file, version.version)), 1);
            drop(state);
            let audited = !ours && self.gate == Gate::Audit;
            tell(if audited { Outcome::Audited } else { Outcome::Served }, Some(version.version));
            let cache = if version == wanted { Cache::Keep } else { Cache::Direct };
            return Ok(Step::Done(Opened { handle: Node::File(version).into(), cache }));
        }
        let failure = state.versions.files.get(wanted.file).and_then(|had| had.failure.clone());
        drop(state);
        if attempt == Attempt::First {
            return Ok(Step::Fetch { file: wanted.file, budget: OPEN_BUDGET });
        }
        tell(Outcome::Failed, None);
        Err(failure.map_or(FsError::Unavailable, |had| had.error))
    }

    fn tell(
        &self,
        spec: &FileSpec,
        caller: &Caller,
        asker: Asker,
        (outcome, version): (Outcome, Option<u32>),
    ) {
        if self.gate == Gate::Off && outcome != Outcome::Failed {
            return;
        }
        self.audit.opened(&Open {
            pod: &self.pod,
            caller,
            tid: asker.tid,
            file: &spec.name,
            version,
            outcome,
        });
    }

    fn open_status(&self) -> Opened {
        let text = Arc::new(SecretBytes::new(self.status()));
        let mut state = self.state();
        let snapshot = state.next_snapshot;
        state.next_snapshot = snapshot.wrapping_add(1).max(1);
        state.snapshots.insert(snapshot, text);
        Opened { handle: Node::Status { snapshot }.into(), cache: Cache::Direct }
    }

    /// The bytes that a handle pins.
    ///
    /// # Errors
    /// The handle is not open, or its bytes are gone with the volume.
    pub fn read(&self, handle: NodeId) -> Result<Arc<SecretBytes>, FsError> {
        let state = self.state();
        match handle.node() {
            Some(Node::File(version)) => state.versions.pinned(version).ok_or(FsError::BadHandle),
            Some(Node::Status { snapshot }) => {
                let had = state.snapshots.get(&snapshot).map(Arc::clone);
                drop(state);
                Ok(had.unwrap_or_else(|| self.snapshot_again(snapshot)))
            }
            _ => Err(FsError::BadHandle),
        }
    }

    /// The text for a handle that was opened at the server before this one.
    fn snapshot_again(&self, snapshot: u32) -> Arc<SecretBytes> {
        let text = Arc::new(SecretBytes::new(self.status()));
        self.state().snapshots.insert(snapshot, Arc::clone(&text));
        text
    }

    /// A handle is closed. `again`: the kernel says so once more, because a server died before it answered; that
    /// one may have counted it already, and bytes that stay too long are better than bytes that go too early.
    pub fn release(&self, handle: NodeId, again: bool) {
        let mut state = self.state();
        match handle.node() {
            Some(Node::File(version)) if !again => {
                self.kept.journal.add(&content_key((version.file, version.version)), -1);
                state.versions.released(version);
                self.record(&mut state);
            }
            Some(Node::Status { snapshot }) => drop(state.snapshots.remove(&snapshot)),
            _ => {}
        }
    }

    /// The names in a folder. A `field: *` folder is fetched for a caller inside the pod.
    ///
    /// # Errors
    /// It is no folder.
    pub fn list(
        &self,
        node: NodeId,
        asker: Asker,
        attempt: Attempt,
    ) -> Result<Step<Vec<Listed>>, FsError> {
        let known = node.node().ok_or(FsError::NotFound)?;
        let mut names =
            vec![line(known, Kind::Directory, "."), line(Node::Root, Kind::Directory, "..")];
        match known {
            Node::Root => {
                let generation = self.state().versions.linked;
                let folder = Node::Folder { generation, at: 0 };
                names.push(line(folder, Kind::Directory, &format!("..{generation}")));
                names.push(line(Node::DataLink { generation }, Kind::Link, super::DATA));
                let tops = self.tree.tops().iter().enumerate();
                names.extend(
                    tops.map(|(at, (name, _))| line(Node::TopLink { at }, Kind::Link, name)),
                );
            }
            Node::Folder { generation, at } => {
                for (name, child) in self.tree.list(at).ok_or(FsError::NotFound)? {
                    let Some(node) = self.child(generation, *child) else {
                        continue;
                    };
                    let kind =
                        if let Child::File(_) = child { Kind::File } else { Kind::Directory };
                    names.push(line(node, kind, name));
                }
            }
            Node::Fields { generation, file } => {
                let ask = attempt == Attempt::First && !self.is_fetched(file);
                if ask && self.inside(asker) {
                    return Ok(Step::Fetch { file, budget: STAT_BUDGET });
                }
                names.extend(self.fields(generation, file));
            }
            Node::Keyhole => {
                names.push(line(Node::Status { snapshot: 0 }, Kind::File, "status.json"));
            }
            Node::TopLink { .. } | Node::DataLink { .. } | Node::File(_) | Node::Status { .. } => {
                return Err(FsError::NotDirectory);
            }
        }
        Ok(Step::Done(names))
    }

    fn fields(&self, generation: u32, file: usize) -> Vec<Listed> {
        let state = self.state();
        let Some((version, _)) = state.versions.shown_by(generation, file) else {
            return Vec::new();
        };
        let node = Version { file, version, field: 0 };
        let Some((shown, content)) = state.versions.bytes_of(node, Moment::default()) else {
            return Vec::new();
        };
        let Some(present) = state.versions.files.get(file) else {
            return Vec::new();
        };
        let mut fields: Vec<Listed> = content
            .fields()
            .filter_map(|field| {
                let name = present.names.get(field)?;
                Some(line(Node::File(Version { field, ..shown }), Kind::File, name))
            })
            .collect();
        fields.sort_by(|one, other| one.name.cmp(&other.name));
        fields
    }
}

fn line(node: Node, kind: Kind, name: &str) -> Listed {
    Listed { node: node.into(), kind, name: name.to_owned() }
}
