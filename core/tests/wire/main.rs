//! Two versions on one server: the scripts of each version that is kept beside those of this source, on the same lock.
//!
//! A folder here is named by its version, and has that version's scripts and how it called them; `script/release` adds one
//! when a release's scripts are others than the last one's. A change of the scripts that makes these tests fail makes two
//! versions that cannot share a server: docs/upgrading.md says what that takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::struct_excessive_bools,
    missing_docs
)]

mod history;
#[path = "../support/mod.rs"]
mod support;
mod version;

use cluster_lock_core::store::machine::Machine;
use history::{BEAT, Break, DEAD, Fate, History, Kind, Limits, Visit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use redis::Connection;
use support::RedisServer;
use version::{Version, kept};

struct Lab {
    server: RedisServer,
    redis: Connection,
    old: Version,
    new: Version,
}

impl Lab {
    fn new(version: &str) -> Self {
        let server = RedisServer::start_with_clock(1_780_000_000_000_000);
        let mut redis = server.redis();
        let (old, new) = (Version::of(version, &mut redis), Version::todays(&mut redis));
        Self { server, redis, old, new }
    }

    /// The first version has no runs, and of a waiter it reads when it was heard of where others write until when it is
    /// believed to live.
    fn limits(&self) -> Limits {
        let first = !self.old.has_runs();
        Limits { drops_runs: first, drops_far: first, believes: if first { DEAD } else { 0 } }
    }

    fn run(&mut self, visits: &[Visit], breaks: &[Break]) -> History<'_> {
        let between = (&self.old, &self.new, self.limits());
        History::new(&self.server, &mut self.redis, between, visits, breaks).run()
    }

    /// So many us of it.
    fn until(&mut self, visits: &[Visit], us: u64) {
        let between = (&self.old, &self.new, self.limits());
        History::new(&self.server, &mut self.redis, between, visits, &[]).live_until(us);
    }
}

fn visit(old: bool, comes: u64, holds: u64) -> Visit {
    Visit { old, kind: Kind::Exclusive, comes, holds, lease: 5000, fate: Fate::Lives, converts: false }
}

fn shared(visit: Visit) -> Visit {
    Visit { kind: Kind::Shared, ..visit }
}

/// One of each version, either way round.
fn either_way(then: impl Fn(&mut Lab, bool)) {
    for version in kept() {
        let mut lab = Lab::new(&version);
        for old_first in [true, false] {
            then(&mut lab, old_first);
        }
    }
}

#[test]
fn who_waits_is_woken_by_the_other_versions_release() {
    either_way(|lab, old| {
        // For longer than who is not heard of is believed to live.
        let served = lab.run(&[visit(old, 0, 4700), visit(!old, 100, 10), visit(old, 200, 10)], &[]).served();
        assert_eq!(served, 3);
    });
}

#[test]
fn readers_of_both_versions_hold_together_and_writers_of_both_wait_their_turn() {
    either_way(|lab, old| {
        let visits = [
            shared(visit(old, 0, 3000)),
            shared(visit(!old, 10, 3000)),
            visit(!old, 20, 500),
            shared(visit(old, 30, 500)),
            shared(visit(!old, 40, 500)),
            visit(old, 50, 500),
        ];
        assert_eq!(lab.run(&visits, &[]).served(), 6);
    });
}

#[test]
fn a_lease_that_runs_out_lets_in_who_waits_and_is_told() {
    either_way(|lab, old| {
        let late = Visit { lease: 1000, fate: Fate::NeverRenews, ..visit(old, 0, 6000) };
        assert_eq!(lab.run(&[late, visit(!old, 100, 2000), visit(old, 200, 10)], &[]).served(), 3);
        let dead = Visit { fate: Fate::DiesHolding, ..late };
        assert_eq!(lab.run(&[dead, visit(!old, 100, 10)], &[]).served(), 1);
    });
}

#[test]
fn a_dead_waiter_is_passed_over() {
    either_way(|lab, old| {
        let dead = Visit { fate: Fate::Dies(10), ..visit(old, 100, 10) };
        let visits = [visit(!old, 0, 1500), dead, dead, visit(!old, 200, 10), visit(old, 210, 10)];
        assert_eq!(lab.run(&visits, &[]).served(), 3);
    });
}

#[test]
fn what_one_version_breaks_the_other_one_has_lost() {
    either_way(|lab, old| {
        let breaks = [(false, 1000), (true, 2500)].map(|(seen, at)| Break { old: !old, at, seen });
        let visits = [visit(old, 0, 6000), shared(visit(!old, 100, 6000)), shared(visit(old, 200, 6000))];
        assert_eq!(lab.run(&visits, &breaks).served(), 3);
    });
}

