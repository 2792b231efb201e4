//! Servers that lose their memory while locks are held, with a grace period: nobody gets in beside who holds it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_for_each,
    missing_docs
)]

mod support;

use std::thread;
use std::time::Duration;

use cluster_lock_core::{Acquired, Broken, Engine, Error, Grace, Lease, Loss, Standing};
use fault_proxy::{Direction, Fault, Proxy};
use support::{HANG, RedisServer, Want, config, engine, name, quorum_dsn, until, waiting};

const S: Duration = Duration::from_secs(1);
/// Longer than any test takes; a test ends it.
const GRACE: Duration = Duration::from_secs(600);

fn want() -> Want {
    Want::default()
}

fn now() -> Want {
    Want::now()
}

fn graced(server: &RedisServer) -> Engine {
    engine(&format!("{}?grace={}", server.tcp_dsn(), GRACE.as_secs()))
}

/// With a grace period that is waited for.
fn briefly(server: &RedisServer) -> Engine {
    engine(&format!("{}?grace=10", server.tcp_dsn()))
}

fn end(engine: &Engine) {
    let reports = engine.end_grace();
    assert!(!reports.is_empty() && reports.iter().all(|report| report.error.is_none()), "{reports:?}");
}

/// The server loses all that it knows.
fn lose(server: &mut RedisServer, restarted: bool) {
    if restarted {
        server.restart();
    } else {
        server.cli(&["FLUSHALL"]);
    }
}

/// A server on which nobody has ever held a lock, as it is known.
fn fresh() -> (RedisServer, Engine, Engine) {
    let server = RedisServer::start(&[]);
    let (a, b) = (graced(&server), graced(&server));
    end(&a);
    (server, a, b)
}

fn renewed(engine: &Engine) -> u64 {
    engine.counters().renewals.load(std::sync::atomic::Ordering::Relaxed)
}

/// Waits for a renewal that has begun from now on.
fn until_renewed(engine: &Engine) {
    let before = renewed(engine);
    until("a lease is renewed", || renewed(engine) > before + 1);
}

fn three(grace: Duration) -> (Vec<RedisServer>, Engine, Engine) {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let dsn = format!("{}?grace={}", quorum_dsn(&servers), grace.as_secs());
    let (a, b) = (engine(&dsn), engine(&dsn));
    end(&a);
    // All are connected.
    drop(want().ttl(S).get(&a, "warm up"));
    drop(want().ttl(S).get(&b, "warm up"));
    (servers, a, b)
}

#[test]
fn a_server_that_knows_nothing_lets_nobody_in_for_its_grace_period_and_everybody_after_it() {
    let server = RedisServer::start(&[]);
    let e = briefly(&server);
    assert_eq!(e.servers()[0].grace, Some(Grace::NotBegun));
    for lock in ["a", "b"] {
        now().refused(&e, lock);
        now().shared().refused(&e, lock);
    }
    let left = e.servers()[0].grace.and_then(Grace::left).unwrap();
    assert!(left <= Duration::from_secs(10), "{left:?}");
    let error = e.examine().remove(0).error.unwrap();
    assert!(error.contains("?grace="), "{error}");
    assert_eq!(e.info(&name("a")).unwrap(), None);
    // A waiter keeps its place, and is let in when it is over.
    let first = thread::spawn({
        let e = briefly(&server);
        move || want().get(&e, "a")
    });
    let lease = first.join().unwrap();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(now().get(&e, "b").release().unwrap(), Standing::Ours);
    assert_eq!((e.servers()[0].grace, e.examine()[0].error.clone()), (Some(Grace::Over), None));
}

#[test]
fn whoever_knows_that_nothing_is_held_ends_it() {
    let (_server, e, _) = fresh();
    assert_eq!(now().get(&e, "a").release().unwrap(), Standing::Ours);
}

