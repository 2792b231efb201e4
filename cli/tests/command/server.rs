//! Where the server is, what is said when it is not there, and what is never said.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::calling::{Said, ask, bare, call, holder, on};
use crate::support::{RedisServer, free_port};

/// All commands that ask a server.
const ASKING: [&[&str]; 9] = [
    &["list"],
    &["info", "x"],
    &["break", "--yes", "x"],
    &["watch"],
    &["ping"],
    &["status"],
    &["bench", "--count", "10"],
    &["metrics"],
    &["run", "x", "--", "true"],
];

fn code(args: &[&str]) -> i32 {
    if args[0] == "run" { 69 } else { 3 }
}

#[test]
fn a_server_that_is_not_there_is_named_and_what_to_do() {
    let port = free_port();
    let address = format!("redis://127.0.0.1:{port}");
    for args in ASKING {
        call(on(&address), args)
            .expect(code(args), &[&address, "Connection refused", "CLUSTER_LOCK_DSN", "doctor"]);
    }
    let told = call(on(&address), ["list", "--json"]).expect(3, &["that of --dsn or CLUSTER_LOCK_DSN"]);
    let error = &told.json()["error"];
    assert_eq!(error["code"], 3);
    assert!(error["message"].as_str().unwrap().contains(&address), "{error}");
}

#[test]
fn a_server_that_refuses_is_told_apart_by_its_words() {
    let server = RedisServer::start(&["--requirepass", "hunter2"]);
    for args in ASKING {
        call(on(&server.tcp_dsn()), args).expect(code(args), &["NOAUTH"]);
    }
}

/// Nobody says that all is well, or that nothing is held, where no script can be run.
#[test]
fn a_server_that_runs_no_scripts_is_told_by_all() {
    let server = RedisServer::start(&["--rename-command", "EVALSHA", ""]);
    for args in ASKING {
        call(on(&server.tcp_dsn()), args)
            .expect(code(args), &["unknown command 'EVALSHA'", "rename-command"]);
    }
    let json = ask(&server, ["status", "--json"]).expect(3, &[]).json();
    assert!(json["error"]["message"].as_str().unwrap().contains("EVALSHA"), "{json}");
    let told = ask(&server, ["doctor", "--no-measure", "--php", "/nowhere"])
        .expect(1, &["locks do not work there", "EVALSHA"]);
    assert!(!told.out.contains("was taken there"), "{told:?}");
}

/// A free lock can be had there, and nobody gets one that is taken.
#[test]
fn a_server_on_which_nobody_can_wait_is_told() {
    let server = RedisServer::start(&["--rename-command", "BLPOP", ""]);
    let dsn = server.tcp_dsn();
    ask(&server, ["run", "x", "--", "true"]).expect(0, &[]);
    let told = ["unknown command 'BLPOP'", "rename-command"];
    call(on(&dsn), ["ping", "--count", "1"]).expect(3, &told);
    let status = call(on(&dsn), ["status"]).expect(1, &told);
    assert!(!status.out.contains("round trip"), "{status:?}");
    let json = call(on(&dsn), ["status", "--json"]).expect(1, &[]).json();
    assert!(json["servers"][0]["error"].as_str().unwrap().contains("BLPOP"), "{json}");
    call(on(&dsn), ["metrics"]).expect(3, &["cluster_lock_up 0\n", "\"} 0", "BLPOP"]);
    let doctor = call(on(&dsn), ["doctor", "--no-measure", "--php", "/nowhere"])
        .expect(1, &["locks do not work there", "BLPOP", "rename-command"]);
    assert!(!doctor.out.contains("was taken there"), "{doctor:?}");

    // Of a quorum the server is named, and a majority is enough.
    let servers = [server, RedisServer::start(&[]), RedisServer::start(&[])];
    let quorum = crate::support::quorum_dsn(&servers);
    let named = format!("127.0.0.1:{}: ERR unknown command 'BLPOP'", servers[0].port);
    call(on(&quorum), ["ping", "--count", "1"]).expect(0, &[&named]);
    call(on(&quorum), ["metrics"]).expect(0, &["cluster_lock_up 1\n", &format!("{}\"}} 0", servers[0].port)]);
    call(on(&quorum), ["status"]).expect(1, &[&named]);
}

