//! [`Live`]: one published volume, whole.
//!
//! It is made by a publish that succeeded, or gone on with after another driver, and ends with its unpublish; what
//! it shows lives in its [`Files`], what it holds of Vault in `lease` under its id.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio_util::sync::CancellationToken;

use crate::clock::Moment;
use crate::fs::files::Files;
use crate::fs::serve::Mounted;
use crate::identity::pod::PodRef;
use crate::identity::session::SessionKey;

/// One published volume.
pub struct Live {
    /// Kubelet's id.
    pub id: String,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Whose it is.
    pub pod: PodRef,
    /// What its login is filed under.
    pub session: Arc<SessionKey>,
    /// What it shows.
    shown: ArcSwap<Files>,
    /// Its mount; `None` while it is being made or rebuilt.
    pub mounted: ArcSwapOption<Box<dyn Mounted>>,
    /// Ends the task that takes up Vault's changes.
    pub ended: CancellationToken,
    /// One at a time moves `..data`.
    pub rotating: tokio::sync::Mutex<()>,
    /// When kubelet last published it.
    seen: Mutex<Moment>,
}

/// The name that a volume is kept under.
pub fn kept_as(id: &str) -> String {
    format!("volume/{id}")
}

impl Live {
    /// Not mounted yet.
    pub fn new(
        (id, target): (String, PathBuf),
        pod: PodRef,
        session: Arc<SessionKey>,
        files: Arc<Files>,
        now: Moment,
    ) -> Self {
        Self {
            id,
            target,
            pod,
            session,
            shown: ArcSwap::new(files),
            mounted: ArcSwapOption::empty(),
            ended: CancellationToken::new(),
            rotating: tokio::sync::Mutex::default(),
            seen: Mutex::new(now),
        }
    }

    /// What it shows now.
    pub fn files(&self) -> Arc<Files> {
        self.shown.load_full()
    }

    /// Shows something else from now on.
    pub fn show(&self, files: Arc<Files>) {
        self.shown.store(files);
    }

    /// The name that it is kept under.
    pub fn kept_as(&self) -> String {
        kept_as(&self.id)
    }

    /// Whether the kernel still talks to us about this volume.
    pub fn is_alive(&self) -> bool {
        self.mounted.load().as_ref().is_some_and(|mounted| mounted.is_alive())
    }

    /// Kubelet has published it.
    pub fn see(&self, now: Moment) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// When kubelet last published it.
    pub fn seen(&self) -> Moment {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Files of the spec that show `request`'s answer, by index.
    pub fn files_of(&self, request: &crate::secret::request::SecretRequest) -> Vec<usize> {
        let files = self.files();
        let shows = files.spec().files.iter().enumerate();
        shows.filter(|(_, file)| file.secret == *request).map(|(at, _)| at).collect()
    }
}
