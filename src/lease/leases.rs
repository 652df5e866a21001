//! [`Leases`]: what the volumes of this node ask for. Cheap to clone.
//!
//! A volume attaches under its id, fetches, is told of changes, and detaches; then nothing of it is
//! left but a revocation in the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock::Clock;
use crate::identity::session::SessionKey;
use crate::identity::token::ServiceAccountToken;
use crate::kept::journal::Journal;
use crate::kept::region::Shelf;
use crate::lease::holding::{Holding, State};
use crate::lease::keep::{self, Part};
use crate::lease::revocation::{Doomed, Revocations};
use crate::lease::session::Live;
use crate::lease::{Change, FetchError, Held, Observe};
use crate::secret::request::SecretRequest;
use crate::secret::store::Stores;

/// Everything that is held of Vault on this node.
#[derive(Clone)]
pub struct Leases(Arc<Desk>);

/// What the work needs; shared by all holdings.
pub(super) struct Desk {
    pub(super) stores: Arc<dyn Stores>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) observe: Arc<dyn Observe>,
    pub(super) shelf: Arc<dyn Shelf>,
    revocations: Arc<Revocations>,
    holdings: DashMap<Arc<SessionKey>, Arc<Holding>>,
    volumes: DashMap<String, Arc<Holding>>,
    /// What another driver held, by the name it is kept under, until its volumes have come.
    kept: DashMap<String, Arc<Holding>>,
    sessions: AtomicUsize,
    leases: AtomicUsize,
    /// Flights that are under way.
    pub(super) asking: tokio::sync::watch::Sender<usize>,
}

impl Leases {
    /// Nothing is held yet. Must be called inside the runtime.
    pub fn start(
        stores: Arc<dyn Stores>,
        clock: Arc<dyn Clock>,
        observe: Arc<dyn Observe>,
        shelf: Arc<dyn Shelf>,
    ) -> Self {
        let revocations = Revocations::new(
            Arc::clone(&stores),
            Arc::clone(&clock),
            Arc::clone(&observe),
            Arc::clone(&shelf),
        );
        Self(Arc::new(Desk {
            stores,
            clock,
            observe,
            shelf,
            revocations,
            holdings: DashMap::new(),
            volumes: DashMap::new(),
            kept: DashMap::new(),
            sessions: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
            asking: tokio::sync::watch::Sender::new(0),
        }))
    }

    /// A volume begins to use the session of `key`; `changes` hears what happens to its secrets. Returns the
    /// name that what is held is kept under, once it is.
    pub async fn attach(
        &self,
        volume: &str,
        key: Arc<SessionKey>,
        token: Option<ServiceAccountToken>,
        changes: UnboundedSender<Change>,
    ) -> String {
        let holding = {
            let entry = self.0.holdings.entry(Arc::clone(&key));
            let holding = entry.or_insert_with(|| Arc::new(self.0.begin(key)));
            let mut state = holding.state();
            state.volumes.insert(volume.to_owned(), changes);
            if token.is_some() {
                state.token = token;
                holding.keep(&state, &[Part::Token]);
            }
            drop(state);
            Arc::clone(&holding)
        };
        self.0.volumes.insert(volume.to_owned(), Arc::clone(&holding));
        let name = holding.journal.name().to_owned();
        // Before anything is asked: the next driver must know of every session.
        drop(tokio::task::spawn_blocking(move || holding.journal.put()).await);
        name
    }

    /// Goes on with what another driver held. Nothing is asked.
    pub fn restore(&self, journal: Journal) -> Result<(), Journal> {
        let Some((key, state)) = keep::restore(&journal) else {
            return Err(journal);
        };
        let holding = Arc::new(Holding::new(Arc::new(key), journal, state));
        self.0.count(&mut holding.state());
        self.0.kept.insert(holding.journal.name().to_owned(), holding);
        Ok(())
    }