/// It has the scripts, and would not take them when it has lost them.
#[test]
fn a_server_that_could_not_be_taught_its_scripts_again_is_told() {
    let server = RedisServer::start(&[]);
    ask(&server, ["status"]).expect(0, &[]);
    assert_eq!(server.cli(&["ACL", "SETUSER", "default", "-eval"]), "OK");
    ask(&server, ["run", "x", "--", "true"]).expect(0, &[]);
    let told = ["'eval'", "ACL line"];
    ask(&server, ["ping", "--count", "1"]).expect(3, &told);
    ask(&server, ["status"]).expect(1, &told);
    ask(&server, ["metrics"]).expect(3, &["cluster_lock_up 0\n", "'eval'"]);
    ask(&server, ["doctor", "--no-measure", "--php", "/nowhere"])
        .expect(1, &["locks do not work there", "'eval'", "ACL SETUSER default +eval"]);
}

/// Each server of a cluster keeps some of the locks.
#[test]
fn the_server_of_a_cluster_on_which_nobody_can_wait_is_named() {
    let setup = crate::support::cluster::ClusterSetup::start();
    let dsn = setup.dsn();
    call(on(&dsn), ["ping", "--count", "1"]).expect(0, &[]);
    let at_fault = &setup.servers[setup.owner(setup.slot("x"))];
    assert_eq!(at_fault.cli(&["ACL", "SETUSER", "default", "-blpop"]), "OK");
    let port = at_fault.port.to_string();
    call(on(&dsn), ["ping", "--count", "1"]).expect(3, &[&port, "'blpop'", "ACL line"]);
    call(on(&dsn), ["status"]).expect(1, &[&port, "'blpop'"]);
    call(on(&dsn), ["metrics"]).expect(3, &["cluster_lock_up 0\n", &format!("{port}\"}} 0"), "'blpop'"]);
}

#[test]
fn a_replica_grants_no_locks_whoever_is_asked() {
    let server = RedisServer::start(&[]);
    server.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let dsn = server.tcp_dsn();
    call(on(&dsn), ["status"]).expect(1, &["READONLY"]);
    call(on(&dsn), ["ping", "--count", "1"]).expect(3, &["READONLY"]);
    let metrics = ["cluster_lock_up 0\n", "cluster_lock_server_up{server=\"", "\"} 0", "READONLY"];
    let told = call(on(&dsn), ["metrics"]).expect(3, &metrics);
    assert!(!told.out.contains("locks_held"), "{told:?}");
    let json = call(on(&dsn), ["metrics", "--json"]).expect(3, &["READONLY"]).json();
    assert_eq!(json["up"], false, "{json}");
    call(on(&dsn), ["doctor", "--no-measure", "--php", "/nowhere"])
        .expect(1, &["READONLY", "it is a replica"]);
}

#[test]
fn the_readmes_rights_are_enough() {
    let server = RedisServer::start(&[]);
    let mut command = vec!["ACL".to_owned(), "SETUSER".into(), "cluster_lock".into(), ">hunter2".into()];
    command.extend(crate::support::readme_rights(0));
    assert_eq!(server.cli(&command.iter().map(String::as_str).collect::<Vec<_>>()), "OK");
    let dsn = format!("redis://cluster_lock:hunter2@127.0.0.1:{}", server.port);
    let _held = holder(&server, &["x"]);
    for args in ASKING.iter().filter(|args| args[0] != "break") {
        if args[0] != "run" {
            call(on(&dsn), *args).expect(0, &[]);
        }
    }
    call(on(&dsn), ["break", "--yes", "x"]).expect(0, &[]);
    call(on(&dsn), ["run", "x", "--", "true"]).expect(0, &[]);
    // What INFO would tell is not known, and so not claimed.
    let json = call(on(&dsn), ["status", "--json"]).expect(0, &[]).json();
    assert!(json["servers"][0]["maxmemory_policy"].is_null(), "{json}");
    assert!(!call(on(&dsn), ["metrics"]).out.contains("noeviction{"));
}

