//! Brings Vault's answers into a volume's files: on a reader's demand, and when they change.
//!
//! See [`VolumeSource`] first. All files of one answer are rendered from it together, so that a
//! certificate and its key match; a file that cannot be rendered does not hinder the others.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::fs::error::FsError;
use crate::fs::files::{Installed, Provenance};
use crate::fs::serve::Source;
use crate::lease::leases::Leases;
use crate::lease::{FetchError, Held};
use crate::render::{Rendered, render};
use crate::secret::request::SecretRequest;
use crate::secret::store::StoreError;
use crate::telemetry::metrics::Metrics;
use crate::volume::explain;
use crate::volume::live::Live;

/// Where the files of one volume come from.
pub(super) struct VolumeSource {
    pub(super) live: Arc<Live>,
    pub(super) leases: Leases,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
}

#[async_trait]
impl Source for VolumeSource {
    async fn fetch(&self, file: usize, budget: Duration) {
        if let Err(error) = self.bring(file, budget).await {
            tracing::warn!(volume = self.live.id, pod = %self.live.pod.uid, file, %error, "not fetched");
        }
    }
}

impl VolumeSource {
    /// Fetches one file, with all that share its answer; a failure is recorded with each.
    pub(super) async fn bring(&self, file: usize, budget: Duration) -> Result<(), FetchError> {
        let spec = self.live.files.spec();
        let Some(wanted) = spec.files.get(file) else {
            return Ok(());
        };
        match self.leases.fetch(&self.live.id, &wanted.secret, wanted.refresh, budget).await {
            Ok(held) => {
                self.show(vec![(wanted.secret.clone(), held)]);
                Ok(())
            }
            Err(error) => {
                let reason = explain::read(&self.live.session, &error);
                for at in self.live.files_of(&wanted.secret) {
                    self.live.files.fail(at, errno(&error), reason.clone(), self.clock.wall());
                }
                Err(error)
            }
        }
    }

    /// Renders answers into all files that show them: one generation for all of them.
    pub(super) fn show(&self, answers: Vec<(SecretRequest, Held)>) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut contents: Vec<(usize, Rendered, Provenance)> = Vec::new();
        for (request, held) in answers {
            let asked = wall.checked_sub(now.saturating_since(held.asked)).unwrap_or(wall);
            for at in self.live.files_of(&request) {
                let Some(file) = self.live.files.spec().files.get(at) else {
                    continue;
                };
                match render(file, &held.response) {
                    Ok(rendered) => contents.push((
                        at,
                        rendered,
                        Provenance {
                            path: request.path.clone(),
                            version: held.response.version,
                            lease: !held.response.terms.id.is_empty(),
                            fetched: asked,
                            ends: held.ends.map(|ends| wall + ends.saturating_since(now)),
                        },
                    )),
                    Err(error) => {
                        let reason = format!("{}: {error}", request.path);
                        tracing::warn!(volume = self.live.id, pod = %self.live.pod.uid, file = file.name, %error, "not rendered");
                        self.live.files.fail_to_render(at, reason, wall);
                    }
                }
            }
        }
        if contents.is_empty() {
            return;
        }
        match self.live.files.install(contents, now, wall) {
            Installed::First | Installed::Same => {}
            Installed::Switched { generation } => {
                self.metrics.switched();
                tracing::info!(volume = self.live.id, pod = %self.live.pod.uid, generation, "files changed");
                if let Some(mounted) = self.live.mounted.load().as_ref() {
                    mounted.switched();
                }
            }
        }
    }
}

/// What a reader gets: a policy's no is EACCES, everything else EIO, never ENOENT, because a missing
/// secret must not look like an optional file.
fn errno(error: &FetchError) -> FsError {
    match error {
        FetchError::Read { error: StoreError::Denied { .. }, .. }
        | FetchError::Login { error: StoreError::Denied { .. } } => FsError::Denied,
        FetchError::Deadline { last: Some(last) } => errno(last),
        FetchError::Login { .. }
        | FetchError::Read { .. }
        | FetchError::NoToken { .. }
        | FetchError::NoConnection { .. }
        | FetchError::Deadline { last: None }
        | FetchError::Ended => FsError::Unavailable,
    }
}
