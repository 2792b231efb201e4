//! What a server can answer instead of doing as it is told, what it can forget, and what must come of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cluster_lock_core::{Acquired, Broken, Config, Engine, Error, Loss, Standing};
use support::{
    RedisServer, Want, assert_clean, assert_tells, config, name, patient, patient_config, until, waiting,
};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// Fails at once, and is asked again at once.
fn patient_with_none(dsn: &str) -> Engine {
    let mut config = patient_config(dsn);
    config.retry_after = Duration::ZERO;
    Engine::new(&config).unwrap()
}

/// Asks in a thread of its own; returns when it waits in the queue.
fn waits(e: &Engine, lock: &'static str) -> JoinHandle<Result<Acquired, Error>> {
    let before = waiting(e, lock);
    let other = e.clone();
    let waiter = thread::spawn(move || Want::default().with(|how| other.acquire(&name(lock), how)));
    until("it waits", || waiting(e, lock) == before + 1);
    waiter
}

fn gets(waiter: JoinHandle<Result<Acquired, Error>>) {
    match waiter.join().unwrap().unwrap() {
        Acquired::Held { lease, .. } => assert_eq!(lease.release().unwrap(), Standing::Ours),
        other => panic!("expected to get it, but: {other:?}"),
    }
}

// ---- answers ---------------------------------------------------------------------------------------------------

#[test]
fn scripts_that_the_server_does_not_know_are_sent_again() {
    let server = RedisServer::start(&[]);
    let (a, b) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
    let flush = || assert_eq!(server.cli(&["SCRIPT", "FLUSH"]), "OK");
    let lease = Want::default().ttl(600 * MS).get(&a, "x");
    flush();
    lease.verify().unwrap();
    flush();
    assert_eq!(b.list(b"", 10).unwrap().len(), 1);
    flush();
    let waiter = waits(&b, "x");
    flush();
    until("it is renewed", || a.counters().renewals.load(Ordering::Relaxed) > 1);
    flush();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    gets(waiter);
    let lease = Want::default().get(&a, "x");
    flush();
    assert_eq!(b.break_lock(&name("x"), None).unwrap(), Broken::Yes);
    flush();
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Broken));
    assert_eq!([&a, &b].map(|e| e.counters().errors.load(Ordering::Relaxed)), [0, 0]);
    assert_clean(&server, &[&a, &b]);
}

#[test]
fn a_server_that_loads_is_told_and_what_it_loaded_is_still_held() {
    let mut server = RedisServer::start(&[
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
        "--rdbcompression",
        "no",
    ]);
    let e = patient_with_none(&server.tcp_dsn());
    let lease = Want::default().ttl(60 * S).get(&e, "held");
    let fill = "for i = 1, 2500 do redis.call('SET', 'other:' .. i, string.rep('x', 1000), 'EX', 100) end";
    server.cli(&["EVAL", fill, "0"]);
    assert_eq!(server.cli(&["SAVE"]), "OK");
    server.restart();
    let hint = "the server is starting; try again";
    assert_tells(Want::now().fails(&e, "x"), "x", &e, &["LOADING", hint]);
    until("it has loaded", || Want::now().with(|how| e.acquire(&name("x"), how)).is_ok());
    lease.verify().unwrap();
    Want::now().refused(&e, "held");
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    server.cli(&["EVAL", "for i = 1, 2500 do redis.call('DEL', 'other:' .. i) end", "0"]);
    assert_clean(&server, &[&e]);
}

