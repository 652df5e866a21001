//! [`Live`]: one published volume, whole.
//!
//! It is made by a publish that succeeded and ends with its unpublish; what it shows lives in its
//! [`Files`], what it holds of Vault in `lease` under its id.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

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
    pub files: Arc<Files>,
    /// Its mount; `None` while it is being made or rebuilt.
    pub mounted: ArcSwapOption<Box<dyn Mounted>>,
    /// Ends the task that takes up Vault's changes.
    pub ended: CancellationToken,
}

impl Live {
    /// Whether the kernel still talks to us about this volume.
    pub fn is_alive(&self) -> bool {
        self.mounted.load().as_ref().is_some_and(|mounted| mounted.is_alive())
    }

    /// Files of the spec that show `request`'s answer, by index.
    pub fn files_of(
        &self,
        request: &crate::secret::request::SecretRequest,
    ) -> impl Iterator<Item = usize> {
        let files = &self.files.spec().files;
        files.iter().enumerate().filter(move |(_, file)| file.secret == *request).map(|(at, _)| at)
    }
}
