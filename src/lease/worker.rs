//! What happens by itself: one task per holding that has a session. It sleeps until something is due,
//! does it, and sleeps again; a pod whose secrets are static costs one timer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::session::SessionKey;
use crate::lease::flight::Flight;
use crate::lease::holding::{Due, Holding};
use crate::lease::keep::Part;
use crate::lease::leases::Desk;
use crate::lease::secret::{self, Have};
use crate::lease::session::Live;
use crate::lease::{Change, FetchError, Observe, session};
use crate::secret::request::SecretRequest;
use crate::secret::store::StoreError;

/// How long one renewal, login or re-read of the background may take, with its repetitions.
const BACKGROUND_BUDGET: Duration = Duration::from_secs(10);
/// Things that are due so close to each other are done in one go, so that files switch once.
const TOGETHER: Duration = Duration::from_millis(20);

/// Performs one request and tells what came of it.
pub(super) async fn timed<T>(
    observe: &dyn Observe,
    key: &SessionKey,
    kind: &'static str,
    asked: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let began = tokio::time::Instant::now();
    let outcome = asked.await;
    let word = outcome.as_ref().map_or_else(StoreError::word, |_| "ok");
    observe.vault_request(&key.connection, kind, word, began.elapsed());
    outcome
}

impl Desk {
    /// Starts the worker. Its type is erased: it may log in, and a login may start a worker.
    pub(super) fn start_work(self: Arc<Self>, holding: Arc<Holding>) {
        let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(self.work(holding));
        drop(tokio::spawn(work));
    }

    /// Works until the holding ends.
    async fn work(self: Arc<Self>, holding: Arc<Holding>) {
        loop {
            let now = self.clock.now();
            let agenda = holding.state().agenda(now);
            let first = agenda.iter().map(|(at, _)| *at).min();
            let wait = first.map(|at| at.saturating_since(now));
            if wait.is_none_or(|wait| !wait.is_zero()) {
                tokio::select! {
                    () = holding.ended.cancelled() => return,
                    () = holding.replan.notified() => {}
                    () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
                }
                continue;
            }
            let mut due: Vec<Due> = agenda
                .into_iter()
                .filter(|(at, _)| *at <= now + TOGETHER)
                .map(|(_, due)| due)
                .collect();
            // Endings need nobody; the session comes before what hangs on it.
            due.sort_by_key(|due| match due {
                Due::Secret(_, secret::Due::End) => 0,
                Due::Session(_) => 1,
                Due::Retire(_) => 2,
                Due::Secret(..) => 3,
            });
            let work = self.perform(&holding, due);
            tokio::select! {
                () = holding.ended.cancelled() => return,
                () = work => {}
            }
        }
    }

    async fn perform(self: &Arc<Self>, holding: &Arc<Holding>, due: Vec<Due>) {
        let mut reads = tokio::task::JoinSet::new();
        for due in due {
            match due {
                Due::Session(due) => self.session_due(holding, due).await,
                Due::Retire(number) => self.retire(holding, number),
                Due::Secret(request, secret::Due::End) => self.end(holding, &request),
                Due::Secret(request, secret::Due::Renew) => self.renew(holding, &request).await,
                Due::Secret(request, secret::Due::Read) => {
                    let (desk, holding) = (Arc::clone(self), Arc::clone(holding));
                    reads.spawn(async move {
                        let deadline = desk.clock.now() + BACKGROUND_BUDGET;
                        let outcome = desk.read(&holding, &request, deadline).await;
                        (request, outcome)
                    });
                }
            }
        }
        // Told together, so that a certificate and what belongs to it change in one generation.
        let outcomes = reads.join_all().await;
        for (request, outcome) in outcomes {
            self.read_anew(holding, request, outcome);
        }
        self.count(&mut holding.state());
    }

    async fn session_due(self: &Arc<Self>, holding: &Arc<Holding>, due: session::Due) {
        let Some(live) = holding.state().live.clone() else {
            return;
        };
        let asked = self.clock.now();
        match due {
            session::Due::Renew => {
                let Ok(store) = self.store(holding) else {
                    return self.session_failed(holding, None);
                };
                let request =
                    store.renew_session(&holding.key, &live.session.token, live.increment());
                let outcome = timed(&*self.observe, &holding.key, "renew", request).await;
                self.observe.renewal("session", outcome.is_ok());
                match outcome {
                    Ok(terms) => self.session_is(holding, |live| live.renewed(asked, &terms)),
                    Err(StoreError::Denied { .. }) => {
                        self.session_is(holding, |live| live.lost(self.clock.now()));
                    }
                    Err(error) => self.session_failed(holding, Some(&error)),
                }
            }
            session::Due::Succeed => {
                let deadline = asked + BACKGROUND_BUDGET;
                let (desk, shared) = (Arc::clone(self), Arc::clone(holding));
                // On a task of its own: when the volume ends meanwhile, the token must find its end too.
                let login =
                    Flight::start(async move { desk.login_flight(&shared, deadline).await });
                if let Err(error) = login.join().await.unwrap_or(Err(FetchError::Ended)) {
                    tracing::warn!(pod = %holding.key.pod.uid, connection = holding.key.connection, role = holding.key.role, %error, "no successor of a session yet");
                    self.session_failed(holding, None);
                }
            }
        }
    }

