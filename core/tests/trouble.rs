//! No lock is lost while its server is well, whatever happens to the others of the process; and nobody waits for a
//! holder that does not exist.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cluster_lock_core::store::open;
use cluster_lock_core::{Acquired, Config, Engine, Error, Lease, Standing};
use fault_proxy::{Ending, Fault, Proxy};
use support::cluster::ClusterSetup;
use support::sentinel::SentinelSetup;
use support::{HANG, RedisServer, Want, assert_clean, config, name, patient, until, waiting};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// More than the lease that a hand-over comes with: whoever has so much left has confirmed it.
const CONFIRMED: Duration = Duration::from_millis(2300);

fn errors(engine: &Engine) -> u64 {
    engine.counters().errors.load(Ordering::Relaxed)
}

fn renewals(engine: &Engine) -> u64 {
    engine.counters().renewals.load(Ordering::Relaxed)
}

/// `engine` asks for a lock that `holder` has; returns when it stands in the queue.
fn queue_up(engine: &Engine, holder: &Engine, lock: &'static str) -> JoinHandle<Lease> {
    let engine = engine.clone();
    let waiter = thread::spawn(move || Want::default().get(&engine, lock));
    until("it waits", || waiting(holder, lock) == 1);
    waiter
}

/// A hand-over is made a full lease.
#[track_caller]
fn assert_confirmed(lease: &Lease) {
    until("it is confirmed, or lost", || !lease.is_held() || lease.remaining() > CONFIRMED);
    assert_eq!(lease.loss(), None, "a lock that was handed over is lost");
}

// ---- one thing in trouble, another well ------------------------------------------------------------------------

#[test]
fn a_stopped_shard_costs_no_lock_of_a_healthy_one() {
    // Nobody is replaced while the test runs.
    let setup = ClusterSetup::with(&["--cluster-node-timeout", "120000"], &[]);
    let sick = setup.owner_said(setup.slot("sick"));
    let names: Vec<&'static str> = (0..100).map(|i| -> &'static str { format!("lock{i}").leak() }).collect();
    let (on_the_sick, on_others): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|lock| setup.owner_said(setup.slot(lock)) == sick);
    let well = on_others[0];
    let other = support::engine(&setup.dsn());
    // Whoever waits for an answer of the sick one waits for longer than a hand-over is good for.
    let process = patient_but(&setup.dsn(), |config| config.command_timeout = 8 * S);
    let held = Want::default().get(&other, well);
    let waiter = queue_up(&process, &other, well);
    let (ttl, overdue) = (6 * S, 3700 * MS);
    let doomed: Vec<_> = on_the_sick.iter().take(4).map(|l| Want::now().ttl(ttl).get(&process, l)).collect();
    let frozen = setup.servers[sick].freeze();
    until("a renewal is overdue", || doomed.iter().any(|lease| lease.remaining() < overdue));
    assert_eq!(held.release().unwrap(), Standing::Ours);
    let lease = waiter.join().unwrap();
    assert_confirmed(&lease);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    drop(frozen);
    drop(doomed);
}

fn patient_but(dsn: &str, shape: impl FnOnce(&mut Config)) -> Engine {
    let mut config = support::patient_config(dsn);
    shape(&mut config);
    Engine::new(&config).unwrap()
}

