//! `status`: the servers, as far as locks depend on them, and how much is held.

use cluster_lock_core::{ServerReport, text};
use serde::Serialize;

use crate::json;
use crate::outcome::{Outcome, Result};
use crate::output::Output;
use crate::servers::{headline, is_up};
use crate::style::Style;
use crate::target::Target;
use crate::units::bytes;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A lock of a name of its own is taken on each server, and given back. Ends with 1 when that fails, or when a server has \
thrown keys away, or may. What the server does not tell (INFO is not among the rights that locks need: ACL SETUSER \
cluster_lock +info) is left out.")]
pub(crate) struct Args {}

/// So many locks are counted at most.
const MOST: usize = 100_000;

#[derive(Serialize)]
struct Status<'a> {
    server: &'a str,
    source: String,
    read_by: Option<&'a str>,
    backend: &'static str,
    prefix: &'a str,
    node: &'a str,
    locks: usize,
    waiters: usize,
    servers: Vec<json::Facts<'a>>,
}

pub(crate) fn run(_: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let engine = target.engine()?;
    let locks = engine.list(b"", MOST)?;
    let waiters = locks.iter().map(|lock| lock.waiters.len()).sum();
    let servers = engine.examine();
    let config = &target.config;
    if out.json {
        out.object(&Status {
            server: engine.server(),
            source: target.source.to_string(),
            read_by: target.php.reader.as_deref(),
            backend: config.dsn.backend(),
            prefix: &config.prefix,
            node: &config.node,
            locks: locks.len(),
            waiters,
            servers: servers.iter().map(json::Facts::from).collect(),
        })?;
    } else {
        out.line(out.paint(Style::Bold, engine.server()))?;
        out.line(format_args!("  said by  {}", target.source))?;
        if let Some(reader) = &target.php.reader {
            out.line(format_args!("  read by  {reader}"))?;
        }
        out.line(format_args!("  prefix   {}", config.prefix))?;
        out.line(format_args!("  node     {}", text::said(&config.node)))?;
        out.line(format_args!("  locks    {} held, {waiters} waiting", locks.len()))?;
        servers.iter().try_for_each(|report| print(report, out))?;
    }
    engine.shutdown();
    let fine = servers.iter().all(|report| worries(report).is_empty());
    Ok(if fine { Outcome::Yes } else { Outcome::No })
}

/// What locks must not find on a server.
fn worries(report: &ServerReport) -> Vec<String> {
    let mut worries = Vec::new();
    if let Some(error) = &report.error {
        worries.push(text::said(error));
    }
    if report.role.as_deref().is_some_and(|role| role != "master") {
        worries.push("it is a replica: locks need a primary".into());
    }
    if report.maxmemory.is_some_and(|most| most > 0)
        && let Some(policy) = report.maxmemory_policy.as_deref().filter(|policy| *policy != "noeviction")
    {
        worries.push(format!(
            "it may throw locks away: maxmemory-policy {} (noeviction is right)",
            text::said(policy)
        ));
    }
    if let Some(count) = report.evicted_keys.filter(|count| *count > 0) {
        worries.push(format!("it has thrown {count} keys away for want of memory since it started"));
    }
    if let Some(count) = report.foreign_keys.filter(|count| *count > 0) {
        worries.push(format!(
            "somebody else uses this database ({count} of {} keys): FLUSHDB there would break all locks",
            report.sampled_keys.unwrap_or_default()
        ));
    }
    worries
}

fn print(report: &ServerReport, out: &Output) -> Result<()> {
    let worries = worries(report);
    let style = if worries.is_empty() { Style::Good } else { Style::Bad };
    out.line(out.paint(style, headline(report)))?;
    let memory = report.used_memory.map(|used| match report.maxmemory {
        Some(0) | None => format!("{} in use, no limit", bytes(used)),
        Some(most) => format!("{} in use, {} at most", bytes(used), bytes(most)),
    });
    let clock = report.clock_ahead.filter(|ahead| ahead.abs() >= 0.1);
    let facts = [
        memory.map(|memory| format!("memory      {memory}")),
        report.append_only.map(|on| format!("append-only {}", if on { "yes" } else { "no" })),
        report.replicas.map(|count| format!("replicas    {count}")),
        clock.map(|ahead| format!("clock       {ahead:+.1} s against this machine's")),
    ];
    for fact in facts.into_iter().flatten() {
        out.line(format_args!("  {fact}"))?;
    }
    for worry in worries.iter().filter(|_| is_up(report)) {
        out.line(format_args!("  {}", out.paint(Style::Bad, worry)))?;
    }
    Ok(())
}
