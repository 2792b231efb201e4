//! Names and reports by others are arbitrary: nothing of them drives a terminal, and all can be named.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use cluster_lock_core::{Acquire, Acquired, Call, Engine, Identity, Lease, LockName, Mode};

use crate::calling::{ask, call, on};
use crate::support::{RedisServer, engine};
use crate::terminal::Terminal;

const NAMES: [&[u8]; 5] = [
    b"esc\x1b[2J\x1b]0;owned\x07",
    b"lines\n[error] forged\r",
    "c1\u{9b}2J bidi\u{202e}".as_bytes(),
    b"not utf-8 \xff\xc3\x28",
    b"quotes \"'\\ and \x00 nul",
];

/// Held by somebody who lies about who it is.
fn hold(engine: &Engine, name: &[u8]) -> Lease {
    let identity = Identity {
        node: "web\x1b[31m1\n".into(),
        pid: 7,
        sapi: "fpm\x1b[8m".into(),
        script: String::new(),
        request_uri: "/a\u{9b}2J\u{202e}b\r\nSet-Cookie".into(),
        run: false,
        call: Call { function: "a\nb\x1b[2J".into(), file: "/srv/\u{202e}\r\n\x1b[2J.php".into(), line: 9 },
    };
    let how = Acquire {
        mode: Mode::Exclusive,
        run: false,
        timeout: None,
        ttl: std::time::Duration::from_secs(60),
        auto_renew: false,
        max_hold: None,
        identity: &identity.encode(),
        interrupted: &|| false,
    };
    match engine.acquire(&LockName::new(name).unwrap(), &how).unwrap() {
        Acquired::Held { lease, .. } => lease,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_tame(text: &str) {
    let wild =
        text.chars().find(|&c| c != '\n' && (c.is_control() || ('\u{200b}'..='\u{202e}').contains(&c)));
    assert_eq!(wild, None, "in {text:?}");
}

#[test]
fn no_name_drives_a_terminal_or_forges_a_line() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let _leases = NAMES.map(|name| hold(&engine, name));
    let listed = ask(&server, ["list", "--color", "never"]).expect(0, &["esc\\u{1b}[2J"]);
    is_tame(&listed.out);
    assert_eq!(listed.out.lines().count(), NAMES.len() + 1, "one line a lock: {}", listed.out);
    for args in [vec!["list", "--json"], vec!["metrics", "--per-lock", "9"], vec!["metrics", "--json"]] {
        let told = ask(&server, args).expect(0, &[]);
        is_tame(&told.out);
    }
}

#[test]
fn a_name_can_be_given_as_it_is_shown() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let leases = NAMES.map(|name| hold(&engine, name));
    let json = ask(&server, ["list", "--json"]).json();
    let shown: Vec<&str> =
        json["locks"].as_array().unwrap().iter().map(|lock| lock["escaped"].as_str().unwrap()).collect();
    assert_eq!(shown.len(), NAMES.len());
    for name in &shown {
        is_tame(&ask(&server, ["info", "--escaped", name]).expect(0, &["held by"]).out);
        let told = ask(&server, ["break", "--yes", "--escaped", name]).expect(0, &["is broken"]);
        is_tame(&(told.out + &told.err));
    }
    assert!(leases.iter().all(|lease| lease.verify().is_err()));
    ask(&server, ["info", "--escaped", "\\q"]).expect(2, &["NAME"]);
}

#[test]
fn names_in_bytes_that_are_no_text_can_be_given_as_they_are() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let _lease = hold(&engine, NAMES[3]);
    let name = OsStr::from_bytes(NAMES[3]);
    let json =
        call(on(&server.unix_dsn()), [OsStr::new("info"), name, OsStr::new("--json")]).expect(0, &[]).json();
    assert_eq!(json["escaped"], "not utf-8 \\xff\\xc3(");
    call(on(&server.unix_dsn()), [OsStr::new("list"), OsStr::from_bytes(b"not utf-8 \xff")]).expect(0, &[]);
}

#[test]
fn a_table_is_no_wider_than_the_terminal() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let long = "漢字-".repeat(60);
    let _leases = [hold(&engine, long.as_bytes()), hold(&engine, NAMES[0])];
    for columns in [60, 80, 132] {
        let mut terminal = Terminal::wide(&on(&server.unix_dsn()), &["list", "--color", "never"], columns);
        assert_eq!(terminal.ends(), 0);
        // Nothing has wrapped: title, two locks, and the mark of the end.
        let text = terminal.text();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        assert_eq!(lines.len(), 4, "{columns} columns: {lines:#?}");
        assert!(lines[2].contains('…'), "{lines:#?}");
    }
    let wide = ask(&server, ["list"]).expect(0, &[]).out;
    assert!(wide.contains(&long), "without a terminal nothing is cut");
}

#[test]
fn colours_are_for_terminals_whose_owner_wants_them() {
    let server = RedisServer::start(&[]);
    let engine = engine(&server.unix_dsn());
    let _lease = hold(&engine, b"x");
    let has_colour = |raw: &[u8]| raw.contains(&0x1b);
    assert!(!has_colour(ask(&server, ["list"]).out.as_bytes()));
    assert!(has_colour(ask(&server, ["list", "--color", "always"]).out.as_bytes()));
    let mut without = on(&server.unix_dsn());
    without.env("NO_COLOR", "1");
    for (program, coloured) in [(on(&server.unix_dsn()), true), (without, false)] {
        let mut terminal = Terminal::start(&program, &["list"]);
        assert_eq!(terminal.ends(), 0);
        assert_eq!(has_colour(&terminal.raw()), coloured);
    }
}
