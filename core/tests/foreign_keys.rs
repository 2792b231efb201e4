//! Somebody else writes to the keys of a lock: by mistake, by another program, by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::time::Duration;

use cluster_lock_core::{Broken, Engine, Error};
use support::{RedisServer, Want, engine, name, until};

const KEY: &str = "cluster_lock:{job}";

fn ask(engine: &Engine, want: &Want) -> Result<(), Error> {
    want.with(|how| engine.acquire(&name("job"), how)).map(drop)
}

fn assert_tells_what_to_do(error: &Error) {
    let message = error.to_string();
    for part in ["something else has written", "cluster_lock_break()", "DEL cluster_lock:{job} "] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

/// What may stand there, as commands.
fn foreign_records() -> Vec<Vec<&'static str>> {
    let mut all = vec![
        vec!["RPUSH", KEY, "x"],
        vec!["HSET", KEY, "x", "y"],
        vec!["ZADD", KEY, "1", "x"],
        vec!["SADD", KEY, "x"],
    ];
    let garbage = [
        "1",
        "garbage",
        "Foo",
        "F",
        "FFFFFFFFFFFFFFFFFFFFFFFF",
        "X- holder",
        "S- 1 2 3",
        "{\"json\":true}",
        "X- a 1 1 1 99999999999999999999999999 b c",
        "X- a 99999999999999999999999999 1 1 1 b c",
        "Q- a 1 1 1 1 b c",
    ];
    all.extend(garbage.map(|text| vec!["SET", KEY, text]));
    all
}

#[test]
fn a_record_that_is_no_locks_is_told_and_can_be_broken() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.tcp_dsn());
    for foreign in foreign_records() {
        server.cli(&foreign);
        for want in [Want::default(), Want::now(), Want::default().shared()] {
            assert_tells_what_to_do(&ask(&engine, &want).expect_err(&foreign.join(" ")));
        }
        assert_tells_what_to_do(&engine.info(&name("job")).expect_err(&foreign.join(" ")));
        assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Yes, "{foreign:?}");
        assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Free, "{foreign:?}");
        assert_eq!(engine.info(&name("job")).unwrap(), None);
        ask(&engine, &Want::now()).unwrap();
        ask(&engine, &Want::now().shared()).unwrap();
        server.cli(&["DEL", KEY]);
    }
}

#[test]
fn so_is_a_queue_that_is_none() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.tcp_dsn());
    for suffix in [":q", ":w", ":r", ":i"] {
        let key = format!("{KEY}{suffix}");
        server.cli(&["SET", &key, "garbage"]);
        // Where nobody has to wait, the records of those who do are not looked at.
        let held = (suffix == ":w").then(|| Want::default().unrenewed().get(&engine, "job"));
        match ask(&engine, &Want::default().shared()) {
            Err(error) => {
                assert_tells_what_to_do(&error);
                assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Yes, "{suffix}");
            }
            // The first reader makes its keys anew.
            Ok(()) => assert!(suffix == ":r" || suffix == ":i", "{suffix}"),
        }
        drop(held);
        ask(&engine, &Want::now()).unwrap();
        assert_eq!(server.cli(&["EXISTS", &key]), "0", "{suffix}");
    }
}

#[test]
fn so_are_runs_that_are_none() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.tcp_dsn());
    for (suffix, command) in [(":o", "SET"), (":d", "RPUSH")] {
        let key = format!("{KEY}{suffix}");
        server.cli(&[command, &key, "garbage"]);
        let held = Want::default().unrenewed().get(&engine, "job");
        assert_tells_what_to_do(&ask(&engine, &Want::default().for_run()).expect_err(suffix));
        assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Yes, "{suffix}");
        drop(held);
        ask(&engine, &Want::now().for_run()).unwrap();
        assert_eq!(server.cli(&["EXISTS", &key]), "0", "{suffix}");
    }
}

#[test]
fn waiters_that_are_none_are_passed_over() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.tcp_dsn());
    let held = Want::default().get(&engine, "job");
    server.cli(&["ZADD", &format!("{KEY}:q"), "1", "nobody"]);
    server.cli(&["HSET", &format!("{KEY}:w"), "nobody", "garbage"]);
    ask(&engine, &Want::now()).unwrap();
    held.release().unwrap();
    ask(&engine, &Want::now()).unwrap();
}

#[test]
fn the_holder_is_told_and_whoever_waits_gets_the_lock_when_it_is_broken() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.tcp_dsn());
    let held = Want::default().unrenewed().get(&engine, "job");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| ask(&engine, &Want::default().within(Duration::from_secs(20))));
        until("it waits", || server.cli(&["ZCARD", &format!("{KEY}:q")]) == "1");
        server.cli(&["SET", KEY, "garbage"]);
        assert_eq!(engine.break_lock(&name("job"), None).unwrap(), Broken::Yes);
        waiter.join().unwrap().unwrap();
    });
    server.cli(&["SET", KEY, "garbage"]);
    let error = held.release().unwrap_err();
    assert_tells_what_to_do(&error);
}

#[test]
fn other_locks_are_listed_all_the_same() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.tcp_dsn());
    let _held = Want::default().get(&engine, "other");
    server.cli(&["SET", KEY, "garbage"]);
    server.cli(&["SET", "cluster_lock:{odd}", "X- garbage"]);
    server.cli(&["SET", "cluster_lock:{odd}:q", "garbage"]);
    for flush in [true, false] {
        if flush {
            server.cli(&["SCRIPT", "FLUSH"]);
        }
        let names: Vec<_> = engine.list(b"", 10).unwrap().iter().map(|lock| lock.name.to_string()).collect();
        assert_eq!(names, ["other"]);
    }
}
