//! Several servers that speak only TLS, only with clients that show a certificate, and allow what the
//! README says and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use cluster_lock_core::{Broken, Standing};
use support::certificates::Certificates;
use support::cluster::ClusterSetup;
use support::crowd::{self, waiting};
use support::sentinel::SentinelSetup;
use support::{RedisServer, Want, engine, name, readme_rights, until};

fn set_user(rights: &[String]) -> Vec<&str> {
    let mut command = vec!["ACL", "SETUSER", "cluster_lock", ">hunter2"];
    command.extend(rights.iter().map(String::as_str));
    command
}

fn set_user_on(servers: &[RedisServer]) {
    let rights = [readme_rights(0), readme_rights(1)].concat();
    for server in servers {
        assert_eq!(server.cli(&set_user(&rights)), "OK");
    }
}

fn refused(dsn: &str) -> String {
    let engine = engine(dsn);
    Want::now().with(|how| engine.acquire(&name("x"), how)).unwrap_err().to_string()
}

/// All that a lock can do.
fn everything_is_allowed(dsn: &str) {
    let (a, b) = (engine(dsn), engine(dsn));
    let lease = Want::default().ttl(Duration::from_millis(600)).get(&a, "x");
    let waiter = thread::spawn(move || Want::default().get(&b, "x").release().unwrap());
    until("b waits", || waiting(&a, "x") == 1);
    until("it was renewed", || a.counters().renewals.load(Ordering::Relaxed) > 0);
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    assert_eq!(waiter.join().unwrap(), Standing::Ours);
    let readers = (Want::default().shared().get(&a, "y"), Want::default().shared().get(&a, "y"));
    assert_eq!(a.list(b"", 10).unwrap().len(), 1);
    Want::now().refused(&a, "y");
    assert_eq!(a.break_lock(&name("y"), None).unwrap(), Broken::Yes);
    drop(readers);
    assert_eq!(a.counters().errors.load(Ordering::Relaxed), 0);
    assert!(!a.status().dsn.contains("hunter2"));
}

#[test]
fn sentinels_and_what_they_watch() {
    let certificates = Certificates::make();
    let options = certificates.for_servers();
    let options: Vec<&str> = options.iter().flat_map(|(name, value)| [*name, value]).collect();
    let lines: Vec<String> = certificates
        .for_servers()
        .into_iter()
        .map(|(name, value)| format!("{} {value}", &name[2..]))
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let setup = SentinelSetup::with(1, &options, &lines, None);
    set_user_on(&setup.servers);
    setup.tell_sentinels(&set_user(&readme_rights(2)));
    let dsn = setup.dsn().replace("redis+sentinel://", "rediss+sentinel://cluster_lock:hunter2@");
    let tls = certificates.for_clients();
    let dsn = format!("{dsn}?{tls}&wait=1&sentinel_user=cluster_lock&sentinel_password=hunter2");
    everything_is_allowed(&dsn);
    crowd::survives("SENTINEL FAILOVER over TLS", &dsn.replace("&wait=1", ""), "z", || {
        let before = setup.primary();
        setup.fail_over();
        let replaced = setup.await_switch(before);
        (replaced, &setup.servers[setup.primary()])
    });
    // No certificate, no service; and not for those whom the authority does not vouch for.
    let error = refused(&dsn.replace("&cert=", "&cert=/nonexistent"));
    assert!(error.contains("/nonexistent"), "{error}");
    let error = refused(
        &setup
            .dsn()
            .replace("redis+", "rediss+")
            .replace("/locks", &format!("/locks?ca={}", certificates.path("ca.pem"))),
    );
    assert!(error.contains("no sentinel"), "{error}");
}

#[test]
fn a_cluster() {
    let certificates = Certificates::make();
    let options = certificates.for_servers();
    let mut options: Vec<&str> = options.iter().flat_map(|(name, value)| [*name, value]).collect();
    options.extend(["--tls-cluster", "yes"]);
    let (ca, cert, key) =
        (certificates.path("ca.pem"), certificates.path("s.pem"), certificates.path("s.key"));
    let setup = ClusterSetup::with(&options, &["--tls", "--cacert", &ca, "--cert", &cert, "--key", &key]);
    set_user_on(&setup.servers);
    let dsn = setup.dsn().replace("redis+cluster://", "rediss+cluster://cluster_lock:hunter2@");
    let dsn = format!("{dsn}?{}", certificates.for_clients());
    let before = engine(&dsn);
    drop(Want::now().get(&before, "x"));
    everything_is_allowed(&dsn);
    everything_is_allowed(&format!("{dsn}&wait=1"));
    // The addresses that the servers tell are those for TLS.
    let slot = setup.slot("x");
    let from = setup.owner(slot);
    let to = setup.another_primary(from);
    setup.begin_move(slot, from, to);
    setup.servers[from].cli(&["DEL", &support::cluster::key("x")]);
    setup.end_move(slot, from, to);
    drop(Want::now().get(&before, "x"));
    assert!(setup.servers[to].keys().contains(&support::cluster::key("x")));
}