    /// A volume goes on with what is kept under `name`. `shown`: what its files show, and how often they want it
    /// asked anew. Returns the answers that are held, which may be newer than what the files show; `None` when there
    /// is no such thing.
    pub fn attach_again(
        &self,
        volume: &str,
        name: &str,
        shown: Vec<(SecretRequest, Option<Duration>)>,
        changes: UnboundedSender<Change>,
    ) -> Option<Vec<(SecretRequest, Held)>> {
        let holding = self.0.kept.get(name).map(|had| Arc::clone(had.value()))?;
        let now = self.0.clock.now();
        let mut held = Vec::new();
        let mut state = holding.state();
        state.volumes.insert(volume.to_owned(), changes);
        for (request, refresh) in shown {
            if let Some(secret) = state.secrets.get_mut(&request) {
                secret.shown_by.insert(volume.to_owned());
                secret.refresh = [secret.refresh, refresh].into_iter().flatten().min();
            }
            let have = state.secrets.get(&request).and_then(|secret| secret.have.as_ref());
            let have = have.map(|have| have.held(state.session_ends(have.session, now)));
            held.extend(have.map(|have| (request, have)));
        }
        let works = state.live.is_some() && !std::mem::replace(&mut state.worked, true);
        drop(state);
        self.0.volumes.insert(volume.to_owned(), Arc::clone(&holding));
        self.0.holdings.insert(Arc::clone(&holding.key), Arc::clone(&holding));
        if works {
            Arc::clone(&self.0).start_work(holding);
        }
        Some(held)
    }

    /// What nobody has gone on with belonged to volumes that have ended: it is revoked.
    pub fn revoke_orphans(&self) {
        let names: Vec<String> = self.0.kept.iter().map(|had| had.key().clone()).collect();
        for name in names {
            if let Some((_, holding)) = self.0.kept.remove(&name)
                && holding.state().volumes.is_empty()
            {
                self.0.dissolve(&holding);
            }
        }
    }

    /// Kubelet sent a newer service-account token.
    pub fn refresh_token(&self, volume: &str, token: ServiceAccountToken) {
        if let Some(holding) = self.0.holding(volume) {
            let mut state = holding.state();
            if state.token.as_ref().is_none_or(|had| had.expires <= token.expires) {
                state.token = Some(token);
                holding.keep(&state, &[Part::Token]);
            }
        }
    }

    /// Logs in, unless there is a session already.
    ///
    /// # Errors
    /// Vault's no, or what was tried last when `budget` ended.
    pub async fn login(&self, volume: &str, budget: Duration) -> Result<(), FetchError> {
        let holding = self.0.holding(volume).ok_or(FetchError::Ended)?;
        let deadline = self.0.clock.now() + budget;
        self.0.session(&holding, deadline).await.map(drop)
    }

    /// Learns in the background what a first read would have to ask before: which engines serve
    /// `paths`. Does nothing when there is no session.
    pub fn prepare(&self, volume: &str, paths: Vec<String>) {
        let Some(holding) = self.0.holding(volume) else {
            return;
        };
        let Some(live) = holding.state().live.clone() else {
            return;
        };
        let desk = Arc::clone(&self.0);
        drop(tokio::spawn(async move {
            let Ok(store) = desk.store(&holding) else {
                return;
            };
            for path in paths {
                if holding.ended.is_cancelled() {
                    return;
                }
                if let Err(error) = desk.mount_of(&holding, &live, &*store, &path).await {
                    tracing::debug!(path, %error, "the engine is not known yet; the first read asks");
                }
            }
        }));
    }

