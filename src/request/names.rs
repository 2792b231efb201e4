//! The functions: check the arguments, ask the request's table, say it in PHP's way.

use std::time::Duration;

use cluster_lock_core::settings::read::{MAX_TTL, MIN_TTL};
use cluster_lock_core::{Broken, Error, LockName, Loss, Mode, Result};

use crate::info;
use crate::reply::{BadArgument, Class, Reply, Value, about};
use crate::request::{self, Asked, Given, Turn, Wish};
use crate::settings;

/// `LOCK_SH`, `LOCK_EX` and `LOCK_NB` as PHP has them on all platforms.
const LOCK_SH: i64 = 1;
const LOCK_EX: i64 = 2;
const LOCK_NB: i64 = 4;

/// The answer, or the argument at fault.
pub(crate) type Answer = std::result::Result<Reply, BadArgument>;

/// `cluster_lock()`
pub(crate) fn lock(name: &[u8], timeout: Option<f64>, mode: i64, ttl: Option<f64>, resume: u64) -> Answer {
    let name = name_argument(1, name)?;
    let timeout = timeout_argument(2, timeout)?;
    let (mode, at_once) = mode_argument(3, mode, true)?;
    let timeout = if at_once { Some(Duration::ZERO) } else { timeout };
    let wish = Wish::new(mode, timeout, ttl_argument(4, ttl)?.unwrap_or_else(default_ttl));
    let Asked { turn, lost, log, .. } = request::with(|request| request.lock(&name, &wish, resume));
    let answer = match turn {
        Ok(Turn::Held(id)) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Turn::Interrupted(wait)) => Reply::from(Value::Again).id(wait),
        Ok(Turn::TimedOut { .. }) => warn_lost(false.into(), &name, lost.as_ref()),
        Err(error) => Reply::failed(about(&name, error)),
    };
    Ok(answer.log(log))
}

/// Gives up a wait that was interrupted.
pub(crate) fn give_up(wait: u64) {
    let (_pending, taking) = request::with(|request| request.end_wait(wait));
    if let Some(taking) = taking {
        taking.abandon();
    }
}

fn warn_lost(reply: Reply, name: &LockName, earlier: Option<&Loss>) -> Reply {
    match earlier {
        Some(loss) => reply.warn(about(name, format_args!("it was held and is lost: {loss}"))),
        None => reply,
    }
}

/// `cluster_unlock()`
pub(crate) fn unlock(name: &[u8]) -> Answer {
    let name = name_argument(1, name)?;
    Ok(match given_back(&name, request::with(|request| request.unlock(&name, None))) {
        Ok(()) => true.into(),
        Err((_, message)) => Reply::failed(message),
    })
}

/// The end of a hold, in words.
pub(crate) fn given_back(name: &LockName, given: Result<Given>) -> std::result::Result<(), (Class, String)> {
    match given {
        Ok(Given::Ours) => Ok(()),
        Ok(Given::NotHeld) => Err((Class::Lock, about(name, "is not held by this request"))),
        Ok(Given::OtherFiber) => Err((
            Class::Lock,
            about(name, "is held by another fiber of this request, which alone can give it back"),
        )),
        Ok(Given::Lost(loss)) => {
            Err((Class::Lost, about(name, format_args!("was lost before it was released: {loss}"))))
        }
        Err(error) => Err((Class::of(&error), not_given_back(name, &error))),
    }
}

/// The server could not be told.
pub(crate) fn not_given_back(name: &LockName, error: &Error) -> String {
    about(name, format_args!("not given back, it comes free when its lease runs out: {error}"))
}

/// The first half of `cluster_synchronized()`
pub(crate) fn enter(name: &[u8], timeout: Option<f64>, ttl: Option<f64>, resume: u64) -> Answer {
    let name = name_argument(1, name)?;
    let timeout = timeout_argument(3, timeout)?;
    let ttl = ttl_argument(4, ttl)?.unwrap_or_else(default_ttl);
    let wish = Wish::new(Mode::Exclusive, timeout, ttl);
    let Asked { turn, lost, blocker, log } = request::with(|request| request.lock(&name, &wish, resume));
    let answer = match turn {
        Ok(Turn::Held(id)) => warn_lost(Reply::from(true).id(id), &name, lost.as_ref()),
        Ok(Turn::TimedOut { waited }) => {
            let by = blocker.map(|blocker| format!("; {blocker}")).unwrap_or_default();
            let message = format!("not acquired within {:.1} s{by}", waited.as_secs_f64());
            Reply::throw(Class::Timeout, about(&name, message))
        }
        Ok(Turn::Interrupted(wait)) => Reply::from(Value::Again).id(wait),
        Err(error) => Reply::throw(Class::of(&error), about(&name, error)),
    };
    Ok(answer.log(log))
}

