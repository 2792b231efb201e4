//! What can go wrong with a server, and what must come of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::store::{Attempt, Claim, IfBusy, RedisStore, Store, Token};
use cluster_lock_core::{Acquired, Dsn, Engine, LockName, Mode, Standing};
use support::{RedisServer, Want, config, engine, name, until, waiting};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// The rights of the README's ACL line.
fn acl_rights() -> Vec<String> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = std::fs::read_to_string(readme).unwrap();
    let line = text.lines().find(|l| l.contains("ACL SETUSER")).expect("README.md has the ACL line");
    let words =
        line.split_whitespace().skip_while(|w| *w != "SETUSER").skip(2).filter(|w| !w.starts_with('>'));
    words.map(|w| w.trim_matches('\'').to_owned()).collect()
}

fn failure(engine: &Engine, lock: &str) -> String {
    match Want::now().with(|how| engine.acquire(&name(lock), how)) {
        Err(e) => e.to_string(),
        Ok(other) => panic!("expected a failure: {other:?}"),
    }
}

/// An exclusive claim with a lease of 10 s, by somebody who does nothing of his own accord.
fn claim<'a>(lock: &'a LockName, token: &'a Token) -> Claim<'a> {
    Claim { name: lock, token, mode: Mode::Exclusive, ttl: 10 * S, identity: b"{}", place: 0 }
}

fn store(server: &RedisServer) -> RedisStore {
    let config = config(&server.unix_dsn());
    let Dsn::Redis(address) = config.dsn.clone() else { panic!("not redis") };
    RedisStore::new(address, &config)
}

