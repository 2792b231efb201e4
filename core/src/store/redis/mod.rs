//! Locks in Redis or Valkey: each step is one script, one round trip.
//!
//! * [`script`]: the scripts, and the commands that run them.
//! * [`reply`]: what they return.
//! * [`route`]: on which server a lock lives; with [`sentinel`]s on the one that they name, in a
//!   [`cluster`] on the one that has its hash slot.
//! * [`survey`]: what a server says of itself.

mod cluster;
mod inquiry;
pub(crate) mod reply;
pub(crate) mod route;
#[cfg(feature = "sabotage")]
mod sabotage;
pub(crate) mod script;
mod sentinel;
pub(crate) mod survey;
mod wait;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::Value;

use super::{Attempt, Claim, IfBusy, Standing, Store, StoreStatus, Token, Wake};
use crate::clock::Instant;
use crate::config::Config;
use crate::connection::{Fault, Readiness};
use crate::dsn::{Cluster, Sentinel, Server};
use crate::error::{Error, Loss, Result};
use crate::key::{LockName, encode};
use crate::pool::{Pool, Purpose};
use crate::report::{LockReport, ServerReport};
use crate::text;
use cluster::ClusterRoute;
use reply::NotALock;
use route::{Next, One, Route};
use script::{ACQUIRE, BREAK, Call, INSPECT, Keys, RELEASE, RENEW, Script};
use sentinel::SentinelRoute;
use wait::Replicas;

/// How often a command is sent whose connection breaks, if all of that takes no longer than
/// [`AT_ONCE`]; twice in any case.
const TRIES: u32 = 4;

/// See [`TRIES`].
const AT_ONCE: Duration = Duration::from_millis(200);

/// Keys asked for in one step of a `SCAN`, and locks inspected in one round trip.
const SCAN_COUNT: usize = 1000;

/// See [`Store`].
pub struct RedisStore {
    route: Box<dyn Route>,
    prefix: String,
    /// Who must have what is granted.
    replicas: Option<Replicas>,
    /// Releases that were sent and not answered, by token, and where the first one was sent: it may have
    /// been carried out.
    unanswered: Mutex<HashMap<Vec<u8>, Arc<Pool>>>,
}

/// So many unanswered releases are remembered, and then none: nobody asks again after so many.
const UNANSWERED: usize = 1000;

/// What a script returned, and where.
struct Ran {
    value: Value,
    pool: Arc<Pool>,
    /// Too few replicas have it.
    short: Option<Fault>,
}