#[test]
fn a_primary_that_was_replaced_says_so_to_holders_and_waiters() {
    let old = RedisServer::start(&["--repl-diskless-sync-delay", "0"]);
    let new = RedisServer::start(&[
        "--repl-diskless-sync-delay",
        "0",
        "--replicaof",
        "127.0.0.1",
        &old.port.to_string(),
    ]);
    let (a, b) = (patient(&old.tcp_dsn()), patient(&new.tcp_dsn()));
    let hint = ["READONLY", "point cluster_lock.dsn at the primary"];
    assert_tells(Want::now().fails(&b, "x"), "x", &b, &hint);
    let lease = Want::default().ttl(5 * S).get(&a, "x");
    let other = Want::default().ttl(5 * S).get(&a, "y");
    let waiter = waits(&a, "x");
    until("the replica knows", || old.cli(&["WAIT", "1", "1000"]) == "1" && waiting(&b, "x") == 1);
    // The fail-over.
    assert_eq!(new.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    assert_eq!(old.cli(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]), "OK");
    assert_tells(waiter.join().unwrap().unwrap_err(), "x", &a, &hint);
    match other.verify() {
        Err(error @ Error::Server { .. }) => assert_tells(error, "y", &a, &hint),
        unexpected => panic!("{unexpected:?}"),
    }
    assert_tells(lease.release().unwrap_err(), "x", &a, &hint);
    // The replica had it all: nobody gets in before the leases are over, and fences go on.
    Want::now().refused(&b, "x");
    let next = Want::default().get(&b, "y");
    assert!(next.fence() > other.fence());
    assert!(matches!(other.release(), Ok(Standing::Lost(_))));
    for lease in [Want::default().get(&b, "x"), next] {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    a.shutdown();
    assert_clean(&new, &[&b]);
}

#[test]
fn a_server_out_of_memory_refuses_new_locks_and_lets_holders_keep_and_release() {
    let server = RedisServer::start(&[]);
    let (a, b) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
    let alone = Want::default().ttl(S).get(&a, "alone");
    let reader = Want::default().ttl(S).shared().get(&a, "shared");
    let awaited = Want::default().ttl(S).get(&a, "awaited");
    let waiter = thread::spawn(move || (Want::default().get(&b, "awaited"), b));
    until("b waits", || waiting(&a, "awaited") == 1);
    drop(Want::now().get(&a, "idle"));
    assert_eq!(server.cli(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    for lock in ["new", "idle"] {
        assert_tells(Want::now().fails(&a, lock), lock, &a, &["OOM", "raise maxmemory"]);
        assert_tells(Want::now().shared().fails(&a, lock), lock, &a, &["OOM", "raise maxmemory"]);
    }
    for lease in [&alone, &reader, &awaited] {
        lease.verify().unwrap();
    }
    let fence = alone.fence();
    for lease in [alone, reader, awaited] {
        assert_eq!(lease.release().unwrap(), Standing::Ours);
    }
    let (granted, b) = waiter.join().unwrap();
    assert_eq!(granted.release().unwrap(), Standing::Ours);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(Want::now().get(&a, "alone").fence() > fence);
    assert_clean(&server, &[&a, &b]);
}

#[test]
fn a_server_that_cannot_save_is_told() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.tcp_dsn());
    let lease = Want::default().ttl(2 * S).get(&e, "held");
    let waiter = waits(&e, "held");
    // Not even root can write a file where a directory is.
    std::fs::create_dir(server.dir.path().join("dump.rdb")).unwrap();
    server.cli(&["CONFIG", "SET", "save", "3600 1"]);
    server.cli(&["BGSAVE"]);
    until("saving fails", || server.cli(&["INFO", "persistence"]).contains("rdb_last_bgsave_status:err"));
    let hint = ["MISCONF", "the server cannot save to its disk"];
    assert_tells(Want::now().fails(&e, "x"), "x", &e, &hint);
    match lease.verify() {
        Err(error @ Error::Server { .. }) => assert_tells(error, "held", &e, &hint),
        unexpected => panic!("{unexpected:?}"),
    }
    assert_tells(lease.release().unwrap_err(), "held", &e, &hint);
    assert_tells(waiter.join().unwrap().unwrap_err(), "held", &e, &hint);
    server.cli(&["CONFIG", "SET", "save", ""]);
    // What could not be released runs out.
    assert_eq!(Want::default().get(&e, "held").release().unwrap(), Standing::Ours);
    assert_clean(&server, &[&e]);
}

#[test]
fn a_server_that_is_busy_with_a_script_is_told() {
    let server = RedisServer::start(&["--busy-reply-threshold", "50"]);
    let e = patient(&server.tcp_dsn());
    let lease = Want::default().ttl(60 * S).get(&e, "kept");
    let lost = Want::default().ttl(60 * S).get(&e, "lost");
    let (mut redis, mut killer) = (server.redis(), server.redis());
    let script = thread::spawn(move || {
        redis::cmd("EVAL").arg("while true do end").arg(0).query::<redis::Value>(&mut redis).unwrap_err()
    });
    let busy = |e: redis::RedisError| e.code() == Some("BUSY");
    until("it is busy", || redis::cmd("PING").exec(&mut killer).is_err_and(busy));
    let hint = "another script blocks the server: SCRIPT KILL";
    assert_tells(Want::now().fails(&e, "x"), "x", &e, &["BUSY", hint]);
    assert_tells(lost.release().unwrap_err(), "lost", &e, &["BUSY"]);
    redis::cmd("SCRIPT").arg("KILL").exec(&mut killer).unwrap();
    script.join().unwrap();
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(e.break_lock(&name("lost"), None).unwrap(), Broken::Yes, "its lease would have run out");
    assert_clean(&server, &[&e]);
}

#[test]
fn a_cluster_behind_a_plain_dsn_is_told() {
    let start = || {
        let bus = support::free_port().to_string();
        let options = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        (RedisServer::start(&options), bus)
    };
    let ((a, bus), (b, _)) = (start(), start());
    let (to_a, to_b) = (patient(&a.tcp_dsn()), patient(&b.tcp_dsn()));
    let hint = "a Redis Cluster: use redis+cluster://";
    assert_tells(Want::now().fails(&to_a, "x"), "x", &to_a, &["CLUSTERDOWN", hint]);

    assert_eq!(a.cli(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]), "OK");
    assert_eq!(b.cli(&["CLUSTER", "MEET", "127.0.0.1", &a.port.to_string(), &bus]), "OK");
    until("they know each other", || {
        [&a, &b].iter().all(|s| s.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"))
    });
    assert_tells(Want::now().fails(&to_b, "x"), "x", &to_b, &["MOVED", hint]);

    let lease = Want::now().get(&to_a, "y");
    let slot = a.cli(&["CLUSTER", "KEYSLOT", "cluster_lock:{x}"]);
    let other = b.cli(&["CLUSTER", "MYID"]);
    assert_eq!(a.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &other]), "OK");
    assert_tells(Want::now().fails(&to_a, "x"), "x", &to_a, &["ASK", hint]);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_clean(&a, &[&to_a]);
    assert_eq!(b.keys(), Vec::<String>::new());
}

