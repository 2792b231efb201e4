//! How a lock is wanted, and the wait for it.

use std::borrow::Cow;
use std::time::Duration;

use super::common::{Common, FAIL_OVER};
use super::lease_state;
use super::renewal::{Abandoned, Expected};
use crate::clock::{Instant, millis};
use crate::error::{Error, Loss, Result};
use crate::key::LockName;
use crate::report::{Blocker, Identity, Mode};
use crate::store::machine::{BEAT, SLACK, SLACK_MOST};
use crate::store::{Attempt, Claim, Grant, IfBusy, Standing, Store, Token, Wake};

/// For how long a last try goes on while its steps are [unfinished](Attempt::Unfinished).
const LAST_TRY: Duration = Duration::from_secs(1);

/// So many unfinished steps in a row are repeated at once, and then each after a [pause](PAUSE).
const UNFINISHED: u32 = 1000;

/// Just after the blocking lease has run out is the time to find its holder dead.
const PAUSE: Duration = Duration::from_millis(5);

/// A lock that was handed over comes with a short lease (the waiter might have died). The
/// background thread makes it a full one after this delay, so that locks held for less never pay
/// the round trip.
const CONFIRM_AFTER: Duration = Duration::from_millis(50);

/// With less than this left of the short lease the waiter confirms itself, at once. So it does when the background
/// thread is behind, or its server in trouble.
const CONFIRM_NOW: Duration = Duration::from_millis(500);

/// After a wait whose connection broke: how long to hold off, at first and at most. It doubles with
/// every such wait in a row, so that where waiting is cut off (a proxy that forbids it, say) a waiter
/// asks twice a second instead of ten thousand times.
const HOLD_OFF: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(500));

/// How often an acquire whose lease is over before its answer arrives is asked again.
const TOO_LATE: u32 = 3;

/// How a lock is wanted.
#[derive(Clone, Copy)]
pub struct Acquire<'a> {
    /// Exclusive or shared.
    pub mode: Mode,
    /// It is wanted for a run: for what one holder does for all who want it done by then. Whoever waits is
    /// [covered](super::Acquired::Covered) by a run that is [complete](super::Lease::complete) and whose holder was let in
    /// after the claim came. Exclusive.
    pub run: bool,
    /// The longest wait; zero is one try, `None` is no limit.
    pub timeout: Option<Duration>,
    /// The lease: how long a dead holder blocks the others. At least 0.1 s.
    pub ttl: Duration,
    /// Whether the background thread keeps the lease alive.
    pub auto_renew: bool,
    /// After this long it no longer does. `None` is no limit.
    pub max_hold: Option<Duration>,
    /// Who asks, for reports: [`Identity::encode`].
    pub identity: &'a [u8],
    /// Looked at while waiting: whenever a signal arrives, and once a second.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Acquire<'_> {
    /// The claim that comes of it, at first.
    fn claim<'a>(&self, name: &'a LockName, token: &'a Token, identity: &'a [u8]) -> Claim<'a> {
        Claim {
            name,
            token,
            mode: self.mode,
            run: self.is_for_run(),
            ttl: self.ttl,
            identity,
            place: 0,
            converts: 0,
            slack: SLACK,
            attempt: 0,
        }
    }

    fn is_for_run(&self) -> bool {
        self.run && self.mode == Mode::Exclusive
    }

    /// Who asks, as servers are told.
    pub(super) fn who(&self) -> Cow<'_, [u8]> {
        if self.is_for_run() {
            Cow::Owned(Identity::for_run(self.identity).into_vec())
        } else {
            Cow::Borrowed(self.identity)
        }
    }
}

/// One acquisition, from its first try on.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) token: Token,
    pub(super) started: Instant,
    pub(super) place: u64,
    /// [`Claim::converts`].
    pub(super) converts: u64,
    /// With a grace period: when the lease is over that is to be converted. What the server knows of it by then may be by this
    /// holder's word alone, and others have been let in since.
    pub(super) believed_until: Option<Instant>,
    /// The lease that was asked for last.
    pub(super) ttl: Duration,
    /// The server has answered, and so may know the claim.
    pub(super) known: bool,
    pub(super) blocker: Option<Blocker>,
}

/// A lock that was given to a claim: its lease counts from `sent`, and its renewal is due at `due`.
pub(super) struct Granted {
    pub(super) grant: Grant,
    pub(super) sent: Instant,
    pub(super) due: Instant,
}

