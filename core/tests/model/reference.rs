//! What a server must know: the state machine, the mailboxes, and what eviction takes away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster_lock_core::store::machine::{BEAT, Effects, GRANT_LEASE, Machine, Now, SLACK_MOST};
use cluster_lock_core::store::{Attempt, Claim, IfBusy, Reclaim, Wake};
use cluster_lock_core::{Broken, Identity, LockName, LockReport, Mode, Standing};
use serde_json::Value;

/// The keys of one lock, as `common.lua` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Record,
    Queue,
    Waiters,
    Readers,
    Info,
    /// Those who wait for a run.
    Runners,
    /// The newest run that is complete.
    Run,
}

impl Part {
    pub(crate) const ALL: [Self; 7] =
        [Self::Record, Self::Queue, Self::Waiters, Self::Readers, Self::Info, Self::Runners, Self::Run];

    /// Those that histories lose one by one. (Without the queue nobody waits for a run either.)
    pub(crate) const LOST: [Self; 6] =
        [Self::Record, Self::Queue, Self::Waiters, Self::Readers, Self::Info, Self::Run];

    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Record => "",
            Self::Queue => ":q",
            Self::Waiters => ":w",
            Self::Readers => ":r",
            Self::Info => ":i",
            Self::Runners => ":o",
            Self::Run => ":d",
        }
    }
}

/// The longest that a waiter is believed to live, in ms: `FAR` and `SLACK_MOST` of `common.lua`.
const LONGEST_MS: u64 = 40_000;

/// How long a letter lies in its box that says that a run covers its reader: `RUN_MAIL` of `common.lua`.
const RUN_MAIL: Duration = Duration::from_secs(10);

/// So many holders, and so many waiters, are told of at most.
const TOLD: usize = 1000;

/// Of the exclusive holder. Of readers there is only the last step, as `start_us`.
#[derive(Clone, Copy, Default)]
struct Lease {
    start_us: u64,
    expiry_ms: u64,
    length_ms: u64,
}

/// The identity of each of a crowd.
pub(crate) const CROWD: &[u8] = b"{\"n\":\"crowd\"}";

/// What each of them wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exclusive,
    Shared,
    Run,
}

#[derive(Default)]
pub(crate) struct Reference {
    machine: Machine,
    known: bool,
    /// Waiters as they were when nothing was to be expected of them any more.
    forlorn: Vec<Value>,
    /// How long a grace period is, in ms; 0: there is none. When this server's is over; whether the record was put back in it.
    pub(crate) period_ms: u64,
    born_ms: Option<u64>,
    unsure: bool,
    lease: Lease,
    /// Unread mail: what was granted, or that it is to ask again, and the last ms in which it can be read.
    mail: BTreeMap<String, (Vec<Wake>, u64)>,
    /// Fencing tokens, and to whom the newest command gave them.
    pub(crate) grants: Vec<(u64, String)>,
    /// Whom the newest command has told that a run covers it, its rank, and the run.
    pub(crate) covers: Vec<(String, u64, u64)>,
}

impl Reference {
    /// What is left of the grace period, if it matters; it begins when it does first.
    fn look(&mut self, now: Now) -> Now {
        if self.period_ms == 0 || self.known && !self.unsure {
            return now;
        }
        let last = now.lease_ms + self.period_ms;
        let over = self.born_ms.filter(|over| *over <= last).unwrap_or(last);
        self.born_ms = Some(over);
        Now { grace_ms: over.saturating_sub(now.lease_ms), ..now }
    }