// ---- rights ----------------------------------------------------------------------------------------------------

#[test]
fn a_wrong_password_is_told_and_not_shown() {
    let server = RedisServer::start(&["--requirepass", "hunter2"]);
    let dsn = |password: &str| format!("redis://:{password}@127.0.0.1:{}", server.port);
    let wrong = patient(&dsn("wr0ng"));
    let error = Want::now().fails(&wrong, "x");
    assert!(!error.to_string().contains("wr0ng"), "{error}");
    assert_tells(error, "x", &wrong, &["WRONGPASS", "check user and password in cluster_lock.dsn"]);
    let none = patient(&server.tcp_dsn());
    assert_tells(Want::now().fails(&none, "x"), "x", &none, &["NOAUTH", "cluster_lock.dsn"]);

    // Changed under our feet: connections that are there go on, new ones are refused.
    let right = patient_with_none(&dsn("hunter2"));
    let lease = Want::now().ttl(S).get(&right, "x");
    let cli = |words: &[&str]| server.cli(&[&["-a", "hunter2", "--no-auth-warning"], words].concat());
    assert_eq!(cli(&["CONFIG", "SET", "requirepass", "hunter3"]), "OK");
    lease.verify().unwrap();
    let killed = server.cli(&["-a", "hunter3", "--no-auth-warning", "CLIENT", "KILL", "TYPE", "normal"]);
    assert!(killed.parse::<usize>().unwrap() > 0, "{killed}");
    let error = lease.release().unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    assert_tells(error, "x", &right, &["WRONGPASS"]);
    let changed = patient(&dsn("hunter3"));
    assert_eq!(Want::default().get(&changed, "x").release().unwrap(), Standing::Ours);
    server.cli(&["-a", "hunter3", "--no-auth-warning", "CONFIG", "SET", "requirepass", ""]);
    assert_clean(&server, &[&wrong, &none, &right, &changed]);
}

