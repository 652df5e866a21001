//! [`ServiceAccountToken`]: the pod's own token, as kubelet passes it (`tokenRequests`).

use std::time::SystemTime;

use crate::redact::SecretText;

/// A service-account token of one audience.
#[derive(Clone)]
pub struct ServiceAccountToken {
    /// The JWT.
    pub jwt: SecretText,
    /// `expirationTimestamp` that kubelet gave with it.
    pub expires: SystemTime,
}
