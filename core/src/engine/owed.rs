//! A lock that is given back without waiting for the server's answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::common::Common;
use super::counters::count;
use super::lease::Lease;
use super::renewal::{Abandoned, Expected};
use crate::clock::Instant;
use crate::error::{Error, Loss, Result};
use crate::key::LockName;
use crate::store::{Parting, Standing};

/// If the answer has not been taken in by then, or within the command time-out if that is shorter, the background releases
/// the token, too: the release may have got lost with its connection.
const TAKEN_IN_AFTER: Duration = Duration::from_secs(1);

/// How a lock was given back by [`Lease::part`].
#[derive(Debug)]
pub enum Parted {
    /// With the server's answer.
    Done(Standing),
    /// It is still ours by the lease, as far as is known here, and the release is on its way.
    Owed(Owed),
}

/// What the server has not answered yet. It is taken in with the answer to this thread's next step on the same server, or by
/// [`Owed::settle`]. When that does not happen, or comes to no answer, the background goes on releasing, as it does after
/// [`Lease::release`]. To be used by the thread that has given the lock back, and by no forked child.
pub struct Owed {
    common: Arc<Common>,
    name: LockName,
    parting: Arc<Parting>,
    background: Arc<Abandoned>,
}

impl Lease {
    /// Gives the lock back as [`Lease::release`] does, and returns by what this machine knows of the lease: the release is
    /// sent and not waited for, where the store can do that, where this thread is not owed too many answers already, and
    /// where it was not acquired for a run.
    ///
    /// # Errors
    /// As [`Lease::release`], if it was waited for.
    pub fn part(self) -> Result<Parted> {
        let (common, state) = self.inside();
        if state.loss().is_some() || self.is_for_run() {
            return self.release().map(Parted::Done);
        }
        common.lanes.let_go(state);
        let Some(parting) = common.store.part(&state.hold()) else {
            return self.release().map(Parted::Done);
        };
        let abandoned = Abandoned::new(&state.name, &state.token, Expected::Nothing, state.ttl());
        let due = Instant::now() + TAKEN_IN_AFTER.min(common.command_timeout);
        let Some(background) = common.lanes.abandon_at(due, abandoned) else {
            // Nobody would see to it.
            common.store.settle(common.command_timeout);
            let answer = parting.answer().cloned().unwrap_or(Ok(Standing::Ours));
            if matches!(answer, Ok(Standing::Lost(_))) {
                count(&common.counters.lost);
            }
            self.hand_on();
            return answer.map(Parted::Done);
        };
        let (common, name) = (Arc::clone(common), state.name.clone());
        self.hand_on();
        Ok(Parted::Owed(Owed { common, name, parting, background }))
    }
}

impl Owed {
    /// The lock's name.
    pub fn name(&self) -> &LockName {
        &self.name
    }

    /// Whether this process is the one that gave it back.
    pub fn is_own(&self) -> bool {
        self.common.is_own()
    }

    /// What the server has answered, once that has been taken in; to be asked until then. No I/O.
    pub fn answer(&self) -> Option<Result<Standing>> {
        let answer = match self.parting.answer()?.clone() {
            // The background has told the server before, perhaps, and others have come since.
            Ok(Standing::Lost(Loss::Superseded)) if self.background.may_have_released() => Ok(Standing::Ours),
            answer => answer,
        };
        if answer.is_ok() {
            self.common.lanes.spare(&self.background);
        } else {
            self.common.lanes.hurry(&self.background);
        }
        match &answer {
            Ok(Standing::Ours) => {}
            Ok(Standing::Lost(_)) => count(&self.common.counters.lost),
            Err(_) => count(&self.common.counters.errors),
        }
        match answer {
            // The background goes on until another server has the lock.
            Err(Error::FailingOver { .. }) => Some(Ok(Standing::Ours)),
            answer => Some(answer),
        }
    }

    /// Waits until all answers of this engine that this thread is owed have been taken in: for one command time-out; and for
    /// as long as a release takes on top, when a connection has broken.
    pub fn settle(&self) {
        self.common.store.settle(self.common.command_timeout);
    }
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owed").field("name", &self.name).finish_non_exhaustive()
    }
}