#[test]
fn missing_rights_are_told() {
    let server = RedisServer::start(&[]);
    let rights = |words: &[&str]| assert_eq!(server.cli(&[&["ACL", "SETUSER", "bob"], words].concat()), "OK");
    rights(&["on", ">secret", "~cluster_lock:*", "+@all"]);
    let e = patient(&format!("redis://bob:secret@127.0.0.1:{}", server.port));
    let hint = ["NOPERM", "see the ACL line in cluster_lock's README"];

    let lease = Want::now().get(&e, "x");
    rights(&["-blpop"]);
    assert_tells(Want::default().fails(&e, "x"), "x", &e, &hint);
    assert_eq!(waiting(&e, "x"), 0, "who cannot wait leaves the queue");
    assert_eq!(lease.release().unwrap(), Standing::Ours);

    let lease = Want::now().ttl(S).get(&e, "x");
    rights(&["-evalsha"]);
    assert_tells(lease.release().unwrap_err(), "x", &e, &hint);
    assert_tells(Want::now().fails(&e, "x"), "x", &e, &hint);
    rights(&["+evalsha", "+blpop"]);
    // In a script it is said in other words.
    for right in ["zadd", "hset", "del", "zrem", "hdel", "set"] {
        rights(&[&format!("-{right}")]);
        assert_tells(Want::now().fails(&e, "new"), "new", &e, &hint[1..]);
        assert_tells(Want::now().shared().fails(&e, "new shared"), "new shared", &e, &hint[1..]);
        let error = e.examine()[0].error.clone().unwrap();
        assert!(error.contains(hint[1]), "{error}");
        rights(&[&format!("+{right}")]);
        for key in server.cli(&["KEYS", "*"]).lines() {
            assert_ne!(server.cli(&["PTTL", key]), "-1", "without {right}, {key} stays for ever");
        }
        server.cli(&["FLUSHALL"]);
    }
    assert_eq!(Want::now().get(&e, "new").release().unwrap(), Standing::Ours);
    assert_eq!(Want::default().get(&e, "x").release().unwrap(), Standing::Ours);
    assert_clean(&server, &[&e]);
}

// ---- data loss -------------------------------------------------------------------------------------------------

/// Passes on to a server all commands but these, and gives each of them the answer that stands there: address.
fn answering(server: &RedisServer, answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let dsn = format!("redis://{}", listener.local_addr().unwrap());
    let socket = server.socket();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = UnixStream::connect(&socket).unwrap();
            let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut from, &mut to));
            thread::spawn(move || pass_on(client, server, answers));
        }
    });
    dsn
}

/// Who asks waits for the answer, so that what is read at once is of one kind.
fn pass_on(mut client: TcpStream, mut server: UnixStream, answers: &[(&str, &str)]) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(n @ 1..) = client.read(&mut buffer) {
        let asked = String::from_utf8_lossy(&buffer[..n]);
        let count = |command: &str| asked.matches(&format!("\n{command}\r")).count();
        let written = match answers.iter().find(|(command, _)| count(command) > 0) {
            None => server.write_all(&buffer[..n]),
            Some((command, answer)) => client.write_all(answer.repeat(count(command)).as_bytes()),
        };
        written.unwrap();
    }
}

#[test]
fn a_server_that_runs_no_scripts_is_told_by_all_who_ask_it() {
    const NO_SCRIPT: &str = "-NOSCRIPT No matching script. Please use EVAL.\r\n";
    const NO_LUA: &str = "-ERR Could not find scripting engine 'lua'\r\n";
    let plain = RedisServer::start(&[]);
    let renamed = |command| RedisServer::start(&["--rename-command", command, ""]);
    let servers = [renamed("EVALSHA"), renamed("EVAL"), renamed("ZRANGE"), renamed("SET")];
    let fakes = [
        (&[("EVALSHA", NO_SCRIPT), ("EVAL", NO_LUA)][..], "without Lua"),
        (&[("EVALSHA", NO_LUA)], "without Lua"),
        (&[("EVALSHA", NO_SCRIPT), ("EVAL", NO_SCRIPT)], "does not pass scripts on"),
        (&[("EVALSHA", "-ERR unknown command `evalsha`\r\n")], "rename-command"),
    ];
    let fakes = fakes.map(|(answers, words)| (answering(&plain, answers), words));
    for (dsn, words) in servers.iter().map(|server| (server.tcp_dsn(), "rename-command")).chain(fakes) {
        let e = patient_with_none(&dsn);
        assert_tells(Want::now().fails(&e, "x"), "x", &e, &[words]);
        // What could not be looked at must not look empty, or fine. (INSPECT has no need of SET.)
        match e.list(b"", 10) {
            Err(error) => assert_tells(error, "x", &e, &[words]),
            Ok(_) => assert_eq!(dsn, servers[3].tcp_dsn()),
        }
        let error = e.examine()[0].error.clone().expect("it grants no lock");
        assert!(error.contains(words), "{error}");
        assert!(e.servers()[0].error.is_none(), "it answers");
        assert_tells(e.try_out().unwrap_err(), "x", &e, &[words]);
    }
}

