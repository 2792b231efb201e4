//! `cluster_lock()` and the other functions on names: check the arguments, ask the request's table, say it in PHP's way.

use std::time::Duration;

use cluster_lock_core::{Acquired, Engine, Error, Lease, LockName, Loss, Mode, Result};

use super::leaving::telling;
use super::{Asked, Given, Request, Waiting, Wish, given_back, refused};
use crate::arguments::{self, Checked};
use crate::php::{self, Fiber, NO_FIBER};
use crate::reply::{Class, Reply, Value, int};
use crate::words::{self, Blocker, about};
use crate::{request, settings};

/// What `cluster_lock()` holds.
pub(super) struct Held {
    pub(super) id: u64,
    /// Whose it is: each fiber is its own, and what is not in a fiber is the request.
    pub(super) fiber: Fiber,
    pub(super) lease: Lease,
    /// Unlocks needed.
    pub(super) depth: u32,
    /// A run of this request is under way in it.
    pub(super) runs: bool,
}

/// `cluster_lock()`
pub(crate) fn lock(name: &[u8], timeout: Option<f64>, mode: i64, ttl: Option<f64>, resume: u64) -> Checked {
    let name = arguments::name(1, name)?;
    let timeout = arguments::timeout(2, timeout)?;
    let (mode, at_once) = arguments::mode(3, mode, true)?;
    let timeout = if at_once { Some(Duration::ZERO) } else { timeout };
    let wish = Wish::new(mode, timeout, arguments::ttl(4, ttl)?.unwrap_or_else(settings::ttl));
    let Asked { outcome, lost, log } = request::with(|request| request.lock(&name, &wish, resume));
    let answer = match outcome {
        Ok(Acquired::Held { lease: id, .. }) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Acquired::Interrupted(wait)) => Reply::again(wait),
        Ok(Acquired::Covered { .. } | Acquired::TimedOut { .. }) => {
            warn_lost(false.into(), &name, lost.as_ref())
        }
        Err(error) => Reply::failed(about(&name, error)),
    };
    Ok(telling(answer).log(log))
}

/// With the warning that an earlier hold was lost.
pub(super) fn warn_lost(reply: Reply, name: &LockName, earlier: Option<&Loss>) -> Reply {
    match earlier {
        Some(loss) => reply.warn(about(name, words::lost_before(loss))),
        None => reply,
    }
}

/// `cluster_unlock()`
pub(crate) fn unlock(name: &[u8]) -> Checked {
    let name = arguments::name(1, name)?;
    Ok(match given_back(&name, request::with(|request| request.unlock(&name, None))) {
        Ok(()) => telling(true.into()),
        Err((_, message)) => Reply::failed(message),
    })
}

/// The first half of `cluster_synchronized()`
pub(crate) fn enter(name: &[u8], timeout: Option<f64>, ttl: Option<f64>, resume: u64) -> Checked {
    let name = arguments::name(1, name)?;
    let timeout = arguments::timeout(3, timeout)?;
    let ttl = arguments::ttl(4, ttl)?.unwrap_or_else(settings::ttl);
    let wish = Wish::new(Mode::Exclusive, timeout, ttl);
    let Asked { outcome, lost, log } = request::with(|request| request.lock(&name, &wish, resume));
    let answer = match outcome {
        Ok(Acquired::Held { lease: id, .. }) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Acquired::Covered { waited, blocker, .. } | Acquired::TimedOut { waited, blocker }) => {
            let blocker = blocker.map(Blocker::Holder);
            Reply::throw(Class::Timeout, words::timed_out(&name, waited, blocker.as_ref()))
        }
        Ok(Acquired::Interrupted(wait)) => Reply::again(wait),
        Err(error) => Reply::throw(Class::of(&error), about(&name, error)),
    };
    Ok(answer.log(log))
}

/// The second half of `cluster_synchronized()`
pub(crate) fn leave(name: &[u8], id: u64) -> Checked {
    let name = arguments::name(1, name)?;
    let given = request::with(|request| request.unlock(&name, Some(id)));
    if matches!(given, Ok(Given::NotHeld)) {
        return Ok(Reply::throw(Class::Lost, about(&name, words::UNLOCKED_BY_CALLBACK)));
    }
    Ok(match given_back(&name, given) {
        Ok(()) => true.into(),
        Err((class, message)) => Reply::throw(class, message),
    })
}

/// `cluster_lock_fence()`
pub(crate) fn fence(name: &[u8]) -> Checked {
    let name = arguments::name(1, name)?;
    let fence =
        request::with(|request| request.lease(&name).filter(|lease| lease.is_held()).map(Lease::fence));
    Ok(fence.map_or(Value::Null, |fence| Value::Int(int(fence))).into())
}

