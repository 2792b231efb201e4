//! A connection that breaks after every number of bytes, of every exchange, in both directions and ways.
//!
//! Whatever the offset: the caller gets what it asked for, once, and the server is clean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Acquired, Engine, Error, Standing};
use fault_proxy::{Break, Direction, Ending, Fault, Proxy};
use support::{HANG, RedisServer, Want, assert_clean, assert_tells, name, patient, patient_config};

const S: Duration = Duration::from_secs(1);

struct Sweep {
    server: RedisServer,
    proxy: Proxy,
    near: Engine,
    far: Engine,
}

impl Sweep {
    fn new() -> Self {
        let server = RedisServer::start(&[]);
        let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
        let far = patient(&format!("redis://{}", proxy.address()));
        let near = patient(&server.unix_dsn());
        Self { server, proxy, near, far }
    }

    /// Runs `exchange` unharmed, to learn how long it is; then, for every number of bytes up to that and each
    /// direction and ending, with a break after so many bytes.
    fn run(self, mut exchange: impl FnMut(&Self)) {
        exchange(&self); // connects, and loads the scripts
        for direction in [Direction::Up, Direction::Down] {
            let before = self.proxy.carried(direction);
            exchange(&self);
            let length = self.proxy.carried(direction) - before;
            for after in 0..=length {
                for ending in [Ending::Close, Ending::Reset] {
                    let (fired, before) = (self.proxy.fired(), self.proxy.carried(direction));
                    self.proxy.prepare(Break { direction, after, ending, then: Fault::Pass });
                    exchange(&self);
                    if after == length {
                        // A break after the very last byte is noticed by the next exchange.
                        self.proxy.set(Fault::Pass);
                        exchange(&self);
                    }
                    let reached = after == length || self.proxy.await_fired(fired + 1, S);
                    // It says how far the server is, and so is some bytes shorter when the machine is less busy.
                    let carried = self.proxy.carried(direction) - before;
                    assert!(
                        reached || carried <= after,
                        "no break after {after} of {carried} bytes {direction:?}"
                    );
                }
            }
            eprintln!("{direction:?}: cut after 0 to {length} bytes");
        }
        assert_clean(&self.server, &[&self.near, &self.far]);
    }
}

#[test]
fn acquire_renew_release() {
    let mut last = 0;
    Sweep::new().run(|sweep| {
        let lease = Want::default().unrenewed().get(&sweep.far, "x");
        let known = sweep.near.info(&name("x")).unwrap().unwrap();
        assert_eq!((known.fence, known.holders.len()), (lease.fence(), 1));
        assert!(lease.fence() > last);
        last = lease.fence();
        lease.verify().unwrap();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert_eq!(sweep.near.info(&name("x")).unwrap(), None);
    });
}

#[test]
fn a_shared_lock_and_its_conversion() {
    Sweep::new().run(|sweep| {
        let other = Want::now().shared().get(&sweep.near, "x");
        let lease = Want::default().unrenewed().shared().get(&sweep.far, "x");
        assert_eq!(sweep.near.info(&name("x")).unwrap().unwrap().holders.len(), 2);
        assert_eq!(other.release().unwrap(), Standing::Ours);
        let lease = match Want::default().unrenewed().with(|how| lease.convert(how)).unwrap() {
            Acquired::Held { lease, .. } => lease,
            other => panic!("{other:?}"),
        };
        Want::now().shared().refused(&sweep.near, "x");
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        assert_eq!(sweep.near.info(&name("x")).unwrap(), None);
    });
}

/// The waiter's side: its place in the queue, its sleep, the grant, its release.
#[test]
fn a_hand_off_to_a_waiter() {
    Sweep::new().run(|sweep| {
        let lease = Want::now().unrenewed().get(&sweep.near, "x");
        let far = sweep.far.clone();
        let waiter = thread::spawn(move || {
            let next = Want::default().unrenewed().get(&far, "x");
            (next.fence(), next.release().unwrap())
        });
        let began = Instant::now();
        while sweep.near.info(&name("x")).unwrap().unwrap().waiters.is_empty() {
            assert!(began.elapsed() < HANG, "it does not come to wait");
        }
        let fence = lease.fence();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        let (next, standing) = waiter.join().unwrap();
        assert!(next > fence);
        assert_eq!(standing, Standing::Ours);
        assert_eq!(sweep.near.info(&name("x")).unwrap(), None);
    });
}

/// The holder's side: its release while somebody waits, who may be in and out again before it is repeated.
#[test]
fn a_hand_off_by_a_holder() {
    Sweep::new().run(|sweep| {
        let lease = Want::default().unrenewed().get(&sweep.far, "x");
        let near = sweep.near.clone();
        let waiter = thread::spawn(move || {
            let next = Want::default().unrenewed().get(&near, "x");
            (next.fence(), next.release().unwrap())
        });
        let began = Instant::now();
        while sweep.near.info(&name("x")).unwrap().unwrap().waiters.is_empty() {
            assert!(began.elapsed() < HANG, "it does not come to wait");
        }
        let fence = lease.fence();
        assert_eq!(lease.release().unwrap(), Standing::Ours);
        let (next, standing) = waiter.join().unwrap();
        assert!(next > fence);
        assert_eq!(standing, Standing::Ours);
        assert_eq!(sweep.near.info(&name("x")).unwrap(), None);
    });
}

/// Of a connection that is never made, nothing is held: the error says so, or it was made after all.
#[test]
fn the_greeting() {
    let server = RedisServer::start(&[]);
    let proxy = Proxy::start(("127.0.0.1", server.port)).unwrap();
    let mut settings = patient_config(&format!("redis://{}", proxy.address()));
    settings.retry_after = Duration::ZERO;
    let attempt = || {
        let far = Engine::new(&settings).unwrap();
        let outcome = Want::now().unrenewed().with(|how| far.acquire(&name("x"), how));
        match outcome {
            Ok(Acquired::Held { lease, .. }) => assert_eq!(lease.release().unwrap(), Standing::Ours),
            Ok(other) => panic!("{other:?}"),
            Err(error @ Error::Connection { .. }) => assert_tells(error, "x", &far, &[]),
            Err(error) => panic!("{error:?}"),
        }
        far.shutdown();
    };
    attempt(); // loads the scripts
    for direction in [Direction::Up, Direction::Down] {
        let before = proxy.carried(direction);
        attempt();
        for after in 0..=proxy.carried(direction) - before {
            for ending in [Ending::Close, Ending::Reset] {
                proxy.prepare(Break { direction, after, ending, then: Fault::Pass });
                attempt();
            }
        }
        proxy.set(Fault::Pass);
    }
    assert_clean(&server, &[]);
}
