//! Who holds, who waits: what `cluster_lock_info()` and the slow-wait log tell.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::Error;
use crate::key::LockName;
use crate::text;

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
    /// Where in its code it asks; unknown of what is not PHP code, and of those that do not tell.
    #[serde(
        rename = "c",
        default,
        deserialize_with = "call_if_any",
        skip_serializing_if = "Call::is_unknown"
    )]
    pub call: Call,
}

/// Where in PHP code a lock is asked for. Never contains arguments.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// The function that asks, such as `compile`, `Theme::compile` or `{closure}`; empty outside of functions.
    #[serde(rename = "f", default, skip_serializing_if = "String::is_empty")]
    pub function: String,
    /// The file in which it does; empty: it is not known who asks.
    #[serde(rename = "w", default)]
    pub file: String,
    /// The line there, counted from 1.
    #[serde(rename = "l", default)]
    pub line: u32,
}

impl Call {
    /// Whether there is nothing to be told.
    pub fn is_unknown(&self) -> bool {
        self.file.is_empty()
    }
}

/// For people: `compile() at /srv/theme/compiler.php:142`; nothing when it is not known. Escaped and cut, since another
/// node may have written it.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unknown() {
            return Ok(());
        }
        if !self.function.is_empty() {
            write!(f, "{}() at ", text::said(&self.function))?;
        }
        write!(f, "{}:{}", text::end_of(&self.file), self.line)
    }
}

/// A call that cannot be read is none, and the rest of the identity stands.
fn call_if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Call, D::Error> {
    let call = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(call).unwrap_or_default())
}

impl Identity {
    /// The form that travels with every acquire.
    pub fn encode(&self) -> Box<[u8]> {
        Encoded::new(self).with(&self.call).into()
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

/// An identity, encoded once for many claims, each of which has its own call.
#[derive(Clone, Debug)]
pub struct Encoded {
    bytes: Vec<u8>,
    /// So many of them are the same for all.
    common: usize,
}

impl Encoded {
    /// Of this identity all but its call.
    pub fn new(identity: &Identity) -> Self {
        let identity = Identity { call: Call::default(), ..identity.clone() };
        let mut bytes = serde_json::to_vec(&identity).unwrap_or_default();
        bytes.pop(); // the closing brace
        Self { common: bytes.len(), bytes }
    }

    /// With this call: what [`Identity::encode`] makes of the whole.
    pub fn with(&mut self, call: &Call) -> &[u8] {
        self.bytes.truncate(self.common);
        if !call.is_unknown() {
            self.bytes.extend(b",\"c\":");
            let begin = self.bytes.len();
            if serde_json::to_writer(&mut self.bytes, call).is_err() {
                self.bytes.truncate(begin);
                self.bytes.extend(b"{}");
            }
        }
        self.bytes.push(b'}');
        &self.bytes
    }
}

/// Who was in the way of a claim when it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocker {
    /// One who held the lock.
    pub holder: Identity,
    /// How many waited already, of whom some may have died.
    pub ahead: u64,
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
    /// Why it could not be asked; or, when there is a round trip all the same, why locks do not work there.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call { function: "Theme::compile".into(), file: "/srv/a \"b\"/é.php".into(), line: 142 }
    }

    fn identity() -> Identity {
        let text = |text: &str| text.to_owned();
        Identity {
            node: text("web2"),
            pid: 4711,
            sapi: text("fpm-fcgi"),
            script: text("/srv/index.php"),
            request_uri: text("/page"),
            run: false,
            call: call(),
        }
    }

    #[test]
    fn a_call_is_added_to_what_all_claims_have_in_common() {
        let whole = identity();
        let without = Identity { call: Call::default(), ..whole.clone() };
        let mut encoded = Encoded::new(&whole);
        let long = Call { file: "/x".repeat(300), ..call() };
        for call in [long, call(), Call::default(), call()] {
            let expected = Identity { call: call.clone(), ..whole.clone() };
            assert_eq!(encoded.with(&call), serde_json::to_vec(&expected).unwrap());
            assert_eq!(Identity::decode(encoded.with(&call)), expected);
        }
        assert_eq!(*whole.encode(), *encoded.with(&call()));
        assert!(!String::from_utf8_lossy(&without.encode()).contains("\"c\""), "as it ever was");
    }

    #[test]
    fn a_call_that_cannot_be_read_hides_nothing_else() {
        for foreign in
            ["7", "\"x\"", "null", "[]", "{\"l\":-1,\"w\":\"/x\"}", "{\"w\":{}}", "{}", "{\"l\":1e99}"]
        {
            let read = Identity::decode(format!("{{\"c\":{foreign},\"n\":\"web2\",\"p\":3}}").as_bytes());
            assert_eq!((read.node.as_str(), read.pid, read.call), ("web2", 3, Call::default()), "{foreign}");
        }
        let cut = identity().encode();
        for end in 0..cut.len() {
            assert_eq!(Identity::decode(cut.get(..end).unwrap()), Identity::default(), "{end}");
        }
    }

    #[test]
    fn what_is_shown_of_a_call_is_printable_and_short() {
        assert_eq!(call().to_string(), "Theme::compile() at /srv/a \"b\"/é.php:142");
        assert_eq!(Call { function: String::new(), ..call() }.to_string(), "/srv/a \"b\"/é.php:142");
        assert_eq!(Call { file: String::new(), ..call() }.to_string(), "");
        let hostile = "a\r\n\x1b[2J".repeat(5000);
        let shown = Call { function: hostile.clone(), file: hostile + "/compiler.php", line: 7 }.to_string();
        assert!(!shown.contains(char::is_control) && shown.len() < 5000, "{shown}");
        assert!(shown.ends_with("/compiler.php:7"), "{shown}");
    }
}