#[test]
fn what_something_else_has_written_in_its_place_is_no_trace_of_earlier_locks() {
    let (server, a, b) = fresh();
    let lease = want().ttl(S).get(&a, "x");
    for foreign in [&["LPUSH", "cluster_lock:{}:born", "x"][..], &["SET", "cluster_lock:{}:born", "-"]] {
        server.cli(&["FLUSHALL"]);
        server.cli(foreign);
        assert_eq!(b.servers()[0].grace, Some(Grace::NotBegun), "{foreign:?}");
        now().refused(&b, "x");
        now().refused(&b, "y");
        assert!(matches!(b.servers()[0].grace, Some(Grace::Runs(_))), "{foreign:?}");
        until_renewed(&a);
        assert!(b.info(&name("x")).unwrap().is_some(), "{foreign:?}");
    }
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

#[test]
fn a_voter_that_believes_the_holder_is_asked_for_nothing_else() {
    let (mut servers, a, _b) = three(GRACE);
    let lease = want().ttl(S).get(&a, "x");
    for server in &mut servers[..2] {
        lose(server, false);
    }
    until_renewed(&a);
    servers[0].cli(&["CONFIG", "RESETSTAT"]);
    let before = renewed(&a);
    until("it is renewed some times", || renewed(&a) >= before + 6);
    let stats = servers[0].cli(&["INFO", "commandstats"]);
    let calls = stats.split_once("cmdstat_evalsha:calls=").unwrap().1.split(',').next().unwrap();
    // One that was under way when it began to be counted, and one when it was read.
    assert!(calls.parse::<u64>().unwrap() <= renewed(&a) - before + 2, "{stats}");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

/// Renews a lease for longer, after something has happened, and is answered when it is over.
fn renewed_late(happens: impl FnOnce(&RedisServer, &Lease)) -> Result<Standing, Error> {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let mut config = config(&format!("redis://{}?grace={}", proxy.address(), GRACE.as_secs()));
    (config.connect_timeout, config.command_timeout) = (HANG, HANG);
    let e = Engine::new(&config).unwrap();
    end(&e);
    let lease = want().ttl(2 * S).unrenewed().get(&e, "x");
    happens(&server, &lease);
    proxy.set_one_way(Direction::Down, Fault::Hold);
    thread::scope(|scope| {
        let renewal = scope.spawn(|| lease.refresh(GRACE));
        until("it is over", || !lease.is_held());
        proxy.set(Fault::Pass);
        renewal.join().unwrap()
    })?;
    assert!(lease.is_held() && lease.remaining() > GRACE / 2, "{:?}", lease.remaining());
    lease.release()
}

#[test]
fn an_answer_that_comes_late_counts_unless_it_is_by_the_holders_word_alone() {
    assert_eq!(renewed_late(|_, _| ()).unwrap(), Standing::Ours);
    let loses = |server: &RedisServer| drop(server.cli(&["FLUSHALL"]));
    let lost = renewed_late(|server, _| loses(server)).unwrap_err();
    assert!(matches!(lost, Error::Lost(Loss::Expired(_))), "{lost:?}");
    // Nor when it was put back in time: another one may have done so, of which nobody knows.
    let lost = renewed_late(|server, lease| {
        loses(server);
        lease.verify().unwrap();
    });
    assert!(matches!(lost, Err(Error::Lost(Loss::Expired(_)))), "{lost:?}");
}

#[test]
fn without_one_nothing_is_different() {
    let server = RedisServer::start(&[]);
    let e = engine(&server.tcp_dsn());
    let lease = Want::now().get(&e, "a");
    assert!(!server.keys().iter().any(|key| key.contains("born")));
    server.cli(&["FLUSHALL"]);
    let other = Want::now().get(&engine(&server.tcp_dsn()), "a");
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Superseded));
    assert_eq!(other.release().unwrap(), Standing::Ours);
    assert!(e.end_grace().is_empty());
}

#[test]
fn a_holder_is_put_back_and_nobody_gets_in_beside_it() {
    for restarted in [false, true] {
        let (mut server, a, b) = fresh();
        let lease = want().ttl(S).get(&a, "x");
        let other = now().get(&a, "released before it has said so");
        lose(&mut server, restarted);
        now().refused(&b, "x");
        until_renewed(&a);
        let report = b.info(&name("x")).unwrap().unwrap();
        assert_eq!((report.fence, report.holders.len()), (lease.fence(), 1));
        assert_eq!(report.holders[0].identity.node, "test");
        // Since it was let in first.
        let since = Duration::from_secs_f64(report.since).as_micros();
        assert!(since.abs_diff(lease.fence().into()) < 1000, "{since}");
        assert_eq!(other.release().unwrap(), Standing::Ours);
        end(&a);
        now().refused(&b, "x");
        let waiter = thread::spawn(move || want().get(&b, "x").fence());
        until("it waits", || waiting(&a, "x") == 1);
        let fence = lease.fence();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert!(waiter.join().unwrap() > fence);
    }
}

#[test]
fn a_holder_that_is_put_back_in_a_run_is_shown_in_one() {
    let (server, a, b) = fresh();
    let quorum = three(GRACE);
    for (servers, a, b) in [(std::slice::from_ref(&server), &a, &b), (&quorum.0[..2], &quorum.1, &quorum.2)] {
        let lease = want().ttl(S).for_run().get(a, "x");
        servers.iter().for_each(|server| drop(server.cli(&["FLUSHALL"])));
        let holder = || b.info(&name("x")).unwrap()?.holders.pop();
        until("it is known again", || holder().is_some());
        assert!(holder().unwrap().identity.run);
        assert_eq!(lease.complete().unwrap(), Standing::Ours);
    }
}

