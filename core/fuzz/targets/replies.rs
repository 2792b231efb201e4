//! A server whose replies are well formed and mean anything: what is stored under a lock's name may be
//! another's. Reports, grants and mail are made of it, or an error.
#![no_main]

#[path = "../server.rs"]
mod server;

use std::time::Duration;

use arbitrary::Arbitrary;
use cluster_lock_core::store::machine::SLACK;
use cluster_lock_core::store::{Claim, Hold, IfBusy, Token, open};
use cluster_lock_core::{Config, Dsn, LockName, Mode};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Number(i64),
    Bytes(&'a [u8]),
    /// As `common.lua` writes them.
    Record {
        kind: u8,
        numbers: [u64; 4],
        identity: &'a [u8],
    },
    Words(Vec<u64>, &'a str),
    Nil,
    Error(&'a str),
    Moved(u16, &'a str),
    Status(&'a str),
    List(Vec<Part<'a>>),
}

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("${}\r\n", bytes.len()).bytes());
    out.extend(bytes);
    out.extend(b"\r\n");
}

fn line(kind: char, text: &str, out: &mut Vec<u8>) {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    out.extend(format!("{kind}{text}\r\n").bytes());
}

fn write(part: &Part<'_>, depth: u8, out: &mut Vec<u8>) {
    match part {
        Part::Number(n) => out.extend(format!(":{n}\r\n").bytes()),
        Part::Bytes(bytes) => bulk(bytes, out),
        Part::Record { kind, numbers: [fence, since, start, lease], identity } => {
            let kind = ['X', 'S', 'F', '?'][usize::from(kind % 4)];
            let (token, previous) = ("0".repeat(32), "-".repeat(32));
            let head = format!("{kind}- {token} {fence} {since} {start} {lease} {previous} ");
            bulk(&[head.as_bytes(), identity].concat(), out);
        }
        Part::Words(numbers, end) => {
            let words: Vec<String> = numbers.iter().map(u64::to_string).chain([(*end).to_owned()]).collect();
            bulk(words.join(" ").as_bytes(), out);
        }
        Part::Nil => out.extend(b"$-1\r\n"),
        Part::Error(text) => line('-', text, out),
        Part::Moved(slot, to) => line('-', &format!("MOVED {slot} {to}"), out),
        Part::Status(text) => line('+', text, out),
        Part::List(parts) if depth < 6 => {
            out.extend(format!("*{}\r\n", parts.len()).bytes());
            parts.iter().for_each(|part| write(part, depth + 1, out));
        }
        Part::List(_) => out.extend(b"*0\r\n"),
    }
}

fuzz_target!(|input: (u8, Vec<Part<'_>>)| {
    let (what, replies) = input;
    let mut says = b"+OK\r\n".to_vec();
    replies.iter().for_each(|reply| write(reply, 0, &mut says));
    let server = server::address();
    server::will_say(says);
    let mut config = Config::new(Dsn::Redis(server));
    config.connect_timeout = Duration::from_millis(200);
    config.command_timeout = Duration::from_millis(200);
    let store = open(&config).expect("a store needs no server");
    let name = LockName::new(b"lock").expect("a name");
    let token = Token::random();
    let claim = Claim {
        name: &name,
        token: &token,
        mode: Mode::Exclusive,
        run: what >= 128,
        ttl: Duration::from_secs(1),
        identity: b"{}",
        place: 0,
        converts: 0,
        slack: SLACK,
        attempt: 0,
    };
    match what % 10 {
        0 => {
            if let Ok(Some(report)) = store.info(&name) {
                assert!(!report.holders.is_empty());
            }
        }
        1 => drop(store.list(b"", 10)),
        2 => drop(store.attempt(&claim, IfBusy::Queue)),
        3 => drop(store.await_grant(&claim, Duration::from_millis(1), &|| false)),
        4 => drop(store.release(&Hold::of(&name, &token))),
        5 => drop(store.renew(&Hold::of(&name, &token), Duration::from_secs(1))),
        6 => drop(store.break_lock(&name, None)),
        7 => drop(store.break_lock(&name, Some(1))),
        8 => drop(store.complete(&Hold::of(&name, &token), 1)),
        _ => drop(store.examine()),
    }
    let _ = store.status();
});
