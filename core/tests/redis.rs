//! What a server sees of us: round trips, keys, rights, TLS, connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use cluster_lock_core::{Acquired, Broken, Engine, Standing};
use support::{RedisServer, Want, config, engine, name, readme_rights, until, waiting};

const MS: Duration = Duration::from_millis(1);

fn failure(engine: &Engine, lock: &str) -> String {
    match Want::now().with(|how| engine.acquire(&name(lock), how)) {
        Err(e) => e.to_string(),
        Ok(other) => panic!("expected a failure: {other:?}"),
    }
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

/// To be heard of again is one field of a hash, as long as the lock is held by the same.
#[test]
fn a_waiter_that_is_heard_of_again_writes_only_that() {
    let server = RedisServer::start(&[]);
    let (a, b) = (engine(&server.unix_dsn()), engine(&server.unix_dsn()));
    let lease = Want::default().ttl(60 * 1000 * MS).get(&a, "x");
    let waiter = thread::spawn(move || drop(Want::default().get(&b, "x")));
    until("b waits", || waiting(&a, "x") == 1);
    let record = || server.cli(&["HVALS", "cluster_lock:{x}:w"]);
    let writes = || {
        let stats = server.cli(&["INFO", "commandstats"]);
        let is_write =
            |line: &&str| ["set", "zadd", "del"].iter().any(|c| line.starts_with(&format!("cmdstat_{c}:")));
        stats
            .lines()
            .filter(is_write)
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = writes();
    for _ in 0..2 {
        let last = record();
        until("it is heard of again", || record() != last);
    }
    assert_eq!(writes(), before);
    drop(lease);
    waiter.join().unwrap();
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
fn the_readmes_acl_line_is_enough() {
    let server = RedisServer::start(&[]);
    let rights = readme_rights(0);
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
    assert_eq!(a.break_lock(&name("y"), None).unwrap(), Broken::Yes);
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
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    // Without the authority the server is not trusted.
    let error = failure(&engine(&format!("rediss://127.0.0.1:{port}")), "x");
    assert!(error.contains("certificate") || error.contains("UnknownIssuer"), "{error}");
    let error = failure(&engine(&format!("rediss://127.0.0.1:{port}?ca=/nonexistent.pem")), "x");
    assert!(error.contains("/nonexistent.pem"), "{error}");
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
    // Beside them it tells of the largest buffers of the last seconds.
    let clients = || {
        let told = server.cli(&["INFO", "clients"]);
        let lines: Vec<_> = told.lines().filter(|line| !line.starts_with("client_recent_max")).collect();
        lines.join("\n")
    };
    let before = clients();
    let e = engine(&server.unix_dsn());
    drop(Want::default().get(&e, "x"));
    e.shutdown();
    until("the connections are closed", || clients() == before);
    match Want::now().ask(&e, "x") {
        Acquired::Held { .. } => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_repeats_what_it_does_not_know_does_not_make_us_tell_the_password() {
    let server = RedisServer::start(&["--rename-command", "HELLO", "", "--rename-command", "AUTH", ""]);
    let dsn = server.tcp_dsn().replace("redis://", "redis://alice:TOPSECRET@");
    for _ in 0..2 {
        let error = engine(&dsn).info(&name("x")).unwrap_err().to_string();
        assert!(error.contains("AUTH") && !error.contains("TOPSECRET"), "{error}");
    }
}
