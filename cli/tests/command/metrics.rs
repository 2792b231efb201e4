//! `metrics`: what Prometheus reads.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::calling::{Ongoing, ask, call, holder, on};
use crate::support::{RedisServer, free_port, until, waiting};

/// What the reference parser makes of it: `[[family, type, unit, [[sample, labels, value], …]], …]`.
/// It refuses what is not `OpenMetrics`; so does the one of the older text format.
fn parsed(text: &str) -> Vec<Value> {
    let program = r"
import json, sys
from prometheus_client import parser
from prometheus_client.openmetrics.parser import text_string_to_metric_families as families
text = sys.stdin.read()
list(parser.text_string_to_metric_families(text))
print(json.dumps([[f.name, f.type, f.unit, [[s.name, s.labels, s.value] for s in f.samples]] for f in families(text)]))
";
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3-prometheus-client is needed: run script/bootstrap test");
    python.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let out = python.wait_with_output().unwrap();
    assert!(out.status.success(), "it is not OpenMetrics:\n{text}");
    serde_json::from_slice(&out.stdout).unwrap()
}

fn family<'a>(families: &'a [Value], name: &str) -> &'a Value {
    let name = format!("cluster_lock_{name}");
    families
        .iter()
        .find(|family| family[0] == *name)
        .unwrap_or_else(|| panic!("{name} is missing in {families:#?}"))
}

fn value(families: &[Value], name: &str, labels: &Value) -> f64 {
    let samples = family(families, name)[3].as_array().unwrap();
    let sample = samples.iter().find(|sample| sample[1] == *labels);
    sample.unwrap_or_else(|| panic!("{name} {labels} is missing in {samples:#?}"))[2].as_f64().unwrap()
}

#[track_caller]
fn is(families: &[Value], name: &str, labels: &Value, expected: f64) {
    let found = value(families, name, labels);
    assert!((found - expected).abs() < 1e-9, "{name} {labels} is {found}");
}

#[test]
fn locks_waiters_and_servers_in_numbers() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let _held =
        [holder(&server, &["x"]), holder(&server, &["--shared", "r"]), holder(&server, &["--shared", "r"])];
    let _waits = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "true"]);
    until("it waits", || waiting(&observer, "x") == 1);
    server.cli(&["SET", "somebody else's", "1"]);
    let text = ask(&server, ["metrics"]).expect(0, &[]).out;
    assert!(text.ends_with("\n# EOF\n"));
    let families = parsed(&text);
    let none = serde_json::json!({});
    is(&families, "up", &none, 1.0);
    is(&families, "locks_held", &serde_json::json!({"mode": "exclusive"}), 1.0);
    is(&families, "locks_held", &serde_json::json!({"mode": "shared"}), 1.0);
    is(&families, "holders", &none, 3.0);
    is(&families, "waiters", &none, 1.0);
    for name in ["longest_wait_seconds", "longest_hold_seconds", "shortest_lease_left_seconds"] {
        let seconds = value(&families, name, &none);
        assert!(seconds > 0.0 && seconds < 60.0, "{name} {seconds}");
        assert_eq!(family(&families, name)[2], "seconds");
    }
    let at = serde_json::json!({"server": server.unix_dsn()});
    for (name, expected) in [
        ("server_up", 1.0),
        ("server_primary", 1.0),
        ("server_noeviction", 1.0),
        ("server_foreign_keys", 1.0),
    ] {
        is(&families, name, &at, expected);
    }
    assert!(value(&families, "server_round_trip_seconds", &at) > 0.0);
    assert_eq!(family(&families, "server_evicted_keys")[1], "counter");
    assert!(!text.contains("lock=\""), "no series for single locks unless asked for");
}

#[test]
fn series_for_single_locks_are_few_and_their_names_escaped() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let wild = "a\"b\\c\nd\u{1b}é";
    let _held = [holder(&server, &["x"]), holder(&server, &["y"]), holder(&server, &[wild])];
    let _waits = Ongoing::start(on(&server.unix_dsn()), ["run", wild, "true"]);
    until("it waits", || waiting(&observer, wild) == 1);
    let families = parsed(&ask(&server, ["metrics", "--per-lock", "2"]).expect(0, &[]).out);
    let samples = family(&families, "lock_waiters")[3].as_array().unwrap();
    assert_eq!(samples.len(), 2, "bounded: {samples:#?}");
    let labels = serde_json::json!({"lock": "a\\\"b\\\\c\\nd\\u{1b}é", "mode": "exclusive"});
    is(&families, "lock_waiters", &labels, 1.0);
    assert!(value(&families, "lock_longest_wait_seconds", &labels) > 0.0);
    let json = ask(&server, ["metrics", "--per-lock", "2", "--json"]).expect(0, &[]).json();
    assert_eq!((&json["waiters"], json["per_lock"].as_array().unwrap().len()), (&1.into(), 2));
}

#[test]
fn a_server_that_is_away_is_a_number_too() {
    let dsn = format!("redis://127.0.0.1:{}", free_port());
    let told = call(on(&dsn), ["metrics"]).expect(3, &["Connection refused"]);
    let families = parsed(&told.out);
    is(&families, "up", &serde_json::json!({}), 0.0);
    is(&families, "server_up", &serde_json::json!({"server": dsn}), 0.0);
    assert!(!told.out.contains("locks_held"), "unknown is not 0");
    assert_eq!(call(on(&dsn), ["metrics", "--json"]).expect(3, &[]).json()["up"], false);
}

#[test]
fn a_file_for_a_textfile_collector_is_replaced_whole() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("cluster_lock.prom");
    fs::write(&file, "old").unwrap();
    let open = fs::File::open(&file).unwrap();
    let said = ask(&server, ["metrics", "--output", file.to_str().unwrap()]).expect(0, &[]);
    assert_eq!(said.out, "");
    parsed(&fs::read_to_string(&file).unwrap());
    assert_eq!(std::io::read_to_string(open).unwrap(), "old", "another file has taken its place");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    ask(&server, ["metrics", "--output", "/nonexistent/x.prom"]).expect(4, &["/nonexistent"]);
}
