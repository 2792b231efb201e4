//! `status`: the servers, as far as locks depend on them, and how much is held.

use cluster_lock_core::{LockReport, ServerReport, text};
use serde::Serialize;

use crate::finding::{Finding, Severity, worst};
use crate::json;
use crate::outcome::{Outcome, Result};
use crate::output::Output;
use crate::servers::{self, headline, stands};
use crate::style::Style;
use crate::target::Target;
use crate::units::bytes;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
A lock of a name of its own is taken on each server, waited for, handed over and given back. Ends with 1 when that fails, \
or when cluster-lock doctor would warn of a server: it has thrown keys away, or may; its memory is nearly full; others use its database. What the server does not tell (INFO is not among the rights that locks need: ACL SETUSER \
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
    let waiters = locks.iter().map(LockReport::waiting).sum();
    let servers = engine.examine();
    let config = &target.config;
    let mut found = servers::judge(config, &servers);
    found.retain(|finding| finding.severity >= Severity::Warning);
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
        servers.iter().try_for_each(|report| print(report, &found, out))?;
        for finding in
            found.iter().filter(|found| servers.iter().all(|report| report.server != found.subject))
        {
            out.line(out.paint(finding.severity.style(), &finding.says))?;
        }
    }
    engine.shutdown();
    Ok(if found.is_empty() { Outcome::Yes } else { Outcome::No })
}

fn print(report: &ServerReport, found: &[Finding], out: &Output) -> Result<()> {
    let found: Vec<_> = found.iter().filter(|finding| finding.subject == report.server).collect();
    out.line(out.paint(worst(found.iter().copied()).style(), headline(report)))?;
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
        report.grace.map(|grace| format!("grace       {}", stands(grace))),
    ];
    for fact in facts.into_iter().flatten() {
        out.line(format_args!("  {fact}"))?;
    }
    // The headline has said why it grants none.
    for finding in found.iter().filter(|finding| !["server.reachable", "server.grants"].contains(&finding.id))
    {
        out.line(format_args!("  {}", out.paint(finding.severity.style(), &finding.says)))?;
    }
    Ok(())
}
