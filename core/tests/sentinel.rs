//! A primary that sentinels watch over: killed, frozen, replaced on purpose, while locks are held
//! and waited for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::{Duration, Instant};

use cluster_lock_core::{Engine, Error, Grace, Loss, Parted, Standing};
use support::crowd::{self, Crowd};
use support::sentinel::SentinelSetup;
use support::{Frozen, HANG, RedisServer, Want, config, engine, name, patient, signal};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);
/// Longer than any test: what comes free was given back.
const FOR_EVER: Duration = Duration::from_secs(600);

fn failure(engine: &Engine, lock: &str) -> Error {
    match Want::now().with(|how| engine.acquire(&name(lock), how)) {
        Err(e) => e,
        Ok(other) => panic!("expected a failure: {other:?}"),
    }
}

/// `fault` strikes the primary.
fn survives(setup: &SentinelSetup, what: &str, fault: impl FnOnce(&RedisServer)) {
    crowd::survives(what, &setup.dsn(), "x", || {
        let before = setup.primary();
        fault(&setup.servers[before]);
        let replaced = setup.await_switch(before);
        (replaced, &setup.servers[setup.primary()])
    });
}

#[test]
fn a_primary_on_which_nobody_can_wait_is_named() {
    // Nobody could take its place: on a busy machine the sentinels might think that somebody has to.
    let setup = SentinelSetup::start(0);
    let e = patient(&setup.dsn());
    e.try_out().unwrap();
    let primary = &setup.servers[setup.primary()];
    assert_eq!(primary.cli(&["ACL", "SETUSER", "default", "-blpop"]), "OK");
    let [report] = &e.examine()[..] else { panic!("one primary") };
    assert!(report.server.contains(&primary.port.to_string()), "{report:?}");
    assert!(report.error.as_ref().is_some_and(|error| error.contains("blpop")), "{report:?}");
    let error = e.try_out().unwrap_err().to_string();
    assert!(error.contains("blpop") && error.contains(&primary.port.to_string()), "{error}");
    assert_eq!(primary.cli(&["ACL", "SETUSER", "default", "+blpop"]), "OK");
    e.try_out().unwrap();
}

