//! What an engine has done, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an engine has done since it was made.
#[derive(Debug, Default)]
pub struct Counters {
    /// Locks acquired.
    pub acquired: AtomicU64,
    /// Acquisitions that found the lock taken.
    pub contended: AtomicU64,
    /// Acquisitions that ended by time-out.
    pub timed_out: AtomicU64,
    /// Locks found to be lost.
    pub lost: AtomicU64,
    /// Failed operations.
    pub errors: AtomicU64,
    /// Total time waited in contended acquisitions, in nanoseconds.
    pub wait_nanos: AtomicU64,
    /// The longest of these, in nanoseconds.
    pub wait_max_nanos: AtomicU64,
    /// Leases renewed.
    pub renewals: AtomicU64,
    /// Runs done here that are complete.
    pub runs: AtomicU64,
    /// Runs begun here that count for nobody: the work failed, or the lock was lost meanwhile.
    pub runs_failed: AtomicU64,
    /// Claims for a run that one done by somebody else covered.
    pub covered: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
