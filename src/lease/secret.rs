//! [`Secret`]: one answer that is held, when to act on it, and what an outcome means. Pure.
//!
//! ```text
//! leased, renewable:      renew at 2/3; the grant shrinks or the lease is gone -> read anew
//! leased, not renewable:  read anew at 0.9
//! no lease:               read anew after `refresh`, if there is one
//! its session is final:   read anew under the successor
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::lease::flight::Flight;
use crate::lease::{FetchError, Held, policy};
use crate::secret::response::SecretResponse;
use crate::secret::store::{LeaseTerms, StoreError};

/// For how long a failure is the answer to whoever asks again.
const REMEMBERED: Duration = Duration::from_secs(1);

/// What one holder knows about one secret.
#[derive(Default)]
pub(super) struct Secret {
    pub(super) have: Option<Have>,
    failed: Option<(Moment, FetchError)>,
    /// What reading it anew failed with last.
    pub(super) last_error: Option<FetchError>,
    /// A request that is under way, and its readers.
    pub(super) flight: Option<Flight<Result<Held, FetchError>>>,
    /// The shortest refresh that a file asked for.
    pub(super) refresh: Option<Duration>,
    /// The volumes that show it.
    pub(super) shown_by: BTreeSet<String>,
}

/// An answer that is held.
pub(super) struct Have {
    pub(super) response: Arc<SecretResponse>,
    /// Number of the session that it was read under.
    pub(super) session: u64,
    first_asked: Moment,
    asked: Moment,
    term: Duration,
    renewable: bool,
    anew: bool,
    failures: u32,
    rests_until: Option<Moment>,
}

/// What is written down of one, beside the answer itself.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptTerms {
    first_asked: Moment,
    asked: Moment,
    term: Duration,
    renewable: bool,
    anew: bool,
}

/// What is due on a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Renew its lease.
    Renew,
    /// Read it anew.
    Read,
    /// It has ended.
    End,
}

impl Have {
    pub(super) fn new(response: Arc<SecretResponse>, session: u64, asked: Moment) -> Self {
        let (term, renewable) = (response.terms.duration, response.terms.renewable);
        Self {
            response,
            session,
            first_asked: asked,
            asked,
            term,
            renewable,
            anew: false,
            failures: 0,
            rests_until: None,
        }
    }

    pub(super) fn keep(&self) -> KeptTerms {
        let Self { first_asked, asked, term, renewable, anew, .. } = *self;
        KeptTerms { first_asked, asked, term, renewable, anew }
    }

    pub(super) fn restore(response: Arc<SecretResponse>, session: u64, kept: &KeptTerms) -> Self {
        let KeptTerms { first_asked, asked, term, renewable, anew } = *kept;
        let (failures, rests_until) = (0, None);
        Self { response, session, first_asked, asked, term, renewable, anew, failures, rests_until }
    }

    pub(super) fn leased(&self) -> bool {
        !self.response.terms.id.is_empty()
    }

    /// The end of its lease, or of the session that it hangs on if that is earlier.
    pub(super) fn ends(&self, session_ends: Option<Moment>) -> Option<Moment> {
        if !self.leased() {
            return None;
        }
        let own = (!self.term.is_zero()).then(|| self.asked + self.term);
        [own, session_ends].into_iter().flatten().min()
    }

    pub(super) fn held(&self, session_ends: Option<Moment>) -> Held {
        Held {
            response: Arc::clone(&self.response),
            asked: self.first_asked,
            ends: self.ends(session_ends),
        }
    }

