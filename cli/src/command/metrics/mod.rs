//! `metrics`: what is held, and how the servers are, for Prometheus and its kind.

mod exposition;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use cluster_lock_core::replace::{Existing, Options, Replacement, Target as FileTarget};
use cluster_lock_core::{Config, Engine, LockReport, Mode, ServerReport};
use serde::Serialize;

use crate::json;
use crate::lock::longest_wait;
use crate::outcome::{Failure, Outcome, Result};
use crate::output::Output;
use crate::servers::{ahead, is_primary, is_up, keeps_all, refusal};
use crate::target::Target;
use crate::units::{between, now};
use exposition::{Exposition, Kind};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
OpenMetrics text. For node_exporter's textfile collector: a timer that runs \
cluster-lock metrics --output /var/lib/prometheus/node-exporter/cluster_lock.prom. When no lock can be had now there is \
cluster_lock_up 0 and little else, standard error says why, and the exit status is 3. The README has the series, and alerts.")]
pub(crate) struct Args {
    /// Series of their own for the N locks that are waited for longest, and then are held longest
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    per_lock: u16,

    /// Write this file, which readers see whole or not at all, instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// So many locks are looked at, at most.
const MOST: usize = 100_000;

/// The numbers, before they are series.
#[derive(Serialize)]
struct Numbers<'a> {
    up: bool,
    exclusive: usize,
    shared: usize,
    holders: usize,
    waiters: usize,
    longest_wait_seconds: f64,
    longest_hold_seconds: f64,
    shortest_lease_left_seconds: Option<f64>,
    survey_seconds: f64,
    servers: Vec<json::Facts<'a>>,
    per_lock: Vec<json::Lock<'a>>,
}

/// What was found.
struct Survey {
    /// `None`: they could not be listed, or none could be had.
    locks: Option<Vec<LockReport>>,
    servers: Vec<ServerReport>,
    took: Duration,
    /// The servers' clock.
    now: f64,
}

pub(crate) fn run(args: &Args, target: &Target, out: &Output) -> Result<Outcome> {
    let engine = target.engine()?;
    let (survey, failure) = Survey::of(&target.config, &engine);
    let text = if out.json {
        format!("{}\n", json::line(&survey.numbers(args.per_lock.into()))?)
    } else {
        survey.exposition(args.per_lock.into())
    };
    match &args.output {
        None => out.bytes(text.as_bytes())?,
        Some(file) => {
            // By default not durable: after a power failure nobody wants yesterday's numbers.
            let place = FileTarget::resolve(file)?;
            let mut file = Replacement::begin(&place, Existing::Replace, &Options::default())?;
            file.write(text.as_bytes())?;
            file.commit(|| Ok(()))?;
        }
    }
    engine.shutdown();
    let Some(failure) = failure else { return Ok(Outcome::Yes) };
    out.report(&failure);
    Ok(Outcome::Code(failure.code()))
}

impl Survey {
    fn of(config: &Config, engine: &Engine) -> (Self, Option<Failure>) {
        let began = Instant::now();
        // A replica lists the locks, and grants none.
        let listed = engine.list(b"", MOST).and_then(|locks| engine.try_out().map(|()| locks));
        let servers = engine.examine();
        let refusal = refusal(config, &servers);
        let (locks, failure) = match listed.and_then(|locks| refusal.map_or(Ok(locks), Err)) {
            Ok(locks) => (Some(locks), None),
            Err(error) => (None, Some(Failure::from(error))),
        };
        let now = now() + ahead(&servers);
        (Self { locks, servers, took: began.elapsed(), now }, failure)
    }

    fn all(&self) -> &[LockReport] {
        self.locks.as_deref().unwrap_or_default()
    }

    fn held(&self, mode: Mode) -> usize {
        self.all().iter().filter(|lock| lock.mode == mode).count()
    }

    fn longest_wait(&self, lock: &LockReport) -> Duration {
        longest_wait(lock, self.now).unwrap_or_default()
    }

    fn hold(&self, lock: &LockReport) -> Duration {
        between(lock.since, self.now)
    }

    fn shortest_lease(&self) -> Option<f64> {
        let holders = self.all().iter().flat_map(|lock| &lock.holders);
        holders.map(|holder| holder.lease_left).min().map(|left| left.as_secs_f64())
    }

    /// Those that matter most.
    fn top(&self, count: usize) -> Vec<&LockReport> {
        let mut locks: Vec<_> = self.all().iter().collect();
        locks.sort_by_key(|lock| std::cmp::Reverse((self.longest_wait(lock), self.hold(lock))));
        locks.truncate(count);
        locks
    }

