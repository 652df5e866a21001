//! The keeper: a small store of (name, file descriptors, bytes) that lets mounts outlive the driver.
//!
//! See [`protocol`] first (proto/keeper.md is its document), then `baton`, which says who may act, and
//! [`serve`], the loop. [`client`] is the driver's side. The keeper knows no Vault, no pod and no file; it has
//! no runtime, no network and no capability, and it never waits for anybody but its own poll(2).

use std::io;

pub use children::control;
pub use protocol::Why;

mod baton;
mod children;
pub mod client;
mod connection;
pub mod errand;
mod footprint;
mod page;
mod privileges;
mod process;
pub mod protocol;
mod rotation;
pub mod rotator;
pub mod serve;
mod socket;
mod store;

/// What went wrong, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// Nobody answers there, or the connection is over: connect again.
    #[error("the keeper cannot be reached")]
    Unreachable(#[source] io::Error),
    /// No answer yet: ask again, or connect again.
    #[error("the keeper did not answer in time")]
    TimedOut,
    /// The epoch is somebody else's or nobody's: stop acting at once.
    #[error("the epoch is over")]
    Stale,
    /// Another driver holds the epoch, so that it cannot be resumed: stop acting, then wait or succeed.
    #[error("another driver holds the epoch")]
    Held,
    /// The keeper said no: what to do depends on why.
    #[error("the keeper refused: {why}")]
    Refused {
        /// Its reason.
        why: Why,
    },
    /// The other side does not keep to the protocol: a mistake in one of the two.
    #[error("the keeper's protocol is broken: {what}")]
    Broken {
        /// What does not fit.
        what: &'static str,
    },
    /// This machine does not let the process start: a person has to look.
    #[error("{step}")]
    Host {
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl KeeperError {
    /// Names a step of starting.
    fn host<E: Into<io::Error>>(step: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Host { step, source: error.into() }
    }
}
