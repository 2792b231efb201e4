//! `?wait=N`: what replicas have acknowledged survives a fail-over. And what becomes of locks that
//! nobody has acknowledged.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Engine, Error, Lease, Standing};
use support::cluster::ClusterSetup;
use support::sentinel::SentinelSetup;
use support::{Frozen, Want, engine, name, until, until_within};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn calls(server: &support::RedisServer, command: &str) -> u64 {
    let info = server.cli(&["INFO", "commandstats"]);
    let line =
        info.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")).map(str::to_owned));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn replicas_are_waited_for_only_where_that_is_wanted() {
    let setup = SentinelSetup::start(1);
    let primary = &setup.servers[setup.primary()];
    drop(Want::now().get(&engine(&setup.dsn()), "x"));
    assert_eq!(calls(primary, "wait"), 0);
    let e = engine(&(setup.dsn() + "?wait=1"));
    let lease = Want::now().get(&e, "x");
    assert_eq!(calls(primary, "wait"), 1);
    // A script that is not known yet costs a second try, and no more.
    lease.verify().unwrap();
    assert_eq!(calls(primary, "wait"), 3);
    lease.verify().unwrap();
    assert_eq!(calls(primary, "wait"), 4);
    // A lock that was handed over is confirmed before it counts.
    let waiter = {
        let e = engine(&(setup.dsn() + "?wait=1"));
        thread::spawn(move || Want::default().get(&e, "x").release().unwrap())
    };
    until("it waits", || e.info(&name("x")).unwrap().unwrap().waiters.len() == 1);
    let before = calls(primary, "wait");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    assert!(calls(primary, "wait") > before);
}