    fn numbers(&self, per_lock: usize) -> Numbers<'_> {
        let all = self.all();
        let longest = |of: &dyn Fn(&LockReport) -> Duration| all.iter().map(of).max().unwrap_or_default();
        Numbers {
            up: self.locks.is_some(),
            exclusive: self.held(Mode::Exclusive),
            shared: self.held(Mode::Shared),
            holders: all.iter().map(LockReport::holding).sum(),
            waiters: all.iter().map(LockReport::waiting).sum(),
            longest_wait_seconds: longest(&|lock| self.longest_wait(lock)).as_secs_f64(),
            longest_hold_seconds: longest(&|lock| self.hold(lock)).as_secs_f64(),
            shortest_lease_left_seconds: self.shortest_lease(),
            survey_seconds: self.took.as_secs_f64(),
            servers: self.servers.iter().map(json::Facts::from).collect(),
            per_lock: self.top(per_lock).into_iter().map(|lock| json::Lock::at(self.now, lock)).collect(),
        }
    }

    fn exposition(&self, per_lock: usize) -> String {
        let mut text = Exposition::default();
        let numbers = self.numbers(0);
        text.family("up", Kind::Gauge, "", "Whether the locks could be listed, and one be had.")
            .sample(&[], u8::from(numbers.up));
        text.family("survey_seconds", Kind::Gauge, "seconds", "Time that it took to find all this out.")
            .sample(&[], numbers.survey_seconds);
        if numbers.up {
            text.family("locks_held", Kind::Gauge, "", "Locks that are held, by mode.")
                .sample(&[("mode", "exclusive")], numbers.exclusive)
                .sample(&[("mode", "shared")], numbers.shared);
            text.family("holders", Kind::Gauge, "", "Holders of these locks; a shared one may have many.")
                .sample(&[], numbers.holders);
            text.family("waiters", Kind::Gauge, "", "Requests that wait for a lock.")
                .sample(&[], numbers.waiters);
            text.family(
                "longest_wait_seconds",
                Kind::Gauge,
                "seconds",
                "How long the most patient of them waits already.",
            )
            .sample(&[], numbers.longest_wait_seconds);
            text.family(
                "longest_hold_seconds",
                Kind::Gauge,
                "seconds",
                "How long the lock held longest is held already.",
            )
            .sample(&[], numbers.longest_hold_seconds);
            text.family(
                "shortest_lease_left_seconds",
                Kind::Gauge,
                "seconds",
                "What is left of the lease nearest its end; absent while nothing is held.",
            )
            .samples(numbers.shortest_lease_left_seconds.map(|left| (vec![], left)));
        }
        self.about_servers(&mut text);
        if per_lock > 0 {
            self.about_locks(&self.top(per_lock), &mut text);
        }
        text.finish()
    }

    fn about_servers(&self, text: &mut Exposition) {
        let mut family = |name, kind, unit, help, value: &dyn Fn(&ServerReport) -> Option<f64>| {
            let told =
                |report: &ServerReport| Some((vec![("server", report.server.clone())], value(report)?));
            text.family(name, kind, unit, help).samples(self.servers.iter().filter_map(told));
        };
        #[allow(clippy::cast_precision_loss)] // exact up to 2^53, and nobody looks closer
        let number = |count: Option<u64>| count.map(|count| count as f64);
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        family("server_up", Kind::Gauge, "", "Whether this server answers, and locks work there.", &|r| {
            Some(f64::from(u8::from(is_up(r))))
        });
        family("server_primary", Kind::Gauge, "", "Whether it says that it is a primary.", &|r| {
            is_primary(r).map(|yes| f64::from(u8::from(yes)))
        });
        family(
            "server_round_trip_seconds",
            Kind::Gauge,
            "seconds",
            "The shortest of a few round trips.",
            &|r| seconds(r.round_trip),
        );
        family(
            "server_clock_ahead_seconds",
            Kind::Gauge,
            "seconds",
            "By how much its clock is ahead of the one here.",
            &|r| r.clock_ahead,
        );
        family("server_used_memory_bytes", Kind::Gauge, "bytes", "Memory in use.", &|r| {
            number(r.used_memory)
        });
        family(
            "server_maxmemory_bytes",
            Kind::Gauge,
            "bytes",
            "The most it may use for data; 0 is no limit.",
            &|r| number(r.maxmemory),
        );
        family(
            "server_noeviction",
            Kind::Gauge,
            "",
            "Whether maxmemory-policy is noeviction, which is right.",
            &|r| keeps_all(r).map(|yes| f64::from(u8::from(yes))),
        );
        family(
            "server_evicted_keys",
            Kind::Counter,
            "",
            "Keys thrown away for want of memory since it started.",
            &|r| number(r.evicted_keys),
        );
        family("server_replicas", Kind::Gauge, "", "Replicas that are connected.", &|r| number(r.replicas));
        family("server_sampled_keys", Kind::Gauge, "", "Keys of this database that were looked at.", &|r| {
            number(r.sampled_keys)
        });
        family("server_foreign_keys", Kind::Gauge, "", "Of these, those of somebody else.", &|r| {
            number(r.foreign_keys)
        });
    }

    fn about_locks(&self, locks: &[&LockReport], text: &mut Exposition) {
        let mut family = |name, unit, help, value: &dyn Fn(&LockReport) -> f64| {
            let labels = |lock: &LockReport| {
                vec![("lock", lock.name.to_string()), ("mode", lock.mode.as_str().into())]
            };
            text.family(name, Kind::Gauge, unit, help)
                .samples(locks.iter().map(|lock| (labels(lock), value(lock))));
        };
        family("lock_hold_seconds", "seconds", "How long this lock is held already.", &|lock| {
            self.hold(lock).as_secs_f64()
        });
        family("lock_lease_left_seconds", "seconds", "What is left of its longest lease.", &|lock| {
            lock.ttl.as_secs_f64()
        });
        family(
            "lock_longest_wait_seconds",
            "seconds",
            "How long the first in its queue waits already.",
            &|lock| self.longest_wait(lock).as_secs_f64(),
        );
        #[allow(clippy::cast_precision_loss)]
        family("lock_waiters", "", "How many wait for it.", &|lock| lock.waiting() as f64);
    }
}
