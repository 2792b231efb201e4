//! Redis Cluster: slots that move while their locks are held and waited for, and primaries that are
//! lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cluster_lock_core::{Engine, Error, Standing};
use support::cluster::{ClusterSetup, key};
use support::crowd::{self, Crowd, waiting};
use support::{Frozen, HANG, RedisServer, Want, config, engine, name, signal, until, until_within};

const S: Duration = Duration::from_secs(1);

fn failure(engine: &Engine, lock: &str) -> Error {
    match Want::now().with(|how| engine.acquire(&name(lock), how)) {
        Err(e) => e,
        Ok(other) => panic!("expected a failure: {other:?}"),
    }
}

/// How many commands were sent to the wrong server.
fn redirections(setup: &ClusterSetup) -> u64 {
    let count = |server: &RedisServer| {
        let errors = server.cli(&["INFO", "errorstats"]);
        let moved = errors.lines().find_map(|l| l.strip_prefix("errorstat_MOVED:count="));
        moved.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    setup.servers.iter().map(count).sum()
}

#[test]
fn the_server_of_a_cluster_on_which_nobody_can_wait_is_named() {
    let setup = ClusterSetup::start();
    let e = engine(&setup.dsn());
    let well = e.examine();
    assert!(well.len() == 3 && well.iter().all(|report| report.error.is_none()), "{well:?}");
    let owner = &setup.servers[setup.owner(setup.slot("x"))];
    for lacks in ["blpop", "eval"] {
        assert_eq!(owner.cli(&["ACL", "SETUSER", "default", &format!("-{lacks}")]), "OK");
        for report in e.examine() {
            let is_at_fault = report.server.contains(&owner.port.to_string());
            assert_eq!(
                report.error.is_some_and(|error| error.contains(lacks)),
                is_at_fault,
                "{}",
                report.server
            );
        }
        assert_eq!(owner.cli(&["ACL", "SETUSER", "default", &format!("+{lacks}")]), "OK");
    }
}

/// As when a primary was lost with its replicas, and the others were told to forget it and to go on without it.
#[test]
fn a_cluster_that_lacks_hash_slots_is_told_of_although_its_servers_are_well() {
    let setup = ClusterSetup::with(&["--cluster-require-full-coverage", "no"], &[]);
    let e = engine(&setup.dsn());
    let well = e.examine();
    assert!(well.len() == 3 && well.iter().all(|report| report.error.is_none()), "{well:?}");
    let lost = &locks_below(&setup, 3)[0];
    for server in &setup.servers {
        assert_eq!(server.cli(&["CLUSTER", "DELSLOTS", "0", "1", "2"]), "OK");
    }
    until("it is known", || engine(&setup.dsn()).servers().len() == 4);
    for e in [&e, &engine(&setup.dsn())] {
        let reports = e.examine();
        assert_eq!(reports.iter().filter(|report| report.error.is_none()).count(), 3, "{reports:?}");
        let told = reports.iter().find_map(|report| report.error.clone()).unwrap_or_default();
        assert!(told.contains("serves hash slot 0 and 2 others"), "{reports:?}");
    }
    assert!(failure(&e, lost).to_string().contains("serves hash slot"));
}

/// A process that has not locked since knows the cluster as it was.
#[test]
fn an_examination_asks_who_the_primaries_are_now() {
    let setup = ClusterSetup::start();
    let e = engine(&setup.dsn());
    assert_eq!(e.examine().len(), 3);
    let slot = setup.slot("x");
    let before = setup.owner(slot);
    let replica = setup.replica_of(before);
    assert_eq!(setup.servers[replica].cli(&["CLUSTER", "FAILOVER"]), "OK");
    setup.await_replaced(slot, before, setup.another_primary(before));
    setup.await_whole();
    let is_there =
        |number: usize, server: &str| server.ends_with(&format!(":{}", setup.servers[number].port));
    for reports in [e.servers(), e.examine()] {
        assert!(reports.iter().any(|report| is_there(replica, &report.server)), "{reports:?}");
        assert!(!reports.iter().any(|report| is_there(before, &report.server)), "{reports:?}");
    }
}

#[test]
fn every_lock_is_asked_for_where_it_is() {
    let setup = ClusterSetup::start();
    let e = engine(&setup.dsn());
    let before = redirections(&setup);
    let leases: Vec<_> = (0..60).map(|i| Want::now().get(&e, &format!("lock {i}"))).collect();
    let other = engine(&setup.dsn());
    assert_eq!(other.list(b"lock ", 100).unwrap().len(), 60);
    assert_eq!(other.list(b"lock 5", 100).unwrap().len(), 11);
    for lease in leases {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    assert_eq!(redirections(&setup), before);
    let status = e.status();
    assert_eq!((status.backend, status.server_role.as_deref()), ("cluster", Some("master")));
    // Each primary tells of itself.
    let reports = e.servers();
    assert_eq!(reports.len(), 3, "{reports:?}");
    for report in &reports {
        let told = (report.error.as_deref(), report.role.as_deref(), report.foreign_keys);
        assert_eq!(told, (None, Some("master"), Some(0)), "{report:?}");
    }
    // One seed is enough, also a replica.
    let one = format!("redis+cluster://127.0.0.1:{}", setup.servers[5].port);
    drop(Want::now().get(&engine(&one), "x"));
}

/// A slot is moved by hand, step by step, as slowly as can be.
#[test]
fn a_slot_on_the_move_lets_nobody_see_half_of_a_lock() {
    let setup = ClusterSetup::start();
    let dsn = setup.dsn();
    let (a, b) = (engine(&dsn), engine(&dsn));
    let slot = setup.slot("x");
    let (from, to) = (setup.owner(slot), setup.another_primary(setup.owner(slot)));
    // All kinds of keys: a reader that holds, and a writer that waits.
    let reader = Want::default().shared().ttl(20 * S).get(&a, "x");
    let waiter = {
        let engine = engine(&dsn);
        thread::spawn(move || {
            let lease = Want::default().within(60 * S).get(&engine, "x");
            (lease.fence(), lease.release().unwrap(), engine.counters().errors.load(Ordering::Relaxed))
        })
    };
    until("the writer waits", || waiting(&a, "x") == 1);
    let keys: Vec<String> = ["", ":q", ":w", ":r", ":i"].iter().map(|end| key("x") + end).collect();
    setup.begin_move(slot, from, to);
    let fresh = engine(&dsn);
    for moved in 0..=keys.len() {
        // Neither here nor there, whoever asks.
        for engine in [&b, &fresh] {
            let error = failure(engine, "x");
            assert!(matches!(error, Error::FailingOver { .. }), "{moved} keys moved: {error:?}");
            assert!(error.to_string().contains("TRYAGAIN") || error.to_string().contains("ASK"), "{error}");
        }
        assert!(reader.is_held());
        if let Some(key) = keys.get(moved) {
            assert!(setup.move_key(key, from, to), "{key}");
        }
    }
    // A release waits for the end of the move; nobody notices more than that.
    let fence = reader.fence();
    let released = thread::spawn(move || reader.release().unwrap());
    setup.end_move(slot, from, to);
    assert_eq!(released.join().unwrap(), Standing::Ours);
    let (next, standing, errors) = waiter.join().unwrap();
    assert!(next > fence);
    assert_eq!((standing, errors), (Standing::Ours, 0));
    assert_eq!(setup.owner(slot), to);
    for engine in [&a, &b, &fresh] {
        drop(Want::now().get(engine, "x"));
    }
    assert!(setup.servers[to].keys().contains(&key("x")));
}

/// Names of locks in the first of a server's slots, which a tool moves first.
fn locks_below(setup: &ClusterSetup, slots: u16) -> Vec<String> {
    let crc = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);
    let found: Vec<String> = (0..)
        .map(|i| format!("lock{i}"))
        .filter(|lock| crc.checksum(lock.as_bytes()) % 16384 < slots)
        .take(4)
        .collect();
    for lock in &found {
        assert!(setup.slot(lock) < slots, "{lock}");
    }
    found
}

#[test]
fn resharding_under_load_hurts_nobody() {
    const MOVED: u16 = 150;
    // A busy machine is not to be taken for a dead server, whose replica would have missed something.
    let setup = ClusterSetup::with(&["--cluster-node-timeout", "15000"], &[]);
    let mut config = config(&setup.dsn());
    (config.connect_timeout, config.command_timeout) = (20 * S, 20 * S);
    let locks = locks_below(&setup, MOVED);
    let slot = setup.slot(&locks[0]);
    let from = setup.owner(slot);
    assert_eq!(setup.owner(0), from);
    // One is held throughout, with a queue.
    let holder = Engine::new(&config).unwrap();
    let held: &'static str = locks[0].clone().leak();
    let lease = Want::default().ttl(4 * HANG).get(&holder, held);
    let crowd = Crowd::gather(&config, held);
    // The others are taken and given back all the time, by writers and readers.
    let (stop, cycles) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let inside: Vec<Arc<AtomicI32>> = locks.iter().map(|_| Arc::default()).collect();
    let load: Vec<_> = (0..6)
        .map(|i| {
            let number = 1 + i % 3;
            let engine = Engine::new(&config).unwrap();
            let (lock, inside) = (locks[number].clone(), Arc::clone(&inside[number]));
            let (stop, cycles, shared) = (Arc::clone(&stop), Arc::clone(&cycles), i == 5);
            thread::spawn(move || {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let want = Want::default().within(20 * S);
                    let lease = if shared { want.shared() } else { want }.get(&engine, &lock);
                    // A writer is alone; readers are not.
                    let weight = if shared { 1 } else { 1000 };
                    let before = inside.fetch_add(weight, Ordering::SeqCst);
                    assert!(
                        if shared { before < 1000 } else { before == 0 },
                        "two holders at once: {before}"
                    );
                    assert!(lease.fence() > last);
                    last = lease.fence();
                    inside.fetch_sub(weight, Ordering::SeqCst);
                    assert_eq!(lease.release().unwrap(), Standing::Ours);
                    cycles.fetch_add(1, Ordering::Relaxed);
                }
                assert_eq!(engine.counters().errors.load(Ordering::Relaxed), 0);
            })
        })
        .collect();
    let await_cycles = |number: u64| {
        let goal = cycles.load(Ordering::Relaxed) + number;
        until("the load goes on", || cycles.load(Ordering::Relaxed) >= goal);
    };
    await_cycles(100);
    let to = setup.another_primary(from);
    let began = Instant::now();
    setup.reshard(0..MOVED, from, to);
    let took = began.elapsed();
    assert_eq!(setup.owner(slot), to);
    await_cycles(100);
    // And back, at once.
    setup.reshard(0..MOVED, to, from);
    await_cycles(100);
    stop.store(true, Ordering::Relaxed);
    for thread in load {
        thread.join().unwrap();
    }
    assert!(lease.is_held());
    let (since, server) = (SystemTime::now(), &setup.servers[setup.owner(slot)]);
    until_within(60 * S, "all wait", || crowd::heard_since(server, held, since) == 20);
    crowd::await_queue(&holder, held);
    let fence = lease.fence();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    crowd.served(fence);
    eprintln!(
        "{MOVED} slots moved in {:.1} s, {} cycles",
        took.as_secs_f64(),
        cycles.load(Ordering::Relaxed)
    );
}

