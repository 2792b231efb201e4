//! A lock in the hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::common::Common;
use super::counters::count;
use super::lease_state::LeaseState;
use super::renewal::{Abandoned, Expected};
use crate::clock::Instant;
use crate::error::{Error, Loss, Result};
use crate::key::LockName;
use crate::report::Mode;
use crate::store::{Standing, Token};
use crate::thread::lock;

/// While a server is being replaced: for how long who gives a lock back asks again. It must not be kept for long
/// from ending.
const LET_GO: Duration = Duration::from_secs(10);

/// A lock that is held, or was: it may be lost at any time, and knows it by its own clock.
/// Dropping it releases it, except in a forked child.
pub struct Lease {
    common: Arc<Common>,
    state: Arc<LeaseState>,
    released: AtomicBool,
    /// [`Acquire::run`](super::Acquire::run).
    run: bool,
}

impl Lease {
    pub(super) fn new(common: &Arc<Common>, state: LeaseState, run: bool) -> Self {
        Self { common: Arc::clone(common), state: Arc::new(state), released: AtomicBool::new(false), run }
    }

    /// Has the background thread keep it alive, from `due` on.
    pub(super) fn keep_alive(&self, due: Instant) -> std::io::Result<()> {
        self.common.lanes.keep(&self.state, due)
    }

    /// Keeps it no longer, and does not give it back: whoever has its token does.
    pub(super) fn hand_on(&self) -> (&Arc<Common>, Token) {
        self.released.store(true, Ordering::Relaxed);
        self.common.lanes.let_go(&self.state);
        (&self.common, self.state.token.clone())
    }

    /// [`Acquire::run`](super::Acquire::run).
    pub(super) fn is_for_run(&self) -> bool {
        self.run
    }

    pub(super) fn inside(&self) -> (&Arc<Common>, &Arc<LeaseState>) {
        (&self.common, &self.state)
    }

    /// The lock's name.
    pub fn name(&self) -> &LockName {
        &self.state.name
    }

    /// How it is held.
    pub fn mode(&self) -> Mode {
        self.state.mode
    }

    /// The fencing token: greater than that of every earlier holder of this name.
    pub fn fence(&self) -> u64 {
        self.state.fence
    }

    /// Whether the lease has not run out, by this machine's clock, and nothing is known of a loss.
    /// No round trip.
    pub fn is_held(&self) -> bool {
        self.state.loss().is_none()
    }

    /// What is known of a loss, without asking.
    pub fn loss(&self) -> Option<Loss> {
        self.state.loss()
    }

    /// What is left of the lease; zero when it is not held. No round trip.
    pub fn remaining(&self) -> Duration {
        if self.is_held() { self.state.deadline().remaining() } else { Duration::ZERO }
    }

    /// Sets the lease to `ttl` from now, and later renewals to `ttl`. One round trip.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a lease that is longer than the servers' grace period;
    /// [`Error::Lost`] when the lock is no longer ours, or the answer came after the new lease had run
    /// out; or the server cannot be reached, and the lease is what it was (or `ttl`, if that is less).
    pub fn refresh(&self, ttl: Duration) -> Result<()> {
        self.common.admit(ttl)?;
        self.common.persist(Instant::now() + self.remaining().min(LET_GO), |store| {
            let _one_at_a_time = lock(&self.state.renewing);
            if let Some(loss) = self.state.loss() {
                return Err(self.lost(loss));
            }
            let sent = Instant::now();
            self.state.shorten(sent, ttl);
            match store.renew(&self.state.hold(), ttl)? {
                Standing::Ours => {
                    self.state.set_ttl(ttl);
                    self.state.extend(sent, ttl);
                    let due = sent + store.renewed_for(&self.state.token, ttl);
                    self.common.lanes.reset(&self.state, due);
                    // An answer that was long on its way says what was.
                    self.state.loss().map_or(Ok(()), |loss| Err(self.lost(loss)))
                }
                Standing::Lost(loss) => Err(self.lost(loss)),
            }
        })
    }

    /// Asks the server whether the lock is still ours, and extends it by its own ttl. One round
    /// trip.
    ///
    /// # Errors
    /// As [`Lease::refresh`].
    pub fn verify(&self) -> Result<()> {
        self.refresh(self.state.ttl())
    }

    fn lost(&self, loss: Loss) -> Error {
        self.state.lose(loss.clone());
        Error::Lost(loss)
    }

    /// Gives the lock back; the next waiter is woken. One round trip. [`Standing::Lost`] when it
    /// was not ours throughout.
    ///
    /// # Errors
    /// The server cannot be reached: the background goes on trying until there is an answer, or the lease has run out by
    /// itself.
    pub fn release(self) -> Result<Standing> {
        self.give_back(false)
    }

    /// As [`Lease::release`], when the run for which the lock was acquired is complete: it covers all whose claims for a run
    /// came before this one was let in. [`Standing::Lost`]: it covers nobody, because the lock was not ours throughout.
    ///
    /// # Errors
    /// As [`Lease::release`]. Then it covers nobody, or those to whom it could be told, although nothing is known of a loss.
    pub fn complete(self) -> Result<Standing> {
        self.give_back(self.run)
    }

    fn give_back(&self, complete: bool) -> Result<Standing> {
        let standing = self.let_go(complete);
        if self.run {
            let counts = complete && !matches!(standing, Ok(Standing::Lost(_)));
            count(if counts { &self.common.counters.runs } else { &self.common.counters.runs_failed });
        }
        standing
    }

    fn let_go(&self, complete: bool) -> Result<Standing> {
        self.released.store(true, Ordering::Relaxed);
        self.common.lanes.let_go(&self.state);
        let known = self.state.loss();
        let told = match &known {
            // The server has said so: there is nothing to release.
            Some(Loss::Broken | Loss::Forgotten | Loss::Superseded) => Ok(Standing::Ours),
            // Beyond the end of the lease, too: the server knows whether that was needed.
            known => {
                let limit = if known.is_none() { LET_GO } else { Duration::ZERO };
                self.common.persist(Instant::now() + limit, |store| match known {
                    None if complete => store.complete(&self.state.hold(), self.fence()),
                    _ => store.release(&self.state.hold()),
                })
            }
        };
        if told.is_err() {
            // It may be held by nobody for as long as its lease lasts.
            let abandoned =
                Abandoned::new(self.name(), &self.state.token, Expected::Nothing, self.state.ttl());
            self.common.lanes.abandon(abandoned);
        }
        let standing = match (known, told) {
            (Some(loss), _) => Standing::Lost(loss),
            (None, told) => match (told?, self.state.loss_after_all()) {
                (Standing::Ours, Some(loss)) => Standing::Lost(loss),
                (told, _) => told,
            },
        };
        if matches!(standing, Standing::Lost(_)) {
            count(&self.common.counters.lost);
        }
        Ok(standing)
    }

    /// Whether this process is the one that acquired it (a forked child's copies are not its own).
    pub fn is_own(&self) -> bool {
        self.common.is_own()
    }

    /// Whether the background thread keeps it alive at present.
    pub fn is_renewed(&self) -> bool {
        self.is_held() && self.common.lanes.keeps(&self.state)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.released.load(Ordering::Relaxed) && self.is_own() {
            let _ = self.give_back(false);
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("name", self.name())
            .field("mode", &self.mode())
            .field("fence", &self.fence())
            .finish_non_exhaustive()
    }
}
