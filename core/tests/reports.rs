//! What a report tells of very many holders, waiters and keys, and what it asks of the server for that.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::Duration;

use cluster_lock_core::store::machine::SLACK;
use cluster_lock_core::store::{Attempt, Claim, IfBusy, Store, Token, open};
use cluster_lock_core::{Broken, Engine, Identity, LockReport, Mode};
use fault_proxy::{Fault, Proxy};
use support::{RedisServer, Want, engine, name, patient_config, quorum_dsn, until};

const MS: Duration = Duration::from_millis(1);

/// So many holders, and so many waiters, are told of one lock.
const TOLD: usize = 1000;
/// Of each lock in a list.
const TOLD_OF_EACH: usize = 100;

/// Claims of one process that has no thread for each.
struct Many {
    store: Box<dyn Store>,
    mode: Mode,
    lock: &'static str,
    ttl: Duration,
    claims: Vec<(Token, u64)>,
}

impl Many {
    fn new(dsn: &str, mode: Mode, lock: &'static str, count: usize) -> Self {
        let claims = (0..count).map(|_| (Token::random(), 0)).collect();
        Self { store: open(&patient_config(dsn)).unwrap(), mode, lock, ttl: Duration::from_secs(600), claims }
    }

    /// All ask, one after the other, and say that they are there; who waits already from the last in the queue to
    /// the first. On a busy machine the last are dead by then.
    fn ask(&mut self) {
        let mut claims: Vec<_> = self.claims.iter_mut().enumerate().collect();
        if claims.iter().any(|(_, (_, place))| *place > 0) {
            claims.reverse();
        }
        for (number, (token, place)) in claims {
            let identity = Identity { node: number.to_string(), ..Identity::default() }.encode();
            let claim = Claim {
                name: &name(self.lock),
                token,
                mode: self.mode,
                ttl: self.ttl,
                identity: &identity,
                place: *place,
                converts: 0,
                slack: SLACK,
                run: false,
                attempt: 0,
            };
            if let Attempt::Busy { place: told, .. } = self.store.attempt(&claim, IfBusy::Queue).unwrap() {
                *place = told;
            }
        }
    }
}

fn nodes(report: &LockReport) -> Vec<String> {
    report.waiters.iter().map(|waiter| waiter.identity.node.clone()).collect()
}

/// Whether those who wait are the first of so many, or all of them.
fn are_first(report: &LockReport, count: usize) -> bool {
    let first: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    !report.waiters.is_empty() && first.starts_with(&nodes(report))
}

/// Waiters and readers, some more than a list tells of. Several servers may tell of some more together.
fn lists_the_first_of_many_and_counts_the_others(dsn: &str) {
    const ALL: usize = TOLD_OF_EACH + 3;
    let engine = engine(dsn);
    let _held = Want::default().get(&engine, "wanted");
    let mut waiters = Many::new(dsn, Mode::Exclusive, "wanted", ALL);
    let listed = |lock: &str| engine.list(lock.as_bytes(), 10).unwrap().pop().unwrap();
    let most = if dsn.contains("quorum") { ALL } else { TOLD_OF_EACH };
    until("the first are seen waiting", || {
        waiters.ask();
        let (one, listed) = (engine.info(&name("wanted")).unwrap().unwrap(), listed("wanted"));
        assert_eq!((one.holding(), listed.holding(), one.more_waiters), (1, 1, 0));
        let others = ALL - most..=ALL - TOLD_OF_EACH;
        are_first(&one, ALL) && are_first(&listed, most) && others.contains(&listed.more_waiters)
    });
    Many::new(dsn, Mode::Shared, "read", ALL).ask();
    let (one, listed) = (engine.info(&name("read")).unwrap().unwrap(), listed("read"));
    assert_eq!((one.holders.len(), one.more_holders), (ALL, 0));
    assert!((TOLD_OF_EACH..=most).contains(&listed.holders.len()));
    assert_eq!((listed.holding(), listed.waiting(), listed.fence), (ALL, 0, one.fence));
}

#[test]
fn redis_lists_the_first_of_many() {
    lists_the_first_of_many_and_counts_the_others(&RedisServer::start(&[]).unix_dsn());
}