#[test]
fn a_killed_primary_is_survived() {
    let mut setup = SentinelSetup::start(1);
    let dsn = setup.dsn();
    survives(&setup, "killed", |primary| signal(primary.pid(), "KILL"));
    // The dead one comes back, empty, and believes to be the primary until the sentinels set it right.
    let new = setup.primary();
    let e = engine(&dsn);
    let lease = Want::default().get(&e, "y");
    setup.servers[1 - new].restart();
    setup.await_whole();
    assert_eq!(setup.primary(), new);
    lease.verify().unwrap();
    Want::now().refused(&engine(&dsn), "y");
    let [report] = &e.servers()[..] else { panic!("{:?}", e.servers()) };
    assert_eq!((report.error.as_deref(), report.role.as_deref()), (None, Some("master")), "{report:?}");
    assert!(report.server.contains(&setup.servers[new].port.to_string()), "{report:?}");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

#[test]
fn a_frozen_primary_is_survived() {
    let setup = SentinelSetup::start(2);
    let mut frozen = None;
    let mut old = 0;
    survives(&setup, "frozen", |primary| {
        old = primary.port;
        frozen = Some(Frozen::new(primary.pid()));
    });
    let (before, after) = (engine(&setup.dsn()), engine(&setup.dsn()));
    let lease = Want::default().get(&before, "y");
    drop(frozen);
    Want::now().refused(&after, "y");
    setup.await_whole();
    assert_ne!(setup.servers[setup.primary()].port, old);
    Want::now().refused(&after, "y");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

/// Whoever asked before the switch, and is answered after it, by a primary that was frozen meanwhile.
#[test]
fn what_was_the_primary_when_it_was_asked_may_not_be_it_any_more() {
    let setup = SentinelSetup::start(1);
    let mut config = config(&setup.dsn());
    config.command_timeout = 200 * MS;
    config.connect_timeout = 10 * S;
    let e = Engine::new(&config).unwrap();
    drop(Want::default().get(&e, "x"));
    let old = setup.primary();
    let frozen = Frozen::new(setup.servers[old].pid());
    let lease = std::thread::scope(|scope| {
        let asking = scope.spawn(|| Want::default().get(&e, "x"));
        setup.await_switch(old);
        assert_ne!(setup.primary(), old);
        drop(frozen);
        asking.join().unwrap()
    });
    let other = engine(&setup.dsn());
    Want::now().refused(&other, "x");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    drop(Want::now().get(&e, "y"));
}

#[test]
fn a_fail_over_on_purpose_is_survived() {
    let setup = SentinelSetup::start(1);
    survives(&setup, "SENTINEL FAILOVER", |_| setup.fail_over());
}

/// Of a lock that lasts for ever, in the middle of a fail-over.
#[test]
fn a_release_that_is_not_waited_for_arrives_at_the_new_primary() {
    let setup = SentinelSetup::start(1);
    let (e, other) = (engine(&setup.dsn()), engine(&setup.dsn()));
    for _ in 0..2 {
        drop(Want::default().get(&e, "warm"));
    }
    let lease = Want::default().ttl(FOR_EVER).get(&e, "x");
    let old = setup.primary();
    assert_eq!(setup.servers[old].cli(&["WAIT", "1", "60000"]), "1");
    let frozen = Frozen::new(setup.servers[old].pid());
    let Parted::Owed(owed) = lease.part().unwrap() else { panic!("it was waited for") };
    owed.settle();
    assert!(owed.answer().is_some());
    setup.await_switch(old);
    assert_eq!(Want::default().get(&other, "x").release().unwrap(), Standing::Ours);
    drop(frozen);
    assert_eq!(Want::default().get(&e, "x").release().unwrap(), Standing::Ours);
}

/// Who has given a lock back to a primary that is none any more is not in its own way on the next one.
#[test]
fn what_a_thread_does_is_done_in_its_order_also_where_another_primary_comes_between() {
    let setup = SentinelSetup::start(1);
    let mut config = config(&setup.dsn());
    // Whoever asks the old one hears nothing.
    (config.connect_timeout, config.command_timeout) = (HANG, HANG);
    let e = Engine::new(&config).unwrap();
    for _ in 0..2 {
        drop(Want::default().get(&e, "warm"));
    }
    let leases = ["x", "y"].map(|lock| Want::default().ttl(FOR_EVER).get(&e, lock));
    let old = setup.primary();
    assert_eq!(setup.servers[old].cli(&["WAIT", "1", "60000"]), "1");
    let frozen = Frozen::new(setup.servers[old].pid());
    let owed = leases.map(|lease| match lease.part().unwrap() {
        Parted::Owed(owed) => owed,
        Parted::Done(standing) => panic!("it was waited for: {standing:?}"),
    });
    setup.await_switch(old);
    assert_ne!(setup.primary(), old);
    for lock in ["x", "y"] {
        assert_eq!(Want::now().get(&e, lock).release().unwrap(), Standing::Ours);
    }
    assert!(owed.iter().all(|owed| matches!(owed.answer(), Some(Ok(Standing::Ours)))), "{owed:?}");
    drop(frozen);
}

#[test]
fn a_primary_without_its_memory_lets_nobody_in_and_holders_are_put_back_also_by_a_fail_over() {
    let setup = SentinelSetup::start(1);
    let dsn = format!("{}?grace=600", setup.dsn());
    let (e, other) = (engine(&dsn), engine(&dsn));
    assert!(e.end_grace().iter().all(|report| report.error.is_none()));
    let lease = Want::default().ttl(S).get(&e, "x");
    let renewed = || e.counters().renewals.load(std::sync::atomic::Ordering::Relaxed);
    let until_put_back = || {
        let before = renewed();
        support::until("it is renewed", || renewed() > before + 1);
        let report = other.info(&name("x")).unwrap().unwrap();
        assert_eq!((report.fence, report.holders.len()), (lease.fence(), 1));
    };
    for replaced in [false, true] {
        let primary = setup.primary();
        setup.servers[primary].cli(&["FLUSHALL"]);
        if replaced {
            // Of what the renewals say from now on, the new one may know nothing.
            setup.fail_over();
            setup.await_switch(primary);
        } else {
            Want::now().refused(&other, "x");
        }
        until_put_back();
        Want::now().refused(&other, "y");
        assert!(matches!(other.servers()[0].grace, Some(Grace::Runs(_))));
    }
    assert!(e.end_grace().iter().all(|report| report.error.is_none()));
    Want::now().refused(&other, "x");
    assert_eq!(Want::now().get(&other, "y").release().unwrap(), Standing::Ours);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
}

#[test]
fn a_release_in_the_middle_of_a_fail_over_arrives() {
    let mut setup = SentinelSetup::start(1);
    let dsn = setup.dsn();
    let holder = engine(&dsn);
    let lease = Want::default().get(&holder, "x");
    let crowd = Crowd::gather(&config(&dsn), "x");
    let before = setup.primary();
    setup.servers[before].stop();
    let fence = lease.fence();
    // Nobody is there to take it back. It is given back as soon as somebody is.
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    setup.await_switch(before);
    // Those who had not asked the new primary yet may be overtaken; no one is left out.
    crowd.served(fence);
}

#[test]
fn what_a_fail_over_has_undone_is_told() {
    let mut setup = SentinelSetup::start(1);
    let (a, b) = (engine(&setup.dsn()), engine(&setup.dsn()));
    drop(Want::default().get(&a, "x"));
    // The replica no longer hears of what happens, and then becomes the primary.
    let (primary, replica) = (setup.primary(), 1 - setup.primary());
    let frozen = Frozen::new(setup.servers[replica].pid());
    setup.servers[primary].cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    let lease = Want::default().get(&a, "x");
    setup.servers[primary].stop();
    drop(frozen);
    setup.await_switch(primary);
    let next = Want::default().get(&b, "x");
    assert!(next.fence() > lease.fence(), "the fence tells them apart");
    // Its first try goes to the server that is gone, the next to one that has never known it.
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Superseded));
    assert_eq!(next.release().unwrap(), Standing::Ours);
}

