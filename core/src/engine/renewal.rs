//! The background thread that keeps leases alive.
//!
//! One a process, started with the first lease that needs it, asleep while none does. All signals
//! are blocked in it: PHP's timers and handlers belong to the threads that run PHP. A lease is
//! renewed when a third of it has passed. Adding a lease wakes the thread only when that lease is
//! due before the moment for which the thread sleeps anyway, so that short locks cost no wake-up.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::counters::{Counters, count};
use super::lease_state::LeaseState;
use crate::clock::Instant;
use crate::store::{Standing, Store};
use crate::thread::{self, lock};

/// Renews one lease and says when it is due again; `None` when it is not to be renewed any more.
pub(crate) type Renew = Box<dyn Fn(&LeaseState) -> Option<Instant> + Send + Sync>;

pub(crate) struct Renewer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    renew: Renew,
    state: Mutex<Schedule>,
    changed: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct Schedule {
    leases: Vec<(Arc<LeaseState>, Instant)>,
    /// For when the thread has set its alarm; `None` while it sleeps without.
    alarm: Option<Instant>,
    running: bool,
    stop: bool,
}

impl Renewer {
    pub(crate) fn new(renew: Renew) -> Self {
        Self {
            shared: Arc::new(Shared {
                renew,
                state: Mutex::default(),
                changed: Condvar::new(),
                ended: Condvar::new(),
            }),
            thread: Mutex::default(),
        }
    }

    /// Keeps a lease alive from `due` on.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn add(&self, lease: &Arc<LeaseState>, due: Instant) -> std::io::Result<()> {
        let mut state = self.shared.lock();
        if !state.running {
            *lock(&self.thread) = Some(self.start()?);
            state.running = true;
        }
        state.leases.push((Arc::clone(lease), due));
        if state.alarm.is_none_or(|alarm| due < alarm) {
            // Recorded at once, so that the next lease does not wake the thread again.
            state.alarm = Some(due);
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    fn start(&self) -> std::io::Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        thread::spawn("cluster_lock", move || shared.run())
    }

    /// Stops keeping a lease alive. A renewal that is under way may still arrive at the server.
    pub(crate) fn remove(&self, lease: &Arc<LeaseState>) {
        self.shared.lock().leases.retain(|(other, _)| !Arc::ptr_eq(other, lease));
    }

    pub(crate) fn contains(&self, lease: &Arc<LeaseState>) -> bool {
        self.shared.lock().leases.iter().any(|(other, _)| Arc::ptr_eq(other, lease))
    }

    /// Ends the thread, and waits for it for at most `limit`.
    pub(crate) fn stop(&self, limit: Duration) {
        let mut state = self.shared.lock();
        state.stop = true;
        self.shared.changed.notify_all();
        let deadline = Instant::now() + limit;
        while state.running && !deadline.has_passed() {
            state = self
                .shared
                .ended
                .wait_timeout(state, deadline.remaining())
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let ended = !state.running;
        drop(state);
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread.filter(|_| ended) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Schedule> {
        lock(&self.state)
    }

    /// One renewal. A panic, which would be a mistake of ours, must not end those of all other leases.
    fn renew(&self, lease: &LeaseState) -> Option<Instant> {
        catch_unwind(AssertUnwindSafe(|| (self.renew)(lease)))
            .unwrap_or_else(|_| Some(Instant::now() + retry_after(lease.ttl())))
    }

    fn run(&self) {
        let mut state = self.lock();
        while !state.stop {
            let now = Instant::now();
            // An alarm that was set is slept out even when its lease is gone already: else a program
            // that locks and unlocks in a loop would wake this thread at every turn.
            if let Some(alarm) = state.alarm.filter(|alarm| *alarm > now) {
                let woken = self.changed.wait_timeout(state, alarm.since(now));
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let due: Vec<_> =
                state.leases.iter().filter(|(_, due)| *due <= now).map(|(l, _)| Arc::clone(l)).collect();
            if !due.is_empty() {
                drop(state);
                let outcomes: Vec<_> = due.into_iter().map(|lease| (self.renew(&lease), lease)).collect();
                state = self.lock();
                for (next, lease) in outcomes {
                    state.reschedule(&lease, next);
                }
            }
            state.alarm = state.leases.iter().map(|(_, due)| *due).min();
            if state.alarm.is_none() && !state.stop {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        state.running = false;
        self.ended.notify_all();
    }
}

impl Schedule {
    fn reschedule(&mut self, lease: &Arc<LeaseState>, next: Option<Instant>) {
        let Some(place) = self.leases.iter().position(|(other, _)| Arc::ptr_eq(other, lease)) else {
            return; // released meanwhile
        };
        match (next, self.leases.get_mut(place)) {
            (Some(next), Some((_, due))) => *due = next,
            _ => drop(self.leases.swap_remove(place)),
        }
    }
}

/// How long after a renewal that failed the next is tried: the lease is not lost before it has run out.
pub(crate) fn retry_after(ttl: Duration) -> Duration {
    (ttl / 10).clamp(Duration::from_millis(20), Duration::from_secs(1))
}

/// One renewal, by the background thread: when is the next one due?
pub(super) fn renew(store: &dyn Store, counters: &Counters, lease: &LeaseState) -> Option<Instant> {
    let _one_at_a_time = lock(&lease.renewing);
    let now = Instant::now();
    if lease.loss().is_some() || lease.renew_until.is_some_and(|end| end <= now) {
        return None;
    }
    let ttl = lease.ttl();
    match store.renew(&lease.name, &lease.token, ttl) {
        Ok(Standing::Ours) => {
            lease.extend(now, ttl);
            count(&counters.renewals);
            Some(now + ttl / 3)
        }
        Ok(Standing::Lost(loss)) => {
            lease.lose(loss);
            None
        }
        Err(_) => {
            count(&counters.errors);
            Some(Instant::now() + retry_after(ttl))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    use crate::key::LockName;
    use crate::report::Mode;
    use crate::store::Token;

    #[test]
    fn a_panic_in_a_renewal_ends_neither_its_leases_renewals_nor_those_of_others() {
        let (said, renewed) = mpsc::channel();
        let said = Mutex::new(said);
        let mut panics = 3;
        let panics = Mutex::new(move || {
            panics -= 1;
            panics >= 0
        });
        let thread = Renewer::new(Box::new(move |lease| {
            let name = lease.name.to_string();
            let panics = name == "bad" && panics.lock().unwrap_or_else(PoisonError::into_inner)();
            assert!(!panics, "as the test wants it");
            said.lock().unwrap().send(name).unwrap();
            None
        }));
        let ttl = Duration::from_millis(100);
        let leases = ["bad", "good"].map(|name| {
            let name = LockName::new(name.as_bytes()).unwrap();
            Arc::new(LeaseState::new(name, Token::random(), Mode::Exclusive, 1, ttl, None))
        });
        for lease in &leases {
            thread.add(lease, Instant::now()).unwrap();
        }
        let patience = Duration::from_secs(10);
        assert_eq!(renewed.recv_timeout(patience).as_deref(), Ok("good"));
        assert_eq!(renewed.recv_timeout(patience).as_deref(), Ok("bad"));
        thread.stop(patience);
    }
}