#[test]
fn a_quorum_lists_the_first_of_many() {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    lists_the_first_of_many_and_counts_the_others(&quorum_dsn(&servers));
}

#[test]
fn local_lists_the_first_of_many() {
    let directory = tempfile::tempdir().unwrap();
    lists_the_first_of_many_and_counts_the_others(&format!("local://{}", directory.path().display()));
}

#[test]
fn of_thousands_a_thousand_are_told_and_the_others_counted() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let _held = Want::default().get(&engine, "wanted");
    let mut waiters = Many::new(&server.unix_dsn(), Mode::Exclusive, "wanted", TOLD + 70);
    until("the first are seen waiting", || {
        waiters.ask();
        let report = engine.info(&name("wanted")).unwrap().unwrap();
        assert_eq!((report.holding(), report.more_holders), (1, 0));
        are_first(&report, TOLD) && report.more_waiters == 70
    });
    Many::new(&server.unix_dsn(), Mode::Shared, "read", TOLD + 70).ask();
    let report = engine.info(&name("read")).unwrap().unwrap();
    assert_eq!((report.holders.len(), report.more_holders, report.holding()), (TOLD, 70, TOLD + 70));
    assert!(report.holders.is_sorted_by_key(|holder| holder.fence));
    assert_eq!(engine.break_lock(&name("read"), Some(report.fence)).unwrap(), Broken::Yes);
    assert_eq!(engine.info(&name("read")).unwrap(), None);
}

#[test]
fn a_reader_who_is_not_told_of_is_not_who_is_new() {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let engine = engine(&quorum_dsn(&servers));
    let mut readers = Many::new(&quorum_dsn(&servers), Mode::Shared, "read", TOLD + 2);
    readers.ask();
    let newest = readers.claims.split_off(TOLD);
    // The leases of all but the two newest run longer now; then theirs do.
    readers.ttl *= 2;
    readers.ask();
    let seen = engine.info(&name("read")).unwrap().unwrap();
    assert_eq!((seen.holders.len(), seen.more_holders), (TOLD, 2));
    readers.claims = newest;
    readers.ttl *= 2;
    readers.ask();
    assert_eq!(engine.break_lock(&name("read"), Some(seen.fence)).unwrap(), Broken::Yes);
    assert_eq!(engine.info(&name("read")).unwrap(), None);
}

/// Somebody else's keys.
fn fill(server: &RedisServer, keys: usize) {
    let fill = "for i = 1, ARGV[1] do redis.call('SET', 'foreign:' .. i, i) end";
    server.cli(&["EVAL", fill, "0", &keys.to_string()]);
}

/// How often a command was run there.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let calls = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
    calls.map_or(0, |calls| calls.split(',').next().unwrap().parse().unwrap())
}

#[test]
fn a_far_server_with_many_keys_of_others_is_asked_seldom() {
    let server = RedisServer::start(&[]);
    let held = Want::default().get(&engine(&server.unix_dsn()), "job");
    fill(&server, 20_000);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let engine = Engine::new(&patient_config(&format!("redis://{}", proxy.address()))).unwrap();
    assert!(engine.info(&name("job")).unwrap().is_some(), "it is connected");
    // So far away that a fifth of it is more than such a step takes on a machine that has much else to do.
    proxy.set(Fault::Delay(400 * MS));
    let locks = engine.list(b"", 10).unwrap();
    assert_eq!(locks.iter().map(|lock| lock.fence).collect::<Vec<_>>(), [held.fence()]);
    let steps = calls(&server, "scan");
    assert!(steps <= 12, "{steps} steps, which are 20 of a thousand keys");
}

#[test]
fn a_small_database_is_gone_through_in_one_round_trip() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let _held = Want::default().get(&engine, "job");
    fill(&server, 500);
    let before = calls(&server, "time");
    assert_eq!(engine.list(b"", 10).unwrap().len(), 1);
    // One within the script that looks at the lock.
    assert_eq!((calls(&server, "scan"), calls(&server, "time") - before), (1, 1));
}
