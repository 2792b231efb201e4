//! Many programs that wait for one lock while the server that keeps it is lost.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use cluster_lock_core::{Config, Engine, Standing};

use super::{RedisServer, Want, config, engine, name, until, until_within};

const S: Duration = Duration::from_secs(1);
const WAITERS: usize = 20;

/// One that was let in.
struct Turn {
    who: usize,
    when: Instant,
    fence: u64,
}

/// Programs that wait for `lock`, in this order; each lets it go when it has been let in.
pub struct Crowd {
    threads: Vec<JoinHandle<()>>,
    turns: Receiver<Turn>,
}

impl Crowd {
    pub fn gather(config: &Config, lock: &'static str) -> Self {
        let observer = Engine::new(config).unwrap();
        let (tell, turns) = channel();
        let threads = (0..WAITERS)
            .map(|who| {
                let (engine, tell) = (Engine::new(config).unwrap(), tell.clone());
                let thread = thread::spawn(move || {
                    let lease = Want::default().within(60 * S).get(&engine, lock);
                    let turn = Turn { who, when: Instant::now(), fence: lease.fence() };
                    assert!(lease.is_held());
                    tell.send(turn).unwrap();
                    assert_eq!(lease.release().unwrap(), Standing::Ours);
                    assert_eq!(engine.counters().errors.load(Ordering::Relaxed), 0);
                });
                until("the waiter queues", || waiting(&observer, lock) == who + 1);
                thread
            })
            .collect();
        Self { threads, turns }
    }

    /// All have had their turn, with increasing fencing tokens: in which order, and when the last?
    pub fn served(self, fence: u64) -> (Vec<usize>, Instant) {
        let turns: Vec<Turn> =
            (0..WAITERS).map(|_| self.turns.recv_timeout(30 * S).expect("a waiter is not served")).collect();
        for thread in self.threads {
            thread.join().unwrap();
        }
        let mut last = fence;
        for turn in &turns {
            assert!(turn.fence > last, "fencing tokens must increase");
            last = turn.fence;
        }
        (turns.iter().map(|turn| turn.who).collect(), turns.last().unwrap().when)
    }
}

pub fn waiting(engine: &Engine, lock: &str) -> usize {
    engine.info(&name(lock)).map_or(0, |r| r.map_or(0, |r| r.waiters.len()))
}

/// How many waiters this server has heard of since then.
pub fn heard_since(server: &RedisServer, lock: &str, when: SystemTime) -> usize {
    let when = when.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let records = server.cli(&["HVALS", &format!("cluster_lock:{{{lock}}}:w")]);
    let heard = records.lines().filter_map(|record| record.split(' ').next()?.parse::<u128>().ok());
    heard.filter(|beat| *beat >= when).count()
}

/// A lock is held and twenty wait for it; `strike` takes the server away that keeps it, and tells when
/// it has been replaced, and by which. The holder keeps the lock through that and gives it
/// back; everyone is served, in order, and nobody notices more than a delay.
pub fn survives<'a>(
    what: &str,
    dsn: &str,
    lock: &'static str,
    strike: impl FnOnce() -> (Instant, &'a RedisServer),
) {
    let holder = engine(dsn);
    let lease = Want::default().ttl(15 * S).get(&holder, lock);
    let crowd = Crowd::gather(&config(dsn), lock);
    let began = Instant::now();
    let (replaced, server) = strike();
    let since = SystemTime::now();
    until_within(60 * S, "all have asked the new server", || heard_since(server, lock, since) == WAITERS);
    let settled = Instant::now();
    assert!(lease.is_held(), "its renewals keep it");
    lease.verify().unwrap();
    let (fence, released) = (lease.fence(), Instant::now());
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let (order, last) = crowd.served(fence);
    assert_eq!(order, (0..WAITERS).collect::<Vec<_>>());
    eprintln!(
        "{what}: replaced after {:.2} s, all wait there {:.2} s later, the {WAITERS} served within {:.2} s",
        (replaced - began).as_secs_f64(),
        settled.saturating_duration_since(replaced).as_secs_f64(),
        (last - released).as_secs_f64()
    );
    // Less than two seconds where the machine has time for it; the line above tells.
    assert!(settled <= replaced + 10 * S, "{:?}", settled - replaced);
    // A program that begins only now, which knows nothing.
    let newcomer = engine(dsn);
    assert_eq!(newcomer.info(&name(lock)).unwrap(), None);
    let status = newcomer.status();
    assert!(dsn.contains(&format!("+{}://", status.backend)), "{status:?}");
    assert_eq!(status.server_role.as_deref(), Some("master"));
    assert!(status.server_version.is_some());
}
