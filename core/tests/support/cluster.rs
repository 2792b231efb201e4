//! A Redis Cluster: three primaries, and a replica of each.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{RedisServer, cli, free_port, until_within};

pub struct ClusterSetup {
    pub servers: Vec<RedisServer>,
}

impl ClusterSetup {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(options: &[&str]) -> Self {
        let servers: Vec<_> = (0..6).map(|_| node(options)).collect();
        let mut create = vec!["--cluster".to_owned(), "create".to_owned()];
        create.extend(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"].map(str::to_owned));
        let setup = Self { servers };
        redis_cli(&create);
        setup.await_whole();
        setup
    }

    pub fn dsn(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Waits until all agree on who is who: three primaries, the others in sync.
    pub fn await_whole(&self) {
        until_within(Duration::from_secs(40), "the cluster is whole", || {
            let mut primaries = 0;
            self.servers.iter().all(|server| {
                let (state, replication) =
                    (server.cli(&["CLUSTER", "INFO"]), server.cli(&["INFO", "replication"]));
                let nodes = server.cli(&["CLUSTER", "NODES"]);
                let primary = replication.contains("role:master");
                primaries += u32::from(primary);
                let in_sync = if primary {
                    replication.contains("state=online")
                } else {
                    replication.contains("master_link_status:up")
                };
                state.contains("cluster_state:ok")
                    && nodes.lines().count() == self.servers.len()
                    && !nodes.contains("fail")
                    && nodes.matches("slave").count() == self.servers.len() / 2
                    && in_sync
            }) && primaries == 3
        });
    }

    /// The hash slot of a lock.
    pub fn slot(&self, lock: &str) -> u16 {
        self.servers[0].cli(&["CLUSTER", "KEYSLOT", &key(lock)]).parse().unwrap()
    }

    /// The number of the server that serves a slot, as all of them that answer say.
    pub fn owner(&self, slot: u16) -> usize {
        let mut owner = None;
        until_within(Duration::from_secs(20), "the servers agree on a slot", || {
            let mut said: Vec<_> = self.servers.iter().filter_map(|s| owner_by(s.port, slot)).collect();
            said.dedup();
            owner = match said.as_slice() {
                [port] => self.servers.iter().position(|server| server.port == *port),
                _ => None,
            };
            owner.is_some()
        });
        owner.unwrap()
    }

    /// As one of the servers says; for a cluster whose map does not change.
    pub fn owner_said(&self, slot: u16) -> usize {
        let port = self.servers.iter().find_map(|server| owner_by(server.port, slot)).unwrap();
        self.servers.iter().position(|server| server.port == port).unwrap()
    }

    /// The replica of a primary.
    pub fn replica_of(&self, number: usize) -> usize {
        let info = self.servers[number].cli(&["INFO", "replication"]);
        let port = info.lines().find_map(|line| line.split(",port=").nth(1)?.split(',').next()).unwrap();
        self.servers.iter().position(|server| server.port.to_string() == port).unwrap()
    }

    /// Waits until `witness` says that another server than this one serves the slot: when, and on which
    /// port?
    pub fn await_replaced(&self, slot: u16, from: usize, witness: usize) -> (Instant, u16) {
        let (mut when, mut port) = (Instant::now(), self.servers[from].port);
        until_within(Duration::from_secs(20), "a replica takes over", || {
            when = Instant::now();
            port = owner_by(self.servers[witness].port, slot).unwrap_or(port);
            port != self.servers[from].port
        });
        (when, port)
    }

    pub fn id(&self, number: usize) -> String {
        self.servers[number].cli(&["CLUSTER", "MYID"])
    }

    /// A primary other than this one.
    pub fn another_primary(&self, number: usize) -> usize {
        let is_primary =
            |other: &usize| self.servers[*other].cli(&["INFO", "replication"]).contains("role:master");
        (0..self.servers.len()).filter(|other| *other != number).find(is_primary).unwrap()
    }

    /// Begins to move a slot, as a tool does, without moving any key.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        let set = |at: usize, state, node: usize| {
            assert_eq!(self.servers[at].cli(&["CLUSTER", "SETSLOT", &slot, state, &self.id(node)]), "OK");
        };
        set(to, "IMPORTING", from);
        set(from, "MIGRATING", to);
    }

    /// Moves one key; false if it was not there.
    pub fn move_key(&self, key: &str, from: usize, to: usize) -> bool {
        let port = self.servers[to].port.to_string();
        self.servers[from].cli(&["MIGRATE", "127.0.0.1", &port, key, "0", "1000"]) == "OK"
    }

    /// Moves what is left, and tells all.
    pub fn end_move(&self, slot: u16, from: usize, to: usize) {
        let text = slot.to_string();
        let keys = self.servers[from].cli(&["CLUSTER", "GETKEYSINSLOT", &text, "1000"]);
        for key in keys.lines().filter(|key| !key.is_empty()) {
            assert!(self.move_key(key, from, to), "{key}");
        }
        for at in [to, from] {
            assert_eq!(self.servers[at].cli(&["CLUSTER", "SETSLOT", &text, "NODE", &self.id(to)]), "OK");
        }
    }

    /// `redis-cli --cluster reshard`: moves some slots, whichever it likes.
    pub fn reshard(&self, slots: u16, from: usize, to: usize) {
        let args = [
            "--cluster".to_owned(),
            "reshard".to_owned(),
            format!("127.0.0.1:{}", self.servers[from].port),
            "--cluster-from".to_owned(),
            self.id(from),
            "--cluster-to".to_owned(),
            self.id(to),
            "--cluster-slots".to_owned(),
            slots.to_string(),
            "--cluster-yes".to_owned(),
        ];
        redis_cli(&args);
    }
}

/// The key of a lock's record.
pub fn key(lock: &str) -> String {
    format!("cluster_lock:{{{lock}}}")
}

fn redis_cli(args: &[String]) {
    let out = Command::new("redis-cli").args(args).output().expect("redis-cli");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&out.stderr));
}

fn owner_by(port: u16, slot: u16) -> Option<u16> {
    let nodes = cli(port, &["CLUSTER", "NODES"]);
    nodes.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        let serves = words.iter().skip(8).any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(a), Ok(b)) if (a..=b).contains(&slot))
        });
        let address = words.get(1)?.split('@').next()?;
        if serves { address.rsplit_once(':')?.1.parse().ok() } else { None }
    })
}

fn node(options: &[&str]) -> RedisServer {
    // The servers speak to each other on a port that is greater by 10000.
    let port = std::iter::repeat_with(free_port).find(|port| *port < 55_000).unwrap();
    let fast = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1500"];
    let more = ["--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"];
    RedisServer::start_on(port, &[&fast[..], &more, options].concat())
}
