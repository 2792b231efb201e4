//! Locks in Redis or Valkey: each step is one script, one round trip.
//!
//! * [`script`]: the scripts, and the commands that run them.
//! * [`reply`]: what they return.
//! * [`route`]: on which server a lock lives; with [`sentinel`]s on the one that they name, in a
//!   [`cluster`] on the one that has its hash slot.
//! * `batch`: chores of the background, many in one round trip; `unawaited`: releases that nobody waits for, and
//!   `partings`: which.
//! * `unanswered`: what may have been carried out, or be carried out yet.
//! * `replicas`: who must have what is granted; `listing`: the locks of a server; [`survey`]: what it says of itself.

mod batch;
mod cluster;
pub(crate) mod grace;
mod inquiry;
mod listing;
mod partings;
mod replicas;
pub(crate) mod reply;
pub(crate) mod route;
#[cfg(any(feature = "sabotage", test))]
pub(crate) mod sabotage;
pub(crate) mod script;
mod sentinel;
pub(crate) mod survey;
mod unanswered;
mod unawaited;

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::first::First;
use super::{
    Attempt, Broken, Chore, Claim, Hold, IfBusy, Parting, Standing, Store, StoreStatus, Token, Wake, ours,
    trial_claim, trial_name, try_out,
};
use crate::clock::Instant;
use crate::dsn::{Cluster, Sentinel, Server};
use crate::error::{Error, Loss, Result};
use crate::key::LockName;
use crate::poll::Readiness;
use crate::report::{LockReport, Mode, ServerReport, TOLD};
use crate::settings::Config;
use crate::text;
use crate::wire::Fault;
use crate::wire::{Pool, Purpose};
use cluster::ClusterRoute;
use grace::{Grace, Saying};
use partings::Partings;
use replicas::Replicas;
use route::{Next, One, Route};
use script::{ACQUIRE, BREAK, Call, Keys, RELEASE, RENEW, Script};
use sentinel::SentinelRoute;
use unanswered::{Sent, Unanswered};

/// How often a command is sent whose connection breaks, if all of that takes no longer than
/// [`AT_ONCE`]; twice in any case.
const TRIES: u32 = 4;

/// See [`TRIES`].
const AT_ONCE: Duration = Duration::from_millis(200);

/// Chores that are sent in one round trip: 16 KiB if their names are short, and a few milliseconds of the server's time.
const CHORES_AT_ONCE: usize = 64;

/// So many names are tried out to find one that a certain server of a cluster keeps.
const TRIAL_NAMES: u32 = 2000;

/// See [`Store`].
pub struct RedisStore {
    route: Box<dyn Route>,
    prefix: String,
    grace: Option<Arc<Grace>>,
    /// Who must have what is granted.
    replicas: Option<Replicas>,
    unanswered: Unanswered,
    partings: Partings,
}

/// What a script returned, and where.
struct Ran {
    value: Value,
    pool: Arc<Pool>,
    /// An earlier try was not answered, and may have been carried out.
    again: bool,
    /// Too few replicas have it.
    short: Option<Fault>,
}

/// Says what a failure means when nobody knows whether the script was run.
fn unsettled(error: Error) -> Error {
    match error {
        Error::Connection { server, cause } | Error::FailingOver { server, cause } => {
            let cause = format!("{cause}; whether it was done is not known (see cluster_lock_info())");
            Error::Connection { server, cause }
        }
        other => other,
    }
}

impl RedisStore {
    /// A store on a server. No I/O.
    pub fn new(server: Server, config: &Config) -> Self {
        let grace = Grace::of(server.grace, &config.prefix);
        Self::on(Box::new(One::new(server, config)), &config.prefix, grace)
    }

    /// A store on the primary that sentinels name. No I/O.
    pub fn watched(dsn: &Sentinel, config: &Config) -> Self {
        let grace = Grace::of(dsn.primary.grace, &config.prefix);
        let store = Self::on(Box::new(SentinelRoute::new(dsn, config)), &config.prefix, grace);
        Self { replicas: Replicas::new(dsn.wait, config), ..store }
    }

