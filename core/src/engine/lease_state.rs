//! The lease: what a holder knows of its lock without asking.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;

use crate::clock::{Instant, nanos};
use crate::error::Loss;
use crate::key::LockName;
use crate::report::Mode;
use crate::store::{Hold, Reclaim, Token};

/// What is taken off a lease for clocks that run at different speeds: a hundredth and 2 ms.
pub(crate) fn margin(lease: Duration) -> Duration {
    lease / 100 + Duration::from_millis(2)
}

/// When a lease of `lease` that began at `sent` ends, by the holder's clock.
pub(crate) fn end(sent: Instant, lease: Duration) -> Instant {
    sent + lease.saturating_sub(margin(lease))
}

/// Shared by the holder and the renewal thread.
#[derive(Debug)]
pub(crate) struct LeaseState {
    pub(crate) name: LockName,
    pub(crate) token: Token,
    pub(crate) mode: Mode,
    pub(crate) fence: u64,
    /// Encoded [`crate::Identity`], for a server that may have to put the record back.
    identity: Option<Box<[u8]>>,
    /// In nanoseconds.
    ttl: AtomicU64,
    deadline: AtomicU64,
    /// Not renewed from here on.
    pub(crate) renew_until: Option<Instant>,
    /// Held during a renewal's round trip: two that overtake each other would leave a deadline here
    /// that the server does not keep.
    pub(crate) renewing: Mutex<()>,
    loss: OnceCell<Loss>,
}

impl LeaseState {
    pub(crate) fn new(
        name: LockName,
        token: Token,
        mode: Mode,
        fence: u64,
        identity: Option<Box<[u8]>>,
        ttl: Duration,
        renew_until: Option<Instant>,
    ) -> Self {
        let state = Self {
            name,
            token,
            mode,
            fence,
            identity,
            ttl: AtomicU64::new(0),
            deadline: AtomicU64::new(0),
            renew_until,
            renewing: Mutex::new(()),
            loss: OnceCell::new(),
        };
        state.set_ttl(ttl);
        state
    }

    /// What its holder says of it, now.
    pub(crate) fn hold(&self) -> Hold<'_> {
        let Self { name, token, mode, fence, .. } = self;
        let (mode, fence, until) = (*mode, *fence, self.deadline());
        let reclaim = self.identity.as_deref().map(|identity| Reclaim { mode, fence, identity, until });
        Hold { name, token, reclaim }
    }

    /// What is known of a loss when the server has said that it was held until it was given back. With a grace period it may
    /// have said so by this holder's word alone, which counts only while the lease is not over: others have been let in since,
    /// perhaps.
    pub(crate) fn loss_after_all(&self) -> Option<Loss> {
        self.identity.as_ref().and_then(|_| self.loss())
    }

    /// A lease of `lease` began at `sent`, the moment before the command left.
    pub(crate) fn extend(&self, sent: Instant, lease: Duration) {
        self.deadline.store(end(sent, lease).as_nanos(), Ordering::Release);
    }

    /// A lease of `lease` is about to be asked for. If it is shorter, it counts from now on: the
    /// server may set it and the answer be lost.
    pub(crate) fn shorten(&self, sent: Instant, lease: Duration) {
        self.deadline.fetch_min(end(sent, lease).as_nanos(), Ordering::AcqRel);
    }

    pub(crate) fn deadline(&self) -> Instant {
        Instant::from_nanos(self.deadline.load(Ordering::Acquire))
    }

    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_nanos(self.ttl.load(Ordering::Relaxed))
    }

    pub(crate) fn set_ttl(&self, ttl: Duration) {
        self.ttl.store(nanos(ttl), Ordering::Relaxed);
    }

    /// Records a loss that the server told; the first one stands. True if it was news. What the clock tells needs no record.
    pub(crate) fn lose(&self, loss: Loss) -> bool {
        !matches!(loss, Loss::Expired(_)) && self.loss.set(loss).is_ok()
    }

    /// What is known of a loss: told by the server, or by the clock.
    pub(crate) fn loss(&self) -> Option<Loss> {
        if let Some(loss) = self.loss.get() {
            return Some(loss.clone());
        }
        let (now, deadline) = (Instant::now(), self.deadline());
        (deadline <= now).then(|| Loss::Expired(now.since(deadline)))
    }
}
