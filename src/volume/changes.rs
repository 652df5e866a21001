//! The task of one volume that takes up what changes in Vault while the pod runs.
//!
//! See [`follow`] first. It sleeps until Vault's answer changed, ended, or the grace of an old
//! version is over; an idle volume costs nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::clock::Moment;
use crate::lease::Change;
use crate::volume::explain;
use crate::volume::source::VolumeSource;

/// Takes up changes until the volume ends.
pub(super) async fn follow(source: Arc<VolumeSource>, mut changes: UnboundedReceiver<Change>) {
    let mut tidy_at: Option<Moment> = None;
    loop {
        let wait = tidy_at.map(|at| at.saturating_since(source.clock.now()));
        tokio::select! {
            () = source.live.ended.cancelled() => return,
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
            change = changes.recv() => {
                let Some(change) = change else { return };
                apply(&source, change, &mut changes);
            }
        }
        tidy_at = source.live.files().forget_old(source.clock.now());
        if let Some(mounted) = source.live.mounted.load().as_ref() {
            mounted.forget(source.live.files().take_stale());
        }
    }
}

/// Applies one change and whatever else has arrived with it, so that a file set switches once.
fn apply(source: &VolumeSource, first: Change, rest: &mut UnboundedReceiver<Change>) {
    let mut newer = Vec::new();
    for change in std::iter::once(first).chain(std::iter::from_fn(|| rest.try_recv().ok())) {
        match change {
            Change::Newer { request, held } => {
                newer.retain(|(had, _)| *had != request);
                newer.push((request, held));
            }
            Change::Ended { request, why } => {
                newer.retain(|(had, _)| *had != request);
                let reason = explain::read(&source.live.session, &why);
                for at in source.live.files_of(&request) {
                    source.live.files().end(
                        at,
                        reason.clone(),
                        source.clock.now(),
                        source.clock.wall(),
                    );
                }
            }
        }
    }
    if !newer.is_empty() {
        source.show(newer);
    }
}
