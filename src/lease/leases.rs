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
use crate::lease::holding::{Holding, State};
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
    revocations: Arc<Revocations>,
    holdings: DashMap<Arc<SessionKey>, Arc<Holding>>,
    volumes: DashMap<String, Arc<Holding>>,
    sessions: AtomicUsize,
    leases: AtomicUsize,
}

impl Leases {
    /// Nothing is held yet. Must be called inside the runtime.
    pub fn start(
        stores: Arc<dyn Stores>,
        clock: Arc<dyn Clock>,
        observe: Arc<dyn Observe>,
    ) -> Self {
        let revocations =
            Revocations::new(Arc::clone(&stores), Arc::clone(&clock), Arc::clone(&observe));
        Self(Arc::new(Desk {
            stores,
            clock,
            observe,
            revocations,
            holdings: DashMap::new(),
            volumes: DashMap::new(),
            sessions: AtomicUsize::new(0),
            leases: AtomicUsize::new(0),
        }))
    }

    /// A volume begins to use the session of `key`; `changes` hears what happens to its secrets.
    pub fn attach(
        &self,
        volume: &str,
        key: Arc<SessionKey>,
        token: Option<ServiceAccountToken>,
        changes: UnboundedSender<Change>,
    ) {
        let entry = self.0.holdings.entry(Arc::clone(&key));
        let holding = entry.or_insert_with(|| Arc::new(Holding::new(key)));
        let mut state = holding.state();
        state.volumes.insert(volume.to_owned(), changes);
        if token.is_some() {
            state.token = token;
        }
        drop(state);
        self.0.volumes.insert(volume.to_owned(), Arc::clone(&holding));
    }

    /// Kubelet sent a newer service-account token.
    pub fn refresh_token(&self, volume: &str, token: ServiceAccountToken) {
        if let Some(holding) = self.0.holding(volume) {
            let mut state = holding.state();
            if state.token.as_ref().is_none_or(|had| had.expires <= token.expires) {
                state.token = Some(token);
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
            state
                .secrets
                .retain(|_, secret| !secret.shown_by.is_empty() || secret.flight.is_some());
            self.0.count(&mut state);
            return;
        }
        holding.ended.cancel();
        let mut state = holding.state();
        let retired = std::mem::take(&mut state.retired).into_iter().map(|(live, _)| live);
        let sessions: Vec<Live> = state.live.take().into_iter().chain(retired).collect();
        state.secrets.clear();
        state.token = None;
        self.0.count(&mut state);
        drop(state);
        for live in sessions {
            self.0.revoke(&holding, &live);
        }
    }

    /// How many sessions and leases are held, and how many revocations wait.
    pub fn counts(&self) -> (usize, usize, usize) {
        self.0.counts()
    }

    /// Waits for the revocations of volumes that have ended, at most `budget`; returns how many are
    /// left.
    pub async fn drain(&self, budget: Duration) -> usize {
        self.0.revocations.drain(budget).await
    }
}

impl Desk {
    fn holding(&self, volume: &str) -> Option<Arc<Holding>> {
        self.volumes.get(volume).map(|holding| Arc::clone(holding.value()))
    }

    pub(super) fn revoke(&self, holding: &Holding, live: &Live) {
        self.revocations.add(Doomed {
            key: Arc::clone(&holding.key),
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