/// Takes many locks at about the same time.
fn take(engine: &Engine, number: usize, ttl: Duration) -> Vec<Lease> {
    const AT_ONCE: usize = 20;
    let take = |from: usize| {
        let names = (from..number).step_by(AT_ONCE).map(|i| format!("held{i}"));
        names.map(|lock| Want::now().ttl(ttl).get(engine, &lock)).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|from| scope.spawn(move || take(from))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

fn lost(leases: &[Lease]) -> usize {
    leases.iter().filter(|lease| !lease.is_held()).count()
}

/// As many connections as there are threads that take locks.
fn far_engine(dsn: &str) -> Engine {
    patient_but(dsn, |config| config.pool_size = 20)
}

/// A hundred locks are held at some distance, and another is handed over while they are due.
fn a_hundred_locks_at(far: &Engine, near: &Engine) {
    let leases = take(far, 100, 10 * S);
    let held = Want::default().get(near, "x");
    let waiter = queue_up(far, near, "x");
    until("the renewals have begun", || renewals(far) > 0);
    assert_eq!(held.release().unwrap(), Standing::Ours);
    let lease = waiter.join().unwrap();
    assert_confirmed(&lease);
    until("each has been renewed", || renewals(far) > 200 || lost(&leases) > 0);
    assert_eq!(lost(&leases), 0);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

#[test]
fn a_hundred_locks_on_a_server_far_away_are_kept_and_so_is_one_that_is_handed_over() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let (far, near) = (far_engine(&format!("redis://{}", proxy.address())), patient(&server.unix_dsn()));
    proxy.set(Fault::Delay(25 * MS));
    a_hundred_locks_at(&far, &near);
    assert_clean(&server, &[&far, &near]);
}

/// Forty locks are held at a distance at which one after the other could not be renewed in time.
fn forty_locks_at(far: &Engine) {
    let leases = take(far, 40, 8 * S);
    until("each has been renewed twice", || renewals(far) >= 80 || lost(&leases) > 0);
    assert_eq!(lost(&leases), 0);
}

#[test]
fn forty_locks_half_a_second_away_are_kept() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let far = far_engine(&format!("redis://{}", proxy.address()));
    proxy.set(Fault::Delay(250 * MS));
    forty_locks_at(&far);
}

#[test]
fn forty_locks_on_a_quorum_half_a_second_away_are_kept() {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let proxies: Vec<_> = servers.iter().map(|s| Proxy::start(("127.0.0.1", s.port)).unwrap()).collect();
    let hosts: Vec<_> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
    let far = far_engine(&format!("redis+quorum://{}", hosts.join(",")));
    // Connections are made first: a thread a server makes one after the other.
    take(&far, 40, 8 * S);
    for proxy in &proxies {
        proxy.set(Fault::Delay(250 * MS));
    }
    forty_locks_at(&far);
}

/// Two of five servers swallow all that they are sent: one keeps its connections, to the other one new ones are to be made.
#[test]
fn voters_that_swallow_questions_cost_no_lock_whatever_else_its_lane_has_to_do() {
    let servers: Vec<_> = (0..5).map(|_| RedisServer::start(&[])).collect();
    let proxies: Vec<_> = servers[..4].iter().map(|s| Proxy::start(("127.0.0.1", s.port)).unwrap()).collect();
    let [on_the_way, direct] = [proxies.iter().map(|proxy| proxy.address().port()).collect(), Vec::new()]
        .map(|mut ports: Vec<u16>| {
            ports.extend(servers[ports.len()..].iter().map(|server| server.port));
            let hosts: Vec<_> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            format!("redis+quorum://{}", hosts.join(","))
        });
    // Whoever waits for a silent one waits for longer than any lease is good for.
    let (process, other) = (patient(&on_the_way), patient(&direct));
    let store = open(&config(&direct)).unwrap();
    let mut lane = (0..).map(|i| -> &'static str { format!("lock{i}").leak() });
    let mut lane = lane.by_ref().filter(|lock| store.lane_of(&name(lock)) == 0);
    let busy: Vec<_> = lane.by_ref().take(6).map(|lock| (lock, Want::default().get(&other, lock))).collect();
    let waiters: Vec<_> = busy
        .iter()
        .map(|(lock, _)| {
            let (lock, engine) = (*lock, process.clone());
            let waiter = thread::spawn(move || drop(Want::default().fails(&engine, lock)));
            until("it waits", || waiting(&other, lock) == 1);
            waiter
        })
        .collect();
    let leases: Vec<_> = lane.take(20).map(|lock| Want::now().ttl(2 * S).get(&process, lock)).collect();
    // Without a majority, for a moment, the waits fail; their tokens are to be released in the background.
    for proxy in &proxies[..3] {
        proxy.set(Fault::Refuse);
        proxy.end_all(Ending::Close);
    }
    for waiter in waiters {
        waiter.join().unwrap();
    }
    for (number, proxy) in proxies.iter().enumerate() {
        proxy.set(if [0, 3].contains(&number) { Fault::BlackHole } else { Fault::Pass });
    }
    until("the tokens are released", || {
        busy.iter().all(|(lock, _)| waiting(&other, lock) == 0) || lost(&leases) > 0
    });
    let before = renewals(&process);
    until("all have been renewed often", || renewals(&process) > before + 20 * 15 || lost(&leases) > 0);
    assert_eq!(lost(&leases), 0);
}

// ---- many at once are as good as one by one --------------------------------------------------------------------

#[test]
fn one_that_cannot_be_renewed_and_scripts_that_are_not_known_cost_the_others_nothing() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.unix_dsn());
    let mut leases = take(&e, 30, 3 * S);
    let bad = leases.swap_remove(15);
    let key = format!("cluster_lock:{{{}}}", bad.name());
    let mut redis = server.redis();
    redis::cmd("DEL").arg(&key).exec(&mut redis).unwrap();
    redis::cmd("LPUSH").arg(&key).arg("something else").exec(&mut redis).unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut redis).unwrap();
    until("each has been renewed twice", || renewals(&e) >= 58 || lost(&leases) > 0);
    assert_eq!(lost(&leases), 0);
    until("the one is lost", || !bad.is_held());
    redis::cmd("DEL").arg(&key).exec(&mut redis).unwrap();
    drop((leases, bad));
    assert_clean(&server, &[&e]);
}

