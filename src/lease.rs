//! Sessions and leases: what the pods of this node hold of Vault, and until when.
//!
//! See [`Leases`] first. Decisions are made by pure state machines, `(state, event, now) -> effects`,
//! in `session`, `held` and `ledger`; `worker` performs the effects through the port
//! `secret::store::SecretStore` and feeds the outcomes back. Nobody else calls Vault.
//!
//! ```text
//! session:  Absent -login-> Live -2/3-> (renew) Live ... -cap, 403, not renewable-> Live, final -> login anew
//! secret:   Absent -fetch-> Held -2/3 of lease, refresh-> Held (same | changed: a Change is sent)
//! ```

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::identity::session::SessionKey;
use crate::identity::token::ServiceAccountToken;
use crate::secret::request::SecretRequest;
use crate::secret::response::SecretResponse;
use crate::secret::store::StoreError;

/// What a volume is told about the secrets it fetched.
pub enum Change {
    /// Vault has a newer answer than the one the volume shows.
    Newer {
        /// What was asked.
        request: SecretRequest,
        /// The newer answer, and the moment its request was sent.
        held: Held,
    },
    /// The answer has ended (lease over and Vault away); what is shown must no longer be served.
    Ended {
        /// What was asked.
        request: SecretRequest,
        /// Why no newer one could be had.
        why: FetchError,
    },
}

/// An answer and its true end.
#[derive(Clone)]
pub struct Held {
    /// Vault's answer.
    pub response: Arc<SecretResponse>,
    /// When it was asked for.
    pub asked: Moment,
    /// When it ends: the earlier of its lease's and its session's end; `None` for what has no lease.
    pub ends: Option<Moment>,
}

/// Why a secret is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The login was refused.
    #[error("login: {error}")]
    Login {
        /// Vault's word.
        error: StoreError,
    },
    /// The login succeeded, the secret was refused.
    #[error("{path}: {error}")]
    Read {
        /// The path in Vault.
        path: String,
        /// Vault's word.
        error: StoreError,
    },
    /// Kubelet has sent no token of this audience (yet), or the one it sent has expired.
    #[error("no valid service-account token for audience {audience:?}")]
    NoToken {
        /// The audience that was asked for.
        audience: String,
    },
    /// The driver's configuration no longer has this connection.
    #[error("no connection named {connection:?} in the driver's configuration")]
    NoConnection {
        /// Its name.
        connection: String,
    },
    /// The deadline passed; what was tried last is inside.
    #[error("not fetched in time{}", .last.as_ref().map(|error| format!("; last: {error}")).unwrap_or_default())]
    Deadline {
        /// What Vault or the way to it said last.
        last: Option<Box<FetchError>>,
    },
    /// The volume has ended.
    #[error("the volume has ended")]
    Ended,
}
