//! Locks on one Redis or Valkey server: each step is one script, one round trip.

use std::time::Duration;

use once_cell::sync::Lazy;
use redis::Value;

use super::machine::WAITER_DEAD_AFTER;
use super::{Attempt, Claim, Grant, IfBusy, Standing, Store, StoreStatus, Token, Wake};
use crate::clock::Instant;
use crate::config::Config;
use crate::connection::{Fault, Readiness};
use crate::dsn::Server;
use crate::error::{Error, Loss, Result};
use crate::key::{LockName, encode};
use crate::pool::{Loan, Pool, Purpose};
use crate::report::{Holder, Identity, LockReport, Mode, Waiter};

/// A Lua script, and the digest by which the server knows it.
struct Script {
    text: String,
    sha1: String,
}

impl Script {
    fn new(text: &str) -> Self {
        let text = text.replace("--#include common.lua", include_str!("scripts/common.lua"));
        let sha1 = sha1_smol::Sha1::from(&text).digest().to_string();
        Self { text, sha1 }
    }
}

macro_rules! script {
    ($name:ident, $file:literal) => {
        static $name: Lazy<Script> = Lazy::new(|| Script::new(include_str!($file)));
    };
}
script!(ACQUIRE, "scripts/acquire.lua");
script!(RELEASE, "scripts/release.lua");
script!(RENEW, "scripts/renew.lua");
script!(BREAK, "scripts/break.lua");
script!(INSPECT, "scripts/inspect.lua");

/// How often a command is sent whose connection breaks, if all of that takes no longer than
/// [`AT_ONCE`]; twice in any case.
const TRIES: u32 = 4;

/// See [`TRIES`].
const AT_ONCE: Duration = Duration::from_millis(200);

/// How long an idle name remembers its last fencing token: `RETAIN` of `common.lua`.
const RETAIN_MS: u64 = 60_000;

/// Keys asked for in one step of a `SCAN`, and locks inspected in one round trip.
const SCAN_COUNT: usize = 1000;

/// See [`Store`].
pub struct RedisStore {
    pool: Pool,
    prefix: String,
}

impl RedisStore {
    /// A store on a server. No I/O.
    pub fn new(server: Server, config: &Config) -> Self {
        Self { pool: Pool::new(server, config), prefix: config.prefix.clone() }
    }

    fn key(&self, name: &LockName) -> String {
        let mut key = String::with_capacity(self.prefix.len() + name.as_bytes().len() + 8);
        key.push_str(&self.prefix);
        key.push('{');
        key.push_str(&name.encoded());
        key.push('}');
        key
    }

    /// Runs a script on a lock. When the connection breaks the outcome is unknown; the script is run
    /// again on a new connection, which settles it, because every script is idempotent. Again, too,
    /// when that one breaks at once; not after a time-out.
    fn run(&self, purpose: Purpose, script: &Script, name: &LockName, argv: &[&[u8]]) -> Result<Value> {
        self.run_counted(purpose, script, name, argv).map(|(value, _)| value)
    }

    /// [`RedisStore::run`], and how many tries it took.
    fn run_counted(
        &self,
        purpose: Purpose,
        script: &Script,
        name: &LockName,
        argv: &[&[u8]],
    ) -> Result<(Value, u32)> {
        let key = self.key(name);
        let mut command: Vec<&[u8]> = Vec::with_capacity(4 + argv.len());
        command.extend([b"EVALSHA", script.sha1.as_bytes(), b"1", key.as_bytes()]);
        command.extend(argv);
        let began = Instant::now();
        let mut tries = 1;
        loop {
            match Self::run_once(&mut self.pool.get(purpose)?, script, &mut command) {
                Ok(value) => return Ok((value, tries)),
                Err(Fault::Broken(_))
                    if tries == 1 || (tries < TRIES && Instant::now().since(began) < AT_ONCE) =>
                {
                    self.pool.clear();
                    tries += 1;
                }
                Err(fault) => return Err(self.pool.explain(fault)),
            }
        }
    }

