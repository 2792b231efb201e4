//! `run`: exit codes, signals, and a runner that is killed.

use std::fs;
use std::time::Duration;

use crate::calling::{Ongoing, ask, on};
use crate::support::{RedisServer, Want, assert_clean, engine, signal, until, waiting};
use crate::terminal::Terminal;

/// Ends with 42 on SIGTERM, 43 on SIGINT, 44 on SIGHUP, once it has said `ready`.
const TRAPS: &str = "trap 'exit 42' TERM; trap 'exit 43' INT; trap 'exit 44' HUP; echo ready; \
                     while :; do sleep 0.02; done";

fn alive(pid: u32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn the_exit_code_is_the_commands_own() {
    let server = RedisServer::start(&[]);
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143)] {
        ask(&server, ["run", "x", "--", "sh", "-c", script]).expect(code, &[]);
    }
    ask(&server, ["run", "x", "no-such-command"]).expect(127, &["no-such-command"]);
    ask(&server, ["run", "x", "/etc/passwd"]).expect(126, &["/etc/passwd", "denied"]);
    assert_clean(&server, &[]);
}

#[test]
fn signals_are_passed_on_and_the_lock_is_given_back() {
    let server = RedisServer::start(&[]);
    for (name, code) in [("TERM", 42), ("INT", 43), ("HUP", 44)] {
        let mut run = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "--", "sh", "-c", TRAPS]);
        assert_eq!(run.line(), "ready");
        signal(run.pid(), name);
        assert_eq!(run.end().code, code, "SIG{name}");
        assert_clean(&server, &[]);
    }
}

#[test]
fn a_signal_that_ends_the_command_ends_us_when_the_lock_is_given_back() {
    let server = RedisServer::start(&[]);
    for (name, number) in [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15), ("USR1", 10), ("USR2", 12)] {
        let command = ["run", "--json", "x", "--", "sh", "-c", "echo ready; exec sleep 1000"];
        let mut run = Ongoing::start(on(&server.unix_dsn()), command);
        assert_eq!(run.line(), "ready");
        signal(run.pid(), name);
        run.end().expect(-number, &[&format!("\"exit_code\":{}", 128 + number)]);
        assert_clean(&server, &[]);
    }
    // The command has ended, and the lock is kept: that is over, too.
    let mut run =
        Ongoing::start(on(&server.unix_dsn()), ["run", "--at-least", "1000", "x", "--", "echo", "done"]);
    assert_eq!(run.line(), "done");
    until("it is all that is there", || fs::read_to_string(children(run.pid())).unwrap().is_empty());
    signal(run.pid(), "TERM");
    run.end().expect(-15, &[]);
    assert_clean(&server, &[]);
}

fn children(pid: u32) -> String {
    format!("/proc/{pid}/task/{pid}/children")
}

#[test]
fn a_key_on_the_terminal_ends_a_script_and_not_only_the_command() {
    let server = RedisServer::start(&[]);
    let script = "\"$0\" run x -- sh -c 'echo ready; exec sleep 1000'; echo NEXT";
    let mut shell = std::process::Command::new("bash");
    shell.env("CLUSTER_LOCK_DSN", server.unix_dsn());
    let mut terminal = Terminal::start(&shell, &["-c", script, crate::calling::PROGRAM]);
    terminal.shows("ready");
    terminal.types("\x03");
    assert_eq!(terminal.ends(), -2);
    assert!(!terminal.text().contains("NEXT"), "{}", terminal.text());
    assert_clean(&server, &[]);
}

#[test]
fn a_signal_reaches_the_command_once_whoever_it_was_sent_to() {
    let server = RedisServer::start(&[]);
    // A wait is over at once when a signal comes, so that the next one finds nothing pending.
    let script = "n=0; trap 'n=$((n+1)); echo \"<$n>\"' USR1; trap 'echo \"got $n\"; exit 5' USR2; \
                  (trap '' USR1 USR2; exec sleep 1000) & echo ready; while :; do wait; done";
    let mut terminal = Terminal::start(&on(&server.unix_dsn()), &["run", "x", "--", "sh", "-c", script]);
    terminal.shows("ready");
    let runner = nix::unistd::Pid::from_raw(i32::try_from(terminal.child.id()).unwrap());
    for n in 1..=6 {
        // The group's, and ours alone, in turn.
        let to = if n % 2 == 0 { runner } else { nix::unistd::Pid::from_raw(-runner.as_raw()) };
        nix::sys::signal::kill(to, nix::sys::signal::SIGUSR1).unwrap();
        terminal.shows(&format!("<{n}>"));
    }
    nix::sys::signal::kill(runner, nix::sys::signal::SIGUSR2).unwrap();
    assert_eq!(terminal.ends(), 5);
    assert!(terminal.text().contains("got 6"), "{}", terminal.text());
}

