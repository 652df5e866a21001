//! [`SessionKey`]: what a login is filed under. One login at a time for each.

use serde::{Deserialize, Serialize};

use crate::identity::pod::PodRef;

/// How the pod's token is traded for a Vault token.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
    /// Vault asks the cluster's API server (TokenReview).
    #[default]
    Kubernetes,
    /// Vault checks the signature itself.
    Jwt,
}

impl AuthMethod {
    /// As written in attributes, and the default path of its mount below `auth/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Jwt => "jwt",
        }
    }
}

/// Everything that makes two logins the same one. The pod comes first: no cache is shared by two.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionKey {
    /// Whose session.
    pub pod: PodRef,
    /// Name of the connection in the driver's configuration.
    pub connection: String,
    /// Vault namespace (`X-Vault-Namespace`); empty for none.
    pub namespace: String,
    /// kubernetes or jwt.
    pub auth_method: AuthMethod,
    /// Where the auth method is mounted, below `auth/`.
    pub auth_path: String,
    /// Vault role.
    pub role: String,
    /// Audience of the service-account token.
    pub audience: String,
}
