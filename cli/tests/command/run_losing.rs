//! `run`: the lock is lost while the command runs.

use std::fs;

use crate::calling::{Ongoing, Said, ask, on};
use crate::support::{RedisServer, Want, engine, until};

/// A run whose lease is short, so that a loss is noticed soon; it has begun.
fn begun(server: &RedisServer, options: &[&str], script: &str) -> Ongoing {
    let (start, end) = (["run", "--ttl", "0.6", "--json"], ["x", "--", "sh", "-c", script]);
    let args = start.iter().chain(options).chain(&end);
    let mut run = Ongoing::start(on(&server.unix_dsn()), args);
    assert_eq!(run.line(), "ready");
    run
}

#[track_caller]
fn tells_of_loss(said: &Said, words: &str) {
    assert!(said.err.contains("lock \"x\"") && said.err.contains(words), "{said:?}");
    let json: serde_json::Value = serde_json::from_str(said.err.lines().last().unwrap()).unwrap();
    assert!(json["lost"].as_str().unwrap().contains(words), "{json}");
    assert_eq!(json["exit_code"], said.code);
}

#[test]
fn a_broken_lock_ends_the_command() {
    let server = RedisServer::start(&[]);
    let run =
        begun(&server, &[], "trap 'echo cleaned up; exit 3' TERM; echo ready; while :; do sleep 0.02; done");
    ask(&server, ["break", "--yes", "x"]).expect(0, &[]);
    let said = run.end().expect(75, &["cleaned up", "SIGTERM"]);
    tells_of_loss(&said, "broken by an administrator");
}

#[test]
fn a_command_that_does_not_listen_is_killed() {
    let server = RedisServer::start(&[]);
    let run =
        begun(&server, &["--kill-after", "0.3"], "trap '' TERM; echo ready; while :; do sleep 0.02; done");
    ask(&server, ["break", "--yes", "x"]).expect(0, &[]);
    run.end().expect(75, &["SIGKILL"]);
}

#[test]
fn whoever_wants_it_so_is_only_warned() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("echo ready; while ! test -e {}; do sleep 0.02; done; exit 6", go.display());
    let run = begun(&server, &["--on-loss", "warn"], &script);
    ask(&server, ["break", "--yes", "x"]).expect(0, &[]);
    // Somebody else has it by now.
    let _other = Want::default().get(&engine(&server.unix_dsn()), "x");
    fs::write(&go, "").unwrap();
    let said = run.end().expect(6, &[]);
    tells_of_loss(&said, "broken by an administrator");
}

#[test]
fn a_server_that_is_away_for_longer_than_the_lease() {
    let mut server = RedisServer::start(&[]);
    let run = begun(&server, &[], "echo ready; exec sleep 1000");
    server.stop();
    let said = run.end().expect(75, &[]);
    tells_of_loss(&said, "its lease ran out");
}

#[test]
fn a_server_that_is_away_for_less_is_waited_for() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let go = dir.path().join("go");
    let script = format!("echo ready; while ! test -e {}; do sleep 0.02; done", go.display());
    let args = ["run", "--ttl", "20", "x", "--", "sh", "-c", &script];
    let mut run = Ongoing::start(on(&server.unix_dsn()), args);
    run.line();
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    drop(server.freeze());
    fs::write(&go, "").unwrap();
    run.end().expect(0, &[]);
}

#[test]
fn data_that_is_lost_is_noticed_at_the_end_at_the_latest() {
    let server = RedisServer::start(&[]);
    let script = format!("echo ready; redis-cli -s {} FLUSHALL", server.socket().display());
    let mut run = Ongoing::start(
        on(&server.unix_dsn()),
        ["run", "--ttl", "60", "--json", "x", "--", "sh", "-c", &script],
    );
    assert_eq!(run.line(), "ready");
    let said = run.end().expect(75, &[]);
    tells_of_loss(&said, "no longer knows it");
}

#[test]
fn without_a_terminal_all_that_the_command_has_started_is_ended_too() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    // setsid: no controlling terminal, wherever the tests run.
    let script = format!("sleep 1000 & echo $! > {}; echo ready; wait", pids.display());
    let mut command = std::process::Command::new("setsid");
    command.arg("--wait").arg(crate::calling::PROGRAM).env("CLUSTER_LOCK_DSN", server.unix_dsn());
    let mut run = Ongoing::start(command, ["run", "--ttl", "0.6", "x", "--", "sh", "-c", &script]);
    assert_eq!(run.line(), "ready");
    let grandchild = fs::read_to_string(&pids).unwrap().trim().to_owned();
    ask(&server, ["break", "--yes", "x"]).expect(0, &[]);
    run.end().expect(75, &[]);
    let line = format!("/proc/{grandchild}/cmdline");
    until("its child has ended", || fs::read(&line).map_or(true, |line| line.is_empty()));
}