    pub(crate) fn attempt(&mut self, now: Now, claim: &Claim<'_>, if_busy: IfBusy) -> Attempt {
        let now = self.look(now);
        let me = text(claim.token.as_bytes());
        if self.anonymous_readers().contains(&me) {
            // A reader whose record was evicted has no fencing token to be told again: it is let in anew.
            self.edit(|machine| readers(machine).retain(|token, _| *token != me));
        }
        // Nor does anybody know what a waiter waits for whose record was evicted.
        let forgotten = |waiter: &&mut Value| waiter["token"] == *me && waiter["until_ms"] == 0;
        self.edit(|machine| {
            if let Some(waiter) = waiters(machine).iter_mut().find(forgotten) {
                waiter["exclusive"] = (claim.mode == Mode::Exclusive).into();
                waiter["run"] = claim.run.into();
            }
        });
        self.correct_clock(now);
        let before = self.json();
        let (answer, effects) = self.machine.attempt(now, claim, if_busy);
        // Who is heard of again, and keeps its place, keeps its mail, too.
        let waited = before["queue"].as_array().unwrap().iter().find(|waiter| waiter["token"] == *me);
        let again = waited.is_some_and(|waiter| {
            let place =
                if if_busy == IfBusy::Yield { claim.place } else { waiter["place"].as_u64().unwrap() };
            waiter["place"] == place && waiter["until_ms"] != 0
        });
        // A late request changes nothing, whether its token holds or waits.
        if overtaken(&before, &me, claim.attempt) {
            assert_eq!(self.json(), before, "an attempt that was overtaken");
            return answer;
        }
        if let Attempt::Covered { fence } = answer {
            let place = waited.filter(|_| if_busy != IfBusy::Yield).map(|w| w["place"].as_u64().unwrap());
            self.covers.push((me.clone(), place.unwrap_or(claim.place), fence));
            self.mail.remove(&me);
        }
        let holds = before["writer"]["token"] == *me || before["readers"].get(&me).is_some();
        let waits =
            |waiter: &Value| waiter["token"] == *me && waiter["exclusive"] != (claim.mode == Mode::Exclusive);
        let other = holds || before["queue"].as_array().unwrap().iter().any(waits);
        let unchanged = self.json() == before;
        let is_told_only = match answer {
            Attempt::Busy { place, .. } => other || place == 0,
            Attempt::Covered { .. } => true,
            Attempt::Held(_) | Attempt::Unfinished { .. } => false,
        };
        let late = unchanged && is_told_only;
        if !late {
            self.saved(now, &me);
        }
        if !again {
            self.mail.remove(&me);
        }
        self.post(now, &before, effects);
        if let Attempt::Held(grant) = answer {
            self.grants.push((grant.fence, me));
        }
        answer
    }

    pub(crate) fn release(
        &mut self,
        now: Now,
        token: &[u8],
        mut run: Option<u64>,
        reclaim: Option<&Reclaim<'_>>,
    ) -> Standing {
        let mut told = None;
        loop {
            let now = self.look(now);
            self.correct_clock(now);
            let before = self.json();
            let (standing, effects) = self.machine.release(now, token, run.take(), reclaim, self.known);
            if self.json() != before {
                self.saved(now, &text(token));
            }
            // Whoever released reads no more.
            self.mail.remove(&text(token));
            let unfinished = effects.unfinished || effects.left_over;
            self.post(now, &before, effects);
            // What a step has left is gone on with.
            let told = told.get_or_insert(standing);
            if !unfinished {
                return told.clone();
            }
        }
    }

    pub(crate) fn renew(
        &mut self,
        now: Now,
        token: &[u8],
        ttl: Duration,
        attempt: u64,
        reclaim: Option<&Reclaim<'_>>,
    ) -> Standing {
        let (now, me) = (self.look(now), text(token));
        self.correct_clock(now);
        if let Some(held) = reclaim.filter(|held| held.mode == Mode::Shared)
            && self.anonymous_readers().contains(&me)
        {
            // It says all that was evicted.
            self.edit(|machine| {
                let reader = &mut readers(machine)[&me];
                (reader["identity"], reader["since_us"]) = (held.identity.into(), 0.into());
                reader["fence"] = held.fence.into();
                let fence = machine["fence"].as_u64().unwrap().max(held.fence);
                machine["fence"] = fence.into();
            });
        }
        let before = self.json();
        let (standing, effects) = self.machine.renew(now, token, ttl, attempt, reclaim, self.known);
        if standing == Standing::Ours {
            self.saved(now, &text(token));
        }
        self.post(now, &before, effects);
        standing
    }