#[test]
fn reports_tell_of_the_other_versions_waiters() {
    either_way(|lab, old| {
        let holds = visit(old, 0, 9000);
        let waits = Visit { fate: Fate::GivesUp(3000), ..visit(!old, 100, 10) };
        // Between two of its beats.
        lab.until(&[holds, waits], 1_900_000);
        let engine = lab.server.observer();
        let report = engine.info(&support::name("lock")).unwrap().expect("it is held");
        assert_eq!((report.holders.len(), report.waiters.len()), (1, 1), "{report:?}");
    });
}

/// Whom the first version takes for dead, because it is to be heard of later than the others, comes again when it was to: one
/// second later, and 30 ms for each that stood before it.
#[test]
fn who_waits_far_back_gets_its_turn_whoever_gives_the_lock_back() {
    const WAITERS: u64 = 70;
    either_way(|lab, old| {
        let come = (1..=WAITERS).map(|i| visit(if i % 10 == 0 { old } else { !old }, i, 1));
        let visits: Vec<Visit> = std::iter::once(visit(old, 0, 300)).chain(come).collect();
        let history = lab.run(&visits, &[]);
        assert_eq!(history.served(), visits.len());
        let most = if history.limits.drops_far { BEAT + WAITERS * 30_000 } else { 0 };
        assert!(history.longest_free <= most, "free for {} us", history.longest_free);
    });
}

/// `local:` has its records in files. What 1.0 wrote there is understood, and all that is written again, so that it understands
/// what is written now.
#[test]
fn records_of_files_have_what_the_first_release_reads() {
    for record in include_str!("local-1.0.jsonl").lines() {
        let then: serde_json::Value = serde_json::from_str(record).unwrap();
        let now = serde_json::to_value(serde_json::from_value::<Machine>(then.clone()).unwrap()).unwrap();
        assert!(has(&now, &then), "{then}\nis written as\n{now}");
    }
}

/// Whether all of a part is there.
fn has(all: &serde_json::Value, part: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Object};
    match (all, part) {
        (Object(all), Object(part)) => {
            part.iter().all(|(key, value)| all.get(key).is_some_and(|all| has(all, value)))
        }
        (Array(all), Array(part)) => {
            all.len() == part.len() && all.iter().zip(part).all(|(all, part)| has(all, part))
        }
        _ => all == part,
    }
}

fn histories(cases: u32, waiters: usize) {
    let ms = prop_oneof![3 => 0..50u64, 2 => 0..1500u64, 1 => 0..5000u64];
    let kind = prop::sample::select(vec![Kind::Exclusive, Kind::Exclusive, Kind::Shared, Kind::Run]);
    let fate = prop_oneof![
        6 => Just(Fate::Lives),
        1 => Just(Fate::NeverRenews),
        1 => (0..2500u64).prop_map(Fate::Dies),
        1 => Just(Fate::DiesHolding),
        1 => (0..2500u64).prop_map(Fate::GivesUp),
    ];
    let converts = prop::bool::weighted(0.2);
    let visits = (any::<bool>(), kind, 0..4000u64, ms, 500..6000u64, fate, converts).prop_map(
        |(old, kind, comes, holds, lease, fate, converts)| Visit {
            old,
            kind,
            comes,
            holds,
            lease,
            fate,
            converts,
        },
    );
    let visits = prop::collection::vec(visits, 2..waiters);
    let breaks =
        (any::<bool>(), 0..5000u64, any::<bool>()).prop_map(|(old, at, seen)| Break { old, at, seen });
    let breaks = prop::collection::vec(breaks, 0..2);
    for version in kept() {
        let mut lab = Lab::new(&version);
        let lab = std::cell::RefCell::new(&mut lab);
        let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
        let all = runner.run(&(visits.clone(), breaks.clone()), |(visits, breaks)| {
            let longest = lab.borrow_mut().run(&visits, &breaks).longest_free;
            // One who waits looks at least so often.
            prop_assert!(longest <= BEAT + 10_000, "free for {longest} us while somebody waited");
            Ok::<(), TestCaseError>(())
        });
        if let Err(error) = all {
            panic!("{version}: {error}");
        }
    }
}

#[test]
fn histories_of_both_versions() {
    histories(std::env::var("WIRE_CASES").map_or(100, |cases| cases.parse().unwrap()), 10);
}