/// The second half of `cluster_synchronized()`
pub(crate) fn leave(name: &[u8], id: u64) -> Answer {
    let name = name_argument(1, name)?;
    let given = request::with(|request| request.unlock(&name, Some(id)));
    if matches!(given, Ok(Given::NotHeld)) {
        let message = about(&name, "was unlocked, or lost and acquired again, by the callback");
        return Ok(Reply::throw(Class::Lost, message));
    }
    Ok(match given_back(&name, given) {
        Ok(()) => true.into(),
        Err((class, message)) => Reply::throw(class, message),
    })
}

/// `cluster_lock_fence()`
pub(crate) fn fence(name: &[u8]) -> Answer {
    let name = name_argument(1, name)?;
    let fence = request::with(|request| {
        request.lease(&name).filter(|lease| lease.is_held()).map(cluster_lock_core::Lease::fence)
    });
    Ok(fence.map_or(Value::Null, |fence| Value::Int(info::int(fence))).into())
}

/// `cluster_lock_break()`
pub(crate) fn break_lock(name: &[u8], fence: Option<i64>) -> Answer {
    let name = name_argument(1, name)?;
    let meant = fence.map(|fence| fence_argument(2, fence)).transpose()?;
    Ok(match settings::engine().and_then(|engine| engine.break_lock(&name, meant)) {
        Ok(broken) => (broken == Broken::Yes).into(),
        Err(error) => Reply::failed(about(&name, error)),
    })
}

/// A lock's name.
pub(crate) fn name_argument(number: u32, name: &[u8]) -> std::result::Result<LockName, BadArgument> {
    LockName::new(name).map_err(|error| BadArgument { number, message: error.to_string() })
}

/// A fencing token.
fn fence_argument(number: u32, fence: i64) -> std::result::Result<u64, BadArgument> {
    let fence = u64::try_from(fence).ok().filter(|fence| *fence > 0);
    fence.ok_or_else(|| BadArgument { number, message: "must be greater than or equal to 1".into() })
}

/// A wait; `None` is no limit.
pub(crate) fn timeout_argument(
    number: u32,
    timeout: Option<f64>,
) -> std::result::Result<Option<Duration>, BadArgument> {
    match timeout {
        None => Ok(settings::with(|settings| settings.values.timeout)),
        // Beyond what a Duration holds there is no limit, either.
        Some(seconds) if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        Some(_) => Err(BadArgument { number, message: "must be greater than or equal to 0".into() }),
    }
}

/// A lease; `None` is the setting.
pub(crate) fn ttl_argument(
    number: u32,
    ttl: Option<f64>,
) -> std::result::Result<Option<Duration>, BadArgument> {
    let Some(seconds) = ttl else { return Ok(None) };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|_| (MIN_TTL..=MAX_TTL).contains(&seconds))
        .map(Some)
        .ok_or_else(|| BadArgument {
            number,
            message: format!("must be between {MIN_TTL} and {MAX_TTL} seconds"),
        })
}

/// The lease of php.ini.
pub(crate) fn default_ttl() -> Duration {
    settings::with(|settings| settings.values.ttl)
}

/// A mode, and whether not to wait.
pub(crate) fn mode_argument(
    number: u32,
    mode: i64,
    may_not_wait: bool,
) -> std::result::Result<(Mode, bool), BadArgument> {
    let at_once = may_not_wait && mode & LOCK_NB != 0;
    match if at_once { mode & !LOCK_NB } else { mode } {
        LOCK_EX => Ok((Mode::Exclusive, at_once)),
        LOCK_SH => Ok((Mode::Shared, at_once)),
        _ => {
            let optionally = if may_not_wait { ", optionally with LOCK_NB" } else { "" };
            let message = format!("must be LOCK_EX or LOCK_SH{optionally}");
            Err(BadArgument { number, message })
        }
    }
}