#[test]
fn readers_are_put_back_and_a_writer_waits_for_those_too_that_are_silent() {
    let (server, a, b) = fresh();
    let silent = want().shared().unrenewed().get(&a, "x");
    let known = want().shared().ttl(S).get(&a, "x");
    server.cli(&["FLUSHALL"]);
    until_renewed(&a);
    assert_eq!(b.info(&name("x")).unwrap().unwrap().holders.len(), 1);
    assert_eq!(known.release().unwrap(), Standing::Ours);
    // Nobody is known to hold it, and one does.
    now().refused(&b, "x");
    now().shared().refused(&b, "x");
    silent.verify().unwrap();
    assert_eq!(b.info(&name("x")).unwrap().unwrap().holders.len(), 1);
    assert_eq!(silent.release().unwrap(), Standing::Ours);
    now().refused(&b, "x");
    end(&a);
    assert_eq!(now().get(&b, "x").release().unwrap(), Standing::Ours);
}

#[test]
fn a_holder_that_has_left_may_not_have_been_the_last() {
    let (server, a, b) = fresh();
    let lease = want().ttl(S).get(&a, "x");
    server.cli(&["FLUSHALL"]);
    lease.verify().unwrap();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    now().refused(&b, "x");
    end(&a);
    assert_eq!(now().get(&b, "x").release().unwrap(), Standing::Ours);
}

#[test]
fn one_that_was_let_in_by_mail_is_put_back_when_it_confirms() {
    let (server, a, b) = fresh();
    let lease = want().get(&a, "x");
    let waiter = thread::spawn({
        let server = graced(&server);
        move || (want().ttl(S).get(&server, "x"), server)
    });
    until("it waits", || waiting(&b, "x") == 1);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let (handed, c) = waiter.join().unwrap();
    server.cli(&["FLUSHALL"]);
    until_renewed(&c);
    assert_eq!(b.info(&name("x")).unwrap().unwrap().fence, handed.fence());
    now().refused(&b, "x");
    assert_eq!(handed.release().unwrap(), Standing::Ours);
}

#[test]
fn a_lease_that_is_over_is_not_put_back() {
    let (server, a, b) = fresh();
    let lease = want().ttl(S / 2).unrenewed().get(&a, "x");
    server.cli(&["FLUSHALL"]);
    until("it is over", || !lease.is_held());
    assert!(matches!(lease.release(), Ok(Standing::Lost(Loss::Expired(_)))));
    assert_eq!(b.info(&name("x")).unwrap(), None);
    now().refused(&b, "x");
}

#[test]
fn a_lease_that_is_longer_is_refused_wherever_it_is_asked_for() {
    let (_server, a, _) = fresh();
    let longer = Want::now().ttl(GRACE + S / 10);
    let told = |error: Error| {
        let text = error.to_string();
        assert!(text.contains("600.1 s") && text.contains("600 s") && text.contains("?grace="), "{text}");
    };
    told(longer.fails(&a, "x"));
    let lease = now().shared().get(&a, "x");
    told(lease.refresh(longer.ttl).unwrap_err());
    assert!(lease.is_held());
    told(longer.with(|how| lease.convert(how)).unwrap_err());
    assert_eq!(a.info(&name("x")).unwrap(), None, "what could not be converted is given back");
    assert_eq!(now().get(&a, "x").release().unwrap(), Standing::Ours);
}

#[test]
fn an_administrator_ends_it_for_a_lock_and_whoever_held_that_does_not_come_back() {
    let (server, a, b) = fresh();
    let (known, silent) = (want().get(&a, "known"), want().get(&a, "silent"));
    server.cli(&["FLUSHALL"]);
    known.verify().unwrap();
    for (lease, lock) in [(known, "known"), (silent, "silent")] {
        let fence = lease.fence();
        // Of the one who was seen: others may hold it yet.
        assert_eq!(b.break_lock(&name(lock), Some(fence)).unwrap(), Broken::Yes);
        now().refused(&b, lock);
        assert!(matches!(lease.verify(), Err(Error::Lost(Loss::Broken | Loss::Superseded))), "{lock}");
        assert_eq!(b.break_lock(&name(lock), None).unwrap(), Broken::Yes);
        let next = now().get(&b, lock);
        assert!(matches!(lease.release(), Ok(Standing::Lost(_))), "{lock}");
        assert_eq!(next.release().unwrap(), Standing::Ours);
    }
}