/// What an examination has to say of its servers, in their order: `None` of one where all is well.
fn assert_examined(e: &Engine, expected: &[Option<&str>]) {
    let reports = e.examine();
    assert_eq!(reports.len(), expected.len(), "{reports:?}");
    for (report, words) in reports.iter().zip(expected) {
        match (&report.error, words) {
            (None, None) => {}
            (Some(error), Some(words)) => assert!(error.contains(words), "{words}: {error}"),
            unexpected => panic!("{}: {unexpected:?}", report.server),
        }
    }
}

#[test]
fn a_server_on_which_nobody_can_wait_is_told() {
    let server = RedisServer::start(&["--rename-command", "BLPOP", ""]);
    let e = patient_with_none(&server.tcp_dsn());
    assert_eq!(Want::now().get(&e, "x").release().unwrap(), Standing::Ours, "what is free can be had");
    assert_examined(&e, &[Some("unknown command 'BLPOP'")]);
    assert_examined(&e, &[Some("rename-command")]);
    let told = ["unknown command 'BLPOP'", "rename-command"];
    assert_tells(e.try_out().unwrap_err(), "x", &e, &told);
    assert_eq!(e.list(b"", 10).unwrap(), [], "nothing is held");
    let keys = server.keys();
    assert!(keys.iter().all(|key| key.contains(":m:") || key.contains("{x}")), "{keys:?}");
    for key in keys {
        assert_ne!(server.cli(&["PTTL", &key]), "-1", "{key} stays for ever");
    }
}

/// A proxy that does not know commands which wait may keep them, or answer for the server.
#[test]
fn a_server_that_hands_over_what_nobody_receives_is_told() {
    let server = RedisServer::start(&[]);
    let e = |blpop| {
        let config = config(&answering(&server, blpop));
        Engine::new(&Config { command_timeout: 500 * MS, ..config }).unwrap()
    };
    let keeps = e(&[("BLPOP", "")]);
    let told = ["no answer within 0.500 s", "to one who waits (BLPOP)"];
    assert_tells(keeps.try_out().unwrap_err(), "x", &keeps, &told);
    let lies = e(&[("BLPOP", "+OK\r\n")]);
    assert_tells(lies.try_out().unwrap_err(), "x", &lies, &["BLPOP"]);
    until("no key stays", || server.keys().is_empty());
}

#[test]
fn a_server_that_does_not_answer_a_trial_is_not_asked_on_and_on() {
    let server = RedisServer::start(&[]);
    let config = config(&answering(&server, &[("EVALSHA", "")]));
    let e =
        Engine::new(&Config { command_timeout: 200 * MS, connect_timeout: support::HANG, ..config }).unwrap();
    assert_tells(e.try_out().unwrap_err(), "x", &e, &["no answer within 0.200 s"]);
    assert_eq!(
        e.status().created,
        4,
        "the lock asked for, and given up: each twice, over a connection of its own"
    );
}

#[test]
fn a_server_that_could_not_be_taught_its_scripts_again_is_told() {
    let plain = RedisServer::start(&[]);
    let rights = |words: &[&str]| assert_eq!(plain.cli(&[&["ACL", "SETUSER", "bob"], words].concat()), "OK");
    rights(&["on", ">secret", "~cluster_lock:*", "+@all"]);
    let e = patient_with_none(&format!("redis://bob:secret@127.0.0.1:{}", plain.port));
    assert_examined(&e, &[None]);
    rights(&["-eval"]);
    assert_eq!(Want::now().get(&e, "x").release().unwrap(), Standing::Ours, "it knows them");
    assert_examined(&e, &[Some("ACL line in cluster_lock's README")]);
    assert_tells(e.try_out().unwrap_err(), "x", &e, &["NOPERM", "eval"]);
    plain.cli(&["SCRIPT", "FLUSH"]);
    assert_tells(Want::now().fails(&e, "x"), "x", &e, &["NOPERM", "eval"]);
    rights(&["+eval"]);
    assert_examined(&e, &[None]);
}