    /// A store on a Redis Cluster. No I/O.
    ///
    /// # Errors
    /// [`Error::Config`] when no server is named.
    pub fn sharded(dsn: &Cluster, config: &Config) -> Result<Self> {
        let route = ClusterRoute::new(dsn, config);
        let route = route.ok_or_else(|| Error::Config("cluster_lock.dsn names no server".into()))?;
        let store = Self::on(Box::new(route), &config.prefix, None);
        Ok(Self { replicas: Replicas::new(dsn.wait, config), ..store })
    }

    pub(crate) fn on(route: Box<dyn Route>, prefix: &str, grace: Option<Arc<Grace>>) -> Self {
        let (prefix, unanswered, partings) = (prefix.to_owned(), Unanswered::default(), Partings::default());
        Self { route, prefix, grace, replicas: None, unanswered, partings }
    }

    fn keys(&self, name: &LockName) -> Keys {
        Keys::new(&self.prefix, name, self.route.moves_slots(), self.grace.as_ref())
    }

    /// Runs a script on a lock. When the connection breaks the outcome is unknown; the script is run
    /// again on a new connection, which settles it, because every script but a break that means nobody in
    /// particular is idempotent. Again, too, when that one breaks at once; not after a time-out.
    fn run(&self, purpose: Purpose, script: &Script, name: &LockName, argv: &[&[u8]]) -> Result<Ran> {
        self.run_for(None, purpose, script, name, argv)
    }

    /// Runs a script on a lock, as [`RedisStore::run`], and then waits for the replicas, if any are to have it.
    fn run_for(
        &self,
        replicas: Option<&Replicas>,
        purpose: Purpose,
        script: &Script,
        name: &LockName,
        argv: &[&[u8]],
    ) -> Result<Ran> {
        let keys = self.keys(name);
        self.send(replicas, purpose, script, &keys, Call::new(script, &keys, argv), argv)
    }

    /// Runs a script, as [`RedisStore::run`], by its text.
    fn run_text(&self, script: &Script, name: &LockName, argv: &[&[u8]]) -> Result<Ran> {
        let keys = self.keys(name);
        let mut call = Call::new(script, &keys, argv);
        call.spell_out();
        self.send(None, Purpose::Command, script, &keys, call, argv)
    }

    /// Sends a script on a lock with these keys, again where that helps, until it is answered.
    fn send(
        &self,
        replicas: Option<&Replicas>,
        purpose: Purpose,
        script: &Script,
        keys: &Keys,
        mut call: Call<'_>,
        argv: &[&[u8]],
    ) -> Result<Ran> {
        let began = Instant::now();
        let mut pool = self.route.server_of(keys.lock.as_bytes())?;
        let (mut tries, mut turns, mut again) = (1, 0, false);
        let is_break = call.is_break();
        let failed = |error, again| if again && is_break { unsettled(error) } else { error };
        loop {
            let outcome = match self.behind(purpose, &pool, &call) {
                Some(outcome) => Ok(outcome.map(|value| (value, None))),
                None => pool.get(purpose).map(|mut loan| match replicas {
                    None => call.run(&mut loan).map(|value| (value, None)),
                    Some(replicas) => {
                        let (value, count) = replicas.run(&mut call, &mut loan)?;
                        Ok((value, replicas.too_few(count)))
                    }
                }),
            };
            let fault = match outcome {
                Ok(Ok((value, short))) => {
                    return Ok(Ran { value, pool, again, short });
                }
                Ok(Err(fault)) => {
                    if let (Fault::Broken(_), Some(token)) = (&fault, argv.first()) {
                        self.left_unanswered(script, token, &pool);
                    }
                    fault
                }
                Err(error) if turns == TRIES => return Err(failed(error, again)),
                Err(error) => {
                    // Nothing was sent.
                    turns += 1;
                    let other = self.route.instead_of(&pool, keys.lock.as_bytes(), error);
                    pool = other.map_err(|error| failed(error, again))?;
                    continue;
                }
            };
            // That another server is asked in the place of one that is not the primary, or with the password that the
            // file has now, helps once or not at all.
            let once = pool.may_answer_otherwise(&fault);
            let changed = once && fault.is_unauthenticated();
            let last = tries > 1 && (once || tries >= TRIES || Instant::now().since(began) >= AT_ONCE);
            let next = if last {
                Next::GiveUp
            } else if changed {
                pool.clear();
                Next::Again(Arc::clone(&pool))
            } else {
                self.route.after(&pool, keys.lock.as_bytes(), &fault)
            };
            let broken = matches!(fault, Fault::Broken(_));
            again |= broken;
            let error = match next {
                Next::Again(other) if !broken || call.is_idempotent() => {
                    pool = other;
                    tries += 1;
                    continue;
                }
                Next::Fail(error) => error,
                Next::Again(_) | Next::GiveUp => self.explain(&pool, fault, keys),
            };
            return Err(failed(error, again));
        }
    }

