//! What happens when somebody asks for a secret that is not there: it is read, once for all who ask.
//!
//! See [`Desk::fetch`] first. One read is under way (`flight`); each waits for as long as it may, the work
//! goes on without it. The session comes from `login`.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;
use crate::lease::flight::{Asking, Flight};
use crate::lease::holding::{Holding, State};
use crate::lease::keep::Part;
use crate::lease::leases::Desk;
use crate::lease::policy::{self, Next};
use crate::lease::secret::Have;
use crate::lease::session::Live;
use crate::lease::worker::timed;
use crate::lease::{FetchError, Held};
use crate::secret::request::{SecretRequest, Verb};
use crate::secret::store::{Mount, SecretStore, StoreError};

/// With less time than this left nothing new is started.
pub(super) const TOO_SHORT: Duration = Duration::from_millis(50);

impl Desk {
    /// The answer to `request`, within `budget`.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        holding: &Arc<Holding>,
        request: &SecretRequest,
        budget: Duration,
    ) -> Result<Held, FetchError> {
        let deadline = self.clock.now() + budget;
        loop {
            let flight = match self.look(holding, request, deadline) {
                Look::Answer(answer) => return *answer,
                Look::Wait(flight) => flight,
            };
            let left = deadline.saturating_since(self.clock.now());
            match tokio::time::timeout(left, flight.join()).await {
                // It was started by somebody with less time than we have.
                Ok(Some(Err(FetchError::Deadline { last }))) => {
                    if self.clock.now() + TOO_SHORT >= deadline {
                        return Err(FetchError::Deadline { last });
                    }
                }
                Ok(Some(outcome)) => return outcome,
                Ok(None) => return Err(FetchError::Ended),
                Err(_) => return Err(FetchError::Deadline { last: tried(holding, request) }),
            }
        }
    }

    fn look(
        self: &Arc<Self>,
        holding: &Arc<Holding>,
        request: &SecretRequest,
        deadline: Moment,
    ) -> Look {
        let now = self.clock.now();
        let mut state = holding.state();
        let State { secrets, .. } = &mut *state;
        let secret = secrets.entry(request.clone()).or_default();
        if let Some(flight) = &secret.flight {
            return Look::Wait(flight.clone());
        }
        if let Some(error) = secret.remembered(now) {
            return Look::Answer(Box::new(Err(error)));
        }
        let have = secret.have.as_ref().map(|have| (have.session, have));
        if let Some((number, _)) = have {
            let ends = state.session_ends(number, now);
            let have = state.secrets.get(request).and_then(|secret| secret.have.as_ref());
            let held = have.map(|have| have.held(ends));
            if let Some(held) = held.filter(|held| held.ends.is_none_or(|ends| now < ends)) {
                return Look::Answer(Box::new(Ok(held)));
            }
        }
        let (desk, shared, wanted) = (Arc::clone(self), Arc::clone(holding), request.clone());
        let flight = Flight::start(async move {
            let asking = Asking::begin(&desk.asking);
            let outcome = desk.read_flight(&shared, &wanted, deadline).await;
            drop(asking);
            outcome
        });
        if let Some(secret) = state.secrets.get_mut(request) {
            secret.flight = Some(flight.clone());
        }
        Look::Wait(flight)
    }

    async fn read_flight(
        self: &Arc<Self>,
        holding: &Arc<Holding>,
        request: &SecretRequest,
        deadline: Moment,
    ) -> Result<Held, FetchError> {
        let outcome = self.read(holding, request, deadline).await;
        let now = self.clock.now();
        let mut state = holding.state();
        let outcome = outcome.map(|have| {
            let ends = state.session_ends(have.session, now);
            let held = have.held(ends);
            if let Some(secret) = state.secrets.get_mut(request) {
                secret.have = Some(have);
                secret.last_error = None;
            }
            // Before anybody sees it.
            holding.keep(&state, &[Part::Answer(request)]);
            held
        });
        if let Some(secret) = state.secrets.get_mut(request) {
            secret.flight = None;
            let passing = matches!(outcome, Err(FetchError::Deadline { .. }));
            secret.remember(outcome.as_ref().err().filter(|_| !passing).cloned(), now);
        }
        self.count(&mut state);
        drop(state);
        holding.replan.notify_one();
        outcome
    }

    /// Reads until there is an answer, a no that stays a no, or no time left.
    pub(super) async fn read(
        self: &Arc<Self>,
        holding: &Arc<Holding>,
        request: &SecretRequest,
        deadline: Moment,
    ) -> Result<Have, FetchError> {
        let mut tries = 0;
        loop {
            let live = self.session(holding, deadline).await?;
            let asked = self.clock.now();
            tries += 1;
            let error = match self.ask(holding, &live, request).await {
                Ok(response) => return Ok(Have::new(response, live.number, asked)),
                Err(Asked::Gone(error)) => return Err(error),
                Err(Asked::Vault(error)) => error,
            };
            let now = self.clock.now();
            let denied = matches!(error, StoreError::Denied { .. });
            if denied && self.is_dead(holding, &live).await {
                continue;
            }
            let write = request.verb == Verb::Write;
            let failure = FetchError::Read { path: request.path.clone(), error: error.clone() };
            if let Some(secret) = holding.state().secrets.get_mut(request) {
                secret.last_error = Some(failure.clone());
            }
            match policy::after_read(&error, write, tries, now, deadline) {
                Next::Again(wait) => tokio::time::sleep(wait).await,
                Next::Stop => return Err(failure),
                Next::TooLate => {
                    return Err(FetchError::Deadline { last: Some(Box::new(failure)) });
                }
            }
        }
    }

    async fn ask(
        &self,
        holding: &Holding,
        live: &Live,
        request: &SecretRequest,
    ) -> Result<Arc<crate::secret::response::SecretResponse>, Asked> {
        let store = self.store(holding).map_err(Asked::Gone)?;
        let mount = match request.verb {
            Verb::Write => Mount { path: String::new(), kv2: false },
            Verb::Read => {
                self.mount_of(holding, live, &*store, &request.path).await.map_err(Asked::Vault)?
            }
        };
        let asked = store.read(&holding.key, &live.session.token, &mount, request);
        let response = timed(&*self.observe, &holding.key, "read", asked).await;
        response.map(Arc::new).map_err(Asked::Vault)
    }

    /// The engine that serves `path`: asked once for each.
    pub(super) async fn mount_of(
        &self,
        holding: &Holding,
        live: &Live,
        store: &dyn SecretStore,
        path: &str,
    ) -> Result<Mount, StoreError> {
        if let Some(mount) = holding.state().mount_of(path) {
            return Ok(mount);
        }
        let turn = holding.asking_mounts.lock().await;
        if let Some(mount) = holding.state().mount_of(path) {
            return Ok(mount);
        }
        let asked = store.mount_of(&holding.key, &live.session.token, path);
        let mount = timed(&*self.observe, &holding.key, "mount", asked).await?;
        let mut state = holding.state();
        if mount.path.is_empty() {
            state.unmounted.push(path.to_owned());
        } else {
            state.mounts.push(mount.clone());
        }
        holding.keep(&state, &[Part::Mounts]);
        drop(state);
        drop(turn);
        Ok(mount)
    }

    pub(super) fn store(&self, holding: &Holding) -> Result<Arc<dyn SecretStore>, FetchError> {
        if !self.shelf.acts() {
            return Err(FetchError::Superseded);
        }
        let connection = &holding.key.connection;
        let store = self.stores.store(connection);
        store.ok_or_else(|| FetchError::NoConnection { connection: connection.clone() })
    }
}

/// What came of the tries so far.
fn tried(holding: &Holding, request: &SecretRequest) -> Option<Box<FetchError>> {
    let state = holding.state();
    let read = state.secrets.get(request).and_then(|secret| secret.last_error.clone());
    read.or_else(|| state.login_tried.clone()).map(Box::new)
}

enum Look {
    Answer(Box<Result<Held, FetchError>>),
    Wait(Flight<Result<Held, FetchError>>),
}

enum Asked {
    Vault(StoreError),
    Gone(FetchError),
}
