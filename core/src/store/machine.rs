//! The rules of one lock as a state machine without I/O: what `scripts/*.lua` do in Redis.
//!
//! It is the local backend's engine, and the model against which the scripts are tested. Names
//! and order of the steps follow `common.lua`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Attempt, Broken, Claim, Grant, IfBusy, Reclaim, Standing};
use crate::clock::{millis, seconds};
use crate::error::Loss;
use crate::key::LockName;
use crate::report::{Holder, Identity, LockReport, Mode, Waiter};

/// The lease of a waiter that was handed the lock and has not confirmed yet (`GRANT`).
pub const GRANT_LEASE: Duration = Duration::from_millis(2200);

/// How often the first waiters of a queue are heard of (`BEAT`), and how many those are (`NEAR`).
pub const BEAT: Duration = Duration::from_secs(1);
const NEAR: usize = 16;

/// How often those far behind them are (`FAR`), in ms; and how much less often each than the one before it.
const FAR_MS: u64 = 35_000;
const LESS_OFTEN_MS: u64 = 30;

/// Who sleeps for longer than that is called up when it comes among the first (`LONG`), in ms.
const LONG_MS: u64 = 2000;

/// How much later than that is not yet too late for a waiter at no distance (`SLACK`).
pub const SLACK: Duration = Duration::from_millis(800);

/// How much later at most, whatever it says (`SLACK_MOST`).
pub const SLACK_MOST: Duration = Duration::from_secs(5);

/// How much a step on a server does at most (`WORK`): so many of the dead are taken out.
pub const WORK: i64 = 256;

/// To let somebody in counts as so many of them (`LETTING_IN`).
const LETTING_IN: i64 = 8;

/// The fencing tokens that a server of a quorum gives to readers are multiples of this, so that there is room for the number
/// of a server behind each.
pub const APART: u64 = 16;

/// A step that finds the lock taken buries so many, when it is of one who stands far back (`FEW`).
const FEW: i64 = 64;

/// Whether a step has work for those whom a run covers: so many of them are told, and enough is left of it to let
/// somebody in.
fn most_covered(work: i64) -> usize {
    if work > 0 { usize::try_from((work - LETTING_IN).max(1)).unwrap_or(usize::MAX) } else { 0 }
}

/// The moment of a step, and how much may be done in it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For leases, in ms: never set back.
    pub lease_ms: u64,
    /// For fencing tokens and reports: Unix time in µs.
    pub unix_us: u64,
    /// [`WORK`] on a server.
    pub work: i64,
    /// What is left of the server's grace period, where it has no record of the lock or one that was put back; else 0.
    pub grace_ms: u64,
}

/// Whether a waiter still counts as living at `now`, who is to be heard of again `until` then, in ms. When that is
/// further ahead than anybody is told, it is by another clock, which was set back since: whoever lives will be heard
/// of again.
pub(crate) fn is_heard_of(until: u64, now: u64) -> bool {
    until.checked_sub(now).is_some_and(|left| left <= FAR_MS + millis(SLACK_MOST))
}

/// In how many ms a waiter is to be heard of again that has so many before it.
fn interval_ms(rank: usize) -> u64 {
    let behind = u64::try_from(rank.saturating_sub(NEAR)).unwrap_or(u64::MAX);
    millis(BEAT).saturating_add(behind.saturating_mul(LESS_OFTEN_MS)).min(FAR_MS)
}

