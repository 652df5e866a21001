//! Time as the pure rooms see it: a [`Moment`] that they are given, never one that they ask for.
//!
//! See [`Clock`] first. Lease times count from boot and go on while the machine sleeps
//! (CLOCK_BOOTTIME), because Vault's do; the wall clock is only for file times and for display.

use std::ops::Add;
use std::time::{Duration, SystemTime};

/// A point in time: how long after boot it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Duration);

impl Moment {
    /// The moment that lies `after` the boot of the machine.
    pub const fn since_boot(after: Duration) -> Self {
        Self(after)
    }

    /// How long this moment lies after `earlier`; nothing when it does not.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(wait))
    }
}

/// Port: what time it is.
pub trait Clock: Send + Sync + 'static {
    /// Now, for leases and deadlines.
    fn now(&self) -> Moment;
    /// Now, for file times, certificates and display.
    fn wall(&self) -> SystemTime;
}

/// The machine's own clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Moment {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        let nanos = u32::try_from(time.tv_nsec).unwrap_or_default();
        Moment(Duration::new(seconds, nanos))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}
