//! Ends volumes whose pod has vanished without a word of kubelet's: their sessions would be renewed for ever.
//!
//! A pod has vanished when its folder in the kubelet directory or its cgroup is gone, and kubelet has not published
//! the volume for two intervals, seen twice in a row: a kubelet that restarts, or is slow, ends nothing.
//! <https://github.com/kubernetes/kubernetes/issues/92299>

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Moment;
use crate::identity::pod::PodUid;
use crate::volume::lifecycle::Lifecycle;
use crate::volume::live::Live;

/// Port: which pods this node still has.
#[async_trait]
pub trait Pods: Send + Sync + 'static {
    /// Whether the pod that this volume belongs to is still there.
    async fn is_there(&self, uid: &PodUid, target: &Path) -> bool;
}

/// Whether this sweep may end a volume: it was missing the last time, and kubelet was silent for two intervals.
fn is_due(seen: Moment, missed_before: bool, interval: Duration, now: Moment) -> bool {
    missed_before && now.saturating_since(seen) >= interval * 2
}

impl Lifecycle {
    /// Sweeps every `interval`, for ever.
    pub async fn sweep(&self, interval: Duration) {
        let mut missing = BTreeSet::new();
        let mut turn = tokio::time::interval(interval);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        turn.tick().await;
        loop {
            turn.tick().await;
            missing = self.sweep_once(&missing, interval).await;
        }
    }

    async fn sweep_once(&self, before: &BTreeSet<String>, interval: Duration) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        let all: Vec<Arc<Live>> = self.table.iter().map(|live| Arc::clone(live.value())).collect();
        for live in all {
            if self.around.pods.is_there(&live.pod.uid, &live.target).await {
                continue;
            }
            if !is_due(live.seen(), before.contains(&live.id), interval, self.around.clock.now()) {
                missing.insert(live.id.clone());
                continue;
            }
            tracing::warn!(volume = live.id, pod = %live.pod.uid, namespace = live.pod.namespace, name = live.pod.name, "the pod has vanished and kubelet never said so: its volume ends");
            if let Err(error) = self.end(&live).await {
                tracing::warn!(volume = live.id, %error, "not ended whole");
            }
            self.around.metrics.swept();
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_absence_or_a_recent_publish_ends_nothing() {
        let at = |minutes: u64| Moment::since_boot(Duration::from_secs(minutes * 60));
        let interval = Duration::from_secs(300);
        assert!(!is_due(at(0), false, interval, at(60)));
        assert!(!is_due(at(51), true, interval, at(60)));
        assert!(is_due(at(50), true, interval, at(60)));
    }
}
