//! One lock that goes from hand to hand.

use std::sync::{Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use cluster_lock_core::{Config, Engine};

use super::own_lock::{acquire, identity, named};
use crate::outcome::{Failure, Result};

/// What was measured.
pub(super) struct Passed {
    /// From the call that gives the lock back to the end of the one that gets it.
    pub(super) times: Vec<Duration>,
    pub(super) cycles: u32,
    pub(super) took: Duration,
}

/// Several threads want one lock all the time. Each has an engine of its own, as processes have.
pub(super) fn measure(count: u32, threads: u16, config: &Config) -> Result<Passed> {
    let each = (count / u32::from(threads)).max(1);
    let name = named("hand-off")?;
    let start = Barrier::new(threads.into());
    // Written by whoever holds the lock, about to give it back; read by the next.
    let given_back: Mutex<Option<Instant>> = Mutex::new(None);
    let (start, given_back, lock) = (&start, &given_back, &name);
    let identity = identity(config);
    let identity = &identity[..];
    let began = Instant::now();
    let work = move || -> Result<Vec<Duration>> {
        let engine = Engine::new(config);
        start.wait();
        let engine = engine?;
        let mut times = Vec::new();
        for _ in 0..each {
            let lease = acquire(&engine, lock, identity).map_err(Failure::of(lock))?;
            let got = Instant::now();
            let mut last = given_back.lock().unwrap_or_else(PoisonError::into_inner);
            times.extend(last.map(|last| got.saturating_duration_since(last)));
            *last = Some(Instant::now());
            drop(last);
            lease.release().map_err(Failure::of(lock))?;
        }
        engine.shutdown();
        Ok(times)
    };
    let results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let took = began.elapsed();
    let mut times = Vec::new();
    for result in results {
        times.extend(
            result.unwrap_or_else(|_| Err(Failure::Usage("a thread of the measurement failed".into())))?,
        );
    }
    Ok(Passed { times, cycles: each * u32::from(threads), took })
}