#[test]
fn every_right_of_the_readme_is_needed_for_a_lock_that_is_tried_out() {
    let server = RedisServer::start(&[]);
    let rights = support::readme_rights(0);
    let set = |words: &[&str]| assert_eq!(server.cli(&[&["ACL", "SETUSER", "bob"], words].concat()), "OK");
    set(&["on", ">secret"]);
    set(&rights.iter().map(String::as_str).collect::<Vec<_>>());
    let e = patient_with_none(&format!("redis://bob:secret@127.0.0.1:{}", server.port));
    assert_examined(&e, &[None]);
    let needed = rights.iter().filter_map(|right| right.strip_prefix('+'));
    // The first two are for connections, which are there; and a list is no lock.
    for right in needed.filter(|right| !["hello", "select", "scan"].contains(right)) {
        set(&[&format!("-{right}")]);
        let told = e.examine()[0].error.clone().unwrap_or_else(|| panic!("it is not used: {right}"));
        assert!(told.contains("ACL line in cluster_lock's README"), "{right}: {told}");
        set(&[&format!("+{right}")]);
        assert_examined(&e, &[None]);
    }
    until("no key stays", || server.keys().is_empty());
}

#[test]
fn the_server_of_a_quorum_on_which_nobody_can_wait_is_named() {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let e = patient_with_none(&support::quorum_dsn(&servers));
    assert_eq!(servers[0].cli(&["ACL", "SETUSER", "default", "-blpop"]), "OK");
    assert_examined(&e, &[Some("blpop"), None, None]);
    e.try_out().expect("the others are a majority");
    assert_eq!(servers[2].cli(&["ACL", "SETUSER", "default", "-blpop"]), "OK");
    assert_examined(&e, &[Some("blpop"), None, Some("blpop")]);
    let words = [servers[0].tcp_dsn(), servers[2].tcp_dsn()];
    assert_tells(e.try_out().unwrap_err(), "x", &e, &["2 of 3 servers", &words[0], &words[1], "blpop"]);
    assert_eq!(servers[2].cli(&["ACL", "SETUSER", "default", "+blpop", "-eval"]), "OK");
    assert_eq!(servers[0].cli(&["ACL", "SETUSER", "default", "+blpop", "-eval"]), "OK");
    assert_examined(&e, &[Some("eval"), None, Some("eval")]);
    assert_tells(e.try_out().unwrap_err(), "x", &e, &["2 of 3 servers", &words[0], &words[1], "eval"]);
    assert_eq!(servers[0].cli(&["ACL", "SETUSER", "default", "+eval"]), "OK");
    e.try_out().unwrap();
    for server in &servers {
        until("no key stays", || server.keys().is_empty());
    }
}

#[test]
fn who_grants_a_lock_says_so_and_keeps_nothing_of_it() {
    let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&[])).collect();
    let dir = tempfile::tempdir().unwrap();
    let local = patient(&format!("local://{}", dir.path().display()));
    assert_eq!(local.examine(), []);
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    assert!(local.examine()[0].error.as_ref().unwrap().contains("must be a directory"));
    for e in [patient(&servers[0].tcp_dsn()), patient(&support::quorum_dsn(&servers))] {
        e.try_out().unwrap();
        let reports = e.examine();
        assert!(reports.iter().all(|report| report.error.is_none()), "{reports:?}");
        assert_eq!(e.list(b"", 10).unwrap(), []);
    }
    // A server of which nobody waited for the answer may have put a letter into a mailbox after that: it goes by itself.
    until("nothing is left of it", || servers.iter().all(|server| server.keys().is_empty()));
    servers[0].cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let replica = patient(&servers[0].tcp_dsn());
    let error = replica.examine()[0].error.clone().unwrap();
    assert!(error.contains("READONLY") && error.contains("replica"), "{error}");
    let majority = patient(&support::quorum_dsn(&servers));
    assert_eq!(majority.examine().iter().filter(|report| report.error.is_some()).count(), 1);
    majority.try_out().unwrap();
}

#[test]
fn flushall_while_held_is_noticed_and_tokens_still_grow() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.unix_dsn());
    let lease = Want::default().get(&e, "x");
    let fence = lease.fence();
    server.cli(&["FLUSHALL"]);
    assert!(matches!(lease.release(), Ok(Standing::Lost(Loss::Forgotten))));
    let next = Want::default().get(&e, "x");
    assert!(next.fence() > fence);
    server.cli(&["FLUSHALL"]);
    let thief = Want::now().get(&e, "x");
    assert!(thief.fence() > next.fence());
    assert!(matches!(next.release(), Ok(Standing::Lost(Loss::Superseded))));
    assert_eq!(thief.release().unwrap(), Standing::Ours);
    assert_eq!(e.counters().lost.load(Ordering::Relaxed), 2);
    assert_clean(&server, &[&e]);
}

