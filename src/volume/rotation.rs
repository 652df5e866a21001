//! Moves `..data` of a volume to its newest generation, so that watchers of the folder are woken.
//!
//! See [`rotate`] first. The rename is done by the rotator, a process of the keeper's; where there is none, or it
//! does not come to an end, the kernel is told to look `..data` up anew: readers see the change, watchers do not.

use std::sync::Arc;

use crate::fs::serve::Errands;
use crate::telemetry::metrics::Metrics;
use crate::volume::live::Live;

/// Goes on until `..data` points to the newest generation. One at a time for each volume.
pub async fn rotate(live: Arc<Live>, errands: Arc<dyn Errands>, metrics: Metrics) {
    let turn = live.rotating.lock().await;
    loop {
        let files = live.files();
        let (newest, linked) = files.generations();
        if newest == linked || live.ended.is_cancelled() {
            break;
        }
        let mut moved = false;
        if let Some(runner) = errands.runner().await {
            files.expect_rotation(Some((runner, newest)));
            moved = errands.rotate(&live.kept_as(), runner, newest).await;
            files.expect_rotation(None);
            moved = moved && files.generations().1 == newest;
        }
        metrics.rotated(moved);
        if !moved {
            if !files.link() {
                break;
            }
            if let Some(mounted) = live.mounted.load().as_ref() {
                mounted.switched();
            }
        }
    }
    drop(turn);
}
