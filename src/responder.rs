//! `keyhole responder`: answers for volumes whose driver stays away, so that nothing hangs: kubelet's stats least of
//! all. The keeper starts it after its `--orphan-grace`, and kills it before a driver may act.
//!
//! See [`respond`] first. It knows the manifests' names and the devices, nothing else; it has no secret and maps none.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::fuse::stopgap::{self, Orphan};
use crate::host::segment::Segment;
use crate::keeper::KeeperError;
use crate::keeper::client::{Connection, Role};
use crate::kept::manifest;
use crate::kept::region::Region as _;

/// How long the keeper may take for an answer.
const ANSWER: Duration = Duration::from_secs(5);

/// All that is read of a manifest's body.
#[derive(serde::Deserialize)]
struct Names {
    #[serde(default)]
    names: Vec<String>,
}

/// Answers until it is killed, or every volume has ended.
///
/// # Errors
/// The keeper does not answer.
pub fn respond(control: OwnedFd) -> Result<(), KeeperError> {
    let (mut keeper, _) = Connection::over(control, Role::Responder, ANSWER)?;
    let mut orphans = Vec::new();
    for name in keeper.list_all()? {
        if !name.starts_with("volume/") {
            continue;
        }
        let Some(entry) = keeper.get(&name)? else { continue };
        let mut parts = entry.fds.into_iter();
        let (device, manifest) = (parts.next(), parts.next());
        let names = manifest.and_then(names).unwrap_or_default();
        orphans.extend(device.map(|device| Orphan { device, names }));
    }
    stopgap::serve(orphans).map_err(KeeperError::Unreachable)
}

fn names(manifest: OwnedFd) -> Option<Vec<String>> {
    let manifest = Segment::map(manifest).ok()?;
    let found = manifest::read(manifest.bytes()).ok()?;
    serde_json::from_slice::<Names>(&found.body).ok().map(|body| body.names)
}
