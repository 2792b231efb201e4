//! What the README documents is what there is.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::calling::{Ongoing, ask, bare, call, holder, on};
use crate::support::{RedisServer, until, waiting};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

fn keys(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            keys(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The words of the README's section on JSON.
fn documented() -> BTreeSet<String> {
    let readme = readme();
    let section = readme.split("## JSON").nth(1).unwrap().split("\n## ").next().unwrap();
    section.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(str::to_owned).collect()
}

#[test]
fn every_field_of_an_object_is_documented() {
    let server = RedisServer::start(&[]);
    let observer = server.observer();
    let _held = holder(&server, &["x"]);
    let _waits = Ongoing::start(on(&server.unix_dsn()), ["run", "x", "true"]);
    until("it waits", || waiting(&observer, "x") == 1);
    let mut found = BTreeSet::new();
    for args in [
        &["list", "--json"][..],
        &["info", "x", "--json"],
        &["ping", "--json"],
        &["status", "--json"],
        &["bench", "-c", "10", "--json"],
        &["metrics", "--per-lock", "1", "--json"],
        &["break", "--yes", "x", "--json"],
    ] {
        keys(&ask(&server, args).expect(0, &[]).json(), &mut found);
    }
    let mut report = call(on(&server.unix_dsn()), ["doctor", "--json", "/tmp"]).json();
    // There the keys are the settings' and the user's.
    for php in report["php"].as_array_mut().unwrap() {
        php["settings"] = Value::Null;
    }
    report["names"] = Value::Null;
    keys(&report, &mut found);
    let run = ask(&server, ["run", "--json", "y", "true"]).expect(0, &[]).err;
    keys(&serde_json::from_str(&run).unwrap(), &mut found);
    keys(&call(on("redis://127.0.0.1:1"), ["list", "--json"]).json(), &mut found);
    let documented = documented();
    let missing: Vec<_> = found.difference(&documented).collect();
    assert!(missing.is_empty() && found.len() > 40, "not in the README: {missing:?}");
}

#[test]
fn every_series_is_documented() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    let text = ask(&server, ["metrics", "--per-lock", "1"]).expect(0, &[]).out;
    let series = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("cluster_lock_") && word.len() > 13).map(str::to_owned).collect()
    };
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let (there, readme) = (series(&samples.join("\n")), readme());
    let section = readme.split("## Metrics").nth(1).unwrap().split("\n## ").next().unwrap();
    let mut told = series(section);
    assert!(told.remove("cluster_lock_status"), "it tells where PHP's own numbers come from");
    assert_eq!(there, told);
}

#[test]
fn every_command_is_documented() {
    let (help, readme) = (call(bare(), ["--help"]).out, readme());
    let list = help.split("Commands:").nth(1).unwrap().split("\n\n").next().unwrap();
    for line in list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            assert!(
                readme.contains(&format!("`cluster-lock {name}")) || readme.contains(&format!("`{name} ")),
                "{name}"
            );
        }
    }
}
