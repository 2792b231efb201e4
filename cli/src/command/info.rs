//! `info`: one lock, who holds it, and who waits, in the order in which they will be served.

use cluster_lock_core::{Engine, LockReport, Mode};
use serde::Serialize;

use crate::json;
use crate::lock::{mode, who};
use crate::options::NameArg;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::servers::{is_closed, now_there, stands};
use crate::style::Style;
use crate::target::Target;
use crate::units::{between, span};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Of very many holders and waiters the first 1,000 of each are told of, and how many more there are. Ends with 1 when nobody \
holds it.")]
pub(crate) struct Args {
    #[command(flatten)]
    name: NameArg,
}

#[derive(Serialize)]
struct Info<'a> {
    server: &'a str,
    time: f64,
    #[serde(flatten)]
    name: json::Name,
    held: bool,
    /// As `list` tells it.
    lock: Option<json::Lock<'a>>,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let name = args.name.name()?;
    let engine = target.engine()?;
    let report = engine.info(&name).map_err(Failure::of(&name))?;
    let now = now_there(&engine);
    if out.json {
        let lock = report.as_ref().map(|report| json::Lock::at(now, report));
        let held = lock.is_some();
        out.object(&Info { server: engine.server(), time: now, name: (&name).into(), held, lock })?;
    } else if let Some(report) = &report {
        print(report, now, out)?;
    } else {
        out.note(format_args!("lock \"{name}\": nobody holds it on {}{}", engine.server(), closed(&engine)));
    }
    engine.shutdown();
    Ok(if report.is_some() { Outcome::Yes } else { Outcome::No })
}

/// Why nobody gets it all the same, if the grace period of a server is the cause.
fn closed(engine: &Engine) -> String {
    let closed = engine.servers().into_iter().filter(is_closed).find_map(|report| report.grace);
    closed.map_or_else(String::new, |grace| format!(" (grace period: {})", stands(grace)))
}

fn print(report: &LockReport, now: f64, out: &Output) -> Result<()> {
    let how = match report.mode {
        Mode::Exclusive if report.holders.iter().any(|holder| holder.identity.run) => {
            "exclusively, for a run"
        }
        Mode::Exclusive => "exclusively",
        Mode::Shared => "shared",
    };
    out.line(out.paint(Style::Bold, format_args!("{} (held {how})", report.name)))?;
    for holder in &report.holders {
        out.line(format_args!(
            "  held by {} for {}, lease left {}, fence {}",
            who(&holder.identity),
            span(between(holder.since, now)),
            span(holder.lease_left),
            holder.fence
        ))?;
    }
    if report.more_holders > 0 {
        out.line(format_args!("  and {} more hold it", report.more_holders))?;
    }
    for (place, waiter) in report.waiters.iter().enumerate() {
        let line = format!(
            "  {}. waits: {} for {} ({})",
            place + 1,
            who(&waiter.identity),
            span(between(waiter.since, now)),
            mode(waiter.mode, &waiter.identity)
        );
        out.line(out.paint(Style::Warning, line))?;
    }
    if report.more_waiters > 0 {
        let line = format!("  and {} more in the queue", report.more_waiters);
        out.line(out.paint(Style::Warning, line))?;
    } else if report.waiters.is_empty() {
        out.line(out.paint(Style::Dim, "  nobody waits"))?;
    }
    Ok(())
}
