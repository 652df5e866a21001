//! Sessions and leases: what the pods of this node hold of Vault, and until when.
//!
//! See [`leases::Leases`] first. Decisions are made by pure code that is given the time: `session` and
//! `secret` (what is due, and what an outcome means), `policy` (again, or not). `fetch` and `worker`
//! perform what they decide through the port `secret::store::SecretStore`. Nobody else calls Vault.
//!
//! ```text
//! session:  none -login-> live -2/3-> renewed ... -cap, not renewable, 403-> final -2/3-> login anew
//! secret:   none -read-> held -2/3 of lease-> renewed ... -cap, gone-> read anew -> Change::Newer
//!                          |                                  \-- still failing at its end -> Change::Ended
//!                          \-refresh (no lease)-> read anew -> Change::Newer when it differs
//! ```

mod fetch;
mod flight;
mod holding;
mod keep;
pub mod leases;
mod login;
mod policy;
mod revocation;
mod secret;
mod session;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::secret::request::SecretRequest;
use crate::secret::response::SecretResponse;
use crate::secret::store::StoreError;

/// Port: hears what is asked of Vault and what is held.
pub trait Observe: Send + Sync + 'static {
    /// One request: its kind (`login`, `read`, …), what came of it, how long it took.
    fn vault_request(
        &self,
        connection: &str,
        kind: &'static str,
        outcome: &'static str,
        took: Duration,
    );
    /// One renewal of a `session` or a `lease`.
    fn renewal(&self, kind: &'static str, ok: bool);
    /// One try to revoke a session.
    fn revocation(&self, ok: bool);
    /// How much is held now.
    fn held(&self, sessions: usize, leases: usize, revocations_waiting: usize);
}

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
    #[error("{}", .last.as_ref().map_or("Vault did not answer in time".to_owned(), |error| format!("not fetched in time; last: {error}")))]
    Deadline {
        /// What Vault or the way to it said last.
        last: Option<Box<FetchError>>,
    },
    /// Another driver has taken over: this one asks nothing any more.
    #[error("another driver of this node has taken over")]
    Superseded,
    /// The volume has ended.
    #[error("the volume has ended")]
    Ended,
}

impl FetchError {
    /// What the way to Vault or Vault itself said, if it was asked.
    fn vault(&self) -> Option<&StoreError> {
        match self {
            Self::Login { error } | Self::Read { error, .. } => Some(error),
            Self::NoToken { .. }
            | Self::NoConnection { .. }
            | Self::Deadline { .. }
            | Self::Superseded
            | Self::Ended => None,
        }
    }
}
