//! Many programs that wait for one lock while the server that keeps it is lost.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use cluster_lock_core::{Config, Engine, Standing};

use super::{HANG, RedisServer, Want, config, engine, name, until};

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
                    let lease = Want::default().within(10 * HANG).by(&who.to_string()).get(&engine, lock);
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

    /// All have had their turn, with increasing fencing tokens: when the last?
    pub fn served(self, fence: u64) -> Instant {
        let turns: Vec<Turn> =
            (0..WAITERS).map(|_| self.turns.recv_timeout(HANG).expect("a waiter is not served")).collect();
        for thread in self.threads {
            thread.join().unwrap();
        }
        let mut last = fence;
        for turn in &turns {
            assert!(turn.fence > last, "fencing tokens must increase");
            last = turn.fence;
        }
        let who: BTreeSet<usize> = turns.iter().map(|turn| turn.who).collect();
        assert_eq!(who.len(), WAITERS, "each is served once");
        turns.last().unwrap().when
    }
}

/// All stand in the order in which they came. They may be served in another on a busy machine: who is not heard of for
/// 1.8 s is passed over.
pub fn await_queue(engine: &Engine, lock: &str) {
    let places: Vec<String> = (0..WAITERS).map(|who| who.to_string()).collect();
    until("all wait in the order in which they came", || {
        let report = engine.info(&name(lock)).unwrap().unwrap();
        report.waiters.iter().map(|waiter| &waiter.identity.node).eq(&places)
    });
}

pub fn waiting(engine: &Engine, lock: &str) -> usize {
    engine.info(&name(lock)).map_or(0, |r| r.map_or(0, |r| r.waiters.len()))
}

/// How many waiters this server has heard of since then.
pub fn heard_since(server: &RedisServer, lock: &str, when: SystemTime) -> usize {
    let when = when.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
    let records = server.cli(&["HVALS", &format!("cluster_lock:{{{lock}}}:w")]);
    // What they say is until when they live: a second, for some of them a little more, and the slack after that.
    let heard = records.lines().filter_map(|record| record.split(' ').next()?.parse::<u128>().ok());
    heard.filter(|until| *until >= when + 1900).count()
}

/// A lock is held and twenty wait for it; `strike` takes the server away that keeps it, and tells when
/// it has been replaced, and by which. The holder keeps the lock through that and gives it
/// back; the others keep their places, everyone is served, and nobody notices more than a delay.
pub fn survives<'a>(
    what: &str,
    dsn: &str,
    lock: &'static str,
    strike: impl FnOnce() -> (Instant, &'a RedisServer),
) {
    let holder = engine(dsn);
    // A cluster of a busy machine may take some time to elect, and a lease that has run out meanwhile is no fault.
    let lease = Want::default().ttl(4 * HANG).get(&holder, lock);
    let crowd = Crowd::gather(&config(dsn), lock);
    let began = Instant::now();
    let (replaced, server) = strike();
    let since = SystemTime::now();
    until("all have asked the new server", || heard_since(server, lock, since) == WAITERS);
    let settled = Instant::now();
    lease.verify().unwrap();
    await_queue(&holder, lock);
    let (fence, released) = (lease.fence(), Instant::now());
    assert_eq!(lease.release().unwrap(), Standing::Ours);
    let last = crowd.served(fence);
    eprintln!(
        "{what}: replaced after {:.2} s, all wait there {:.2} s later, the {WAITERS} served within {:.2} s",
        (replaced - began).as_secs_f64(),
        settled.saturating_duration_since(replaced).as_secs_f64(),
        (last - released).as_secs_f64()
    );
    // A program that begins only now, which knows nothing.
    let newcomer = engine(dsn);
    assert_eq!(newcomer.info(&name(lock)).unwrap(), None);
    let status = newcomer.status();
    assert!(dsn.contains(&format!("+{}://", status.backend)), "{status:?}");
    assert_eq!(status.server_role.as_deref(), Some("master"));
    assert!(status.server_version.is_some());
}