/// One lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Machine {
    fence: u64,
    writer: Option<Held>,
    readers: BTreeMap<String, Held>,
    queue: Vec<Queued>,
    previous: Previous,
    /// The fencing token of the newest run that is complete.
    #[serde(default, skip_serializing_if = "is_none")]
    run: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Held {
    token: String,
    fence: u64,
    expiry_ms: u64,
    since_us: u64,
    identity: Box<[u8]>,
    /// [`Claim::attempt`]: the newest that is known.
    #[serde(default, skip_serializing_if = "is_none")]
    attempt: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Queued {
    token: String,
    place: u64,
    /// Who is not heard of again by then is dead.
    until_ms: u64,
    /// It sleeps for long, and is to be called up.
    sleeps: bool,
    exclusive: bool,
    /// It waits for a run: [`Claim::run`].
    #[serde(default, skip_serializing_if = "is_false")]
    run: bool,
    identity: Box<[u8]>,
    /// As [`Held::attempt`].
    #[serde(default, skip_serializing_if = "is_none")]
    attempt: u64,
}

impl Held {
    fn is_alive(&self, now: Now) -> bool {
        self.expiry_ms > now.lease_ms
    }

    /// Whether it is given back by an attempt of its token that is not older.
    fn yields_to(&self, claim: &Claim<'_>, if_busy: IfBusy) -> bool {
        // What is held by the same attempt, or confirmed by it, stays: the question was put twice.
        if_busy == IfBusy::Yield && (claim.attempt == 0 || claim.attempt > self.attempt)
    }
}

impl Queued {
    fn is_dead(&self, now: Now) -> bool {
        !is_heard_of(self.until_ms, now.lease_ms)
    }
}

/// How the last holder before the present one ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Previous {
    #[default]
    Nobody,
    Released(String),
    Broken(String),
    BrokenReaders,
}

/// What a step asks its caller to do.
#[derive(Debug, PartialEq, Eq)]
pub struct Effects {
    /// Waiters to wake, with what they were granted.
    pub mail: Vec<(String, Grant)>,
    /// Waiters to wake, so that they ask again.
    pub called: Vec<String>,
    /// Waiters to tell that a run covers them, with its fencing token. They are no longer in the queue.
    pub covered: Vec<(String, u64)>,
    /// Waiters that are no longer in the queue and will get no mail.
    pub forgotten: Vec<String>,
    /// The step has done as much as it may, and somebody may wait who is next: a release, with whatever token,
    /// goes on with it, and so does an attempt.
    pub unfinished: bool,
    /// There are waiters left whom a run covers, and who were not told: a release, with whatever token, goes on with
    /// it.
    pub left_over: bool,
    /// How much it may still do.
    work: i64,
}

impl Effects {
    fn of(now: Now) -> Self {
        let (mail, called, covered, forgotten) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { mail, called, covered, forgotten, unfinished: false, left_over: false, work: now.work }
    }
}

