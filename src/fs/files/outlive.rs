//! [`Files`] that outlive their process: begun, gone on with, or begun anew after a loss.

use crate::kept::manifest::Found;

use super::{Arc, Files, Kept, MutexGuard, PoisonError, State, Versions};

impl Files {
    /// What changes from now on is written down.
    #[must_use]
    pub fn keep(mut self, kept: Kept) -> Self {
        self.kept = kept;
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.versions.dirt.generation = true;
        let batch = state.versions.changes();
        self.kept.journal.append(&batch);
        self
    }

    /// Goes on with what another process wrote into `kept`, whose manifest was found to say `found`. `epoch` makes
    /// the numbers of status handles differ from those of that process.
    ///
    /// # Errors
    /// It does not fit together, or is older than the generation that was shown last: itself, unchanged.
    pub fn restore(mut self, kept: Kept, found: &Found, epoch: u64) -> Result<Self, Box<Self>> {
        let entries = kept.journal.entries();
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let fresh = Versions::new(self.spec.files.len(), super::FIRST_GENERATION, self.born);
        let Some(versions) = fresh.restore(&entries).filter(|had| had.generation >= found.mark)
        else {
            return Err(Box::new(self));
        };
        state.versions = versions;
        state.versions.linked =
            found.linked.clamp(super::FIRST_GENERATION, state.versions.generation);
        state.pending = found.pending;
        state.next_snapshot = first_snapshot(epoch);
        self.kept = kept;
        let _ = self.record(&mut self.state());
        Ok(self)
    }

    /// Begins anew under a mount that has shown generations up to `mark`: no number of theirs is used again.
    #[must_use]
    pub fn after_loss(
        mut self,
        kept: Kept,
        (mark, linked): (u32, u32),
        sizes: &[u64],
        epoch: u64,
    ) -> Self {
        let generation = mark.saturating_add(1);
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        state.versions = Versions::new(self.spec.files.len(), generation, self.born);
        state.versions.linked = linked;
        state.next_snapshot = first_snapshot(epoch);
        for (present, size) in state.versions.files.iter_mut().zip(sizes) {
            present.last_size = *size;
        }
        kept.manifest.raise(generation);
        self.keep(kept)
    }

    /// Writes down what has changed; tells whether it may be shown. What could not be written, because another process
    /// acts now, is not shown to anybody any more: that process may have another content under the same number.
    pub(super) fn record(&self, state: &mut MutexGuard<'_, State>) -> bool {
        let batch = state.versions.changes();
        let written = self.kept.journal.append(&batch);
        state.superseded |= !written;
        written
    }

    /// The names in the volume's root.
    pub fn names(&self) -> Vec<String> {
        self.tree.tops().iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether this process may still change what is kept.
    pub fn acts(&self) -> bool {
        self.kept.journal.acts()
    }

    /// What is kept.
    pub fn kept(&self) -> Kept {
        Kept { journal: Arc::clone(&self.kept.journal), manifest: Arc::clone(&self.kept.manifest) }
    }
}

fn first_snapshot(epoch: u64) -> u32 {
    // Of 65 536 drivers two may meet, if a handle stays open for that long.
    u32::try_from(epoch & 0xffff).unwrap_or_default() << 16 | 1
}

#[cfg(test)]
#[path = "outlive/tests.rs"]
mod tests;
