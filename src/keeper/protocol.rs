//! What is said between a client and the keeper: one message, one datagram. Pure; proto/keeper.md is its document.
//!
//! See [`Request`] and [`Answer`]. Version 1 is frozen: fields may be appended in later versions (what follows
//! the known fields is ignored), kinds may be added (an unknown one is refused, not fatal), nothing changes.

mod answer;
mod request;
#[cfg(test)]
mod tests;
mod wire;

pub use answer::Answer;
pub use request::Request;

/// The version that this program speaks best.
pub const VERSION: u8 = 1;
/// The lowest that it still speaks: two before the best.
pub const LOWEST: u8 = if VERSION > 2 { VERSION - 2 } else { 1 };
/// The longest message.
pub const MESSAGE: usize = 64 * 1024;
/// The most file descriptors in one message.
pub const FDS: usize = 250;
/// The longest name of an entry, in bytes.
pub const NAME: usize = 255;
/// How many bytes of names one answer to LIST holds at most.
pub const NAMES: usize = 60 * 1024;

/// What every message begins with, after the two letters `KH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The version that was agreed on; not looked at in HELLO and in its answer.
    pub version: u8,
    /// Counted by the client; 0 for what the keeper says unasked.
    pub request: u32,
}

/// Why a message cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// It has a head, but its kind or one of its choices is of a later version.
    #[error("of a later version")]
    Unknown(Header),
    /// It is no message.
    #[error("no message")]
    Malformed,
}

/// The message would not fit into a datagram, or a name is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too long for a message")]
pub struct TooLong;

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Driver,
    /// May list and get.
    Responder,
    /// May list and count.
    Watcher,
}

/// How a driver claims the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The holder shall leave for me.
    Succeed,
    /// When nobody holds it.
    Wait,
    /// I hold it, and the keeper was restarted.
    Resume,
}

/// A claim to the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// How.
    pub how: How,
    /// The highest epoch that I know of; for a resume the one that I hold. The granted one is higher.
    pub epoch: u64,
    /// I know that no other driver is alive: do not wait for one that resumes.
    pub alone: bool,
}

/// Counts, for whoever watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries in the store.
    pub entries: u32,
    /// File descriptors in them.
    pub fds: u32,
    /// Bytes in them.
    pub bytes: u64,
    /// The number on the epoch page.
    pub epoch: u64,
    /// The process that holds the epoch; 0 for nobody.
    pub holder: u32,
}

/// Why the keeper refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not know this kind of message, or this choice in it.
    Unsupported,
    /// It could not read the message; the connection is over.
    Malformed,
    /// The epoch in the message is not the current one.
    Stale,
    /// Another holds the epoch.
    Held,
    /// No such entry, or no such file descriptor in it.
    Absent,
    /// The rotator that is meant runs no more.
    Gone,
    /// There is no room.
    Full,
    /// Not in this role.
    Forbidden,
    /// No version in common: the answer says which ones the keeper speaks.
    Version {
        /// The lowest.
        lowest: u8,
        /// The highest.
        highest: u8,
    },
    /// The keeper's machine did not do it.
    Failed,
    /// A reason of a later version.
    Other(u8),
}

impl Why {
    /// Its number, and the range of versions that goes with every refusal.
    const fn code(self) -> (u8, u8, u8) {
        let code = match self {
            Self::Unsupported => 1,
            Self::Malformed => 2,
            Self::Stale => 3,
            Self::Held => 4,
            Self::Absent => 5,
            Self::Gone => 6,
            Self::Full => 7,
            Self::Forbidden => 8,
            Self::Version { lowest, highest } => return (9, lowest, highest),
            Self::Failed => 10,
            Self::Other(code) => code,
        };
        (code, LOWEST, VERSION)
    }

    const fn of(code: u8, lowest: u8, highest: u8) -> Self {
        match code {
            1 => Self::Unsupported,
            2 => Self::Malformed,
            3 => Self::Stale,
            4 => Self::Held,
            5 => Self::Absent,
            6 => Self::Gone,
            7 => Self::Full,
            8 => Self::Forbidden,
            9 => Self::Version { lowest, highest },
            10 => Self::Failed,
            other => Self::Other(other),
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unsupported => f.write_str("it does not know this message"),
            Self::Malformed => f.write_str("it cannot read this message"),
            Self::Stale => f.write_str("the epoch is over"),
            Self::Held => f.write_str("another driver holds the epoch"),
            Self::Absent => f.write_str("no such entry"),
            Self::Gone => f.write_str("this rotator runs no more"),
            Self::Full => f.write_str("no room"),
            Self::Forbidden => f.write_str("not in this role"),
            Self::Version { lowest, highest } => {
                write!(f, "it speaks the versions {lowest} to {highest}")
            }
            Self::Failed => f.write_str("its machine did not do it"),
            Self::Other(code) => write!(f, "reason {code}"),
        }
    }
}

/// The highest version that both ranges hold.
pub fn common(lowest: u8, highest: u8) -> Option<u8> {
    let best = highest.min(VERSION);
    (best >= lowest.max(LOWEST)).then_some(best)
}
