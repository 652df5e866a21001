//! Again, or not: what the outcome of one request means for the next. Pure.

use std::time::Duration;

use crate::clock::Moment;
use crate::secret::store::StoreError;

/// A login that Vault answers with a bare `permission denied` is tried so often: Vault says that too
/// when its own question to the cluster (TokenReview) failed.
const BARE_DENIALS: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What to do after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Ask again after the wait.
    Again(Duration),
    /// Asking again is pointless.
    Stop,
    /// It may pass, and there is no time left.
    TooLate,
}

/// How long to wait before try number `tries` + 1: 50 ms, doubled up to 1 s.
fn wait(tries: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(LONGEST_WAIT)
}

fn within(wait: Duration, now: Moment, deadline: Moment) -> Next {
    if now + wait < deadline { Next::Again(wait) } else { Next::TooLate }
}

/// After `tries` logins, the last of which failed with `error`.
pub(super) fn after_login(error: &StoreError, tries: u32, now: Moment, deadline: Moment) -> Next {
    let bare = matches!(error, StoreError::Denied { said } if said.trim() == "permission denied");
    match (bare, tries < BARE_DENIALS) {
        (true, true) => within(wait(tries), now, deadline),
        (true, false) => Next::Stop,
        (false, _) => after_any(error, tries, now, deadline),
    }
}

/// After `tries` reads, the last of which failed with `error`.
pub(super) fn after_read(
    error: &StoreError,
    write: bool,
    tries: u32,
    now: Moment,
    deadline: Moment,
) -> Next {
    // Vault may have made a certificate or a key: asking again would make another.
    if write && matches!(error, StoreError::Timeout { .. } | StoreError::Broken { .. }) {
        return Next::Stop;
    }
    after_any(error, tries, now, deadline)
}

fn after_any(error: &StoreError, tries: u32, now: Moment, deadline: Moment) -> Next {
    if !error.passes() {
        return Next::Stop;
    }
    if let StoreError::Throttled { retry_after: Some(asked), .. } = error {
        return within(*asked, now, deadline);
    }
    within(wait(tries), now, deadline)
}

/// How long a renewal that failed `failures` times in a row rests: 1 s, doubled up to 30 s.
pub(super) fn rest(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::since_boot(Duration::from_millis(millis))
    }

    fn denied(said: &str) -> StoreError {
        StoreError::Denied { said: said.into() }
    }

    #[test]
    fn a_bare_denial_of_a_login_is_tried_three_times_and_a_telling_one_once() {
        let bare = denied("permission denied");
        assert_eq!(after_login(&bare, 1, at(0), at(5000)), Next::Again(Duration::from_millis(50)));
        assert_eq!(after_login(&bare, 2, at(0), at(5000)), Next::Again(Duration::from_millis(100)));
        assert_eq!(after_login(&bare, 3, at(0), at(5000)), Next::Stop);
        let telling = denied("service account name not authorized");
        assert_eq!(after_login(&telling, 1, at(0), at(5000)), Next::Stop);
        assert_eq!(after_read(&bare, false, 1, at(0), at(5000)), Next::Stop);
    }

    #[test]
    fn what_passes_is_asked_again_within_the_deadline_at_the_pace_vault_wants() {
        let sealed = StoreError::Sealed { said: String::new() };
        assert_eq!(after_read(&sealed, false, 9, at(0), at(9000)), Next::Again(LONGEST_WAIT));
        assert_eq!(after_read(&sealed, false, 9, at(8500), at(9000)), Next::TooLate);
        let slow = |seconds| StoreError::Throttled {
            retry_after: Some(Duration::from_secs(seconds)),
            said: String::new(),
        };
        assert_eq!(
            after_read(&slow(3), false, 1, at(0), at(9000)),
            Next::Again(Duration::from_secs(3))
        );
        assert_eq!(after_read(&slow(30), false, 1, at(0), at(9000)), Next::TooLate);
    }

    #[test]
    fn a_write_that_vault_may_have_acted_on_is_not_repeated() {
        let late = StoreError::Timeout { after: Duration::from_secs(5) };
        assert_eq!(after_read(&late, true, 1, at(0), at(60_000)), Next::Stop);
        assert_ne!(after_read(&late, false, 1, at(0), at(60_000)), Next::Stop);
    }

    #[test]
    fn rests_grow_to_half_a_minute() {
        assert_eq!([1, 2, 5, 6, 99].map(|failures| rest(failures).as_secs()), [1, 2, 16, 30, 30]);
    }
}
