//! What is done for a lock in the background: a lease is renewed, a turn that nobody has any more is given up.
//!
//! A lease is renewed when a third of it has passed, or sooner, as the store says. A token whose request got no answer may
//! be the holder without anybody knowing: so it is released until there is an answer, or the lease is over that it may have
//! got.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::Duration;

use super::counters::{Counters, count};
use super::lease_state::LeaseState;
use super::schedule::{Entry, Next};
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::key::LockName;
use crate::store::{Chore, Hold, Standing, Store, Token};

/// When a release that got no answer is tried again: often enough that whoever is next does not notice the wait.
const RELEASE_AGAIN: Duration = Duration::from_millis(250);

/// A request that was given up may be carried out so much later: it lay in the socket of a server that stood still, or on
/// a way that was cut.
const LATE: Duration = Duration::from_secs(60);

/// Whatever lease it may have got: for no longer than this, and [`LATE`], is a token released again and again.
const LONGEST: Duration = Duration::from_secs(600);

/// Releases have this much time when they compete with renewals.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

/// One thing to be done, as often as it takes.
#[derive(Clone, Debug)]
pub(super) enum Job {
    /// Keeps a lease alive.
    Renew(Arc<LeaseState>),
    /// Gives up a turn.
    Release(Arc<Abandoned>),
}

/// What may reach the server yet of a token that nobody has any more, so that its answer to a release is not the last word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Nothing.
    Nothing,
    /// Its acquire: that the server does not know the token says nothing.
    Acquire,
    /// A conversion: that the server has let go of what was to be converted says nothing either.
    Conversion,
}

/// A token that nobody has any more, and that the server may know.
#[derive(Debug)]
pub(super) struct Abandoned {
    name: LockName,
    token: Token,
    expected: Expected,
    since: Instant,
    /// By then whatever it got is over.
    until: Instant,
    /// How often the background has begun to release it.
    begun: AtomicU32,
    /// The first time, it was told that there was nothing to release.
    in_vain: AtomicBool,
}

impl Abandoned {
    /// Of a claim for `ttl`.
    pub(super) fn new(name: &LockName, token: &Token, expected: Expected, ttl: Duration) -> Self {
        let since = Instant::now();
        let until = since + ttl.min(LONGEST) + LATE;
        let (begun, in_vain) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { name: name.clone(), token: token.clone(), expected, since, until, begun, in_vain }
    }

    /// Whether the background may have been the one who released it.
    pub(super) fn may_have_released(&self) -> bool {
        self.begun.load(Ordering::Acquire) > 0 && !self.in_vain.load(Ordering::Acquire)
    }

    /// When it is to be released again, after this answer.
    fn after(&self, outcome: &Result<Standing>, now: Instant) -> Next {
        if matches!(outcome, Ok(Standing::Lost(_))) && self.begun.load(Ordering::Acquire) == 1 {
            self.in_vain.store(true, Ordering::Release);
        }
        let longer = now.since(self.since).max(RELEASE_AGAIN);
        let pause = match outcome {
            Ok(Standing::Lost(_)) if self.expected != Expected::Nothing => longer,
            Ok(Standing::Ours) if self.expected == Expected::Conversion => longer,
            Ok(_) => return Next::Done,
            // It will go on refusing, as long as nobody mends that.
            Err(Error::Server { .. }) => longer,
            Err(_) => RELEASE_AGAIN,
        };
        if now < self.until { Next::At(now + pause) } else { Next::Done }
    }
}

impl Job {
    pub(super) fn name(&self) -> &LockName {
        match self {
            Self::Renew(lease) => &lease.name,
            Self::Release(abandoned) => &abandoned.name,
        }
    }

    pub(super) fn renews(&self) -> bool {
        matches!(self, Self::Renew(_))
    }

    /// How long after a failure it is tried again.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Renew(lease) => retry_after(lease.ttl()),
            Self::Release(_) => RELEASE_AGAIN,
        }
    }
}