impl Request {
    /// Acquires for `cluster_lock()` and those that nest in it. `resume` is the number of a wait that
    /// was interrupted, or 0.
    pub(crate) fn lock(&mut self, name: &LockName, wish: &Wish, resume: u64) -> Asked<u64> {
        let fiber = php::fiber();
        let waiting = self.waits.remove(&resume);
        let wish =
            &Wish { started: waiting.as_ref().map_or(wish.started, |waiting| waiting.started), ..*wish };
        if let Some(Waiting { pending, depth, id, .. }) = waiting {
            match self.locks.get_mut(name) {
                None => {
                    let asked = match pending {
                        Some(pending) => self.ask(wish, name, |how| Engine::resume(pending, how)),
                        None => self.claim(wish, name, None),
                    };
                    return self.keep(name, depth, id, asked);
                }
                // A signal handler has locked the name meanwhile, and keeps it: this nests in that, and so do the holds
                // that were being converted.
                Some(held) if held.fiber == fiber => {
                    held.depth = held.depth.saturating_add(depth.saturating_sub(1));
                    held.id = id.unwrap_or(held.id);
                }
                Some(_) => {}
            }
        }
        let Some(held) = self.locks.get_mut(name) else {
            return self.lock_anew(name, wish);
        };
        if php::in_coroutine() {
            return Err(Error::Coroutine).into();
        }
        if held.fiber != fiber && held.lease.is_held() {
            return refused(wish, Error::OtherFiber).into();
        }
        if let Some(loss) = held.lease.loss() {
            if let Some(held) = self.locks.remove(name) {
                // The server may still count it as ours, and would let us wait for ourselves.
                let _ = held.lease.release();
            }
            return Asked { lost: Some(loss), ..self.lock_anew(name, wish) };
        }
        if wish.mode == Mode::Shared || held.lease.mode() == Mode::Exclusive {
            held.depth += 1;
            let (lease, waited, blocker) = (held.id, Duration::ZERO, None);
            return Ok(Acquired::Held { lease, waited, blocker }).into();
        }
        self.convert(name, wish)
    }

    fn lock_anew(&mut self, name: &LockName, wish: &Wish) -> Asked<u64> {
        let asked = self.claim(wish, name, None);
        self.keep(name, 1, None, asked)
    }

    /// Shared to exclusive. Like flock(2): what was held is gone when it fails.
    fn convert(&mut self, name: &LockName, wish: &Wish) -> Asked<u64> {
        if let Some(why) = self.refusal(name, wish, None) {
            return refused(wish, why).into();
        }
        let Some(Held { id, lease, depth, .. }) = self.locks.remove(name) else {
            return self.lock_anew(name, wish);
        };
        let asked = self.ask(wish, name, |how| lease.convert(how));
        self.keep(name, depth.saturating_add(1), Some(id), asked)
    }

    /// Puts what was acquired into the table. `id`: it goes on being the same hold for those that
    /// know it by its number, a `cluster_synchronized()` around us.
    fn keep(&mut self, name: &LockName, depth: u32, id: Option<u64>, asked: Asked) -> Asked<u64> {
        let outcome = asked.outcome.map(|acquired| match acquired {
            Acquired::Held { lease, waited, blocker } => {
                let id = id.unwrap_or_else(|| self.new_id());
                self.locks.insert(name.clone(), Held { id, fiber: php::fiber(), lease, depth, runs: false });
                Acquired::Held { lease: id, waited, blocker }
            }
            Acquired::Covered { fence, waited, blocker } => Acquired::Covered { fence, waited, blocker },
            Acquired::TimedOut { waited, blocker } => Acquired::TimedOut { waited, blocker },
            Acquired::Interrupted(wait) => {
                if let Some(waiting) = self.waits.get_mut(&wait) {
                    (waiting.depth, waiting.id) = (depth, id);
                }
                Acquired::Interrupted(wait)
            }
        });
        Asked { outcome, lost: asked.lost, log: asked.log }
    }

    /// A fiber has ended: what it still holds is the request's.
    pub(crate) fn fiber_ended(&mut self, fiber: Fiber) {
        let held = self.locks.values_mut().filter(|held| held.fiber == fiber);
        held.for_each(|held| held.fiber = NO_FIBER);
    }

    /// Gives back what [`Request::lock`] acquired; with `id` only if it is still that entry.
    pub(crate) fn unlock(&mut self, name: &LockName, id: Option<u64>) -> Result<Given> {
        let fiber = php::fiber();
        let Some(held) = self.locks.get_mut(name).filter(|held| id.is_none_or(|id| id == held.id)) else {
            return Ok(Given::NotHeld);
        };
        if held.fiber != fiber {
            return Ok(Given::OtherFiber);
        }
        if held.depth > 1 {
            held.depth -= 1;
            return Ok(held.lease.loss().map_or(Given::Ours, Given::Lost));
        }
        match self.locks.remove(name) {
            // Who names the entry is to be told now: by an exception, or never.
            Some(held) if id.is_some() => held.lease.release().map(Given::from),
            Some(held) => self.leaving.give_back(held.lease),
            None => Ok(Given::NotHeld),
        }
    }

    /// The lease that `cluster_lock()` holds in this fiber, lost or not.
    pub(crate) fn lease(&self, name: &LockName) -> Option<&Lease> {
        self.hold(name).map(|(_, lease)| lease)
    }

    /// The lease that `cluster_lock()` holds in this fiber, and its entry, which is another one when the lock has been
    /// given back and taken again.
    pub(crate) fn hold(&self, name: &LockName) -> Option<(u64, &Lease)> {
        self.locks.get(name).filter(|held| held.fiber == php::fiber()).map(|held| (held.id, &held.lease))
    }
}