#[test]
fn an_end_of_a_child_that_was_ignored_is_noticed() {
    let server = RedisServer::start(&[]);
    let mut command = std::process::Command::new("/usr/bin/env");
    command.args(["--default-signal", "--ignore-signal=CHLD", crate::calling::PROGRAM]);
    command.env("CLUSTER_LOCK_DSN", server.unix_dsn());
    let mut run =
        Ongoing::start(command, ["run", "--at-least", "1000", "x", "--", "sh", "-c", "sleep 0; echo done"]);
    assert_eq!(run.line(), "done");
    until("the command has ended", || fs::read_to_string(children(run.pid())).unwrap_or_default().is_empty());
    ask(&server, ["info", "x"]).expect(0, &["held by"]);
    signal(run.pid(), "TERM");
    run.end().expect(-15, &[]);
}

#[test]
fn a_name_that_no_environment_can_hold_is_refused_before_the_lock_is_taken() {
    let server = RedisServer::start(&[]);
    let said = ask(&server, ["run", "--escaped", "a\\x00b", "--", "echo", "never"])
        .expect(2, &["\\0", "CLUSTER_LOCK_NAME"]);
    assert_eq!(said.out, "");
    assert_clean(&server, &[]);
    // Elsewhere it is a name like others.
    ask(&server, ["info", "--escaped", "a\\x00b"]).expect(1, &[]);
}

#[test]
fn a_signal_that_was_switched_off_stays_so() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let held = Want::default().get(&observer, "x");
    // As nohup does it.
    let mut shell = std::process::Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" run x -- sh -c 'kill -HUP $$; echo goes on'";
    shell.args(["-c", script, crate::calling::PROGRAM]).env("CLUSTER_LOCK_DSN", server.unix_dsn());
    let run = Ongoing::start(shell, [] as [&str; 0]);
    until("it waits", || waiting(&observer, "x") == 1);
    signal(run.pid(), "HUP");
    drop(held);
    assert_eq!(run.end().expect(0, &[]).out, "goes on\n");
}

#[test]
fn a_signal_ends_the_wait_and_the_place_in_the_queue() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let held = Want::default().get(&observer, "x");
    let run = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "--", "echo", "never"]);
    until("it waits", || waiting(&observer, "x") == 1);
    signal(run.pid(), "TERM");
    let said = run.end().expect(-15, &[]);
    assert_eq!(said.out, "");
    assert_eq!(waiting(&observer, "x"), 0);
    drop(held);
}

#[test]
fn a_key_on_the_terminal_reaches_the_command_once() {
    let server = RedisServer::start(&[]);
    let script = "n=0; trap 'n=$((n+1))' INT; echo ready; while [ $n -eq 0 ]; do sleep 0.02; done; sleep 0.2; \
                  echo \"got $n\"; exit 5";
    let mut terminal = Terminal::start(&on(&server.unix_dsn()), &["run", "x", "--", "sh", "-c", script]);
    terminal.shows("ready");
    terminal.types("\x03");
    assert_eq!(terminal.ends(), 5);
    assert!(terminal.text().contains("got 1"), "{}", terminal.text());
    // The command can read from it.
    let mut terminal = Terminal::start(
        &on(&server.unix_dsn()),
        &["run", "x", "--", "sh", "-c", "read a </dev/tty; echo \"<$a>\""],
    );
    terminal.types("hello\r");
    assert_eq!(terminal.ends(), 0);
    assert!(terminal.text().contains("<hello>"), "{}", terminal.text());
}

#[test]
fn when_the_runner_is_killed_the_command_is_told_and_the_lock_comes_free() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let told = dir.path().join("told");
    let script =
        format!("trap 'echo told > {}; exit' TERM; echo $$; while :; do sleep 0.02; done", told.display());
    let mut run =
        Ongoing::start(on(&server.unix_dsn()), ["run", "--ttl", "1", "x", "--", "sh", "-c", &script]);
    let child: u32 = run.line().parse().unwrap();
    signal(run.pid(), "KILL");
    until("the command was told, and has ended", || told.exists() && !alive(child));
    let next = Want::default().within(Duration::from_secs(10)).get(&engine(&server.unix_dsn()), "x");
    assert!(next.is_held());
    let _ = run.child.wait();
}