    pub(crate) fn break_lock(&mut self, now: Now, meant: Option<u64>) -> Broken {
        let mut now = self.look(now);
        self.correct_clock(now);
        let before = self.json();
        let silent = now.grace_ms > 0 && meant.is_none_or(|meant| self.machine.fence() < meant);
        let (broken, effects) = self.machine.break_lock(now, meant);
        if broken == Broken::Another {
            return broken;
        }
        if silent && meant.is_none() {
            now.grace_ms = 0;
        }
        if silent || self.known || !effects.mail.is_empty() {
            self.saved(now, "");
        }
        let unfinished = effects.unfinished || effects.left_over;
        self.post(now, &before, effects);
        if unfinished {
            self.release(now, b"whoever", None, None);
        }
        broken
    }

    pub(crate) fn report(&self, now: Now, name: &LockName) -> Option<LockReport> {
        // A report changes nothing; it tells what the next step would find.
        let (machine, known, lease) = (self.machine.clone(), self.known, self.lease);
        let mut seen = Self { machine, known, lease, ..Self::default() };
        seen.correct_clock(now);
        let mut report = seen.machine.report(now, name, TOLD)?;
        // Nothing is known of a reader whose record was evicted, except that it is there.
        report.holders.retain(|h| h.identity != Identity::default());
        report.since = report.holders.first()?.since;
        report.ttl = report.holders.iter().map(|h| h.lease_left).max()?;
        Some(report)
    }

    /// Mail that is too old is gone for good, also when the clock is set back afterwards.
    pub(crate) fn expire_mail(&mut self, now: Now) {
        self.mail.retain(|_, (_, last)| now.lease_ms <= *last);
    }

    /// Many come, and are never heard of again: their tokens, and the ms until which they count as living. `None` when
    /// nobody holds the lock, so that they would not have to wait.
    pub(crate) fn crowd(&mut self, now: Now, count: u64, kind: Kind) -> Option<(Vec<String>, u64)> {
        if !self.known || self.machine.report(now, &LockName::new(b"lock").unwrap(), 1).is_none() {
            return None;
        }
        let until_ms = now.lease_ms + 1800;
        let tokens: Vec<String> = (0..count).map(|i| format!("{:026}{i:06}", now.unix_us)).collect();
        let fence = self.machine.fence();
        self.edit(|machine| {
            let queue = waiters(machine);
            let last = queue.last().map_or(0, |w| w["place"].as_u64().unwrap());
            let first = now.unix_us.max(last + 1).max(fence + 1);
            for (i, token) in (0..).zip(&tokens) {
                queue.push(serde_json::json!({
                    "token": token, "place": first + i, "until_ms": until_ms, "sleeps": false,
                    "exclusive": kind != Kind::Shared, "run": kind == Kind::Run, "identity": CROWD,
                }));
            }
        });
        Some((tokens, until_ms))
    }

    /// The mail that a waiter finds.
    pub(crate) fn mail(&self, token: &[u8]) -> Option<Wake> {
        self.mail.get(&text(token)).and_then(|(letters, _)| letters.first().copied())
    }

    pub(crate) fn read_mail(&mut self, token: &[u8]) {
        let (letters, _) = self.mail.get_mut(&text(token)).unwrap();
        letters.remove(0);
        if letters.is_empty() {
            self.lose_mail(token);
        }
    }

    pub(crate) fn lose_mail(&mut self, token: &[u8]) {
        self.mail.remove(&text(token));
    }

    /// Whether it is held by this token, and that fencing token was given for it.
    pub(crate) fn is_held_by(&self, token: &[u8], fence: u64) -> bool {
        let writer = &self.json()["writer"];
        writer["token"] == text(token) && writer["fence"] == fence
    }

    /// Those who wait for a run, and their ranks.
    pub(crate) fn runners(&self) -> Vec<(String, u64)> {
        let machine = self.json();
        let runners = machine["queue"].as_array().unwrap().iter().filter(|w| w["run"] == true);
        runners.map(|w| (w["token"].as_str().unwrap().to_owned(), w["place"].as_u64().unwrap())).collect()
    }

    /// How a token holds the lock, if it does.
    pub(crate) fn holds(&self, token: &[u8]) -> Option<Mode> {
        let (machine, token) = (self.json(), text(token));
        let reads = machine["readers"].get(&token).is_some();
        let writes = machine["writer"]["token"] == token;
        writes.then_some(Mode::Exclusive).or(reads.then_some(Mode::Shared))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }

