//! [`Flight`]: one piece of work and all who wait for it. It goes on when they leave, because Vault may
//! have made a lease by then, and somebody must own it.

use std::future::Future;

use tokio::sync::watch;

/// Work that is under way.
pub(super) struct Flight<T>(watch::Receiver<Option<T>>);

impl<T> Clone for Flight<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Clone + Send + Sync + 'static> Flight<T> {
    /// Starts the work on a task of its own.
    pub(super) fn start(work: impl Future<Output = T> + Send + 'static) -> Self {
        let (done, flight) = watch::channel(None);
        drop(tokio::spawn(async move {
            let outcome = work.await;
            // Nobody may be waiting any more.
            drop(done.send(Some(outcome)));
        }));
        Self(flight)
    }

    /// Waits for the outcome; `None` when the work died.
    pub(super) async fn join(mut self) -> Option<T> {
        let outcome = self.0.wait_for(Option::is_some).await.ok()?;
        outcome.clone()
    }
}