    /// Remembers that a script was sent and not answered, if it matters when the token is presented again.
    fn left_unanswered(&self, script: &Script, token: &[u8], pool: &Arc<Pool>) {
        if std::ptr::eq(script, &raw const *RELEASE) {
            self.unanswered.remember(token, Sent::Release(Arc::clone(pool)));
        } else if std::ptr::eq(script, &raw const *ACQUIRE) {
            self.unanswered.remember(token, Sent::Acquire);
        }
    }

    /// What the answer to a release says, now that there is one.
    fn settled(&self, token: &Token, answer: &Value, pool: &Arc<Pool>) -> Result<Standing> {
        let before = self.unanswered.settle(token);
        match Self::standing("release", answer, pool)? {
            // The first try, whose reply was lost, released it, and others have come and gone since.
            // (Or the server lost its data in the same moment; nobody can tell.) Another server that
            // has let others in has perhaps never known us.
            Standing::Lost(Loss::Superseded) if matches!(&before, Some(Sent::Release(first)) if Arc::ptr_eq(first, pool)) => {
                Ok(Standing::Ours)
            }
            standing => Ok(standing),
        }
    }

    fn release_for(&self, purpose: Purpose, hold: &Hold<'_>) -> Result<Standing> {
        let Hold { name, token, .. } = *hold;
        let ran = Saying::release(hold).with(|argv| self.run(purpose, &RELEASE, name, argv))?;
        // The background has leases to renew, and leaves that to those who wait.
        if purpose != Purpose::Upkeep {
            self.finish(purpose, name, token, &ran);
        }
        self.settled(token, &ran.value, &ran.pool)
    }

    fn renew_for(&self, purpose: Purpose, hold: &Hold<'_>, ttl: Duration) -> Result<Standing> {
        let name = hold.name;
        let ran = Saying::renewal(hold, ttl, None)
            .with(|argv| self.run_for(self.replicas.as_ref(), purpose, &RENEW, name, argv))?;
        match (Self::renewed(hold, &ran.value, &ran.pool)?, ran.short) {
            (Standing::Ours, Some(short)) => Err(self.unacknowledged(name, &ran.pool, short)),
            (standing, _) => Ok(standing),
        }
    }

    /// What was granted does not count, because too few replicas have it. Perhaps that is so because
    /// this server is not the primary any more.
    fn unacknowledged(&self, name: &LockName, pool: &Arc<Pool>, short: Fault) -> Error {
        match self.route.after(pool, self.keys(name).lock.as_bytes(), &short) {
            Next::Fail(error) => error,
            Next::GiveUp | Next::Again(_) => self.route.explain(pool, short),
        }
    }

