//! What a server says of itself, for health checks: [`ServerReport`].

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redis::Value;

use super::grace::Grace;
use crate::clock::Instant;
use crate::error::Error;
use crate::report::ServerReport;
use crate::wire::Fault;
use crate::wire::{Loan, Pool, Purpose};

/// The shortest of so many round trips is told.
const PINGS: usize = 3;

/// So many keys are looked at, about.
const SAMPLE: &[u8] = b"1000";

/// Asks a server about itself: four round trips, of commands that change nothing.
pub(crate) fn survey(pool: &Pool, prefix: &str, grace: Option<&Grace>) -> ServerReport {
    let mut report = ServerReport { server: pool.label().to_owned(), ..ServerReport::default() };
    let asked = pool.get(Purpose::Command).and_then(|mut loan| {
        ask(&mut loan, prefix, grace, &mut report).map_err(|fault| {
            // Answers may be on their way yet.
            loan.poison();
            pool.explain(fault)
        })
    });
    report.error = asked.err().map(Error::cause);
    let greeting = pool.status().greeting;
    report.version = report.version.or(greeting.version);
    report.role = report.role.or(greeting.role);
    report
}

fn ask(
    loan: &mut Loan<'_>,
    prefix: &str,
    grace: Option<&Grace>,
    report: &mut ServerReport,
) -> Result<(), Fault> {
    let mut clock = None;
    for _ in 0..PINGS {
        // TIME, because who may lock may ask for it.
        let (before, began) = (SystemTime::now(), Instant::now());
        let answer = loan.call(&[b"TIME"])?;
        let took = Instant::now().since(began);
        if report.round_trip.is_none_or(|best| took < best) {
            report.round_trip = Some(took);
            let here = before.duration_since(UNIX_EPOCH).unwrap_or_default() + took / 2;
            report.clock_ahead = time(&answer).map(|there| there.as_secs_f64() - here.as_secs_f64());
        }
        clock = time(&answer);
    }
    loan.begin();
    loan.add(&[b"INFO"]);
    loan.add(&[b"SCAN", b"0", b"COUNT", SAMPLE]);
    if let Some(grace) = grace {
        loan.add(&[b"GET", grace.born.as_bytes()]);
    }
    loan.send()?;
    let (info, keys) = (permitted(loan.receive())?, permitted(loan.receive())?);
    if let Some(grace) = grace {
        let born = match loan.receive() {
            // It is as if there were nothing: `common.lua`.
            Err(fault) if fault.is_foreign_key() => Some(Value::Nil),
            answer => permitted(answer)?,
        };
        report.grace = born.zip(clock).map(|(born, clock)| grace.stands(&born, clock));
    }
    if let Some(text) = info.as_ref().and_then(text) {
        read(&text, report);
    }
    if let Some(Value::Array(parts)) = keys
        && let [_, Value::Array(keys)] = parts.as_slice()
    {
        let ours = |key: &Value| matches!(key, Value::BulkString(key) if key.starts_with(prefix.as_bytes()));
        report.sampled_keys = u64::try_from(keys.len()).ok();
        report.foreign_keys = u64::try_from(keys.iter().filter(|key| !ours(key)).count()).ok();
    }
    Ok(())
}

/// What is not permitted stays unknown.
fn permitted(answer: Result<Value, Fault>) -> Result<Option<Value>, Fault> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Fault::Refused(..)) => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn text(answer: &Value) -> Option<String> {
    match answer {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

/// The answer to `TIME`: seconds and microseconds.
fn time(answer: &Value) -> Option<Duration> {
    let Value::Array(parts) = answer else { return None };
    let number = |part: &Value| text(part)?.parse::<u64>().ok();
    let [seconds, micros] = parts.as_slice() else { return None };
    Some(Duration::from_secs(number(seconds)?) + Duration::from_micros(number(micros)?))
}

/// The answer to `INFO`: lines `field:value`.
fn read(info: &str, report: &mut ServerReport) {
    let fields: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let text = |field: &str| fields.get(field).map(|value| (*value).to_owned());
    let number = |field: &str| fields.get(field).and_then(|value| value.parse().ok());
    report.version = text("valkey_version").or_else(|| text("redis_version"));
    report.role = text("role");
    report.maxmemory = number("maxmemory");
    report.maxmemory_policy = text("maxmemory_policy");
    report.used_memory = number("used_memory");
    report.evicted_keys = number("evicted_keys");
    report.append_only = number("aof_enabled").map(|enabled| enabled == 1);
    report.replicas = number("connected_slaves");
}
