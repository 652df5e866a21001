//! [`Log`]: what a child process writes to standard error, line by line, and when.

use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock as _, Moment, SystemClock};

/// The lines so far; it goes on until the process ends.
pub(super) struct Log(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    grew: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<(Moment, String)>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    /// Reads until the end, in a thread of its own.
    pub(super) fn follow(from: impl Read + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                writer.state().lines.push((SystemClock.now(), line));
                writer.grew.notify_all();
            }
            writer.state().ended = true;
            writer.grew.notify_all();
        });
        Self(shared)
    }

    /// Waits until a number of lines hold `part`; the last of them, and when it came. `None` when the process
    /// ended or the time is over.
    pub(super) fn wait(
        &self,
        part: &str,
        times: usize,
        within: Duration,
    ) -> Option<(Moment, String)> {
        let found = |state: &State| {
            let mut lines = state.lines.iter().filter(|(_, line)| line.contains(part));
            lines.nth(times.saturating_sub(1)).cloned()
        };
        let missing = |state: &mut State| !state.ended && found(state).is_none();
        let waited = self.0.grew.wait_timeout_while(self.0.state(), within, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        found(&state)
    }

    /// All of it.
    pub(super) fn text(&self) -> String {
        let lines = &self.0.state().lines;
        lines.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>().join("\n")
    }
}
