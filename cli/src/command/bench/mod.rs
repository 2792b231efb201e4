//! `bench`: what locks cost here and now, as multiples of a round trip. A time alone would say more about the
//! network and the machine than about the locks.

mod handoff;
mod own_lock;
mod raw;

use std::time::{Duration, Instant};

use cluster_lock_core::{Config, Engine, Lease, LockName};
use serde::Serialize;

use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::stats::Spread;
use crate::style::Style;
use crate::target::Target;
use crate::units::span;
use own_lock::{acquire, identity, named};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Uses locks of its own on the server that serves everybody: a few thousand short commands. A round trip is that of \
TIME, measured before and after, on a connection of its own, by the same code that locks are sent with.")]
pub(crate) struct Args {
    /// So many locks are taken and given back
    #[arg(short, long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    count: u32,

    /// So many threads, each with connections of its own, pass one lock on
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(2..=64))]
    threads: u16,
}

/// What was measured; ratios are what counts.
#[derive(Serialize)]
struct Measured<'a> {
    server: &'a str,
    round_trip: Spread,
    lock_unlock: Spread,
    /// p50 against p50 of two round trips.
    lock_unlock_ratio: f64,
    threads: u16,
    hand_off: Spread,
    /// p50 against p50 of a round trip.
    hand_off_ratio: f64,
    /// Cycles of all threads in a second against those of one alone.
    throughput_ratio: f64,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let engine = target.engine()?;
    let mut raw = raw::Raw::connect(&target.config, &engine)?;
    let mut round_trips = raw.round_trips(args.count / 2)?;
    let (name, alone) = (named("alone")?, args.count);
    let (lock_unlock, took) = uncontended(&engine, &name, alone, &target.config)?;
    let passed = handoff::measure(args.count, args.threads, &target.config)?;
    round_trips.extend(raw.round_trips(args.count - args.count / 2)?);
    let spread = |times| Spread::of(times).ok_or_else(|| Failure::Usage("nothing was measured".into()));
    let (round_trip, lock_unlock) = (spread(round_trips)?, spread(lock_unlock)?);
    let hand_off = spread(passed.times)?;
    let per_second = |count: f64, time: Duration| count / time.as_secs_f64();
    let measured = Measured {
        server: engine.server(),
        round_trip,
        lock_unlock,
        lock_unlock_ratio: ratio(lock_unlock.p50, 2 * round_trip.p50),
        threads: args.threads,
        hand_off,
        hand_off_ratio: ratio(hand_off.p50, round_trip.p50),
        throughput_ratio: per_second(f64::from(passed.cycles), passed.took)
            / per_second(f64::from(alone), took),
    };
    if out.json {
        out.object(&measured)?;
    } else {
        print(&measured, out)?;
    }
    engine.shutdown();
    Ok(Outcome::Yes)
}

fn print(m: &Measured<'_>, out: &Output) -> Result<()> {
    let two = 2 * m.round_trip.p50;
    out.line(out.paint(Style::Bold, m.server))?;
    let line = |what: String, p50: f64, p99: f64, of: &str, time: Duration| {
        let ratio = out.paint(Style::Good, format_args!("{p50:5.2} ×"));
        out.line(format_args!("  {what:<32} {ratio} {of:<17} p99 {p99:6.2} ×   ({})", span(time)))
    };
    line(
        "lock + unlock, nobody else".into(),
        m.lock_unlock_ratio,
        ratio(m.lock_unlock.p99, two),
        "two round trips",
        m.lock_unlock.p50,
    )?;
    line(
        format!("hand-off, {} threads on one lock", m.threads),
        m.hand_off_ratio,
        ratio(m.hand_off.p99, m.round_trip.p50),
        "a round trip",
        m.hand_off.p50,
    )?;
    let cycles = out.paint(Style::Good, format_args!("{:5.2} ×", m.throughput_ratio));
    out.line(format_args!(
        "  {:<32} {cycles} one thread alone",
        format!("cycles of the {} in a second", m.threads)
    ))?;
    let round = &m.round_trip;
    out.line(out.paint(
        Style::Dim,
        format_args!(
            "  a round trip of TIME, in the same run: p50 {}, p99 {:.2} × that",
            span(round.p50),
            ratio(round.p99, round.p50)
        ),
    ))
}

fn ratio(time: Duration, to: Duration) -> f64 {
    let exact = time.as_secs_f64() / to.as_secs_f64().max(1e-9);
    (exact * 1000.0).round() / 1000.0
}

/// How long each lock and unlock took, and all together.
fn uncontended(
    engine: &Engine,
    name: &LockName,
    count: u32,
    config: &Config,
) -> Result<(Vec<Duration>, Duration)> {
    let identity = identity(config);
    let cycle = || -> Result<Duration> {
        let began = Instant::now();
        acquire(engine, name, &identity).and_then(Lease::release).map_err(Failure::of(name))?;
        Ok(began.elapsed())
    };
    for _ in 0..10 {
        cycle()?; // makes the connection, and has the scripts compiled
    }
    let began = Instant::now();
    let times = (0..count).map(|_| cycle()).collect::<Result<_>>()?;
    Ok((times, began.elapsed()))
}
