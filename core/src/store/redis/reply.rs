//! What the scripts return, read.

use std::time::Duration;

use redis::Value;

use crate::clock::{Instant, millis, seconds};
use crate::error::Loss;
use crate::key::LockName;
use crate::report::{Holder, Identity, LockReport, Mode, Waiter};
use crate::store::machine::{BEAT, SLACK, is_heard_of};
use crate::store::{Attempt, Broken, Grant, Standing, Wake};

/// A number that is never negative.
pub(crate) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

/// What `acquire.lua` returns to a claim for `ttl`; `None` when it makes no sense.
pub(crate) fn attempt(value: &Value, ttl: Duration) -> Option<Attempt> {
    match value {
        Value::Int(fence) => Some(Attempt::Held(Grant { fence: unsigned(*fence), lease: ttl })),
        Value::Array(items) => match items.as_slice() {
            [Value::Int(fence), Value::BulkString(run)] if run == b"run" => {
                Some(Attempt::Covered { fence: unsigned(*fence) })
            }
            [Value::Int(place), Value::Int(-1), ..] => Some(Attempt::Unfinished { place: unsigned(*place) }),
            [
                Value::Int(place),
                Value::Int(left),
                Value::BulkString(holder),
                Value::Int(again),
                rest @ ..,
            ] => {
                let ahead = match rest {
                    [Value::Int(ahead), ..] => unsigned(*ahead),
                    _ => 0,
                };
                Some(Attempt::Busy {
                    place: unsigned(*place),
                    blocked_for: Duration::from_millis(unsigned(*left)),
                    holder: bare(holder).into(),
                    again: Duration::from_millis(unsigned(*again)),
                    ahead,
                })
            }
            _ => None,
        },
        _ => None,
    }
}

/// What `release.lua` and `break.lua` add to their answer when there is more to be done than one step may do.
const LEFT: i64 = 10;

/// What `release.lua` answers to the end of a run that counts, and to that of one that does not, when a later one does.
pub(crate) const COUNTS: i64 = 1;
pub(crate) const LATER: i64 = 5;

/// What a step answers, whether it has left work or not.
pub(crate) fn answer(value: &Value) -> Option<i64> {
    match value {
        Value::Int(answer @ 0..LEFT) => Some(*answer),
        Value::Int(answer) => Some(answer - LEFT),
        _ => None,
    }
}

/// Whether a release or a break has left work, with which a release is to go on, by whatever token.
pub(crate) fn is_unfinished(value: &Value) -> bool {
    matches!(value, Value::Int(LEFT..))
}

/// For how long, and in how many steps, whoever took the first goes on with what it has left. The dead are taken out of
/// a queue by some 200,000 a second; what is left then those do who wait, when they ask again.
const FINISHING: (Duration, u32) = (Duration::from_secs(1), 2000);

/// Takes one `step` after the other while that before it has left work, for a second at most. `is_unfinished`: the first
/// one has.
pub(crate) fn finish(mut is_unfinished: bool, mut step: impl FnMut() -> bool) {
    let (limit, steps) = FINISHING;
    let end = Instant::now() + limit;
    for _ in 0..steps {
        if !is_unfinished || end.has_passed() {
            return;
        }
        is_unfinished = step();
    }
}

/// What `renew.lua` returns when the lock may be held by its holder's word alone.
const BY_WORD: i64 = 5;

/// Whether a lease was renewed by its holder's word alone, perhaps.
pub(crate) fn is_by_word(value: &Value) -> bool {
    answer(value) == Some(BY_WORD)
}

/// What `release.lua` returns when it was a waiter's.
const WAITED: i64 = 6;

/// Whether it was no holder's but a waiter's release.
pub(crate) fn waited(value: &Value) -> bool {
    answer(value) == Some(WAITED)
}

/// What `release.lua` and `renew.lua` return; `None` when it makes no sense.
pub(crate) fn standing(value: &Value) -> Option<Standing> {
    match answer(value)? {
        // Of a release: a later run covers whoever asked for this one.
        COUNTS | BY_WORD | WAITED => Some(Standing::Ours),
        2 => Some(Standing::Lost(Loss::Broken)),
        3 => Some(Standing::Lost(Loss::Forgotten)),
        4 => Some(Standing::Lost(Loss::Superseded)),
        _ => None,
    }
}

/// The fencing token that `renew.lua` has given, when it is greater than the one that it was to confirm.
pub(crate) fn given(value: &Value) -> Option<u64> {
    match value {
        Value::Int(given) if *given >= 2 * LEFT => u64::try_from(*given).ok(),
        _ => None,
    }
}

/// What `break.lua` returns, and whether a reply to an earlier try was lost, which may have been carried out;
/// `None` when it makes no sense.
pub(crate) fn broken(value: &Value, again: bool) -> Option<Broken> {
    match answer(value)? {
        1 => Some(Broken::Yes),
        3 | 4 if again => Some(Broken::Yes),
        0 | 4 => Some(Broken::Free),
        2 | 3 => Some(Broken::Another),
        _ => None,
    }
}

/// What a waiter reads from its mailbox.
pub(crate) fn mail(reply: &Value) -> Wake {
    let Value::Array(items) = reply else { return Wake::Retry };
    let [_, Value::BulkString(mail)] = items.as_slice() else { return Wake::Retry };
    Wake::read(mail)
}

