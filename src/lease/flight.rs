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

/// Counts what is under way, as long as it lives.
pub(super) struct Asking(watch::Sender<usize>);

impl Asking {
    pub(super) fn begin(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}
