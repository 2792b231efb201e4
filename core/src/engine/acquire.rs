//! From asking for a lock to a lease, or not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::common::Common;
use super::counters::count;
use super::lease::Lease;
use super::lease_state::LeaseState;
use super::wait::{Acquire, Granted, Wait, WaitOutcome};
use crate::clock::{Instant, nanos};
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::report::Blocker;
use crate::store::Token;

/// How asking for a lock ended, when nothing failed. Who keeps leases and interrupted claims in a table says in the place
/// of `L` and `P` by which entry it knows them.
#[derive(Debug)]
pub enum Acquired<L = Lease, P = Pending> {
    /// Held.
    Held {
        /// The lock; dropping it releases it.
        lease: L,
        /// How long it took.
        waited: Duration,
        /// Who was first seen to be in the way, when there was a wait.
        blocker: Option<Blocker>,
    },
    /// Of a claim [for a run](Acquire::run): a run is complete whose holder was let in after the claim came. Nothing is
    /// held.
    Covered {
        /// The fencing token of that run's holder.
        fence: u64,
        /// How long it took.
        waited: Duration,
        /// Who was first seen to be in the way.
        blocker: Option<Blocker>,
    },
    /// The time is up.
    TimedOut {
        /// How long it took.
        waited: Duration,
        /// Who was first seen to be in the way.
        blocker: Option<Blocker>,
    },
    /// [`Acquire::interrupted`] said so. The claim keeps its place while the interrupt is handled:
    /// go on with [`Engine::resume`](crate::Engine::resume), or drop it.
    Interrupted(P),
}

/// A claim that was interrupted in its wait. Its place is kept for about two seconds. Dropping it
/// takes it out of the queue: one round trip; none in a forked child. What is not answered then is settled in the
/// background.
#[derive(Debug)]
pub struct Pending {
    common: Arc<Common>,
    name: LockName,
    wait: Option<Wait>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(wait) = self.wait.take().filter(|_| self.common.is_own()) {
            wait.give_up(&self.common, &self.name);
        }
    }
}

impl Pending {
    /// Goes on waiting, in the same place.
    pub(super) fn resume(mut self, how: &Acquire<'_>) -> Result<Acquired> {
        let wait = self.wait.take().unwrap_or_else(|| Wait::new(Token::random()));
        go_on(&self.common, &self.name, wait, how)
    }

    /// Counts what was waited from now on.
    pub(super) fn begin_anew(&mut self) {
        if let Some(wait) = &mut self.wait {
            wait.started = Instant::now();
        }
    }
}

/// Asks for a lock, or goes on with that.
pub(super) fn go_on(
    common: &Arc<Common>,
    name: &LockName,
    mut wait: Wait,
    how: &Acquire<'_>,
) -> Result<Acquired> {
    if let Err(refused) = common.admit(how.ttl) {
        if wait.known || wait.converts > 0 {
            wait.give_up(common, name);
        }
        return Err(refused);
    }
    wait.ttl = how.ttl;
    let is_prompt = |due, left| common.lanes.is_prompt(name, due, left);
    let outcome = match wait.turn(&*common.store, name, how, &is_prompt) {
        Ok(WaitOutcome::Interrupted) => {
            return Ok(Acquired::Interrupted(Pending {
                common: Arc::clone(common),
                name: name.clone(),
                wait: Some(wait),
            }));
        }
        Ok(WaitOutcome::Unfinished) => {
            // It is in the queue, or has been let in just now.
            wait.give_up(common, name);
            Ok(WaitOutcome::TimedOut)
        }
        outcome => outcome,
    };
    let waited = Instant::now().since(wait.started);
    if wait.blocker.is_some() {
        count(&common.counters.contended);
        let nanos = nanos(waited);
        common.counters.wait_nanos.fetch_add(nanos, Ordering::Relaxed);
        common.counters.wait_max_nanos.fetch_max(nanos, Ordering::Relaxed);
    }
    match outcome {
        Ok(WaitOutcome::Granted(granted)) => {
            count(&common.counters.acquired);
            let lease = hold(common, name, wait.token, how, &granted)?;
            Ok(Acquired::Held { lease, waited, blocker: wait.blocker })
        }
        Ok(WaitOutcome::Covered(fence)) => {
            count(&common.counters.covered);
            Ok(Acquired::Covered { fence, waited, blocker: wait.blocker })
        }
        Ok(_) => {
            count(&common.counters.timed_out);
            Ok(Acquired::TimedOut { waited, blocker: wait.blocker })
        }
        Err(error) => {
            count(&common.counters.errors);
            // The server may know us as a waiter, or even as the holder.
            wait.give_up(common, name);
            Err(error)
        }
    }
}

fn hold(
    common: &Arc<Common>,
    name: &LockName,
    token: Token,
    how: &Acquire<'_>,
    granted: &Granted,
) -> Result<Lease> {
    let Granted { grant, sent, due } = *granted;
    let renew_until = how.max_hold.map(|limit| Instant::now() + limit);
    let identity = common.grace.map(|_| how.who().into());
    let state = LeaseState::new(name.clone(), token, how.mode, grant.fence, identity, how.ttl, renew_until)
        .weighed(common.store.weighs_words());
    state.extend(sent, grant.lease);
    let lease = Lease::new(common, state, how.run);
    if how.auto_renew {
        // Dropping the lease on this path releases the lock.
        lease
            .keep_alive(due)
            .map_err(|e| Error::Invalid(format!("the renewal thread cannot be started: {e}")))?;
    }
    Ok(lease)
}

impl Lease {
    /// Converts to another mode, which like flock(2) is not atomic: when it has to wait, others
    /// may be let in between; when it fails, nothing is held any more. The fencing token is new.
    ///
    /// # Errors
    /// As [`Engine::acquire`](crate::Engine::acquire); [`Error::Lost`] when there was nothing left to convert.
    pub fn convert(self, how: &Acquire<'_>) -> Result<Acquired> {
        if let Some(loss) = self.loss() {
            let _ = self.release();
            return Err(Error::Lost(loss));
        }
        let (common, token) = self.hand_on();
        let believed_until = common.grace.map(|_| self.inside().1.deadline());
        let wait = Wait { converts: self.fence(), believed_until, ..Wait::new(token) };
        go_on(common, self.name(), wait, how)
    }
}
