//! `watch`, on a terminal of its own.

use std::time::Duration;

use crate::calling::{Ongoing, ask, holder, on};
use crate::support::{RedisServer, Want, engine, name, signal, until, waiting};
use crate::terminal::Terminal;

fn watch(server: &RedisServer) -> Terminal {
    let terminal = Terminal::start(&on(&server.unix_dsn()), &["watch", "-n", "0.1"]);
    terminal.shows("q leave");
    terminal
}

#[test]
fn it_shows_what_comes_and_goes_longest_wait_first_and_gives_the_terminal_back() {
    let server = RedisServer::start(&[]);
    let mut terminal = watch(&server);
    terminal.shows("0 held, 0 waiting");
    let _idle = holder(&server, &["a-idle"]);
    let held = holder(&server, &["z-wanted"]);
    let _waits = Ongoing::start(on(&server.unix_dsn()), ["run", "z-wanted", "true"]);
    terminal.shows("2 held, 1 waiting, the longest for");
    let text = terminal.text();
    let place = |name: &str| text.lines().position(|line| line.contains(name)).unwrap();
    assert!(place("z-wanted") < place("a-idle"), "{text}");
    assert!(text.contains(&held.pid().to_string()), "{text}");
    signal(held.pid(), "TERM");
    terminal.shows("1 held, 0 waiting");
    terminal.types("q");
    assert_eq!(terminal.ends(), 0);
    terminal.is_as_before();
}

#[test]
fn it_breaks_what_is_chosen_when_the_answer_is_yes() {
    let server = RedisServer::start(&[]);
    let _held = [holder(&server, &["first"]), holder(&server, &["second"])];
    let mut terminal = watch(&server);
    terminal.shows("2 held");
    // Down to the end: what was taken last.
    terminal.types("\x1b[B\x1b[B\r");
    terminal.shows("holds");
    terminal.types("b");
    terminal.shows("Break lock \"second\"?");
    terminal.types("n");
    terminal.shows("nothing was done");
    terminal.types("b");
    terminal.shows("Break lock \"second\"?");
    terminal.types("y");
    terminal.shows("lock \"second\": it is broken");
    terminal.shows("1 held");
    ask(&server, ["info", "second"]).expect(1, &[]);
    ask(&server, ["info", "first"]).expect(0, &[]);
    terminal.types("\x03");
    assert_eq!(terminal.ends(), 0);
    terminal.is_as_before();
}

#[test]
fn who_came_after_the_question_keeps_the_lock() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let seen = holder(&server, &["x"]);
    let mut terminal = watch(&server);
    terminal.shows("1 held");
    terminal.types("b");
    terminal.shows("Break lock \"x\"?");
    signal(seen.pid(), "TERM");
    until("it is given back", || observer.info(&name("x")).unwrap().is_none());
    let next = holder(&server, &["x"]);
    // The table has gone on; the question names whom it has named from the beginning.
    terminal.shows(&next.pid().to_string());
    terminal.shows(&seen.pid().to_string());
    terminal.types("y");
    terminal.shows("lock \"x\": nothing was broken: another holder has it by now");
    ask(&server, ["info", "x"]).expect(0, &[&next.pid().to_string()]);
    terminal.types("q");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn signals_end_it_and_give_the_terminal_back() {
    let server = RedisServer::start(&[]);
    for (name, code) in [("TERM", -15), ("HUP", -1), ("INT", -2)] {
        let mut terminal = watch(&server);
        signal(terminal.child.id(), name);
        assert_eq!(terminal.ends(), code);
        terminal.is_as_before();
    }
}

#[test]
fn a_server_that_goes_away_is_told_and_it_goes_on_when_that_is_back() {
    let mut server = RedisServer::start(&[]);
    let mut terminal = watch(&server);
    server.stop();
    terminal.shows("Connection refused");
    server.restart();
    terminal.shows("0 held");
    let _held = holder(&server, &["x"]);
    terminal.shows("1 held");
    server.stop();
    terminal.shows("Connection refused");
    // Keys work all the time.
    terminal.types("q");
    assert_eq!(terminal.ends(), 0);
    terminal.is_as_before();
}

#[test]
fn a_wrong_server_is_told_on_the_screen_that_stays() {
    let mut terminal = Terminal::start(&on("redis://127.0.0.1:1"), &["watch"]);
    assert_eq!(terminal.ends(), 3);
    terminal.shows("redis://127.0.0.1:1: Connection refused");
    terminal.is_as_before();
}

#[test]
fn hostile_names_stay_text() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["wild\u{1b}[2J\u{9b}\n\u{202e}name"]);
    let mut terminal = watch(&server);
    terminal.shows("1 held");
    terminal.types("\r");
    terminal.shows("wild\\u{1b}[2J\\u{9b}\\n\\u{202e}name");
    terminal.shows("holds");
    terminal.types("q");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn without_a_terminal_it_prints_once() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    ask(&server, ["watch"]).expect(0, &["NAME", "x"]);
    assert_eq!(ask(&server, ["watch", "--json"]).expect(0, &[]).json()["locks"][0]["name"], "x");
    let mut terminal = Terminal::start(&on(&server.unix_dsn()), &["watch", "--json"]);
    assert_eq!(terminal.ends(), 0);
    terminal.shows("\"locks\":[{");
}

#[test]
fn colours_are_for_those_who_want_them() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    let _waits = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "true"]);
    until("it waits", || waiting(&server.observer(), "x") == 1);
    for (when, no_colour, has) in
        [("auto", "", true), ("never", "", false), ("auto", "1", false), ("always", "1", true)]
    {
        let mut program = on(&server.unix_dsn());
        program.env("NO_COLOR", no_colour);
        let mut terminal = Terminal::start(&program, &["watch", "--color", when]);
        terminal.shows("1 held, 1 waiting");
        terminal.shows("q leave");
        // Bold and reversed are none.
        terminal.types("b");
        terminal.shows("Break lock \"x\"?");
        assert_eq!(terminal.has_colour(), has, "--color {when}, NO_COLOR={no_colour}");
        terminal.types("nq");
        assert_eq!(terminal.ends(), 0);
        terminal.is_as_before();
    }
}

/// How often the server has run a command since its start.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let line =
        stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls="))).unwrap_or("0");
    line.split(',').next().unwrap().trim().parse().unwrap()
}

#[test]
fn of_thousands_only_what_is_shown_is_read_all_the_time() {
    const MANY: usize = 9_000;
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let want = Want::now().ttl(Duration::from_secs(3600)).unrenewed();
    let _held: Vec<_> = (0..MANY).map(|n| want.get(&engine, &format!("many-{n}"))).collect();
    let mut terminal = watch(&server);
    terminal.shows(&format!("{MANY} held"));
    let (scans, looks) = (calls(&server, "scan"), calls(&server, "evalsha"));
    // A screen has 24 lines: after so many looks it was refreshed more than once.
    until("what is shown is looked at", || calls(&server, "evalsha") > looks + 60);
    assert_eq!(calls(&server, "scan"), scans, "all of them were looked at");
    // On demand they are.
    terminal.types("r");
    until("all are looked at", || calls(&server, "scan") > scans);
    terminal.types("q");
    assert_eq!(terminal.ends(), 0);
}