impl Machine {
    /// `acquire.lua`.
    pub fn attempt(&mut self, now: Now, claim: &Claim<'_>, if_busy: IfBusy) -> (Attempt, Effects) {
        let mut effects = Effects::of(now);
        let me = text(claim.token.as_bytes());
        let exclusive = claim.mode == Mode::Exclusive;
        let expiry_ms = now.lease_ms + millis(claim.ttl);
        let held = |fence| Attempt::Held(Grant { fence, lease: claim.ttl });
        if self.is_overtaken(&me, claim.attempt) {
            return (told_nothing(claim.place, BEAT), effects);
        }
        let yielded = self.yields(&me, claim, if_busy);
        if let Some(writer) = self.writer.as_mut().filter(|w| w.token == me) {
            if exclusive {
                writer.expiry_ms = expiry_ms;
                writer.attempt = writer.attempt.max(claim.attempt);
                return (held(writer.fence), effects);
            }
            if writer.fence > claim.converts {
                return (late(claim, writer, now), effects);
            }
            self.writer = None;
            let fence = self.grant(now, &me, false, 0, (claim.identity, claim.attempt), claim.ttl);
            self.settle(now, None, &mut effects);
            return (held(fence), effects);
        }
        if let Some(reader) = self.readers.get_mut(&me) {
            if !exclusive {
                reader.expiry_ms = expiry_ms;
                reader.attempt = reader.attempt.max(claim.attempt);
                let fence = reader.fence;
                self.go_on(now, &mut effects);
                return (held(fence), effects);
            }
            if reader.fence > claim.converts {
                return (late(claim, reader, now), effects);
            }
            self.readers.remove(&me);
        }
        let queued = self.queue.iter().find(|w| w.token == me).filter(|_| if_busy != IfBusy::Yield);
        if let Some(queued) = queued.filter(|w| (w.exclusive, w.run) != (exclusive, claim.run)) {
            return (told_nothing(queued.place, BEAT), effects);
        }
        let known = queued.map_or(claim.place, |w| w.place);
        if claim.run && known == 0 && now.grace_ms > 0 && !yielded {
            // A record that is put back may have a fencing token that is greater than its rank.
            return (told_nothing(0, Duration::from_millis(now.grace_ms)), effects);
        }
        let place = if known == 0 { self.next_place(now, claim) } else { known };
        if claim.run && self.run > place {
            if self.forget(now, &me, &mut effects) || yielded {
                self.settle(now, None, &mut effects);
            }
            return (Attempt::Covered { fence: self.run }, effects);
        }
        self.queue.retain(|w| w.token != me);
        // Places that are equal go by token, as in a sorted set.
        let rank = self.queue.partition_point(|w| (w.place, &w.token) < (place, &me));
        let again_ms = interval_ms(rank);
        let slack_ms = millis(claim.slack.min(SLACK_MOST));
        self.queue.insert(
            rank,
            Queued {
                token: me.clone(),
                place,
                until_ms: now.lease_ms + again_ms + slack_ms,
                sleeps: again_ms > LONG_MS,
                exclusive,
                run: claim.run,
                identity: claim.identity.into(),
                attempt: claim.attempt,
            },
        );
        let mine = self.settle(now, Some((&me, claim.ttl)), &mut effects);
        if let Some(fence) = mine {
            return (held(fence), effects);
        }
        if (self.writer.is_some() || now.grace_ms > 0) && rank >= NEAR {
            let few = effects.work.min(FEW);
            let gone = self.bury(now, few, &mut effects);
            self.call_up(now, gone, &mut effects);
        }
        if if_busy == IfBusy::GiveUp && !effects.unfinished {
            self.forget(now, &me, &mut effects);
            self.settle(now, None, &mut effects);
        }
        if effects.unfinished {
            return (Attempt::Unfinished { place }, effects);
        }
        let blocking =
            self.writer.as_ref().or_else(|| self.readers.values().min_by_key(|r| (r.expiry_ms, &r.token)));
        let busy = Attempt::Busy {
            place,
            blocked_for: Duration::from_millis(
                blocking.map_or(0, |h| h.expiry_ms.saturating_sub(now.lease_ms)).max(now.grace_ms),
            ),
            holder: blocking.map(|h| h.identity.clone()).unwrap_or_default(),
            again: Duration::from_millis(again_ms),
            ahead: u64::try_from(rank).unwrap_or(u64::MAX),
        };
        (busy, effects)
    }

    /// Takes from a claim that yields what it holds: was there something?
    fn yields(&mut self, me: &str, claim: &Claim<'_>, if_busy: IfBusy) -> bool {
        let wrote = self.writer.take_if(|writer| writer.token == me && writer.yields_to(claim, if_busy));
        let read = self.readers.get(me).is_some_and(|reader| reader.yields_to(claim, if_busy));
        wrote.is_some() || (read && self.readers.remove(me).is_some())
    }

    /// The rank of a claim that comes now. Ranks and fencing tokens are one order: whoever comes later has more than those
    /// who were let in before.
    fn next_place(&self, now: Now, claim: &Claim<'_>) -> u64 {
        let last = self.queue.last().map_or(0, |w| w.place).max(self.fence);
        let run = if claim.run { self.run } else { 0 };
        now.unix_us.max(last.max(run) + 1)
    }