#[test]
fn one_round_trip_each_way() {
    let server = RedisServer::start(&[]);
    let e = engine(&server.unix_dsn());
    drop(Want::default().get(&e, "x"));
    let commands = || {
        let info = server.cli(&["INFO", "commandstats"]);
        let calls = info.lines().rfind(|l| l.starts_with("cmdstat_evalsha")).unwrap().to_owned();
        calls.split(['=', ',']).nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = commands();
    for _ in 0..10 {
        drop(Want::default().get(&e, "x"));
    }
    assert_eq!(commands() - before, 20);
    assert_eq!(e.status().created, 1);
}

#[test]
fn tokens_grow_when_the_servers_clock_is_behind_them() {
    let server = RedisServer::start(&[]);
    let e = engine(&server.unix_dsn());
    // As after the clock was set back by a year: the last token lies in the future.
    let ahead = 1_900_000_000_000_000_u64 + 365 * 86_400_000_000;
    let record = format!("F- {} {ahead}", "-".repeat(32));
    server.cli(&["SET", "cluster_lock:{x}", &record]);
    let lease = Want::default().get(&e, "x");
    assert_eq!(lease.fence(), ahead + 1);
    drop(lease);
    // The record is kept until the clock has passed it, or it would be forgotten too early.
    let ttl: i64 = server.cli(&["PTTL", "cluster_lock:{x}"]).parse().unwrap();
    assert!(ttl > 86_400_000, "{ttl}");
    assert_eq!(Want::default().get(&e, "x").fence(), ahead + 2);
}

#[test]
fn every_key_expires_by_itself() {
    let server = RedisServer::start(&[]);
    let (a, b) = (engine(&server.unix_dsn()), engine(&server.unix_dsn()));
    let reader = Want::default().shared().get(&a, "x");
    let waiter = thread::spawn(move || drop(Want::default().get(&b, "x")));
    until("b waits", || waiting(&a, "x") == 1);
    let keys = server.keys();
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in &keys {
        let ttl: i64 = server.cli(&["PTTL", key]).parse().unwrap();
        assert!(ttl > 0, "{key} would stay for ever");
    }
    drop(reader);
    waiter.join().unwrap();
    assert_eq!(server.keys(), ["cluster_lock:{x}"]);
}

#[test]
fn a_dead_holder_blocks_for_its_lease_and_no_longer() {
    let server = RedisServer::start(&[]);
    let e = engine(&server.unix_dsn());
    let dead = Token::random();
    let lock = name("x");
    let claim = Claim { ttl: 700 * MS, ..claim(&lock, &dead) };
    store(&server).attempt(&claim, IfBusy::Queue).unwrap();
    let start = Instant::now();
    drop(Want::default().get(&e, "x"));
    assert!(start.elapsed() >= 690 * MS && start.elapsed() < 1200 * MS, "{:?}", start.elapsed());
}

#[test]
fn dead_waiters_delay_by_less_than_three_seconds() {
    let server = RedisServer::start(&[]);
    let e = engine(&server.unix_dsn());
    let lock = name("x");
    let lease = Want::default().get(&e, "x");
    let s = store(&server);
    for _ in 0..3 {
        let token = Token::random();
        assert!(matches!(s.attempt(&claim(&lock, &token), IfBusy::Queue), Ok(Attempt::Busy { .. })));
    }
    let other = engine(&server.unix_dsn());
    let waiter = thread::spawn(move || {
        drop(Want::default().get(&other, "x"));
        Instant::now()
    });
    until("the living waiter queues", || waiting(&e, "x") == 4);
    let released = Instant::now();
    drop(lease);
    let delay = waiter.join().unwrap() - released;
    assert!(delay < 3 * S, "{delay:?}");
}

#[test]
fn a_grant_that_comes_with_the_time_out_is_kept() {
    let server = RedisServer::start(&[]);
    let s = store(&server);
    let lock = name("x");
    let (a, b) = (Token::random(), Token::random());
    let claim = |token| claim(&lock, token);
    assert!(matches!(s.attempt(&claim(&a), IfBusy::Queue), Ok(Attempt::Held(_))));
    assert!(matches!(s.attempt(&claim(&b), IfBusy::Queue), Ok(Attempt::Busy { .. })));
    assert_eq!(s.release(&lock, &a).unwrap(), Standing::Ours);
    // b's time is up before it has read its mail: the last try finds that it holds the lock.
    assert!(matches!(s.attempt(&claim(&b), IfBusy::GiveUp), Ok(Attempt::Held(_))));
    assert_eq!(s.release(&lock, &b).unwrap(), Standing::Ours);
    assert_eq!(server.keys(), ["cluster_lock:{x}"]);
}

#[test]
fn a_repeated_release_is_no_error_even_when_the_next_holder_is_in() {
    let server = RedisServer::start(&[]);
    let s = store(&server);
    let lock = name("x");
    let (a, b) = (Token::random(), Token::random());
    let claim = |token| claim(&lock, token);
    s.attempt(&claim(&a), IfBusy::Queue).unwrap();
    assert_eq!(s.release(&lock, &a).unwrap(), Standing::Ours);
    assert_eq!(s.release(&lock, &a).unwrap(), Standing::Ours);
    s.attempt(&claim(&b), IfBusy::Queue).unwrap();
    assert_eq!(s.release(&lock, &a).unwrap(), Standing::Ours);
    assert_eq!(s.renew(&lock, &b, S).unwrap(), Standing::Ours);
}

#[test]
fn the_readmes_acl_line_is_enough() {
    let server = RedisServer::start(&[]);
    let rights = acl_rights();
    let mut command = vec!["ACL", "SETUSER", "cluster_lock"];
    command.extend(rights.iter().map(String::as_str));
    command.push(">hunter2");
    assert_eq!(server.cli(&command), "OK", "{command:?}");
    let dsn = format!("redis://cluster_lock:hunter2@127.0.0.1:{}", server.port);
    let (a, b) = (engine(&dsn), engine(&dsn));
    let lease = Want::default().ttl(300 * MS).get(&a, "x");
    let waiter = thread::spawn(move || {
        let lease = Want::default().get(&b, "x");
        lease.verify().unwrap();
        lease.release().unwrap()
    });
    until("b waits", || waiting(&a, "x") == 1);
    until("it was renewed", || a.counters().renewals.load(Ordering::Relaxed) > 0);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    let readers = (Want::default().shared().get(&a, "y"), Want::default().shared().get(&a, "y"));
    assert_eq!(a.list(b"", 10).unwrap().len(), 1);
    Want::now().refused(&a, "y");
    assert!(a.break_lock(&name("y")).unwrap());
    drop(readers);
    assert_eq!(a.counters().errors.load(Ordering::Relaxed), 0);
    // Other people's keys stay out of reach.
    let mut config = config(&dsn);
    config.prefix = "other:".into();
    let error = failure(&Engine::new(&config).unwrap(), "x");
    assert!(error.contains("NOPERM"), "{error}");
}

#[test]
fn tls_with_an_own_authority() {
    let dir = tempfile::tempdir().unwrap();
    let path = |file: &str| dir.path().join(file).display().to_string();
    let openssl = |args: &[&str]| {
        let out = Command::new("openssl").args(args).current_dir(dir.path()).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let key = ["-newkey", "rsa:2048", "-nodes", "-days", "2"];
    let request = [&["req", "-x509"], &key[..]].concat();
    openssl(&[&request[..], &["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA"]].concat());
    let request = [&["req", "-new"], &key[..4]].concat();
    openssl(&[&request[..3], &key[1..3], &["-keyout", "s.key", "-out", "s.csr", "-subj", "/CN=s"]].concat());
    std::fs::write(dir.path().join("ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth")
        .unwrap();
    openssl(&[
        "x509",
        "-req",
        "-in",
        "s.csr",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "ext",
        "-out",
        "s.pem",
    ]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let _server = RedisServer::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &path("s.pem"),
        "--tls-key-file",
        &path("s.key"),
        "--tls-ca-cert-file",
        &path("ca.pem"),
        "--tls-auth-clients",
        "no",
    ]);
    let dsn = format!("rediss://127.0.0.1:{port}?ca={}", path("ca.pem"));
    let (a, b) = (engine(&dsn), engine(&dsn));
    let lease = Want::default().get(&a, "x");
    let waiter = thread::spawn(move || Want::default().get(&b, "x").release().unwrap());
    until("b waits", || waiting(&a, "x") == 1);
    let released = Instant::now();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    assert!(released.elapsed() < 500 * MS, "{:?}", released.elapsed());
    // Without the authority the server is not trusted.
    let error = failure(&engine(&format!("rediss://127.0.0.1:{port}")), "x");
    assert!(error.contains("certificate") || error.contains("UnknownIssuer"), "{error}");
    let error = failure(&engine(&format!("rediss://127.0.0.1:{port}?ca=/nonexistent.pem")), "x");
    assert!(error.contains("/nonexistent.pem"), "{error}");
}

#[test]
fn a_thousand_waiters_are_served_in_order() {
    let server = RedisServer::start(&[]);
    let s = store(&server);
    let lock = name("x");
    let tokens: Vec<Token> = (0..1000).map(|_| Token::random()).collect();
    let claim = |token| claim(&lock, token);
    for token in &tokens {
        s.attempt(&claim(token), IfBusy::Queue).unwrap();
    }
    // All of them are alive: heard of less than a second ago, or asked again.
    for token in &tokens[1..] {
        s.attempt(&claim(token), IfBusy::Queue).unwrap();
    }
    let mut last = 0;
    for token in &tokens {
        let Ok(Attempt::Held(grant)) = s.attempt(&claim(token), IfBusy::GiveUp) else {
            panic!("out of turn");
        };
        assert!(grant.fence > last);
        last = grant.fence;
        assert_eq!(s.release(&lock, token).unwrap(), Standing::Ours);
    }
    assert_eq!(server.keys().iter().filter(|k| !k.contains(":m:")).count(), 1);
}

#[test]
fn many_threads_share_a_small_pool() {
    let server = RedisServer::start(&[]);
    let mut config = config(&server.unix_dsn());
    config.pool_size = 2;
    let e = Engine::new(&config).unwrap();
    let threads: Vec<_> = (0..12)
        .map(|i| {
            let e = e.clone();
            thread::spawn(move || {
                for j in 0..50 {
                    // Some contend, some do not.
                    let lock = if j % 2 == 0 { "shared".to_owned() } else { i.to_string() };
                    assert_eq!(Want::default().get(&e, &lock).release().unwrap(), Standing::Ours);
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    let status = e.status();
    assert!(status.idle <= 2 && status.open == status.idle, "{status:?}");
    assert_eq!(e.counters().errors.load(Ordering::Relaxed), 0);
}

#[test]
fn nothing_is_left_running_or_open_after_shutdown() {
    let server = RedisServer::start(&[]);
    let before = server.cli(&["INFO", "clients"]);
    let e = engine(&server.unix_dsn());
    drop(Want::default().get(&e, "x"));
    e.shutdown();
    until("the connections are closed", || server.cli(&["INFO", "clients"]) == before);
    match Want::now().ask(&e, "x") {
        Acquired::Held { .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_repeats_the_greeting_does_not_make_us_tell_the_password() {
    let server = RedisServer::start(&["--rename-command", "HELLO", ""]);
    let dsn = server.tcp_dsn().replace("redis://", "redis://alice:TOPSECRET@");
    for _ in 0..2 {
        let error = engine(&dsn).info(&name("x")).unwrap_err().to_string();
        assert!(error.contains("HELLO") && !error.contains("TOPSECRET"), "{error}");
    }
}
