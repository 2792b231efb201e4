//! The clock of lease arithmetic: monotonic, and counting while the machine is suspended.
//!
//! A lease goes on running out on the server while this machine sleeps, so it is measured on
//! `CLOCK_BOOTTIME`. `std::time::Instant` is `CLOCK_MONOTONIC`, which stands still meanwhile.

use std::ops::{Add, Sub};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A point in time on `CLOCK_BOOTTIME`, in nanoseconds since boot. Comparable only on one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The present moment.
    pub fn now() -> Self {
        let t = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(t.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec).unwrap_or(0);
        Self(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// Nanoseconds since boot: what an atomic can hold.
    pub fn as_nanos(self) -> u64 {
        self.0
    }

    /// The inverse of [`Instant::as_nanos`].
    pub fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Time since `earlier`, or zero when that lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time until this moment, or zero when it has passed.
    pub fn remaining(self) -> Duration {
        self.since(Self::now())
    }

    /// Whether this moment has passed.
    pub fn has_passed(self) -> bool {
        self <= Self::now()
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(nanos(d)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(d)))
    }
}

/// A time in nanoseconds; at most what fits, which is 584 years.
pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A time in milliseconds, as scripts and records count it; at most 35 years, so that a sum of them fits a double.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(1 << 40)
}

/// Unix time in microseconds, by this machine's clock.
pub(crate) fn unix_micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or_default()
}

/// Microseconds in seconds, as reports tell Unix time.
#[allow(clippy::cast_precision_loss)] // microseconds since 1970 fit a double for 285 years
pub(crate) fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