    /// What is due next, and when. `current` is the number of the session in use.
    pub(super) fn next(
        &self,
        refresh: Option<Duration>,
        session_ends: Option<Moment>,
        current: Option<u64>,
    ) -> Option<(Moment, Due)> {
        let rested = |planned: Moment| self.rests_until.map_or(planned, |until| until.max(planned));
        if !self.leased() {
            return refresh.map(|every| (rested(self.asked + every), Due::Read));
        }
        let moved = current.is_some_and(|current| current != self.session);
        let work = if self.anew || moved {
            Some((rested(self.asked), Due::Read))
        } else if self.term.is_zero() {
            None
        } else if self.renewable {
            Some((rested(self.asked + self.term * 2 / 3), Due::Renew))
        } else {
            Some((rested(self.asked + self.term * 9 / 10), Due::Read))
        };
        let end = self.ends(session_ends).map(|ends| (ends, Due::End));
        // At the end itself the end comes first.
        [end, work].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Its lease was renewed.
    pub(super) fn renewed(&mut self, asked: Moment, terms: &LeaseTerms) {
        let wanted = self.response.terms.duration;
        self.anew = terms.duration.saturating_mul(10) < wanted.saturating_mul(9);
        (self.asked, self.term, self.renewable) = (asked, terms.duration, terms.renewable);
        (self.failures, self.rests_until) = (0, None);
    }

    /// A renewal, or reading it anew, failed. What is held stays until its end.
    pub(super) fn failed(&mut self, due: Due, error: Option<&StoreError>, now: Moment) {
        self.failures += 1;
        let gone = due == Due::Renew && error.is_some_and(|error| !error.passes());
        if gone {
            self.anew = true;
            self.rests_until = None;
        } else {
            self.rests_until = Some(now + policy::rest(self.failures));
        }
    }

    /// It was read again and is the same: only its time is new.
    pub(super) fn same_again(&mut self, asked: Moment) {
        (self.first_asked, self.asked, self.failures, self.rests_until) = (asked, asked, 0, None);
    }
}

impl Secret {
    /// The failure of a moment ago, which answers whoever asks again so soon.
    pub(super) fn remembered(&self, now: Moment) -> Option<FetchError> {
        let (at, error) = self.failed.as_ref()?;
        (now.saturating_since(*at) < REMEMBERED).then(|| error.clone())
    }

    pub(super) fn remember(&mut self, error: Option<FetchError>, now: Moment) {
        self.failed = error.map(|error| (now, error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::SecretBytes;

    fn at(seconds: u64) -> Moment {
        Moment::since_boot(Duration::from_secs(seconds))
    }

    fn have(lease: &str, seconds: u64, renewable: bool) -> Have {
        let body = format!(
            r#"{{"lease_id":"{lease}","lease_duration":{seconds},"renewable":{renewable},"data":{{}}}}"#
        );
        let response = SecretResponse::parse(SecretBytes::new(body.into()), false).ok().unwrap();
        Have::new(Arc::new(response), 1, at(1000))
    }

    fn terms(seconds: u64) -> LeaseTerms {
        LeaseTerms { id: "l".into(), duration: Duration::from_secs(seconds), renewable: true }
    }

    #[test]
    fn a_lease_is_renewed_at_two_thirds_and_read_anew_when_the_grant_shrinks() {
        let mut have = have("l", 90, true);
        assert_eq!(have.next(None, None, Some(1)), Some((at(1060), Due::Renew)));
        have.renewed(at(1060), &terms(90));
        assert_eq!(have.next(None, None, Some(1)), Some((at(1120), Due::Renew)));
        have.renewed(at(1120), &terms(30));
        assert_eq!(have.next(None, None, Some(1)), Some((at(1120), Due::Read)));
        assert_eq!(have.ends(None), Some(at(1150)));
    }

    #[test]
    fn what_has_no_lease_is_read_again_only_when_asked_for() {
        let have = have("", 2_764_800, false);
        assert_eq!(have.next(None, Some(at(1001)), Some(2)), None);
        let every = Some(Duration::from_secs(60));
        assert_eq!(have.next(every, None, Some(1)), Some((at(1060), Due::Read)));
        assert_eq!(have.ends(Some(at(1001))), None, "it outlives its session");
    }

    #[test]
    fn the_true_end_is_the_earlier_of_lease_and_session() {
        let have = have("l", 90, false);
        assert_eq!(have.ends(Some(at(1030))), Some(at(1030)));
        assert_eq!(have.next(None, Some(at(1030)), Some(1)), Some((at(1030), Due::End)));
        assert_eq!(have.next(None, None, Some(1)), Some((at(1081), Due::Read)));
        assert_eq!(
            have.next(None, None, Some(2)),
            Some((at(1000), Due::Read)),
            "a successor is here"
        );
    }

    #[test]
    fn a_lease_that_is_gone_is_read_anew_at_once_and_an_outage_rests() {
        let mut have = have("l", 90, true);
        have.failed(Due::Renew, Some(&StoreError::Sealed { said: String::new() }), at(1060));
        assert_eq!(have.next(None, None, Some(1)), Some((at(1061), Due::Renew)));
        have.failed(Due::Renew, Some(&StoreError::BadRequest { said: String::new() }), at(1061));
        assert_eq!(have.next(None, None, Some(1)), Some((at(1000), Due::Read)));
        have.failed(Due::Read, Some(&StoreError::Denied { said: String::new() }), at(1062));
        assert_eq!(have.next(None, None, Some(1)), Some((at(1066), Due::Read)), "kept, and rests");
    }
}
