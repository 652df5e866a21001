//! `..data` moves: by a rename through the volume's private mount, which inotify sees, or by our word to the kernel.
//!
//! ```text
//! install -> generation N is there, `..data` still points to N-1
//!   the rotator: symlink ..data_tmp -> ..N, rename ..data_tmp -> ..data     or, without it: Files::link
//! ```
//!
//! Every other change is EROFS. Link and rename are written down before they are answered: after a server that died
//! in between the next one answers the same to the request that is sent again, whoever that came from.

use super::{Asker, Attr, DATA, Duration, Entry, Files, FsError, Node, NodeId};

/// The link's name until it is renamed.
const TEMPORARY: &str = "..data_tmp";

impl Files {
    /// The newest generation, and where `..data` points.
    pub fn generations(&self) -> (u32, u32) {
        let versions = &self.state().versions;
        (versions.generation, versions.linked)
    }

    /// From now on the process `mover` may make `..data` point to `generation`; nobody may with `None`.
    pub fn expect_rotation(&self, mover: Option<(u32, u32)>) {
        let mut state = self.state();
        (state.mover, state.made) = (mover, false);
    }

    /// Makes `..data` point to the newest generation by itself; the kernel must be told. False, and nothing is done,
    /// when this process may no longer act.
    pub fn link(&self) -> bool {
        if !self.kept.journal.acts() {
            return false;
        }
        let mut state = self.state();
        state.versions.linked = state.versions.generation;
        self.kept.manifest.link(state.versions.linked);
        true
    }

    /// What the link is called before it is renamed, while it is there: rename(2) looks it up.
    pub(super) fn made(&self, name: &str) -> Option<Node> {
        let state = self.state();
        (name == TEMPORARY && state.made).then_some(Node::DataLink { generation: state.pending })
    }

    /// The rotator makes its link.
    ///
    /// # Errors
    /// It is somebody else, or another link: everything here is read-only.
    pub fn rotation_link(
        &self,
        (asker, again): (Asker, bool),
        parent: NodeId,
        name: &str,
        target: &str,
    ) -> Result<Entry, FsError> {
        let mut state = self.state();
        let generation = target.strip_prefix("..").and_then(|number| number.parse::<u32>().ok());
        let generation = generation.filter(|_| parent == NodeId::ROOT && name == TEMPORARY);
        let generation = generation.ok_or(FsError::ReadOnly)?;
        let shown = state.versions.linked..=state.versions.generation;
        let ours = state.mover == Some((asker.tid, generation));
        let again = again && shown.contains(&generation);
        if !(ours || again) {
            return Err(FsError::ReadOnly);
        }
        (state.pending, state.made) = (generation, true);
        self.kept.manifest.pend(generation);
        drop(state);
        let node = Node::DataLink { generation };
        let attr: Attr = self.known_attr(node)?;
        // Long enough for the rename that follows.
        Ok(Entry { attr, ttl: Duration::from_secs(1) })
    }

    /// The rotator renames its link to `..data`.
    ///
    /// # Errors
    /// It is somebody else, or other names: everything here is read-only.
    pub fn rotation_rename(
        &self,
        (asker, again): (Asker, bool),
        from: &str,
        to: &str,
    ) -> Result<(), FsError> {
        let mut state = self.state();
        let ours = state.mover == Some((asker.tid, state.pending));
        let shown = state.versions.linked..=state.versions.generation;
        let known = ours || (again && shown.contains(&state.pending));
        if from != TEMPORARY || to != DATA || !known {
            return Err(FsError::ReadOnly);
        }
        (state.versions.linked, state.made) = (state.pending, false);
        self.kept.manifest.link(state.pending);
        Ok(())
    }
}
