//! Prints the story: one line a step, what happened and how long it took, and what there is to see.

use std::fmt::Display;
use std::io::{Stdout, Write as _, stdout};

use crate::clock::{Clock as _, Moment, SystemClock};

/// Prints to standard output.
pub(super) struct Teller {
    out: Stdout,
    since: Moment,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { out: stdout(), since: SystemClock.now() }
    }

    /// A step begins: its time counts from here.
    pub(super) fn begin(&mut self) {
        self.since = SystemClock.now();
    }

    /// A step is done.
    pub(super) fn step(&mut self, what: impl Display) -> std::io::Result<()> {
        let took = SystemClock.now().saturating_since(self.since).as_secs_f64() * 1000.0;
        writeln!(self.out, "{took:>9.1} ms  {what}")?;
        self.since = SystemClock.now();
        Ok(())
    }

    /// Something to look at, below the step.
    pub(super) fn show(&mut self, text: &str) -> std::io::Result<()> {
        for line in text.trim_end().lines() {
            writeln!(self.out, "              | {line}")?;
        }
        self.since = SystemClock.now();
        Ok(())
    }

    /// Something to say without a time.
    pub(super) fn say(&mut self, text: &str) -> std::io::Result<()> {
        writeln!(self.out, "\n{text}")?;
        self.since = SystemClock.now();
        Ok(())
    }
}
