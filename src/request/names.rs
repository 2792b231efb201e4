//! `cluster_lock()` and the other functions on names: check the arguments, ask the request's table, say it in PHP's way.

use std::time::Duration;

use cluster_lock_core::{LockName, Loss, Mode};

use super::{Asked, Given, Turn, Wish, given_back};
use crate::arguments::{self, Checked};
use crate::reply::{Class, Reply, Value, int};
use crate::words::{self, about};
use crate::{request, settings};

/// `cluster_lock()`
pub(crate) fn lock(name: &[u8], timeout: Option<f64>, mode: i64, ttl: Option<f64>, resume: u64) -> Checked {
    let name = arguments::name(1, name)?;
    let timeout = arguments::timeout(2, timeout)?;
    let (mode, at_once) = arguments::mode(3, mode, true)?;
    let timeout = if at_once { Some(Duration::ZERO) } else { timeout };
    let wish = Wish::new(mode, timeout, arguments::ttl(4, ttl)?.unwrap_or_else(settings::ttl));
    let Asked { turn, lost, log, .. } = request::with(|request| request.lock(&name, &wish, resume));
    let answer = match turn {
        Ok(Turn::Held(id)) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Turn::Interrupted(wait)) => Reply::again(wait),
        Ok(Turn::TimedOut { .. }) => warn_lost(false.into(), &name, lost.as_ref()),
        Err(error) => Reply::failed(about(&name, error)),
    };
    Ok(answer.log(log))
}

fn warn_lost(reply: Reply, name: &LockName, earlier: Option<&Loss>) -> Reply {
    match earlier {
        Some(loss) => reply.warn(about(name, words::lost_before(loss))),
        None => reply,
    }
}

/// `cluster_unlock()`
pub(crate) fn unlock(name: &[u8]) -> Checked {
    let name = arguments::name(1, name)?;
    Ok(match given_back(&name, request::with(|request| request.unlock(&name, None))) {
        Ok(()) => true.into(),
        Err((_, message)) => Reply::failed(message),
    })
}

/// The first half of `cluster_synchronized()`
pub(crate) fn enter(name: &[u8], timeout: Option<f64>, ttl: Option<f64>, resume: u64) -> Checked {
    let name = arguments::name(1, name)?;
    let timeout = arguments::timeout(3, timeout)?;
    let ttl = arguments::ttl(4, ttl)?.unwrap_or_else(settings::ttl);
    let wish = Wish::new(Mode::Exclusive, timeout, ttl);
    let Asked { turn, lost, blocker, log } = request::with(|request| request.lock(&name, &wish, resume));
    let answer = match turn {
        Ok(Turn::Held(id)) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Turn::TimedOut { waited }) => {
            Reply::throw(Class::Timeout, about(&name, words::timed_out(waited, blocker.as_ref())))
        }
        Ok(Turn::Interrupted(wait)) => Reply::again(wait),
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
    let fence = request::with(|request| {
        request.lease(&name).filter(|lease| lease.is_held()).map(cluster_lock_core::Lease::fence)
    });
    Ok(fence.map_or(Value::Null, |fence| Value::Int(int(fence))).into())
}
