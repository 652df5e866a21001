//! A volume's life: publish, republish, unpublish as ordered, idempotent steps over ports, with undo.
//!
//! See [`lifecycle::Lifecycle`] first, then [`live::Live`], what one published volume consists of.
//! This room decides; it mounts through `fs::serve::Mounts`, asks Vault through `lease`, and never
//! waits for Vault where kubelet waits for it longer than a publish may take.
//!
//! ```text
//!            publish                        Vault's change
//! (unknown) ---------> Published --+------------------------> Published (next generation)
//!     ^                  |    ^    |
//!     |        unpublish |    +----+ republish: newer token; a dead mount is rebuilt
//!     +------------------+
//! ```

mod admission;
mod adopt;
mod changes;
mod explain;
pub mod keeping;
pub mod lifecycle;
pub mod live;
mod manifest;
pub mod publish;
pub mod rotation;
mod source;
pub mod sweep;

use crate::fs::serve::MountError;
use crate::spec::mistake::Mistake;

/// Why a volume is not published; variants by who must act. The text is what the pod's event shows.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The person who wrote the pod: attributes or request are wrong; all mistakes.
    #[error("{}", sentences(.0))]
    Invalid(Vec<Mistake>),
    /// Whoever keeps Vault: Vault's definite no, with role, service account, mount and the cure.
    #[error("{0}")]
    Refused(String),
    /// Whoever keeps the driver's configuration: it does not allow this namespace or role.
    #[error("{0}")]
    NotAllowed(String),
    /// An operator: no such connection, no token for the audience, a foreign mount at the target.
    #[error("{0}")]
    NotReady(String),
    /// Nobody: `onStart: fetch` and Vault is away; kubelet asks again.
    #[error("{0}")]
    NotYet(String),
    /// Kubelet: this id is published elsewhere.
    #[error("another volume is published under this id: {0}")]
    Conflict(String),
    /// The node: it could not be mounted.
    #[error(transparent)]
    Host(#[from] MountError),
}

/// Why a volume could not be ended; kubelet asks again.
#[derive(Debug, thiserror::Error)]
pub enum UnpublishError {
    /// The request is wrong; all mistakes.
    #[error("{}", sentences(.0))]
    Invalid(Vec<Mistake>),
    /// The node: it could not be unmounted.
    #[error(transparent)]
    Host(#[from] MountError),
}

fn sentences(mistakes: &[Mistake]) -> String {
    mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
