//! `run`: one at a time.

use std::fs;

use crate::calling::{Ongoing, ask, call, holder, on};
use crate::support::{RedisServer, assert_clean, until, waiting};

#[test]
fn commands_run_one_at_a_time_on_all_nodes() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("count");
    fs::write(&file, "0").unwrap();
    // Loses updates unless nobody else runs between its two halves.
    let script = "n=$(cat \"$1\"); sleep 0.05; echo $((n+1)) > \"$1\"";
    let runs: Vec<_> = (0..6)
        .map(|i| {
            let node = format!("node{i}");
            let args =
                ["--node", &node, "run", "count", "--", "sh", "-c", script, "sh", file.to_str().unwrap()];
            Ongoing::start(on(&server.unix_dsn()), args)
        })
        .collect();
    for run in runs {
        run.end().expect(0, &[]);
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "6\n");
    assert_clean(&server, &[]);
}

#[test]
fn shared_ones_run_together_and_keep_an_exclusive_one_out() {
    let server = RedisServer::start(&[]);
    let _readers = [holder(&server, &["--shared", "x"]), holder(&server, &["-s", "x"])];
    ask(&server, ["run", "--no-wait", "x", "true"]).expect(1, &[]);
    ask(&server, ["run", "--no-wait", "--shared", "x", "true"]).expect(0, &[]);
}

#[test]
fn a_lock_that_is_not_free() {
    let server = RedisServer::start(&[]);
    let held = holder(&server, &["x"]);
    // Cron sends mail for every word.
    let said = ask(&server, ["run", "-n", "x", "--", "echo", "never"]).expect(1, &[]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    ask(&server, ["run", "-n", "-E", "75", "x", "true"]).expect(75, &[]);
    let told = ask(&server, ["run", "--timeout", "0.1", "--conflict-exit-code", "0", "x", "echo", "never"])
        .expect(0, &["lock \"x\": not free within"]);
    assert!(told.err.contains(&format!("pid {}", held.pid())) && told.out.is_empty(), "{told:?}");
    let json: serde_json::Value =
        serde_json::from_str(&ask(&server, ["run", "-n", "--json", "x", "true"]).expect(1, &[]).err).unwrap();
    assert_eq!((&json["acquired"], &json["exit_code"]), (&false.into(), &1.into()));
}

#[test]
fn the_command_finds_the_lock_in_its_environment_and_the_fence_grows() {
    let server = RedisServer::start(&[]);
    let fence = || -> u64 {
        let said =
            ask(&server, ["run", "a b", "--", "sh", "-c", "echo \"$CLUSTER_LOCK_NAME|$CLUSTER_LOCK_FENCE\""]);
        said.out.trim().strip_prefix("a b|").unwrap().parse().unwrap()
    };
    let first = fence();
    assert!(fence() > first);
}

#[test]
fn the_lock_is_renewed_for_as_long_as_the_command_runs() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let mut held = Ongoing::start(
        on(&server.unix_dsn()),
        [
            "run",
            "--ttl",
            "0.5",
            "--json",
            "x",
            "--",
            "sh",
            "-c",
            "echo ready; sleep 1.5; echo $CLUSTER_LOCK_FENCE",
        ],
    );
    held.line();
    let during = observer.info(&crate::support::name("x")).unwrap().unwrap();
    let said = held.end().expect(0, &["\"lost\":null"]);
    assert_eq!(said.out.trim(), during.fence.to_string());
    assert_clean(&server, &[&observer]);
}

#[test]
fn who_waits_is_let_in_in_the_order_of_arrival() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let dir = tempfile::tempdir().unwrap();
    let order = dir.path().join("order");
    let held = holder(&server, &["--on-loss", "warn", "x"]);
    let waiters: Vec<_> = (1..=3)
        .map(|place| {
            let script = format!("echo {place} >> '{}'", order.display());
            let waiter = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "--", "sh", "-c", &script]);
            until("it waits", || waiting(&observer, "x") == place);
            waiter
        })
        .collect();
    ask(&server, ["break", "--yes", "x"]).expect(0, &["3 wait"]);
    for waiter in waiters {
        waiter.end().expect(0, &[]);
    }
    assert_eq!(fs::read_to_string(&order).unwrap(), "1\n2\n3\n");
    drop(held);
}

