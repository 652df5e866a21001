//! [`Revocations`]: sessions that nobody uses any more, until Vault has ended them or they ended.
//!
//! Unpublish only adds to this queue and never waits. Revoking a session revokes every lease it made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};

use crate::clock::{Clock, Moment};
use crate::kept::region::Shelf;
use crate::lease::Observe;
use crate::lease::holding::Holding;
use crate::lease::keep::Part;
use crate::lease::policy;
use crate::lease::worker::timed;
use crate::secret::store::{Session, StoreError, Stores};

/// Revocations under way at once: a node that is drained must not flood Vault.
const AT_ONCE: usize = 8;

/// One session to revoke.
pub(super) struct Doomed {
    /// What it belonged to; it is kept until the session is revoked, so that another driver does it.
    pub(super) holding: Arc<Holding>,
    pub(super) number: u64,
    pub(super) session: Session,
    /// When it ends by itself.
    pub(super) ends: Option<Moment>,
}

/// The queue.
pub(super) struct Revocations {
    stores: Arc<dyn Stores>,
    clock: Arc<dyn Clock>,
    observe: Arc<dyn Observe>,
    shelf: Arc<dyn Shelf>,
    at_once: Arc<Semaphore>,
    waiting: AtomicUsize,
    done: Notify,
    /// Wakes those that rest: the driver is told to stop, and there is no later.
    hurry: Mutex<tokio_util::sync::CancellationToken>,
}

impl Revocations {
    pub(super) fn new(
        stores: Arc<dyn Stores>,
        clock: Arc<dyn Clock>,
        observe: Arc<dyn Observe>,
        shelf: Arc<dyn Shelf>,
    ) -> Arc<Self> {
        Arc::new(Self {
            stores,
            clock,
            observe,
            shelf,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: AtomicUsize::new(0),
            done: Notify::new(),
            hurry: Mutex::default(),
        })
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Takes a session over; it is tried until it is revoked or over.
    pub(super) fn add(self: &Arc<Self>, doomed: Doomed) {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        let queue = Arc::clone(self);
        drop(tokio::spawn(async move {
            queue.finish(&doomed).await;
            queue.forget(&doomed).await;
            queue.waiting.fetch_sub(1, Ordering::AcqRel);
            queue.done.notify_waiters();
        }));
    }

    /// The session is over: nobody needs to know of it any more.
    async fn forget(&self, doomed: &Doomed) {
        let last = {
            let mut state = doomed.holding.state();
            state.doomed.remove(&doomed.number);
            doomed.holding.keep(&state, &[Part::Gone(doomed.number)]);
            state.dissolved && state.doomed.is_empty()
        };
        if last {
            let (shelf, holding) = (Arc::clone(&self.shelf), Arc::clone(&doomed.holding));
            let removed = tokio::task::spawn_blocking(move || {
                // Wiped first: then nothing can be put under the name again.
                holding.journal.wipe();
                shelf.remove(holding.journal.name());
            });
            drop(removed.await);
        }
    }

    async fn finish(&self, doomed: &Doomed) {
        let key = &doomed.holding.key;
        let mut failures = 0;
        while doomed.ends.is_none_or(|ends| self.clock.now() < ends) {
            let outcome = self.once(doomed).await;
            self.observe.revocation(outcome.is_ok());
            let Err(error) = outcome else { return };
            failures += 1;
            tracing::warn!(pod = %key.pod.uid, connection = key.connection, role = key.role, failures, %error, "a session is not revoked yet");
            let hurry = self.hurry.lock().unwrap_or_else(PoisonError::into_inner).clone();
            tokio::select! {
                () = tokio::time::sleep(policy::rest(failures)) => {}
                () = hurry.cancelled() => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        tracing::warn!(pod = %key.pod.uid, connection = key.connection, role = key.role, "a session ended before it could be revoked");
    }

    async fn once(&self, doomed: &Doomed) -> Result<(), StoreError> {
        if !self.shelf.acts() {
            return Err(StoreError::Unreachable { said: "another driver does it".to_owned() });
        }
        let Some(store) = self.stores.store(&doomed.holding.key.connection) else {
            let said = "the driver's configuration no longer has this connection".to_owned();
            return Err(StoreError::Unreachable { said });
        };
        let turn = self.at_once.acquire().await;
        let token = &doomed.session.token;
        let asked = store.revoke_session(&doomed.holding.key, token);
        let outcome = timed(&*self.observe, &doomed.holding.key, "revoke", asked).await;
        drop(turn);
        match outcome {
            // Vault no longer knows the token: what was wanted.
            Err(StoreError::Denied { .. }) => Ok(()),
            other => other,
        }
    }

    /// Waits until the queue is empty, at most `budget`; returns how many are left.
    pub(super) async fn drain(&self, budget: Duration) -> usize {
        self.hurry.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        let empty = async {
            loop {
                let done = self.done.notified();
                if self.waiting() == 0 {
                    return;
                }
                done.await;
            }
        };
        drop(tokio::time::timeout(budget, empty).await);
        self.waiting()
    }
}