    /// Calls by digest, and by text when the server does not know the digest.
    fn run_once<'a>(
        connection: &mut Loan<'_>,
        script: &'a Script,
        command: &mut [&'a [u8]],
    ) -> std::result::Result<Value, Fault> {
        match connection.call(command) {
            Err(Fault::Refused(code, _)) if code == "NOSCRIPT" => {
                if let [verb, text, ..] = command {
                    (*verb, *text) = (b"EVAL", script.text.as_bytes());
                }
                connection.call(command)
            }
            other => other,
        }
    }

    fn protocol(&self, what: &str, value: &Value) -> Error {
        Error::Server {
            server: self.pool.label().to_owned(),
            cause: format!("unexpected answer to {what}: {value:?}"),
        }
    }

    fn standing(&self, what: &str, value: &Value) -> Result<Standing> {
        Ok(match value {
            Value::Int(1) => Standing::Ours,
            Value::Int(2) => Standing::Lost(Loss::Broken),
            Value::Int(3) => Standing::Lost(Loss::Forgotten),
            Value::Int(4) => Standing::Lost(Loss::Superseded),
            other => return Err(self.protocol(what, other)),
        })
    }

    /// Inspects many locks in one round trip.
    fn inspect(&self, names: &[LockName]) -> Result<Vec<LockReport>> {
        let mut connection = self.pool.get(Purpose::Command)?;
        let explain = |fault| self.pool.explain(fault);
        connection.begin();
        for name in names {
            connection.add(&[b"EVALSHA", INSPECT.sha1.as_bytes(), b"1", self.key(name).as_bytes()]);
        }
        connection.send().map_err(explain)?;
        let mut reports = Vec::new();
        let mut unknown = Vec::new();
        for name in names {
            match connection.receive() {
                Ok(value) => reports.extend(report(name, &value)),
                Err(Fault::Refused(code, _)) if code == "NOSCRIPT" => unknown.push(name),
                Err(fault) => {
                    // Replies to the rest of the batch are still on their way.
                    connection.poison();
                    return Err(explain(fault));
                }
            }
        }
        drop(connection);
        for name in unknown {
            reports.extend(self.info(name)?);
        }
        Ok(reports)
    }
}

