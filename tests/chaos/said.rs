//! [`Said`]: what a reader tells the runner, a line each. A line is one write, so that all readers share a pipe.

use keyhole::clock::{Clock as _, Moment, SystemClock};
use serde::{Deserialize, Serialize};

/// Microseconds since boot: one clock for the runner and every reader.
pub fn now() -> u64 {
    micros(SystemClock.now())
}

pub fn micros(moment: Moment) -> u64 {
    moment.saturating_since(Moment::default()).as_micros() as u64
}

/// An operation: what it was, when it began and when it was answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Span {
    pub kind: String,
    pub began: u64,
    pub ended: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Said {
    /// Everything has been read once.
    Warm,
    /// Once a second, by a thread that touches no volume: operations so far, the latest version seen, and the
    /// operation that has been waiting longest, with its beginning.
    Beat { requests: u64, version: u64, oldest: Option<(String, u64)> },
    /// An operation that took at least [`WAITED`].
    Wait(Span),
    /// An operation failed.
    Error { span: Span, errno: i32, text: String },
    /// Bytes that are not Vault's.
    Wrong { kind: String, text: String },
    /// The last word.
    End { requests: u64, version: u64 },
}

/// What took less did not wait for anybody: microseconds.
pub const WAITED: u64 = 1000;

/// Prints it for the reader of this number.
pub fn say(number: u32, said: &Said) {
    let mut line = serde_json::to_string(&(number, said)).unwrap();
    line.push('\n');
    // Nobody listens any more: the reader is about to end as well.
    let _ = rustix::io::write(std::io::stdout(), line.as_bytes());
}
