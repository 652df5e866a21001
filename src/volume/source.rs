//! Brings Vault's answers into a volume's files: on a reader's demand, and when they change.
//!
//! See [`VolumeSource`] first. All files of one answer are rendered from it together, so that a
//! certificate and its key match; a file that cannot be rendered does not hinder the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::fs::error::FsError;
use crate::fs::files::{Installed, Provenance};
use crate::fs::serve::{Errands, Source};
use crate::lease::leases::Leases;
use crate::lease::{FetchError, Held};
use crate::render::{Rendered, render};
use crate::secret::request::SecretRequest;
use crate::secret::store::StoreError;
use crate::telemetry::metrics::Metrics;
use crate::volume::live::Live;
use crate::volume::{PublishError, explain, rotation};

/// Where the files of one volume come from.
pub(super) struct VolumeSource {
    pub(super) live: Arc<Live>,
    pub(super) leases: Leases,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Metrics,
    pub(super) errands: Arc<dyn Errands>,
    /// The root is about to be primed again.
    pub(super) priming: AtomicBool,
}

/// A list is read in several parts: the root is primed once they have been.
const LISTED: Duration = Duration::from_millis(50);
/// How long a publish with `onStart: fetch` waits for all files.
const FETCH_BUDGET: Duration = Duration::from_secs(8);

#[async_trait]
impl Source for VolumeSource {
    async fn fetch(&self, file: usize, budget: Duration) {
        let brought = self.bring(file, budget).await;
        if !self.live.files().acts() {
            // Nothing is asked or taken in any more, and it is not ours to say so: the kernel asks our successor.
            return std::future::pending().await;
        }
        if let Err(error) = brought {
            tracing::warn!(volume = self.live.id, pod = %self.live.pod.uid, file, %error, "not fetched");
        }
    }

    async fn listed(&self) {
        self.prime_again().await;
    }
}

impl VolumeSource {
    /// Lets the rotator stat the root, once for all who list it meanwhile.
    async fn prime_again(&self) {
        if self.priming.swap(true, Ordering::AcqRel) {
            return;
        }
        tokio::time::sleep(LISTED).await;
        self.priming.store(false, Ordering::Release);
        let primed = self.errands.prime(&self.live.kept_as(), Vec::new()).await;
        tracing::debug!(
            volume = self.live.id,
            primed,
            "the root was listed; the kernel learns it again"
        );
    }

    /// Fetches one file, with all that share its answer; a failure is recorded with each.
    pub(super) async fn bring(&self, file: usize, budget: Duration) -> Result<(), FetchError> {
        let files = self.live.files();
        let Some(wanted) = files.spec().files.get(file) else {
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
                    self.live.files().fail(at, errno(&error), reason.clone(), self.clock.wall());
                }
                Err(error)
            }
        }
    }

    /// Shows answers that were held before: in files that have shown one, as far as they show another.
    pub(super) fn show_again(&self, held: Vec<(SecretRequest, Held)>) {
        let files = self.live.files();
        let fetched = |request: &SecretRequest| {
            self.live.files_of(request).into_iter().any(|file| files.is_fetched(file))
        };
        self.show(held.into_iter().filter(|(request, _)| fetched(request)).collect());
    }

    /// Renders answers into all files that show them: one generation for all of them.
    pub(super) fn show(&self, answers: Vec<(SecretRequest, Held)>) {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let files = self.live.files();
        let mut contents: Vec<(usize, Rendered, Provenance)> = Vec::new();
        for (request, held) in answers {
            let asked = wall.checked_sub(now.saturating_since(held.asked)).unwrap_or(wall);
            for at in self.live.files_of(&request) {
                let Some(file) = files.spec().files.get(at) else {
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
                        files.fail_to_render(at, reason, wall);
                    }
                }
            }
        }
        if contents.is_empty() {
            return;
        }
        match files.install(contents, now, wall) {
            Installed::First | Installed::Same => {}
            Installed::Switched { generation } => {
                self.metrics.switched();
                tracing::info!(volume = self.live.id, pod = %self.live.pod.uid, generation, "files changed");
                let (live, errands) = (Arc::clone(&self.live), Arc::clone(&self.errands));
                drop(tokio::spawn(rotation::rotate(live, errands, self.metrics.clone())));
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
        | FetchError::Superseded
        | FetchError::Ended => FsError::Unavailable,
    }
}

/// Renders every file before the pod starts; what cannot be had stops the pod.
pub(super) async fn fetch_all(live: &Live, source: &Arc<VolumeSource>) -> Result<(), PublishError> {
    let mut flights = tokio::task::JoinSet::new();
    for file in 0..live.files().spec().files.len() {
        let source = Arc::clone(source);
        flights.spawn(async move { source.bring(file, FETCH_BUDGET).await });
    }
    let mut failures: Vec<(bool, String)> = Vec::new();
    while let Some(outcome) = flights.join_next().await {
        if let Ok(Err(error)) = outcome {
            let said = explain::innermost(&error);
            failures.push((
                explain::definite_no(said) || explain::refused(said),
                explain::read(&live.session, &error),
            ));
        }
    }
    failures.extend(live.files().unrendered().into_iter().map(|reason| (true, reason)));
    failures.sort();
    failures.dedup();
    if failures.is_empty() {
        return Ok(());
    }
    let definite = failures.iter().any(|(definite, _)| *definite);
    let text = failures.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; ");
    Err(if definite { PublishError::Refused(text) } else { PublishError::NotYet(text) })
}
