//! `doctor` on real servers, good ones and bad ones. Mounts, which only root can make, are the unit tests' and
//! `script/nfs-lab`'s; so is PHP with the extension: here a script says what such a PHP says.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::calling::{Said, bare, call, on};
use crate::support::cluster::ClusterSetup;
use crate::support::sentinel::SentinelSetup;
use crate::support::{RedisServer, free_port, quorum_dsn, readme_rights, until};

/// A PHP that says of itself that it has the extension, with these settings.
struct Php {
    dir: tempfile::TempDir,
}

impl Php {
    fn with(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut text = "phpinfo()\nPHP Version => 8.2.1\nServer API => Command Line Interface\n\
                        Scan this dir for additional .ini files => /etc/php/8.2/cli/conf.d\n\
                        extension_dir => /usr/lib/php/20220829 => /usr/lib/php/20220829\n\
                        cluster_lock support => enabled\ncluster_lock.prefix => cluster_lock: => cluster_lock:\n"
            .to_owned();
        for (name, value) in settings {
            let _ = writeln!(text, "cluster_lock.{name} => {value} => {value}");
        }
        fs::write(dir.path().join("info"), text).unwrap();
        let script = format!("#!/bin/sh\nexec cat {}\n", dir.path().join("info").display());
        fs::write(dir.path().join("php"), script).unwrap();
        fs::set_permissions(dir.path().join("php"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("php")
    }
}

/// Calls it for a server, beside a PHP that uses the same.
fn doctor(dsn: &str, args: &[&str]) -> Said {
    doctor_of(dsn, dsn, args)
}

fn doctor_of(dsn: &str, shown: &str, args: &[&str]) -> Said {
    let php = Php::with(&[("dsn", shown)]);
    let php = php.path().display().to_string();
    call(on(dsn), ["doctor", "--php", &php].iter().chain(args))
}

/// What is not well.
fn bad(report: &Value) -> Vec<(String, String)> {
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap();
    let bad =
        findings.iter().filter(|finding| ["warning", "problem"].iter().any(|s| finding["severity"] == *s));
    bad.map(|finding| (text(finding, "id"), text(finding, "severity"))).collect()
}

/// Exactly this is not well, and the exit status says the same.
#[track_caller]
fn finds(said: &Said, expected: &[(&str, &str)]) -> Value {
    let report = said.json();
    let found = bad(&report);
    let found: Vec<_> = found.iter().map(|(id, severity)| (id.as_str(), severity.as_str())).collect();
    assert_eq!(found, expected, "{said:?}");
    assert_eq!(said.code, i32::from(!expected.is_empty()), "{said:?}");
    assert_eq!(report["green"], expected.is_empty());
    report
}

#[test]
fn all_is_well() {
    let server = RedisServer::start(&[]);
    let report = finds(&doctor(&server.tcp_dsn(), &["--json", "/tmp"]), &[]);
    assert_eq!(report["ini"], "");
    assert_eq!(report["servers"][0]["maxmemory_policy"], "noeviction");
    assert_eq!(report["names"]["/tmp"], "file:/tmp");
    doctor(&server.tcp_dsn(), &["/tmp"]).expect(0, &["Nothing to mend.", "local file system", "file:/tmp"]);
    assert_eq!(doctor(&server.tcp_dsn(), &["--ini", "/tmp"]).expect(0, &[]).out, "");
    assert_eq!(server.keys(), [""; 0], "what was tried has left a key");
}

#[test]
fn a_server_that_throws_keys_away() {
    let server = RedisServer::start(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let said = doctor(&server.tcp_dsn(), &["--json", "/tmp"]);
    finds(&said, &[("server.eviction", "problem")]);
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    finds(&doctor(&server.tcp_dsn(), &["--json", "/tmp"]), &[("server.eviction", "warning")]);
    doctor(&server.tcp_dsn(), &["/tmp"])
        .expect(1, &["allkeys-lru", "CONFIG SET maxmemory-policy noeviction", "1 warning"]);
}

#[test]
fn a_server_whose_memory_is_full() {
    let server = RedisServer::start(&[]);
    let used = server.cli(&["INFO", "memory"]);
    let used: u64 =
        used.lines().find_map(|l| l.strip_prefix("used_memory:")).unwrap().trim().parse().unwrap();
    server.cli(&["CONFIG", "SET", "maxmemory", &(used + used / 50).to_string()]);
    let expected = [("server.grants", "problem"), ("server.memory", "warning")];
    finds(&doctor(&server.tcp_dsn(), &["--json", "/tmp"]), &expected);
}

#[test]
fn a_database_that_others_use() {
    let server = RedisServer::start(&[]);
    server.cli(&["SET", "wp:options", "x"]);
    finds(&doctor(&server.tcp_dsn(), &["--json", "/tmp"]), &[("server.shared", "warning")]);
    finds(&doctor(&format!("{}/1", server.tcp_dsn()), &["--json", "/tmp"]), &[]);
}

#[test]
fn a_user_that_may_not_do_all() {
    let server = RedisServer::start(&[]);
    let set = |rights: &[&str]| {
        let command = ["ACL", "SETUSER", "locks"].iter().chain(rights).copied().collect::<Vec<_>>();
        assert_eq!(server.cli(&command), "OK");
    };
    let rights = readme_rights(0);
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let dsn = server.tcp_dsn().replace("redis://", "redis://locks:hunter2@");
    let shown = dsn.replace("hunter2", "***");
    let look = || doctor_of(&dsn, &shown, &["--json", "/tmp"]);
    set(&[&["on", ">hunter2"], &rights[..]].concat());
    finds(&look(), &[]);

    for (lacks, told) in [
        (vec!["-zadd", "-hget"], "ACL SETUSER locks +zadd +hget"),
        (vec!["-set", "-rpush"], "ACL SETUSER locks +set"),
        (vec!["-rpush", "-del"], "ACL SETUSER locks +rpush +del"),
        (vec!["-eval", "-evalsha"], "ACL SETUSER locks +evalsha +eval"),
        (vec!["resetkeys"], "ACL SETUSER locks ~cluster_lock:*"),
    ] {
        set(&lacks);
        let said = look();
        let report = finds(&said, &[("server.grants", "problem"), ("server.rights", "problem")]);
        let findings = report["findings"].as_array().unwrap();
        let finding = findings.iter().find(|finding| finding["id"] == "server.rights").unwrap();
        let advice = finding["advice"].as_str().unwrap();
        assert!(advice.starts_with(told), "{advice}");
        assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
        set(&rights);
    }
    finds(&look(), &[]);
    // What it tried where it may not delete goes by itself.
    until("no key stays", || server.keys().is_empty());
}

#[test]
fn a_replica() {
    let primary = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    until("it follows", || replica.cli(&["INFO", "replication"]).contains("master_link_status:up"));
    let said = doctor(&replica.tcp_dsn(), &["--json", "--no-measure", "/tmp"]);
    finds(&said, &[("server.grants", "problem"), ("server.role", "problem")]);
}

#[test]
fn no_server() {
    let dsn = format!("redis://127.0.0.1:{}", free_port());
    let report = finds(&doctor(&dsn, &["--json", "/tmp"]), &[("server.reachable", "problem")]);
    assert_eq!(report["servers"][0]["round_trip_seconds"], Value::Null);
    doctor(&dsn, &["/tmp"]).expect(1, &["refused", "1 problem"]);
}

#[test]
fn a_quorum_without_one_and_without_two() {
    let mut servers = [RedisServer::start(&[]), RedisServer::start(&[]), RedisServer::start(&[])];
    let dsn = quorum_dsn(&servers);
    finds(&doctor(&dsn, &["--json", "/tmp"]), &[]);
    servers[0].stop();
    finds(&doctor(&dsn, &["--json", "/tmp"]), &[("server.reachable", "warning")]);
    servers[1].stop();
    let (down, none) = (("server.reachable", "warning"), ("server.majority", "problem"));
    finds(&doctor(&dsn, &["--json", "/tmp"]), &[down, down, none]);
}

#[test]
fn sentinels_and_clusters_name_their_servers() {
    let sentinels = SentinelSetup::start(1);
    let report = finds(&doctor(&sentinels.dsn(), &["--json", "/tmp"]), &[]);
    assert_eq!(report["servers"].as_array().unwrap().len(), 1);
    let cluster = ClusterSetup::start();
    let report = finds(&doctor(&cluster.dsn(), &["--json", "/tmp"]), &[]);
    let primaries = report["servers"].as_array().unwrap().len();
    assert!(primaries >= 3, "{report}");
    // All of them were asked what the user may do.
    let findings = report["findings"].as_array().unwrap();
    let asked = findings.iter().filter(|f| f["id"] == "server.rights" && f["severity"] == "ok");
    assert_eq!(asked.count(), primaries);
}

#[test]
fn settings_that_cannot_be_used() {
    let php = Php::with(&[]);
    let php = php.path().display().to_string();
    let said = call(on("redis://:hunter2"), ["doctor", "--json", "--php", &php, "/tmp"]);
    finds(&said, &[("server.settings", "problem")]);
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
}

#[test]
fn php_that_lacks_something() {
    let server = RedisServer::start(&[]);
    // The one that runs these tests' sisters has no extension of ours in its own configuration.
    let php = Path::new("/usr/bin/php");
    if php.exists() {
        let said = call(on(&server.tcp_dsn()), ["doctor", "--json", "--php", "/usr/bin/php", "/tmp"]);
        let report = said.json();
        assert_eq!(report["php"][0]["sapi"], "Command Line Interface", "{said:?}");
    }
    let said = call(on(&server.tcp_dsn()), ["doctor", "--json", "--php", "/bin/true", "/tmp"]);
    finds(&said, &[("php.unasked", "warning")]);
    let php = Php::with(&[("dsn", "redis://elsewhere:6379"), ("ttl", "2"), ("slow_wait", "60")]);
    let php = php.path().display().to_string();
    let said = call(on(&server.tcp_dsn()), ["doctor", "--json", "--php", &php, "/tmp"]);
    let wrong = [("php.dsn", "warning"), ("limits.ttl", "warning"), ("limits.slow_wait", "warning")];
    finds(&said, &wrong);
}

#[test]
fn the_lines_for_php_ini_make_it_well() {
    let server = RedisServer::start(&[]);
    let dsn = server.tcp_dsn();
    let php = Php::with(&[("dsn", "redis://elsewhere:6379"), ("ttl", "2"), ("max_hold", "1")]);
    let php = php.path().display().to_string();
    let ini = call(on(&dsn), ["doctor", "--ini", "--php", &php, "/tmp"]).expect(1, &[]).out;
    let set: Vec<(String, String)> = ini
        .lines()
        .filter(|line| !line.starts_with(';'))
        .map(|line| line.split_once(" = ").unwrap())
        .map(|(name, value)| (name.replace("cluster_lock.", ""), value.trim_matches('"').to_owned()))
        .collect();
    let set: Vec<(&str, &str)> = set.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(set[0], ("dsn", dsn.as_str()));
    let cured = Php::with(&set);
    let cured = cured.path().display().to_string();
    finds(&call(on(&dsn), ["doctor", "--json", "--php", &cured, "/tmp"]), &[]);
    // A password is left to whoever knows it.
    let secret = dsn.replace("redis://", "redis://:hunter2@");
    let said = call(on(&secret), ["doctor", "--ini", "--php", &php, "/tmp"]);
    assert!(said.out.contains("cluster_lock.dsn = \"${CLUSTER_LOCK_DSN}\""), "{said:?}");
    assert!(!said.out.contains("hunter2") && !said.err.contains("hunter2"), "{said:?}");
}

#[test]
fn two_nodes_beside_each_other() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("other.json");
    let report = doctor(&server.tcp_dsn(), &["--json", "/tmp"]);
    fs::write(&file, &report.out).unwrap();
    let name = file.display().to_string();
    finds(&doctor(&server.tcp_dsn(), &["--json", "/tmp", "--compare", &name]), &[]);
    let other = report.out.replace("redis://127.0.0.1", "redis://127.0.0.2");
    fs::write(&file, other).unwrap();
    let said = doctor(&server.tcp_dsn(), &["--json", "/tmp", "--compare", &name]);
    finds(&said, &[("nodes.setting", "problem")]);
    fs::write(&file, "{}").unwrap();
    doctor(&server.tcp_dsn(), &["--compare", &name])
        .expect(2, &["is not what cluster-lock doctor --json prints"]);
    doctor(&server.tcp_dsn(), &["/no/such/path"]).expect(4, &["/no/such/path"]);
}

#[test]
fn php_ini_is_read_where_there_is_no_php() {
    let server = RedisServer::start(&[]);
    let dir = tempfile::tempdir().unwrap();
    let ini = dir.path().join("php.ini");
    fs::write(&ini, format!("cluster_lock.dsn = {}\ncluster_lock.ttl = 2\n", server.tcp_dsn())).unwrap();
    let mut command = bare();
    // Nothing is found in there; /usr/sbin is looked into all the same, for php-fpm.
    command.env("PATH", dir.path());
    let ini = ini.display().to_string();
    let report = call(command, ["doctor", "--json", "--php-ini", &ini, "/tmp"]).json();
    let fpm = report["php"].as_array().unwrap();
    if fpm.is_empty() {
        assert_eq!(bad(&report), [("limits.ttl".to_owned(), "warning".to_owned())]);
    }
}