    /// What a fault means for a lock. Keys that are no lock's are named: nobody but an administrator can
    /// tell whose they are.
    fn explain(&self, pool: &Pool, fault: Fault, keys: &Keys) -> Error {
        let foreign = fault.is_foreign_key();
        match self.route.explain(pool, fault) {
            Error::Server { server, cause } if foreign => {
                let key = text::said(&keys.lock);
                Error::Server {
                    server,
                    cause: format!(
                        "{cause}; by hand: DEL {key} {key}:q {key}:w {key}:r {key}:i {key}:o {key}:d"
                    ),
                }
            }
            error => error,
        }
    }

    /// Goes on with what a release or a break has left: the lock is given back, but who is next not yet let in.
    fn finish(&self, purpose: Purpose, name: &LockName, token: &Token, ran: &Ran) {
        reply::finish(reply::is_unfinished(&ran.value), || {
            let ran = self.run(purpose, &RELEASE, name, &[token.as_bytes()]);
            ran.is_ok_and(|ran| reply::is_unfinished(&ran.value))
        });
    }

    /// What the answer to a renewal says, just now.
    fn renewed(hold: &Hold<'_>, answer: &Value, pool: &Pool) -> Result<Standing> {
        let standing = Self::standing("renew", answer, pool)?;
        Ok(match grace::outlived(hold) {
            Some(loss) if reply::is_by_word(answer) => Standing::Lost(loss),
            _ => standing,
        })
    }

    fn standing(what: &str, answer: &Value, pool: &Pool) -> Result<Standing> {
        reply::standing(answer).ok_or_else(|| pool.nonsense(what, answer))
    }