/// What stands in a key is not what the scripts write there.
#[derive(Debug)]
pub(crate) struct NotALock;

/// A cursor over `word word … rest`, as the scripts write their records.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Result<&'a str, NotALock> {
        // An exclamation mark in place of a blank says something of the word behind it.
        let end = self.0.iter().position(|&b| b == b' ' || b == b'!').ok_or(NotALock)?;
        let (word, rest) = self.0.split_at_checked(end).ok_or(NotALock)?;
        self.0 = rest.get(1..).ok_or(NotALock)?;
        std::str::from_utf8(word).map_err(|_| NotALock)
    }

    fn number(&mut self) -> Result<u64, NotALock> {
        self.word()?.parse().map_err(|_| NotALock)
    }

    /// Until when a waiter is believed to live. Without a 0 before it, of version 0.1: when it was heard of, and it is every
    /// second.
    fn until(&mut self) -> Result<u64, NotALock> {
        let word = self.word()?;
        let time: u64 = word.parse().map_err(|_| NotALock)?;
        Ok(if word.starts_with('0') { time } else { time.saturating_add(millis(BEAT + SLACK)) })
    }
}

/// An identity without the number of a quorum's attempt.
fn bare(identity: &[u8]) -> &[u8] {
    let digits = identity.iter().take_while(|byte| byte.is_ascii_digit()).count();
    match identity.get(digits..) {
        Some([b' ', bare @ ..]) if digits > 0 => bare,
        _ => identity,
    }
}

/// Reads what `inspect.lua` returns; `None` when nobody holds the lock.
pub(crate) fn report(name: &LockName, value: &Value) -> Result<Option<LockReport>, NotALock> {
    let Value::Array(parts) = value else { return Err(NotALock) };
    let [
        Value::Int(now),
        Value::BulkString(state),
        expiries,
        readers,
        Value::Int(more_readers),
        waiting,
        Value::Int(more_waiting),
    ] = parts.as_slice()
    else {
        return Err(NotALock);
    };
    if state.is_empty() {
        return Ok(None);
    }
    let now = unsigned(*now);
    let mut fields = Fields(state);
    let kind = fields.word()?;
    if kind.starts_with('F') {
        return Ok(None);
    }
    let (_token, fence) = (fields.word()?, fields.number()?);
    let (since, start) = (fields.number()?, fields.number()?);
    let (lease, _previous) = (fields.number()?, fields.word()?);
    let begun = start / 1000;
    let expiry = begun.saturating_add(lease);
    // Later than now when the server's clock was set back: by so much common.lua will shorten what is left.
    let seen = now.max(begun);
    let left = |expiry: u64| Duration::from_millis(expiry.saturating_sub(seen));
    let (mut holders, mut more_holders) = (Vec::new(), 0);
    let mode = if kind.starts_with('X') {
        if expiry > seen {
            holders.push(Holder {
                identity: Identity::decode(bare(fields.0)),
                since: seconds(since),
                fence,
                lease_left: left(expiry),
            });
        }
        Mode::Exclusive
    } else if kind.starts_with('S') {
        more_holders = count(*more_readers);
        for (expiry, record) in items(expiries).zip(items(readers)) {
            let expiry = expiry.and_then(|e| std::str::from_utf8(e).ok()?.parse().ok()).unwrap_or(0);
            let mut fields = Fields(record.unwrap_or_default());
            if expiry <= seen {
                // Those who are not told of ran out before.
                more_holders = 0;
            } else if let (Ok(fence), Ok(since)) = (fields.number(), fields.number()) {
                holders.push(Holder {
                    identity: Identity::decode(bare(fields.0)),
                    since: seconds(since),
                    fence,
                    lease_left: left(expiry),
                });
            }
        }
        holders.sort_by_key(|h| h.fence);
        Mode::Shared
    } else {
        return Err(NotALock);
    };
    let Some(since) = holders.first().map(|first| first.since) else { return Ok(None) };
    let waiters = items(waiting)
        .filter_map(|record| {
            let mut fields = Fields(record?);
            let (until, wanted, place) = (fields.until().ok()?, fields.word().ok()?, fields.number().ok()?);
            is_heard_of(until, now).then(|| Waiter {
                identity: Identity::decode(bare(fields.0)),
                // A place is the moment of arrival.
                since: seconds(place),
                mode: if wanted.eq_ignore_ascii_case("s") { Mode::Shared } else { Mode::Exclusive },
            })
        })
        .collect();
    Ok(Some(LockReport {
        name: name.clone(),
        mode,
        fence,
        ttl: holders.iter().map(|h| h.lease_left).max().unwrap_or_default(),
        since,
        holders,
        waiters,
        more_holders,
        more_waiters: count(*more_waiting),
    }))
}

fn count(n: i64) -> usize {
    usize::try_from(n).unwrap_or_default()
}

/// What stands in a list; `None` where there is nothing.
fn items(value: &Value) -> impl Iterator<Item = Option<&[u8]>> {
    let list = if let Value::Array(list) = value { list.as_slice() } else { &[] };
    list.iter().map(|item| if let Value::BulkString(b) = item { Some(b.as_slice()) } else { None })
}