    pub(crate) fn flush(&mut self) {
        *self = Self { period_ms: self.period_ms, ..Self::default() };
    }

    pub(crate) fn evict(&mut self, part: Part) {
        if part == Part::Record {
            (self.known, self.unsure) = (false, false);
        }
        self.edit(|machine| match part {
            Part::Record => {
                let nothing = serde_json::to_value(Machine::default()).unwrap();
                let (queue, run) = (machine["queue"].take(), machine.get("run").cloned());
                *machine = nothing;
                machine["queue"] = queue;
                if let Some(run) = run {
                    machine["run"] = run;
                }
            }
            Part::Runners => unreachable!("not without the queue"),
            Part::Run => drop(machine.as_object_mut().unwrap().remove("run")),
            Part::Queue => waiters(machine).clear(),
            Part::Waiters => waiters(machine).iter_mut().for_each(|waiter| {
                (waiter["until_ms"], waiter["attempt"]) = (0.into(), 0.into());
            }),
            Part::Readers => readers(machine).clear(),
            Part::Info => {
                readers(machine).values_mut().for_each(|reader| {
                    (reader["identity"], reader["attempt"]) = (Value::Array(vec![]), 0.into());
                });
            }
        });
    }

    /// Who is to be heard of further ahead than anybody is told was so before the clock was set back, and is not waited for
    /// unless it is heard of: also when that moment has come near again.
    pub(crate) fn clock_was_set(&mut self, now: Now) {
        let machine = self.json();
        let waiters = machine["queue"].as_array().unwrap().iter();
        self.forlorn
            .extend(waiters.filter(|w| w["until_ms"].as_u64().unwrap() > now.lease_ms + LONGEST_MS).cloned());
    }

    /// A key has expired by itself: it must not have been of use to anybody any more.
    pub(crate) fn expire(&mut self, now: Now, part: Part) {
        let machine = self.json();
        let number = |value: &Value, field: &str| value[field].as_u64().unwrap();
        let over = |held: &Value| held.is_null() || number(held, "expiry_ms") <= now.lease_ms;
        let readers_over = machine["readers"].as_object().unwrap().values().all(over);
        // One may have waited through a clock that was set back, and then through all of a grace period.
        let mut queue = machine["queue"].as_array().unwrap().iter();
        let queue_dead = queue.all(|w| number(w, "until_ms") < now.lease_ms || self.forlorn.contains(w));
        match part {
            Part::Record => {
                let queue_dead = queue_dead || self.period_ms > 0;
                assert!(over(&machine["writer"]) && readers_over && queue_dead, "expired in use: {machine}");
                assert!(number(&machine, "fence") < now.unix_us, "the next fencing token would be smaller");
                self.known = false;
            }
            Part::Queue | Part::Waiters if self.period_ms > 0 => {}
            Part::Queue | Part::Waiters => assert!(queue_dead, "a waiter expired: {machine}"),
            Part::Runners | Part::Run => {}
            Part::Readers | Part::Info => assert!(readers_over, "a reader expired: {machine}"),
        }
        self.evict(part);
    }

    /// Which keys there should be.
    pub(crate) fn has(&self, part: Part) -> bool {
        let machine = self.json();
        match part {
            Part::Record => self.known,
            Part::Queue => !machine["queue"].as_array().unwrap().is_empty(),
            Part::Readers => !machine["readers"].as_object().unwrap().is_empty(),
            Part::Runners => machine["queue"].as_array().unwrap().iter().any(|w| w["run"] == true),
            Part::Run => machine.get("run").is_some(),
            // Their members are without use when those of the sets are gone.
            Part::Waiters | Part::Info => false,
        }
    }

    fn anonymous_readers(&self) -> BTreeSet<String> {
        let machine = self.json();
        let readers = machine["readers"].as_object().unwrap();
        readers
            .iter()
            .filter(|(_, held)| held["identity"].as_array().unwrap().is_empty())
            .map(|(token, _)| token.clone())
            .collect()
    }

