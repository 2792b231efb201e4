//! `cluster_coalesced()`: a run of the work that began after the call, done here or by somebody else.

use cluster_lock_core::{Acquired, Error, LockName, Mode, Result};

use super::names::{Held, warn_lost};
use super::{Asked, Given, Request, Wish, given_back, refused};
use crate::arguments::{self, Checked};
use crate::php;
use crate::reply::Reply;
use crate::words::{self, about};
use crate::{request, settings};

/// The first half of `cluster_coalesced()`. True with an id: the work is to be done, under the lock; without: somebody
/// else's run covers the call.
pub(crate) fn begin(name: &[u8], timeout: Option<f64>, ttl: Option<f64>, resume: u64) -> Checked {
    let name = arguments::name(1, name)?;
    let timeout = arguments::timeout(3, timeout)?;
    let wish = Wish::for_run(timeout, arguments::ttl(4, ttl)?.unwrap_or_else(settings::ttl));
    let Asked { outcome, lost, log } = request::with(|request| request.begin_run(&name, &wish, resume));
    let answer = match outcome {
        Ok(Acquired::Held { lease: id, .. }) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Acquired::Covered { .. }) => warn_lost(true.into(), &name, lost.as_ref()),
        Ok(Acquired::TimedOut { .. }) => warn_lost(false.into(), &name, lost.as_ref()),
        Ok(Acquired::Interrupted(wait)) => Reply::again(wait),
        Err(error) => Reply::failed(about(&name, error)),
    };
    Ok(answer.log(log))
}

/// The second half, when the work was done, which is `complete` or has failed; or it was `forgotten` to be done.
pub(crate) fn end(name: &[u8], id: u64, complete: bool, forgotten: bool) -> Checked {
    let name = arguments::name(1, name)?;
    let ended = request::with(|request| request.end_run(&name, id, complete));
    let reply = told(&name, ended, complete);
    Ok(if forgotten && reply.trouble.is_none() { reply.warn(about(&name, words::NOT_RUN)) } else { reply })
}

/// How a run has ended, for who has asked for it.
pub(super) fn told(name: &LockName, ended: Result<Given>, complete: bool) -> Reply {
    if matches!(ended, Ok(Given::NotHeld)) {
        return Reply::failed(about(name, words::UNLOCKED_BY_CALLBACK));
    }
    // Where the server cannot be told, and nothing is known of a loss, it is complete all the same for who asked for it.
    let done = complete && matches!(ended, Ok(Given::Ours) | Err(_));
    match given_back(name, ended) {
        Ok(()) => done.into(),
        Err((_, message)) => Reply::from(done).warn(message),
    }
}

impl Request {
    /// Acquires for a run. What `cluster_lock()` has acquired exclusively it nests in; inside a run it would wait for itself,
    /// or, where that nests, go on for ever: what the work saves may ask for the work.
    pub(super) fn begin_run(&mut self, name: &LockName, wish: &Wish, resume: u64) -> Asked<u64> {
        let nests = |held: &&Held| held.fiber == php::fiber() && held.lease.is_held();
        if let Some(held) = self.locks.get(name).filter(nests)
            && (held.runs || held.lease.mode() == Mode::Shared)
        {
            // Code that ran during an interrupted wait for it has acquired it.
            drop(self.take_place(resume));
            return refused(wish, Error::Deadlock).into();
        }
        let asked = self.lock(name, wish, resume);
        if let Ok(Acquired::Held { .. }) = asked.outcome
            && let Some(held) = self.locks.get_mut(name)
        {
            held.runs = true;
        }
        asked
    }

    /// Gives back what [`Request::begin_run`] acquired. A run that nests in another hold, or that has left one behind, covers
    /// nobody: the lock is held on.
    pub(super) fn end_run(&mut self, name: &LockName, id: u64, complete: bool) -> Result<Given> {
        let held = self.locks.get_mut(name).filter(|held| held.id == id && held.fiber == php::fiber());
        let Some(held) = held.filter(|held| held.runs) else {
            return self.unlock(name, Some(id));
        };
        held.runs = false;
        if held.depth > 1 || !complete {
            return self.unlock(name, Some(id));
        }
        match self.locks.remove(name) {
            Some(held) => held.lease.complete().map(Given::from),
            None => Ok(Given::NotHeld),
        }
    }
}
