//! `break`: the next one gets the lock, and nobody is asked without a terminal.

use crate::calling::{Ongoing, ask, holder, on};
use crate::support::{RedisServer, name, signal, until, waiting};
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

#[test]
fn who_came_after_the_question_keeps_the_lock() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let seen = holder(&server, &["x"]);
    let mut terminal = Terminal::start(&on(&server.unix_dsn()), &["break", "x"]);
    terminal.shows(&format!("pid {}", seen.pid()));
    terminal.shows("Break it? [y/N]");
    signal(seen.pid(), "TERM");
    until("it is given back", || observer.info(&name("x")).unwrap().is_none());
    let next = holder(&server, &["x"]);
    terminal.types("y\r");
    assert_eq!(terminal.ends(), 1);
    let fence = observer.info(&name("x")).unwrap().expect("the next one holds it").fence;
    terminal.shows("nothing was broken: another holder has it by now");
    terminal.shows(&format!("pid {}", next.pid()));
    terminal.shows(&format!("fence {fence}"));
}

#[test]
fn a_script_names_whom_it_means() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    let fence = ask(&server, ["info", "x", "--json"]).json()["lock"]["fence"].as_u64().unwrap();
    let other = (fence - 1).to_string();
    let told = ask(&server, ["break", "--yes", "--fence", &other, "x"]);
    told.expect(1, &["nothing was broken: another holder has it by now", &format!("fence {fence}")]);
    let json = ask(&server, ["break", "--yes", "--json", "--fence", &other, "x"]).expect(1, &[]).json();
    assert_eq!((&json["broken"], &json["now"]["fence"]), (&false.into(), &fence.into()));
    ask(&server, ["info", "x"]).expect(0, &[]);
    ask(&server, ["break", "--yes", "--fence", &fence.to_string(), "x"]).expect(0, &["is broken"]);
    ask(&server, ["info", "x"]).expect(1, &[]);
    ask(&server, ["break", "--fence", "0", "x"]).expect(2, &["--fence"]);
}

#[test]
fn a_record_that_cannot_be_read_is_cleared() {
    let server = RedisServer::start(&[]);
    server.cli(&["SET", "cluster_lock:{x}", "garbage"]);
    ask(&server, ["break", "x"]).expect(3, &["lock \"x\"", "something else has written"]);
    let json = ask(&server, ["break", "--yes", "--json", "x"]).expect(0, &[]).json();
    assert_eq!((&json["broken"], &json["before"]), (&true.into(), &serde_json::Value::Null));
    ask(&server, ["info", "x"]).expect(1, &["nobody holds it"]);
}