#[test]
fn one_run_does_for_all_who_came_before_it_began() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let dir = tempfile::tempdir().unwrap();
    let (log, go) = (dir.path().join("log"), dir.path().join("go"));
    let script = format!("echo run >> '{}'", log.display());
    let mut first = Ongoing::start(
        on(&server.unix_dsn()),
        [
            "run",
            "--coalesce",
            "x",
            "--",
            "sh",
            "-c",
            &format!("{script}; echo ready; until [ -e '{}' ]; do sleep 0.05; done", go.display()),
        ],
    );
    first.line();
    let others: Vec<_> = (1..=3)
        .map(|place| {
            let other = Ongoing::start(
                on(&server.unix_dsn()),
                ["run", "--coalesce", "--json", "x", "--", "sh", "-c", &script],
            );
            until("it waits", || waiting(&observer, "x") == place);
            other
        })
        .collect();
    ask(&server, ["list"]).expect(0, &["x     RUN"]);
    ask(&server, ["info", "x"]).expect(0, &["x (held exclusively, for a run)", "(RUN)"]);
    fs::write(&go, "").unwrap();
    first.end().expect(0, &[]);
    let told: Vec<_> = others.into_iter().map(|other| other.end().expect(0, &["\"lost\":null"])).collect();
    let covered = told.iter().filter(|told| told.err.contains("\"covered\":true")).count();
    assert_eq!((covered, fs::read_to_string(&log).unwrap().as_str()), (2, "run\nrun\n"), "{told:?}");
    ask(&server, ["run", "--coalesce", "x", "false"]).expect(1, &[]);
    assert_clean(&server, &[&observer]);
}

#[test]
fn the_command_gets_its_arguments_streams_and_environment_as_they_are() {
    let server = RedisServer::start(&[]);
    let mut command = on(&server.unix_dsn());
    command.env("MINE", "yes");
    let said = call(command, ["run", "x", "printf", "%s|", "-n", "--", "--json", "a b", ""]);
    assert_eq!(said.expect(0, &[]).out, "-n|--|--json|a b||");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "echo in | \"$0\" run x -- cat; echo \"$?\"", crate::calling::PROGRAM]);
    shell.env("CLUSTER_LOCK_DSN", server.unix_dsn());
    assert_eq!(call(shell, [] as [&str; 0]).out, "in\n0\n");
    // The list shows the command's name, and not its arguments, which may be secret.
    let held = holder(&server, &["x"]);
    let told = ask(&server, ["list", "--json"]).expect(0, &["\"script\":\"sh\""]);
    assert!(!told.out.contains("sleep 1000"), "{told:?}");
    drop(held);
}

#[test]
fn a_short_command_keeps_the_lock_for_as_long_as_it_was_told_to() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let args = ["run", "--at-least", "1000", "x", "--", "sh", "-c", "echo $$; exit 3"];
    let mut run = Ongoing::start(on(&server.unix_dsn()), args);
    let command = run.line();
    until("the command has ended", || !std::path::Path::new(&format!("/proc/{command}")).exists());
    ask(&server, ["run", "--no-wait", "x", "--", "echo", "again"]).expect(1, &[]);
    // A signal ends that, and us, so that a script stops.
    crate::support::signal(run.pid(), "TERM");
    run.end().expect(-15, &[]);
    assert_clean(&server, &[&observer]);
    let began = std::time::Instant::now();
    ask(&server, ["run", "--at-least", "0.5", "x", "true"]).expect(0, &[]);
    assert!(began.elapsed() >= std::time::Duration::from_millis(500));
}
