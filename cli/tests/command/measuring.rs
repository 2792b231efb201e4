//! `ping`, `status`, `bench`.

use crate::calling::{ask, call, holder, on};
use crate::support::RedisServer;

#[test]
fn ping_tells_times_and_who_answers() {
    let server = RedisServer::start(&[]);
    ask(&server, ["ping", "-c", "20"])
        .expect(0, &["20 round trips", "min", "p50", "p99", "version", "master"]);
    let json = ask(&server, ["ping", "-c", "20", "--json"]).expect(0, &[]).json();
    let trips = &json["round_trips"];
    assert_eq!(trips["count"], 20);
    let time = |name: &str| trips[name].as_f64().unwrap();
    assert!(0.0 < time("min_seconds") && time("min_seconds") <= time("p50_seconds"), "{trips}");
    assert!(
        time("p50_seconds") <= time("p99_seconds") && time("p99_seconds") <= time("max_seconds"),
        "{trips}"
    );
    assert_eq!((&json["backend"], &json["servers"][0]["role"]), (&"redis".into(), &"master".into()));
    assert!(server.keys().is_empty(), "it leaves nothing behind");
}

#[test]
fn status_is_green_on_a_server_that_locks_are_safe_on() {
    let server = RedisServer::start(&[]);
    let _held = holder(&server, &["x"]);
    ask(&server, ["status"]).expect(0, &["1 held, 0 waiting", "no limit", "CLUSTER_LOCK_DSN"]);
    let json = ask(&server, ["status", "--json"]).expect(0, &[]).json();
    assert_eq!((&json["locks"], &json["prefix"]), (&1.into(), &"cluster_lock:".into()));
    assert_eq!(json["servers"][0]["maxmemory_policy"], "noeviction");
}

#[test]
fn status_names_what_locks_must_not_find() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    server.cli(&["SET", "wp:cache", "1"]);
    ask(&server, ["status"]).expect(1, &["allkeys-lru", "noeviction is right", "somebody else", "1 of 1"]);
    server.cli(&["DEL", "wp:cache"]);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    ask(&server, ["status"]).expect(1, &["maxmemory 0", "as soon as it has one"]);
}

#[test]
fn status_of_a_quorum_of_which_one_is_away() {
    let mut servers = [(); 3].map(|()| RedisServer::start(&[]));
    let dsn = crate::support::quorum_dsn(&servers);
    servers[1].stop();
    call(on(&dsn), ["status"]).expect(1, &["0 held", "Connection refused", "master"]);
    let json = call(on(&dsn), ["status", "--json"]).expect(1, &[]).json();
    assert_eq!(json["servers"].as_array().unwrap().len(), 3);
    assert!(json["servers"][1]["error"].is_string(), "{json}");
}

#[test]
fn bench_tells_ratios() {
    let server = RedisServer::start(&[]);
    ask(&server, ["bench", "-c", "50", "-t", "2"])
        .expect(0, &["two round trips", "2 threads on one lock", "one thread alone", "p99"]);
    let json = ask(&server, ["bench", "-c", "60", "-t", "3", "--json"]).expect(0, &[]).json();
    assert_eq!((&json["threads"], &json["round_trip"]["count"]), (&3.into(), &60.into()));
    assert_eq!(json["hand_off"]["count"], 59, "all but the first");
    for name in ["lock_unlock_ratio", "hand_off_ratio", "throughput_ratio"] {
        assert!(json[name].as_f64().unwrap() > 0.0, "{json}");
    }
    ask(&server, ["list"]).expect(1, &[]);
    call(on("local:"), ["bench"]).expect(2, &["local:"]);
}