    /// Sleeps on the mailbox of a claim, for at most `slice`. The inner error is what the server refused, and which.
    fn listen(
        &self,
        claim: &Claim<'_>,
        slice: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<std::result::Result<Wake, (Arc<Pool>, Fault)>> {
        // Before the command, because an interrupt after it costs the connection.
        if interrupted() {
            return Ok(Ok(Wake::Interrupted));
        }
        let keys = self.keys(claim.name);
        let pool = self.route.server_of(keys.lock.as_bytes())?;
        let mut connection = pool.get(Purpose::Apart)?;
        let explain = |fault| self.route.explain(&pool, fault);
        // Zero would mean for ever. The server's clock for this has a resolution of 1 ms.
        let seconds = slice.as_secs_f64().max(0.001);
        connection.begin();
        connection.add(&[b"BLPOP", &keys.mailbox(claim.token), format!("{seconds:.3}").as_bytes()]);
        connection.send().map_err(explain)?;
        let patience = slice + Duration::from_millis(250);
        match connection.wait_readable(patience, interrupted).map_err(explain)? {
            Readiness::Ready => {}
            // The reply is outstanding, so the connection goes (the loan drops it).
            Readiness::Interrupted => return Ok(Ok(Wake::Interrupted)),
            Readiness::TimedOut => return Ok(Ok(Wake::Retry)),
        }
        match connection.receive() {
            Ok(Value::Nil) => Ok(Ok(Wake::Retry)),
            // The hand-over has been acknowledged by nobody: the next attempt sees to that.
            Ok(Value::Array(_)) if self.replicas.is_some() => Ok(Ok(Wake::Retry)),
            Ok(reply @ Value::Array(_)) => Ok(Ok(reply::mail(&reply))),
            Ok(other) => Err(pool.nonsense("BLPOP", &other)),
            // It became a replica, or gave the slot away. The next attempt finds out.
            Err(fault) if fault.is("UNBLOCKED") || fault.is("MOVED") || fault.is("ASK") => {
                Ok(Ok(Wake::Retry))
            }
            Err(broken @ Fault::Broken(_)) => Err(explain(broken)),
            Err(refused) => {
                drop(connection);
                Ok(Err((pool, refused)))
            }
        }
    }

    /// What each server says of itself, and, if it says that, what is wrong with it by `examine`; and what all of them
    /// together lack.
    fn reports(&self, examine: impl Fn(&Arc<Pool>) -> Result<()>) -> Vec<ServerReport> {
        let of_all = |error: Error| {
            let server = self.route.label().to_owned();
            ServerReport { server, error: Some(error.cause()), ..ServerReport::default() }
        };
        let pools = match self.route.servers() {
            Ok(pools) => pools,
            Err(error) => return vec![of_all(error)],
        };
        let report = |pool: &Arc<Pool>| {
            let mut report = survey::survey(pool, &self.prefix, self.grace.as_deref());
            report.error = report.error.or_else(|| examine(pool).err().map(Error::cause));
            report
        };
        pools.iter().map(report).chain(self.route.unserved().map(of_all)).collect()
    }

    /// A name that is nobody's and that this server keeps; `None` if it keeps hardly any.
    fn trial_name_on(&self, pool: &Arc<Pool>) -> Option<LockName> {
        let is_here = |name: &LockName| {
            let server = self.route.server_of(self.keys(name).lock.as_bytes());
            server.is_ok_and(|server| Arc::ptr_eq(&server, pool))
        };
        (0..TRIAL_NAMES).filter_map(|_| trial_name().ok()).find(is_here)
    }
}

impl Store for RedisStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        let ran = script::with_acquire(claim, if_busy, None, |argv| {
            self.run_for(self.replicas.as_ref(), Purpose::Command, &ACQUIRE, claim.name, argv)
        })?;
        match (reply::attempt(&ran.value, claim.ttl), ran.short) {
            (Some(Attempt::Held(_)), Some(short)) => {
                // Whoever is next tries it, too. Else the lock would be held by nobody until then.
                if self.give_up(claim.name, claim.token).is_err() {
                    self.unanswered.remember(claim.token.as_bytes(), Sent::Acquire);
                }
                Err(self.unacknowledged(claim.name, &ran.pool, short))
            }
            (Some(attempt), _) => {
                if ran.again {
                    self.unanswered.settle(claim.token);
                }
                Ok(attempt)
            }
            (None, _) => Err(ran.pool.nonsense("acquire", &ran.value)),
        }
    }

    fn await_grant(
        &self,
        claim: &Claim<'_>,
        slice: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Wake> {
        let mut again = false;
        loop {
            let (pool, fault) = match self.listen(claim, slice, interrupted)? {
                Ok(wake) => return Ok(wake),
                Err(refusal) => refusal,
            };
            // Once more, over a new connection, and no oftener: nobody may have asked the server in between.
            if again || !pool.may_answer_otherwise(&fault) {
                return Err(self.route.explain(&pool, fault));
            }
            again = true;
        }
    }

    fn release(&self, hold: &Hold<'_>) -> Result<Standing> {
        self.release_for(Purpose::Holder, hold)
    }

    fn complete(&self, hold: &Hold<'_>, fence: u64) -> Result<Standing> {
        let Hold { name, token, .. } = *hold;
        let ran =
            script::with_end_of_run(token, fence, |argv| self.run(Purpose::Holder, &RELEASE, name, argv))?;
        self.finish(Purpose::Holder, name, token, &ran);
        // That others have come and gone since does not tell whether it counts: a repetition is told that.
        self.unanswered.settle(token);
        Self::standing("release", &ran.value, &ran.pool)
    }

    fn part(&self, hold: &Hold<'_>) -> Option<Arc<Parting>> {
        self.part_with(hold)
    }

    fn settle(&self, limit: Duration) {
        self.settle_all(limit);
    }

    fn give_up(&self, name: &LockName, token: &Token) -> Result<Standing> {
        self.release_for(Purpose::Command, &Hold::of(name, token))
    }

    fn renew(&self, hold: &Hold<'_>, ttl: Duration) -> Result<Standing> {
        self.renew_for(Purpose::Holder, hold, ttl)
    }

    fn grace(&self) -> Option<Duration> {
        self.grace.as_ref().map(|grace| grace.period)
    }

    fn lane_of(&self, name: &LockName) -> usize {
        if self.route.moves_slots() { self.route.lane_of(self.keys(name).lock.as_bytes()) } else { 0 }
    }

    fn at_once(&self) -> usize {
        CHORES_AT_ONCE
    }

    fn tend(&self, chores: &[Chore<'_>], told: &mut dyn FnMut(usize, Result<Standing>)) {
        self.tend_many(chores, told);
    }

    fn tend_one(&self, chore: Chore<'_>) -> Result<Standing> {
        match chore {
            Chore::Renew { hold, ttl } => self.renew_for(Purpose::Upkeep, &hold, ttl),
            Chore::Release { hold } => self.release_for(Purpose::Upkeep, &hold),
        }
    }

    fn is_unsettled(&self, token: &Token) -> bool {
        self.unanswered.contains(token)
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        self.inspect(name, TOLD)
    }

    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let mut first = First::new(limit);
        for pool in self.route.servers()? {
            match self.list_of(&pool, prefix, &mut first) {
                Ok(()) => {}
                Err(error @ Error::Connection { .. }) => return Err(self.route.gone(&pool, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(first.sorted())
    }

    fn break_lock(&self, name: &LockName, meant: Option<u64>) -> Result<Broken> {
        let ran = script::with_break(meant, |argv| self.run(Purpose::Command, &BREAK, name, argv))?;
        self.finish(Purpose::Command, name, &Token::random(), &ran);
        reply::broken(&ran.value, ran.again).ok_or_else(|| ran.pool.nonsense("break", &ran.value))
    }

    fn servers(&self) -> Vec<ServerReport> {
        self.reports(|_| Ok(()))
    }

    fn end_grace(&self) -> Vec<ServerReport> {
        let Some(grace) = &self.grace else { return Vec::new() };
        let told = |server: &str, ended: Result<()>| ServerReport {
            server: server.to_owned(),
            error: ended.err().map(Error::cause),
            ..ServerReport::default()
        };
        match self.route.servers() {
            Ok(pools) => pools.iter().map(|pool| told(pool.label(), grace.end(pool))).collect(),
            Err(error) => vec![told(self.route.label(), Err(error))],
        }
    }

    fn forget(&self, name: &LockName) {
        let key = self.keys(name).lock;
        // A script that was refused a command has written what comes before it there: a queue, waiters, readers.
        let keys = ["", ":q", ":w", ":r", ":i"].map(|part| format!("{key}{part}").into_bytes());
        let keys = keys.each_ref().map(Vec::as_slice);
        let Ok(pool) = self.route.server_of(key.as_bytes()) else { return };
        let Ok(mut connection) = pool.get(Purpose::Command) else { return };
        if let Err(Fault::Refused(..)) = connection.call(&[&[&b"DEL"[..]], &keys[..]].concat()) {
            for key in keys {
                let _ = connection.call(&[b"PEXPIRE", key, b"1"]);
            }
        }
    }

    fn take_texts(&self, name: &LockName) -> Result<()> {
        let token = Token::random();
        let claim = trial_claim(name, &token, Mode::Exclusive);
        script::with_acquire(&claim, IfBusy::GiveUp, None, |argv| self.run_text(&ACQUIRE, name, argv))?;
        let ran = self.run_text(&RELEASE, name, &[token.as_bytes()])?;
        ours(Self::standing("release", &ran.value, &ran.pool)?)
    }

    fn examine(&self) -> Vec<ServerReport> {
        self.reports(|pool| match self.trial_name_on(pool) {
            Some(name) => try_out(self, &name, pool.command_timeout()),
            None => Ok(()),
        })
    }

    fn status(&self) -> StoreStatus {
        self.route.status()
    }

    fn server(&self) -> &str {
        self.route.label()
    }

    fn close(&self) {
        self.partings.clear();
        self.route.close();
    }
}
