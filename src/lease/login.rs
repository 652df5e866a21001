//! What happens when a session is needed: one login, for all who need it, and when a token is given up.
//!
//! See [`Desk::session`] first. A login that ends when its volumes have ended hands its token to the queue of
//! revocations. It refuses to log in in a loop: a refusal is remembered, and a 403 is no dead token by itself.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::lease::FetchError;
use crate::lease::fetch::TOO_SHORT;
use crate::lease::flight::{Asking, Flight};
use crate::lease::holding::Holding;
use crate::lease::keep::Part;
use crate::lease::leases::Desk;
use crate::lease::policy::{self, Next};
use crate::lease::session::Live;
use crate::lease::worker::timed;
use crate::secret::store::{Session, StoreError};

/// After a 403 a token is asked whether it lives, not more often than this.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// For how long a refused login is the answer to whoever asks again.
const REMEMBERED: Duration = Duration::from_secs(1);

impl Desk {
    /// A session that lives; logs in when there is none.
    pub(super) async fn session(
        self: &Arc<Self>,
        holding: &Arc<Holding>,
        deadline: Moment,
    ) -> Result<Live, FetchError> {
        loop {
            let now = self.clock.now();
            let flight = {
                let mut state = holding.state();
                if let Some(live) = state.live.as_ref().filter(|live| !live.is_over(now)) {
                    return Ok(live.clone());
                }
                match &state.login {
                    Some(flight) => flight.clone(),
                    None => {
                        let recent = state
                            .login_failed
                            .as_ref()
                            .filter(|(at, _)| now.saturating_since(*at) < REMEMBERED);
                        if let Some((_, error)) = recent {
                            return Err(error.clone());
                        }
                        let (desk, shared) = (Arc::clone(self), Arc::clone(holding));
                        let flight = Flight::start(async move {
                            let asking = Asking::begin(&desk.asking);
                            let outcome = desk.login_flight(&shared, deadline).await;
                            drop(asking);
                            outcome
                        });
                        state.login = Some(flight.clone());
                        flight
                    }
                }
            };
            let left = deadline.saturating_since(now);
            match tokio::time::timeout(left, flight.join()).await {
                Ok(Some(Ok(()))) => {}
                Ok(Some(Err(FetchError::Deadline { last }))) => {
                    if self.clock.now() + TOO_SHORT >= deadline {
                        return Err(FetchError::Deadline { last });
                    }
                }
                Ok(Some(Err(error))) => return Err(error),
                Ok(None) => return Err(FetchError::Ended),
                Err(_) => {
                    let last = holding.state().login_tried.clone().map(Box::new);
                    return Err(FetchError::Deadline { last });
                }
            }
        }
    }

    /// The login itself, with what its outcome means for the holding.
    pub(super) async fn login_flight(
        self: &Arc<Self>,
        holding: &Arc<Holding>,
        deadline: Moment,
    ) -> Result<(), FetchError> {
        let outcome = self.log_in(holding, deadline).await;
        let now = self.clock.now();
        let mut state = holding.state();
        state.login = None;
        state.login_tried = None;
        state.login_failed = match &outcome {
            Err(error) if !matches!(error, FetchError::Deadline { .. }) => {
                Some((now, error.clone()))
            }
            _ => None,
        };
        let (session, asked) = outcome?;
        state.logins += 1;
        let live = Live::new(state.logins, session, asked);
        if state.volumes.is_empty() {
            // The volume ended while Vault made the token: it is ours to end.
            drop(state);
            self.revoke(holding, &live);
            return Err(FetchError::Ended);
        }
        if let Some(old) = state.live.replace(live) {
            state.retired.push((old, now));
        }
        // Before anybody uses it.
        holding.keep(&state, &[Part::Sessions, Part::Mounts]);
        self.count(&mut state);
        let worked = std::mem::replace(&mut state.worked, true);
        drop(state);
        if worked {
            holding.replan.notify_one();
        } else {
            Arc::clone(self).start_work(Arc::clone(holding));
        }
        Ok(())
    }

    async fn log_in(
        &self,
        holding: &Holding,
        deadline: Moment,
    ) -> Result<(Session, Moment), FetchError> {
        let mut tries = 0;
        loop {
            let wall = self.clock.wall();
            let token = holding.state().token.clone().filter(|token| token.expires > wall);
            let audience = &holding.key.audience;
            let token = token.ok_or_else(|| FetchError::NoToken { audience: audience.clone() })?;
            let store = self.store(holding)?;
            let asked = self.clock.now();
            tries += 1;
            let login = store.login(&holding.key, &token);
            let error = match timed(&*self.observe, &holding.key, "login", login).await {
                Ok(session) => return Ok((session, asked)),
                Err(error) => error,
            };
            let failure = FetchError::Login { error: error.clone() };
            holding.state().login_tried = Some(failure.clone());
            match policy::after_login(&error, tries, self.clock.now(), deadline) {
                Next::Again(wait) => tokio::time::sleep(wait).await,
                Next::Stop => return Err(failure),
                Next::TooLate => {
                    return Err(FetchError::Deadline { last: Some(Box::new(failure)) });
                }
            }
        }
    }

    /// After a 403: whether it is the token that died, and not a policy that says no. Asks Vault at
    /// most every ten seconds, so that a policy's no never becomes a loop of logins.
    pub(super) async fn is_dead(&self, holding: &Holding, live: &Live) -> bool {
        let now = self.clock.now();
        {
            let mut state = holding.state();
            let current = state.live.as_ref().is_some_and(|had| had.number == live.number);
            if !current {
                // Somebody found that out already, and there is a successor or will be.
                return true;
            }
            if state.probed.is_some_and(|at| now.saturating_since(at) < PROBE_EVERY) {
                return false;
            }
            state.probed = Some(now);
        }
        let Ok(store) = self.store(holding) else {
            return false;
        };
        let asked = store.renew_session(&holding.key, &live.session.token, live.increment());
        let alive = timed(&*self.observe, &holding.key, "renew", asked).await;
        if !matches!(alive, Err(StoreError::Denied { .. })) {
            return false;
        }
        let mut state = holding.state();
        if state.live.as_ref().is_some_and(|had| had.number == live.number) {
            state.live = None;
            holding.keep(&state, &[Part::Gone(live.number)]);
        }
        true
    }
}
