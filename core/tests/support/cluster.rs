//! A Redis Cluster: three primaries, and a replica of each.

use std::process::Command;
use std::time::{Duration, Instant};

use super::{RedisServer, free_port, is_free, until, until_within};

pub struct ClusterSetup {
    pub servers: Vec<RedisServer>,
    ids: Vec<String>,
}

impl ClusterSetup {
    pub fn start() -> Self {
        Self::with(&[], &[])
    }

    /// With options for the servers, and for redis-cli.
    pub fn with(options: &[&str], cli_options: &[&str]) -> Self {
        let servers: Vec<_> = (0..6).map(|_| node(options)).collect();
        let hosts: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let mut create = [cli_options, &["--cluster", "create"]].concat();
        create.extend(hosts.iter().map(String::as_str));
        create.extend(["--cluster-replicas", "1", "--cluster-yes"]);
        let ids = servers.iter().map(|server| server.cli(&["CLUSTER", "MYID"])).collect();
        let setup = Self { servers, ids };
        redis_cli(&create).unwrap();
        setup.await_whole();
        setup
    }

    pub fn dsn(&self) -> String {
        let hosts: Vec<_> = self.servers.iter().map(|s| format!("127.0.0.1:{}", s.port)).collect();
        format!("redis+cluster://{}", hosts.join(","))
    }

    /// Waits until all agree on who is who: three primaries, the others in sync.
    pub fn await_whole(&self) {
        until("the cluster is whole", || {
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
        until("the servers agree on a slot", || {
            let mut said: Vec<_> = self.servers.iter().filter_map(|s| self.owner_by(s, slot)).collect();
            said.dedup();
            owner = said.first().copied().filter(|_| said.len() == 1);
            owner.is_some()
        });
        owner.unwrap()
    }

    /// As one of the servers says; for a cluster whose map does not change.
    pub fn owner_said(&self, slot: u16) -> usize {
        self.servers.iter().find_map(|server| self.owner_by(server, slot)).unwrap()
    }

    fn owner_by(&self, server: &RedisServer, slot: u16) -> Option<usize> {
        let nodes = server.cli(&["CLUSTER", "NODES"]);
        let owner = nodes.lines().find(|line| {
            line.split(' ').skip(8).any(|range| {
                let (first, last) = range.split_once('-').unwrap_or((range, range));
                matches!((first.parse(), last.parse()), (Ok(a), Ok(b)) if (a..=b).contains(&slot))
            })
        })?;
        self.ids.iter().position(|id| owner.starts_with(id.as_str()))
    }

    /// The replica of a primary.
    pub fn replica_of(&self, number: usize) -> usize {
        let info = self.servers[number].cli(&["INFO", "replication"]);
        let port = info.lines().find_map(|line| line.split(",port=").nth(1)?.split(',').next()).unwrap();
        self.servers.iter().position(|server| server.port.to_string() == port).unwrap()
    }

    /// Waits until `witness` says that another server than this one serves the slot: when, and which?
    pub fn await_replaced(&self, slot: u16, from: usize, witness: usize) -> (Instant, &RedisServer) {
        let (mut when, mut owner) = (Instant::now(), from);
        until("a replica takes over", || {
            when = Instant::now();
            owner = self.owner_by(&self.servers[witness], slot).unwrap_or(from);
            owner != from
        });
        (when, &self.servers[owner])
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
            assert_eq!(self.servers[at].cli(&["CLUSTER", "SETSLOT", &slot, state, &self.ids[node]]), "OK");
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
            assert_eq!(self.servers[at].cli(&["CLUSTER", "SETSLOT", &text, "NODE", &self.ids[to]]), "OK");
        }
    }

    /// `redis-cli --cluster reshard`: moves slots, which are a server's first ones. When that gives up in
    /// the middle (Valkey waits for the replicas, two seconds and no more) the slot that it leaves on the
    /// way is brought there by hand.
    pub fn reshard(&self, slots: std::ops::Range<u16>, from: usize, to: usize) {
        let server = format!("127.0.0.1:{}", self.servers[from].port);
        until_within(Duration::from_secs(120), "slots are moved", || {
            let left = slots.clone().filter(|slot| self.owner_by(&self.servers[from], *slot) == Some(from));
            let left = left.count().to_string();
            let mut reshard =
                vec!["--cluster", "reshard", &server, "--cluster-yes", "--cluster-slots", &left];
            reshard.extend(["--cluster-from", &self.ids[from], "--cluster-to", &self.ids[to]]);
            let Err(said) = redis_cli(&reshard) else { return true };
            let slot = said.split("Moving slot ").last().and_then(|rest| rest.split(' ').next()).unwrap();
            self.finish_move(slot.parse().unwrap_or_else(|_| panic!("{said}")), from, to);
            false
        });
    }

    /// Brings a slot that may be on the way to where it was to go.
    fn finish_move(&self, slot: u16, from: usize, to: usize) {
        let text = slot.to_string();
        until("a slot arrives", || {
            let set = |at: usize, state, node: usize| {
                self.servers[at].cli(&["CLUSTER", "SETSLOT", &text, state, &self.ids[node]])
            };
            if self.owner_by(&self.servers[to], slot) == Some(from) {
                set(to, "IMPORTING", from);
                if set(from, "MIGRATING", to) != "OK" {
                    return false;
                }
                let keys = self.servers[from].cli(&["CLUSTER", "GETKEYSINSLOT", &text, "1000"]);
                if !keys.lines().filter(|key| !key.is_empty()).all(|key| self.move_key(key, from, to)) {
                    return false;
                }
            }
            [to, from].iter().all(|at| set(*at, "NODE", to) == "OK")
        });
    }
}

/// The key of a lock's record.
pub fn key(lock: &str) -> String {
    format!("cluster_lock:{{{lock}}}")
}

/// What it said, if it fails.
fn redis_cli(args: &[&str]) -> Result<(), String> {
    let out = Command::new("redis-cli").args(args).output().expect("redis-cli");
    let text = String::from_utf8_lossy(&out.stdout);
    if out.status.success() { Ok(()) } else { Err(format!("{args:?}: {text}")) }
}

fn node(options: &[&str]) -> RedisServer {
    // The servers speak to each other on a port that is greater by 10000.
    let port =
        std::iter::repeat_with(free_port).find(|port| *port < 22_000 && is_free(port + 10_000)).unwrap();
    let fast = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
    let more = ["--repl-diskless-sync-delay", "0", "--cluster-allow-replica-migration", "no"];
    RedisServer::start_on(port, &[&fast[..], &more, options].concat())
}