    /// `release.lua`. `run`: the holder's run is complete, which was given this fencing token. `known` tells whether there
    /// was a record of this lock at all; `reclaim` is what a holder says whose lease is not over.
    pub fn release(
        &mut self,
        now: Now,
        token: &[u8],
        mut run: Option<u64>,
        reclaim: Option<&Reclaim<'_>>,
        known: bool,
    ) -> (Standing, Effects) {
        let mut effects = Effects::of(now);
        let me = text(token);
        if let Some(writer) = self.writer.take_if(|w| w.token == me) {
            if run == Some(writer.fence) {
                self.run = writer.fence;
            }
            self.previous = Previous::Released(me);
        } else if self.readers.remove(&me).is_some() {
            self.previous = Previous::Released(me);
        } else if let Some(held) = reclaim.filter(|held| self.believes(now, &me, held)) {
            self.forget(now, &me, &mut effects);
            self.writer = None;
            if held.mode == Mode::Exclusive {
                self.readers.clear();
            }
            self.fence = self.fence.max(held.fence);
            self.previous = Previous::Released(me);
            // Of a run those who came since may not know; its holder does.
            run = None;
        } else if !self.forget(now, &me, &mut effects) {
            let is_left = self.writer.is_none() || self.queue.iter().any(|w| w.run);
            if is_left && !self.queue.is_empty() {
                self.settle(now, None, &mut effects);
            }
            let standing = self.standing(&me, known);
            return (self.end_of_run(standing, run), effects);
        }
        self.settle(now, None, &mut effects);
        (self.end_of_run(Standing::Ours, run), effects)
    }

    /// What the end of a run is told, where any other release is told this.
    fn end_of_run(&self, standing: Standing, run: Option<u64>) -> Standing {
        match (run, standing) {
            (Some(run), _) if self.run >= run => Standing::Ours,
            // That it was released says nothing of the run.
            (Some(_), Standing::Ours) => Standing::Lost(Loss::Superseded),
            (_, standing) => standing,
        }
    }

    /// `renew.lua`, for a holder whose newest attempt was this one (0: it was not on a quorum); `reclaim` and `known` as for
    /// [`Machine::release`].
    pub fn renew(
        &mut self,
        now: Now,
        token: &[u8],
        ttl: Duration,
        attempt: u64,
        reclaim: Option<&Reclaim<'_>>,
        known: bool,
    ) -> (Standing, Effects) {
        let mut effects = Effects::of(now);
        let me = text(token);
        let believed = reclaim.filter(|said| self.believes(now, &me, said));
        let may_be = |mode| reclaim.is_none_or(|held| held.mode == mode);
        let writer = self.writer.as_mut().filter(|w| w.token == me && may_be(Mode::Exclusive));
        let reader = self.readers.get_mut(&me).filter(|_| may_be(Mode::Shared));
        let standing = match (writer.or(reader), believed) {
            (Some(held), _) => {
                held.expiry_ms = now.lease_ms + millis(ttl);
                held.attempt = held.attempt.max(attempt);
                if let Some(said) = reclaim.filter(|said| said.fence > held.fence) {
                    held.fence = said.fence;
                    self.fence = self.fence.max(said.fence);
                }
                self.go_on(now, &mut effects);
                Standing::Ours
            }
            (None, Some(said)) => {
                self.forget(now, &me, &mut effects);
                let held = Held {
                    token: me.clone(),
                    fence: said.fence,
                    expiry_ms: now.lease_ms + millis(ttl),
                    since_us: said.fence.min(now.unix_us),
                    identity: said.identity.into(),
                    attempt,
                };
                self.fence = self.fence.max(said.fence);
                (self.writer, self.readers) = match said.mode {
                    Mode::Exclusive => (Some(held), BTreeMap::new()),
                    Mode::Shared => {
                        let mut readers = std::mem::take(&mut self.readers);
                        readers.insert(me, held);
                        (None, readers)
                    }
                };
                Standing::Ours
            }
            (None, _) => match self.standing(&me, known) {
                Standing::Ours => Standing::Lost(Loss::Superseded),
                lost @ Standing::Lost(_) => lost,
            },
        };
        (standing, effects)
    }

