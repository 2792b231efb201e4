//! `break`: the next one gets the lock, and nobody is asked without a terminal.

use crate::calling::{Ongoing, ask, holder, on};
use crate::support::{RedisServer, until, waiting};
use crate::terminal::Terminal;

#[test]
fn a_lock_that_is_broken_goes_to_the_next_in_the_queue() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let held = holder(&server, &["--on-loss", "warn", "x"]);
    let next = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "--", "echo", "mine"]);
    until("it waits", || waiting(&observer, "x") == 1);
    let told = ask(&server, ["break", "--yes", "x"]).expect(0, &["lock \"x\" is broken", "1 waits"]);
    assert!(told.out.contains(&format!("pid {}", held.pid())), "says who held it: {told:?}");
    assert_eq!(next.end().expect(0, &[]).out, "mine\n");
    ask(&server, ["break", "--yes", "x"]).expect(1, &["nobody holds it"]);
}

#[test]
fn broken_as_an_object() {
    let server = RedisServer::start(&[]);
    let held = holder(&server, &["x"]);
    let json = ask(&server, ["break", "-y", "x", "--json"]).expect(0, &[]).json();
    assert_eq!(json["broken"], true);
    assert_eq!(json["before"]["holders"][0]["pid"], held.pid());
    let json = ask(&server, ["break", "-y", "x", "--json"]).expect(1, &[]).json();
    assert_eq!((&json["broken"], &json["before"]), (&false.into(), &serde_json::Value::Null));
}

#[test]
fn without_a_terminal_and_without_a_yes_nothing_is_done() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    ask(&server, ["break", "x"]).expect(2, &["lock \"x\"", "--yes"]);
    ask(&server, ["info", "x"]).expect(0, &[]);
}

#[test]
fn on_a_terminal_it_asks_and_takes_yes_alone_for_yes() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    for (answer, code) in [("\r", 1), ("n\r", 1), ("yes\r", 0)] {
        let mut terminal = Terminal::start(&on(&server.unix_dsn()), &["break", "x"]);
        terminal.shows("Break it? [y/N]");
        terminal.shows("Held by");
        terminal.types(answer);
        assert_eq!(terminal.ends(), code, "{answer:?}");
    }
    ask(&server, ["info", "x"]).expect(1, &[]);
}