/// How a wait ended.
pub(super) enum WaitOutcome {
    Granted(Granted),
    /// By the run of the holder with this fencing token.
    Covered(u64),
    TimedOut,
    /// The time is up, and the claim may be in the queue, or have been let in just now.
    Unfinished,
    Interrupted,
}

/// When a waiter is to be heard of again.
#[derive(Default)]
struct Beat {
    /// How long the way to the server and back takes, as this wait has seen.
    distance: Duration,
}

impl Beat {
    /// After an attempt that `took` so long, and was told to ask `again` in so long: for how long to sleep first. What is
    /// asked at the end of a sleep arrives after twice the way there and back: for that the claim has slack from now on;
    /// where it had too little, because it was not known how far it is, it sleeps for less, or not at all. Whatever takes
    /// longer than there can be slack for is no distance: a server, or this process, that has too much to do must not be
    /// asked the more often.
    fn sleep(&mut self, claim: &mut Claim<'_>, took: Duration, again: Duration) -> Duration {
        self.distance = took.min(SLACK_MOST.saturating_sub(SLACK) / 2).max(self.distance * 7 / 8);
        let needed = SLACK + Duration::from_millis(2 * millis(self.distance));
        let lacking = needed.saturating_sub(claim.slack);
        claim.slack = needed;
        again.saturating_sub(lacking)
    }
}

fn too_slow(store: &dyn Store, ttl: Duration) -> Error {
    let cause = format!("answers take longer than the lease of {} s", ttl.as_secs_f64());
    Error::Connection { server: store.server().to_owned(), cause }
}

/// What an attempt has come to, if it was to convert a lease that is [believed in](Wait::believed_until) for so long.
fn doubted(attempt: Result<Attempt>, claim: &Claim<'_>, believed_until: Option<Instant>) -> Result<Attempt> {
    match (attempt, believed_until) {
        (Ok(Attempt::Held(_)), Some(until)) if claim.place == 0 && until.has_passed() => {
            Err(Error::Lost(Loss::Expired(Instant::now().since(until))))
        }
        (attempt, _) => attempt,
    }
}

impl Wait {
    /// One that begins now, and converts nothing.
    pub(super) fn new(token: Token) -> Self {
        Self {
            token,
            started: Instant::now(),
            place: 0,
            converts: 0,
            believed_until: None,
            ttl: Duration::ZERO,
            known: false,
            blocker: None,
        }
    }

    /// Takes a claim out of the server that has come to nothing. If that is not answered, or the answer is not the last
    /// word, because the claim may arrive yet, the background goes on with it.
    pub(super) fn give_up(&self, common: &Common, name: &LockName) {
        let expected = match (common.store.is_unsettled(&self.token), self.converts) {
            (false, _) => Expected::Nothing,
            (true, 0) => Expected::Acquire,
            (true, _) => Expected::Conversion,
        };
        let is_over = match common.store.give_up(name, &self.token) {
            Ok(Standing::Ours) => expected != Expected::Conversion,
            Ok(Standing::Lost(_)) => expected == Expected::Nothing,
            Err(_) => expected == Expected::Nothing && !self.known && self.converts == 0,
        };
        if !is_over {
            common.lanes.abandon(Abandoned::new(name, &self.token, expected, self.ttl));
        }
    }