/// `fault` strikes the primary that keeps the lock.
fn survives(setup: &ClusterSetup, what: &str, fault: impl FnOnce(&RedisServer)) {
    let slot = setup.slot("x");
    crowd::survives(what, &setup.dsn(), "x", || {
        let before = setup.owner(slot);
        let witness = setup.another_primary(before);
        fault(&setup.servers[before]);
        setup.await_replaced(slot, before, witness)
    });
}

#[test]
fn a_killed_primary_is_survived() {
    let mut setup = ClusterSetup::start();
    let slot = setup.slot("x");
    let before = setup.owner(slot);
    survives(&setup, "killed", |primary| signal(primary.pid(), "KILL"));
    // It comes back, as a replica.
    setup.servers[before].restart();
    setup.await_whole();
    assert_ne!(setup.owner(slot), before);
    let (a, b) = (engine(&setup.dsn()), engine(&setup.dsn()));
    let lease = Want::now().get(&a, "x");
    Want::now().refused(&b, "x");
    drop(lease);
}

#[test]
fn a_frozen_primary_is_survived() {
    let setup = ClusterSetup::start();
    // It knows the map from before, and connections, too.
    let idle = engine(&setup.dsn());
    drop(Want::now().get(&idle, "x"));
    let mut frozen = None;
    survives(&setup, "frozen", |primary| frozen = Some(Frozen::new(primary.pid())));
    let a = engine(&setup.dsn());
    let lease = Want::default().get(&a, "x");
    drop(frozen);
    setup.await_whole();
    Want::default().within(Duration::from_millis(50)).refused(&idle, "x");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

#[test]
fn a_cluster_that_is_down_is_waited_for_and_found_again() {
    let mut setup = ClusterSetup::start();
    let slot = setup.slot("x");
    let primary = setup.owner(slot);
    let replica = setup.replica_of(primary);
    let e = engine(&setup.dsn());
    drop(Want::now().get(&e, "x"));
    // Nobody is left who could take over.
    setup.servers[replica].stop();
    setup.servers[primary].stop();
    let error = failure(&e, "x");
    assert!(matches!(error, Error::FailingOver { .. }), "{error:?}");
    // The others notice, and then serve nobody.
    let other = (0..100).map(|i| i.to_string()).find(|l| setup.owner_said(setup.slot(l)) != primary).unwrap();
    let mut text = String::new();
    until_within(60 * S, "the cluster is down", || {
        let asked = Want::now().with(|how| e.acquire(&name(&other), how));
        text = asked.err().map_or_else(String::new, |error| error.to_string());
        text.contains("CLUSTERDOWN")
    });
    let began = Instant::now();
    let error = Want::default().within(S).with(|how| e.acquire(&name(&other), how)).unwrap_err();
    assert!(matches!(error, Error::FailingOver { .. }), "{error:?}");
    assert!(began.elapsed() >= S, "{:?}", began.elapsed());
    setup.servers[primary].restart();
    drop(Want::default().within(30 * S).get(&e, "x"));
    drop(Want::default().within(30 * S).get(&e, &other));
}

#[test]
fn servers_that_are_gone_or_no_cluster() {
    let mut server = RedisServer::start(&[]);
    let dsn = format!("redis+cluster://127.0.0.1:{}", server.port);
    let error = failure(&engine(&dsn), "x").to_string();
    assert!(error.contains("cluster support disabled"), "{error}");
    server.stop();
    let began = Instant::now();
    let mut config = config(&dsn);
    config.retry_after = Duration::ZERO;
    let e = Engine::new(&config).unwrap();
    let error = Want::default().within(10 * HANG).with(|how| e.acquire(&name("x"), how)).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    assert!(error.to_string().contains("no server of the cluster"), "{error}");
    let [report] = &e.servers()[..] else { panic!("{:?}", e.servers()) };
    let cause = report.error.as_deref().unwrap();
    assert!(cause.contains("no server of the cluster") && report.server == dsn, "{report:?}");
    assert!(began.elapsed() < HANG, "it waited for its time to be up");
    // A cluster that is not made yet serves no slot.
    let single = RedisServer::start(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &support::free_port().to_string(),
    ]);
    let e = engine(&format!("redis+cluster://127.0.0.1:{}", single.port));
    let error = failure(&e, "x");
    assert!(error.to_string().contains("hash slot"), "{error}");
    // Nor does it look as if nothing were held, and no server in trouble.
    let error = e.list(b"", 10).unwrap_err().to_string();
    assert!(error.contains("hash slot 0 and 16383 others"), "{error}");
    let [report] = &e.examine()[..] else { panic!("{:?}", e.examine()) };
    assert!(report.error.as_ref().is_some_and(|error| error.contains("hash slot 0")), "{report:?}");
    until_within(10 * S, "it still answers", || single.cli(&["PING"]) == "PONG");
}