#[test]
fn one_try_fails_at_once_and_says_why() {
    let mut setup = SentinelSetup::start(1);
    let e = engine(&setup.dsn());
    drop(Want::default().get(&e, "x"));
    let replica = 1 - setup.primary();
    // Without a replica nobody can take over.
    setup.servers[replica].stop();
    let primary = 1 - replica;
    setup.servers[primary].stop();
    let error = failure(&e, "x");
    assert!(matches!(error, Error::FailingOver { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&setup.servers[primary].port.to_string()) && text.contains("sentinels"), "{text}");
    // With time left it asks until the time is up.
    let began = Instant::now();
    let patient = Want::default().within(S);
    let error = patient.with(|how| e.acquire(&name("x"), how)).unwrap_err();
    assert!(matches!(error, Error::FailingOver { .. }), "{error:?}");
    assert!(began.elapsed() >= S, "{:?}", began.elapsed());
    // The wait can be interrupted.
    let interrupted = patient.with(|how| {
        let how = cluster_lock_core::Acquire { timeout: None, interrupted: &|| true, ..*how };
        e.acquire(&name("x"), &how)
    });
    assert!(matches!(interrupted, Ok(cluster_lock_core::Acquired::Interrupted(_))), "{interrupted:?}");
    // It comes back as the primary that it was.
    setup.servers[primary].restart();
    drop(Want::default().within(20 * S).get(&e, "x"));
}

#[test]
fn sentinels_that_are_gone_frozen_or_know_nothing() {
    let mut setup = SentinelSetup::start(1);
    let dsn = setup.dsn();
    // One of three is enough, whichever it is.
    setup.stop_sentinel(0);
    drop(Want::default().get(&engine(&dsn), "x"));
    let error = failure(&engine(&dsn.replace("/locks", "/lox")), "x").to_string();
    assert!(error.contains("\"lox\"") && error.contains("cluster_lock.dsn"), "{error}");
    let mut impatient = config(&dsn);
    impatient.connect_timeout = 300 * MS;
    for number in [1, 2] {
        let frozen = Frozen::new(setup.sentinel_pid(number));
        let e = Engine::new(&impatient).unwrap();
        drop(Want::default().get(&e, "x"));
        // No sentinel is asked again while all is well.
        let well = 3 - number;
        let before = setup.connections_to(well);
        for _ in 0..20 {
            drop(Want::default().get(&e, "x"));
        }
        assert_eq!(setup.connections_to(well), before + 1, "one of them is ours, that asks");
        drop(frozen);
    }
    // None is left, and the primary is well. Who knows it goes on with it, also after an accident.
    let e = engine(&dsn);
    drop(Want::default().get(&e, "x"));
    setup.stop_sentinel(1);
    setup.stop_sentinel(2);
    for _ in 0..3 {
        drop(Want::default().get(&e, "x"));
        setup.servers[0].cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    }
    // Who does not has nothing to wait for, and neither has anyone once it is gone.
    let began = Instant::now();
    let fresh = engine(&dsn);
    let error = Want::default().within(10 * HANG).with(|how| fresh.acquire(&name("x"), how)).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    assert!(error.to_string().contains("no sentinel"), "{error}");
    setup.servers[0].stop();
    let error = Want::default().within(10 * HANG).with(|how| e.acquire(&name("x"), how)).unwrap_err();
    assert!(matches!(error, Error::Connection { .. }), "{error:?}");
    assert!(began.elapsed() < HANG, "it waited for its time to be up");
}

/// Sentinels and servers that ask for passwords, each for their own.
#[test]
fn passwords_of_sentinels_and_servers() {
    let setup = SentinelSetup::with(
        1,
        &["--requirepass", "hunter2", "--masterauth", "hunter2"],
        &["requirepass 0penSesame", "sentinel auth-pass locks hunter2"],
        Some("0penSesame"),
    );
    let good = setup.dsn().replace("://", "://:hunter2@") + "?sentinel_password=0penSesame";
    drop(Want::default().get(&engine(&good), "x"));
    let text = failure(&engine(&good.replace("0penSesame", "shibboleth")), "x").to_string();
    assert!(text.contains("WRONGPASS") && !text.contains("shibboleth"), "{text}");
    let text = failure(&engine(&good.replace("hunter2", "hunter3")), "x").to_string();
    assert!(text.contains("WRONGPASS") && !text.contains("hunter3"), "{text}");
    assert!(!engine(&good).status().dsn.contains("hunter2"));
}