    /// Asks for the lock, and sleeps while somebody else has it, until it is ours or the time is up. `is_prompt` says
    /// whether the background can be expected to renew in time what is due then and has so much left.
    pub(super) fn turn(
        &mut self,
        store: &dyn Store,
        name: &LockName,
        how: &Acquire<'_>,
        is_prompt: &dyn Fn(Instant, Duration) -> bool,
    ) -> Result<WaitOutcome> {
        let deadline = how.timeout.map(|timeout| Instant::now() + timeout);
        let (identity, place, converts) = (how.who(), self.place, self.converts);
        let mut claim = Claim { place, converts, ..how.claim(name, &self.token, &identity) };
        let (mut hold_off, mut failing_since) = (HOLD_OFF.0, None);
        let (mut too_late, mut unfinished) = (0, 0);
        let mut beat = Beat::default();
        loop {
            let sent = Instant::now();
            let last = deadline.is_some_and(|deadline| deadline <= sent);
            let if_busy = if last { IfBusy::GiveUp } else { IfBusy::Queue };
            let attempt = doubted(store.attempt(&claim, if_busy), &claim, self.believed_until);
            self.known |= attempt.is_ok();
            let (place, blocked_for, holder, again, ahead) = match attempt {
                // This process, or the server, stood still for longer than the lease: is it still ours?
                Ok(Attempt::Held(_)) if lease_state::end(sent, how.ttl).has_passed() => {
                    too_late += 1;
                    if too_late < TOO_LATE {
                        continue;
                    }
                    return Err(too_slow(store, how.ttl));
                }
                Ok(Attempt::Held(grant)) => {
                    return Ok(WaitOutcome::Granted(Granted { grant, sent, due: sent + how.ttl / 3 }));
                }
                Ok(Attempt::Busy { place, blocked_for, holder, again, ahead }) => {
                    (place, blocked_for, holder, again, ahead)
                }
                Ok(Attempt::Covered { fence }) => return Ok(WaitOutcome::Covered(fence)),
                Ok(Attempt::Unfinished { place }) => {
                    (claim.place, self.place) = (place, place);
                    if last && deadline.is_some_and(|deadline| (deadline + LAST_TRY).has_passed()) {
                        return Ok(WaitOutcome::Unfinished);
                    }
                    if (how.interrupted)() {
                        return Ok(WaitOutcome::Interrupted);
                    }
                    std::thread::sleep(if unfinished < UNFINISHED { Duration::ZERO } else { PAUSE });
                    unfinished += 1;
                    continue;
                }
                Err(error @ Error::FailingOver { .. }) => {
                    let since = *failing_since.get_or_insert(sent);
                    if last || (since + FAIL_OVER.1).has_passed() {
                        return Err(error);
                    }
                    if (how.interrupted)() {
                        return Ok(WaitOutcome::Interrupted);
                    }
                    std::thread::sleep(deadline.map_or(FAIL_OVER.0, |d| FAIL_OVER.0.min(d.remaining())));
                    continue;
                }
                Err(error) => return Err(error),
            };
            (failing_since, unfinished) = (None, 0);
            self.blocker.get_or_insert_with(|| Blocker { holder: Identity::decode(&holder), ahead });
            if last {
                return Ok(WaitOutcome::TimedOut);
            }
            claim.place = place;
            self.place = place;
            let mut slice = beat.sleep(&mut claim, Instant::now().since(sent), again);
            if slice.is_zero() && !(how.interrupted)() {
                continue;
            }
            // A dead holder is found by the first few of those who wait.
            if again <= BEAT {
                slice = slice.min(blocked_for + PAUSE);
            }
            if let Some(deadline) = deadline {
                slice = slice.min(deadline.remaining());
            }
            match store.await_grant(&claim, slice, how.interrupted) {
                Ok(Wake::Granted(mut grant)) => {
                    // The grant came after the attempt that found the lock busy, so its lease is
                    // counted from there. With too little left the next attempt confirms it. No more
                    // than what was asked for is believed in: the confirmation sets that.
                    grant.lease = grant.lease.min(how.ttl);
                    let left = (sent + grant.lease).remaining();
                    let due = Instant::now() + CONFIRM_AFTER;
                    if how.auto_renew && left > CONFIRM_NOW && is_prompt(due, left) {
                        return Ok(WaitOutcome::Granted(Granted { grant, sent, due }));
                    }
                    hold_off = HOLD_OFF.0;
                }
                Ok(Wake::Covered(fence)) => return Ok(WaitOutcome::Covered(fence)),
                Ok(Wake::Retry) => hold_off = HOLD_OFF.0,
                Ok(Wake::Interrupted) => return Ok(WaitOutcome::Interrupted),
                Err(refused @ Error::Server { .. }) => return Err(refused),
                // If the server is gone, the next attempt says so.
                Err(_) => {
                    std::thread::sleep(slice.min(hold_off));
                    hold_off = HOLD_OFF.1.min(hold_off * 2);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_far_away_asks_again_at_once_and_who_waits_for_long_in_vain_no_more_often() {
        let (name, token) = (LockName::new(b"lock").unwrap(), Token::random());
        let (mode, ttl, ms) = (Mode::Exclusive, BEAT, Duration::from_millis);
        for (took, at_first) in [(ms(0), BEAT), (ms(250), ms(500)), (ms(900), ms(0)), (ms(60_000), ms(0))] {
            let mut beat = Beat::default();
            let mut claim = Claim {
                name: &name,
                token: &token,
                mode,
                ttl,
                identity: b"",
                place: 0,
                converts: 0,
                slack: SLACK,
                run: false,
                attempt: 0,
            };
            assert_eq!(beat.sleep(&mut claim, took, BEAT), at_first, "{took:?}");
            assert!(claim.slack <= SLACK_MOST, "{:?}", claim.slack);
            for _ in 0..3 {
                assert_eq!(beat.sleep(&mut claim, took, BEAT), BEAT, "{took:?}");
            }
        }
    }
}