    /// `break.lua`.
    pub fn break_lock(&mut self, now: Now, meant: Option<u64>) -> (Broken, Effects) {
        let mut effects = Effects::of(now);
        let writes = self.writer.as_ref().is_some_and(|writer| writer.is_alive(now));
        let reads = self.readers.values().any(|reader| reader.is_alive(now));
        let silent = now.grace_ms > 0
            && meant.is_none_or(|meant| self.fence < meant && meant <= now.unix_us + 1_000_000);
        if !silent && (writes || reads) && meant.is_some_and(|meant| meant != self.fence) {
            return (Broken::Another, effects);
        }
        let mut broken = Broken::Yes;
        if let Some(writer) = self.writer.take_if(|_| writes) {
            self.previous = Previous::Broken(writer.token);
        } else if reads {
            self.readers.clear();
            self.previous = Previous::BrokenReaders;
        } else {
            broken = Broken::Free;
        }
        let mut now = now;
        if silent {
            // Whoever may hold it, of whom nothing is known, is broken with the others.
            broken = Broken::Yes;
            (self.writer, self.fence) = (None, self.fence.max(meant.unwrap_or_default()));
            self.readers.clear();
            if !writes || meant.is_some() {
                self.previous = Previous::BrokenReaders;
            }
            if meant.is_none() {
                now.grace_ms = 0;
            }
        }
        self.settle(now, None, &mut effects);
        (broken, effects)
    }

    /// `inspect.lua`, read: no more than `most` holders and `most` waiters are told of.
    pub fn report(&self, now: Now, name: &LockName, most: usize) -> Option<LockReport> {
        let mut held: Vec<&Held> =
            self.writer.iter().chain(self.readers.values()).filter(|h| h.is_alive(now)).collect();
        let more_holders = held.len().saturating_sub(most);
        held.sort_by_key(|h| std::cmp::Reverse((h.expiry_ms, &h.token)));
        held.truncate(most);
        held.sort_by_key(|h| h.fence);
        let holders: Vec<Holder> = held
            .into_iter()
            .map(|h| Holder {
                identity: Identity::decode(&h.identity),
                since: seconds(h.since_us),
                fence: h.fence,
                lease_left: Duration::from_millis(h.expiry_ms - now.lease_ms),
            })
            .collect();
        Some(LockReport {
            name: name.clone(),
            mode: if self.writer.is_some() { Mode::Exclusive } else { Mode::Shared },
            fence: self.fence,
            ttl: holders.iter().map(|h| h.lease_left).max()?,
            since: holders.first()?.since,
            holders,
            waiters: self
                .queue
                .iter()
                .take(most)
                .filter(|w| !w.is_dead(now))
                .map(|w| Waiter {
                    identity: Identity::decode(&w.identity),
                    since: seconds(w.place),
                    mode: if w.exclusive { Mode::Exclusive } else { Mode::Shared },
                })
                .collect(),
            more_holders,
            more_waiters: self.queue.len().saturating_sub(most),
        })
    }

    /// Grows with everyone who is let in.
    pub fn fence(&self) -> u64 {
        self.fence
    }

    /// The fencing token of the newest run that is complete; 0: there was none.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Nobody holds it and nobody waits.
    pub fn is_idle(&self) -> bool {
        self.writer.is_none() && self.readers.is_empty() && self.queue.is_empty()
    }

    /// Nobody has held it or waited for it for so long. Whoever was killed is still in the record.
    pub fn is_over(&self, now: Now, retain: Duration) -> bool {
        let over = |end_ms: u64| end_ms + millis(retain) <= now.lease_ms;
        self.writer.iter().chain(self.readers.values()).all(|holder| over(holder.expiry_ms))
            && self.queue.iter().all(|waiter| over(waiter.until_ms))
    }