#[test]
fn a_password_is_never_said() {
    let server = RedisServer::start(&["--requirepass", "hunter2"]);
    let right = format!("redis://:hunter2@127.0.0.1:{}", server.port);
    let wrong = format!("redis://user:hunter3@127.0.0.1:{}", server.port);
    let silent = |said: Said| {
        let all = format!("{}{}", said.out, said.err);
        assert!(!all.contains("hunter"), "{all}");
    };
    for args in ASKING {
        for dsn in [&right, &wrong] {
            silent(call(on(dsn), args));
            silent(call(on(dsn), args.iter().take(1).chain(&["--json"]).chain(&args[1..])));
        }
    }
    call(on(&right), ["run", "x", "--", "true"]).expect(0, &[]);
    for args in [&["--help"][..], &["list", "--help"], &["doctor"], &["man"], &["list", "--bogus"]] {
        silent(call(on(&right), args));
    }
    for dsn in ["bogus://u:hunter2@h", "redis://u:hunter2@h/x/y/z", "redis://u:hun/ter2@h", "hunter2"] {
        silent(call(on(dsn), ["list"]).expect(2, &["cluster_lock.dsn"]));
        silent(call(bare(), ["--dsn", dsn, "list"]).expect(2, &["cluster_lock.dsn"]));
    }
}

#[test]
fn settings_come_from_php_ini_and_the_last_word_counts() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("php.ini", "[PHP]\ncluster_lock.dsn = \"redis://127.0.0.1:1\"\ncluster_lock.node = web9\n");
    write(
        "conf.d/20.ini",
        "cluster_lock.dsn = \"${TEST_DSN}\" ; from the environment\ncluster_lock.prefix = 'mine:'\n",
    );
    let mut command = bare();
    command.env("TEST_DSN", server.unix_dsn()).arg("--php-ini").arg(dir.path());
    let told =
        call(command, ["run", "x", "--", "redis-cli", "-s", server.socket().to_str().unwrap(), "keys", "*"]);
    assert_eq!(told.expect(0, &[]).out, "mine:{x}\n");

    let mut command = bare();
    command.env("TEST_DSN", server.unix_dsn()).arg("--php-ini").arg(dir.path());
    let json = call(command, ["status", "--json"]).json();
    assert_eq!((&json["prefix"], &json["node"]), (&"mine:".into(), &"web9".into()));
    assert_eq!(json["source"], dir.path().join("conf.d/20.ini").to_str().unwrap());

    // An option wins over the environment, and both over php.ini.
    let mut command = on("redis://127.0.0.1:2");
    command.arg("--php-ini").arg(dir.path()).args([
        "--dsn",
        &server.unix_dsn(),
        "--prefix",
        "other:",
        "--node",
        "n",
    ]);
    let json = call(command, ["status", "--json"]).json();
    assert_eq!(
        (&json["prefix"], &json["node"], &json["server"]),
        (&"other:".into(), &"n".into(), &server.unix_dsn().into())
    );
}