    /// The answer to `request`, from memory or from Vault, within `budget`. `refresh` is how often a
    /// file wants it asked anew when it has no lease.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn fetch(
        &self,
        volume: &str,
        request: &SecretRequest,
        refresh: Option<Duration>,
        budget: Duration,
    ) -> Result<Held, FetchError> {
        let holding = self.0.holding(volume).ok_or(FetchError::Ended)?;
        {
            let mut state = holding.state();
            let secret = state.secrets.entry(request.clone()).or_default();
            secret.shown_by.insert(volume.to_owned());
            secret.refresh = [secret.refresh, refresh].into_iter().flatten().min();
        }
        self.0.fetch(&holding, request, budget).await
    }

    /// The volume has ended. With the last one of a holding its sessions go to the queue of
    /// revocations, and with them every lease. Never waits.
    pub fn detach(&self, volume: &str) {
        let Some((_, holding)) = self.0.volumes.remove(volume) else {
            return;
        };
        let key = Arc::clone(&holding.key);
        let last = self.0.holdings.remove_if(&key, |_, holding| {
            let mut state = holding.state();
            state.volumes.remove(volume);
            state.volumes.is_empty()
        });
        if last.is_none() {
            let mut state = holding.state();
            for secret in state.secrets.values_mut() {
                secret.shown_by.remove(volume);
            }
            let unused: Vec<SecretRequest> = state
                .secrets
                .iter()
                .filter(|(_, secret)| secret.shown_by.is_empty() && secret.flight.is_none())
                .map(|(request, _)| request.clone())
                .collect();
            for request in &unused {
                state.secrets.remove(request);
                holding.keep(&state, &[Part::Answer(request)]);
            }
            self.0.count(&mut state);
            return;
        }
        self.0.dissolve(&holding);
    }

    /// How many sessions and leases are held, and how many revocations wait.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.0.counts()
    }

    /// Waits until Vault is asked nothing, at most `budget`: an answer that nobody hears may be a credential.
    pub async fn settle(&self, budget: Duration) {
        let mut asking = self.0.asking.subscribe();
        drop(tokio::time::timeout(budget, asking.wait_for(|asking| *asking == 0)).await);
    }

    /// Waits for the revocations of volumes that have ended, at most `budget`; returns how many are
    /// left.
    pub async fn drain(&self, budget: Duration) -> usize {
        self.0.revocations.drain(budget).await
    }
}

impl Desk {
    /// What one session key holds, with nothing in it yet.
    fn begin(&self, key: Arc<SessionKey>) -> Holding {
        let name = keep::name(&key, self.clock.now());
        let journal = Journal::create(&name, Arc::clone(&self.shelf)).unwrap_or_else(|error| {
            tracing::error!(%error, "no memory for what must outlive this process");
            Journal::none()
        });
        let holding = Holding::new(key, journal, State::default());
        holding.keep_key();
        holding
    }

    /// Nobody uses it any more: its sessions go to the queue of revocations. Never waits.
    fn dissolve(&self, holding: &Arc<Holding>) {
        holding.ended.cancel();
        let mut state = holding.state();
        let retired = std::mem::take(&mut state.retired).into_iter().map(|(live, _)| live);
        let sessions: Vec<Live> = state.live.take().into_iter().chain(retired).collect();
        state.secrets.clear();
        state.token = None;
        state.dissolved = true;
        state.doomed.extend(sessions.iter().map(|live| live.number));
        let empty = state.doomed.is_empty();
        self.count(&mut state);
        drop(state);
        for live in &sessions {
            self.revoke(holding, live);
        }
        let (shelf, holding) = (Arc::clone(&self.shelf), Arc::clone(holding));
        drop(tokio::task::spawn_blocking(move || {
            if empty {
                holding.journal.wipe();
                shelf.remove(holding.journal.name());
            } else {
                holding.keep_sessions_only();
            }
        }));
    }

    fn holding(&self, volume: &str) -> Option<Arc<Holding>> {
        self.volumes.get(volume).map(|holding| Arc::clone(holding.value()))
    }

    pub(super) fn revoke(&self, holding: &Arc<Holding>, live: &Live) {
        holding.state().doomed.insert(live.number);
        self.revocations.add(Doomed {
            holding: Arc::clone(holding),
            number: live.number,
            session: live.session.clone(),
            ends: live.ends(),
        });
        self.publish();
    }

    /// Brings the figures up to date with what `state` holds now.
    pub(super) fn count(&self, state: &mut State) {
        let (sessions, leases) = state.counts();
        let before = std::mem::replace(&mut state.counted, (sessions, leases));
        // Wrapping: a difference that is negative is added as its two's complement.
        self.sessions.fetch_add(sessions.wrapping_sub(before.0), Ordering::AcqRel);
        self.leases.fetch_add(leases.wrapping_sub(before.1), Ordering::AcqRel);
        self.publish();
    }

    fn counts(&self) -> (usize, usize, usize) {
        let read = |figure: &AtomicUsize| figure.load(Ordering::Acquire);
        (read(&self.sessions), read(&self.leases), self.revocations.waiting())
    }

    fn publish(&self) {
        let (sessions, leases, waiting) = self.counts();
        self.observe.held(sessions, leases, waiting);
    }
}
