//! The port [`Errands`] over the keeper: its rotator does the work, with a watchdog of the keeper's.

use std::ffi::CString;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::custody::{ANSWER, Custody, Inner, PRIVATE};
use crate::fs::serve::Errands;
use crate::keeper::KeeperError;
use crate::keeper::client::{Connection, Outcome, Role};
use crate::keeper::errand::Errand;

/// The watchdog's two seconds, and the queue.
const ERRAND: Duration = Duration::from_secs(5);

impl Inner {
    /// Runs `ask` over the connection for errands; opens it when there is none.
    fn ask<T>(
        &self,
        ask: impl FnOnce(&mut Connection, u64) -> Result<T, KeeperError>,
    ) -> Option<T> {
        let (epoch, path) = (self.epoch(), self.options.socket.as_ref()?);
        if epoch == 0 || !*self.connected.borrow() {
            return None;
        }
        let mut held = self.errands.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => Connection::open(path, Role::Driver, ANSWER).ok()?.0,
        };
        match ask(&mut connection, epoch) {
            Ok(answer) => {
                *held = Some(connection);
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(%error, "an errand is not run");
                None
            }
        }
    }

    fn errand(&self, name: &str, runner: Option<u32>, errand: &Errand) -> bool {
        let at = u8::try_from(PRIVATE).unwrap_or_default();
        let outcome = self.ask(|connection, epoch| {
            let runner = match runner {
                Some(runner) => runner,
                None => connection.runner(epoch)?,
            };
            connection.errand(epoch, runner, (name, at), errand, ERRAND)
        });
        match outcome {
            Some(Outcome { errno: 0, .. }) => true,
            Some(Outcome { errno, .. }) => {
                tracing::warn!(name, errno, "an errand did not come to its end");
                false
            }
            None => false,
        }
    }
}

/// Runs blocking work for `custody`.
async fn run<T: Send + 'static>(
    custody: &Custody,
    work: impl FnOnce(&Inner) -> T + Send + 'static,
) -> Option<T> {
    let inner = Arc::clone(&custody.0);
    tokio::task::spawn_blocking(move || work(&inner)).await.ok()
}

#[async_trait]
impl Errands for Custody {
    async fn runner(&self) -> Option<u32> {
        run(self, |inner| inner.ask(Connection::runner)).await?
    }

    async fn rotate(&self, name: &str, runner: u32, generation: u32) -> bool {
        let name = name.to_owned();
        let errand = Errand::Rotate { generation };
        run(self, move |inner| inner.errand(&name, Some(runner), &errand)).await.unwrap_or_default()
    }

    async fn prime(&self, name: &str, names: Vec<String>) -> bool {
        let name = name.to_owned();
        // No name of ours holds a zero.
        let names = names.into_iter().filter_map(|name| CString::new(name).ok()).collect();
        let errand = Errand::Names(names);
        run(self, move |inner| inner.errand(&name, None, &errand)).await.unwrap_or_default()
    }
}
