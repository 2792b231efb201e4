//! `redis://` where a name or an address leads to another server than before.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use cluster_lock_core::{Engine, Standing};
use fault_proxy::Proxy;
use support::{HANG, RedisServer, Want, assert_clean, cli, patient, until, waiting};

const S: Duration = Duration::from_secs(1);

/// Two servers of which the second replicates the first, and an address that leads to the first.
struct Endpoint {
    old: RedisServer,
    new: RedisServer,
    proxy: Proxy,
}

impl Endpoint {
    fn new() -> Self {
        let at_once = ["--repl-diskless-sync-delay", "0"];
        let old = RedisServer::start(&at_once);
        let port = old.port.to_string();
        let new = RedisServer::start(&[&at_once[..], &["--replicaof", "127.0.0.1", &port]].concat());
        until("it replicates", || old.cli(&["INFO", "replication"]).contains("state=online"));
        let proxy = Proxy::start(("127.0.0.1", old.port)).unwrap();
        Self { old, new, proxy }
    }

    fn dsn(&self) -> String {
        format!("redis://{}", self.proxy.address())
    }

    /// The second takes over, and the address with it; connections stay with whom they have.
    fn fail_over(&self) {
        self.promote();
        self.lead_to_the_new();
        self.demote();
    }

    fn promote(&self) {
        // What comes after a write has come after all before it.
        let mut redis = self.old.redis();
        redis::cmd("SET").arg("mark").arg("1").arg("EX").arg("60").exec(&mut redis).unwrap();
        until("the replica knows it all", || {
            redis::cmd("WAIT").arg(1).arg(1000).query::<i64>(&mut redis).unwrap() == 1
        });
        assert_eq!(self.new.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
        assert_eq!(self.new.cli(&["DEL", "mark"]), "1");
    }

    fn demote(&self) {
        assert_eq!(self.old.cli(&["REPLICAOF", "127.0.0.1", &self.new.port.to_string()]), "OK");
    }

    fn lead_to_the_new(&self) {
        self.proxy.lead_to(("127.0.0.1", self.new.port)).unwrap();
    }
}

fn errors(engine: &Engine) -> u64 {
    engine.counters().errors.load(Ordering::Relaxed)
}

#[test]
fn a_demoted_primary_is_left_for_the_one_that_has_its_address() {
    let endpoint = Endpoint::new();
    let (holder, waiter) = (patient(&endpoint.dsn()), patient(&endpoint.dsn()));
    let lease = Want::default().ttl(10 * HANG).get(&holder, "x");
    let renewed = Want::default().ttl(S * 3).get(&holder, "y");
    let waits = {
        let waiter = waiter.clone();
        thread::spawn(move || Want::default().get(&waiter, "x").release().unwrap())
    };
    until("it waits", || waiting(&holder, "x") == 1);
    endpoint.fail_over();
    // By the renewal thread's own work.
    let before = holder.counters().renewals.load(Ordering::Relaxed);
    until("it is renewed", || holder.counters().renewals.load(Ordering::Relaxed) > before + 1);
    lease.verify().unwrap();
    // A new lock takes the same way, and lands where the others are.
    Want::now().refused(&waiter, "x");
    assert_eq!(Want::now().get(&waiter, "z").release().unwrap(), Standing::Ours);
    assert_ne!(cli(&endpoint.new.socket(), &["EXISTS", "cluster_lock:{z}"]), "0");
    for lease in [lease, renewed] {
        assert!(lease.is_held());
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    assert_eq!(waits.join().unwrap(), Standing::Ours);
    assert_eq!((errors(&holder), errors(&waiter)), (0, 0));
    assert_clean(&endpoint.new, &[&holder, &waiter]);
}

#[test]
fn the_connections_of_a_demoted_primary_are_not_used_again() {
    let endpoint = Endpoint::new();
    let engine = patient(&endpoint.dsn());
    // Four connections at once, so that four lie idle.
    let leases: Vec<_> = (0..4).map(|i| Want::now().get(&engine, &format!("x{i}"))).collect();
    let waiters: Vec<_> = (0..4)
        .map(|i| {
            let engine = engine.clone();
            let lock = format!("x{i}");
            thread::spawn(move || Want::default().get(&engine, &lock).release().unwrap())
        })
        .collect();
    until("they wait", || (0..4).all(|i| waiting(&engine, &format!("x{i}")) == 1));
    for lease in leases {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Standing::Ours);
    }
    until("they lie idle", || engine.status().idle >= 4);
    endpoint.fail_over();
    assert_eq!(Want::now().get(&engine, "y").release().unwrap(), Standing::Ours);
    until("none leads to the old one", || endpoint.old.clients().is_empty());
    // None of the others has to find out for itself.
    let reads = || endpoint.old.cli(&["INFO", "errorstats"]);
    let refusals = reads();
    assert_eq!(Want::now().get(&engine, "y").release().unwrap(), Standing::Ours);
    assert_eq!(reads(), refusals);
    assert_eq!(errors(&engine), 0);
    assert_clean(&endpoint.new, &[&engine]);
}

#[test]
fn an_address_that_stays_with_a_demoted_primary_is_told_after_one_more_try() {
    let endpoint = Endpoint::new();
    let engine = patient(&endpoint.dsn());
    let lease = Want::default().ttl(10 * HANG).get(&engine, "x");
    endpoint.promote();
    endpoint.demote();
    let made = engine.status().created;
    let error = Want::now().fails(&engine, "z");
    support::assert_tells(error, "z", &engine, &["READONLY", "point cluster_lock.dsn at the primary"]);
    // Once more for the acquire, and twice for giving up what it may have got.
    assert!(engine.status().created <= made + 3);
    // As soon as the address has moved, all is well.
    endpoint.lead_to_the_new();
    lease.verify().unwrap();
    assert_eq!(Want::now().get(&engine, "z").release().unwrap(), Standing::Ours);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_clean(&endpoint.new, &[&engine]);
}

#[test]
fn a_voter_whose_address_moves_votes_where_it_leads() {
    let endpoint = Endpoint::new();
    let (other, mut third) = (RedisServer::start(&[]), RedisServer::start(&[]));
    let engine = patient(&format!(
        "redis+quorum://{},127.0.0.1:{},127.0.0.1:{}",
        endpoint.proxy.address(),
        other.port,
        third.port
    ));
    let lease = Want::default().ttl(10 * HANG).get(&engine, "x");
    // A majority is enough for a grant; a renewal tells the others.
    until("all three hold it", || {
        lease.verify().unwrap();
        [&endpoint.old, &other, &third].iter().all(|server| !server.keys().is_empty())
    });
    endpoint.fail_over();
    // From now on there is no majority without it.
    third.stop();
    lease.verify().unwrap();
    assert_eq!(Want::now().get(&engine, "y").release().unwrap(), Standing::Ours);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    until("none leads to the old one", || endpoint.old.clients().is_empty());
    engine.shutdown();
}
