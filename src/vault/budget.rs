//! [`Turns`]: how much of one Vault this node uses: requests under way, and per second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::config::Budget;

/// Gives turns to requests.
pub(super) struct Turns {
    in_flight: Semaphore,
    spacing: Duration,
    burst: Duration,
    /// When the next request would be due if all came evenly spaced.
    next: Mutex<Option<Instant>>,
}

impl Turns {
    pub(super) fn new(budget: Budget) -> Self {
        Self {
            in_flight: Semaphore::new(budget.in_flight as usize),
            spacing: Duration::from_secs(1) / budget.per_second,
            burst: Duration::from_secs(1),
            next: Mutex::new(None),
        }
    }

    /// Waits for a turn. A second's worth may come in a burst.
    pub(super) async fn take(&self) -> Option<SemaphorePermit<'_>> {
        let permit = self.in_flight.acquire().await.ok();
        let wait = self.wait(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        permit
    }

    /// How long the request that comes now has to wait.
    fn wait(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let due = next.unwrap_or(now).max(now);
        *next = Some(due + self.spacing);
        due.saturating_duration_since(now).saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_seconds_worth_comes_at_once_and_the_rest_evenly() {
        let turns = Turns::new(Budget { in_flight: 1000, per_second: 10 });
        let began = Instant::now();
        let mut times = Vec::new();
        for _ in 0..15 {
            drop(turns.take().await);
            times.push(began.elapsed().as_millis());
        }
        assert_eq!(times[..11], [0; 11]);
        assert!(times[14] >= 400 && times[14] <= 410, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_limit_are_under_way() {
        let turns = Turns::new(Budget { in_flight: 2, per_second: 1000 });
        let (one, _two) = (turns.take().await, turns.take().await);
        let third = tokio::time::timeout(Duration::from_secs(5), turns.take()).await;
        assert!(third.is_err());
        drop(third);
        drop(one);
        assert!(turns.take().await.is_some());
    }
}
