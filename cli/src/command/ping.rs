//! `ping`: how long a round trip takes, by the way that locks take.

use std::time::{Duration, Instant};

use cluster_lock_core::{LockName, ServerReport};
use serde::Serialize;

use crate::json;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::servers::{headline, is_up, refusal};
use crate::stats::Spread;
use crate::style::Style;
use crate::target::Target;
use crate::units::{seconds, span};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each round trip runs a script on the server, as locks do, which changes nothing. The first one, which makes the \
connection, is told apart. At the end a lock of a name of its own is taken, waited for, handed over and given back, on \
each server. Ends with 3 when a lock could not be had now.")]
pub(crate) struct Args {
    /// So many round trips
    #[arg(short, long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,

    /// Pause between them
    #[arg(short, long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    interval: Duration,
}

/// Nobody's lock: it is only looked at.
const PROBE: &[u8] = b"cluster-lock ping";

#[derive(Serialize)]
struct Pong<'a> {
    server: &'a str,
    backend: &'static str,
    first_seconds: f64,
    round_trips: Spread,
    servers: Vec<json::Facts<'a>>,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let engine = target.engine()?;
    let name = LockName::new(PROBE)?;
    let round_trip = || -> Result<Duration> {
        let began = Instant::now();
        engine.info(&name)?;
        Ok(began.elapsed())
    };
    let first = round_trip()?;
    let mut times = Vec::new();
    for _ in 0..args.count {
        std::thread::sleep(args.interval);
        times.push(round_trip()?);
    }
    let spread = Spread::of(times).ok_or_else(|| Failure::Usage("--count: 1 or more is allowed".into()))?;
    engine.try_out()?;
    let servers = engine.examine();
    let refusal = refusal(&target.config, &servers).map(Failure::from);
    if out.json {
        out.object(&Pong {
            server: engine.server(),
            backend: target.config.dsn.backend(),
            first_seconds: first.as_secs_f64(),
            round_trips: spread,
            servers: servers.iter().map(json::Facts::from).collect(),
        })?;
    } else {
        print(engine.server(), first, &spread, &servers, out)?;
    }
    engine.shutdown();
    let Some(failure) = refusal else { return Ok(Outcome::Yes) };
    out.report(&failure);
    Ok(Outcome::Code(failure.code()))
}

fn print(
    server: &str,
    first: Duration,
    spread: &Spread,
    servers: &[ServerReport],
    out: &Output,
) -> Result<()> {
    let Spread { count, min, p50, p99, max } = *spread;
    out.line(out.paint(Style::Bold, server))?;
    out.line(format_args!(
        "  {count} round trips: min {}, p50 {}, p99 {}, max {}; the first, with the connection, {}",
        span(min),
        span(p50),
        span(p99),
        span(max),
        span(first)
    ))?;
    for report in servers {
        let style = if is_up(report) { Style::Good } else { Style::Bad };
        out.line(format_args!("  {}", out.paint(style, headline(report))))?;
    }
    Ok(())
}
