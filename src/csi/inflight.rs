//! One operation per volume at a time: the CSI spec lets a plugin answer ABORTED to the others.
//! <https://github.com/container-storage-interface/spec/blob/master/spec.md#concurrency>

use std::sync::Arc;

use dashmap::DashSet;

/// The volumes that are being worked on.
#[derive(Clone, Default)]
pub(super) struct InFlight(Arc<DashSet<String>>);

/// The right to work on one volume, given back when dropped.
pub(super) struct Turn {
    all: InFlight,
    volume: String,
}

impl InFlight {
    /// The turn for `volume`, unless somebody has it.
    pub(super) fn begin(&self, volume: &str) -> Option<Turn> {
        self.0
            .insert(volume.to_owned())
            .then(|| Turn { all: self.clone(), volume: volume.to_owned() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.0.remove(&self.volume);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_turn_per_volume() {
        let all = InFlight::default();
        let first = all.begin("a");
        assert!(first.is_some());
        assert!(all.begin("a").is_none());
        assert!(all.begin("b").is_some());
        drop(first);
        assert!(all.begin("a").is_some());
    }
}
