//! What kubelet asks of a volume, parsed by `csi` and free of wire types.
//!
//! See [`Volumes`] first: the use cases that `csi` calls. A token never sits in `attributes`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use async_trait::async_trait;

use crate::identity::pod::PodRef;
use crate::identity::token::ServiceAccountTokens;
use crate::volume::{PublishError, UnpublishError};

/// NodePublishVolume, without the wire.
pub struct PublishRequest {
    /// Kubelet's id of the volume.
    pub volume_id: String,
    /// Where to mount: `<kubelet>/pods/UID/volumes/kubernetes.io~csi/NAME/mount`.
    pub target: PathBuf,
    /// Whose volume.
    pub pod: PodRef,
    /// `volume_context` without the tokens; kubelet's own `csi.storage.k8s.io/*` keys included.
    pub attributes: BTreeMap<String, String>,
    /// The pod's tokens, by audience.
    pub tokens: ServiceAccountTokens,
    /// fsGroup of the pod (`volume_mount_group`).
    pub group: Option<u32>,
}

/// NodeUnpublishVolume, without the wire.
pub struct UnpublishRequest {
    /// Kubelet's id of the volume.
    pub volume_id: String,
    /// Where it was mounted.
    pub target: PathBuf,
}

/// The use cases. `csi` lets one call per volume id in at a time and bounds how long kubelet waits.
#[async_trait]
pub trait Volumes: Send + Sync + 'static {
    /// Publish, or republish when the volume is there already.
    async fn publish(&self, request: PublishRequest) -> Result<(), PublishError>;

    /// Unpublish; fine for a volume that nobody knows.
    async fn unpublish(&self, request: UnpublishRequest) -> Result<(), UnpublishError>;
}