#[test]
fn a_php_ini_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.ini");
    let path = file.to_str().unwrap();
    call(bare(), ["--php-ini", path, "list"]).expect(4, &[path, "No such file"]);
    for (text, code, words) in [
        ("cluster_lock.dsn = redis://h?wait=1", 2, ["cluster_lock.dsn", "double quotes"]),
        ("cluster_lock.dsn = nonsense", 2, ["cluster_lock.dsn", "scheme"]),
        ("cluster_lock.prefix = a{b", 2, ["cluster_lock.prefix", "is allowed"]),
        ("cluster_lock.connect_timeout = soon", 2, ["cluster_lock.connect_timeout", "seconds"]),
    ] {
        fs::write(&file, text).unwrap();
        call(bare(), ["--php-ini", path, "list"]).expect(code, &words).expect(code, &[path]);
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_asked() {
    let nobody = "redis://127.0.0.1:1";
    let long = "x".repeat(1025);
    for args in [
        &["list", "--bogus"][..],
        &["info"],
        &["info", ""],
        &["info", &long],
        &["run", "x"],
        &["run", "x", "--timeout", "-1", "true"],
        &["run", "--ttl", "0.01", "x", "true"],
        &["run", "--no-wait", "--timeout", "1", "x", "true"],
        &["ping", "--count", "0"],
        &["--connect-timeout", "0", "list"],
        &["--prefix", "a*", "list"],
        &["--node", "a\nb", "list"],
        &["nonsense"],
        &[],
    ] {
        let said = call(on(nobody), args);
        assert_eq!(said.code, 2, "{args:?}: {said:?}");
        assert_eq!(said.out, "", "{args:?}");
        assert!(!said.err.is_empty(), "{args:?}");
    }
}

#[test]
fn who_reads_no_further_is_no_failure() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    let mut shell = std::process::Command::new("bash");
    shell.args(["-c", "\"$0\" list | true; echo ${PIPESTATUS[0]}", crate::calling::PROGRAM]);
    shell.env("CLUSTER_LOCK_DSN", server.unix_dsn());
    let said = call(shell, [] as [&str; 0]);
    assert_eq!((said.out.trim(), said.err.as_str()), ("0", ""));
}

#[test]
fn it_finds_the_locks_of_every_kind_of_server() {
    let servers = [(); 3].map(|()| RedisServer::start(&[]));
    let quorum = crate::support::quorum_dsn(&servers);
    let dir = tempfile::tempdir().unwrap();
    let local = format!("local://{}", dir.path().display());
    for dsn in [quorum, local] {
        call(on(&dsn), ["run", "--json", "x", "--", crate::calling::PROGRAM, "info", "x"])
            .expect(0, &["held by", "\"acquired\":true"]);
        let backend = dsn.split(':').next().unwrap().rsplit('+').next().unwrap();
        assert_eq!(call(on(&dsn), ["status", "--json"]).expect(0, &[]).json()["backend"], backend);
    }
    drop(ask(&servers[0], ["list"]));
}

#[test]
fn a_grace_period_is_told_and_ended() {
    let server = RedisServer::start(&[]);
    let dsn = format!("{}?grace=600", server.tcp_dsn());
    // To look whether it grants locks is to ask for one.
    call(on(&dsn), ["status"]).expect(1, &["lets nobody in", "not begun"]);
    call(on(&dsn), ["run", "--wait", "0", "x", "true"]).expect(1, &["grace period"]);
    call(on(&dsn), ["info", "x"]).expect(1, &["nobody holds it", "grace period: runs for"]);
    call(on(&dsn), ["doctor", "--no-measure"]).expect(1, &["→ wait until that is over", "?grace=600\""]);
    let told = call(on(&dsn), ["status", "--json"]).expect(1, &[]).json();
    let facts = &told["servers"][0];
    assert_eq!(facts["grace"], "runs", "{told}");
    assert!(facts["grace_left_seconds"].as_f64().is_some_and(|left| left > 0.0), "{told}");
    let told = call(on(&dsn), ["init", "--json"]).expect(0, &[]).json();
    assert_eq!(told["servers"][0]["error"], serde_json::Value::Null, "{told}");
    call(on(&dsn), ["init"]).expect(0, &["its grace period is over", &server.port.to_string()]);
    call(on(&dsn), ["status"]).expect(0, &["over"]);
    call(on(&dsn), ["run", "--wait", "0", "x", "true"]).expect(0, &[]);
    call(on(&server.tcp_dsn()), ["init"]).expect(2, &["?grace="]);
    let nowhere = format!("redis://127.0.0.1:{}?grace=600", free_port());
    call(on(&nowhere), ["init"]).expect(3, &["Connection refused"]);
}
