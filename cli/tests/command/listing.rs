//! `list`, `info`: who holds and who waits.

use std::time::Duration;

use cluster_lock_core::store::machine::SLACK;
use cluster_lock_core::store::{Claim, IfBusy, Token, open};
use cluster_lock_core::{Acquire, Acquired, Call, Engine, Identity, Mode};

use crate::calling::{Ongoing, ask, holder, on};
use crate::support::{RedisServer, Want, config, engine, name, until, waiting};
use crate::terminal::Terminal;

/// One waits for a lock that `node` holds.
fn queue(server: &RedisServer, observer: &Engine) -> (Ongoing, Ongoing) {
    let held = holder(server, &["--node", "web1", "theme-css"]);
    let waits =
        Ongoing::start(on(&server.unix_dsn()), ["--node", "web2", "run", "--shared", "theme-css", "true"]);
    until("it waits", || waiting(observer, "theme-css") == 1);
    (held, waits)
}

#[test]
fn a_list_names_lock_holder_times_and_waiters() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let (held, _waits) = queue(&server, &observer);
    let _reader = holder(&server, &["--shared", "thumbs"]);
    let listed = ask(&server, ["list"]).expect(0, &[]);
    let lines: Vec<Vec<&str>> = listed.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        ["NAME", "MODE", "NODE", "PID", "SAPI", "WHAT", "CALL", "HELD", "LEASE", "FENCE", "WAITING"]
    );
    assert_eq!(lines.len(), 3, "{}", listed.out);
    assert_eq!(lines[1][..4], ["theme-css", "EX", "web1", &held.pid().to_string()]);
    assert_eq!((lines[1].last(), lines[2][1], lines[2].last()), (Some(&"1"), "SH", Some(&"0")));

    let json = ask(&server, ["list", "--json"]).expect(0, &[]).json();
    assert_eq!((&json["truncated"], json["locks"].as_array().unwrap().len()), (&false.into(), 2));
    let lock = &json["locks"][0];
    assert_eq!((&lock["name"], &lock["mode"]), (&"theme-css".into(), &"exclusive".into()));
    let holder = &lock["holders"][0];
    assert_eq!((&holder["node"], &holder["pid"]), (&"web1".into(), &held.pid().into()));
    assert_eq!((&holder["sapi"], &holder["script"]), (&"cluster-lock run".into(), &"sh".into()));
    assert_eq!(lock["fence"], holder["fence"]);
    assert!(lock["lease_left_seconds"].as_f64().unwrap() > 1.0, "{lock}");
    assert!(lock["held_seconds"].as_f64().unwrap() < 60.0, "{lock}");
    let waiter = &lock["waiters"][0];
    assert_eq!((&waiter["node"], &waiter["mode"]), (&"web2".into(), &"shared".into()));
}

