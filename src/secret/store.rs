//! The port to Vault: [`SecretStore`], and [`StoreError`], whose variants say what to do next.
//!
//! A call says what Vault was asked and what came back; it keeps nothing, never repeats a request
//! that Vault may have acted on, and ends within the connection's timeouts. Who repeats, and when,
//! is `lease`'s business.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::identity::session::SessionKey;
use crate::identity::token::ServiceAccountToken;
use crate::redact::SecretText;
use crate::secret::request::SecretRequest;
use crate::secret::response::SecretResponse;

/// A Vault token, made by a login.
#[derive(Clone)]
pub struct Session {
    /// The token itself.
    pub token: SecretText,
    /// What Vault promised about it.
    pub terms: LeaseTerms,
}

/// What Vault promised about a lease or a token, as it wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseTerms {
    /// `lease_id`; empty for what has no lease (KV) and for tokens.
    pub id: String,
    /// `lease_duration`, from the moment the request was sent.
    pub duration: Duration,
    /// Whether Vault lets it be renewed.
    pub renewable: bool,
}

/// The engine that serves a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where the engine is mounted, with a trailing `/`: `secret/`.
    pub path: String,
    /// KV version 2: paths need `data/` after the mount, responses wrap `data` once more.
    pub kv2: bool,
}

/// Port: one connection to Vault (an address with its trust and its timeouts).
#[async_trait]
pub trait SecretStore: Send + Sync + 'static {
    /// Trades the pod's service-account token for a Vault token (`auth/<path>/login`).
    async fn login(
        &self,
        who: &SessionKey,
        token: &ServiceAccountToken,
    ) -> Result<Session, StoreError>;

    /// Which engine serves `path` (`sys/internal/ui/mounts/<path>`). When Vault says that the token
    /// may not know (403), the answer is a mount that is not KV 2, as in Vault Agent.
    async fn mount_of(
        &self,
        who: &SessionKey,
        token: &SecretText,
        path: &str,
    ) -> Result<Mount, StoreError>;

    /// Asks for a secret; `mount` says whether `data/` belongs into the path.
    async fn read(
        &self,
        who: &SessionKey,
        token: &SecretText,
        mount: &Mount,
        request: &SecretRequest,
    ) -> Result<SecretResponse, StoreError>;

    /// Renews the session's own token by `increment` (`auth/token/renew-self`).
    async fn renew_session(
        &self,
        who: &SessionKey,
        token: &SecretText,
        increment: Duration,
    ) -> Result<LeaseTerms, StoreError>;

    /// Renews a lease by `increment` (`sys/leases/renew`).
    async fn renew_lease(
        &self,
        who: &SessionKey,
        token: &SecretText,
        lease_id: &str,
        increment: Duration,
    ) -> Result<LeaseTerms, StoreError>;

    /// Ends the session and, with it, every lease it made (`auth/token/revoke-self`).
    async fn revoke_session(&self, who: &SessionKey, token: &SecretText) -> Result<(), StoreError>;
}

/// Port: the connections of the driver's configuration, by name; they change when it does.
pub trait Stores: Send + Sync + 'static {
    /// The store of `connection` as configured now.
    fn store(&self, connection: &str) -> Option<std::sync::Arc<dyn SecretStore>>;
}

/// What Vault or the way to it said instead of an answer. `said` is Vault's own `errors` text, or
/// the transport's: cleaned of control characters, cut to 300 characters, never a secret's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// 400: asking the same again is pointless (an unknown role, a lease that is gone).
    #[error("Vault refused the request as malformed (400): {said}")]
    BadRequest {
        /// Vault's text.
        said: String,
    },
    /// 403: a policy, or a token that is dead; or, at login, any failure of TokenReview.
    #[error("Vault said permission denied (403): {said}")]
    Denied {
        /// Vault's text.
        said: String,
    },
    /// 404: nothing at this path, a deleted version, an auth method that is not enabled.
    #[error("Vault has nothing there (404): {said}")]
    Missing {
        /// Vault's text.
        said: String,
    },
    /// 412: this Vault node has not yet seen the state the token needs. Ask again in a moment.
    #[error("this Vault node lags behind (412): {said}")]
    Lagging {
        /// Vault's text.
        said: String,
    },
    /// 429: too many requests. Ask again after the wait.
    #[error("Vault asks to slow down (429): {said}")]
    Throttled {
        /// `Retry-After`, when Vault gave one.
        retry_after: Option<Duration>,
        /// Vault's text.
        said: String,
    },
    /// 503 with Vault's own "sealed" text. Ask again once an operator has unsealed it.
    #[error("Vault is sealed (503): {said}")]
    Sealed {
        /// Vault's text.
        said: String,
    },
    /// Any other 5xx, from Vault or a balancer before it. Ask again later.
    #[error("Vault failed ({status}): {said}")]
    Failed {
        /// HTTP status.
        status: u16,
        /// Vault's text, or the start of a balancer's page.
        said: String,
    },
    /// No connection: refused, reset, no route, name not found. Ask again later.
    #[error("Vault cannot be reached: {said}")]
    Unreachable {
        /// The transport's text.
        said: String,
    },
    /// The connection ended before the whole answer had come. A write may have been acted on.
    #[error("the connection to Vault broke: {said}")]
    Broken {
        /// The transport's text.
        said: String,
    },
    /// No answer within the connection's timeout. A write may have been acted on.
    #[error("Vault did not answer within {after:?}")]
    Timeout {
        /// How long we waited.
        after: Duration,
    },
    /// The certificate is not trusted, the name does not match, Vault wants a client certificate.
    #[error("no trusted TLS connection to Vault: {said}")]
    Tls {
        /// rustls' text.
        said: String,
    },
    /// A success whose body is not what Vault's API promises (a proxy's page, a truncated body).
    #[error("Vault's answer cannot be read: {said}")]
    Malformed {
        /// What is wrong with it; never the body.
        said: String,
    },
    /// A body over the limit of 1 MiB.
    #[error("Vault's answer is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
}

impl StoreError {
    /// Whether asking the same again later can succeed without anybody changing anything in Vault.
    pub fn passes(&self) -> bool {
        match self {
            Self::Lagging { .. }
            | Self::Throttled { .. }
            | Self::Sealed { .. }
            | Self::Failed { .. }
            | Self::Unreachable { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. } => true,
            Self::BadRequest { .. }
            | Self::Denied { .. }
            | Self::Missing { .. }
            | Self::Tls { .. }
            | Self::Malformed { .. }
            | Self::TooLarge { .. } => false,
        }
    }

    /// One word for it, for labels of metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::BadRequest { .. } => "bad_request",
            Self::Denied { .. } => "denied",
            Self::Missing { .. } => "missing",
            Self::Lagging { .. } => "lagging",
            Self::Throttled { .. } => "throttled",
            Self::Sealed { .. } => "sealed",
            Self::Failed { .. } => "failed",
            Self::Unreachable { .. } => "unreachable",
            Self::Broken { .. } => "broken",
            Self::Timeout { .. } => "timeout",
            Self::Tls { .. } => "tls",
            Self::Malformed { .. } => "malformed",
            Self::TooLarge { .. } => "too_large",
        }
    }
}