    fn session_failed(&self, holding: &Holding, error: Option<&StoreError>) {
        self.session_is(holding, |live| live.failed(error, self.clock.now()));
    }

    fn session_is(&self, holding: &Holding, change: impl FnOnce(&mut Live)) {
        let mut state = holding.state();
        if let Some(live) = &mut state.live {
            change(live);
            holding.keep(&state, &[Part::Sessions]);
        }
    }

    fn retire(&self, holding: &Arc<Holding>, number: u64) {
        let mut state = holding.state();
        let Some(at) = state.retired.iter().position(|(live, _)| live.number == number) else {
            return;
        };
        let (live, _) = state.retired.remove(at);
        drop(state);
        self.revoke(holding, &live);
    }

    async fn renew(&self, holding: &Holding, request: &SecretRequest) {
        let Ok(store) = self.store(holding) else {
            return;
        };
        let asked = self.clock.now();
        let (token, terms) = {
            let state = holding.state();
            let have = state.secrets.get(request).and_then(|secret| secret.have.as_ref());
            let Some((have, live)) = have.zip(state.live.as_ref()) else {
                return;
            };
            (live.session.token.clone(), have.response.terms.clone())
        };
        let renewal = store.renew_lease(&holding.key, &token, &terms.id, terms.duration);
        let outcome = timed(&*self.observe, &holding.key, "renew", renewal).await;
        self.observe.renewal("lease", outcome.is_ok());
        let now = self.clock.now();
        let mut state = holding.state();
        let Some(secret) = state.secrets.get_mut(request) else {
            return;
        };
        let Some(have) = secret.have.as_mut() else {
            return;
        };
        match outcome {
            Ok(terms) => have.renewed(asked, &terms),
            Err(error) => have.failed(secret::Due::Renew, Some(&error), now),
        }
        holding.keep(&state, &[Part::Terms(request)]);
    }

    fn read_anew(
        &self,
        holding: &Holding,
        request: SecretRequest,
        outcome: Result<Have, FetchError>,
    ) {
        let now = self.clock.now();
        let mut state = holding.state();
        match outcome {
            Ok(newer) => {
                let ends = state.session_ends(newer.session, now);
                let held = newer.held(ends);
                let asked = held.asked;
                let Some(secret) = state.secrets.get_mut(&request) else {
                    return;
                };
                let same = secret
                    .have
                    .as_mut()
                    .filter(|had| !newer.leased() && had.response.same_secret(&newer.response));
                if let Some(same) = same {
                    same.same_again(asked);
                    return holding.keep(&state, &[Part::Terms(&request)]);
                }
                secret.have = Some(newer);
                holding.keep(&state, &[Part::Answer(&request)]);
                state.tell(&request, || Change::Newer {
                    request: request.clone(),
                    held: held.clone(),
                });
            }
            Err(error) => {
                tracing::warn!(pod = %holding.key.pod.uid, connection = holding.key.connection, path = request.path, %error, "not read anew yet; what is there stays until its end");
                let vault = error.vault();
                let have = state.secrets.get_mut(&request).and_then(|secret| secret.have.as_mut());
                if let Some(have) = have {
                    have.failed(secret::Due::Read, vault, now);
                }
                if let Some(secret) = state.secrets.get_mut(&request) {
                    secret.last_error = Some(error);
                }
            }
        }
    }

    fn end(&self, holding: &Holding, request: &SecretRequest) {
        let mut state = holding.state();
        let Some(secret) = state.secrets.get_mut(request) else {
            return;
        };
        secret.have = None;
        let why = secret.last_error.take().unwrap_or(FetchError::Deadline { last: None });
        holding.keep(&state, &[Part::Answer(request)]);
        tracing::warn!(pod = %holding.key.pod.uid, connection = holding.key.connection, path = request.path, %why, "a lease has ended and there is no newer one");
        state.tell(request, || Change::Ended { request: request.clone(), why: why.clone() });
    }
}
