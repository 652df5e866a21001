//! [`Readiness`]: whether the driver can do its work, and if not, every reason by name.
//!
//! A [`Latch`] is a step of the start: it is a reason until it is dropped and cannot come back. A
//! [`Condition`] can turn bad again, with a reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Names of what is not as it should be, with the reason.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

/// A step of the start that is still to come; dropping it is taking it.
pub struct Latch {
    readiness: Readiness,
    name: &'static str,
}

/// Something that must stay true.
#[derive(Clone)]
pub struct Condition {
    readiness: Readiness,
    name: &'static str,
}

impl Readiness {
    /// Ready: nothing speaks against it.
    pub fn new() -> Self {
        Self::default()
    }

    /// A step to come.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.reasons().insert(name, "not started yet".to_owned());
        Latch { readiness: self.clone(), name }
    }

    /// Something that is not true yet, because of `reason`.
    pub fn condition(&self, name: &'static str, reason: &str) -> Condition {
        self.reasons().insert(name, reason.to_owned());
        Condition { readiness: self.clone(), name }
    }

    /// # Errors
    /// Every reason that speaks against being ready, as `name: reason`.
    pub fn check(&self) -> Result<(), Vec<String>> {
        self.check_but("")
    }

    /// As [`Self::check`], leaving the reason called `name` out.
    ///
    /// # Errors
    /// The other reasons.
    pub fn check_but(&self, name: &str) -> Result<(), Vec<String>> {
        let reasons: Vec<String> = self
            .reasons()
            .iter()
            .filter(|(had, _)| **had != name)
            .map(|(name, reason)| format!("{name}: {reason}"))
            .collect();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn reasons(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Latch {
    fn drop(&mut self) {
        self.readiness.reasons().remove(self.name);
    }
}

impl Condition {
    /// It is true.
    pub fn ok(&self) {
        self.readiness.reasons().remove(self.name);
    }

    /// It is not, because of `reason`.
    pub fn failing(&self, reason: &str) {
        self.readiness.reasons().insert(self.name, reason.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_reasons_are_told_until_the_last_is_gone() {
        let readiness = Readiness::new();
        assert_eq!(readiness.check(), Ok(()));
        let latch = readiness.latch("CSI socket");
        let kubelet = readiness.condition("registration", "not asked");
        assert_eq!(
            readiness.check(),
            Err(vec!["CSI socket: not started yet".into(), "registration: not asked".into()])
        );
        drop(latch);
        assert_eq!(readiness.check_but("registration"), Ok(()));
        kubelet.ok();
        assert_eq!(readiness.check(), Ok(()));
        kubelet.failing("gone");
        assert_eq!(readiness.check(), Err(vec!["registration: gone".into()]));
    }
}