#[test]
fn the_renewal_thread_notices_a_loss() {
    let server = RedisServer::start(&[]);
    let e = patient(&server.unix_dsn());
    let lease = Want::default().ttl(300 * MS).get(&e, "x");
    server.cli(&["FLUSHALL"]);
    until("the loss is known", || lease.loss() == Some(Loss::Forgotten));
    assert!(matches!(lease.verify(), Err(Error::Lost(Loss::Forgotten))));
    drop(lease);
    assert_clean(&server, &[&e]);
}

#[test]
fn flushall_while_they_wait_loses_no_waiter() {
    let server = RedisServer::start(&[]);
    let (a, b) = (patient(&server.unix_dsn()), patient(&server.unix_dsn()));
    let lease = Want::default().get(&a, "x");
    let waiters = [1, 2, 3].map(|count| {
        let b = b.clone();
        let waiter = thread::spawn(move || Want::default().get(&b, "x").release().unwrap());
        until("it waits", || waiting(&a, "x") == count);
        waiter
    });
    server.cli(&["FLUSHALL"]);
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Standing::Ours);
    }
    assert!(matches!(lease.release(), Ok(Standing::Lost(Loss::Superseded))));
    assert_clean(&server, &[&a, &b]);
}

#[test]
fn a_restart_without_data_is_noticed_by_the_holder_and_told_to_waiters() {
    let mut server = RedisServer::start(&[]);
    let (a, b) = (patient_with_none(&server.tcp_dsn()), patient_with_none(&server.tcp_dsn()));
    let lease = Want::default().get(&a, "x");
    let fence = lease.fence();
    let waiter = waits(&b, "x");
    server.stop();
    match waiter.join().unwrap() {
        Err(error @ Error::Connection { .. }) => assert_tells(error, "x", &b, &["Connection refused"]),
        unexpected => panic!("{unexpected:?}"),
    }
    server.restart();
    assert_eq!(lease.release().unwrap(), Standing::Lost(Loss::Forgotten));
    let next = Want::default().get(&a, "x");
    assert!(next.fence() > fence);
    assert_eq!(next.release().unwrap(), Standing::Ours);
    assert_eq!(a.status().open, 1);
    assert_clean(&server, &[&a, &b]);
}

#[test]
fn a_restart_costs_an_idle_process_no_error() {
    let mut server = RedisServer::start(&[]);
    let e = patient(&server.tcp_dsn());
    drop(Want::default().get(&e, "x"));
    for _ in 0..3 {
        server.restart();
        assert_eq!(Want::now().get(&e, "x").release().unwrap(), Standing::Ours);
    }
    assert_eq!(e.counters().errors.load(Ordering::Relaxed), 0);
    assert_clean(&server, &[&e]);
}

// ---- a server that hangs ---------------------------------------------------------------------------------------

#[test]
fn a_frozen_server_fails_the_call_within_its_time_outs() {
    let server = RedisServer::start(&[]);
    let mut config = config(&server.tcp_dsn());
    config.command_timeout = 500 * MS;
    config.connect_timeout = 500 * MS;
    let e = Engine::new(&config).unwrap();
    let lease = Want::default().ttl(3 * S).get(&e, "held");
    let waiter = waits(&e, "held");
    let frozen = server.freeze();
    let error = Want::now().ttl(S).fails(&e, "x");
    assert!(
        error.to_string().contains("no answer") || error.to_string().contains("no connection"),
        "{error}"
    );
    assert_tells(error, "x", &e, &["0.500 s"]);
    assert_tells(waiter.join().unwrap().unwrap_err(), "held", &e, &["0.500 s"]);
    until("the holder knows", || !lease.is_held());
    drop(frozen);
    assert!(matches!(lease.release(), Ok(Standing::Lost(Loss::Expired(_)))));
    // What the server did with the commands when it woke up runs out, or was settled.
    let other = patient(&server.tcp_dsn());
    for lock in ["x", "held"] {
        assert_eq!(Want::default().get(&other, lock).release().unwrap(), Standing::Ours);
    }
    assert_clean(&server, &[&e, &other]);
}