#[test]
fn it_does_not_last_for_as_long_as_the_clock_was_set_back() {
    let server = RedisServer::start_with_running_clock();
    let e = briefly(&server);
    server.set_clock_ahead(3600);
    now().refused(&e, "x");
    server.set_clock_ahead(0);
    now().refused(&e, "x");
    assert_eq!(want().get(&e, "x").release().unwrap(), Standing::Ours);
}

#[test]
fn a_voter_without_its_memory_does_not_count_for_others_and_counts_again_for_the_holder() {
    let (mut servers, a, b) = three(GRACE);
    let lease = want().ttl(S).get(&a, "x");
    for voter in [0, 1] {
        servers[voter].restart();
        now().refused(&b, "x");
    }
    until("two voters have it back", || {
        let has = |server: &RedisServer| server.cli(&["GET", "cluster_lock:{x}"]).starts_with('X');
        servers.iter().filter(|server| has(server)).count() == 3
    });
    // The one that has always known it may fail now.
    servers[2].stop();
    lease.verify().unwrap();
    now().refused(&b, "x");
    let waiter = thread::spawn(move || want().get(&b, "x").fence());
    let fence = lease.fence();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(a.end_grace().iter().filter(|report| report.error.is_none()).count(), 2);
    assert!(waiter.join().unwrap() > fence);
}

#[test]
fn a_holder_that_was_broken_is_not_put_back_by_voters_that_did_not_know_it() {
    let (servers, a, b) = three(GRACE);
    let lease = want().unrenewed().get(&a, "x");
    lease.verify().unwrap();
    for voter in [0, 1] {
        servers[voter].cli(&["FLUSHALL"]);
    }
    assert_eq!(b.break_lock(&name("x"), Some(lease.fence())).unwrap(), Broken::Yes);
    assert!(matches!(lease.verify(), Err(Error::Lost(_))));
    now().refused(&b, "x");
}

#[test]
fn one_voter_without_its_memory_keeps_nobody_waiting_while_the_others_agree() {
    let (servers, a, b) = three(GRACE);
    servers[0].cli(&["FLUSHALL"]);
    for round in 0..3 {
        let lease = now().get(&a, "x");
        let fence = lease.fence();
        let waiter = thread::spawn({
            let b = b.clone();
            move || want().get(&b, "x").fence()
        });
        until("it waits", || waiting(&a, "x") == 1);
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert!(waiter.join().unwrap() > fence, "{round}");
    }
    assert!(matches!(a.servers()[0].grace, Some(Grace::Runs(_))));
}

/// So many locks are held at a time.
const NAMES: usize = 20;

/// Locks that are held while voters lose their memory, one after the other and together: `ROUNDS` of them; with `GRACE=none`
/// without a grace period, to see that others get in then.
#[test]
fn two_voters_of_three_lose_their_memory_and_nobody_gets_in_beside_a_holder() {
    let rounds = std::env::var("ROUNDS").map_or(3 * NAMES, |rounds| rounds.parse().unwrap());
    let without = std::env::var("GRACE").is_ok_and(|grace| grace == "none");
    let (mut servers, mut a, mut b) = three(5 * S);
    if without {
        (a, b) = (engine(&quorum_dsn(&servers)), engine(&quorum_dsn(&servers)));
    }
    let (mut done, mut double, mut lost, mut batch) = (0, 0, 0, 0);
    while done < rounds {
        let names: Vec<String> = (0..NAMES).map(|i| format!("{batch}:{i}")).collect();
        let held: Vec<Lease> = names.iter().map(|lock| want().ttl(2 * S).get(&a, lock)).collect();
        // A server whose answer nobody waited for knows them now, too.
        held.iter().for_each(|lease| lease.verify().unwrap());
        let mut others = || {
            for (lock, lease) in names.iter().zip(&held) {
                let other = now().ttl(2 * S).with(|how| b.acquire(&name(lock), how));
                if let Ok(Acquired::Held { lease: other, .. }) = other {
                    double += u32::from(lease.is_held() && other.is_held());
                }
            }
        };
        lose(&mut servers[batch % 3], batch % 2 == 0);
        if batch % 4 < 2 {
            others();
        }
        lose(&mut servers[(batch + 1) % 3], batch % 2 == 0);
        others();
        let put_back = held.iter().filter(|lease| lease.verify().is_ok()).count();
        assert!(without || put_back == NAMES, "{put_back} are put back");
        others();
        lost += held.iter().filter(|lease| !lease.is_held()).count();
        held.into_iter().for_each(|lease| drop(lease.release()));
        if !without {
            end(&a);
        }
        (done, batch) = (done + NAMES, batch + 1);
    }
    println!("{done} rounds: {double} double holders, {lost} lost");
    assert!(without || double == 0, "{double} double holders in {done} rounds");
}
