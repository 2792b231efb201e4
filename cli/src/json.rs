//! JSON: the shapes that the README documents, and a way to write them that no name can misuse.

use std::io;

use cluster_lock_core::{Call, Grace, Holder, Identity, LockName, LockReport, Mode, ServerReport, Waiter};
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::outcome::{Failure, Result};

/// Serialises to one line of ASCII. Names are arbitrary, and somebody will look at JSON on a terminal.
pub(crate) fn line(value: &impl Serialize) -> Result<String> {
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, Ascii))
        .map_err(|e| Failure::System("JSON".into(), e.into()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        for c in text.chars() {
            if c.is_ascii() && c != '\x7f' {
                CompactFormatter.write_string_fragment(out, c.encode_utf8(&mut [0; 4]))?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

/// A command that failed.
#[derive(Serialize)]
pub(crate) struct Failed {
    error: FailedBecause,
}

#[derive(Serialize)]
struct FailedBecause {
    code: u8,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        Self {
            error: FailedBecause { code: failure.code(), message: failure.to_string(), hint: failure.hint() },
        }
    }
}

/// A lock's name, twice: as text (what is not UTF-8 in it replaced), and as `--escaped` takes it.
#[derive(Serialize)]
pub(crate) struct Name {
    name: String,
    escaped: String,
}

impl From<&LockName> for Name {
    fn from(name: &LockName) -> Self {
        Self { name: String::from_utf8_lossy(name.as_bytes()).into_owned(), escaped: name.to_string() }
    }
}

/// Who.
#[derive(Serialize)]
pub(crate) struct Who<'a> {
    node: &'a str,
    pid: u32,
    sapi: &'a str,
    script: &'a str,
    request_uri: &'a str,
    run: bool,
    function: &'a str,
    file: &'a str,
    line: u32,
}

impl<'a> From<&'a Identity> for Who<'a> {
    fn from(identity: &'a Identity) -> Self {
        let Identity { node, pid, sapi, script, request_uri, run, call } = identity;
        let Call { function, file, line } = call;
        Self { node, pid: *pid, sapi, script, request_uri, run: *run, function, file, line: *line }
    }
}

/// A lock that is held.
#[derive(Serialize)]
pub(crate) struct Lock<'a> {
    #[serde(flatten)]
    name: Name,
    mode: &'static str,
    fence: u64,
    since: f64,
    held_seconds: f64,
    lease_left_seconds: f64,
    holders: Vec<Holding<'a>>,
    waiters: Vec<Waiting<'a>>,
    more_holders: usize,
    more_waiters: usize,
}

#[derive(Serialize)]
struct Holding<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    since: f64,
    held_seconds: f64,
    fence: u64,
    lease_left_seconds: f64,
}

#[derive(Serialize)]
struct Waiting<'a> {
    #[serde(flatten)]
    who: Who<'a>,
    since: f64,
    waited_seconds: f64,
    mode: &'static str,
}

impl<'a> Lock<'a> {
    /// As seen at `now`, Unix time in seconds.
    pub(crate) fn at(now: f64, report: &'a LockReport) -> Self {
        let LockReport { name, mode, fence, ttl, since, holders, waiters, more_holders, more_waiters } =
            report;
        // No clock of two machines is true to the microsecond.
        let ago = |since: f64| ((now - since).max(0.0) * 1000.0).round() / 1000.0;
        let held = |Holder { identity, since, fence, lease_left }: &'a Holder| Holding {
            who: identity.into(),
            since: *since,
            held_seconds: ago(*since),
            fence: *fence,
            lease_left_seconds: lease_left.as_secs_f64(),
        };
        let waits = |Waiter { identity, since, mode }: &'a Waiter| Waiting {
            who: identity.into(),
            since: *since,
            waited_seconds: ago(*since),
            mode: Mode::as_str(*mode),
        };
        Self {
            name: name.into(),
            mode: mode.as_str(),
            fence: *fence,
            since: *since,
            held_seconds: ago(*since),
            lease_left_seconds: ttl.as_secs_f64(),
            holders: holders.iter().map(held).collect(),
            waiters: waiters.iter().map(waits).collect(),
            more_holders: *more_holders,
            more_waiters: *more_waiters,
        }
    }
}

/// What a server says of itself; `null` is what it does not say.
#[derive(Serialize)]
pub(crate) struct Facts<'a> {
    server: &'a str,
    error: Option<&'a str>,
    round_trip_seconds: Option<f64>,
    clock_ahead_seconds: Option<f64>,
    version: Option<&'a str>,
    role: Option<&'a str>,
    maxmemory_bytes: Option<u64>,
    maxmemory_policy: Option<&'a str>,
    used_memory_bytes: Option<u64>,
    evicted_keys: Option<u64>,
    append_only: Option<bool>,
    replicas: Option<u64>,
    sampled_keys: Option<u64>,
    foreign_keys: Option<u64>,
    grace: Option<&'static str>,
    grace_left_seconds: Option<f64>,
}

impl<'a> From<&'a ServerReport> for Facts<'a> {
    fn from(report: &'a ServerReport) -> Self {
        Self {
            server: &report.server,
            error: report.error.as_deref(),
            round_trip_seconds: report.round_trip.map(|time| time.as_secs_f64()),
            clock_ahead_seconds: report.clock_ahead,
            version: report.version.as_deref(),
            role: report.role.as_deref(),
            maxmemory_bytes: report.maxmemory,
            maxmemory_policy: report.maxmemory_policy.as_deref(),
            used_memory_bytes: report.used_memory,
            evicted_keys: report.evicted_keys,
            append_only: report.append_only,
            replicas: report.replicas,
            sampled_keys: report.sampled_keys,
            foreign_keys: report.foreign_keys,
            grace: report.grace.map(Grace::as_str),
            grace_left_seconds: report.grace.and_then(Grace::left).map(|left| left.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped_and_means_the_same() {
        let text = "a\x1b[2J\u{9b}\u{202e}\x7f é 𝄞 \"\\\n";
        let line = line(&text).unwrap();
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
