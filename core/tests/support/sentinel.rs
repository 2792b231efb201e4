//! Three sentinels, a primary and replicas.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{PORT, RedisServer, cli, free_port, until, until_within};

/// The name under which the sentinels know the primary.
pub const MASTER: &str = "locks";

/// After so long a primary that does not answer is taken for dead. Much less, and on a loaded machine
/// the sentinels take the living for dead.
const DOWN_AFTER: Duration = Duration::from_secs(1);

struct Sentinel {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct SentinelSetup {
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
    password: Option<String>,
}

impl SentinelSetup {
    pub fn start(replicas: usize) -> Self {
        Self::with(replicas, &[], &[], None)
    }

    /// With options for all servers, more lines for the sentinels' configuration, and a password that
    /// the sentinels themselves ask for.
    pub fn with(replicas: usize, options: &[&str], lines: &[&str], password: Option<&str>) -> Self {
        let fast = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"];
        let options = [&fast[..], options].concat();
        let primary = RedisServer::start(&options);
        let port = primary.port.to_string();
        let mut servers = vec![primary];
        for _ in 0..replicas {
            servers.push(RedisServer::start(&[&options[..], &["--replicaof", "127.0.0.1", &port]].concat()));
        }
        let sentinels = (0..3).map(|_| sentinel(&port, lines)).collect();
        let setup = Self { servers, sentinels, password: password.map(str::to_owned) };
        for sentinel in &setup.sentinels {
            until("the sentinels know each other and the replicas", || {
                let known = setup.ask(sentinel, &["SENTINEL", "MASTER", MASTER]);
                let known: Vec<&str> = known.lines().collect();
                let value = |name| known.iter().position(|l| *l == name).map_or("", |i| known[i + 1]);
                value("num-other-sentinels") == "2" && value("num-slaves") == replicas.to_string()
            });
        }
        setup
    }

    fn ask(&self, sentinel: &Sentinel, args: &[&str]) -> String {
        let socket = sentinel.dir.path().join("sentinel.sock");
        match &self.password {
            Some(password) => cli(&socket, &[&["--no-auth-warning", "-a", password], args].concat()),
            None => cli(&socket, args),
        }
    }

    /// Tells all sentinels something.
    pub fn tell_sentinels(&self, args: &[&str]) {
        for sentinel in &self.sentinels {
            assert_eq!(self.ask(sentinel, args), "OK", "{args:?}");
        }
    }

    pub fn dsn(&self) -> String {
        let sentinels: Vec<_> = self.sentinels.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+sentinel://{}/{MASTER}", sentinels.join(","))
    }

    /// Ends the sentinel with this number.
    pub fn stop_sentinel(&mut self, number: usize) {
        let _ = self.sentinels[number].child.kill();
        let _ = self.sentinels[number].child.wait();
    }

    pub fn sentinel_pid(&self, number: usize) -> u32 {
        self.sentinels[number].child.id()
    }

    /// How many connections have been made to the sentinel with this number; the one that asks counts, too.
    pub fn connections_to(&self, number: usize) -> u64 {
        let info = self.ask(&self.sentinels[number], &["INFO", "stats"]);
        info.lines()
            .find_map(|l| l.strip_prefix("total_connections_received:"))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    /// The port of the primary, as the sentinel with this number says.
    fn named_by(&self, number: usize) -> Option<u16> {
        let answer = self.ask(&self.sentinels[number], &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]);
        answer.lines().nth(1).and_then(|port| port.parse().ok())
    }

    /// The number of the server that all sentinels name.
    pub fn primary(&self) -> usize {
        let mut port = None;
        until("the sentinels agree", || {
            port = self.named_by(0);
            port.is_some() && (1..3).all(|number| self.named_by(number) == port)
        });
        self.servers.iter().position(|server| Some(server.port) == port).unwrap()
    }

    /// Waits until a sentinel names another server than the one with this number: when was that?
    pub fn await_switch(&self, from: usize) -> Instant {
        let port = Some(self.servers[from].port);
        let mut when = Instant::now();
        until("the sentinels switch to another primary", || {
            when = Instant::now();
            (0..3).any(|number| self.named_by(number).is_some_and(|named| Some(named) != port))
        });
        when
    }

    /// Makes a replica the primary although nothing has failed.
    pub fn fail_over(&self) {
        until("a fail-over begins", || {
            self.ask(&self.sentinels[0], &["SENTINEL", "FAILOVER", MASTER]) == "OK"
        });
    }

    /// Waits until every server is back: one primary, and the others its replicas, in sync. Sentinels
    /// take ten seconds to believe that a primary which has come back is to be a replica.
    pub fn await_whole(&self) {
        let primary = self.primary();
        let wanted = format!("connected_slaves:{}", self.servers.len() - 1);
        until_within(Duration::from_secs(120), "every replica is connected", || {
            let info = self.servers[primary].cli(&["INFO", "replication"]);
            info.contains("role:master")
                && info.contains(&wanted)
                && info.matches("state=online").count() == self.servers.len() - 1
        });
    }
}

fn sentinel(primary: &str, lines: &[&str]) -> Sentinel {
    let dir = tempfile::tempdir().unwrap();
    let (port, file) = (free_port(), dir.path().join("sentinel.conf"));
    let down_after = DOWN_AFTER.as_millis();
    let mut text = format!(
        "port {port}\nbind 127.0.0.1\ndir {dir}\nunixsocket {dir}/sentinel.sock\n\
         sentinel monitor {MASTER} 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds {MASTER} {down_after}\n\
         sentinel failover-timeout {MASTER} 2000\n",
        dir = dir.path().display(),
    );
    for line in lines {
        text.push_str(&line.replace(PORT, &port.to_string()));
        text.push('\n');
    }
    std::fs::write(&file, text).unwrap();
    let child = Command::new("redis-server")
        .arg(&file)
        .arg("--sentinel")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is needed: run script/bootstrap test");
    Sentinel { child, port, dir }
}