    fn post(&mut self, now: Now, before: &Value, effects: Effects) {
        let ms = |time: Duration| now.lease_ms + u64::try_from(time.as_millis()).unwrap();
        let (last_call, last_grant, last_run) = (ms(BEAT + SLACK_MOST), ms(GRANT_LEASE), ms(RUN_MAIL));
        for (token, fence) in &effects.covered {
            let queue = before["queue"].as_array().unwrap();
            let waiter = queue.iter().find(|waiter| waiter["token"] == *token).unwrap();
            self.covers.push((token.clone(), waiter["place"].as_u64().unwrap(), *fence));
        }
        let covered =
            effects.covered.into_iter().map(|(token, fence)| (token, Wake::Covered(fence), last_run));
        self.grants.extend(effects.mail.iter().map(|(token, grant)| (grant.fence, token.clone())));
        let called = effects.called.into_iter().map(|token| (token, Wake::Retry, last_call));
        let granted =
            effects.mail.into_iter().map(|(token, grant)| (token, Wake::Granted(grant), last_grant));
        for (token, letter, last) in covered.chain(called).chain(granted) {
            let (letters, until) = self.mail.entry(token).or_default();
            letters.push(letter);
            *until = last;
        }
    }

    fn json(&self) -> Value {
        serde_json::to_value(&self.machine).unwrap()
    }

    /// The record was written by a command of `me`.
    fn saved(&mut self, now: Now, me: &str) {
        let machine = self.json();
        let writer = &machine["writer"];
        let free = writer.is_null() && machine["readers"].as_object().unwrap().is_empty();
        if now.grace_ms > 0 && free && machine["fence"] == 0 {
            return; // nothing is known
        }
        (self.known, self.unsure) = (true, now.grace_ms > 0);
        let Some(expiry_ms) = writer["expiry_ms"].as_u64() else {
            self.lease.start_us = now.unix_us;
            return;
        };
        if writer["token"] == me || expiry_ms != self.lease.expiry_ms {
            self.lease =
                Lease { start_us: now.unix_us, expiry_ms, length_ms: expiry_ms.saturating_sub(now.lease_ms) };
        }
    }

    /// As `common.lua` does when it finds that the clock was set back: an exclusive lease begins anew, and
    /// the readers' leases end by so much earlier.
    fn correct_clock(&mut self, now: Now) {
        let lease = self.lease;
        if !self.known || lease.start_us <= now.unix_us {
            return;
        }
        self.edit(|machine| {
            if let Some(expiry_ms) = machine["writer"].get_mut("expiry_ms") {
                *expiry_ms = (now.lease_ms + lease.length_ms).into();
            }
            for reader in readers(machine).values_mut() {
                let expiry_ms = reader["expiry_ms"].as_u64().unwrap();
                reader["expiry_ms"] = (expiry_ms - (lease.start_us / 1000 - now.lease_ms)).into();
            }
        });
        self.lease.start_us = now.unix_us;
        self.lease.expiry_ms = now.lease_ms + lease.length_ms;
        if self.has(Part::Readers) || self.json()["writer"].is_object() {
            self.unsure = now.grace_ms > 0;
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        let mut machine = self.json();
        change(&mut machine);
        self.machine = serde_json::from_value(machine).unwrap();
    }
}

/// Whether a newer attempt of a quorum has been here before this one, or the release.
fn overtaken(machine: &Value, me: &str, attempt: u64) -> bool {
    let waiter = machine["queue"].as_array().unwrap().iter().find(|waiter| waiter["token"] == *me);
    let writer = Some(&machine["writer"]).filter(|writer| writer["token"] == *me);
    let known = [writer, machine["readers"].get(me), waiter];
    let newest = known.into_iter().flatten().filter_map(|one| one["attempt"].as_u64()).max();
    attempt > 0 && (machine["previous"]["Released"] == *me || newest.is_some_and(|newest| attempt < newest))
}

fn readers(machine: &mut Value) -> &mut serde_json::Map<String, Value> {
    machine["readers"].as_object_mut().unwrap()
}

fn waiters(machine: &mut Value) -> &mut Vec<Value> {
    machine["queue"].as_array_mut().unwrap()
}

pub(crate) fn text(token: &[u8]) -> String {
    String::from_utf8_lossy(token).into_owned()
}

pub(crate) fn mode(shared: bool) -> Mode {
    if shared { Mode::Shared } else { Mode::Exclusive }
}