#[test]
fn a_list_can_be_narrowed() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let _queue = queue(&server, &observer);
    let _other = holder(&server, &["other"]);
    let names = |args: &[&str]| -> Vec<String> {
        let json = ask(&server, args.iter().chain(&["--json"])).json();
        let locks = json["locks"].as_array().unwrap();
        locks.iter().map(|lock| lock["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["list"]), ["other", "theme-css"]);
    assert_eq!(names(&["ls", "th"]), ["theme-css"]);
    assert_eq!(names(&["list", "--waiting"]), ["theme-css"]);
    assert_eq!(names(&["list", "--limit", "1"]), ["other"]);
    assert_eq!(names(&["list", "--limit", "1", "--waiting"]), ["theme-css"]);
    assert_eq!(ask(&server, ["list", "--limit", "1", "--json"]).json()["truncated"], true);
    ask(&server, ["list", "--limit", "1"]).expect(0, &["more than 1"]);
    // None at all is not what anybody wants to see; and it would read as if none were held.
    ask(&server, ["list", "--limit", "0"]).expect(2, &["--limit"]);
    assert_eq!(
        ask(&server, ["list", "nothing-like-it", "--json"]).expect(1, &[]).json()["locks"],
        serde_json::json!([])
    );
}

#[test]
fn the_code_that_asks_is_named() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let call = Call { function: "Theme::compile".into(), file: "/srv/theme/compiler.php".into(), line: 142 };
    let identity = Identity { node: "web2".into(), pid: 7, call, ..Identity::default() }.encode();
    let how = Acquire {
        mode: Mode::Exclusive,
        run: false,
        timeout: None,
        ttl: Duration::from_secs(600),
        auto_renew: false,
        max_hold: None,
        identity: &identity,
        interrupted: &|| false,
    };
    let held = engine.acquire(&name("theme-css"), &how).unwrap();
    assert!(matches!(held, Acquired::Held { .. }));
    let words = "Theme::compile() at /srv/theme/compiler.php:142";
    ask(&server, ["list"]).expect(0, &[words]);
    ask(&server, ["info", "theme-css"]).expect(0, &[&format!("held by web2 pid 7 - in {words} for ")]);
    for args in [vec!["list", "--json"], vec!["info", "theme-css", "--json"]] {
        let json = ask(&server, args).expect(0, &[]).json();
        let lock = json["locks"].get(0).unwrap_or(&json["lock"]);
        let holder = &lock["holders"][0];
        assert_eq!((&holder["function"], &holder["line"]), (&"Theme::compile".into(), &142.into()));
        assert_eq!(holder["file"], "/srv/theme/compiler.php");
    }
    let mut wide = Terminal::wide(&on(&server.unix_dsn()), &["watch", "-n", "0.1"], 200);
    wide.shows(words);
    wide.types("q");
    assert_eq!(wide.ends(), 0);
    let mut narrow = Terminal::start(&on(&server.unix_dsn()), &["watch", "-n", "0.1"]);
    narrow.shows("1 held");
    narrow.types("\r");
    narrow.shows(&format!("in {words}"));
    narrow.types("q");
    assert_eq!(narrow.ends(), 0);
    ask(&server, ["break", "theme-css", "--yes"]).expect(0, &[&format!("in {words} for ")]);
    drop(held);
}

#[test]
fn who_is_not_told_of_is_counted() {
    let server = RedisServer::start(&[]);
    let store = open(&config(&server.unix_dsn())).unwrap();
    for _ in 0..1003 {
        let claim = Claim {
            name: &name("read"),
            token: &Token::random(),
            mode: Mode::Shared,
            ttl: Duration::from_secs(600),
            identity: br#"{"n":"web1","p":1}"#,
            place: 0,
            converts: 0,
            slack: SLACK,
            run: false,
            attempt: 0,
        };
        store.attempt(&claim, IfBusy::GiveUp).unwrap();
    }
    let listed = ask(&server, ["list"]).expect(0, &[]);
    let last: Vec<_> = listed.out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["read", "SH", "+903", "more", "0"]);
    assert_eq!(listed.out.lines().count(), 102, "a line for each, the titles and the others");
    let lock = &ask(&server, ["list", "--json"]).expect(0, &[]).json()["locks"][0];
    assert_eq!((lock["holders"].as_array().unwrap().len(), &lock["more_holders"]), (100, &903.into()));
    ask(&server, ["info", "read"]).expect(0, &["and 3 more hold it", "nobody waits"]);
    ask(&server, ["metrics"]).expect(0, &["cluster_lock_holders 1003"]);
    ask(&server, ["break", "read", "--yes"]).expect(0, &["and 993 more; nobody waits"]);
}

#[test]
fn info_tells_holders_and_waiters_in_order() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let (held, waits) = queue(&server, &observer);
    let _second = Ongoing::start(on(&server.unix_dsn()), ["--node", "web3", "run", "theme-css", "true"]);
    until("both wait", || waiting(&observer, "theme-css") == 2);
    let told = ask(&server, ["info", "theme-css"]).expect(0, &["exclusively", "lease left", "fence"]);
    let line = |start: &str| told.out.lines().find(|line| line.trim_start().starts_with(start)).unwrap_or("");
    assert!(line("held by").contains(&format!("web1 pid {}", held.pid())), "{told:?}");
    assert!(line("1. waits").contains(&format!("web2 pid {}", waits.pid())), "{told:?}");
    assert!(line("2. waits").contains("web3"), "{told:?}");
    let json = ask(&server, ["info", "theme-css", "--json"]).expect(0, &[]).json();
    assert_eq!((&json["held"], &json["name"]), (&true.into(), &"theme-css".into()));
    assert_eq!(json["lock"]["waiters"][1]["node"], "web3");
}

#[test]
fn nobody_holds_it_is_no_and_not_a_failure() {
    let server = RedisServer::start(&[]);
    ask(&server, ["info", "nobodys"]).expect(1, &["lock \"nobodys\": nobody holds it", "redis.sock"]);
    let json = ask(&server, ["info", "nobodys", "--json"]).expect(1, &[]).json();
    assert_eq!((&json["held"], &json["lock"]), (&false.into(), &serde_json::Value::Null));
    ask(&server, ["list"]).expect(1, &["no lock is held"]);
    ask(&server, ["list", "--waiting"]).expect(1, &["no lock that anybody waits for is held"]);
}

#[test]
fn times_are_told_by_the_servers_clock() {
    let server = RedisServer::start_with_running_clock();
    server.set_clock_ahead(5000);
    let engine = engine(&server.unix_dsn());
    let _lease = Want::default().get(&engine, "x");
    let json = ask(&server, ["info", "x", "--json"]).expect(0, &[]).json();
    let (held, ago) = (json["lock"]["held_seconds"].as_f64().unwrap(), json["time"].as_f64().unwrap());
    assert!(held < 60.0, "held for {held} s");
    assert!(ago - json["lock"]["since"].as_f64().unwrap() < 60.0);
}
