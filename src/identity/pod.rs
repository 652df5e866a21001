//! [`PodRef`]: the pod a volume belongs to, as kubelet names it (`podInfoOnMount`).

use serde::{Deserialize, Serialize};

/// The pod of a volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PodRef {
    /// `csi.storage.k8s.io/pod.uid`.
    pub uid: PodUid,
    /// `csi.storage.k8s.io/pod.name`.
    pub name: String,
    /// `csi.storage.k8s.io/pod.namespace`.
    pub namespace: String,
    /// `csi.storage.k8s.io/serviceAccount.name`.
    pub service_account: String,
}

/// A pod's UID, in lower case with dashes, as the API server writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodUid(String);

impl PodUid {
    /// Takes a UID as kubelet (dashes) or a cgroup of systemd's (underscores) writes it.
    pub fn new(uid: &str) -> Self {
        Self(uid.to_ascii_lowercase().replace('_', "-"))
    }

    /// With dashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for PodUid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}
