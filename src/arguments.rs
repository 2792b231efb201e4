//! What PHP code has passed, checked: a value of ours, or the argument at fault.

use std::time::Duration;

use cluster_lock_core::settings::read::{MAX_TTL, MIN_TTL};
use cluster_lock_core::{LockName, Mode};

use crate::reply::{BadArgument, Reply};
use crate::settings;

/// `LOCK_SH`, `LOCK_EX` and `LOCK_NB` as PHP has them on all platforms.
const LOCK_SH: i64 = 1;
const LOCK_EX: i64 = 2;
const LOCK_NB: i64 = 4;

/// What was asked for, or the argument at fault. `number` is counted from 1.
pub(crate) type Checked<T = Reply> = Result<T, BadArgument>;

/// A lock's name.
pub(crate) fn name(number: u32, name: &[u8]) -> Checked<LockName> {
    LockName::new(name).map_err(|error| BadArgument { number, message: error.to_string() })
}

/// A wait; `None` is no limit.
pub(crate) fn timeout(number: u32, timeout: Option<f64>) -> Checked<Option<Duration>> {
    match timeout {
        None => Ok(settings::with(|settings| settings.values.timeout)),
        // Beyond what a Duration holds there is no limit, either.
        Some(seconds) if seconds >= 0.0 => Ok(Duration::try_from_secs_f64(seconds).ok()),
        Some(_) => Err(BadArgument { number, message: "must be greater than or equal to 0".into() }),
    }
}

/// A lease; `None` is the setting.
pub(crate) fn ttl(number: u32, ttl: Option<f64>) -> Checked<Option<Duration>> {
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

/// A mode, and whether not to wait.
pub(crate) fn mode(number: u32, mode: i64, may_not_wait: bool) -> Checked<(Mode, bool)> {
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

/// A fencing token.
pub(crate) fn fence(number: u32, fence: i64) -> Checked<u64> {
    let fence = u64::try_from(fence).ok().filter(|fence| *fence > 0);
    fence.ok_or_else(|| BadArgument { number, message: AT_LEAST_ONE.into() })
}

/// How many are wanted.
pub(crate) fn limit(number: u32, limit: i64) -> Checked<usize> {
    let limit = usize::try_from(limit).ok().filter(|limit| *limit > 0);
    limit.ok_or_else(|| BadArgument { number, message: AT_LEAST_ONE.into() })
}

const AT_LEAST_ONE: &str = "must be greater than or equal to 1";