#[test]
fn a_lease_whose_slot_moves_is_renewed_where_it_is() {
    let setup = ClusterSetup::start();
    let e = patient_but(&setup.dsn(), |_| ());
    let leases = take(&e, 30, 6 * S);
    let (lock, key) = (leases[7].name().to_string(), format!("cluster_lock:{{{}}}", leases[7].name()));
    let slot = setup.slot(&lock);
    let from = setup.owner(slot);
    let to = setup.another_primary(from);
    setup.begin_move(slot, from, to);
    assert!(setup.move_key(&key, from, to));
    setup.end_move(slot, from, to);
    let before = renewals(&e);
    until("each has been renewed", || renewals(&e) >= before + 60 || lost(&leases) > 0);
    assert_eq!(lost(&leases), 0);
    for lease in leases {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
}

#[test]
fn replicas_acknowledge_many_at_once() {
    let setup = SentinelSetup::start(1);
    let e = patient_but(&format!("{}?wait=1", setup.dsn()), |_| ());
    let leases = take(&e, 30, 3 * S);
    until("each has been renewed twice", || renewals(&e) >= 60 || lost(&leases) > 0);
    assert_eq!((lost(&leases), errors(&e)), (0, 0));
    let _frozen = setup.servers[1].freeze();
    until("it is not acknowledged", || errors(&e) > 0);
}

// ---- the circuit breaker ---------------------------------------------------------------------------------------

/// A server behind a way that can fail, an engine there that avoids a server for an hour once it was away, and one beside
/// the server.
struct Avoided {
    server: RedisServer,
    proxy: Proxy,
    far: Engine,
    near: Engine,
}

impl Avoided {
    fn new() -> Self {
        Self::with(|config| config.retry_after = 60 * HANG)
    }

    fn with(shape: impl FnOnce(&mut Config)) -> Self {
        let server = RedisServer::start(&[]);
        let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
        let mut config = config(&format!("redis://{}", proxy.address()));
        (config.connect_timeout, config.command_timeout) = (700 * MS, 700 * MS);
        shape(&mut config);
        let (far, near) = (Engine::new(&config).unwrap(), patient(&server.unix_dsn()));
        Self { server, proxy, far, near }
    }

    fn cut(&self) {
        self.proxy.set(Fault::Refuse);
        self.proxy.end_all(Ending::Close);
    }
}

#[test]
fn a_server_that_is_avoided_by_others_is_asked_to_renew() {
    let a = Avoided::new();
    let lease = Want::now().ttl(6 * S).get(&a.far, "x");
    a.cut();
    let error = Want::now().fails(&a.far, "y");
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    let before = errors(&a.far);
    until("a renewal has failed, too", || errors(&a.far) > before);
    a.proxy.set(Fault::Pass);
    until("it is renewed, or lost", || renewals(&a.far) > 0 || !lease.is_held());
    assert_eq!(lease.loss(), None);
    // What found the server again has found it for all.
    drop(Want::now().get(&a.far, "y"));
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_clean(&a.server, &[&a.far, &a.near]);
}

#[test]
fn a_server_that_is_avoided_by_others_is_told_of_a_release() {
    let a = Avoided::new();
    let lease = Want::now().ttl(20 * HANG).unrenewed().get(&a.far, "x");
    a.cut();
    Want::now().fails(&a.far, "y");
    a.proxy.set(Fault::Pass);
    // At once, or by the thread in the background: the attempt that failed is a moment ago.
    let _ = lease.release();
    assert_eq!(Want::default().get(&a.near, "x").release().unwrap(), Standing::Ours);
    assert_clean(&a.server, &[&a.far, &a.near]);
}

#[test]
fn a_primary_named_by_sentinels_is_asked_to_renew_however_long_others_avoid_it() {
    let setup = SentinelSetup::start(0);
    let far = Engine::new(&Config { retry_after: 60 * HANG, ..config(&setup.dsn()) }).unwrap();
    let lease = Want::now().ttl(10 * S).get(&far, "x");
    let frozen = setup.servers[0].freeze();
    Want::now().fails(&far, "y");
    drop(frozen);
    until("it is renewed, or lost", || renewals(&far) > 0 || !lease.is_held());
    assert_eq!(lease.loss(), None);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

// ---- holders that do not exist ---------------------------------------------------------------------------------

/// Longer than any test waits: whoever holds it is in the way.
const FOR_EVER: Duration = Duration::from_secs(1200);

#[test]
fn an_acquire_that_was_given_up_and_carried_out_later_holds_nothing() {
    let a = Avoided::new();
    drop(Want::now().get(&a.far, "warm"));
    let frozen = a.server.freeze();
    let error = Want::now().ttl(FOR_EVER).fails(&a.far, "x");
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    drop(frozen);
    assert_eq!(Want::default().get(&a.near, "x").release().unwrap(), Standing::Ours);
    assert_clean(&a.server, &[&a.far, &a.near]);
}

#[test]
fn an_acquire_that_arrives_after_its_release_was_answered_holds_nothing_for_long() {
    let a = Avoided::with(|config| config.retry_after = Duration::ZERO);
    drop(Want::now().get(&a.far, "warm"));
    // What is sent from now on arrives much later: beyond all time-outs.
    a.proxy.set_one_way(fault_proxy::Direction::Up, Fault::Delay(3 * S));
    let error = Want::now().ttl(FOR_EVER).fails(&a.far, "x");
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    until("it has arrived", || a.near.info(&name("x")).unwrap().is_some());
    a.proxy.set(Fault::Pass);
    assert_eq!(Want::default().get(&a.near, "x").release().unwrap(), Standing::Ours);
    assert_clean(&a.server, &[&a.far, &a.near]);
}

#[test]
fn a_release_that_got_lost_is_repeated_in_the_background() {
    let a = Avoided::new();
    let lease = Want::now().ttl(FOR_EVER).get(&a.far, "x");
    a.proxy.set(Fault::BlackHole);
    let error = lease.release().unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    a.proxy.set(Fault::Pass);
    assert_eq!(Want::default().get(&a.near, "x").release().unwrap(), Standing::Ours);
    assert_clean(&a.server, &[&a.far, &a.near]);
}

#[test]
fn a_claim_that_is_dropped_while_its_server_is_away_leaves_the_queue() {
    let a = Avoided::new();
    let held = Want::now().get(&a.near, "x");
    let asked = Cell::new(false);
    let pending = Want::default().with(|how| {
        let interrupted = || asked.replace(true);
        let how = cluster_lock_core::Acquire { interrupted: &interrupted, ..*how };
        a.far.acquire(&name("x"), &how).unwrap()
    });
    assert!(matches!(pending, Acquired::Interrupted(_)), "{pending:?}");
    let queue = || redis::cmd("ZCARD").arg("cluster_lock:{x}:q").query::<i64>(&mut a.server.redis()).unwrap();
    assert_eq!(queue(), 1);
    a.proxy.set(Fault::BlackHole);
    drop(pending);
    a.proxy.set(Fault::Pass);
    until("nobody is in the queue", || queue() == 0);
    assert_eq!(held.release().unwrap(), Standing::Ours);
    assert_clean(&a.server, &[&a.far, &a.near]);
}

#[test]
fn what_is_to_be_released_yet_does_not_delay_the_end_of_the_process() {
    let a = Avoided::with(|config| {
        config.retry_after = Duration::ZERO;
        config.connect_timeout = 10 * HANG;
    });
    let lease = Want::now().ttl(FOR_EVER).get(&a.far, "x");
    a.cut();
    lease.release().unwrap_err();
    // A connection is made from now on, and nobody answers.
    a.proxy.set(Fault::BlackHole);
    until("it is tried again", || a.proxy.connections() > 0);
    let (tell, told) = std::sync::mpsc::channel();
    let far = a.far.clone();
    thread::spawn(move || {
        far.shutdown();
        tell.send(()).unwrap();
    });
    assert_eq!(told.recv_timeout(HANG), Ok(()), "the process does not end");
}

// ---- a crowd in one process ------------------------------------------------------------------------------------

#[test]
fn a_holder_releases_beside_hundreds_that_wait_in_its_process() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let mut config = config(&format!("redis://{}", proxy.address()));
    (config.pool_size, config.command_timeout) = (1, 2 * S);
    let (far, near) = (Engine::new(&config).unwrap(), patient(&server.unix_dsn()));
    let taken = Want::default().get(&near, "taken");
    let leases: Vec<_> = (0..20).map(|i| Want::now().get(&far, &format!("held{i}"))).collect();
    proxy.set(Fault::Delay(25 * MS));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..300 {
            scope.spawn(|| {
                // One whose turn on the only connection does not come gives up, and comes again.
                while !stop.load(Ordering::Relaxed) {
                    let _ = Want::default().within(S).with(|how| far.acquire(&name("taken"), how));
                }
            });
        }
        until("they wait for the connection", || errors(&far) > 0);
        let released: Vec<_> = leases.into_iter().map(Lease::release).collect();
        stop.store(true, Ordering::Relaxed);
        for released in released {
            assert_eq!(released.unwrap(), Standing::Ours);
        }
    });
    proxy.set(Fault::Pass);
    assert_eq!(taken.release().unwrap(), Standing::Ours);
    assert_clean(&server, &[&far, &near]);
}
