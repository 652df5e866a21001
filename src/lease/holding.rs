//! [`Holding`]: what one [`SessionKey`] holds of Vault: its session, its secrets, and who uses them.
//!
//! All volumes of a pod that log in the same way share one. It ends with the last of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::clock::Moment;
use crate::identity::session::SessionKey;
use crate::identity::token::ServiceAccountToken;
use crate::kept::journal::Journal;
use crate::lease::flight::Flight;
use crate::lease::secret::{self, Secret};
use crate::lease::session::{self, Live};
use crate::lease::{Change, FetchError};
use crate::secret::request::SecretRequest;
use crate::secret::store::Mount;

/// How long a session that was succeeded is kept, for connections that were opened with its leases.
const OLD_SESSION_GRACE: Duration = Duration::from_secs(30);

/// What one [`SessionKey`] holds.
pub(super) struct Holding {
    pub(super) key: Arc<SessionKey>,
    /// What outlives the process.
    pub(super) journal: Journal,
    state: Mutex<State>,
    /// One question about mounts at a time.
    pub(super) asking_mounts: tokio::sync::Mutex<()>,
    /// Something changed: what is due next may be due earlier.
    pub(super) replan: Notify,
    /// Ends its worker.
    pub(super) ended: CancellationToken,
}

/// The changing part.
#[derive(Default)]
pub(super) struct State {
    pub(super) token: Option<ServiceAccountToken>,
    pub(super) live: Option<Live>,
    /// Sessions that were succeeded; gone once nothing is held under them.
    pub(super) retired: Vec<(Live, Moment)>,
    pub(super) logins: u64,
    pub(super) login: Option<Flight<Result<(), FetchError>>>,
    /// What the login that is under way was told by its last try.
    pub(super) login_tried: Option<FetchError>,
    /// The last refusal of a login: the answer to whoever asks again within a second.
    pub(super) login_failed: Option<(Moment, FetchError)>,
    /// When the token was last asked whether it lives, after a 403.
    pub(super) probed: Option<Moment>,
    pub(super) mounts: Vec<Mount>,
    pub(super) unmounted: Vec<String>,
    pub(super) secrets: BTreeMap<SecretRequest, Secret>,
    pub(super) volumes: BTreeMap<String, UnboundedSender<Change>>,
    pub(super) worked: bool,
    /// Sessions that are being revoked, by number.
    pub(super) doomed: BTreeSet<u64>,
    /// The last volume has ended.
    pub(super) dissolved: bool,
    /// Leases counted in the figures.
    pub(super) counted: (usize, usize),
}

/// What is due on a holding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The session.
    Session(session::Due),
    /// One secret.
    Secret(SecretRequest, secret::Due),
    /// A session that was succeeded, by number.
    Retire(u64),
}

impl Holding {
    pub(super) fn new(key: Arc<SessionKey>, journal: Journal, state: State) -> Self {
        Self {
            key,
            journal,
            state: Mutex::new(state),
            asking_mounts: tokio::sync::Mutex::default(),
            replan: Notify::new(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The end of a session that is held, by number; its own end, or now when it is gone.
    pub(super) fn session_ends(&self, number: u64, now: Moment) -> Option<Moment> {
        let retired = self.retired.iter().map(|(live, _)| live);
        let held = self.live.iter().chain(retired).find(|live| live.number == number);
        held.map_or(Some(now), Live::ends)
    }

    /// Everything that is due at some time, with the time.
    pub(super) fn agenda(&self, now: Moment) -> Vec<(Moment, Due)> {
        let mut agenda = Vec::new();
        let current = self.live.as_ref().map(|live| live.number);
        if let Some((at, due)) = self.live.as_ref().and_then(Live::next) {
            agenda.push((at, Due::Session(due)));
        }
        for (request, secret) in &self.secrets {
            let Some(have) = secret.have.as_ref().filter(|_| secret.flight.is_none()) else {
                continue;
            };
            let session_ends = self.session_ends(have.session, now);
            if let Some((at, due)) = have.next(secret.refresh, session_ends, current) {
                agenda.push((at, Due::Secret(request.clone(), due)));
            }
        }
        for (live, since) in &self.retired {
            let leased = |secret: &Secret| {
                secret
                    .have
                    .as_ref()
                    .is_some_and(|have| have.leased() && have.session == live.number)
            };
            let unused = !self.secrets.values().any(leased);
            let at = unused.then_some(*since + OLD_SESSION_GRACE);
            if let Some(at) = [at, live.ends()].into_iter().flatten().min() {
                agenda.push((at, Due::Retire(live.number)));
            }
        }
        agenda
    }

    /// The engine that serves `path`, as far as it is known.
    pub(super) fn mount_of(&self, path: &str) -> Option<Mount> {
        let known = self
            .mounts
            .iter()
            .filter(|mount| path.starts_with(&mount.path) || format!("{path}/") == mount.path);
        let longest = known.max_by_key(|mount| mount.path.len()).cloned();
        longest.or_else(|| {
            let unknown = self.unmounted.iter().any(|had| had == path);
            unknown.then(|| Mount { path: String::new(), kv2: false })
        })
    }

    /// How many sessions and leases are held.
    pub(super) fn counts(&self) -> (usize, usize) {
        let leased = |secret: &&Secret| secret.have.as_ref().is_some_and(secret::Have::leased);
        let leases = self.secrets.values().filter(leased).count();
        (usize::from(self.live.is_some()) + self.retired.len(), leases)
    }

    /// Tells every volume that shows `request`.
    pub(super) fn tell(&self, request: &SecretRequest, change: impl Fn() -> Change) {
        let Some(secret) = self.secrets.get(request) else {
            return;
        };
        for id in &secret.shown_by {
            if let Some(volume) = self.volumes.get(id) {
                // A volume that is ending no longer listens.
                drop(volume.send(change()));
            }
        }
    }
}