impl Store for RedisStore {
    fn attempt(&self, claim: &Claim<'_>, if_busy: IfBusy) -> Result<Attempt> {
        let (mut ttl, mut keep, mut place) = (itoa::Buffer::new(), itoa::Buffer::new(), itoa::Buffer::new());
        let lease = millis(claim.ttl);
        let value = self.run(
            Purpose::Command,
            &ACQUIRE,
            claim.name,
            &[
                claim.token.as_bytes(),
                match claim.mode {
                    Mode::Exclusive => b"X",
                    Mode::Shared => b"S",
                },
                ttl.format(lease).as_bytes(),
                match if_busy {
                    IfBusy::Queue => b"Q",
                    IfBusy::GiveUp => b"G",
                },
                place.format(claim.place).as_bytes(),
                claim.identity,
                keep.format(lease + RETAIN_MS).as_bytes(),
            ],
        )?;
        match &value {
            Value::Int(fence) => Ok(Attempt::Held(Grant { fence: unsigned(*fence), lease: claim.ttl })),
            Value::Array(items) => match items.as_slice() {
                [Value::Int(place), Value::Int(left), Value::BulkString(holder)] => Ok(Attempt::Busy {
                    place: unsigned(*place),
                    blocked_for: Duration::from_millis(unsigned(*left)),
                    holder: holder.as_slice().into(),
                }),
                _ => Err(self.protocol("acquire", &value)),
            },
            _ => Err(self.protocol("acquire", &value)),
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
        let mut connection = self.pool.get(Purpose::Apart)?;
        let explain = |fault| self.pool.explain(fault);
        let mut mailbox = self.key(claim.name).into_bytes();
        mailbox.extend_from_slice(b":m:");
        mailbox.extend_from_slice(claim.token.as_bytes());
        // Zero would mean for ever. The server's clock for this has a resolution of 1 ms.
        let seconds = slice.as_secs_f64().max(0.001);
        connection.begin();
        connection.add(&[b"BLPOP", &mailbox, format!("{seconds:.3}").as_bytes()]);
        connection.send().map_err(explain)?;
        let patience = slice + Duration::from_millis(250);
        match connection.wait_readable(patience, interrupted).map_err(explain)? {
            Readiness::Ready => {}
            // The reply is outstanding, so the connection goes (the loan drops it).
            Readiness::Interrupted => return Ok(Wake::Interrupted),
            Readiness::TimedOut => return Ok(Wake::Retry),
        }
        match connection.receive().map_err(explain)? {
            Value::Nil => Ok(Wake::Retry),
            Value::Array(items) => match items.as_slice() {
                [_, Value::BulkString(mail)] => Ok(parse_mail(mail).map_or(Wake::Retry, Wake::Granted)),
                _ => Ok(Wake::Retry),
            },
            other => Err(self.protocol("BLPOP", &other)),
        }
    }

    fn release(&self, name: &LockName, token: &Token) -> Result<Standing> {
        let (value, tries) = self.run_counted(Purpose::Command, &RELEASE, name, &[token.as_bytes()])?;
        match self.standing("release", &value)? {
            // The first try, whose reply was lost, released it, and others have come and gone since.
            // (Or the server lost its data in the same moment; nobody can tell.)
            Standing::Lost(Loss::Superseded) if tries > 1 => Ok(Standing::Ours),
            standing => Ok(standing),
        }
    }

    fn renew(&self, name: &LockName, token: &Token, ttl: Duration) -> Result<Standing> {
        let ttl = millis(ttl).to_string();
        let value = self.run(Purpose::Apart, &RENEW, name, &[token.as_bytes(), ttl.as_bytes()])?;
        self.standing("renew", &value)
    }

    fn info(&self, name: &LockName) -> Result<Option<LockReport>> {
        let value = self.run(Purpose::Command, &INSPECT, name, &[])?;
        Ok(report(name, &value))
    }

    fn list(&self, prefix: &[u8], limit: usize) -> Result<Vec<LockReport>> {
        let start = format!("{}{{", self.prefix);
        // Neither the prefix nor an encoded name contains a glob character.
        let pattern = format!("{start}{}*}}", encode(prefix));
        let mut names = std::collections::BTreeSet::new();
        let mut reports = Vec::new();
        let mut cursor = b"0".to_vec();
        loop {
            let count = SCAN_COUNT.to_string();
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
            let reply =
                self.pool.get(Purpose::Command)?.call(&scan).map_err(|fault| self.pool.explain(fault))?;
            let Value::Array(parts) = &reply else {
                return Err(self.protocol("SCAN", &reply));
            };
            let [Value::BulkString(next), Value::Array(keys)] = parts.as_slice() else {
                return Err(self.protocol("SCAN", &reply));
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
                reports.extend(self.inspect(&fresh)?);
            }
            if next == b"0" || reports.len() >= limit {
                break;
            }
            cursor.clone_from(next);
        }
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports.truncate(limit);
        Ok(reports)
    }

    fn break_lock(&self, name: &LockName) -> Result<bool> {
        let value = self.run(Purpose::Command, &BREAK, name, &[])?;
        match value {
            Value::Int(n) => Ok(n == 1),
            other => Err(self.protocol("break", &other)),
        }
    }

    fn status(&self) -> StoreStatus {
        let pool = self.pool.status();
        let known = |text: String| if text.is_empty() { None } else { Some(text) };
        StoreStatus {
            backend: "redis",
            dsn: self.pool.label().to_owned(),
            server_version: known(pool.greeting.version),
            server_role: known(pool.greeting.role),
            open: pool.open,
            idle: pool.idle,
            created: pool.created,
            discarded: pool.discarded,
        }
    }

    fn server(&self) -> &str {
        self.pool.label()
    }

    fn close(&self) {
        self.pool.clear();
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX).min(1 << 40)
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

/// `FENCE LEASE`, as `common.lua` puts it into a mailbox.
fn parse_mail(mail: &[u8]) -> Option<Grant> {
    let (fence, lease) = std::str::from_utf8(mail).ok()?.split_once(' ')?;
    Some(Grant { fence: fence.parse().ok()?, lease: Duration::from_millis(lease.parse().ok()?) })
}

/// A cursor over `word word … rest`, as the scripts write their records.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn word(&mut self) -> Option<&'a str> {
        // An exclamation mark in place of a blank says something of the word behind it.
        let end = self.0.iter().position(|&b| b == b' ' || b == b'!')?;
        let (word, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        std::str::from_utf8(word).ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.word()?.parse().ok()
    }
}

/// Reads what `inspect.lua` returns; `None` when nobody holds the lock.
fn report(name: &LockName, value: &Value) -> Option<LockReport> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(now), Value::BulkString(state), readers, info, queue, waiting] = parts.as_slice() else {
        return None;
    };
    let now = unsigned(*now);
    let left = |expiry: u64| Duration::from_millis(expiry.saturating_sub(now));
    let mut fields = Fields(state);
    let kind = fields.word()?;
    if kind.starts_with('F') {
        return None;
    }
    let (_token, fence) = (fields.word()?, fields.number()?);
    let (since, start) = (fields.number()?, fields.number()?);
    let (lease, _previous) = (fields.number()?, fields.word()?);
    let expiry = start / 1000 + lease;
    let mut holders = Vec::new();
    let mode = if kind.starts_with('X') {
        if expiry > now {
            holders.push(Holder {
                identity: Identity::decode(fields.0),
                since: seconds(since),
                fence,
                lease_left: left(expiry),
            });
        }
        Mode::Exclusive
    } else {
        let records = pairs(info);
        for (token, expiry) in pairs(readers) {
            let expiry = std::str::from_utf8(expiry).ok().and_then(|e| e.parse().ok()).unwrap_or(0);
            let record = records.iter().find(|(t, _)| *t == token);
            if expiry > now
                && let Some((_, record)) = record
            {
                let mut fields = Fields(record);
                let (fence, since) = (fields.number()?, fields.number()?);
                holders.push(Holder {
                    identity: Identity::decode(fields.0),
                    since: seconds(since),
                    fence,
                    lease_left: left(expiry),
                });
            }
        }
        holders.sort_by_key(|h| h.fence);
        Mode::Shared
    };
    let since = holders.first()?.since;
    let records = pairs(waiting);
    let waiters = items(queue)
        .filter_map(|token| {
            let (_, record) = records.iter().find(|(t, _)| *t == token)?;
            let mut fields = Fields(record);
            let (beat, wanted, place) = (fields.number()?, fields.word()?, fields.number()?);
            let dead_after = millis(WAITER_DEAD_AFTER);
            (beat + dead_after >= now).then(|| Waiter {
                identity: Identity::decode(fields.0),
                // A place is the moment of arrival.
                since: seconds(place),
                mode: if wanted == "X" { Mode::Exclusive } else { Mode::Shared },
            })
        })
        .collect();
    Some(LockReport {
        name: name.clone(),
        mode,
        fence,
        ttl: holders.iter().map(|h| h.lease_left).max().unwrap_or_default(),
        since,
        holders,
        waiters,
    })
}

#[allow(clippy::cast_precision_loss)] // microseconds since 1970 fit a double for 285 years
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

fn items(value: &Value) -> impl Iterator<Item = &[u8]> {
    let list = if let Value::Array(list) = value { list.as_slice() } else { &[] };
    list.iter().filter_map(|item| if let Value::BulkString(b) = item { Some(b.as_slice()) } else { None })
}

fn pairs(value: &Value) -> Vec<(&[u8], &[u8])> {
    let mut flat = items(value);
    let mut out = Vec::new();
    while let (Some(a), Some(b)) = (flat.next(), flat.next()) {
        out.push((a, b));
    }
    out
}