#[test]
fn too_few_replicas_are_no_lock() {
    let setup = SentinelSetup::start(1);
    let primary = setup.primary();
    let e = engine(&(setup.dsn() + "?wait=1"));
    let held = Want::default().ttl(4 * S).get(&e, "held");
    let frozen = Frozen::new(setup.servers[1 - primary].pid());
    let error = Want::now().with(|how| e.acquire(&name("x"), how)).unwrap_err();
    assert!(matches!(error, Error::FailingOver { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("0 of 1 replicas") && text.contains("?wait=1"), "{text}");
    assert_eq!(engine(&setup.dsn()).info(&name("x")).unwrap(), None, "it was given back");
    // What is not acknowledged does not prolong a lease.
    let left = held.remaining();
    assert!(matches!(held.refresh(20 * S), Err(Error::FailingOver { .. } | Error::Lost(_))));
    assert!(held.remaining() <= left);
    // Who has time left gets it as soon as there are enough.
    let asked = calls(&setup.servers[primary], "wait");
    let waiter = {
        let e = e.clone();
        thread::spawn(move || {
            drop(Want::default().within(30 * S).get(&e, "x"));
            Instant::now()
        })
    };
    until("it tries again and again", || calls(&setup.servers[primary], "wait") > asked + 2);
    let thawed = Instant::now();
    drop(frozen);
    assert!(waiter.join().unwrap() >= thawed);
}

#[test]
fn a_cluster_waits_for_its_replicas_too() {
    let setup = ClusterSetup::start();
    let e = engine(&(setup.dsn() + "?wait=1"));
    drop(Want::now().get(&e, "x"));
    let replica = setup.replica_of(setup.owner(setup.slot("x")));
    let frozen = Frozen::new(setup.servers[replica].pid());
    let error = Want::now().with(|how| e.acquire(&name("x"), how)).unwrap_err();
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
    drop(frozen);
    drop(Want::default().get(&e, "x"));
}

/// All fencing tokens of a lock, and when they were seen; and who believes to hold it.
type Holders = (BTreeMap<u64, Instant>, Vec<Arc<Lease>>);

/// What programs do that watch each other.
#[derive(Default)]
struct Field {
    locks: Mutex<HashMap<String, Holders>>,
    grants: AtomicU64,
    /// Let in while another still believed to hold the lock.
    doubles: AtomicU64,
    lost: AtomicU64,
}

impl Field {
    fn enter(&self, lock: &str, asked: Instant, lease: Lease) -> Arc<Lease> {
        let lease = Arc::new(lease);
        let mut locks = self.locks.lock().unwrap();
        let (tokens, holders) = locks.entry(lock.to_owned()).or_default();
        let others = u64::from(holders.iter().any(|other| other.is_held()));
        self.doubles.fetch_add(others, Ordering::Relaxed);
        // Whatever happens, the later has the greater token. Two that are let in at the same moment, by
        // two servers, may come here in another order; one that was in before the other has asked may not.
        let greater = tokens.range(lease.fence()..);
        let wrong = greater.filter(|(token, entered)| **token == lease.fence() || **entered < asked);
        assert_eq!(wrong.collect::<Vec<_>>(), [], "{lock}: {}", lease.fence());
        tokens.insert(lease.fence(), Instant::now());
        holders.push(Arc::clone(&lease));
        self.grants.fetch_add(1, Ordering::Relaxed);
        lease
    }

    fn leave(&self, lock: &str, lease: Arc<Lease>) {
        let mut locks = self.locks.lock().unwrap();
        locks.get_mut(lock).unwrap().1.retain(|other| !Arc::ptr_eq(other, &lease));
        drop(locks);
        // Nor is it known to be ours where no server has been there for so long that nobody could be told.
        if !matches!(Arc::into_inner(lease).unwrap().release(), Ok(Standing::Ours)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn get(&self, engine: &Engine, lock: &str, want: &Want) -> Arc<Lease> {
        let asked = Instant::now();
        self.enter(lock, asked, want.get(engine, lock))
    }
}

/// Programs lock and unlock all the time, while one fail-over after the other goes over them. How many
/// were let in while another still believed to hold the lock?
fn fail_overs(rounds: usize, options: &str) -> Field {
    let mut setup = SentinelSetup::start(1);
    let dsn = setup.dsn() + options;
    let (field, stop) = (Arc::new(Field::default()), Arc::new(AtomicBool::new(false)));
    let patient = Want::default().within(60 * S).ttl(10 * S);
    let workers: Vec<_> = (0..6)
        .map(|i| {
            let (engine, field, stop) = (engine(&dsn), Arc::clone(&field), Arc::clone(&stop));
            let (lock, patient) = (format!("lock{}", i % 3), patient.clone());
            thread::spawn(move || {
                for cycle in 0.. {
                    let lease = field.get(&engine, &lock, &patient);
                    // Some hold it through the fail-over.
                    thread::sleep(if cycle % 20 == i { 1500 * MS } else { 2 * MS });
                    field.leave(&lock, lease);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
            })
        })
        .collect();
    for round in 0..rounds {
        let (before, grants) = (setup.primary(), field.grants.load(Ordering::Relaxed));
        until_within(60 * S, "all goes well", || field.grants.load(Ordering::Relaxed) > grants + 20);
        // One that is let in when the replica no longer hears of it, and does not ask again.
        let late = |engine: Engine, lock: String| {
            let (field, want) = (Arc::clone(&field), Want::default().within(60 * S).ttl(20 * S).unrenewed());
            thread::spawn(move || (field.get(&engine, &lock, &want), field, lock))
        };
        let (mut frozen, mut cut) = (None, None);
        match round % 4 {
            0 => {
                let replica = Frozen::new(setup.servers[1 - before].pid());
                setup.servers[before].cli(&["CLIENT", "KILL", "TYPE", "replica"]);
                let late = late(engine(&dsn), format!("late{round}"));
                let key = support::cluster::key(&format!("late{round}"));
                until("it has asked", || setup.servers[before].keys().contains(&key));
                setup.servers[before].stop();
                drop(replica);
                cut = Some(late);
            }
            1 => setup.servers[before].stop(),
            2 => frozen = Some(Frozen::new(setup.servers[before].pid())),
            _ => setup.fail_over(),
        }
        let began = Instant::now();
        setup.await_switch(before);
        let took = began.elapsed();
        drop(frozen);
        let new = setup.servers[setup.primary()].port.to_string();
        if round % 4 < 2 {
            setup.servers[before].restart();
            // As an operator does; the sentinels take ten seconds for it.
            setup.servers[before].cli(&["REPLICAOF", "127.0.0.1", &new]);
        }
        if let Some(late) = cut {
            let lock = format!("late{round}");
            let lease = field.get(&engine(&dsn), &lock, &patient);
            field.leave(&lock, lease);
            let (lease, field, lock) = late.join().unwrap();
            field.leave(&lock, lease);
        }
        setup.await_whole();
        eprintln!(
            "round {round}: replaced after {:.1} s; {} grants, {} double, {} lost",
            took.as_secs_f64(),
            field.grants.load(Ordering::Relaxed),
            field.doubles.load(Ordering::Relaxed),
            field.lost.load(Ordering::Relaxed)
        );
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    Arc::into_inner(field).unwrap()
}

fn none_double(field: &Field) {
    assert_eq!(field.doubles.load(Ordering::Relaxed), 0);
}

/// That the next test can find some.
fn some_double(field: &Field) {
    assert!(field.doubles.load(Ordering::Relaxed) > 0);
}

#[test]
fn what_was_acknowledged_survives_a_fail_over() {
    none_double(&fail_overs(1, "?wait=1"));
}

#[test]
fn what_was_not_may_be_granted_again_with_a_greater_token() {
    some_double(&fail_overs(1, ""));
}

/// About five minutes: `cargo test -p cluster-lock-core --test acknowledged -- --ignored --nocapture`
#[test]
#[ignore = "takes about five minutes"]
fn twenty_fail_overs_with_acknowledgement() {
    none_double(&fail_overs(20, "?wait=1"));
}

/// As the one before.
#[test]
#[ignore = "takes about five minutes"]
fn twenty_fail_overs_without() {
    some_double(&fail_overs(20, ""));
}
