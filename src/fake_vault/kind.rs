//! [`Kind`]: what a request is about, for counting and for faults.

use std::collections::BTreeMap;

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `auth/<mount>/login`.
    Login,
    /// A path of a secrets engine.
    Secret,
    /// `sys/internal/ui/mounts/<path>`.
    Mount,
    /// `auth/token/renew-self`.
    RenewToken,
    /// `auth/token/revoke-self`.
    RevokeToken,
    /// `sys/leases/renew`.
    RenewLease,
    /// Anything else: setting up, health, lookups.
    Other,
}

impl Kind {
    /// The kind of a path below `/v1/`.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "auth/token/renew-self" => Self::RenewToken,
            "auth/token/revoke-self" => Self::RevokeToken,
            "sys/leases/renew" => Self::RenewLease,
            _ if path.starts_with("sys/internal/ui/mounts/") => Self::Mount,
            _ if path.starts_with("auth/") && path.ends_with("/login") => Self::Login,
            _ if path.starts_with("auth/") || path.starts_with("sys/") => Self::Other,
            _ => Self::Secret,
        }
    }
}

/// How many requests have come and were answered.
#[derive(Default)]
pub(super) struct Counts {
    came: BTreeMap<Kind, u64>,
    answered: BTreeMap<Kind, u64>,
}

impl Counts {
    pub(super) fn came(&mut self, kind: Kind) {
        *self.came.entry(kind).or_default() += 1;
    }

    pub(super) fn was_answered(&mut self, kind: Kind) {
        *self.answered.entry(kind).or_default() += 1;
    }

    pub(super) fn uncount(&mut self, kind: Kind) {
        for counts in [&mut self.came, &mut self.answered] {
            if let Some(count) = counts.get_mut(&kind) {
                *count = count.saturating_sub(1);
            }
        }
    }

    pub(super) fn of(&self, kind: Kind) -> u64 {
        self.came.get(&kind).copied().unwrap_or_default()
    }

    pub(super) fn answered(&self, kind: Kind) -> u64 {
        self.answered.get(&kind).copied().unwrap_or_default()
    }
}
