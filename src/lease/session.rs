//! [`Live`]: a Vault token that is held, when to act on it, and what an outcome means. Pure.
//!
//! A session is renewed at 2/3 of its term. When Vault grants less than before (its cap), or it is not
//! renewable, or it is gone, it is *final*: a successor logs in at 2/3 of what is left.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::lease::policy;
use crate::redact::SecretText;
use crate::secret::store::{LeaseTerms, Session, StoreError};

/// A session that is held.
#[derive(Clone)]
pub(super) struct Live {
    /// Counts the logins of one holder.
    pub(super) number: u64,
    pub(super) session: Session,
    /// When the term that holds now was asked for.
    asked: Moment,
    term: Duration,
    last: bool,
    failures: u32,
    rests_until: Option<Moment>,
}

/// What is written down of one, beside its token.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptSession {
    terms: LeaseTerms,
    asked: Moment,
    term: Duration,
    last: bool,
    /// When it was succeeded.
    #[serde(default)]
    pub(super) retired: Option<Moment>,
}

/// What is due on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Renew it.
    Renew,
    /// Log in anew; it stays in use until that succeeds.
    Succeed,
}

/// Less than this part of the term that was asked for is a cap, more is rounding.
fn shrunk(granted: Duration, wanted: Duration) -> bool {
    granted.saturating_mul(10) < wanted.saturating_mul(9)
}

impl Live {
    pub(super) fn new(number: u64, session: Session, asked: Moment) -> Self {
        let LeaseTerms { duration: term, renewable, .. } = session.terms;
        Self { number, session, asked, term, last: !renewable, failures: 0, rests_until: None }
    }

    pub(super) fn keep(&self, retired: Option<Moment>) -> KeptSession {
        let terms = self.session.terms.clone();
        KeptSession { terms, asked: self.asked, term: self.term, last: self.last, retired }
    }

    pub(super) fn restore(number: u64, kept: &KeptSession, token: SecretText) -> Self {
        let session = Session { token, terms: kept.terms.clone() };
        let KeptSession { asked, term, last, .. } = *kept;
        Self { number, session, asked, term, last, failures: 0, rests_until: None }
    }

    /// When the token ends; `None` for one that does not.
    pub(super) fn ends(&self) -> Option<Moment> {
        (!self.term.is_zero()).then(|| self.asked + self.term)
    }

    pub(super) fn is_over(&self, now: Moment) -> bool {
        self.ends().is_some_and(|ends| ends <= now)
    }

    /// What is due next, and when.
    pub(super) fn next(&self) -> Option<(Moment, Due)> {
        self.ends()?;
        let due = if self.last { Due::Succeed } else { Due::Renew };
        let planned = self.asked + self.term * 2 / 3;
        Some((self.rests_until.map_or(planned, |until| until.max(planned)), due))
    }

    /// The increment to ask for: the term that the login gave.
    pub(super) fn increment(&self) -> Duration {
        self.session.terms.duration
    }

    /// A renewal asked for at `asked` succeeded.
    pub(super) fn renewed(&mut self, asked: Moment, terms: &LeaseTerms) {
        self.last = !terms.renewable || shrunk(terms.duration, self.increment());
        self.asked = asked;
        self.term = terms.duration;
        self.failures = 0;
        self.rests_until = None;
    }

    /// A renewal or a successor's login failed.
    pub(super) fn failed(&mut self, error: Option<&StoreError>, now: Moment) {
        self.failures += 1;
        match error {
            // Renewing it again is pointless: a successor is needed now.
            Some(error) if !error.passes() && !self.last => {
                self.last = true;
                self.rests_until = None;
            }
            Some(_) | None => self.rests_until = Some(now + policy::rest(self.failures)),
        }
    }

    /// Whether a successor is needed at once, because Vault no longer knows this token.
    pub(super) fn lost(&mut self, now: Moment) {
        self.last = true;
        self.term = now.saturating_since(self.asked).max(Duration::from_millis(1));
        self.rests_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::SecretText;

    fn at(seconds: u64) -> Moment {
        Moment::since_boot(Duration::from_secs(seconds))
    }

    fn terms(seconds: u64, renewable: bool) -> LeaseTerms {
        LeaseTerms { id: String::new(), duration: Duration::from_secs(seconds), renewable }
    }

    fn live(seconds: u64, renewable: bool) -> Live {
        let session =
            Session { token: SecretText::new("t".into()), terms: terms(seconds, renewable) };
        Live::new(1, session, at(100))
    }

    #[test]
    fn it_is_renewed_at_two_thirds_until_the_grant_shrinks() {
        let mut live = live(30, true);
        assert_eq!(live.next(), Some((at(120), Due::Renew)));
        live.renewed(at(121), &terms(30, true));
        assert_eq!(live.next(), Some((at(141), Due::Renew)));
        live.renewed(at(141), &terms(15, true));
        assert_eq!(live.next(), Some((at(151), Due::Succeed)), "capped: a successor comes early");
        assert_eq!(live.ends(), Some(at(156)));
    }

    #[test]
    fn what_cannot_be_renewed_gets_a_successor() {
        assert_eq!(live(30, false).next(), Some((at(120), Due::Succeed)));
        assert_eq!(live(0, false).next(), None, "a token without end needs nothing");
    }

    #[test]
    fn a_renewal_that_fails_rests_and_one_that_is_refused_gives_up() {
        let mut live = live(300, true);
        live.failed(Some(&StoreError::Sealed { said: String::new() }), at(300));
        assert_eq!(live.next(), Some((at(301), Due::Renew)));
        live.failed(Some(&StoreError::Sealed { said: String::new() }), at(301));
        assert_eq!(live.next(), Some((at(303), Due::Renew)));
        live.failed(Some(&StoreError::Denied { said: String::new() }), at(303));
        assert_eq!(live.next(), Some((at(300), Due::Succeed)));
        live.failed(Some(&StoreError::Denied { said: String::new() }), at(303));
        assert_eq!(
            live.next(),
            Some((at(311), Due::Succeed)),
            "the fourth failure rests 8 s: no loop of logins"
        );
    }
}
