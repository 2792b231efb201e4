//! What a holder believes of its lease, on a server that answers late or not at all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::process::Command;
use std::time::Duration;

use cluster_lock_core::{Engine, Error, Loss};
use support::{RedisServer, Want, config, engine, until};

const MS: Duration = Duration::from_millis(1);

fn signal(server: &RedisServer, signal: &str) {
    Command::new("kill").args([signal, &server.pid().to_string()]).status().unwrap();
}

/// Calls while the server stands still, which it does for `frozen` in all.
fn meanwhile<T>(server: &RedisServer, frozen: Duration, call: impl FnOnce() -> T) -> T {
    signal(server, "-STOP");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(frozen);
            signal(server, "-CONT");
        });
        call()
    })
}

fn patient(server: &RedisServer) -> Engine {
    let mut config = config(&server.tcp_dsn());
    config.command_timeout = Duration::from_secs(5);
    Engine::new(&config).unwrap()
}

#[test]
fn a_confirmation_that_comes_after_the_lease_has_run_out_confirms_nothing() {
    let server = RedisServer::start(&[]);
    let e = patient(&server);
    let lease = Want::now().ttl(300 * MS).unrenewed().get(&e, "x");
    let verified = meanwhile(&server, 600 * MS, || lease.verify());
    assert!(matches!(verified, Err(Error::Lost(Loss::Expired(_)))), "{verified:?}");
    assert!(!lease.is_held());
}

#[test]
fn a_lock_is_not_acquired_with_a_lease_that_has_run_out() {
    let server = RedisServer::start(&[]);
    let e = patient(&server);
    drop(Want::now().get(&e, "x"));
    for want in [Want::now(), Want::default()] {
        let want = want.ttl(300 * MS).unrenewed();
        let lease = meanwhile(&server, 600 * MS, || want.get(&e, "x"));
        assert!(lease.is_held());
        lease.release().unwrap();
    }
}

#[test]
fn a_shorter_lease_is_believed_in_before_the_server_has_answered() {
    let server = RedisServer::start(&[]);
    let mut config = config(&server.tcp_dsn());
    config.command_timeout = 200 * MS;
    let e = Engine::new(&config).unwrap();
    let lease = Want::now().unrenewed().get(&e, "x");
    signal(&server, "-STOP");
    let refreshed = lease.refresh(500 * MS);
    let left = lease.remaining();
    signal(&server, "-CONT");
    assert!(matches!(refreshed, Err(Error::Connection { .. })), "{refreshed:?}");
    assert!(left <= 500 * MS, "the server may have set the shorter lease, but {left:?} are believed in");
}

#[test]
fn a_hand_over_is_believed_in_for_no_longer_than_the_lease_asked_for() {
    let server = RedisServer::start(&[]);
    let (a, b) = (engine(&server.tcp_dsn()), engine(&server.tcp_dsn()));
    for ttl in [300 * MS, 1500 * MS] {
        let held = Want::now().get(&a, "x");
        let want = Want::default().ttl(ttl);
        let lease = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| want.get(&b, "x"));
            let name = support::name("x");
            until("it waits", || a.info(&name).unwrap().is_some_and(|lock| lock.waiters.len() == 1));
            held.release().unwrap();
            waiter.join().unwrap()
        });
        let left = lease.remaining();
        assert!(left <= ttl && left > Duration::ZERO, "{left:?} of {ttl:?}");
        lease.release().unwrap();
    }
}

#[test]
fn a_lease_that_its_holder_has_made_shorter_is_renewed_in_time() {
    let server = RedisServer::start(&[]);
    let e = patient(&server);
    let lease = Want::now().ttl(60 * 60 * 1000 * MS).get(&e, "x");
    lease.refresh(600 * MS).unwrap();
    let renewals = || e.counters().renewals.load(std::sync::atomic::Ordering::Relaxed);
    until("it is renewed twice, or lost", || renewals() > 1 || !lease.is_held());
    assert_eq!(lease.loss(), None);
}