impl Entry for Job {
    fn id(&self) -> usize {
        match self {
            Self::Renew(lease) => id_of(lease),
            Self::Release(abandoned) => Arc::as_ptr(abandoned).addr(),
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        match self {
            Self::Renew(lease) => lease.deadline(),
            Self::Release(_) => now + RELEASE_WITHIN,
        }
    }
}

/// By which a lease is known while it is kept alive.
pub(super) fn id_of(lease: &Arc<LeaseState>) -> usize {
    Arc::as_ptr(lease).addr()
}

/// How long after a renewal that failed the next is tried: the lease is not lost before it has run out.
fn retry_after(ttl: Duration) -> Duration {
    (ttl / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
}

/// What the background threads do.
pub(super) trait Work: Send + Sync {
    /// The lane of a lock, now. No I/O.
    fn lane_of(&self, name: &LockName) -> usize;

    /// How many jobs are carried out in the time of one.
    fn at_once(&self) -> usize;

    /// Carries out jobs of one lane, so many at most, and tells for each, by its number, when its turn comes again. Those
    /// that it tells nothing of are carried out alone. True: the server has answered.
    fn carry_out(&self, jobs: &[Job], told: &mut dyn FnMut(usize, Next)) -> bool;
}

/// Does it, on a store.
pub(super) struct Upkeep {
    pub(super) store: Arc<dyn Store>,
    pub(super) counters: Arc<Counters>,
}

impl Work for Upkeep {
    fn lane_of(&self, name: &LockName) -> usize {
        self.store.lane_of(name)
    }

    fn at_once(&self) -> usize {
        self.store.at_once()
    }

    fn carry_out(&self, jobs: &[Job], told: &mut dyn FnMut(usize, Next)) -> bool {
        let sent = Instant::now();
        // What is sent, its number among the jobs, and for a lease the turn to renew it.
        let (mut chores, mut numbers, mut turns) = (Vec::new(), Vec::new(), Vec::new());
        for (number, job) in jobs.iter().enumerate() {
            match begin(job, sent) {
                Ok((chore, turn)) => {
                    chores.push(chore);
                    numbers.push(number);
                    turns.push(turn);
                }
                Err(next) => told(number, next),
            }
        }
        let mut answered = true;
        self.store.tend(&chores, &mut |i, outcome| {
            answered &= outcome.is_ok();
            let Some(number) = numbers.get(i).copied() else { return };
            let next = match (jobs.get(number), chores.get(i)) {
                (Some(Job::Renew(lease)), Some(Chore::Renew { ttl, .. })) => {
                    self.renewed(lease, *ttl, sent, outcome)
                }
                (Some(Job::Release(abandoned)), _) => abandoned.after(&outcome, Instant::now()),
                _ => return,
            };
            turns.get_mut(i).map(Option::take);
            told(number, next);
        });
        answered
    }
}

impl Upkeep {
    /// What follows from the answer to a renewal for `ttl` that was sent after `sent`.
    fn renewed(&self, lease: &LeaseState, ttl: Duration, sent: Instant, outcome: Result<Standing>) -> Next {
        match outcome {
            Ok(Standing::Ours) => {
                lease.extend(sent, ttl);
                count(&self.counters.renewals);
                Next::At(sent + self.store.renewed_for(&lease.token, ttl))
            }
            Ok(Standing::Lost(loss)) => {
                lease.lose(loss);
                Next::Done
            }
            Err(_) => {
                count(&self.counters.errors);
                Next::At(Instant::now() + retry_after(ttl))
            }
        }
    }
}

/// What is to be sent for a job, and the turn to renew its lease; or what follows when it is not its time.
fn begin(job: &Job, now: Instant) -> std::result::Result<(Chore<'_>, Option<MutexGuard<'_, ()>>), Next> {
    let lease = match job {
        Job::Renew(lease) => lease,
        Job::Release(abandoned) => {
            abandoned.begun.fetch_add(1, Ordering::AcqRel);
            return Ok((Chore::Release { hold: Hold::of(&abandoned.name, &abandoned.token) }, None));
        }
    };
    let turn = match lease.renewing.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        // Its holder is renewing it. The others do not wait for that; if it fails, there is time left.
        Err(TryLockError::WouldBlock) => return Err(Next::At(now + retry_after(lease.ttl()))),
    };
    if lease.loss().is_some() || lease.renew_until.is_some_and(|end| end <= now) {
        return Err(Next::Done);
    }
    Ok((Chore::Renew { hold: lease.hold(), ttl: lease.ttl() }, Some(turn)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, Loss};

    #[test]
    fn an_answer_is_the_last_word_unless_the_request_may_come_after_it() {
        let name = LockName::new(b"lock").unwrap();
        let second = Duration::from_secs(1);
        let after = |expected, outcome, waited: Duration| {
            let abandoned = Abandoned::new(&name, &Token::random(), expected, second);
            let now = abandoned.since + waited;
            match abandoned.after(&outcome, now) {
                Next::At(then) => Some(then.since(now)),
                Next::Alone(_) | Next::Done => None,
            }
        };
        let (ours, lost) = (|| Ok(Standing::Ours), || Ok(Standing::Lost(Loss::Superseded)));
        let server = || String::from("redis://here");
        let refused = || Err(Error::Server { server: server(), cause: "NOPERM".into() });
        let silent = || Err(Error::Connection { server: server(), cause: "no answer".into() });
        let (soon, again) = (Duration::from_millis(100), Some(RELEASE_AGAIN));
        for (expected, outcome, first, later) in [
            (Expected::Nothing, ours(), None, None),
            (Expected::Nothing, lost(), None, None),
            (Expected::Acquire, ours(), None, None),
            (Expected::Acquire, lost(), again, Some(8 * second)),
            (Expected::Conversion, ours(), again, Some(8 * second)),
            (Expected::Conversion, lost(), again, Some(8 * second)),
            (Expected::Nothing, silent(), again, again),
            (Expected::Nothing, refused(), again, Some(8 * second)),
        ] {
            let what = format!("{expected:?} {outcome:?}");
            assert_eq!(after(expected, outcome.clone(), soon), first, "{what}");
            assert_eq!(after(expected, outcome.clone(), 8 * second), later, "{what}");
            assert_eq!(after(expected, outcome, second + LATE), None, "{what}: its lease is over");
        }
    }
}
