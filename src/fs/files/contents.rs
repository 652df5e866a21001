//! What the volume does to its [`Files`]: contents come, fail, end and go.

use super::{
    Failure, Files, FsError, Installed, Moment, NodeId, Provenance, Rendered, SystemTime, Warning,
    status,
};

/// The most warnings that a volume's status tells; older ones go first.
const MAX_WARNINGS: usize = 8;

impl Files {
    /// Takes contents in, by file index, all in one generation. A process that may no longer act takes in nothing: the
    /// next one would have to go on with a mark that no journal reaches.
    pub fn install(
        &self,
        contents: Vec<(usize, Rendered, Provenance)>,
        now: Moment,
        wall: SystemTime,
    ) -> Installed {
        if !self.kept.journal.acts() {
            return Installed::Same;
        }
        let mut state = self.state();
        let changed: Vec<usize> = contents.iter().map(|(file, ..)| *file).collect();
        let outcome = state.versions.install(contents, now, wall);
        if !self.record(&mut state) {
            return Installed::Same;
        }
        match outcome {
            // After it is written down, and before anybody can see it: a journal that is behind this mark has lost
            // something, and no number may stand for two contents.
            Installed::Switched { generation } => self.kept.manifest.raise(generation),
            Installed::First | Installed::Same => {}
        }
        for file in changed {
            if let Some(present) = state.versions.files.get(file) {
                self.kept.manifest.size(file, present.last_size);
            }
        }
        outcome
    }

    /// A file could not be fetched; what it shows stays.
    pub fn fail(&self, file: usize, error: FsError, reason: String, wall: SystemTime) {
        if let Some(present) = self.state().versions.files.get_mut(file) {
            present.failure = Some(Failure { error, reason, at: wall, unrendered: false });
        }
    }

    /// Vault answered, and the answer does not make this file; what it shows stays.
    pub fn fail_to_render(&self, file: usize, reason: String, wall: SystemTime) {
        if let Some(present) = self.state().versions.files.get_mut(file) {
            let error = FsError::Unavailable;
            present.failure = Some(Failure { error, reason, at: wall, unrendered: true });
        }
    }

    /// What a file shows has ended (its lease is over): the next open fetches or fails.
    pub fn end(&self, file: usize, reason: String, now: Moment, wall: SystemTime) {
        let failure = Failure { error: FsError::Unavailable, reason, at: wall, unrendered: false };
        let mut state = self.state();
        state.versions.end(file, failure, now);
        self.record(&mut state);
    }

    /// Something that the person should know, though the volume works.
    pub fn warn(&self, reason: String, wall: SystemTime) {
        let mut state = self.state();
        state.warnings.retain(|had| had.reason != reason);
        state.warnings.push(Warning { reason, at: wall });
        let over = state.warnings.len().saturating_sub(MAX_WARNINGS);
        state.warnings.drain(..over);
    }

    /// Drops what is past its grace; returns when to call again.
    pub fn forget_old(&self, now: Moment) -> Option<Moment> {
        let mut state = self.state();
        let next = state.versions.forget_old(now);
        self.record(&mut state);
        next
    }

    /// Inodes whose bytes are gone and that the kernel may still have pages of; told once.
    pub fn take_stale(&self) -> Vec<NodeId> {
        self.state().versions.take_stale()
    }

    /// Every inode that the kernel may have pages of, for the volume's end.
    pub fn all_nodes(&self) -> Vec<NodeId> {
        self.state().versions.all_nodes()
    }

    /// Forgets every byte. Readers get errors from now on.
    pub fn wipe(&self) {
        let mut state = self.state();
        state.versions.wipe();
        state.snapshots.clear();
        self.kept.journal.wipe();
    }

    /// Why files did not become files of what Vault answered.
    pub fn unrendered(&self) -> Vec<String> {
        let state = self.state();
        let failures = state.versions.files.iter().filter_map(|present| present.failure.as_ref());
        failures.filter(|had| had.unrendered).map(|had| had.reason.clone()).collect()
    }

    /// The text of `.keyhole/status.json`: never a value.
    pub fn status(&self) -> Vec<u8> {
        let state = self.state();
        status::text(&self.spec, &self.pod, &state.versions, &state.warnings)
    }
}