/// Says what a failure means after which a script cannot be run again.
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
        Self::on(Box::new(One::new(server, config)), &config.prefix)
    }

    /// A store on the primary that sentinels name. No I/O.
    pub fn watched(dsn: &Sentinel, config: &Config) -> Self {
        let store = Self::on(Box::new(SentinelRoute::new(dsn, config)), &config.prefix);
        Self { replicas: Replicas::new(dsn.wait, config), ..store }
    }

    /// A store on a Redis Cluster. No I/O.
    ///
    /// # Errors
    /// [`Error::Config`] when no server is named.
    pub fn sharded(dsn: &Cluster, config: &Config) -> Result<Self> {
        let route = ClusterRoute::new(dsn, config);
        let route = route.ok_or_else(|| Error::Config("cluster_lock.dsn names no server".into()))?;
        let store = Self::on(Box::new(route), &config.prefix);
        Ok(Self { replicas: Replicas::new(dsn.wait, config), ..store })
    }

    pub(crate) fn on(route: Box<dyn Route>, prefix: &str) -> Self {
        Self { route, prefix: prefix.to_owned(), replicas: None, unanswered: Mutex::default() }
    }

    fn keys(&self, name: &LockName) -> Keys {
        Keys::new(&self.prefix, name, self.route.moves_slots())
    }

    /// Runs a script on a lock. When the connection breaks the outcome is unknown; the script is run
    /// again on a new connection, which settles it, because every script but one is idempotent. Again,
    /// too, when that one breaks at once; not after a time-out.
    fn run(&self, purpose: Purpose, script: &Script, name: &LockName, argv: &[&[u8]]) -> Result<Ran> {
        self.run_for(None, purpose, script, name, argv)
    }

    /// The same, and then waits for the replicas.
    fn run_for(
        &self,
        replicas: Option<&Replicas>,
        purpose: Purpose,
        script: &Script,
        name: &LockName,
        argv: &[&[u8]],
    ) -> Result<Ran> {
        let keys = self.keys(name);
        let mut call = Call::new(script, &keys, argv);
        let began = Instant::now();
        let mut pool = self.route.server_of(keys.lock.as_bytes())?;
        let (mut tries, mut turns) = (1, 0);
        loop {
            let outcome = pool.get(purpose).map(|mut loan| match replicas {
                None => call.run(&mut loan).map(|value| (value, None)),
                Some(replicas) => {
                    let (value, count) = replicas.run(&mut call, &mut loan)?;
                    Ok((value, replicas.too_few(count)))
                }
            });
            let fault = match outcome {
                Ok(Ok((value, short))) => {
                    return Ok(Ran { value, pool, short });
                }
                Ok(Err(fault)) => {
                    if let (Fault::Broken(_), Some(token)) = (&fault, argv.first())
                        && std::ptr::eq(script, &raw const *RELEASE)
                    {
                        self.left_unanswered(token, &pool);
                    }
                    fault
                }
                Err(error) if turns == TRIES => return Err(error),
                Err(error) => {
                    // Nothing was sent.
                    turns += 1;
                    pool = self.route.instead_of(&pool, keys.lock.as_bytes(), error)?;
                    continue;
                }
            };
            let last = tries > 1 && (tries >= TRIES || Instant::now().since(began) >= AT_ONCE);
            let next =
                if last { Next::GiveUp } else { self.route.after(&pool, keys.lock.as_bytes(), &fault) };
            let once = matches!(fault, Fault::Broken(_)) && !call.is_idempotent();
            let error = match next {
                Next::Again(other) if !once => {
                    pool = other;
                    tries += 1;
                    continue;
                }
                Next::Fail(error) => error,
                Next::Again(_) | Next::GiveUp => self.explain(&pool, fault, &keys),
            };
            return Err(if once { unsettled(error) } else { error });
        }
    }

    fn unanswered(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Arc<Pool>>> {
        self.unanswered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left_unanswered(&self, token: &[u8], pool: &Arc<Pool>) {
        let mut unanswered = self.unanswered();
        if unanswered.len() >= UNANSWERED {
            unanswered.clear();
        }
        unanswered.entry(token.to_vec()).or_insert_with(|| Arc::clone(pool));
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
                    cause: format!("{cause}; by hand: DEL {key} {key}:q {key}:w {key}:r {key}:i"),
                }
            }
            error => error,
        }
    }

    fn standing(what: &str, ran: &Ran) -> Result<Standing> {
        reply::standing(&ran.value).ok_or_else(|| ran.pool.nonsense(what, &ran.value))
    }

    /// Inspects many locks of one server in one round trip.
    fn inspect(&self, pool: &Pool, names: &[LockName]) -> Result<Vec<LockReport>> {
        let mut connection = pool.get(Purpose::Command)?;
        let explain = |fault| pool.explain(fault);
        connection.begin();
        for name in names {
            connection.add(Call::new(&INSPECT, &self.keys(name), &[]).words());
        }
        connection.send().map_err(explain)?;
        let mut reports = Vec::new();
        let mut again = Vec::new();
        for name in names {
            match connection.receive() {
                Ok(value) => reports.extend(reply::report(name, &value).ok().flatten()),
                // That is no lock, whatever stands there.
                Err(fault) if fault.is_foreign_key() => {}
                // The script is not known there, or the lock has moved to another server.
                Err(Fault::Refused(..)) => again.push(name),
                Err(fault) => {
                    // Replies to the rest of the batch are still on their way.
                    connection.poison();
                    return Err(explain(fault));
                }
            }
        }
        for name in again {
            match Call::new(&INSPECT, &self.keys(name), &[]).run(&mut connection) {
                Ok(value) => reports.extend(reply::report(name, &value).ok().flatten()),
                Err(fault) if fault.is_foreign_key() => {}
                Err(_) => reports.extend(self.info(name)?),
            }
        }
        Ok(reports)
    }

    /// The held locks on one server; [`Store::list`].
    fn list_of(&self, pool: &Pool, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let start = format!("{}{{", self.prefix);
        // Neither the prefix nor an encoded name contains a glob character.
        let pattern = format!("{start}{}*}}", encode(prefix));
        let count = SCAN_COUNT.to_string();
        let mut names = std::collections::BTreeSet::new();
        let mut reports = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let scan: [&[u8]; 8] = [
                b"SCAN",
                &cursor,
                b"MATCH",
                pattern.as_bytes(),
                b"COUNT",
                count.as_bytes(),
                b"TYPE",
                b"string",
            ];
            let reply = pool.get(Purpose::Command)?.call(&scan).map_err(|fault| pool.explain(fault))?;
            let Value::Array(parts) = &reply else {
                return Err(pool.nonsense("SCAN", &reply));
            };
            let [Value::BulkString(next), Value::Array(keys)] = parts.as_slice() else {
                return Err(pool.nonsense("SCAN", &reply));
            };
            // SCAN may return a key twice.
            let mut fresh = Vec::new();
            for key in keys {
                if let Value::BulkString(key) = key
                    && let Some(rest) = key.strip_prefix(start.as_bytes())
                    && let Some(name) = rest.strip_suffix(b"}").and_then(LockName::decode)
                    && names.insert(name.clone())
                {
                    fresh.push(name);
                }
            }
            if !fresh.is_empty() {
                reports.extend(self.inspect(pool, &fresh)?);
            }
            if next == b"0" || reports.len() >= limit {
                return Ok(reports);
            }
            cursor.clone_from(next);
        }
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
                let _ = self.release(claim.name, claim.token);
                Err(self.unacknowledged(claim.name, &ran.pool, short))
            }
            (Some(attempt), _) => Ok(attempt),
            (None, _) => Err(ran.pool.nonsense("acquire", &ran.value)),
        }
    }

    fn await_grant(
        &self,
        claim: &Claim<'_>,
        slice: Duration,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Wake> {
        // Before the command, because an interrupt after it costs the connection.
        if interrupted() {
            return Ok(Wake::Interrupted);
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
            Readiness::Interrupted => return Ok(Wake::Interrupted),
            Readiness::TimedOut => return Ok(Wake::Retry),
        }
        match connection.receive() {
            Ok(Value::Nil) => Ok(Wake::Retry),
            // The hand-over has been acknowledged by nobody: the next attempt sees to that.
            Ok(Value::Array(_)) if self.replicas.is_some() => Ok(Wake::Retry),
            Ok(reply @ Value::Array(_)) => Ok(reply::mail(&reply).map_or(Wake::Retry, Wake::Granted)),
            Ok(other) => Err(pool.nonsense("BLPOP", &other)),
            // It became a replica, or gave the slot away. The next attempt finds out.
            Err(fault) if fault.is("UNBLOCKED") || fault.is("MOVED") || fault.is("ASK") => Ok(Wake::Retry),
            Err(fault) => Err(explain(fault)),
        }
    }

    fn release(&self, name: &LockName, token: &Token) -> Result<Standing> {
        let ran = self.run(Purpose::Command, &RELEASE, name, &[token.as_bytes()])?;
        let before = self.unanswered().remove(token.as_bytes());
        match Self::standing("release", &ran)? {
            // The first try, whose reply was lost, released it, and others have come and gone since.
            // (Or the server lost its data in the same moment; nobody can tell.) Another server that
            // has let others in has perhaps never known us.
            Standing::Lost(Loss::Superseded) if before.is_some_and(|pool| Arc::ptr_eq(&pool, &ran.pool)) => {
                Ok(Standing::Ours)
            }
            standing => Ok(standing),
        }
    }

    fn renew(&self, name: &LockName, token: &Token, ttl: Duration) -> Result<Standing> {
        let ttl = reply::millis(ttl).to_string();
        let argv = [token.as_bytes(), ttl.as_bytes()];
        let ran = self.run_for(self.replicas.as_ref(), Purpose::Apart, &RENEW, name, &argv)?;
        match (Self::standing("renew", &ran)?, ran.short) {
            (Standing::Ours, Some(short)) => Err(self.unacknowledged(name, &ran.pool, short)),
            (standing, _) => Ok(standing),
        }
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        let ran = self.run(Purpose::Command, &INSPECT, name, &[])?;
        reply::report(name, &ran.value).map_err(|NotALock| {
            let fault = Fault::Refused("NOTALOCK".into(), "the record of this lock cannot be read".into());
            self.explain(&ran.pool, fault, &self.keys(name))
        })
    }

    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let mut reports = Vec::new();
        for pool in self.route.servers()? {
            match self.list_of(&pool, prefix, limit) {
                Ok(more) => reports.extend(more),
                Err(error @ Error::Connection { .. }) => return Err(self.route.gone(&pool, error)),
                Err(error) => return Err(error),
            }
        }
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports.dedup_by(|a, b| a.name == b.name);
        reports.truncate(limit);
        Ok(reports)
    }

    fn break_lock(&self, name: &LockName) -> Result<bool> {
        let ran = self.run(Purpose::Command, &BREAK, name, &[])?;
        match ran.value {
            Value::Int(n) => Ok(n == 1),
            other => Err(ran.pool.nonsense("break", &other)),
        }
    }

    fn servers(&self) -> Vec<ServerReport> {
        match self.route.servers() {
            Ok(pools) => pools.iter().map(|pool| survey::survey(pool, &self.prefix)).collect(),
            Err(error) => {
                let server = self.route.label().to_owned();
                vec![ServerReport { server, error: Some(survey::said(error)), ..ServerReport::default() }]
            }
        }
    }

    fn status(&self) -> StoreStatus {
        self.route.status()
    }

    fn server(&self) -> &str {
        self.route.label()
    }

    fn close(&self) {
        self.route.close();
    }
}