    /// The tokens of those who wait.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.queue.iter().map(|waiter| waiter.token.as_str())
    }

    /// The clock of the leases has begun anew (a reboot): no holder or waiter is left, but tokens
    /// go on growing.
    pub fn reboot(&mut self) {
        *self = Self { fence: self.fence, ..Self::default() };
    }

    /// The fencing token is `least` at least; `who`: an identity, and the number of its attempt on a quorum.
    fn grant(
        &mut self,
        now: Now,
        token: &str,
        exclusive: bool,
        least: u64,
        who: (&[u8], u64),
        ttl: Duration,
    ) -> u64 {
        let next = now.unix_us.max(self.fence + 1).max(least);
        self.fence = if exclusive || who.1 == 0 { next } else { next.next_multiple_of(APART) };
        let held = Held {
            token: token.to_owned(),
            fence: self.fence,
            expiry_ms: now.lease_ms + millis(ttl),
            since_us: now.unix_us,
            identity: who.0.into(),
            attempt: who.1,
        };
        if exclusive {
            self.writer = Some(held);
        } else {
            self.readers.insert(token.to_owned(), held);
        }
        self.fence
    }

    /// Whether one counts, of whom nothing is known here, as the holder that it says it is.
    fn believes(&self, now: Now, me: &str, held: &Reclaim<'_>) -> bool {
        let stands = match &self.previous {
            Previous::Nobody | Previous::BrokenReaders => false,
            Previous::Released(token) | Previous::Broken(token) => token == me,
        };
        let broken = matches!(self.previous, Previous::BrokenReaders);
        let beside_readers = held.mode == Mode::Shared && self.writer.is_none() && !broken;
        now.grace_ms > 0 && !stands && (held.fence > self.fence || beside_readers)
    }

    /// Whether a newer attempt of this token is known, or its release.
    fn is_overtaken(&self, me: &str, attempt: u64) -> bool {
        let writer = self.writer.as_ref().filter(|writer| writer.token == me);
        let held = writer.or_else(|| self.readers.get(me)).map(|held| held.attempt);
        let newest = held.or_else(|| self.queue.iter().find(|w| w.token == me).map(|w| w.attempt));
        let released = matches!(&self.previous, Previous::Released(token) if token == me);
        attempt > 0 && (released || newest.is_some_and(|newest| attempt < newest))
    }

    fn forget(&mut self, now: Now, token: &str, effects: &mut Effects) -> bool {
        let before = self.queue.len();
        self.queue.retain(|w| w.token != token);
        let found = self.queue.len() < before;
        if found {
            effects.forgotten.push(token.to_owned());
            // The same step may have called it up.
            effects.called.retain(|called| called != token);
            self.call_up(now, 1, effects);
        }
        found
    }

    fn settle(&mut self, now: Now, me: Option<(&str, Duration)>, effects: &mut Effects) -> Option<u64> {
        self.writer = self.writer.take().filter(|writer| writer.is_alive(now));
        self.drop_readers(now, effects);
        effects.unfinished |= !self.readers.is_empty() && effects.work <= 0;
        let (mut mine, mut gone) = (None, self.cover(effects));
        while now.grace_ms == 0 && self.writer.is_none() && !effects.unfinished {
            let Some(head) = self.queue.first() else { break };
            let living = !head.is_dead(now);
            if living && head.run && head.place < self.run {
                // It is one of those who are left.
                effects.unfinished = true;
                break;
            }
            if living && head.exclusive && !self.readers.is_empty() {
                break;
            }
            if effects.work <= 0 {
                effects.unfinished = true;
                break;
            }
            if !living {
                gone += self.bury(now, effects.work, effects);
                continue;
            }
            effects.work -= LETTING_IN;
            gone += 1;
            let head = self.queue.remove(0);
            let who = (&*head.identity, head.attempt);
            // Its run covers all who wait for one by now.
            let rank = self.queue.iter().rfind(|w| w.run).map_or(0, |w| w.place);
            let floor = if head.run { rank.max(self.run) + 1 } else { 0 };
            match me {
                Some((token, ttl)) if token == head.token => {
                    mine = Some(self.grant(now, token, head.exclusive, floor, who, ttl));
                }
                _ => {
                    let fence = self.grant(now, &head.token, head.exclusive, floor, who, GRANT_LEASE);
                    effects.mail.push((head.token, Grant { fence, lease: GRANT_LEASE }));
                }
            }
        }
        self.call_up(now, gone, effects);
        mine
    }

    /// Takes those out of the queue whom the newest run covers, the first of them: how many?
    fn cover(&mut self, effects: &mut Effects) -> usize {
        let (run, most, before) = (self.run, most_covered(effects.work), effects.covered.len());
        if run == 0 || most == 0 {
            return 0;
        }
        effects.left_over = false;
        self.queue.retain(|w| {
            let covered = w.run && w.place < run;
            let leaves = covered && effects.covered.len() - before < most;
            effects.left_over |= covered && !leaves;
            if leaves {
                effects.covered.push((w.token.clone(), run));
            }
            !leaves
        });
        let covered = effects.covered.len() - before;
        effects.work -= i64::try_from(covered).unwrap_or(i64::MAX);
        covered
    }

    /// Goes on where a step has left work, when nothing else is to be done.
    fn go_on(&mut self, now: Now, effects: &mut Effects) {
        if self.writer.is_none() && !self.queue.is_empty() {
            self.settle(now, None, effects);
        }
    }

    /// Takes the dead at the head of the queue out of it, `most` of them at most: how many?
    fn bury(&mut self, now: Now, most: i64, effects: &mut Effects) -> usize {
        let most = usize::try_from(most).unwrap_or(0);
        let dead = self.queue.iter().take(most).take_while(|waiter| waiter.is_dead(now)).count();
        effects.forgotten.extend(self.queue.drain(..dead).map(|waiter| waiter.token));
        effects.work -= i64::try_from(dead).unwrap_or(i64::MAX);
        dead
    }

    /// So many have gone from the head of the queue: calls up those who have come among the first.
    fn call_up(&mut self, now: Now, gone: usize, effects: &mut Effects) {
        let most_ms = now.lease_ms + millis(BEAT) + millis(SLACK_MOST);
        let come = self.queue.iter_mut().take(NEAR).skip(NEAR.saturating_sub(gone));
        for waiter in come.filter(|waiter| waiter.sleeps) {
            waiter.until_ms = waiter.until_ms.min(most_ms);
            waiter.sleeps = false;
            effects.called.push(waiter.token.clone());
        }
    }

    /// Takes out the readers whose leases have run out, those that did so first.
    fn drop_readers(&mut self, now: Now, effects: &mut Effects) {
        let mut over: Vec<(u64, String)> = self
            .readers
            .values()
            .filter(|reader| !reader.is_alive(now))
            .map(|reader| (reader.expiry_ms, reader.token.clone()))
            .collect();
        over.sort_unstable();
        over.truncate(usize::try_from(effects.work).unwrap_or(0));
        effects.work -= i64::try_from(over.len()).unwrap_or(i64::MAX);
        for (_, token) in over {
            self.readers.remove(&token);
        }
    }

    fn standing(&self, me: &str, known: bool) -> Standing {
        match &self.previous {
            Previous::Released(token) if token == me => Standing::Ours,
            Previous::Broken(token) if token == me => Standing::Lost(Loss::Broken),
            Previous::BrokenReaders => Standing::Lost(Loss::Broken),
            _ if !known => Standing::Lost(Loss::Forgotten),
            _ => Standing::Lost(Loss::Superseded),
        }
    }
}

/// No attempt of a quorum has come with it.
#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_none(attempt: &u64) -> bool {
    *attempt == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde asks
fn is_false(run: &bool) -> bool {
    !run
}

/// The answer to a claim that has to ask again, of which nothing else is told.
fn told_nothing(place: u64, blocked_for: Duration) -> Attempt {
    Attempt::Busy { place, blocked_for, holder: Box::default(), again: BEAT, ahead: 0 }
}

/// The answer to a request that was made before its claim's lock was converted, and arrives after that.
fn late(claim: &Claim<'_>, held: &Held, now: Now) -> Attempt {
    Attempt::Busy {
        place: claim.place,
        blocked_for: Duration::from_millis(held.expiry_ms.saturating_sub(now.lease_ms)),
        holder: held.identity.clone(),
        again: BEAT,
        ahead: 0,
    }
}

fn text(token: &[u8]) -> String {
    String::from_utf8_lossy(token).into_owned()
}
