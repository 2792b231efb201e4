//! What this process has done without an engine, which counts the rest.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::reply::int;

/// Files written.
static WRITES: AtomicU64 = AtomicU64::new(0);
/// Files locked, and those of them by interception.
static FLOCKS: AtomicU64 = AtomicU64::new(0);
static INTERCEPTED: AtomicU64 = AtomicU64::new(0);

/// Counts a file written.
pub(crate) fn count_write() {
    WRITES.fetch_add(1, Ordering::Relaxed);
}

/// Counts a file locked.
pub(crate) fn count_flock(intercepted: bool) {
    FLOCKS.fetch_add(1, Ordering::Relaxed);
    INTERCEPTED.fetch_add(u64::from(intercepted), Ordering::Relaxed);
}

/// For the status.
pub(crate) fn all() -> [(&'static str, i64); 3] {
    [("writes", &WRITES), ("flocks", &FLOCKS), ("intercepted", &INTERCEPTED)]
        .map(|(name, counter)| (name, int(counter.load(Ordering::Relaxed))))
}
