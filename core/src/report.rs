//! Who holds, who waits: what `cluster_lock_info()` and the slow-wait log tell.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::key::LockName;

/// Exclusive or shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// One holder.
    Exclusive,
    /// Any number of holders, and no exclusive one.
    Shared,
}

impl Mode {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exclusive => "exclusive",
            Self::Shared => "shared",
        }
    }
}

/// Who asks for a lock, as others will see it. Never contains a secret: the request URI comes
/// without its query string.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// The node's name (`cluster_lock.node`).
    #[serde(rename = "n", default)]
    pub node: String,
    /// Process id on that node.
    #[serde(rename = "p", default)]
    pub pid: u32,
    /// PHP's SAPI name, for example `fpm-fcgi`.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub sapi: String,
    /// The main script's path.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub script: String,
    /// The request's path; empty on the command line.
    #[serde(rename = "u", default, skip_serializing_if = "String::is_empty")]
    pub request_uri: String,
    /// It wants, or has, the lock for a run ([`Acquire::run`](crate::Acquire::run)).
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub run: bool,
}

impl Identity {
    /// The form that travels with every acquire. Made once per request.
    pub fn encode(&self) -> Box<[u8]> {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// An encoded identity, of who wants the lock for a run.
    pub(crate) fn for_run(encoded: &[u8]) -> Box<[u8]> {
        Self { run: true, ..Self::decode(encoded) }.encode()
    }

    /// The inverse of [`Identity::encode`]; what cannot be read comes back empty.
    pub fn decode(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }
}

/// One holder of a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Holder {
    /// Who.
    pub identity: Identity,
    /// When it was let in, on the server's clock, as Unix time in seconds.
    pub since: f64,
    /// Its fencing token.
    pub fence: u64,
    /// What is left of its lease.
    pub lease_left: Duration,
}

/// One waiter for a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiter {
    /// Who.
    pub identity: Identity,
    /// When it began to wait, on the server's clock, as Unix time in seconds.
    pub since: f64,
    /// What it waits for.
    pub mode: Mode,
}

/// So many holders, and so many waiters, of one lock are told of at most, where one lock is asked about: what a server
/// reads of a lock in one step takes it 2 ms.
pub(crate) const TOLD: usize = 1000;

/// As [`TOLD`], where all locks are: many of them are read one after the other.
pub(crate) const TOLD_OF_EACH: usize = 100;

/// A lock that is held now: who holds it and who waits for it, of many the first thousand of each, in a list of locks the
/// first hundred (a quorum: of what each of its servers tells).
#[derive(Clone, Debug, PartialEq)]
pub struct LockReport {
    /// Its name.
    pub name: LockName,
    /// How it is held.
    pub mode: Mode,
    /// The newest fencing token given out for it.
    pub fence: u64,
    /// What is left of the longest lease.
    pub ttl: Duration,
    /// When the oldest of [these holders](Self::holders) was let in, Unix time in seconds.
    pub since: f64,
    /// Who holds it, oldest first; of many those whose leases run longest.
    pub holders: Vec<Holder>,
    /// Who waits, in the order in which they will be served. Who has died waiting is left out.
    pub waiters: Vec<Waiter>,
    /// How many hold it besides `holders`; 0 unless they are very many. Some may have died: they are not looked at.
    pub more_holders: usize,
    /// How many stand in the queue behind `waiters`, as `more_holders`. When all at its head have died `waiters` is
    /// empty, and this is not.
    pub more_waiters: usize,
}

impl LockReport {
    /// How many hold it, those who are not named among them.
    pub fn holding(&self) -> usize {
        self.holders.len().saturating_add(self.more_holders)
    }

    /// How many wait for it, those who are not named among them.
    pub fn waiting(&self) -> usize {
        self.waiters.len().saturating_add(self.more_waiters)
    }
}

/// What a server says of itself: what has to be known to tell whether locks are safe there. What it
/// does not tell, or may not, is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerReport {
    /// Where it is, without credentials.
    pub server: String,
    /// Why it could not be asked; or, when there is a round trip all the same, why it grants no lock.
    pub error: Option<String>,
    /// The shortest of a few round trips.
    pub round_trip: Option<Duration>,
    /// Seconds by which its clock is ahead of this machine's, give or take half a round trip.
    pub clock_ahead: Option<f64>,
    /// Its version.
    pub version: Option<String>,
    /// `master` or `slave`.
    pub role: Option<String>,
    /// The most memory it may use for data, in bytes; 0: no limit.
    pub maxmemory: Option<u64>,
    /// What it does when that is reached: `noeviction` is right.
    pub maxmemory_policy: Option<String>,
    /// Memory in use, in bytes.
    pub used_memory: Option<u64>,
    /// Keys that it has thrown away for want of memory since it started.
    pub evicted_keys: Option<u64>,
    /// Whether an append-only file is written.
    pub append_only: Option<bool>,
    /// Its replicas that are connected.
    pub replicas: Option<u64>,
    /// Keys of this database that were looked at.
    pub sampled_keys: Option<u64>,
    /// Of these, those that do not start with the prefix: somebody else uses this database, too.
    pub foreign_keys: Option<u64>,
    /// How its grace period stands; also `None` when the DSN asks for none.
    pub grace: Option<Grace>,
}

/// How it stands with the grace period of a server, in which it lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grace {
    /// It begins when the server is first asked for a lock of which it has no record.
    NotBegun,
    /// So much is left of it.
    Runs(Duration),
    /// It is over, until the server loses its memory.
    Over,
}

impl Grace {
    /// The word used in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotBegun => "not begun",
            Self::Runs(_) => "runs",
            Self::Over => "over",
        }
    }

    /// What is left of it; zero when it is over. `None`: all of it, from its beginning on.
    pub fn left(self) -> Option<Duration> {
        match self {
            Self::NotBegun => None,
            Self::Runs(left) => Some(left),
            Self::Over => Some(Duration::ZERO),
        }
    }
}

/// An [`Error`] together with the lock it concerns, for messages.
#[derive(Debug, Clone, thiserror::Error)]
#[error("lock \"{name}\": {error}")]
pub struct LockError {
    /// The lock.
    pub name: LockName,
    /// What happened to it.
    pub error: Error,
}
